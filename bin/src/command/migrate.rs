//! `forebay migrate`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::{exit, migrate};

/// Carry a mosquitto.conf over: write Forebay's configuration, and tell what could not be carried over and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay migrate /etc/mosquitto/mosquitto.conf
  forebay migrate /etc/mosquitto/mosquitto.conf -o forebay.toml
  forebay run --mosquitto-conf /etc/mosquitto/mosquitto.conf -c kafka.toml     without a step between

The configuration goes to standard output, what to know about it to standard error, with file and line. The result
passes `forebay check`; what can't be carried over stays in it as a comment. Each key: docs/from-mosquitto.md.

Exit codes: 0 written, 1 a file can't be read or written.")]
pub struct Migrate {
    /// The file; what its include_dir names is read too.
    #[arg(value_name = "MOSQUITTO.CONF")]
    file: PathBuf,
    /// Write here instead of to standard output. The file must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Migrate {
    /// Writes it.
    pub fn execute(self) -> anyhow::Result<u8> {
        let migrated = migrate::migrate(&self.file)?;
        match &self.output {
            None => std::io::stdout().write_all(migrated.toml.as_bytes())?,
            Some(path) => {
                let named = || path.display().to_string();
                let mut file = std::fs::File::create_new(path).with_context(named)?;
                file.write_all(migrated.toml.as_bytes()).with_context(named)?;
            }
        }
        let mut err = std::io::stderr().lock();
        for note in &migrated.notes {
            writeln!(err, "{note}")?;
        }
        match migrated.notes.len() {
            0 => writeln!(err, "all of it is carried over")?,
            1 => writeln!(err, "1 thing to know, the rest is carried over")?,
            n => writeln!(err, "{n} things to know, the rest is carried over")?,
        }
        Ok(exit::OK)
    }
}
