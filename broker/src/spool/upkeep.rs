//! What is done beside the writer, so that it never waits for it: segments are made ahead and filled with zeros, and
//! those that nobody needs are made into the next one or removed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fs::{File, Fs, Mode, zero_fill};
use super::shared::{Prepared, Segment, Shared, State};
use super::unread::Unread;

/// Room on the disk that the spool leaves to the store, the cursors and the quarantine.
const LEFT_BYTES: u64 = 32 << 20;

/// Filled with zeros and synced at a time.
pub(super) const FILL_BYTES: u64 = 1 << 20;

/// Rest between two fills when nobody waits: the writer's fsyncs share the disk.
const PACE: Duration = Duration::from_millis(5);

/// Rest of one who has nothing to do, and time until a disk without room is tried again.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// One spare is kept for so many segments that the spool may have, and so many at most.
const SEGMENTS_PER_SPARE: u64 = 16;
const MOST_SPARES: u64 = 4;

/// The file that is made ahead, before it has its number.
pub(super) const MAKING: &str = "making.tmp";

#[derive(Debug)]
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    making: Option<Making>,
    /// The disk had no room: not tried again before.
    retry_at: Option<Instant>,
    retry_after: Duration,
}

/// A segment that is being filled with zeros.
#[derive(Debug)]
struct Making {
    file: Arc<dyn File>,
    filled: u64,
}

/// What is to be done next.
enum Job {
    /// Fill the segment that is written to, from here on.
    Fill { number: u64, from: u64, size: u64 },
    /// Make this one the segment of that number.
    Recycle { old: Segment, number: u64 },
    /// Remove this one.
    Remove { old: Segment },
    /// Go on with making the segment of that number.
    Make { number: u64 },
}

impl Upkeep {
    /// A disk without room is tried again after `retry_after`.
    pub fn new(shared: Arc<Shared>, retry_after: Duration) -> Self {
        Self {
            shared,
            making: None,
            retry_at: None,
            retry_after,
        }
    }

