//! A look at a spool from outside, without its lock: nothing is written, and a broker may be running on it. What it
//! writes meanwhile may be seen in part, as the end of the log; what it releases meanwhile may be missing, which is no
//! damage.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::damage::Damage;
use super::disk::{DiskReader, Index, Place};
use super::fs::{Fs, Mode, RealFs};
use super::open::OpenError;
use super::recovery::{Known, Spot, Survey, scan, survey};
use super::segment::{self, DATA_START, Head, SegmentHeader};
use super::shared::now_ms;
use super::table::{Facts, Frame, Verdict, decide};
use super::{Entry, LogError, Position};

/// What a spool holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its segments, oldest first.
    pub segments: Vec<SegmentView>,
    /// Files that are made ahead, and hold nothing.
    pub spare: usize,
    /// How far each consumer is, by name.
    pub cursors: Vec<CursorView>,
    /// Bytes of all segments and spare files.
    pub file_bytes: u64,
    /// The oldest record that is there; `None` in an empty spool.
    pub oldest: Option<Position>,
    /// The newest record that is there.
    pub newest: Option<Position>,
    /// Sequence of the next record.
    pub next_sequence: u64,
    /// What is lost though it was durable.
    pub damage: Vec<Damage>,
    /// Files that were set aside because they are damaged.
    pub set_aside: Vec<String>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// Its number, which is its file's name.
    pub number: u64,
    /// Epoch of the run that wrote it.
    pub epoch: u64,
    /// Sequence of its first record, and the one after its last.
    pub first: u64,
    /// The sequence after its last record.
    pub end: u64,
    /// Groups in it that are good.
    pub groups: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of its groups.
    pub used_bytes: u64,
    /// When its first and its last group were written, milliseconds since 1970; 0 without one.
    pub written_ms: (u64, u64),
}

/// One consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorView {
    /// Its name.
    pub name: String,
    /// Neither slot of its file is good: it would get everything again.
    pub damaged: bool,
    /// All below is done with.
    pub sequence: u64,
    /// Epoch of the run that saved it.
    pub epoch: u64,
    /// Bytes of state that the consumer keeps beside it.
    pub state_bytes: usize,
    /// Records that wait for it.
    pub backlog_records: u64,
    /// Bytes of the groups that wait for it.
    pub backlog_bytes: u64,
    /// For how long the oldest of them has waited, milliseconds.
    pub backlog_age_ms: u64,
}

/// Reads everything in the spool in `dir` and checks it.
pub fn inspect(dir: &Path) -> Result<Inspection, OpenError> {
    inspect_on(dir, &RealFs)
}

pub(super) fn inspect_on(dir: &Path, fs: &dyn Fs) -> Result<Inspection, OpenError> {
    let survey = survey(dir, fs)?;
    let mut seen = Inspection {
        spare: survey.unused.len(),
        ..Inspection::default()
    };
    let files = survey.unused.iter().chain(&survey.headless);
    seen.file_bytes = files.map(|(_, size)| size).sum();
    let cursor = survey.greatest_cursor();
    let mut all: Vec<Spot> = Vec::new();
    for (at, known) in survey.known.iter().enumerate() {
        let path = segment::path(dir, known.header.number);
        let spots = match scan(&path, known, fs) {
            Ok((_, spots)) => spots,
            // The broker that runs on it was done with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(OpenError::io(&path)(error)),
        };
        if is_gone(dir, &known.header, fs) {
            continue;
        }
        let claim = survey.known.get(at + 1).map(|next| next.header.first);
        seen.add(known, &spots, claim, cursor);
        let counts = |spot: &&Spot| claim.is_none_or(|claim| spot.first < claim);
        all.extend(spots.iter().filter(counts));
    }
    seen.oldest = all.first().map(Spot::position);
    seen.newest = all.last().map(|spot| Position {
        sequence: spot.end.saturating_sub(1),
        ..spot.position()
    });
    seen.next_sequence = all.last().map_or(0, |spot| spot.end).max(cursor);
    seen.add_cursors(&survey, &all);
    let names = fs.list(dir).map_err(OpenError::io(dir))?;
    let aside = names.into_iter().map(|(name, _)| name);
    seen.set_aside = aside.filter(|name| name.starts_with("damage-")).collect();
    seen.set_aside.sort();
    Ok(seen)
}

