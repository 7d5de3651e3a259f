//! What comes back from the log's readers to the workers.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use atomic_waker::AtomicWaker;

/// What became of one record at level `kafka`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Kafka has it, acknowledged with acks=all by every route that takes it.
    InKafka,
    /// Kafka refuses it for good (too large, invalid), and the reader keeps it apart: a 5.0 publisher is told 0x97, others
    /// are acknowledged, since they have no way to hear it.
    Refused,
}

/// The outcome of one record of level `kafka`; each such record is reported exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Number of the chunk among its worker's chunks.
    pub number: u64,
    /// Index of the record in the chunk, from 0.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A worker's end: reports that wait for it, and how to wake it.
#[derive(Debug, Default)]
pub struct ReportSlot {
    waiting: Mutex<Vec<Report>>,
    /// Woken when a report came, a chunk was appended or a route reopened.
    pub waker: AtomicWaker,
}

impl ReportSlot {
    /// Takes all that waits.
    pub fn take(&self, into: &mut Vec<Report>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
        into.append(&mut waiting);
    }
}

/// The way back from the log's reader to the workers. Cheap to clone. What waits is bounded by the records of level
/// `kafka` that are in flight, since each is reported once.
#[derive(Debug, Clone)]
pub struct Reports {
    slots: Arc<[Arc<ReportSlot>]>,
    reopened: Arc<AtomicU64>,
}

impl Reports {
    /// One slot per worker.
    pub fn new(workers: usize) -> Self {
        Self {
            slots: (0..workers).map(|_| Arc::default()).collect(),
            reopened: Arc::default(),
        }
    }

    /// The slot of one worker.
    pub fn slot(&self, worker: u16) -> Option<Arc<ReportSlot>> {
        self.slots.get(usize::from(worker)).cloned()
    }

    /// Tells `worker` what became of records of its chunks; empties `results`. Best called with many at once.
    pub fn send(&self, worker: u16, results: &mut Vec<Report>) {
        if results.is_empty() {
            return;
        }
        if let Some(slot) = self.slots.get(usize::from(worker)) {
            slot.waiting
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .append(results);
            slot.waker.wake();
        }
        results.clear();
    }

    /// How often a route has reopened.
    pub fn reopened_count(&self) -> u64 {
        self.reopened.load(Ordering::Acquire)
    }

    /// A route takes records again: publishers that were held back for it go on.
    pub fn reopened(&self) {
        self.reopened.fetch_add(1, Ordering::Release);
        for slot in self.slots.iter() {
            slot.waker.wake();
        }
    }
}
