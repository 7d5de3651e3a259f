//! Opening a spool: the lock, the recovery, and what it asks for: the new segment with what had to be copied.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::begin::{begin, ready};
use super::cursor::{self, CursorFile, Found};
use super::fs::{Fs, Lock, Mode};
use super::reader::SpoolReader;
use super::recovery::{Plan, Recovery, Survey, survey};
use super::segment;
use super::shared::{Hold, Segment, Shared, State, now_ms};
use super::upkeep::{MAKING, TICK, Upkeep};
use super::writer::{Keeper, SpoolWriter, Target};
use super::{LogError, LogStatus, Pressure, SpoolConfig};

/// Why a spool can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is locked by another process: end it, or give this one another folder", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of another version of the format.
    #[error("{} has version {version} of the format, which this program can't read: use the program that wrote it, or empty the spool with it first", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The file system refuses.
    #[error("{}: {error}: look at the disk, its free room and the folder's owner", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The thread beside the writer can't be started.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// Opens the spool in `config.dir`, or makes one. What was acknowledged is durable and can be read when this returns.
/// The epoch of this run is greater than that of any before, at least `epoch_floor`, and at least the time.
pub fn open(
    config: &SpoolConfig,
    epoch_floor: u64,
    fs: Arc<dyn Fs>,
) -> Result<(SpoolWriter, Spool, Recovery), OpenError> {
    let opened = prepare(config, epoch_floor, fs)?;
    let upkeep = Upkeep::new(Arc::clone(&opened.shared), TICK);
    let thread = std::thread::Builder::new()
        .name("spool-upkeep".to_owned())
        .spawn(move || upkeep.run_to_its_end())
        .map_err(OpenError::Thread)?;
    Ok(opened.finish(Keeper::Thread(Some(thread))))
}

/// As [`open`], without a thread: for tests that must run the same each time.
#[cfg(test)]
pub(super) fn open_inline(
    config: &SpoolConfig,
    epoch_floor: u64,
    fs: Arc<dyn Fs>,
) -> Result<(SpoolWriter, Spool, Recovery), OpenError> {
    let opened = prepare(config, epoch_floor, fs)?;
    let upkeep = Upkeep::new(Arc::clone(&opened.shared), std::time::Duration::ZERO);
    Ok(opened.finish(Keeper::Inline(upkeep)))
}

struct Opened {
    shared: Arc<Shared>,
    target: Target,
    offset: u64,
    recovery: Recovery,
}

impl Opened {
    fn finish(self, keeper: Keeper) -> (SpoolWriter, Spool, Recovery) {
        let shared = self.shared;
        let next = self.recovery.next_sequence;
        let writer = SpoolWriter::new(Arc::clone(&shared), self.target, self.offset, next, keeper);
        (writer, Spool { shared }, self.recovery)
    }
}

fn prepare(config: &SpoolConfig, epoch_floor: u64, fs: Arc<dyn Fs>) -> Result<Opened, OpenError> {
    let dir = &config.dir;
    fs.create_dir(dir).map_err(OpenError::io(dir))?;
    let path = dir.join("lock");
    let lock = fs.lock(&path).map_err(OpenError::io(&path))?;
    let lock = lock.ok_or(OpenError::Locked { path })?;
    let survey = survey(dir, &*fs)?;
    let mut plan = survey.plan(dir, &*fs)?;
    let epoch = now_ms().max(plan.last_epoch + 1).max(epoch_floor);
    tidy(config, &*fs, &survey)?;
    let (target, offset, segment) = begin(config, &*fs, &survey, &plan, epoch)?;
    clean(config, &*fs, &survey, &plan)?;
    cut(config, &*fs, &mut plan)?;
    save_cursors(config, &*fs, &survey)?;
    let recovery = Recovery {
        epoch,
        next_sequence: plan.next_sequence,
        segments: plan.segments.len(),
        copied_groups: plan.copies.len(),
        torn: plan.torn,
        damage: plan.damage.clone(),
        cursors: survey
            .cursors
            .iter()
            .map(|(n, c)| (n.clone(), c.sequence))
            .collect(),
        lost_cursors: survey.lost_cursors.clone(),
    };
    report(config, &survey, &recovery);
    let shared = share(config, fs, lock, survey, plan, epoch, segment);
    for damage in &recovery.damage {
        super::disk::Index::damaged(&shared, *damage, &mut |offset, len| {
            bytes_of(&shared, damage.segment, offset, len).unwrap_or_default()
        });
    }
    Ok(Opened {
        shared: Arc::new(shared),
        target,
        offset,
        recovery,
    })
}

