//! The log in memory: chunks are kept, bounded in bytes, until every reader has committed past them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::shared::now_ms;
use super::{AppendError, Entry, LogError, LogReader, LogScan, LogStatus, LogWriter, Position, Pressure};
use crate::bus::Chunk;

/// An empty log of at most `max_bytes`. With no reader nothing is kept: each consumer is to be made with
/// [`MemoryLog::reader`] before the first chunk is appended.
pub fn open(epoch: u64, max_bytes: usize) -> (MemoryWriter, MemoryLog) {
    let shared = Arc::new(Shared {
        epoch,
        max_bytes,
        pressure: Arc::default(),
        state: Mutex::default(),
        came: Condvar::new(),
        hurry: Condvar::new(),
        released: Condvar::new(),
    });
    let writer = MemoryWriter {
        shared: Arc::clone(&shared),
    };
    (writer, MemoryLog { shared })
}

#[derive(Debug)]
struct Shared {
    epoch: u64,
    max_bytes: usize,
    pressure: Arc<Pressure>,
    state: Mutex<State>,
    /// A chunk was appended, or the log closed.
    came: Condvar,
    /// A chunk was appended that can't wait, or the log closed: for readers that rest.
    hurry: Condvar,
    /// Chunks were released, or the log closed.
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Kept>,
    bytes: usize,
    next_sequence: u64,
    cursors: Vec<Cursor>,
    next_reader: u64,
    closed: bool,
    /// Threads that wait: a condition variable is only signalled when somebody listens, since each signal is a system
    /// call.
    readers_waiting: usize,
    readers_resting: usize,
    writer_waiting: bool,
    /// Behind the last chunk that hurries.
    hurried: u64,
}

#[derive(Debug)]
struct Kept {
    first: u64,
    chunk: Chunk,
    since: Instant,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first + u64::from(self.chunk.count())
    }

    fn entry(&self, epoch: u64) -> Entry {
        Entry {
            first: Position {
                epoch,
                sequence: self.first,
            },
            chunk: self.chunk.clone(),
            durable_ms: now_ms().saturating_sub(self.since.elapsed().as_millis() as u64),
        }
    }
}

/// How far one reader has committed.
#[derive(Debug)]
struct Cursor {
    reader: u64,
    committed: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
        self.hurry.notify_all();
        self.released.notify_all();
    }

    /// Drops what no reader needs any more and wakes the writer.
    fn release(&self, state: &mut State) {
        let done = state.cursors.iter().map(|c| c.committed).min();
        let done = done.unwrap_or(state.next_sequence);
        let mut any = false;
        while let Some(kept) = state.kept.front()
            && kept.end() <= done
        {
            state.bytes -= kept.chunk.as_bytes().len();
            state.kept.pop_front();
            any = true;
        }
        if any {
            self.tell(state, false);
            if state.writer_waiting {
                self.released.notify_all();
            }
        }
    }

    /// `full` until something is released.
    fn tell(&self, state: &State, full: bool) {
        self.pressure.set(full, state.bytes > self.max_bytes / 2);
    }

    /// Whether so much is kept that it should be read.
    fn is_much(&self, state: &State) -> bool {
        state.bytes > self.max_bytes / 4
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        state.kept.is_empty() || state.bytes + bytes <= self.max_bytes
    }
}

/// The writing end; the log is closed when it is dropped.
#[derive(Debug)]
pub struct MemoryWriter {
    shared: Arc<Shared>,
}