    /// Works until the spool is closed. A panic ends the spool as a failed write does: without upkeep it would only
    /// stand still.
    pub fn run_to_its_end(self) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            shared.fail(
                "the upkeep has panicked",
                &io::Error::other("see the line before"),
            );
        }
    }

    fn run(mut self) {
        let mut measured = Instant::now();
        let mut unread = Unread::new();
        let shared = Arc::clone(&self.shared);
        loop {
            if measured.elapsed() >= TICK {
                measured = Instant::now();
                shared.measure();
                unread.look(&shared);
            }
            // Under one lock with the wait: what comes to be done in between wakes us.
            let mut state = shared.lock();
            if state.closed {
                break;
            }
            let Some(job) = self.job(&mut state) else {
                let _ = shared.work.wait_timeout(state, TICK);
                continue;
            };
            drop(state);
            let done = self.execute(job);
            let state = shared.lock();
            let rest = match (done, state.writer_waiting) {
                _ if state.closed => break,
                (true, true) => continue,
                (true, false) => PACE,
                (false, _) => TICK,
            };
            let _ = shared.work.wait_timeout(state, rest);
        }
        shared.measure();
    }

    /// Does one thing; false when there was nothing to do.
    #[cfg(test)]
    pub fn step(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let job = self.job(&mut state);
        drop(state);
        job.is_some_and(|job| self.execute(job))
    }

    fn execute(&mut self, job: Job) -> bool {
        match self.work(job) {
            Ok(()) => true,
            Err(error) if is_no_room(&error) => {
                self.no_room(&error);
                false
            }
            Err(error) => {
                self.shared.fail("a segment can't be made ready", &error);
                false
            }
        }
    }

    /// What is to be done next; `None` when there is nothing.
    fn job(&self, state: &mut State) -> Option<Job> {
        if state.closed || state.failed.is_some() {
            return None;
        }
        let segment_bytes = self.shared.config.segment_bytes;
        let current = state.segments.back()?;
        let number = current.number + 1;
        if current.filled < current.size {
            // What is released first: the disk may have no room otherwise.
            return Some(match state.released.pop_front() {
                Some(old) => Job::Remove { old },
                None => Job::Fill {
                    number: current.number,
                    from: current.filled,
                    size: current.size,
                },
            });
        }
        if state.taken_bytes > 0 {
            // The writer has the one that was ready: the numbers go on once it is in use.
            return None;
        }
        let wanted = state.prepared.is_none();
        let (spares, released) = (self.spares(state), state.released.len());
        let fits = |old: &mut Segment| old.size == segment_bytes && old.filled == old.size;
        // Also where another one is being made: that goes on when nothing is left to recycle.
        if wanted && let Some(old) = state.released.pop_front_if(fits) {
            return Some(Job::Recycle { old, number });
        }
        if let Some(old) = state.released.pop_front_if(|old| released > spares || !fits(old)) {
            return Some(Job::Remove { old });
        }
        let rests = self.retry_at.is_some_and(|at| Instant::now() < at);
        let room = state.file_bytes() + segment_bytes <= self.shared.config.max_bytes;
        (wanted && room && !rests).then_some(Job::Make { number })
    }

    /// How many that nobody needs are kept for what comes. Consumers say once a second how far they are: flat out several
    /// come free then, and to fill as many new ones with zeros costs a tenth of all that a message costs. None where the disk is
    /// nearly full: others need it.
    fn spares(&self, state: &State) -> usize {
        let shared = &self.shared;
        let is_wide = || has_room(&*shared.fs, &shared.config.dir, 0).unwrap_or(false);
        if state.released.is_empty() || state.no_room.is_some() || !is_wide() {
            return 0;
        }
        let most = self.shared.config.max_bytes / self.shared.config.segment_bytes / SEGMENTS_PER_SPARE;
        most.min(MOST_SPARES) as usize
    }

    fn work(&mut self, job: Job) -> io::Result<()> {
        match job {
            Job::Fill { number, from, size } => self.fill(number, from, size),
            Job::Recycle { old, number } => self.recycle(old, number),
            Job::Remove { old } => self.remove(old),
            Job::Make { number } => self.make(number),
        }
    }

    fn recycle(&mut self, mut old: Segment, number: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let path = shared.path(number);
        let mut done = || {
            shared.fs.rename(&shared.path(old.number), &path)?;
            old.number = number;
            shared.fs.sync_dir(&shared.config.dir)?;
            shared.fs.open(&path, Mode::Write)
        };
        match done() {
            Ok(file) => {
                let size = old.size;
                self.ready(Prepared { number, file, size });
                Ok(())
            }
            Err(error) => Err(self.give_back(old, error)),
        }
    }

    fn remove(&mut self, old: Segment) -> io::Result<()> {
        let shared = &self.shared;
        let removed = match shared.fs.remove(&shared.path(old.number)) {
            // By an attempt that came no further.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        if let Err(error) = removed.and_then(|()| shared.fs.sync_dir(&shared.config.dir)) {
            return Err(self.give_back(old, error));
        }
        self.retry_at = None;
        Ok(())
    }

    /// Some file systems need room for that too: it is tried again.
    fn give_back(&self, old: Segment, error: io::Error) -> io::Error {
        self.shared.lock().released.push_front(old);
        error
    }

    fn fill(&mut self, number: u64, from: u64, size: u64) -> io::Result<()> {
        let path = self.shared.path(number);
        let file = self.shared.fs.open(&path, Mode::Write)?;
        let to = size.min(from + FILL_BYTES);
        zero_fill(&*file, from, to)?;
        file.sync()?;
        let mut state = self.shared.lock();
        if let Some(current) = state.segments.back_mut().filter(|s| s.number == number) {
            current.filled = to;
        }
        self.has_room(&mut state);
        drop(state);
        self.shared.room.notify_all();
        Ok(())
    }

    fn make(&mut self, number: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let size = shared.config.segment_bytes;
        let mut making = match self.making.take() {
            Some(making) => making,
            None => {
                // The others write first: what the store can't commit, the spool may not release, and no room would
                // ever come back.
                if !has_room(&*shared.fs, &shared.config.dir, size)? {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let file = shared.fs.open(&self.making_path(), Mode::Create)?;
                file.reserve(size)?;
                Making { file, filled: 0 }
            }
        };
        let to = size.min(making.filled + FILL_BYTES);
        zero_fill(&*making.file, making.filled, to)?;
        making.file.sync()?;
        making.filled = to;
        if to < size {
            self.making = Some(making);
            return Ok(());
        }
        shared.fs.rename(&self.making_path(), &shared.path(number))?;
        shared.fs.sync_dir(&shared.config.dir)?;
        let file = making.file;
        self.ready(Prepared { number, file, size });
        Ok(())
    }

    fn ready(&mut self, prepared: Prepared) {
        let mut state = self.shared.lock();
        state.prepared = Some(prepared);
        self.has_room(&mut state);
        drop(state);
        self.shared.room.notify_all();
    }

    fn has_room(&self, state: &mut State) {
        if state.no_room.take().is_some() {
            tracing::info!("the disk has room again: the spool goes on");
        }
        self.shared.tell(state);
    }

    fn making_path(&self) -> PathBuf {
        self.shared.config.dir.join(MAKING)
    }

    /// Met before anything was written that counts: waits, and heals.
    fn no_room(&mut self, error: &io::Error) {
        let was_making = self.making.take().is_some();
        let removed = self.shared.fs.remove(&self.making_path());
        if was_making && let Err(error) = removed {
            tracing::warn!(%error, "a segment that was begun can't be removed");
        }
        self.retry_at = Some(Instant::now() + self.retry_after);
        let free = self.shared.fs.free_bytes(&self.shared.config.dir).unwrap_or(0);
        let mut state = self.shared.lock();
        if state.no_room.is_none() {
            tracing::error!(
                %error,
                free_bytes = free,
                needed_bytes = self.shared.config.segment_bytes + LEFT_BYTES,
                dir = %self.shared.config.dir.display(),
                "the disk has no room for the spool: publishers are held back until it has"
            );
        }
        state.no_room = Some(error.to_string());
        self.shared.tell(&state);
    }
}

/// Whether the disk has room for a file of `size`, and for the others beside it.
pub(super) fn has_room(fs: &dyn Fs, dir: &Path, size: u64) -> io::Result<bool> {
    Ok(fs.free_bytes(dir)? >= size.saturating_add(LEFT_BYTES))
}

/// Of the disk, or of a quota.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
