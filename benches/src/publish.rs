//! `forebay-bench pub`: devices that publish, at a rate or flat out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay_broker::codec::QoS;

use crate::acked::{Promise, Promises};
use crate::client::run::{Outcome, Run};
use crate::client::stats::{Live, percentiles};
use crate::options::{Options, print_connections};
use crate::{admin, seconds, watch};

/// Arguments of `pub`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay-bench pub -n 50 --qos 1 --in-flight 64 --for 10s                     # flat out
  forebay-bench pub -n 10000 --rate 20000 --for 60s --acked /tmp/acked         # open loop
  forebay-bench pub -n 200 --rate 4000 --reconnect --for 60s --acked /tmp/acked # through outages

With --rate the publishes are due at fixed times, whether the broker takes them or not; latency 'from due' counts from
then, so that a stop is felt by all that it held up (coordinated omission). 'from sent' counts from the socket.
Exit code 1: a connection could not be made, or a publish was refused or, without --reconnect, not acknowledged.")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Publishes per second of all devices; 0: as fast as the broker takes them
    #[arg(long, default_value_t = 0.0, value_name = "N")]
    rate: f64,
    /// Quality of service
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2), value_name = "QOS")]
    qos: u8,
    /// Unacknowledged publishes per connection at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=65534), value_name = "N")]
    in_flight: u16,
    /// Bytes of a payload: device id, sequence number and run as text, then filling
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    payload: usize,
    /// Topic; {id} is the device id
    #[arg(long, default_value = "devices/{id}/telemetry", value_name = "TEMPLATE")]
    topic: String,
    /// Publishes per device at most
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Make lost connections again, with the session kept, and send again what was on the way
    #[arg(long)]
    reconnect: bool,
    /// Wait so long at the end for acknowledgements
    #[arg(long, default_value = "10s", value_parser = seconds, value_name = "TIME")]
    drain: Duration,
    /// Write what was acknowledged, for `check`
    #[arg(long, value_name = "FILE")]
    acked: Option<PathBuf>,
    /// Process whose CPU time to measure from the start of publishing to the last acknowledgement
    #[arg(long)]
    pid: Option<u32>,
    /// Forebay's admin address: go on measuring until the last record is in Kafka, with the connections standing
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
}

/// What is looked at before and after.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// CPU seconds of the process.
    cpu_s: Option<f64>,
    /// Bytes that it has had written to disk.
    written: Option<u64>,
    /// Seconds in which the cores had work, over all of them.
    busy_s: Option<f64>,
    /// Records that Kafka has acknowledged.
    in_kafka: Option<f64>,
}

impl Look {
    fn new(args: &Args, metrics: &str) -> Self {
        let pid = args.pid;
        Self {
            at: Instant::now(),
            cpu_s: pid.and_then(|pid| Some(watch::sample(pid, Instant::now()).ok()?.cpu_s)),
            written: pid.and_then(watch::written),
            busy_s: watch::busy_s(),
            in_kafka: admin::value(metrics, "forebay_kafka_delivered_total"),
        }
    }
}

