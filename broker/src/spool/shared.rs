//! What writer, readers and upkeep of one spool share: the index of its segments, the newest chunks, and who still
//! needs what.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::damage::{Damage, Damages};
use super::disk::{Index, Place};
use super::fs::{File, Fs, Lock};
use super::metrics::SpoolMetrics;
use super::segment::{self, DATA_START};
use super::{Entry, LogStatus, Pressure, SpoolConfig};

/// Bytes between two marks of a segment.
const MARK_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Shared {
    pub config: SpoolConfig,
    pub fs: Arc<dyn Fs>,
    pub epoch: u64,
    pub pressure: Arc<Pressure>,
    pub metrics: SpoolMetrics,
    pub damages: Damages,
    state: Mutex<State>,
    /// Something became durable, or the log closed: for readers.
    pub came: Condvar,
    /// Something became durable that can't wait, or the log closed: for readers that rest.
    pub hurry: Condvar,
    /// Room came, or the log closed: for the writer.
    pub room: Condvar,
    /// There may be something to do: for the upkeep.
    pub work: Condvar,
    /// Held until the last of us is gone.
    _lock: Box<dyn Lock>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Those in use, oldest first; the last is the one that is written to.
    pub segments: VecDeque<Segment>,
    /// Those that nobody needs: recycled or removed by the upkeep.
    pub released: VecDeque<Segment>,
    /// Made ahead: what the writer takes when its segment is full.
    pub prepared: Option<Prepared>,
    /// Bytes of segments that the writer took and has not written to yet.
    pub taken_bytes: u64,
    /// The newest chunks, without a hole, up to the durable end.
    pub tail: VecDeque<Entry>,
    pub tail_bytes: usize,
    /// All below is durable.
    pub durable: u64,
    pub holds: Vec<Hold>,
    pub next_hold: u64,
    /// The writer has begun: from here on what nobody holds is released.
    pub started: bool,
    pub closed: bool,
    /// A write or fsync failed: nothing is appended any more.
    pub failed: Option<String>,
    /// The disk has no room for a segment; why.
    pub no_room: Option<String>,
    /// Behind the last durable chunk that hurries.
    pub hurried: u64,
    pub readers_waiting: usize,
    pub readers_resting: usize,
    pub writer_waiting: bool,
}

/// One segment in use.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    /// The first record in it has this sequence or a later one; those of the segment before are below.
    pub first: u64,
    pub salt: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes up to which it is filled with zeros or groups, durably: only there it is written to.
    pub filled: u64,
    /// Bytes up to the end of the last group.
    pub used: u64,
    /// Places of some groups, in order: where to begin to look, and when they were written.
    pub marks: Vec<Mark>,
}

/// The place of one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub sequence: u64,
    pub offset: u64,
    pub written_ms: u64,
}

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(super) struct Prepared {
    pub number: u64,
    pub file: Arc<dyn File>,
    pub size: u64,
}

/// What one consumer needs.
#[derive(Debug)]
pub(super) struct Hold {
    pub id: u64,
    /// Of a consumer with a cursor file; the store keeps its own.
    pub name: Option<String>,
    /// Below is released.
    pub saved: u64,
    /// Where it reads; `None` while nobody reads for it.
    pub next: Option<u64>,
    /// Of an earlier run, and nobody has read for it in this one.
    pub unread: bool,
}

