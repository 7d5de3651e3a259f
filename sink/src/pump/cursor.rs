//! The cursor: how far the log may be released, and what of that is saved.

use std::time::{Duration, Instant};

use super::Pump;

/// Time between two saves, each of which costs an fsync.
const SAVE: Duration = Duration::from_secs(1);
/// Time between two log lines about a cursor that can't be saved.
const TELL: Duration = Duration::from_secs(30);

/// How far the pump is, as sequences of the log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// All below is done, but for what is parked.
    pub(super) done: u64,
    /// All below is done: the log may release it once it is saved.
    pub(super) committed: u64,
    saved: u64,
    save_at: Instant,
    told: Option<Instant>,
    failures: u64,
}

impl Cursor {
    pub(super) fn new(begin: u64, now: Instant) -> Self {
        Self {
            done: begin,
            committed: begin,
            saved: begin,
            save_at: now + SAVE,
            told: None,
            failures: 0,
        }
    }
}

impl Pump {
    /// Tells the log how far all is done. What is parked counts as not done: its copies in memory do not survive.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let held = if self.parked > 0 {
            self.lowest_parked()
        } else {
            None
        };
        let low = self.cursor.done.min(held.unwrap_or(u64::MAX));
        if low <= self.cursor.committed {
            return Ok(());
        }
        let done = self.parts.reader.commit(low);
        done.map_err(|error| error.to_string())?;
        self.cursor.committed = low;
        if let Some(delivered) = &self.parts.delivered {
            delivered.store(low, std::sync::atomic::Ordering::Release);
        }
        Ok(())
    }

    /// Makes the cursor durable, if it moved and its time has come. That it can't be saved stops no delivery: after a
    /// crash more is sent again.
    pub(super) fn save(&mut self, at_once: bool) {
        let cursor = &mut self.cursor;
        let moved = cursor.committed != cursor.saved;
        if !moved || (!at_once && self.now < cursor.save_at) {
            return;
        }
        cursor.save_at = self.now + SAVE;
        match self.parts.reader.save(&[]) {
            Ok(()) => {
                cursor.saved = cursor.committed;
                if cursor.failures > 0 {
                    tracing::info!(
                        failures = cursor.failures,
                        "the cursor of the way to Kafka is saved again"
                    );
                }
                (cursor.failures, cursor.told) = (0, None);
                self.metrics.saves.increment(1);
            }
            Err(error) => {
                cursor.failures += 1;
                self.metrics.save_errors.increment(1);
                if cursor.told.is_none_or(|at| self.now - at >= TELL) {
                    cursor.told = Some(self.now);
                    tracing::error!(
                        %error,
                        failures = cursor.failures,
                        "the cursor of the way to Kafka can't be saved: delivery goes on, but the log releases nothing, \
                         and after a crash more is sent again; look at the disk of node.data_dir"
                    );
                }
            }
        }
    }

    /// The lowest sequence that is parked.
    fn lowest_parked(&self) -> Option<u64> {
        let lanes = self.lanes.iter().filter_map(|state| state.lane.front());
        let waiting = self.table.iter().filter_map(|topic| topic.waiting.front());
        lanes.chain(waiting).map(|delivery| delivery.sequence).min()
    }
}
