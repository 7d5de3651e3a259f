//! What is found when a spool is opened: which segments count, where the log ends, what has to be copied, what is lost.
//! Nothing is written here; [`super::open`] does what this says.

use std::io;
use std::path::Path;

use super::Position;
use super::cursor::{self, Cursor, Found};
use super::damage::Damage;
use super::fs::{Fs, Mode};
use super::group::{BLOCK_BYTES, Group, GroupHeader};
use super::open::OpenError;
use super::segment::{self, DATA_START, Head, SegmentHeader, Walk};
use super::shared::{Mark, Segment};
use super::table::{Facts, Frame, Verdict, decide};

/// How a spool was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The epoch of this run.
    pub epoch: u64,
    /// Sequence of the next record.
    pub next_sequence: u64,
    /// Segments that hold something.
    pub segments: usize,
    /// Groups that might have stood in the page cache only, and were written again.
    pub copied_groups: usize,
    /// The log ended in a write that was cut short.
    pub torn: bool,
    /// What is lost though it was durable. What stands in older segments is found when it is read.
    pub damage: Vec<Damage>,
    /// Each consumer's cursor.
    pub cursors: Vec<(String, u64)>,
    /// Cursors that could not be read: their consumers begin with the oldest record.
    pub lost_cursors: Vec<String>,
}

/// A segment as it was found.
#[derive(Debug)]
pub(super) struct Known {
    pub header: SegmentHeader,
    pub size: u64,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Those with a good header, by number.
    pub known: Vec<Known>,
    /// Number and size of those without, above all others: made ahead, never used.
    pub unused: Vec<(u64, u64)>,
    /// Those without a good header that may hold something: among the others, or with groups of their own.
    pub headless: Vec<(u64, u64)>,
    /// Of these, the ones above all others that were in use for certain: a group stands behind another one. One group
    /// alone is what a power cut leaves of the first write to a segment.
    pub lost: Vec<u64>,
    pub cursors: Vec<(String, Cursor)>,
    pub lost_cursors: Vec<String>,
}

/// A group that stands in a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub offset: u64,
    pub end_offset: u64,
    pub first: u64,
    pub end: u64,
    /// Epoch of its records, and of the run that wrote it here.
    pub position_epoch: u64,
    pub epoch: u64,
    pub durable_before: u64,
    pub written_ms: u64,
}

impl Spot {
    pub fn position(&self) -> Position {
        Position {
            epoch: self.position_epoch,
            sequence: self.first,
        }
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub segments: Vec<Segment>,
    /// Where the last good group of the last of them ends; what is copied stands below.
    pub last_end: u64,
    /// Segments with nothing that counts: removed once the new one is durable.
    pub empty: Vec<u64>,
    /// What is written again to the new segment.
    pub copies: Vec<Group>,
    pub next_sequence: u64,
    pub last_epoch: u64,
    pub torn: bool,
    pub damage: Vec<Damage>,
}

/// Looks at all that is in the folder.
pub(super) fn survey(dir: &Path, fs: &dyn Fs) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    let mut heads = Vec::new();
    for (name, size) in fs.list(dir).map_err(OpenError::io(dir))? {
        let path = dir.join(&name);
        if let Some(number) = segment::number(&name) {
            // A broker that runs on it may have used it again under another name.
            let Some(file) = there(fs.open(&path, Mode::Read)).map_err(OpenError::io(&path))? else {
                continue;
            };
            let head = SegmentHeader::read(&*file, number).map_err(OpenError::io(&path))?;
            if let Head::Version(version) = head {
                return Err(OpenError::Version { path, version });
            }
            heads.push((number, size, head));
        } else if let Some(consumer) = cursor::consumer(&name) {
            let file = fs.open(&path, Mode::Read).map_err(OpenError::io(&path))?;
            match cursor::read(&*file).map_err(OpenError::io(&path))? {
                Found::Good(cursor) => survey.cursors.push((consumer.to_owned(), cursor)),
                Found::Empty => survey.cursors.push((consumer.to_owned(), Cursor::default())),
                Found::Damaged => survey.lost_cursors.push(consumer.to_owned()),
                Found::Version(version) => return Err(OpenError::Version { path, version }),
            }
        }
    }
    heads.sort_by_key(|(number, ..)| *number);
    let last = heads.iter().rposition(|(.., head)| *head != Head::Nothing);
    for (at, (number, size, head)) in heads.into_iter().enumerate() {
        match head {
            Head::Header(header) => survey.known.push(Known { header, size }),
            _ if last.is_some_and(|last| at < last) => survey.headless.push((number, size)),
            _ => {
                let path = segment::path(dir, number);
                let Some(file) = there(fs.open(&path, Mode::Read)).map_err(OpenError::io(&path))? else {
                    continue;
                };
                match segment::own_groups(file, number).map_err(OpenError::io(&path))? {
                    0 => survey.unused.push((number, size)),
                    groups => {
                        survey.headless.push((number, size));
                        survey.lost.extend((groups > 1).then_some(number));
                    }
                }
            }
        }
    }
    Ok(survey)
}

