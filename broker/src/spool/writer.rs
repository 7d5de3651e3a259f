//! The spool's one writer. What is appended is gathered; a sync is one write and one fdatasync, and then one durable
//! position for all readers.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fs::File;
use super::gather;
use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, group_bytes};
use super::segment::{DATA_START, SegmentHeader};
use super::shared::{Mark, Segment, Shared, State, now_ms};
use super::{AppendError, Entry, LogWriter, Position};
use crate::bus::Chunk;

/// What a group is filled up with.
const ZEROS: &[u8] = &[0; BLOCK_BYTES as usize];

/// The writing end; the spool is closed when it is dropped.
#[derive(Debug)]
pub struct SpoolWriter {
    shared: Arc<Shared>,
    /// The segment that is written to.
    segment: Target,
    /// Where in it the next group begins.
    offset: u64,
    /// What was appended and not synced: one group for each segment that it goes to.
    pending: Vec<Pending>,
    /// Sequence of the next record.
    next: u64,
    /// For what stands before a group's chunks.
    buffer: Vec<u8>,
    keeper: Keeper,
    /// Since when it is full, as far as that is counted.
    full_since: Option<Instant>,
    /// See [`LogWriter::gather`].
    gather: Duration,
}

/// Who makes segments ahead and recycles them.
#[derive(Debug)]
pub(super) enum Keeper {
    /// A thread of its own, joined when the writer is dropped.
    Thread(Option<JoinHandle<()>>),
    /// The writer itself, when it needs a segment: for tests that must run the same each time.
    #[cfg(test)]
    Inline(super::upkeep::Upkeep),
}

#[derive(Debug, Clone)]
pub(super) struct Target {
    pub number: u64,
    pub salt: u64,
    pub size: u64,
    pub file: Arc<dyn File>,
    /// Its header is written.
    pub begun: bool,
}

#[derive(Debug)]
struct Pending {
    target: Target,
    offset: u64,
    payload: u64,
    first: u64,
    chunks: Vec<Chunk>,
}

impl Pending {
    fn end(&self) -> u64 {
        self.offset + group_bytes(self.payload)
    }
}

impl SpoolWriter {
    pub(super) fn new(shared: Arc<Shared>, segment: Target, offset: u64, next: u64, keeper: Keeper) -> Self {
        Self {
            shared,
            segment,
            offset,
            pending: Vec::new(),
            next,
            buffer: Vec::new(),
            keeper,
            full_since: None,
            gather: Duration::ZERO,
        }
    }

    /// The position that the next record gets.
    pub fn next_position(&self) -> Position {
        Position {
            epoch: self.shared.epoch,
            sequence: self.next,
        }
    }

    /// Finds the place of a chunk of `bytes`: in the open group, in a new one behind it, or in the next segment.
    fn place(&mut self, bytes: u64) -> Result<(), AppendError> {
        let shared = Arc::clone(&self.shared);
        self.place_in(&mut shared.lock(), bytes)
    }

    fn place_in(&mut self, state: &mut State, bytes: u64) -> Result<(), AppendError> {
        check(state)?;
        if !state.started {
            state.started = true;
            self.shared.release(state);
        }
        let filled = |target: &Target| match state.segments.back() {
            Some(segment) if segment.number == target.number => segment.filled,
            _ => target.size,
        };
        let (target, end) = match self.pending.last() {
            Some(open) => (&open.target, open.offset + group_bytes(open.payload + bytes)),
            None => (&self.segment, self.offset + group_bytes(bytes)),
        };
        if end <= filled(target) {
            if self.pending.is_empty() {
                let target = target.clone();
                self.pending.push(Pending::new(target, self.offset, self.next));
            }
            return Ok(());
        }
        if end <= target.size {
            // It is still being filled with zeros.
            self.shared.work.notify_all();
            return Err(AppendError::Full);
        }
        if DATA_START + group_bytes(bytes) > self.shared.config.segment_bytes {
            let text =
                format!("a chunk of {bytes} bytes is more than a segment holds: raise spool.segment_bytes");
            return Err(AppendError::Io(text));
        }
        let Some(prepared) = state.prepared.take() else {
            self.shared.work.notify_all();
            return Err(AppendError::Full);
        };
        state.taken_bytes += prepared.size;
        self.shared.work.notify_all();
        let target = Target {
            number: prepared.number,
            salt: salt(),
            size: prepared.size,
            file: prepared.file,
            begun: false,
        };
        self.pending.retain(|open| !open.chunks.is_empty());
        self.pending.push(Pending::new(target, DATA_START, self.next));
        Ok(())
    }

