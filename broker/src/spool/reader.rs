//! The readers of the spool: from memory while they keep up, from disk when they do not, and never past what is
//! durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::CursorFile;
use super::disk::DiskReader;
use super::shared::{Shared, State};
use super::{Entry, LogError, LogReader, LogScan};

/// One consumer.
#[derive(Debug)]
pub struct SpoolReader {
    follow: Follow,
    hold: u64,
    begin: u64,
    committed: u64,
    /// `None` for a consumer that keeps its own cursor.
    cursor: Option<CursorFile>,
    saved: Vec<u8>,
}

/// Reads on from a sequence.
#[derive(Debug)]
struct Follow {
    shared: Arc<Shared>,
    disk: DiskReader,
    /// Read from disk and not given yet.
    ready: VecDeque<Entry>,
    next: u64,
}

impl Follow {
    fn new(shared: Arc<Shared>, next: u64) -> Self {
        let disk = DiskReader::new(Arc::clone(&shared.fs), shared.config.dir.clone());
        Self {
            shared,
            disk,
            ready: VecDeque::new(),
            next,
        }
    }

    fn seek(&mut self, sequence: u64) {
        self.ready.clear();
        self.next = sequence;
    }

    /// The next chunk, if there is one.
    fn poll(&mut self) -> Result<Option<Entry>, LogError> {
        while self.ready.is_empty() {
            let state = self.shared.lock();
            if self.next >= state.durable {
                return Ok(None);
            }
            if let Some(entry) = in_tail(&state, self.next) {
                let entry = entry.clone();
                self.next = entry.end();
                self.disk.close();
                return Ok(Some(entry));
            }
            let oldest = state.oldest();
            drop(state);
            if self.next < oldest {
                return Err(LogError::NotInLog { sequence: self.next });
            }
            let Some(group) = self.disk.read(&*self.shared, &mut self.next)? else {
                return Ok(None);
            };
            let next = self.next;
            self.ready
                .extend(group.entries().filter(|entry| entry.end() > next));
        }
        let entry = self.ready.pop_front();
        self.next = entry.as_ref().map_or(self.next, Entry::end);
        Ok(entry)
    }
}

/// The newest chunks have no hole, so the one that holds `sequence` is there or it is older than all of them.
fn in_tail(state: &State, sequence: u64) -> Option<&Entry> {
    let at = state.tail.partition_point(|entry| entry.end() <= sequence);
    state
        .tail
        .get(at)
        .filter(|entry| entry.first.sequence <= sequence)
}

impl SpoolReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        hold: u64,
        begin: u64,
        cursor: Option<CursorFile>,
        saved: Vec<u8>,
    ) -> Self {
        Self {
            follow: Follow::new(shared, begin),
            hold,
            begin,
            committed: begin,
            cursor,
            saved,
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.follow.shared
    }

    /// Says to the others how far it has read, and what is no longer needed.
    fn note(&self, next: Option<u64>, saved: Option<u64>) {
        let shared = self.shared();
        let mut state = shared.lock();
        let hold = state.holds.iter_mut().find(|hold| hold.id == self.hold);
        if let Some(hold) = hold {
            hold.next = next;
            if let Some(saved) = saved {
                hold.saved = saved;
            }
        }
        match saved {
            Some(_) => shared.release(&mut state),
            None => state.trim_tail(shared.config.tail_bytes),
        }
    }
}

impl LogReader for SpoolReader {
    fn read(&mut self, timeout: Duration) -> Result<Option<Entry>, LogError> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(entry) = self.follow.poll()? {
                self.note(Some(self.follow.next), None);
                return Ok(Some(entry));
            }
            let shared = Arc::clone(self.shared());
            let mut state = shared.lock();
            if self.follow.next < state.durable {
                continue;
            }
            if state.closed || state.failed.is_some() {
                return Err(LogError::Closed);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state.readers_waiting += 1;
            let (mut state, _) = shared
                .came
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner());
            state.readers_waiting -= 1;
        }
    }

    fn rest(&mut self, timeout: Duration) {
        let shared = Arc::clone(self.shared());
        let (next, most) = (self.follow.next, shared.config.tail_bytes);
        let mut state = shared.lock();
        state.readers_resting += 1;
        let (mut state, _) = shared
            .hurry
            .wait_timeout_while(state, timeout, |state| {
                !state.closed && state.failed.is_none() && !state.is_hurried(next, most)
            })
            .unwrap_or_else(|e| e.into_inner());
        state.readers_resting -= 1;
    }

    fn seek(&mut self, sequence: u64) -> Result<(), LogError> {
        let state = self.shared().lock();
        let hold = state.holds.iter().find(|hold| hold.id == self.hold);
        if hold.is_none_or(|hold| sequence < hold.saved) || sequence > state.durable {
            return Err(LogError::NotInLog { sequence });
        }
        drop(state);
        self.follow.seek(sequence);
        self.note(Some(sequence), None);
        Ok(())
    }

    fn commit(&mut self, sequence: u64) -> Result<(), LogError> {
        if sequence > self.shared().lock().durable {
            return Err(LogError::NotInLog { sequence });
        }
        if sequence > self.committed {
            self.committed = sequence;
            if self.cursor.is_none() {
                self.note(Some(self.follow.next), Some(sequence));
            }
        }
        Ok(())
    }

    fn save(&mut self, state: &[u8]) -> Result<(), LogError> {
        let epoch = self.shared().epoch;
        if let Some(cursor) = &mut self.cursor {
            cursor
                .save(epoch, self.committed, state)
                .map_err(|error| LogError::Io(format!("the cursor can't be saved: {error}")))?;
            self.note(Some(self.follow.next), Some(self.committed));
        }
        self.saved = state.to_vec();
        Ok(())
    }

    fn state(&self) -> &[u8] {
        &self.saved
    }

    fn begin(&self) -> u64 {
        self.begin
    }

    fn scan(&self, sequence: u64) -> Result<Box<dyn LogScan>, LogError> {
        Ok(Box::new(SpoolScan(Follow::new(
            Arc::clone(self.shared()),
            sequence,
        ))))
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        let shared = self.shared();
        let mut state = shared.lock();
        if self.cursor.is_none() {
            state.holds.retain(|hold| hold.id != self.hold);
            shared.release(&mut state);
        } else if let Some(hold) = state.holds.iter_mut().find(|hold| hold.id == self.hold) {
            // Its cursor stays, and with it what it needs.
            hold.next = None;
        }
    }
}

/// A second look.
#[derive(Debug)]
struct SpoolScan(Follow);

impl LogScan for SpoolScan {
    fn read(&mut self) -> Result<Option<Entry>, LogError> {
        self.0.poll()
    }
}