impl LogWriter for MemoryWriter {
    fn append(&mut self, chunk: &Chunk) -> Result<Position, AppendError> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(AppendError::Closed);
        }
        let position = Position {
            epoch: self.shared.epoch,
            sequence: state.next_sequence,
        };
        if chunk.count() == 0 {
            return Ok(position);
        }
        let bytes = chunk.as_bytes().len();
        if !self.shared.has_room(&state, bytes) {
            self.shared.tell(&state, true);
            return Err(AppendError::Full);
        }
        state.next_sequence += u64::from(chunk.count());
        if state.cursors.is_empty() {
            return Ok(position);
        }
        state.bytes += bytes;
        state.kept.push_back(Kept {
            first: position.sequence,
            chunk: chunk.clone(),
            since: Instant::now(),
        });
        self.shared.tell(&state, false);
        if state.readers_waiting > 0 {
            self.shared.came.notify_all();
        }
        if chunk.hurries() {
            state.hurried = state.next_sequence;
        }
        let hurried = chunk.hurries() || self.shared.is_much(&state);
        if state.readers_resting > 0 && hurried {
            self.shared.hurry.notify_all();
        }
        Ok(position)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        Ok(())
    }

    fn wait_room(&mut self, bytes: usize, timeout: Duration) -> Result<bool, AppendError> {
        let mut state = self.shared.lock();
        state.writer_waiting = true;
        let (mut state, _) = self
            .shared
            .released
            .wait_timeout_while(state, timeout, |state| {
                !state.closed && !self.shared.has_room(state, bytes)
            })
            .unwrap_or_else(|e| e.into_inner());
        state.writer_waiting = false;
        if state.closed {
            return Err(AppendError::Closed);
        }
        Ok(self.shared.has_room(&state, bytes))
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The log from outside: makes readers and says how it stands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

impl MemoryLog {
    /// A new consumer, which begins with the oldest chunk that is kept. What it has not committed is kept for as long as
    /// it lives.
    pub fn reader(&self) -> MemoryReader {
        self.reader_at(0)
    }

    /// As [`MemoryLog::reader`], for a consumer that needs nothing below `sequence`.
    pub fn reader_at(&self, sequence: u64) -> MemoryReader {
        let mut state = self.shared.lock();
        let oldest = state.kept.front().map_or(state.next_sequence, |k| k.first);
        let first = sequence.clamp(oldest, state.next_sequence);
        let reader = state.next_reader;
        state.next_reader += 1;
        state.cursors.push(Cursor {
            reader,
            committed: first,
        });
        MemoryReader {
            shared: Arc::clone(&self.shared),
            reader,
            begin: first,
            next: first,
            saved: Vec::new(),
        }
    }

    /// The epoch of all positions in it.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// How full it is, for the workers.
    pub fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.shared.pressure)
    }

    /// How it stands.
    pub fn status(&self) -> LogStatus {
        let state = self.shared.lock();
        let oldest = state.kept.front();
        LogStatus {
            bytes: state.bytes as u64,
            max_bytes: self.shared.max_bytes as u64,
            records: oldest.map_or(0, |k| state.next_sequence - k.first),
            next_sequence: state.next_sequence,
            durable_sequence: state.next_sequence,
            oldest: oldest.map_or(Duration::ZERO, |k| k.since.elapsed()),
            readers: state.cursors.len(),
        }
    }

    /// Nothing is appended any more; readers get what is left, then [`LogError::Closed`].
    pub fn close(&self) {
        self.shared.close();
    }
}

/// One consumer.
#[derive(Debug)]
pub struct MemoryReader {
    shared: Arc<Shared>,
    reader: u64,
    begin: u64,
    next: u64,
    saved: Vec<u8>,
}

impl LogReader for MemoryReader {
    fn read(&mut self, timeout: Duration) -> Result<Option<Entry>, LogError> {
        let next = self.next;
        let mut state = self.shared.lock();
        state.readers_waiting += 1;
        let (mut state, _) = self
            .shared
            .came
            .wait_timeout_while(state, timeout, |state| {
                !state.closed && next >= state.next_sequence
            })
            .unwrap_or_else(|e| e.into_inner());
        state.readers_waiting -= 1;
        let at = state.kept.partition_point(|kept| kept.end() <= next);
        let Some(kept) = state.kept.get(at) else {
            return if state.closed {
                Err(LogError::Closed)
            } else {
                Ok(None)
            };
        };
        self.next = kept.end();
        Ok(Some(kept.entry(self.shared.epoch)))
    }

    fn rest(&mut self, timeout: Duration) {
        let next = self.next;
        let mut state = self.shared.lock();
        state.readers_resting += 1;
        let (mut state, _) = self
            .shared
            .hurry
            .wait_timeout_while(state, timeout, |state| {
                !state.closed && state.hurried <= next && !self.shared.is_much(state)
            })
            .unwrap_or_else(|e| e.into_inner());
        state.readers_resting -= 1;
    }

    fn seek(&mut self, sequence: u64) -> Result<(), LogError> {
        let state = self.shared.lock();
        let committed = state.cursors.iter().find(|c| c.reader == self.reader);
        if committed.is_none_or(|c| sequence < c.committed) || sequence > state.next_sequence {
            return Err(LogError::NotInLog { sequence });
        }
        self.next = sequence;
        Ok(())
    }

    fn commit(&mut self, sequence: u64) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        if sequence > state.next_sequence {
            return Err(LogError::NotInLog { sequence });
        }
        let cursor = state.cursors.iter_mut().find(|c| c.reader == self.reader);
        let Some(cursor) = cursor.filter(|c| c.committed < sequence) else {
            return Ok(());
        };
        cursor.committed = sequence;
        self.shared.release(&mut state);
        Ok(())
    }

    fn save(&mut self, state: &[u8]) -> Result<(), LogError> {
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
        Ok(Box::new(MemoryScan {
            shared: Arc::clone(&self.shared),
            next: sequence,
        }))
    }
}

/// A second look: what its reader has committed is gone.
#[derive(Debug)]
struct MemoryScan {
    shared: Arc<Shared>,
    next: u64,
}

impl LogScan for MemoryScan {
    fn read(&mut self) -> Result<Option<Entry>, LogError> {
        let state = self.shared.lock();
        let at = state.kept.partition_point(|kept| kept.end() <= self.next);
        let Some(kept) = state.kept.get(at) else {
            return Ok(None);
        };
        self.next = kept.end();
        Ok(Some(kept.entry(self.shared.epoch)))
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.cursors.retain(|c| c.reader != self.reader);
        self.shared.release(&mut state);
    }
}

#[cfg(test)]
mod tests;
