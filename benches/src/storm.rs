//! `forebay-bench storm`: all devices connect at once, as after a restart.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::options::{Options, print_connections};
use crate::watch;

/// Arguments of `storm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench storm -n 10000 --pid $(pidof forebay)

Connections are begun as fast as --connect-rate says (default here: all at once) and held until all are in.
Exit code 1: not all were.")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// The broker's process: its CPU time per connection is reported
    #[arg(long)]
    pid: Option<u32>,
}

/// Runs it, prints the report.
pub fn run(args: &Args) -> Result<ExitCode> {
    let plan = args.options.plan()?;
    let mut run = args.options.run(plan, 0.0, Duration::ZERO)?;
    if let Some(run) = std::sync::Arc::get_mut(&mut run) {
        run.connect_rate = 1e9;
        run.duration = Duration::ZERO;
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
