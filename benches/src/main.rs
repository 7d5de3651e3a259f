//! Load generator and checker of Forebay: devices by the thousand, and a look at what became of their messages.

mod acked;
mod admin;
mod check;
mod client;
mod compare;
mod floor;
mod idle;
mod levels;
mod marks;
mod options;
mod profile;
mod publish;
mod size;
mod stage;
mod storm;
mod subscribe;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

/// Load for an MQTT broker, and proof of what reached Kafka
#[derive(Debug, Parser)]
#[command(
    name = "forebay-bench",
    version,
    after_help = "A run with proof:
  forebay-bench pub -n 200 --rate 4000 --for 60s --reconnect --acked /tmp/acked
  forebay-bench check --acked /tmp/acked --topic telemetry"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Devices that publish, at a rate or flat out
    Pub(publish::Args),
    /// Compare what Kafka holds with what was acknowledged
    Check(check::Args),
    /// CPU, memory, threads and files of a process
    Watch(watch::Args),
    /// Connections that do nothing, and what each costs the broker
    Idle(idle::Args),
    /// One publisher, many subscribers: what a delivery costs
    Sub(subscribe::Args),
    /// All connect at once: how long it takes, and what a connection costs
    Storm(storm::Args),
    /// What the levels of acknowledgement cost, side by side
    Levels(levels::Args),
    /// Forebay and each other broker that is there, on the same work
    Compare(compare::Args),
    /// Where a Forebay's CPU time goes, by room
    Profile(profile::Args),
    /// What so many devices need: CPU, memory, disk, partitions
    Size(size::Args),
    /// The least that a broker can cost: answers and does nothing else
    Floor(floor::Args),
}

/// Reads `500ms`, `60s`, `2m` or a number of seconds.
fn seconds(text: &str) -> Result<Duration> {
    let at = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => anyhow::bail!("{unit} is no unit of time: ms, s, m or h"),
    };
    let number: f64 = number
        .parse()
        .with_context(|| format!("{text} is no time: 500ms, 60s, 2m"))?;
    let seconds = number * factor;
    ensure!(
        (0.0..=604_800.0).contains(&seconds),
        "a time is between 0 and a week"
    );
    Ok(Duration::from_secs_f64(seconds))
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Pub(args) => publish::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Sub(args) => subscribe::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Levels(args) => levels::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Size(args) => size::run(&args),
        Command::Floor(args) => floor::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("forebay-bench: {error:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, millis) in [
            ("60s", 60_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("3", 3000),
            ("1.5s", 1500),
        ] {
            assert_eq!(seconds(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "s", "-1s", "5x", "1e9h", "nan"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
