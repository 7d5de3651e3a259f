//! The handles of one spool on its metrics.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::metrics as names;

pub(super) struct SpoolMetrics {
    pub bytes: Gauge,
    pub max_bytes: Gauge,
    pub oldest_age: Gauge,
    pub durable: Gauge,
    pub fsync_seconds: Histogram,
    pub group_bytes: Histogram,
    pub group_chunks: Histogram,
    pub damaged: Counter,
    pub full_seconds: Counter,
}

impl std::fmt::Debug for SpoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpoolMetrics")
    }
}

impl SpoolMetrics {
    /// Handles on the recorder that is installed.
    pub fn new() -> Self {
        Self {
            bytes: gauge!(names::SPOOL_BYTES),
            max_bytes: gauge!(names::SPOOL_MAX_BYTES),
            oldest_age: gauge!(names::SPOOL_OLDEST_AGE),
            durable: gauge!(names::SPOOL_DURABLE),
            fsync_seconds: histogram!(names::SPOOL_FSYNC),
            group_bytes: histogram!(names::SPOOL_GROUP_BYTES),
            group_chunks: histogram!(names::SPOOL_GROUP_CHUNKS),
            damaged: counter!(names::SPOOL_DAMAGED),
            full_seconds: counter!(names::SPOOL_FULL_SECONDS),
        }
    }

    /// Records that the consumer `reader` has not done with.
    pub fn backlog(&self, reader: &str, records: u64) {
        gauge!(names::LOG_READER_BACKLOG, "reader" => reader.to_owned()).set(records as f64);
    }
}