/// Whether the segment of this header is no longer there: the broker was done with it, and its file has another name or
/// another use.
fn is_gone(dir: &Path, header: &SegmentHeader, fs: &dyn Fs) -> bool {
    let file = fs.open(&segment::path(dir, header.number), Mode::Read);
    match file.and_then(|file| SegmentHeader::read(&*file, header.number)) {
        Ok(Head::Header(now)) => now.salt != header.salt,
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

impl Inspection {
    /// Adds a segment; `claim` is where the next one begins.
    fn add(&mut self, known: &Known, spots: &[Spot], claim: Option<u64>, cursor: u64) {
        let mut due = known.header.first;
        let mut used = DATA_START;
        let mut groups = 0;
        let end = claim.unwrap_or(u64::MAX);
        for spot in spots.iter().filter(|spot| spot.first < end) {
            if spot.first > due {
                self.lost(known, used, spot.offset, due, spot.first);
            }
            (due, used) = (spot.end, spot.end_offset);
            groups += 1;
        }
        let facts = Facts {
            frame: Frame::Empty,
            later_group: false,
            later_segment: claim.is_some_and(|claim| claim > due),
            cursor: claim.is_none() && cursor > due,
        };
        if decide(facts) == Verdict::Damage {
            self.lost(known, used, known.size, due, claim.unwrap_or(cursor));
        }
        self.file_bytes += known.size;
        let times = |spot: Option<&Spot>| spot.map_or(0, |spot| spot.written_ms);
        self.segments.push(SegmentView {
            number: known.header.number,
            epoch: known.header.epoch,
            first: known.header.first,
            end: due,
            groups,
            file_bytes: known.size,
            used_bytes: used - DATA_START,
            written_ms: (times(spots.first()), times(spots.last())),
        });
    }

    fn lost(&mut self, known: &Known, offset: u64, to: u64, first: u64, end: u64) {
        self.damage.push(Damage {
            segment: known.header.number,
            offset,
            bytes: to.saturating_sub(offset),
            first,
            end,
        });
    }

    fn add_cursors(&mut self, survey: &Survey, all: &[Spot]) {
        let good = survey.cursors.iter().map(|(name, cursor)| CursorView {
            name: name.clone(),
            damaged: false,
            sequence: cursor.sequence,
            epoch: cursor.epoch,
            state_bytes: cursor.state.len(),
            backlog_records: 0,
            backlog_bytes: 0,
            backlog_age_ms: 0,
        });
        let lost = survey.lost_cursors.iter().map(|name| CursorView {
            name: name.clone(),
            damaged: true,
            sequence: 0,
            epoch: 0,
            state_bytes: 0,
            backlog_records: 0,
            backlog_bytes: 0,
            backlog_age_ms: 0,
        });
        let mut cursors: Vec<CursorView> = good.chain(lost).collect();
        cursors.sort_by(|a, b| a.name.cmp(&b.name));
        for view in &mut cursors {
            let waiting = all.iter().filter(|spot| spot.end > view.sequence);
            for spot in waiting.clone() {
                view.backlog_records += spot.end - spot.first.max(view.sequence);
                view.backlog_bytes += spot.end_offset - spot.offset;
            }
            let oldest = waiting.map(|spot| spot.written_ms).min();
            view.backlog_age_ms = oldest.map_or(0, |at| now_ms().saturating_sub(at));
        }
        self.cursors = cursors;
    }
}

/// All chunks of the spool in `dir` from `sequence` on, as they stand there now. What is damaged is left out, see
/// [`Entries::damage`].
pub fn open_read_only(dir: &Path, sequence: u64) -> Result<Entries, OpenError> {
    read_only_on(dir, sequence, Arc::new(RealFs))
}

pub(super) fn read_only_on(dir: &Path, sequence: u64, fs: Arc<dyn Fs>) -> Result<Entries, OpenError> {
    let survey = survey(dir, &*fs)?;
    let first = survey.known.first().map_or(0, |known| known.header.first);
    Ok(Entries {
        disk: DiskReader::new(Arc::clone(&fs), dir.to_owned()),
        index: Still {
            fs,
            dir: dir.to_owned(),
            known: survey.known,
            damage: Mutex::default(),
        },
        next: sequence.max(first),
        ready: VecDeque::new(),
        ended: false,
    })
}

/// Chunks of a spool that is only looked at.
#[derive(Debug)]
pub struct Entries {
    disk: DiskReader,
    index: Still,
    next: u64,
    ready: VecDeque<Entry>,
    ended: bool,
}

/// The segments as they were found.
#[derive(Debug)]
struct Still {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    known: Vec<Known>,
    damage: Mutex<Vec<Damage>>,
}

impl Index for Still {
    fn find(&self, sequence: u64) -> Option<Place> {
        let after = self.known.partition_point(|known| known.header.first <= sequence);
        let at = after.saturating_sub(1);
        let header = self.known.get(at)?.header;
        let next = self.known.get(at + 1);
        Some(Place {
            number: header.number,
            salt: header.salt,
            first: header.first,
            offset: DATA_START,
            end: next.map_or(u64::MAX, |next| next.header.first),
            open_end: next.is_none(),
        })
    }

    fn is_gone(&self, number: u64) -> bool {
        let known = self.known.iter().find(|known| known.header.number == number);
        known.is_some_and(|known| is_gone(&self.dir, &known.header, &*self.fs))
    }

    fn damaged(&self, damage: Damage, _bytes: &mut dyn FnMut(u64, u64) -> Vec<u8>) {
        if self.is_gone(damage.segment) {
            return;
        }
        let mut all = self.damage.lock().unwrap_or_else(|e| e.into_inner());
        all.push(damage);
    }
}

impl Entries {
    /// What was left out so far.
    pub fn damage(&self) -> Vec<Damage> {
        let all = self.index.damage.lock().unwrap_or_else(|e| e.into_inner());
        all.clone()
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.ended {
            match self.disk.read(&self.index, &mut self.next) {
                Ok(Some(group)) => {
                    let entries = group.entries();
                    self.ready.extend(entries.filter(|entry| entry.end() > self.next));
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let entry = self.ready.pop_front()?;
        self.next = entry.end();
        Some(Ok(entry))
    }
}
