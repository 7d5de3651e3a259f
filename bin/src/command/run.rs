//! `forebay run`.

use clap::Args;

use super::Source;

/// Start the broker and run until SIGTERM or SIGINT.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay run -c /etc/forebay/forebay.toml
  FOREBAY__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS=kafka:9092 forebay run -c forebay.toml
  FOREBAY_LOG=debug forebay run -c forebay.toml

The file is explained key by key in configs/reference.toml. SIGHUP reads users and rules again: password_file, acl_file
and [[acl]].")]
pub struct Run {
    #[command(flatten)]
    source: Source,
}

impl Run {
    /// Runs until it is told to stop or a part dies.
    pub fn execute(self) -> anyhow::Result<u8> {
        // At a reload a faulty file of users or rules is told apart, and only it stays as it was.
        crate::run::run(self.source.load()?, || self.source.read(false))
    }
}
