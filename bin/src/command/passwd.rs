//! `forebay passwd`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use forebay_broker::auth::{MOST_ITERATIONS, Scheme, USUAL_ITERATIONS};

use crate::exit;
use crate::passwd::{self, Change};

/// Set a user's password in a password file, or take the user out. Options and file are those of mosquitto_passwd.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay passwd -c /etc/forebay/users ann          a new file with one user; the password is asked for
  forebay passwd /etc/forebay/users bob             a further user, or a new password
  printf '%s\\n%s\\n' $PW $PW | forebay passwd /etc/forebay/users bob
  forebay passwd -D /etc/forebay/users bob
  forebay passwd -U users.txt                       lines NAME:PASSWORD become hashes

The file is replaced whole or not at all; a new one is for its owner alone, one that was there keeps owner and mode. A
running broker reads it again on SIGHUP.

Exit codes: 0 done, 1 it could not be done and nothing was changed, 64 bad arguments.")]
pub struct Passwd {
    /// Begin a new file, whatever stood in an old one.
    #[arg(short, conflicts_with_all = ["delete", "upgrade"])]
    create: bool,
    /// Take the user out.
    #[arg(short = 'D', conflicts_with_all = ["upgrade", "batch"])]
    delete: bool,
    /// The password stands on the command line, where others on this machine can see it while this runs.
    #[arg(short, requires = "password", conflicts_with = "upgrade")]
    batch: bool,
    /// Hash the passwords of a file in plain text; those that are hashed stay as they are.
    #[arg(short = 'U', conflicts_with = "user")]
    upgrade: bool,
    /// How to hash. sha512 is for brokers before Mosquitto 1.7 alone.
    #[arg(short = 'H', value_enum, value_name = "HASH", default_value = "sha512-pbkdf2")]
    hash: Hash,
    /// Iterations of sha512-pbkdf2: the more, the longer takes each check, and each guess of who has stolen the file.
    #[arg(short = 'I', value_name = "COUNT", default_value_t = USUAL_ITERATIONS,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ITERATIONS)))]
    iterations: u32,
    /// The password file.
    file: PathBuf,
    /// The user name.
    #[arg(required_unless_present = "upgrade")]
    user: Option<String>,
    /// The password, with -b.
    #[arg(requires = "batch", allow_hyphen_values = true)]
    password: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Hash {
    Sha512,
    Sha512Pbkdf2,
}

impl Passwd {
    /// Changes the file.
    pub fn execute(self) -> anyhow::Result<u8> {
        let scheme = match self.hash {
            Hash::Sha512 => Scheme::Sha512,
            Hash::Sha512Pbkdf2 => Scheme::Pbkdf2(self.iterations),
        };
        let change = match self.user {
            Some(user) if self.delete => Change::Delete { user },
            Some(user) => Change::Set {
                user,
                password: self.password,
                create: self.create,
            },
            None => Change::Upgrade,
        };
        passwd::run(&self.file, change, scheme)?;
        Ok(exit::OK)
    }
}
