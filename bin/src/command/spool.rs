//! `forebay spool`: a look at a node's spool, and emptying it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Source;
use crate::spool;

/// Look at the spool of a node that runs or does not, or empty it into Kafka.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay spool inspect /var/lib/forebay
  forebay spool dump /var/lib/forebay --from 120000 --limit 10
  forebay spool drain /var/lib/forebay -c /etc/forebay/forebay.toml")]
pub struct Spool {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Inspect(Inspect),
    Dump(Dump),
    Drain(Drain),
    Forget(Forget),
}

/// Segments, positions, how far each consumer is and what waits for it, and damage. Reads only, also while a broker runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay spool inspect /var/lib/forebay
  forebay spool inspect /var/lib/forebay --json | jq .consumers

Exit codes: 0 all of it is good, 1 some of it is damaged or it can't be read.")]
struct Inspect {
    /// Data directory of the node (node.data_dir), or the folder of the spool itself.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// The records as JSON lines: publishes with their payload, and what happened to kept sessions. Reads only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay spool dump /var/lib/forebay | head
  forebay spool dump /var/lib/forebay --from forebay-0/1795271234567/00000000000000120000 --limit 1

A payload or property that is not UTF-8 text is given as base64, in `payload_base64`.")]
struct Dump {
    /// Data directory of the node (node.data_dir), or the folder of the spool itself.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// First position: its sequence, or a whole one as it stands in a record's forebay.position. Default: the oldest.
    #[arg(long, value_name = "POS", value_parser = sequence)]
    from: Option<u64>,
    /// Records at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Empty the spool into Kafka without a listener: before a node is taken away for good. The node must not run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay spool drain /var/lib/forebay -c /etc/forebay/forebay.toml

Kafka, routes and node.id are those of the configuration. Kept sessions and retained messages stay where they are.
Ctrl-C ends it; what is not in Kafka then stays in the spool.

Exit codes: 0 all of it is in Kafka (or in quarantine, where Kafka refuses a record), 1 not, 64 bad configuration, 74 the
spool can't be opened or read.")]
struct Drain {
    /// Data directory of the node (node.data_dir), or the folder of the spool itself.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// Drop a consumer that is no longer configured, such as the sink of a node that goes without Kafka from now on: the
/// spool keeps records for it for ever. Without --yes it says what waits for it and changes nothing. The node must not run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay spool forget /var/lib/forebay kafka
  forebay spool forget /var/lib/forebay kafka --yes

What waits for this consumer alone is lost with it: `forebay spool drain` brings it to Kafka first.

Exit codes: 0 done (or, without --yes, said), 1 there is no such consumer, 74 the spool can't be opened or a broker runs on it.")]
struct Forget {
    /// Data directory of the node (node.data_dir), or the folder of the spool itself.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The consumer, as `forebay spool inspect` names it.
    #[arg(value_name = "NAME")]
    name: String,
    /// Do it.
    #[arg(long)]
    yes: bool,
}

impl Spool {
    /// Does it and gives the exit code.
    pub fn execute(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Inspect(Inspect { dir, json }) => spool::inspect(&dir, json),
            Action::Dump(Dump { dir, from, limit }) => spool::dump(&dir, from.unwrap_or(0), limit),
            Action::Drain(Drain { dir, source }) => spool::drain(&dir, source.load()?),
            Action::Forget(Forget { dir, name, yes }) => spool::forget(&dir, &name, yes),
        }
    }
}

/// The sequence of a position: `node/epoch/sequence`, `epoch/sequence` or `sequence`.
fn sequence(text: &str) -> Result<u64, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let sequence = match parts.as_slice() {
        [sequence] | [_, sequence] | [_, _, sequence] | [_, _, sequence, _] => sequence.parse().ok(),
        _ => None,
    };
    sequence.ok_or_else(|| "a sequence such as 120000, or node/epoch/sequence".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_in_each_form() {
        for text in ["7", "12/7", "n/12/00000000000000000007", "n/12/7/route"] {
            assert_eq!(sequence(text), Ok(7), "{text}");
        }
        assert!(sequence("n/x/y").is_err() && sequence("").is_err());
    }
}