impl Shared {
    pub fn new(config: SpoolConfig, fs: Arc<dyn Fs>, epoch: u64, lock: Box<dyn Lock>, state: State) -> Self {
        let shared = Self {
            damages: Damages::new(config.dir.clone()),
            config,
            fs,
            epoch,
            pressure: Arc::default(),
            metrics: SpoolMetrics::new(),
            state: Mutex::new(state),
            came: Condvar::new(),
            hurry: Condvar::new(),
            room: Condvar::new(),
            work: Condvar::new(),
            _lock: lock,
        };
        shared.tell(&shared.lock());
        shared
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.config.dir, number)
    }

    /// Nothing is appended any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
        self.hurry.notify_all();
        self.room.notify_all();
        self.work.notify_all();
    }

    /// A write or fsync failed: what was not synced may be lost, though it can still be read. For good.
    pub fn fail(&self, what: &str, error: &std::io::Error) -> String {
        let mut state = self.lock();
        let text = format!("{what}: {error}: look at the disk, then start again");
        tracing::error!(dir = %self.config.dir.display(), "the spool is broken: {text}");
        let text = state.failed.get_or_insert(text).clone();
        drop(state);
        self.came.notify_all();
        self.hurry.notify_all();
        self.room.notify_all();
        self.work.notify_all();
        text
    }

    /// Gives up what no consumer needs. The segment that is written to stays.
    pub fn release(&self, state: &mut State) {
        if !state.started {
            return;
        }
        let needed = state.needed();
        let mut any = false;
        while state.segments.get(1).is_some_and(|next| next.first <= needed)
            && let Some(segment) = state.segments.pop_front()
        {
            state.released.push_back(segment);
            any = true;
        }
        self.tell(state);
        if any {
            self.work.notify_all();
        }
    }

    /// Says how full it is to those who accept.
    pub fn tell(&self, state: &State) {
        let full = state.prepared.is_none() && state.writer_waiting && self.is_at_bound(state);
        self.pressure
            .set(full, state.kept_bytes() > self.config.max_bytes / 2);
    }

    /// See [`super::Spool::unread`].
    pub fn unread(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let unread = state.holds.iter().filter(|hold| hold.unread);
        let unread = unread.filter_map(|hold| {
            let backlog = state.durable.saturating_sub(hold.saved.max(state.oldest()));
            Some((hold.name.clone()?, backlog)).filter(|_| backlog > 0)
        });
        unread.collect()
    }

    /// Sets the metrics that follow the state; for a time now and then.
    pub fn measure(&self) {
        let state = self.lock();
        self.metrics.bytes.set(state.kept_bytes() as f64);
        self.metrics.max_bytes.set(self.config.max_bytes as f64);
        self.metrics.durable.set(state.durable as f64);
        self.metrics.oldest_age.set(state.oldest_age().as_secs_f64());
        for hold in &state.holds {
            let backlog = state.durable.saturating_sub(hold.saved);
            self.metrics
                .backlog(hold.name.as_deref().unwrap_or("store"), backlog);
        }
    }

    /// No further segment may be made: by the bound, or for want of room on the disk.
    pub fn is_at_bound(&self, state: &State) -> bool {
        state.no_room.is_some() || state.file_bytes() + self.config.segment_bytes > self.config.max_bytes
    }

    pub fn status(&self) -> LogStatus {
        let state = self.lock();
        LogStatus {
            bytes: state.kept_bytes(),
            max_bytes: self.config.max_bytes,
            records: state.durable - state.needed().min(state.durable),
            next_sequence: state.durable,
            durable_sequence: state.durable,
            oldest: state.oldest_age(),
            readers: state.holds.iter().filter(|hold| hold.next.is_some()).count(),
        }
    }
}

impl State {
    /// The lowest sequence that somebody needs.
    pub fn needed(&self) -> u64 {
        let saved = self.holds.iter().map(|hold| hold.saved).min();
        saved.unwrap_or(self.durable)
    }

    /// Sequence of the oldest record that is there.
    pub fn oldest(&self) -> u64 {
        self.segments
            .front()
            .map_or(self.durable, |segment| segment.first)
    }

    /// Bytes that the files take.
    pub fn file_bytes(&self) -> u64 {
        let files = self.segments.iter().chain(&self.released).map(|s| s.size);
        files.sum::<u64>() + self.taken_bytes + self.prepared.as_ref().map_or(0, |p| p.size)
    }

