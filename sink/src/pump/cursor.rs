//! The cursor: how far the log may be released, and what of that is saved.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Pump;
use super::behind::Behind;
use super::state::CursorState;
use super::told::Told;

/// Time between two saves, each of which costs an fsync.
const SAVE: Duration = Duration::from_secs(1);

/// How far the pump is, as sequences of the log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// All below is done, but for what is parked.
    pub(super) done: u64,
    /// All below is done: the log may release it once it is saved.
    pub(super) committed: u64,
    saved: u64,
    saved_state: Vec<u8>,
    save_at: Instant,
    told: Told,
    failures: u64,
    /// Why it could not be saved when that was last tried.
    pub(super) unsaved: Option<String>,
}

impl Cursor {
    pub(super) fn new(begin: u64, now: Instant) -> Self {
        Self {
            done: begin,
            committed: begin,
            saved: begin,
            saved_state: Vec::new(),
            save_at: now + SAVE,
            told: Told::default(),
            failures: 0,
            unsaved: None,
        }
    }
}

impl Pump {
    /// Goes on where the last run has left off: all topics where most were, those that were not so far behind them.
    pub(super) fn restore(&mut self) {
        let begin = self.parts.reader.begin();
        if let Some(delivered) = &self.parts.delivered {
            delivered.store(begin, Ordering::Release);
        }
        let state = CursorState::decode(self.parts.reader.state());
        let lowest = |state: &CursorState| state.topics.iter().flat_map(|(_, from)| from).copied().min();
        let state = state.filter(|state| {
            state.fingerprint == self.parts.routes.fingerprint()
                && state.done >= begin
                && lowest(state).is_none_or(|lowest| lowest >= begin)
        });
        let Some(state) = state else {
            return;
        };
        if let Err(error) = self.parts.reader.seek(state.done) {
            tracing::warn!(%error, "what the cursor says beside its position does not fit the log: more is sent again");
            let _ = self.parts.reader.seek(begin);
            return;
        }
        (self.cursor.done, self.read_to) = (state.done, state.done);
        self.cursor.saved_state = self.parts.reader.state().to_vec();
        for (name, from) in state.topics {
            let at = self.table.add(&name);
            let Some(topic) = self.table.get_mut(at).filter(|topic| topic.behind.is_none()) else {
                continue;
            };
            tracing::info!(topic = name, "its records go on where the last run has left them");
            topic.behind = Some(Behind::new(from));
            self.behind += 1;
            for route in &topic.routes {
                self.parts.routes.set_closed(*route, true);
            }
        }
    }

    /// Tells the log how far all is done. What is parked counts as not done: its copies in memory do not survive.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let topics = if self.parked + self.behind > 0 {
            self.table.len()
        } else {
            0
        };
        let held = (0..topics).filter_map(|at| self.positions(at)).flatten();
        let held = held.chain(self.lowest_refused());
        let low = held.fold(self.cursor.done, u64::min);
        if low <= self.cursor.committed {
            return Ok(());
        }
        let done = self.parts.reader.commit(low);
        done.map_err(|error| error.to_string())?;
        self.cursor.committed = low;
        if let Some(delivered) = &self.parts.delivered {
            delivered.store(low, Ordering::Release);
        }
        Ok(())
    }

    /// Makes the cursor durable, if it moved and its time has come. That it can't be saved stops no delivery: after a
    /// crash more is sent again.
    pub(super) fn save(&mut self, at_once: bool) {
        if !at_once && self.now < self.cursor.save_at {
            return;
        }
        let state = self.state();
        let cursor = &mut self.cursor;
        if cursor.committed == cursor.saved && state == cursor.saved_state {
            return;
        }
        cursor.save_at = self.now + SAVE;
        match self.parts.reader.save(&state) {
            Ok(()) => {
                (cursor.saved, cursor.saved_state) = (cursor.committed, state);
                if cursor.told.is_over() {
                    tracing::info!(
                        failures = cursor.failures,
                        "the cursor of the way to Kafka is saved again"
                    );
                }
                (cursor.failures, cursor.unsaved) = (0, None);
                self.metrics.saves.increment(1);
            }
            Err(error) => {
                cursor.failures += 1;
                self.metrics.save_errors.increment(1);
                let why = error.to_string();
                if cursor.told.is_news(&why, self.now) {
                    tracing::error!(
                        %error,
                        "the cursor of the way to Kafka can't be saved: delivery goes on, but the log releases nothing, \
                         and after a crash more is sent again; look at the disk of node.data_dir"
                    );
                }
                cursor.unsaved = Some(why);
            }
        }
    }

    /// What is to stand beside the position.
    fn state(&self) -> Vec<u8> {
        // Refused records wait apart from their topics, while they can't be kept, and what has found no topic may find
        // one in the next run: all from the position on is read again.
        if self.lowest_refused().is_some() || self.positions(self.table.unplaced()).is_some() {
            return Vec::new();
        }
        let topics = if self.parked + self.behind > 0 {
            self.table.len()
        } else {
            0
        };
        let position = |at| {
            let name = self.table.get(at).map(|topic| topic.name.to_string());
            name.zip(self.positions(at))
        };
        let state = CursorState {
            fingerprint: self.parts.routes.fingerprint(),
            done: self.cursor.done,
            topics: (0..topics).filter_map(position).collect(),
        };
        state.encode()
    }
}
