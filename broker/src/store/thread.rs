//! The store's thread: reads the log, takes what workers say, commits behind them.
//!
//! It wakes some times a second and takes all there is, so that it costs nothing per message beyond the applying, and a
//! message that is done before the next commit never reaches the disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::db::{CommitError, Db};
use super::event::{StoreEvent, TakeEvents};
use super::kept::Restored;
use super::metrics::StoreMetrics;
use super::projection::{Bounds, ChangeSet, Loading, Projection};
use super::{StoreBuilder, StoreError};
use crate::config::Limits;
use crate::fatal::{Fatal, FatalFlag};
use crate::spool::{Log, LogError, LogReader, Position, Pressure};

/// How often it looks for what there is.
const TURN: Duration = Duration::from_millis(50);

/// The time between two commits, unless there is more than that much.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
const COMMIT_CHANGES: usize = 50_000;
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// When a commit is due that only moves the position on, so that the log can be released.
const RELEASE_EVERY: Duration = Duration::from_secs(10);
const RELEASE_BYTES: u64 = 64 * 1024 * 1024;

/// Of a small log it is at most this part.
const RELEASE_SHARE: u64 = 8;

/// The same while messages pass through queues without a trace: after a crash they are sent again from that position on.
const PASS_EVERY: Duration = Duration::from_secs(1);

/// The time until a commit is tried again for which the disk had no room, and between two lines about it.
const RETRY_EVERY: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// Bytes of messages, and changes, that may wait for a disk with room: then the log is read no further.
const UNSAVED_BYTES: usize = 64 * 1024 * 1024;
const UNSAVED_CHANGES: usize = 500_000;

/// Events that may wait for the next turn. What finds no room is lost: its message is sent once more after a restart.
const MAX_EVENTS: usize = 1 << 19;

/// What other threads see of the store.
#[derive(Debug, Default)]
pub(super) struct Outside {
    events: Mutex<Vec<StoreEvent>>,
    lost_events: AtomicU64,
    stopping: AtomicBool,
    committed: AtomicU64,
    sessions: AtomicU64,
    queued: AtomicU64,
    pending: AtomicU64,
}

impl TakeEvents for Outside {
    fn take(&self, events: &mut Vec<StoreEvent>) {
        let mut waiting = self.events.lock().unwrap_or_else(|e| e.into_inner());
        let room = MAX_EVENTS.saturating_sub(waiting.len());
        let lost = events.len().saturating_sub(room);
        waiting.extend(events.drain(..).take(room));
        drop(waiting);
        if lost > 0 {
            self.lost_events.fetch_add(lost as u64, Ordering::Relaxed);
        }
    }
}

/// How the store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStatus {
    /// Everything in the log below this sequence is in the file.
    pub committed: u64,
    /// Kept sessions, connected or not.
    pub sessions: u64,
    /// Messages that wait in their queues.
    pub queued: u64,
    /// Changes that are not in the file yet, about; 0: all is there that matters.
    pub pending: u64,
}

/// A running store.
#[derive(Debug)]
pub struct StoreHandle {
    outside: Arc<Outside>,
    thread: Thread,
    ended: Receiver<()>,
}

impl StoreHandle {
    /// Where workers tell what they did.
    pub fn events(&self) -> Arc<dyn TakeEvents> {
        self.outside.clone()
    }

    /// How it stands.
    pub fn status(&self) -> StoreStatus {
        StoreStatus {
            committed: self.outside.committed.load(Ordering::Acquire),
            sessions: self.outside.sessions.load(Ordering::Acquire),
            queued: self.outside.queued.load(Ordering::Acquire),
            pending: self.outside.pending.load(Ordering::Acquire),
        }
    }