    /// Bytes that somebody needs: whole segments, and a part of the oldest by the share of its records.
    pub fn kept_bytes(&self) -> u64 {
        let needed = self.needed();
        let mut bytes = 0;
        for (at, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1).map_or(self.durable, |next| next.first);
            let used = segment.used.saturating_sub(DATA_START);
            let records = end.saturating_sub(segment.first);
            let left = end.saturating_sub(needed.max(segment.first));
            if let Some(share) = (u128::from(used) * u128::from(left)).checked_div(u128::from(records)) {
                bytes += share as u64;
            }
        }
        bytes
    }

    /// For how long the oldest record that somebody needs has been here.
    pub fn oldest_age(&self) -> Duration {
        let needed = self.needed();
        if needed >= self.durable {
            return Duration::ZERO;
        }
        let marks = self.segments.iter().flat_map(|segment| &segment.marks);
        let mark = marks.take_while(|mark| mark.sequence <= needed).last();
        let mark = mark.or_else(|| self.segments.front()?.marks.first());
        Duration::from_millis(mark.map_or(0, |mark| now_ms().saturating_sub(mark.written_ms)))
    }

    /// Adds what became durable to the newest chunks; the oldest of them go, and those that all have read.
    pub fn push_tail(&mut self, entries: impl Iterator<Item = Entry>, max_bytes: usize) {
        for entry in entries {
            self.tail_bytes += entry.chunk.as_bytes().len();
            self.tail.push_back(entry);
        }
        self.trim_tail(max_bytes);
    }

    /// Whether what stands at `next` and behind it can't wait: somebody waits for it, or it is so much that the tail
    /// might lose it.
    pub fn is_hurried(&self, next: u64, max_bytes: usize) -> bool {
        self.hurried > next || self.tail_bytes > max_bytes / 4
    }

    pub fn trim_tail(&mut self, max_bytes: usize) {
        let read = self.holds.iter().filter_map(|hold| hold.next).min();
        let read = read.unwrap_or(u64::MAX);
        while let Some(entry) = self.tail.front()
            && (self.tail_bytes > max_bytes || entry.end() <= read)
        {
            self.tail_bytes -= entry.chunk.as_bytes().len();
            self.tail.pop_front();
        }
    }
}

impl Segment {
    /// After the run that wrote it: much of it is room that nobody uses any more.
    pub fn is_to_be_cut(&self) -> bool {
        self.used <= self.size / 4 * 3
    }

    /// Notes the place of a group, if the last that was noted is far.
    pub fn mark(&mut self, mark: Mark) {
        let far = |last: &Mark| {
            mark.offset >= last.offset + MARK_BYTES || mark.written_ms >= last.written_ms + 10_000
        };
        if self.marks.last().is_none_or(far) {
            self.marks.push(mark);
        }
    }
}

impl Index for Shared {
    fn find(&self, sequence: u64) -> Option<Place> {
        let state = self.lock();
        if sequence >= state.durable {
            return None;
        }
        let after = state.segments.partition_point(|s| s.first <= sequence);
        let at = after.saturating_sub(1);
        let segment = state.segments.get(at)?;
        let marks = &segment.marks;
        let mark = marks.partition_point(|mark| mark.sequence <= sequence);
        let mark = mark.checked_sub(1).and_then(|at| marks.get(at));
        Some(Place {
            number: segment.number,
            first: segment.first,
            salt: segment.salt,
            offset: mark.map_or(DATA_START, |mark| mark.offset),
            end: state
                .segments
                .get(at + 1)
                .map_or(state.durable, |next| next.first),
            open_end: false,
        })
    }

    fn damaged(&self, damage: Damage, bytes: &mut dyn FnMut(u64, u64) -> Vec<u8>) {
        if self.damages.note(&*self.fs, damage, bytes) {
            self.metrics.damaged.increment(1);
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_millis() as u64)
}
