//! The commands, one file each: their arguments and help, and which part does the work.

mod check;
mod completions;
mod demo;
mod migrate;
mod passwd;
mod publish;
mod run;
mod spool;
mod subscribe;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::{self, Settings};
use crate::exit;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the broker.
    Run(run::Run),
    /// List everything that is wrong with a configuration, without starting anything.
    Check(check::Check),
    /// Show the whole way on this machine: devices publish, an embedded Kafka has it.
    Demo(demo::Demo),
    /// Look at the spool of a node, or empty it into Kafka.
    Spool(spool::Spool),
    /// Publish numbered messages to any broker, read Kafka back, and say what is lost, doubled or out of order.
    Verify(verify::Verify),
    /// Publish messages, with the options of mosquitto_pub.
    Pub(publish::Pub),
    /// Subscribe and print what comes, with the options of mosquitto_sub.
    Sub(subscribe::Sub),
    /// Carry a mosquitto.conf over, and tell what could not be.
    Migrate(migrate::Migrate),
    /// Change a password file, with the options of mosquitto_passwd.
    Passwd(passwd::Passwd),
    /// Print a script that completes the commands in a shell.
    Completions(completions::Completions),
}

impl Command {
    /// Does it and gives the exit code.
    pub fn execute(self) -> anyhow::Result<u8> {
        match self {
            Command::Run(run) => run.execute(),
            Command::Check(check) => check.execute(),
            Command::Demo(demo) => demo.execute(),
            Command::Spool(spool) => spool.execute(),
            Command::Verify(verify) => verify.execute(),
            Command::Pub(publish) => publish.execute(),
            Command::Sub(subscribe) => subscribe.execute(),
            Command::Migrate(migrate) => migrate.execute(),
            Command::Passwd(passwd) => passwd.execute(),
            Command::Completions(completions) => completions.execute(),
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct Source {
    /// Configuration file. Without it: the defaults, and what FOREBAY__SECTION__KEY variables say.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
    /// Take all but the way into Kafka from a mosquitto.conf. The file of -c then has [kafka], [[route]], [admin] and
    /// [spool] alone.
    #[arg(long, value_name = "FILE")]
    mosquitto_conf: Option<PathBuf>,
}

impl Source {
    fn load(&self) -> anyhow::Result<Settings> {
        self.read(true)
    }

    /// `with_files`: the users and rules that it names must be readable too.
    fn read(&self, with_files: bool) -> anyhow::Result<Settings> {
        let Some(conf) = &self.mosquitto_conf else {
            return Ok(config::load(self.config.as_deref(), "", with_files)?);
        };
        let migrated = crate::migrate::migrate(conf)?;
        let mut settings = config::load(self.config.as_deref(), &migrated.toml, with_files)?;
        let told = migrated.notes.iter().map(ToString::to_string);
        settings.notices.extend(told);
        Ok(settings)
    }
}

/// Reads a time.
fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write 10s or 2m"))
}

/// Says on standard error what is wrong with the arguments, where clap can't; gives the exit code.
fn usage(text: &str) -> u8 {
    // When not even standard error can be written to, the code has to say it.
    let _ = writeln!(std::io::stderr(), "Error: {text}");
    exit::USAGE
}
