//! `forebay-bench storm`: all devices connect at once, as after a restart.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use forebay_broker::codec::QoS;

use crate::options::{Options, print_connections};
use crate::{seconds, watch};

/// Arguments of `storm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench storm -n 10000 --pid $(pidof forebay)
  forebay-bench storm -n 10000 --kept --subscribe 'devices/{id}/commands'   # again after a restart: with --stay 5s

All connections are begun at once and held until all are in, and for --stay.
Exit code 1: not all were.")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Sessions that are kept, and gone on with where they are there already
    #[arg(long)]
    kept: bool,
    /// Filter that each connection subscribes to; {id} is the device id
    #[arg(long, value_name = "FILTER")]
    subscribe: Option<String>,
    /// Quality of service of the subscription
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2), value_name = "QOS")]
    qos: u8,
    /// Stay so long once all are in
    #[arg(long, default_value = "0s", value_parser = seconds, value_name = "TIME")]
    stay: Duration,
    /// The broker's process: its CPU time per connection is reported
    #[arg(long)]
    pid: Option<u32>,
}

/// Runs it, prints the report.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut plan = args.options.plan()?;
    plan.reconnect = args.kept;
    plan.subscribe = args.subscribe.clone();
    plan.qos = QoS::try_from(args.qos).ok().context("--qos is 0, 1 or 2")?;
    let mut run = args.options.run(plan, 0.0, Duration::ZERO)?;
    if let Some(run) = std::sync::Arc::get_mut(&mut run) {
        run.connect_rate = 1e9;
        run.duration = args.stay;
    }
    let cpu_s = || Some(watch::sample(args.pid?, Instant::now()).ok()?.cpu_s);
    let before = cpu_s();
    let mut all_in = None;
    let outcome = run.work(|| all_in = cpu_s(), |_| {})?;
    let stats = &outcome.stats;
    print_connections(&run, stats);
    if let Some(start) = run.start.get() {
        let took = start.saturating_duration_since(run.origin).as_secs_f64();
        println!(
            "connect rate                   {:.0} /s",
            stats.connects as f64 / took.max(1e-9)
        );
    }
    if stats.received > 0 {
        println!("messages received              {}", stats.received);
    }
    if let (Some(before), Some(after)) = (before, all_in) {
        let each = 1e6 * (after - before) / stats.connects.max(1) as f64;
        println!("CPU per connection             {each:.1} us");
    }
    Ok(if stats.connects == u64::from(run.plan.connections) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
