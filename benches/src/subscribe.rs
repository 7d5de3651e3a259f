//! `forebay-bench sub`: fan-out. One device publishes at a rate, many subscribe to it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay_broker::codec::QoS;

use crate::client::run::{Outcome, Run};
use crate::client::stats::{Live, percentiles};
use crate::options::{Options, print_connections};
use crate::watch;

/// Before the first publish, for the last SUBACK, and after the last one, for its deliveries.
const MARGIN: Duration = Duration::from_secs(1);

/// Arguments of `sub`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  forebay-bench sub -n 500 --rate 400 --for 10s --pid $(pidof forebay)

-n is the number of subscribers. 'latency from due' counts from the time when a message was due to be published.
Exit code 1: a connection could not be made, or at QoS 1 a delivery is missing.")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Messages published per second, each delivered to all subscribers
    #[arg(long, default_value_t = 400.0, value_name = "N")]
    rate: f64,
    /// Quality of service of publishes and subscriptions: 0 or 1
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1), value_name = "QOS")]
    qos: u8,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    payload: usize,
    /// Topic
    #[arg(long, default_value = "bench/fan-out", value_name = "TOPIC")]
    topic: String,
    /// The broker's process: its CPU time per delivery is reported
    #[arg(long)]
    pid: Option<u32>,
}

/// What the publisher's side brought back.
struct Feed {
    published: u64,
    cpu_s: Option<f64>,
    took: Duration,
}

/// Runs it, prints the report.
pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        args.rate > 0.0 && args.rate.is_finite(),
        "--rate is a number of messages per second"
    );
    let qos = QoS::try_from(args.qos).ok().context("--qos is 0 or 1")?;
    let mut plan = args.options.plan()?;
    plan.connections = 1;
    plan.device = "publisher".to_owned();
    plan.client_id = "bench-publisher".to_owned();
    plan.topic = args.topic.clone();
    plan.qos = qos;
    plan.in_flight = 1000;
    plan.payload_bytes = args.payload;
    plan.publish = true;
    let mut publisher = args.options.run(plan, args.rate, MARGIN)?;
    let mut plan = args.options.plan()?;
    plan.qos = qos;
    plan.subscribe = Some(args.topic.clone());
    // One clock for both.
    let origin = Instant::now();
    if let Some(run) = Arc::get_mut(&mut publisher) {
        (run.origin, run.threads) = (origin, 1);
    }
    plan.feed = Some(Arc::clone(&publisher));
    let mut run = args.options.run(plan, 0.0, Duration::ZERO)?;
    if let Some(run) = Arc::get_mut(&mut run) {
        run.origin = origin;
        run.duration = args.options.duration + 5 * MARGIN;
    }
    let pid = args.pid;
    let mut feeding = None;
    let outcome = run.work(
        || {
            let publisher = Arc::clone(&publisher);
            feeding = Some(std::thread::spawn(move || feed(&publisher, pid)));
        },
        |live: &Live| {
            if !args.options.quiet {
                eprintln!(
                    "{:5.0} s  up {:6}",
                    origin.elapsed().as_secs_f64(),
                    Live::get(&live.up)
                );
            }
        },
    )?;
    let feed = feeding.context("the subscribers did not start")?.join();
    let feed = feed.ok().context("the publisher panicked")??;
    Ok(report(args, &run, &outcome, &feed))
}

/// Publishes, with the broker's CPU time from before the first publish to after the last delivery.
fn feed(publisher: &Arc<Run>, pid: Option<u32>) -> Result<Feed> {
    std::thread::sleep(MARGIN);
    let cpu_s = || Some(watch::sample(pid?, Instant::now()).ok()?.cpu_s);
    let before = cpu_s();
    let outcome = publisher.work(|| {}, |_| {})?;
    std::thread::sleep(MARGIN);
    let used = cpu_s().zip(before).map(|(after, before)| after - before);
    Ok(Feed {
        published: outcome.stats.published,
        cpu_s: used,
        took: outcome.published_for,
    })
}

fn report(args: &Args, run: &Run, outcome: &Outcome, feed: &Feed) -> ExitCode {
    let stats = &outcome.stats;
    print_connections(run, stats);
    let due = feed.published * u64::from(run.plan.connections);
    println!("published                      {}", feed.published);
    println!("deliveries                     {}", stats.received);
    println!(
        "deliveries missing             {}",
        due.saturating_sub(stats.received)
    );
    println!(
        "delivery rate                  {:.0} /s",
        stats.received as f64 / feed.took.as_secs_f64().max(1e-9)
    );
    println!(
        "latency from due               {}",
        percentiles(&stats.from_due_us)
    );
    if let Some(cpu_s) = feed.cpu_s {
        let each = 1e6 * cpu_s / stats.received.max(1) as f64;
        println!("CPU per delivery               {each:.3} us");
    }
    let all = stats.connects == u64::from(run.plan.connections);
    if all && (args.qos == 0 || stats.received >= due) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
