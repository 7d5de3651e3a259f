//! A whole run: its threads, the progress it shows, its result.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::device::Device;
use super::net;
use super::plan::Plan;
use super::shard::Shard;
use super::stats::{Live, Stats};

/// A run as its threads see it.
#[derive(Debug)]
pub struct Run {
    /// What the devices do.
    pub plan: Plan,
    /// Where they connect to.
    pub broker: SocketAddr,
    /// Addresses they come from.
    pub sources: Vec<IpAddr>,
    /// Threads.
    pub threads: u32,
    /// Publishes per second of all devices; 0: flat out.
    pub rate: f64,
    /// Connections begun per second.
    pub connect_rate: f64,
    /// How long is published.
    pub duration: Duration,
    /// How long is waited at the end for acknowledgements.
    pub drain: Duration,
    /// How long one attempt to connect may take.
    pub handshake: Duration,
    /// After this time publishing starts without those that could not connect.
    pub connect_deadline: Duration,
    /// Zero of all times.
    pub origin: Instant,
    /// When publishing started.
    pub start: OnceLock<Instant>,
    /// Progress.
    pub live: Live,
}

/// What a thread, or all of them, brought back.
#[derive(Debug)]
pub struct Outcome {
    /// Counts and times.
    pub stats: Stats,
    /// The devices with what they have seen acknowledged.
    pub devices: Vec<Device>,
    /// How long was published.
    pub published_for: Duration,
}

impl Run {
    /// Nanoseconds between two connects of one thread.
    pub fn connect_gap_ns(&self) -> u64 {
        (1e9 * f64::from(self.threads) / self.connect_rate.max(0.001)) as u64
    }

    /// Runs it to the end, calling `each_second` with the progress and `at_start` when publishing has started.
    pub fn work(self: &Arc<Self>, at_start: impl FnMut(), each_second: impl FnMut(&Live)) -> Result<Outcome> {
        self.work_until(at_start, each_second, || Ok(()))
    }

    /// The same; `at_end` is called once all is acknowledged, while the connections still stand.
    pub fn work_until(
        self: &Arc<Self>,
        mut at_start: impl FnMut(),
        mut each_second: impl FnMut(&Live),
        at_end: impl FnOnce() -> Result<()>,
    ) -> Result<Outcome> {
        net::make_room(self.plan.connections)?;
        let mut threads = Vec::new();
        for number in 0..self.threads {
            let run = Arc::clone(self);
            let work = move || {
                let outcome = Shard::new(&run, number).and_then(Shard::work);
                if outcome.is_err() {
                    // The others must not wait for this one's devices.
                    Live::add(&run.live.settled, u64::from(run.plan.connections));
                    Live::add(&run.live.drained, 1);
                }
                Live::add(&run.live.finished, 1);
                outcome
            };
            let name = format!("shard-{number}");
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(work)
                    .context("thread")?,
            );
        }
        let mut shown = Instant::now();
        let mut started = false;
        let (mut at_end, mut ended) = (Some(at_end), Ok(()));
        while Live::get(&self.live.finished) < u64::from(self.threads) {
            std::thread::sleep(Duration::from_millis(10));
            if !started && self.start.get().is_some() {
                started = true;
                at_start();
            }
            if Live::get(&self.live.drained) >= u64::from(self.threads)
                && let Some(at_end) = at_end.take()
            {
                ended = at_end();
                self.live.leave.store(true, Ordering::Relaxed);
            }
            if shown.elapsed() >= Duration::from_secs(1) {
                shown += Duration::from_secs(1);
                each_second(&self.live);
            }
        }
        let mut all = Outcome {
            stats: Stats::new()?,
            devices: Vec::new(),
            published_for: Duration::ZERO,
        };
        for thread in threads {
            let outcome = thread
                .join()
                .ok()
                .context("a thread of the load generator panicked")??;
            all.stats.join(outcome.stats)?;
            all.devices.extend(outcome.devices);
            all.published_for = all.published_for.max(outcome.published_for);
        }
        ended.map(|()| all)
    }
}
