//! The handles of the store's thread on its metrics.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::metrics::{
    STORE_APPLIED, STORE_COMMIT_SECONDS, STORE_DROPPED, STORE_ERRORS, STORE_PENDING, STORE_SESSIONS,
};
use crate::spool::Position;

/// On the recorder that is installed.
pub(super) struct StoreMetrics {
    pub commit_seconds: Histogram,
    pub errors: Counter,
    applied: Gauge,
    sessions: Gauge,
    pending: Gauge,
    dropped: Counter,
}

impl StoreMetrics {
    pub fn new() -> Self {
        Self {
            commit_seconds: histogram!(STORE_COMMIT_SECONDS),
            errors: counter!(STORE_ERRORS),
            applied: gauge!(STORE_APPLIED),
            sessions: gauge!(STORE_SESSIONS),
            pending: gauge!(STORE_PENDING),
            dropped: counter!(STORE_DROPPED),
        }
    }

    /// How it stands now, and what was dropped since it was told last.
    pub fn observe(&self, applied: Option<Position>, sessions: usize, queued: usize, dropped: u64) {
        self.applied.set(applied.map_or(0, |at| at.sequence) as f64);
        self.sessions.set(sessions as f64);
        self.pending.set(queued as f64);
        self.dropped.increment(dropped);
    }
}
