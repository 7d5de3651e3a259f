//! What a run counts and measures.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use hdrhistogram::Histogram;

/// Longest time that a histogram tells from longer ones, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// Counts and times of one thread, joined at the end.
#[derive(Debug)]
pub struct Stats {
    /// PUBLISH packets sent for the first time.
    pub published: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// PUBLISH packets sent again after a reconnect.
    pub resent: u64,
    /// PUBACK or PUBREC with success; at QoS 0 what the socket took.
    pub acked: u64,
    /// PUBACK or PUBREC with a reason of 0x80 or more.
    pub refused: u64,
    /// Acknowledgements that did not come in the order of the publishes [MQTT-4.6.0-2].
    pub acks_out_of_order: u64,
    /// Packets that answer nothing, or that a server does not send.
    pub unexpected: u64,
    /// PUBLISH packets received.
    pub received: u64,
    /// Connections made, again or for the first time.
    pub connects: u64,
    /// Attempts that came to nothing.
    pub connect_failures: u64,
    /// Connections lost that were up.
    pub disconnects: u64,
    /// connect() to CONNACK, in microseconds.
    pub connect_us: Histogram<u64>,
    /// From the time a publish was due to its acknowledgement: what a held-back device feels.
    pub from_due_us: Histogram<u64>,
    /// From the time a publish was sent to its acknowledgement.
    pub from_sent_us: Histogram<u64>,
    /// The reason of the last failure, for the report.
    pub last_failure: Option<String>,
}

impl Stats {
    /// Nothing counted yet.
    pub fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3);
        Ok(Self {
            published: 0,
            payload_bytes: 0,
            resent: 0,
            acked: 0,
            refused: 0,
            acks_out_of_order: 0,
            unexpected: 0,
            received: 0,
            connects: 0,
            connect_failures: 0,
            disconnects: 0,
            connect_us: histogram()?,
            from_due_us: histogram()?,
            from_sent_us: histogram()?,
            last_failure: None,
        })
    }

    /// Adds another thread's.
    pub fn join(&mut self, other: Stats) -> Result<()> {
        self.published += other.published;
        self.payload_bytes += other.payload_bytes;
        self.resent += other.resent;
        self.acked += other.acked;
        self.refused += other.refused;
        self.acks_out_of_order += other.acks_out_of_order;
        self.unexpected += other.unexpected;
        self.received += other.received;
        self.connects += other.connects;
        self.connect_failures += other.connect_failures;
        self.disconnects += other.disconnects;
        self.connect_us.add(&other.connect_us)?;
        self.from_due_us.add(&other.from_due_us)?;
        self.from_sent_us.add(&other.from_sent_us)?;
        self.last_failure = other.last_failure.or(self.last_failure.take());
        Ok(())
    }
}

/// What can be seen of the run from outside while it goes on; all threads add to it.
#[derive(Debug, Default)]
pub struct Live {
    /// Connections that are up.
    pub up: AtomicU64,
    /// Devices whose first attempt to connect is over, well or not.
    pub settled: AtomicU64,
    /// Publishes sent.
    pub published: AtomicU64,
    /// Publishes acknowledged.
    pub acked: AtomicU64,
    /// Threads whose publishes are acknowledged, or were waited for long enough.
    pub drained: AtomicU64,
    /// Connections may be closed now.
    pub leave: AtomicBool,
    /// Threads that are through.
    pub finished: AtomicU64,
}

impl Live {
    /// Reads one of the numbers.
    pub fn get(number: &AtomicU64) -> u64 {
        number.load(Ordering::Relaxed)
    }

    /// Adds to one of the numbers.
    pub fn add(number: &AtomicU64, more: u64) {
        number.fetch_add(more, Ordering::Relaxed);
    }
}

/// `p50 1.20 ms  p99 ...` of a histogram of microseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "none".to_owned();
    }
    let ms = |us: u64| us as f64 / 1000.0;
    let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
    format!(
        "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        ms(histogram.max())
    )
}