    /// Writes one group, syncs it, and shows it to the readers.
    fn write(&mut self, pending: Pending) -> io::Result<()> {
        let Pending {
            target,
            offset,
            first,
            ..
        } = &pending;
        let written_ms = now_ms();
        self.buffer.clear();
        let mut at = *offset;
        if !target.begun {
            let header = SegmentHeader {
                number: target.number,
                epoch: self.shared.epoch,
                first: *first,
                salt: target.salt,
                written_ms,
            };
            header.write(&mut self.buffer);
            at = 0;
        }
        let header = GroupHeader {
            segment: target.number,
            epoch: self.shared.epoch,
            first: Position {
                epoch: self.shared.epoch,
                sequence: *first,
            },
            durable_before: *first,
            written_ms,
            chunks: 0,
            records: 0,
            payload_bytes: 0,
        };
        header.write_head(target.salt, &pending.chunks, &mut self.buffer);
        // The chunks go as they are: nothing is copied but into the kernel.
        let chunks = pending.chunks.iter().map(|chunk| &chunk.as_bytes()[..]);
        let written = self.buffer.len() as u64 + pending.payload;
        let bytes = pending.end() - at;
        let zeros = ZEROS
            .get(..bytes.saturating_sub(written) as usize)
            .unwrap_or_default();
        let parts: Vec<&[u8]> = [&self.buffer[..]]
            .into_iter()
            .chain(chunks)
            .chain([zeros])
            .collect();
        target.file.write_parts_at(&parts, at)?;
        let start = Instant::now();
        target.file.sync()?;
        let metrics = &self.shared.metrics;
        metrics.fsync_seconds.record(start.elapsed().as_secs_f64());
        metrics.group_bytes.record(bytes as f64);
        metrics.group_chunks.record(pending.chunks.len() as f64);
        self.offset = pending.end();
        self.segment = Target {
            begun: true,
            ..target.clone()
        };
        self.publish(pending, written_ms, now_ms());
        Ok(())
    }

    fn publish(&mut self, pending: Pending, written_ms: u64, durable_ms: u64) {
        let mut state = self.shared.lock();
        let end = pending.end();
        if !pending.target.begun {
            state.taken_bytes -= pending.target.size;
            state.segments.push_back(Segment {
                number: pending.target.number,
                first: pending.first,
                salt: pending.target.salt,
                size: pending.target.size,
                filled: pending.target.size,
                used: end,
                marks: Vec::new(),
            });
            // The next one can have its number now.
            self.shared.work.notify_all();
        }
        if let Some(segment) = state.segments.back_mut() {
            segment.used = end;
            segment.mark(Mark {
                sequence: pending.first,
                offset: pending.offset,
                written_ms,
            });
        }
        let (mut sequence, mut hurried) = (pending.first, state.hurried);
        let epoch = self.shared.epoch;
        let entries = pending.chunks.into_iter().map(|chunk| {
            let first = Position { epoch, sequence };
            sequence += u64::from(chunk.count());
            if chunk.hurries() {
                hurried = sequence;
            }
            Entry {
                first,
                chunk,
                durable_ms,
            }
        });
        let tail_bytes = self.shared.config.tail_bytes;
        state.push_tail(entries, tail_bytes);
        state.durable = sequence;
        state.hurried = hurried;
        self.shared.release(&mut state);
        self.gather = gather::time(state.kept_bytes(), self.shared.config.max_bytes);
        if state.readers_waiting > 0 {
            self.shared.came.notify_all();
        }
        if state.readers_resting > 0 && state.is_hurried(pending.first, tail_bytes) {
            self.shared.hurry.notify_all();
        }
    }