fn there<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

impl Survey {
    /// The highest cursor, 0 without one.
    pub fn greatest_cursor(&self) -> u64 {
        self.cursors.iter().map(|(_, c)| c.sequence).max().unwrap_or(0)
    }

    /// Decides what becomes of each place. Only the last segment that holds groups is read; in those before it the
    /// header of the next one is the claim that all is durable, and they are checked when they are read.
    pub fn plan(&self, dir: &Path, fs: &dyn Fs) -> Result<Plan, OpenError> {
        let mut plan = Plan::default();
        let cursor = self.greatest_cursor();
        let epochs = self.known.iter().map(|known| known.header.epoch);
        let epochs = epochs.chain(self.cursors.iter().map(|(_, cursor)| cursor.epoch));
        plan.last_epoch = epochs.max().unwrap_or(0);
        let mut top = self.known.len();
        let mut claim = 0; // what the headers of the segments above say
        let mut due = 0;
        while let Some(known) = top.checked_sub(1).and_then(|at| self.known.get(at)) {
            let path = segment::path(dir, known.header.number);
            let (mut walk, spots) = scan(&path, known, fs).map_err(OpenError::io(&path))?;
            due = known.header.first;
            if spots.is_empty() {
                // Nothing in it: its copy was not finished. What was to be copied stands in the one before.
                claim = claim.max(known.header.first);
                plan.empty.push(known.header.number);
                top -= 1;
                continue;
            }
            due = plan
                .judge(&mut walk, known, &spots, claim, cursor)
                .map_err(OpenError::io(&path))?;
            break;
        }
        let claimed = claim.max(cursor);
        plan.next_sequence = due.max(claimed);
        if due < claimed {
            plan.lost_end(due, claimed);
        }
        let below = self.known.iter().take(top.saturating_sub(1));
        let mut segments: Vec<Segment> = below.map(unread).collect();
        segments.append(&mut plan.segments);
        plan.segments = segments;
        plan.lost_segments(self);
        Ok(plan)
    }
}

impl Plan {
    /// Bytes that the files take which stay.
    pub fn file_bytes(&self) -> u64 {
        let sizes = self.segments.iter().map(|segment| segment.size);
        let last = self.segments.last().filter(|last| last.is_to_be_cut());
        sizes.sum::<u64>() - last.map_or(0, |last| last.size - last.used)
    }

