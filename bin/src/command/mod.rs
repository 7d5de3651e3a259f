//! The commands, one file each: their arguments and help, and which part does the work.

mod check;
mod completions;
mod demo;
mod run;
mod spool;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::{self, Settings};

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
}

impl Source {
    fn load(&self) -> Result<Settings, config::Refused> {
        config::load(self.config.as_deref())
    }
}

/// Reads a time.
fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write 10s or 2m"))
}
