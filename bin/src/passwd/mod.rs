//! `forebay passwd`: a password file is changed as mosquitto_passwd changes it, but whole or not at all.

mod file;
mod lines;
mod prompt;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use forebay_broker::auth::{MOST_PASSWORD_BYTES, Scheme, Stored};

use file::Held;

/// What is to be done.
#[derive(Debug)]
pub enum Change {
    /// The user gets a password; without one, it is asked for.
    Set {
        /// The name.
        user: String,
        /// The password.
        password: Option<String>,
        /// Begin a new file, whatever stood in the old one.
        create: bool,
    },
    /// The user is taken out.
    Delete {
        /// The name.
        user: String,
    },
    /// Passwords in plain text are hashed.
    Upgrade,
}

/// Does it, and says what is worth saying.
pub fn run(path: &Path, change: Change, scheme: Scheme) -> anyhow::Result<()> {
    let hash = |password: &str| {
        let made = Stored::make(password.as_bytes(), scheme).context("no random numbers")?;
        Ok::<_, anyhow::Error>(made.to_text())
    };
    match change {
        Change::Set {
            user,
            password,
            create,
        } => {
            lines::check_name(&user)?;
            if !create {
                Held::open(path)?; // what can't be changed is not worth a question
            }
            let password = match password {
                Some(password) => password,
                None => prompt::new_password()?,
            };
            if password.is_empty() {
                bail!("the password is empty: no broker lets anybody in by it");
            }
            if password.len() > MOST_PASSWORD_BYTES {
                bail!("the password is longer than the {MOST_PASSWORD_BYTES} bytes that the broker takes");
            }
            let hash = hash(&password)?;
            let held = if create {
                Held::create(path)?
            } else {
                Held::open(path)?
            };
            let text = lines::with_user(held.text(), &user, &hash);
            held.replace(&text)
        }
        Change::Delete { user } => {
            let held = Held::open(path)?;
            let text = lines::without_user(held.text(), &user);
            let text = text.with_context(|| format!("{}: there is no user {user}", path.display()))?;
            held.replace(&text)
        }
        Change::Upgrade => {
            let held = Held::open(path)?;
            let (text, hashed) = lines::upgraded(path, held.text(), hash)?;
            held.replace(&text)?;
            writeln!(std::io::stderr(), "{hashed} passwords were hashed").ok();
            Ok(())
        }
    }
}