    /// Does the upkeep, if that is ours to do.
    fn keep(&mut self) -> bool {
        match &mut self.keeper {
            Keeper::Thread(_) => false,
            #[cfg(test)]
            Keeper::Inline(upkeep) => {
                while upkeep.step() {}
                true
            }
        }
    }

    /// Counts the seconds in which it was full.
    fn count_full(&mut self, full: bool) {
        let now = Instant::now();
        let since = *self.full_since.get_or_insert(now);
        let seconds = now.duration_since(since).as_secs();
        self.shared.metrics.full_seconds.increment(seconds);
        self.full_since = full.then(|| since + Duration::from_secs(seconds));
    }
}

impl Pending {
    fn new(target: Target, offset: u64, first: u64) -> Self {
        Self {
            target,
            offset,
            payload: 0,
            first,
            chunks: Vec::new(),
        }
    }
}

impl LogWriter for SpoolWriter {
    fn append(&mut self, chunk: &Chunk) -> Result<Position, AppendError> {
        let position = self.next_position();
        if chunk.count() == 0 {
            check(&self.shared.lock())?;
            return Ok(position);
        }
        let bytes = chunk.as_bytes().len() as u64;
        match self.place(bytes) {
            Err(AppendError::Full) if self.keep() => self.place(bytes)?,
            placed => placed?,
        }
        if let Some(open) = self.pending.last_mut() {
            open.payload += bytes;
            open.chunks.push(chunk.clone());
            self.next += u64::from(chunk.count());
        }
        Ok(position)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        check(&self.shared.lock())?;
        for pending in std::mem::take(&mut self.pending) {
            if pending.chunks.is_empty() {
                self.pending.push(pending); // its place was found, and nothing came yet
                continue;
            }
            if let Err(error) = self.write(pending) {
                return Err(AppendError::Io(
                    self.shared.fail("a group can't be written", &error),
                ));
            }
        }
        Ok(())
    }

    fn gather(&self) -> Duration {
        self.gather
    }

    fn wait_room(&mut self, bytes: usize, timeout: Duration) -> Result<bool, AppendError> {
        self.keep();
        let until = Instant::now() + timeout;
        let shared = Arc::clone(&self.shared);
        // Under one lock from the look to the wait: room that comes in between wakes us.
        let mut state = shared.lock();
        loop {
            match self.place_in(&mut state, bytes as u64) {
                Ok(()) => break,
                Err(AppendError::Full) => {}
                Err(error) => return Err(error),
            }
            state.writer_waiting = true;
            shared.tell(&state);
            let full = shared.is_at_bound(&state);
            shared.work.notify_all();
            let left = until.saturating_duration_since(Instant::now());
            let waited = shared.room.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(|e| e.into_inner());
            self.count_full(full);
            if Instant::now() >= until {
                shared.tell(&state);
                return Ok(false);
            }
        }
        state.writer_waiting = false;
        shared.tell(&state);
        drop(state);
        self.count_full(false);
        Ok(true)
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.shared.close();
        match &mut self.keeper {
            Keeper::Thread(thread) => {
                if let Some(thread) = thread.take() {
                    let _ = thread.join(); // a panic of it was reported when it came
                }
            }
            #[cfg(test)]
            Keeper::Inline(_) => {}
        }
    }
}

fn check(state: &State) -> Result<(), AppendError> {
    if let Some(text) = &state.failed {
        return Err(AppendError::Io(text.clone()));
    }
    match state.closed {
        true => Err(AppendError::Closed),
        false => Ok(()),
    }
}

/// Drawn by lot.
pub(super) fn salt() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now_ms())
}

const _: () = assert!(GROUP_HEADER_BYTES < DATA_START as usize);