    /// Goes through the last segment that holds something. Returns the sequence that is due at its end.
    fn judge(
        &mut self,
        walk: &mut Walk,
        known: &Known,
        spots: &[Spot],
        claim: u64,
        cursor: u64,
    ) -> io::Result<u64> {
        let mut segment = unread(known);
        segment.used = DATA_START;
        let mut due = known.header.first;
        for (at, spot) in spots.iter().enumerate() {
            self.last_epoch = self.last_epoch.max(spot.epoch);
            let later = spots.iter().skip(at + 1);
            let later = later.map(|later| later.durable_before).max().unwrap_or(0);
            let facts = |frame, sequence| Facts {
                frame,
                later_group: later > sequence,
                later_segment: claim > sequence,
                cursor: cursor > sequence,
            };
            if spot.first > due {
                let mut missing = facts(Frame::Bad, due);
                missing.later_group |= spot.durable_before > due;
                if decide(missing) == Verdict::Cut {
                    break;
                }
                self.damage.push(Damage {
                    segment: known.header.number,
                    offset: segment.used,
                    bytes: spot.offset - segment.used,
                    first: due,
                    end: spot.first,
                });
            }
            match decide(facts(Frame::Good, spot.first)) {
                Verdict::Copy => self.copies.extend(walk.group_at(spot.offset)?),
                _ => {
                    segment.used = spot.end_offset;
                    segment.mark(Mark {
                        sequence: spot.first,
                        offset: spot.offset,
                        written_ms: spot.written_ms,
                    });
                }
            }
            due = due.max(spot.end);
        }
        let last = spots.last().map_or(DATA_START, |spot| spot.end_offset);
        let rest = walk.bytes(last, BLOCK_BYTES)?;
        self.last_end = last;
        self.torn = GroupHeader::peek(rest, known.header.number).is_some();
        self.segments.push(segment);
        Ok(due)
    }

    /// Segments are gone: at the beginning, though a cursor stands below; or at the end, where nobody knows how much.
    fn lost_segments(&mut self, survey: &Survey) {
        // A cursor that was never saved needs nothing.
        let saved = survey.cursors.iter().filter(|(_, cursor)| cursor.counter > 0);
        let lowest = saved.map(|(_, cursor)| cursor.sequence).min();
        if let (Some(lowest), Some(oldest)) = (lowest, self.segments.first())
            && lowest < oldest.first
        {
            self.damage.push(Damage {
                segment: oldest.number,
                offset: DATA_START,
                bytes: 0,
                first: lowest,
                end: oldest.first,
            });
        }
        for number in &survey.lost {
            self.damage.push(Damage {
                segment: *number,
                offset: DATA_START,
                bytes: 0,
                first: self.next_sequence,
                end: self.next_sequence,
            });
        }
    }

    /// The end of the log is gone.
    fn lost_end(&mut self, due: u64, claimed: u64) {
        let last = self.segments.last();
        self.damage.push(Damage {
            segment: last.map_or(0, |segment| segment.number),
            offset: last.map_or(0, |segment| segment.used),
            bytes: 0,
            first: due,
            end: claimed,
        });
    }
}

/// A segment that is not read before somebody needs it.
fn unread(known: &Known) -> Segment {
    Segment {
        number: known.header.number,
        first: known.header.first,
        salt: known.header.salt,
        size: known.size,
        filled: known.size,
        used: known.size,
        marks: vec![Mark {
            sequence: known.header.first,
            offset: DATA_START,
            written_ms: known.header.written_ms,
        }],
    }
}

/// All good groups of a segment that can be of the log, by place.
pub(super) fn scan(path: &Path, known: &Known, fs: &dyn Fs) -> io::Result<(Walk, Vec<Spot>)> {
    let mut walk = Walk::whole(fs.open(path, Mode::Read)?, &known.header)?;
    let mut spots = Vec::new();
    let mut at = DATA_START;
    let mut due = known.header.first;
    while let Some((offset, group)) = walk.next_from(at, u64::MAX)? {
        let header = group.header;
        at = offset + header.size();
        if header.first.sequence < due {
            continue;
        }
        due = header.end();
        spots.push(Spot {
            offset,
            end_offset: at,
            first: header.first.sequence,
            end: header.end(),
            position_epoch: header.first.epoch,
            epoch: header.epoch,
            durable_before: header.durable_before,
            written_ms: header.written_ms,
        });
    }
    Ok((walk, spots))
}
