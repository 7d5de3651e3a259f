//! What comes back from the log's readers to the workers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

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
    /// The worker sleeps outside its runtime: `waker` would not reach it.
    naps: AtomicBool,
    /// It was to be woken meanwhile.
    missed: AtomicBool,
    napper: OnceLock<Thread>,
}

impl ReportSlot {
    /// Lets the worker run. What it is to find must be there before.
    pub fn wake(&self) {
        if !self.rouse() {
            self.waker.wake();
        }
    }

    /// Ends the worker's nap, if it naps: false where that did not see to it that the worker runs.
    pub fn rouse(&self) -> bool {
        if !self.naps.load(Ordering::SeqCst) {
            return false;
        }
        if !self.missed.swap(true, Ordering::SeqCst)
            && let Some(thread) = self.napper.get()
        {
            thread.unpark();
        }
        self.naps.load(Ordering::SeqCst) // it looks at `missed` after that
    }

    /// The calling thread, always the same one, sleeps for at most `most`. Returns whether somebody woke it: what it is to
    /// find then may have been there before.
    pub fn nap(&self, most: Duration) -> bool {
        self.napper.get_or_init(thread::current);
        self.naps.store(true, Ordering::SeqCst);
        thread::park_timeout(most);
        self.naps.store(false, Ordering::SeqCst);
        self.missed.swap(false, Ordering::SeqCst)
    }

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
            slot.wake();
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
            slot.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A worker that naps, and then waits in its runtime, finds all that comes: each time it is woken in one way or the other.
    #[test]
    fn a_nap_loses_no_wake_up() {
        const ROUNDS: u64 = 2_000;
        let (slot, woken) = (Arc::new(ReportSlot::default()), Arc::new(Woken::default()));
        let (work, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let give_up = Instant::now() + Duration::from_secs(60);
        let (to_wake, to_do, done) = (slot.clone(), work.clone(), seen.clone());
        let other = thread::spawn(move || {
            for round in 1..=ROUNDS {
                to_do.store(round, Ordering::SeqCst);
                to_wake.wake();
                while done.load(Ordering::SeqCst) < round && Instant::now() < give_up {
                    thread::yield_now();
                }
            }
        });
        let (waker, mut wakes) = (Waker::from(woken.clone()), 0);
        while seen.load(Ordering::SeqCst) < ROUNDS {
            slot.waker.register(&waker);
            if seen.swap(work.load(Ordering::SeqCst), Ordering::SeqCst) < work.load(Ordering::SeqCst)
                || slot.nap(Duration::from_micros(20))
            {
                continue;
            }
            while woken.0.load(Ordering::SeqCst) == wakes {
                assert!(Instant::now() < give_up, "a wake-up was lost");
                thread::yield_now();
            }
            wakes = woken.0.load(Ordering::SeqCst);
        }
        assert!(other.join().is_ok());
    }

    #[test]
    fn who_is_not_woken_sleeps_its_time_and_what_is_missed_is_said_once() {
        let slot = ReportSlot::default();
        assert!(!slot.nap(Duration::from_millis(1)));
        slot.naps.store(true, Ordering::SeqCst);
        slot.wake(); // read `naps` just before the nap ended
        assert!(slot.nap(LONG));
        assert!(!slot.nap(Duration::from_millis(1)));
    }
}