/// Runs it, prints the report.
pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        args.rate >= 0.0 && args.rate.is_finite(),
        "--rate is a number of publishes per second"
    );
    let mut plan = args.options.plan()?;
    ensure!(
        !plan.device.contains(' '),
        "a device id has no blanks: its payload starts with `id sequence run `"
    );
    plan.topic = args.topic.clone();
    plan.qos = QoS::try_from(args.qos).ok().context("--qos is 0, 1 or 2")?;
    plan.in_flight = args.in_flight;
    plan.payload_bytes = args.payload;
    plan.reconnect = args.reconnect;
    plan.publish = true;
    plan.count = args.count.unwrap_or(u64::MAX);
    let run = args.options.run(plan, args.rate, args.drain)?;
    let first = args.admin.as_ref().map(|admin| admin::get(admin, "/metrics"));
    let first = first.transpose()?.unwrap_or_default();
    let (mut before, mut after) = (None, None);
    let mut last = (0, 0);
    let each_second = |live: &Live| {
        if !args.options.quiet {
            progress(&run, live, &mut last);
        }
    };
    let at_end = || {
        let metrics = args.admin.as_ref().map(|admin| admin::drained(admin));
        after = Some(Look::new(args, &metrics.transpose()?.unwrap_or_default()));
        Ok(())
    };
    let outcome = run.work_until(|| before = Some(Look::new(args, &first)), each_second, at_end)?;
    report(args, &run, &outcome);
    if let (Some(before), Some(after)) = (before, after) {
        report_cost(before, after, outcome.stats.published);
    }
    let open = write_acked(args, &run, &outcome)?;
    println!("sent but not acknowledged      {open}");
    let stats = &outcome.stats;
    let all_up = stats.connects >= u64::from(run.plan.connections);
    let clean = stats.refused == 0 && (args.reconnect || (open == 0 && stats.disconnects == 0));
    Ok(if all_up && clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn progress(run: &Arc<Run>, live: &Live, last: &mut (u64, u64)) {
    let (published, acked) = (Live::get(&live.published), Live::get(&live.acked));
    eprintln!(
        "{:5.0} s  up {:6}  published {published:10} (+{})  acknowledged {acked:10} (+{})",
        run.origin.elapsed().as_secs_f64(),
        Live::get(&live.up),
        published - last.0,
        acked - last.1
    );
    *last = (published, acked);
}

fn report(args: &Args, run: &Run, outcome: &Outcome) {
    let stats = &outcome.stats;
    print_connections(run, stats);
    let took = outcome.published_for.as_secs_f64().max(1e-9);
    println!("published                      {}", stats.published);
    println!("acknowledged                   {}", stats.acked);
    println!("refused                        {}", stats.refused);
    println!("sent again                     {}", stats.resent);
    println!("acknowledged out of order      {}", stats.acks_out_of_order);
    println!("unexpected packets             {}", stats.unexpected);
    if args.rate > 0.0 {
        let due = (took * args.rate) as u64;
        println!("asked rate                     {:.0} /s", args.rate);
        println!(
            "due but held back at the end   {}",
            due.saturating_sub(stats.published)
        );
    }
    println!("published for                  {took:.2} s");
    println!(
        "published rate                 {:.0} /s",
        stats.published as f64 / took
    );
    println!(
        "payload rate                   {:.2} MB/s",
        stats.payload_bytes as f64 / took / 1e6
    );
    println!(
        "ack latency from due           {}",
        percentiles(&stats.from_due_us)
    );
    println!(
        "ack latency from sent          {}",
        percentiles(&stats.from_sent_us)
    );
    if let Ok(own) = watch::sample(std::process::id(), Instant::now()) {
        println!(
            "own CPU                        {:.2} s, RSS {:.1} MiB",
            own.cpu_s,
            own.rss_kib / 1024.0
        );
    }
}

/// What the broker and the machine had to do for it.
fn report_cost(before: Look, after: Look, published: u64) {
    let took = (after.at - before.at).as_secs_f64().max(1e-9);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if let (Some(from), Some(to)) = (before.cpu_s, after.cpu_s) {
        let each = 1e6 * (to - from) / published.max(1) as f64;
        println!("CPU of --pid while publishing  {:.2} s", to - from);
        println!("CPU per publish                {each:.3} us");
    }
    if let (Some(from), Some(to)) = (before.written, after.written) {
        println!(
            "disk rate of --pid             {:.1} MB/s",
            to.saturating_sub(from) as f64 / took / 1e6
        );
    }
    if let (Some(from), Some(to)) = (before.busy_s, after.busy_s) {
        let share = 100.0 * (to - from) / took / cores as f64;
        println!("machine busy                   {share:.0} % of {cores} cores");
    }
    if let Some(to) = after.in_kafka {
        println!(
            "in Kafka                       {:.0}",
            to - before.in_kafka.unwrap_or_default()
        );
        println!("all in Kafka after             {took:.2} s");
    }
}

/// Writes the file, if asked for. Returns how many publishes are not acknowledged.
fn write_acked(args: &Args, run: &Run, outcome: &Outcome) -> Result<u64> {
    let mut promises = Promises {
        run: run.plan.run.clone(),
        devices: Vec::new(),
    };
    let mut all = 0;
    for device in &outcome.devices {
        let open = device.unacknowledged();
        all += open.len();
        promises.devices.push(Promise {
            id: device.id().to_owned(),
            sent: device.published(),
            open,
        });
    }
    if let Some(path) = &args.acked {
        promises.write(path)?;
    }
    Ok(all)
}