fn bytes_of(shared: &Shared, number: u64, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let file = shared.fs.open(&shared.path(number), Mode::Read)?;
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Removes what holds nothing: it takes room that the new segment may need.
fn tidy(config: &SpoolConfig, fs: &dyn Fs, survey: &Survey) -> Result<(), OpenError> {
    let dir = &config.dir;
    let ready = ready(config, survey);
    let unused = survey.unused.iter().map(|(number, _)| *number);
    let unused = unused.filter(|number| Some(*number) != ready);
    let done = || {
        for number in unused {
            fs.remove(&segment::path(dir, number))?;
        }
        match fs.remove(&dir.join(MAKING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    done().map_err(OpenError::io(dir))
}

/// Puts away what no longer counts: now that the new segment is durable, nothing is lost by it.
fn clean(config: &SpoolConfig, fs: &dyn Fs, survey: &Survey, plan: &Plan) -> Result<(), OpenError> {
    let dir = &config.dir;
    let done = || {
        for number in &plan.empty {
            fs.remove(&segment::path(dir, *number))?;
        }
        for (number, _) in &survey.headless {
            let path = segment::path(dir, *number);
            tracing::error!(file = %path.display(), "a segment has lost its header: it is set aside");
            fs.rename(&path, &dir.join(format!("damage-{number:020}.seg")))?;
        }
        fs.sync_dir(dir)
    };
    done().map_err(OpenError::io(dir))
}

/// Gives back the room behind the end of the last run's segment, unless little of it is left.
fn cut(config: &SpoolConfig, fs: &dyn Fs, plan: &mut Plan) -> Result<(), OpenError> {
    let Some(last) = plan.segments.last_mut() else {
        return Ok(());
    };
    if !last.is_to_be_cut() {
        return Ok(());
    }
    let path = segment::path(&config.dir, last.number);
    let done = || {
        let file = fs.open(&path, Mode::Write)?;
        file.truncate(last.used)?;
        file.sync()
    };
    done().map_err(OpenError::io(&path))?;
    (last.size, last.filled) = (last.used, last.used);
    Ok(())
}

/// Writes each cursor again: the last save of the run before may stand in the page cache only, and what is below a
/// cursor is released.
fn save_cursors(config: &SpoolConfig, fs: &dyn Fs, survey: &Survey) -> Result<(), OpenError> {
    // One that was never saved stays so: its consumer begins with the oldest record.
    for (name, cursor) in survey.cursors.iter().filter(|(_, cursor)| cursor.counter > 0) {
        let saved = || {
            let (mut file, _) = CursorFile::open(fs, &config.dir, name)?;
            file.save(cursor.epoch, cursor.sequence, &cursor.state)
        };
        saved().map_err(OpenError::io(&cursor::path(&config.dir, name)))?;
    }
    Ok(())
}

fn share(
    config: &SpoolConfig,
    fs: Arc<dyn Fs>,
    lock: Box<dyn Lock>,
    survey: Survey,
    plan: Plan,
    epoch: u64,
    segment: Segment,
) -> Shared {
    let mut state = State {
        durable: plan.next_sequence,
        ..State::default()
    };
    let first = segment.first;
    // What a segment has from the next one's beginning on is of no account; one that has nothing else is done with.
    let mut segments: VecDeque<Segment> = plan.segments.into();
    while let Some(last) = segments.back()
        && last.first >= first
        && let Some(last) = segments.pop_back()
    {
        state.released.push_back(last);
    }
    segments.push_back(segment);
    state.segments = segments;
    for (name, cursor) in survey.cursors {
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.push(Hold {
            id,
            name: Some(name),
            saved: cursor.sequence,
            next: None,
            unread: true,
        });
    }
    for name in survey.lost_cursors {
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.push(Hold {
            id,
            name: Some(name),
            saved: 0,
            next: None,
            unread: true,
        });
    }
    Shared::new(config.clone(), fs, epoch, lock, state)
}

fn report(config: &SpoolConfig, survey: &Survey, recovery: &Recovery) {
    tracing::info!(
        dir = %config.dir.display(),
        epoch = recovery.epoch,
        next_sequence = recovery.next_sequence,
        segments = recovery.segments,
        copied_groups = recovery.copied_groups,
        torn = recovery.torn,
        "the spool is open"
    );
    for name in &recovery.lost_cursors {
        tracing::error!(
            file = %cursor::path(&config.dir, name).display(),
            "a cursor can't be read: its consumer gets all that is in the log again"
        );
    }
    for (name, cursor) in &survey.cursors {
        if recovery
            .damage
            .iter()
            .any(|damage| damage.first < damage.end && damage.end == cursor.sequence && damage.bytes == 0)
            && cursor.sequence == recovery.next_sequence
        {
            tracing::error!(
                file = %cursor::path(&config.dir, name).display(),
                sequence = cursor.sequence,
                "a cursor stands beyond the end of the log: records that were durable are gone, the log goes on at the cursor"
            );
        }
    }
}

/// The spool from outside: makes readers and says how it stands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

impl Spool {
    /// The epoch of what is appended in this run.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The reader of the consumer `name`, at its cursor in the file `cursor-NAME`; a new one begins with the oldest
    /// chunk that is there. What it has not saved as done is kept, in later runs too.
    pub fn reader(&self, name: &str) -> Result<SpoolReader, LogError> {
        if !cursor::is_name(name) {
            return Err(LogError::Io(format!("\"{name}\" can't be the name of a cursor")));
        }
        let shared = &self.shared;
        let path = cursor::path(&shared.config.dir, name);
        let failed = |error: io::Error| LogError::Io(format!("{}: {error}", path.display()));
        let (file, found) = CursorFile::open(&*shared.fs, &shared.config.dir, name).map_err(failed)?;
        let mut state = shared.lock();
        let oldest = state.oldest();
        let (begin, saved) = match found {
            Found::Good(cursor) => (cursor.sequence.clamp(oldest, state.durable), cursor.state),
            Found::Version(version) => {
                return Err(LogError::Io(format!("{} has version {version}", path.display())));
            }
            _ => (oldest, Vec::new()),
        };
        let known = state
            .holds
            .iter()
            .position(|hold| hold.name.as_deref() == Some(name));
        let id = match known.and_then(|at| state.holds.get_mut(at)) {
            Some(hold) if hold.next.is_some() => {
                return Err(LogError::Io(format!("{} has a reader already", path.display())));
            }
            Some(hold) => {
                (hold.saved, hold.next, hold.unread) = (begin, Some(begin), false);
                hold.id
            }
            None => hold(&mut state, Some(name), begin),
        };
        drop(state);
        Ok(SpoolReader::new(Arc::clone(shared), id, begin, Some(file), saved))
    }

    /// A reader for a consumer that itself keeps how far it is: it needs nothing below `sequence`, and what it commits
    /// is released at once. Where the log does not reach that far up or down the reader begins at the log's end or at
    /// its oldest chunk, and says so by [`super::LogReader::begin`].
    pub fn reader_at(&self, sequence: u64) -> Result<SpoolReader, LogError> {
        let mut state = self.shared.lock();
        let begin = sequence.clamp(state.oldest(), state.durable);
        if begin < sequence {
            tracing::error!(
                sequence,
                end = state.durable,
                "a consumer stands beyond the end of the log: records that were durable are gone"
            );
        }
        let id = hold(&mut state, None, begin);
        drop(state);
        let shared = Arc::clone(&self.shared);
        Ok(SpoolReader::new(shared, id, begin, None, Vec::new()))
    }

    /// How it stands.
    pub fn status(&self) -> LogStatus {
        self.shared.status()
    }

    /// How full it is, for the workers.
    pub fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.shared.pressure)
    }

    /// What was found to be damaged since it was opened.
    pub fn damage(&self) -> Vec<super::Damage> {
        self.shared.damages.all()
    }

    /// Consumers of earlier runs that hold back what they have not done with, though nobody has read for them in this
    /// run: name, and records that wait.
    pub fn unread(&self) -> Vec<(String, u64)> {
        self.shared.unread()
    }

    /// Nothing is appended any more; readers get what is left, then [`LogError::Closed`].
    pub fn close(&self) {
        self.shared.close();
    }
}

fn hold(state: &mut State, name: Option<&str>, begin: u64) -> u64 {
    let id = state.next_hold;
    state.next_hold += 1;
    state.holds.push(Hold {
        id,
        name: name.map(str::to_owned),
        saved: begin,
        next: Some(begin),
        unread: false,
    });
    id
}
