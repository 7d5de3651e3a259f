//! The proofs on real parts: kills, outages, leaders that move, topics that go, disks that fill. Short here; `make
//! torture` runs them long (FOREBAY_TORTURE=1) and prints their figures.

mod full;
mod kill;
mod leader;
mod outage;
mod sessions;
mod topic;

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crate::support::device::{Load, Outcome};
use crate::support::forebay::Forebay;
use crate::support::kafka::Kafka;
use crate::support::{block_on, wait_for};

/// One of two values: for the short run, and for the long one.
fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var_os("FOREBAY_TORTURE").is_some() {
        long
    } else {
        short
    }
}

/// Runs each fleet on a thread of its own, and `meanwhile` beside them.
fn beside<T>(
    fleets: &[Load],
    port: u16,
    deadline: Duration,
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Outcome>, T) {
    std::thread::scope(|scope| {
        let run = |load: &Load| {
            let load = load.clone();
            scope.spawn(move || block_on(deadline + Duration::from_secs(30), load.run(port, deadline)))
        };
        let running: Vec<ScopedJoinHandle<'_, Vec<Outcome>>> = fleets.iter().map(run).collect();
        let result = meanwhile();
        (
            running
                .into_iter()
                .flat_map(|fleet| fleet.join().unwrap())
                .collect(),
            result,
        )
    })
}

/// Waits until all that the sink has read is in Kafka, and the topic no longer grows.
fn drained(forebay: &Forebay, kafka: &Kafka, topic: &str, within: Duration) {
    forebay.wait_ready(within);
    let mut held = (-1, Instant::now());
    wait_for("the backlog is in Kafka", within, || {
        let backlog = forebay.metric("forebay_log_reader_backlog_records", "kafka");
        let now = kafka.held(topic);
        if now != held.0 {
            held = (now, Instant::now());
        }
        (backlog == 0.0 && held.1.elapsed() > Duration::from_secs(2)).then_some(())
    });
}
