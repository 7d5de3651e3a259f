//! `forebay-bench check`: compares what Kafka holds with what devices saw acknowledged.

mod kafka;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::acked::Promises;
use crate::seconds;
use verdict::Checker;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench check --acked /tmp/acked --bootstrap 127.0.0.1:9092 --topic telemetry

Exit code 0: all acknowledged is there, in order, keyed by its device and in one partition per device. 1: it is not.
Duplicates are counted only, unless --no-duplicates.")]
pub struct Args {
    /// File that `pub --acked` wrote
    #[arg(long, value_name = "FILE")]
    acked: PathBuf,
    /// Kafka brokers
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT,...")]
    bootstrap: String,
    /// Topics to read, whole
    #[arg(long, required = true, value_name = "NAME")]
    topic: Vec<String>,
    /// Further librdkafka properties
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// Read on for so long while acknowledged messages are missing: for levels that acknowledge before Kafka does
    #[arg(long, default_value = "0s", value_parser = seconds, value_name = "TIME")]
    wait: Duration,
    /// Give up after so long without a record or the end of a partition
    #[arg(long, default_value = "30s", value_parser = seconds, value_name = "TIME")]
    timeout: Duration,
    /// Take any key, and any number of partitions per device
    #[arg(long)]
    any_key: bool,
    /// A duplicate is a fault
    #[arg(long)]
    no_duplicates: bool,
}

/// Reads, compares, prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut checker = Checker::new(&Promises::read(&args.acked)?);
    kafka::read(args, &mut checker)?;
    let verdict = checker.verdict();
    print!("{verdict}");
    let bad = verdict.lost > 0
        || verdict.out_of_order > 0
        || (!args.any_key && (verdict.wrong_key > 0 || verdict.split > 0))
        || (args.no_duplicates && verdict.duplicates > 0);
    println!("{}", if bad { "FAILED" } else { "ok" });
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