    /// Waits until the log, which must be closed, is read to its end and committed; false when that took longer than
    /// until `deadline`. Nothing is lost then: the next start reads it.
    pub fn stop(self, deadline: Instant) -> bool {
        self.outside.stopping.store(true, Ordering::Release);
        self.thread.unpark();
        let left = deadline.saturating_duration_since(Instant::now());
        // The thread only ever drops its end.
        matches!(self.ended.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
    }
}

/// Loads the file and reads the log from there to its end.
pub(super) fn open(
    path: &Path,
    limits: &Limits,
    log: &Log,
    now_ms: u64,
) -> Result<(Restored, StoreBuilder), StoreError> {
    let begun = Instant::now();
    let mut loading = Loading::new(Projection::new(Bounds::from(limits), log.epoch()), now_ms);
    let mut db = Db::open(path, &mut loading)?;
    let loaded = begun.elapsed();
    let applied = loading.projection.applied().map_or(0, |at| at.sequence);
    let mut reader = log.reader_at(applied)?;
    if reader.begin() != applied {
        if loading.projection.applied().is_some() {
            tracing::warn!(
                applied,
                begin = reader.begin(),
                "the log does not hold the position that the store is at: what happened to kept sessions in between is unknown"
            );
        }
        loading.projection.skip_to(Position {
            epoch: log.epoch(),
            sequence: reader.begin(),
        });
    }
    let unsaved = replay(&mut *reader, log.status().durable_sequence, &mut loading, &mut db)?;
    let (restored, projection) = loading.finish();
    tracing::info!(
        sessions = projection.sessions(),
        messages = projection.queued(),
        retained = restored.retained.len(),
        load_ms = loaded.as_millis() as u64,
        replay_ms = (begun.elapsed() - loaded).as_millis() as u64,
        "the store of kept sessions is open"
    );
    let keeper = Keeper {
        db,
        projection,
        log: log.clone(),
        reader,
        outside: Arc::default(),
        unsaved,
        committed: applied,
        clock: (begun, now_ms),
        tried: begun,
        released: begun,
        log_bytes: 0,
        release_bytes: RELEASE_BYTES.min(log.status().max_bytes / RELEASE_SHARE).max(1),
        pressure: log.pressure(),
        passed: false,
        complained: None,
        metrics: StoreMetrics::new(),
    };
    Ok((
        restored,
        StoreBuilder {
            keeper: Box::new(keeper),
        },
    ))
}

/// Applies the log up to `end`. What was gathered by then is committed on the way when it is much.
fn replay(
    reader: &mut dyn LogReader,
    end: u64,
    loading: &mut Loading,
    db: &mut Db,
) -> Result<Vec<ChangeSet>, StoreError> {
    let mut unsaved = Vec::new();
    while loading.projection.applied().map_or(0, |at| at.sequence) < end {
        let entry = match reader.read(Duration::ZERO) {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(LogError::Closed) => break,
            Err(error) => return Err(error.into()),
        };
        loading.projection.apply(&entry);
        let (changes, bytes) = loading.projection.pending();
        if changes >= COMMIT_CHANGES || bytes >= COMMIT_BYTES {
            unsaved.push(loading.take_changes());
            match db.commit(&unsaved) {
                Ok(()) => unsaved.clear(),
                Err(error) => {
                    tracing::warn!(%error, "the store can't be written: it is tried again once clients are served")
                }
            }
        }
    }
    Ok(unsaved)
}

/// Starts the thread.
pub(super) fn spawn(keeper: Box<Keeper>, fatal: FatalFlag) -> Result<StoreHandle, StoreError> {
    let outside = keeper.outside.clone();
    let (end, ended) = sync_channel::<()>(1);
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || run(*keeper, &fatal, end))
        .map_err(StoreError::Thread)?;
    Ok(StoreHandle {
        outside,
        thread: thread.thread().clone(),
        ended,
    })
}

fn run(mut keeper: Keeper, fatal: &FatalFlag, end: SyncSender<()>) {
    let work = std::panic::AssertUnwindSafe(|| keeper.run());
    match std::panic::catch_unwind(work) {
        Ok(Ok(())) => {}
        Ok(Err(why)) => fatal.raise(Fatal::Store(why)),
        Err(_) => fatal.raise(Fatal::Store("panic".to_owned())),
    }
    drop(keeper); // with the file, which the next start may want at once
    drop(end);
}

/// The thread's own things.
pub(super) struct Keeper {
    db: Db,
    projection: Projection,
    log: Log,
    reader: Box<dyn LogReader>,
    pub(super) outside: Arc<Outside>,
    /// Changes that found no room on the disk, oldest first.
    unsaved: Vec<ChangeSet>,
    /// The log is in the file up to here.
    committed: u64,
    /// A moment, and what it is in milliseconds since 1970.
    clock: (Instant, u64),
    /// When a commit was tried last, and when the log was released last.
    tried: Instant,
    released: Instant,
    /// Bytes of the log that were read since it was released.
    log_bytes: u64,
    /// Above that it is released.
    release_bytes: u64,
    /// While the log is half full it is released with each commit.
    pressure: Arc<Pressure>,
    /// Since then something came and was done before a commit.
    passed: bool,
    complained: Option<Instant>,
    metrics: StoreMetrics,
}

impl Keeper {
    fn run(&mut self) -> Result<(), String> {
        loop {
            let stopping = self.outside.stopping.load(Ordering::Acquire);
            let closed = self.turn()?;
            let full = self.is_full();
            let last = closed && stopping; // the workers have ended: what they said is taken, what they sent is read
            if last || self.is_due() {
                self.commit(last)?;
            }
            self.observe();
            if last {
                return Ok(());
            }
            if !full || !self.unsaved.is_empty() {
                std::thread::park_timeout(TURN);
            }
        }
    }

