//! `forebay-bench idle`: connections that do nothing, and what each costs the broker.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::stats::Live;
use crate::options::{Options, print_connections};
use crate::watch;

/// Arguments of `idle`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench idle -n 10000 --subscribe 'devices/{id}/commands' --pid $(pidof forebay) --for 20s

Memory that an earlier load has left with the process hides what connections cost: start the broker afresh.
Exit code 1: a connection could not be made or was lost.")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Filter that each connection subscribes to; {id} is the device id
    #[arg(long, value_name = "FILTER")]
    subscribe: Option<String>,
    /// The broker's process: its memory and CPU time per connection are reported
    #[arg(long)]
    pid: Option<u32>,
}

/// Runs it, prints the report.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut plan = args.options.plan()?;
    plan.subscribe = args.subscribe.clone();
    let run = args.options.run(plan, 0.0, Duration::ZERO)?;
    let since = Instant::now();
    let first = args.pid.map(|pid| watch::sample(pid, since)).transpose()?;
    let mut samples: Vec<(u64, watch::Sample)> = first.map(|sample| (0, sample)).into_iter().collect();
    let outcome = run.work(
        || {},
        |live| {
            let up = Live::get(&live.up);
            if !args.options.quiet {
                eprintln!("{:5.0} s  up {up}", run.origin.elapsed().as_secs_f64());
            }
            // Those that leave cost something else.
            let stand = run.start.get().is_none_or(|start| start.elapsed() < run.duration);
            samples.extend(
                args.pid
                    .filter(|_| stand)
                    .and_then(|pid| watch::sample(pid, since).ok())
                    .map(|sample| (up, sample)),
            );
        },
    )?;
    print_connections(&run, &outcome.stats);
    if let Some(start) = run.start.get() {
        let took = start.saturating_duration_since(run.origin).as_secs_f64();
        println!(
            "connect rate                   {:.0} /s",
            outcome.stats.connects as f64 / took.max(1e-9)
        );
    }
    print_cost(&samples);
    let stats = &outcome.stats;
    let good = stats.connects == u64::from(run.plan.connections) && stats.disconnects == 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the samples say of one connection: from none to all, and as the slope between, without the first ones.
fn print_cost(samples: &[(u64, watch::Sample)]) {
    let most = samples.iter().map(|(up, _)| *up).max().unwrap_or_default();
    let last = samples.iter().rev().find(|(up, _)| *up == most && most > 0);
    let (Some((_, first)), Some((_, last))) = (samples.first(), last) else {
        return;
    };
    let each = 1.0 / most as f64;
    println!(
        "RSS before, with all           {:.1} MiB, {:.1} MiB",
        first.rss_kib / 1024.0,
        last.rss_kib / 1024.0
    );
    println!(
        "memory per connection          {:.2} KiB",
        (last.rss_kib - first.rss_kib) * each
    );
    let late = samples.iter().filter(|(up, _)| *up * 3 >= most);
    let points: Vec<(f64, f64)> = late.map(|(up, sample)| (*up as f64, sample.rss_kib)).collect();
    if let Some(slope) = watch::slope(&points) {
        println!("memory per connection (slope)  {slope:.2} KiB");
    }
    println!(
        "CPU per connection             {:.1} us, idle time included",
        1e6 * (last.cpu_s - first.cpu_s) * each
    );
}
