//! The `forebay` program: arguments and exit codes, nothing else.

mod admin;
mod client;
mod command;
mod config;
mod demo;
mod exit;
mod files;
mod fleet;
mod logging;
mod migrate;
mod node;
mod passwd;
mod reload;
mod run;
mod spool;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use command::Command;

/// An MQTT broker with the way into Kafka built in: every accepted publish becomes a record in a Kafka partition keyed
/// by its device.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  forebay demo                       the whole way on this machine, with an embedded Kafka
  forebay check -c forebay.toml      everything that is wrong with a configuration
  forebay run -c forebay.toml        start the broker
  forebay verify --topic telemetry   publish, read Kafka back, say what is lost or out of order
  forebay spool inspect DIR          what stands in a node's log, and what waits for Kafka

Exit codes: 0 done, 1 failed, 64 bad arguments or configuration, 70 and 74 a part died while running (start again).")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => exit::code_of(arguments.command.execute()),
        Err(error) => {
            // Nothing is left to do when the terminal can't be written to.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
        }
    }
}