    /// Takes all that workers said and all that is in the log, as far as it may wait for a commit. Whether the log is
    /// closed and read.
    fn turn(&mut self) -> Result<bool, String> {
        let mut waiting = self.outside.events.lock().unwrap_or_else(|e| e.into_inner());
        let events = std::mem::take(&mut *waiting);
        drop(waiting);
        let (begun, begun_ms) = self.clock;
        let now_ms = begun_ms.saturating_add(begun.elapsed().as_millis() as u64);
        self.projection.expire_retained(now_ms);
        let end = self.log.status().durable_sequence; // all that the events may refer to stands below
        for event in events {
            self.projection.event(event, end);
        }
        while !self.is_full() {
            match self.reader.read(Duration::ZERO) {
                Ok(Some(entry)) => {
                    self.log_bytes += entry.chunk.as_bytes().len() as u64;
                    self.projection.apply(&entry);
                }
                Ok(None) => {
                    self.projection.caught_up();
                    return Ok(false);
                }
                Err(LogError::Closed) => {
                    self.projection.caught_up();
                    return Ok(true);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(false)
    }

    /// Whether so much waits for a commit that the log is to be read no further.
    fn is_full(&self) -> bool {
        let (changes, bytes) = self.projection.pending();
        match self.unsaved.is_empty() {
            true => {
                changes >= COMMIT_CHANGES || bytes >= COMMIT_BYTES || self.log_bytes >= self.release_bytes
            }
            false => {
                let waiting = self.unsaved.iter().map(ChangeSet::size);
                let (count, size) = waiting.fold((changes, bytes), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                count >= UNSAVED_CHANGES || size >= UNSAVED_BYTES
            }
        }
    }

    fn is_due(&self) -> bool {
        let since = self.tried.elapsed();
        if !self.unsaved.is_empty() {
            return since >= RETRY_EVERY;
        }
        let (changes, bytes) = self.projection.pending();
        self.is_full() || self.is_release_due() || (changes + bytes > 0 && since >= COMMIT_EVERY)
    }

    fn is_release_due(&self) -> bool {
        let applied = self.projection.applied().map_or(0, |at| at.sequence);
        let since = self.released.elapsed();
        applied > self.committed
            && (self.log_bytes >= self.release_bytes
                || since >= RELEASE_EVERY
                || self.pressure.episode().is_some() && since >= COMMIT_EVERY
                || self.passed && since >= PASS_EVERY)
    }

    /// Makes durable what changed, then lets the log go up to there. `last`: even if only the position moved.
    fn commit(&mut self, last: bool) -> Result<(), String> {
        let any = self.projection.pending().0 > 0;
        let set = self.projection.take_changes();
        let applied = set.applied.map_or(0, |at| at.sequence);
        self.passed |= any && applied > self.committed;
        self.tried = Instant::now();
        let nothing = set.is_empty() && self.unsaved.is_empty();
        let moved = applied > self.committed;
        if nothing && !(moved && (last || self.is_release_due())) {
            return Ok(());
        }
        self.unsaved.push(set);
        match self.db.commit(&self.unsaved) {
            Ok(()) => self.unsaved.clear(),
            Err(CommitError::Full(why)) => {
                self.complain(&why);
                return Ok(());
            }
            Err(CommitError::Broken(why)) => return Err(format!("the file can't be written: {why}")),
        }
        self.metrics.commit_seconds.record(self.tried.elapsed());
        if self.complained.take().is_some() {
            tracing::info!("the store is written again");
        }
        self.committed = applied;
        self.released = Instant::now();
        self.log_bytes = 0;
        self.passed = false;
        let let_go = self.reader.commit(applied).and_then(|()| self.reader.save(&[]));
        let_go.map_err(|error| error.to_string())
    }

    fn complain(&mut self, why: &str) {
        self.metrics.errors.increment(1);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::error!(
                why,
                "the store of kept sessions can't be written: make room on the disk. Nothing is lost: it is tried again every second, and the log is kept meanwhile"
            );
        }
    }

    fn observe(&mut self) {
        let outside = &self.outside;
        let (sessions, queued) = (self.projection.sessions(), self.projection.queued());
        outside.committed.store(self.committed, Ordering::Release);
        outside.sessions.store(sessions as u64, Ordering::Release);
        outside.queued.store(queued as u64, Ordering::Release);
        let pending =
            self.projection.pending().0 + self.unsaved.iter().map(|set| set.size().0).sum::<usize>();
        outside.pending.store(pending as u64, Ordering::Release);
        let dropped = self.projection.take_dropped() + outside.lost_events.swap(0, Ordering::Relaxed);
        self.metrics
            .observe(self.projection.applied(), sessions, queued, dropped);
    }
}
