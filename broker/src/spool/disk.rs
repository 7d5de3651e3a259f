//! Groups read from their files, one after the other over all segments. What is damaged is left out and reported.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::LogError;
use super::damage::Damage;
use super::fs::{Fs, Mode};
use super::group::{BLOCK_BYTES, Group};
use super::segment::{self, Walk};

/// Where a record is to be looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Number and salt of the segment.
    pub number: u64,
    pub salt: u64,
    /// First sequence of the segment; greater than the one asked for when that one is lost.
    pub first: u64,
    /// A group of the segment begins here that is not beyond the record.
    pub offset: u64,
    /// What stands here or above in this segment is of no account.
    pub end: u64,
    /// It is not known whether anything is there.
    pub open_end: bool,
}

/// Knows where records are.
pub(super) trait Index {
    /// The place of `sequence`; `None` beyond the end.
    fn find(&self, sequence: u64) -> Option<Place>;

    /// Whether that segment was released since it was found: what is missing of it is no damage.
    fn is_gone(&self, _number: u64) -> bool {
        false
    }

    /// Told of what is damaged; `bytes` gives what stands at an offset and length of its segment.
    fn damaged(&self, damage: Damage, bytes: &mut dyn FnMut(u64, u64) -> Vec<u8>);
}

/// Reads groups in order.
#[derive(Debug)]
pub(super) struct DiskReader {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    at: Option<At>,
}

#[derive(Debug)]
struct At {
    walk: Walk,
    offset: u64,
    /// The sequence that is due at `offset`.
    due: u64,
}

impl DiskReader {
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Self {
        Self { fs, dir, at: None }
    }

    /// Gives back the file: what comes next is read elsewhere.
    pub fn close(&mut self) {
        self.at = None;
    }

    /// The group that holds `next`; when that is lost `next` goes on behind what is lost. `None` at the end.
    pub fn read(&mut self, index: &dyn Index, next: &mut u64) -> Result<Option<Group>, LogError> {
        while let Some(place) = index.find(*next) {
            match self.step(index, &place, next) {
                Ok(Step::Group(group)) => return Ok(Some(group)),
                Ok(Step::On) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && index.is_gone(place.number) => {
                    if place.open_end {
                        break;
                    }
                    *next = place.end;
                }
                Ok(Step::End) => break,
                Err(error) => return Err(self.error(&place, &error)),
            }
        }
        Ok(None)
    }

    fn step(&mut self, index: &dyn Index, place: &Place, next: &mut u64) -> io::Result<Step> {
        if *next < place.first {
            let lost = damage(place, place.offset, 0, *next, place.first);
            index.damaged(lost, &mut |_, _| Vec::new());
            *next = place.first;
        }
        let at = self.enter(place, *next)?;
        if let Some(group) = at.here()? {
            let (first, end) = (group.header.first.sequence, group.header.end());
            if first < place.end {
                at.offset += group.header.size();
                at.due = end.max(at.due);
                if end <= *next {
                    return Ok(Step::On);
                }
                if first > *next {
                    let lost = damage(place, at.offset, 0, *next, first);
                    index.damaged(lost, &mut |_, _| Vec::new());
                }
                return Ok(Step::Group(group));
            }
        }
        // Something is due here, and no good group of its sequence stands there: look for the next one.
        let from = at.offset;
        let mut look = from + BLOCK_BYTES;
        while let Some((offset, group)) = at.walk.next_from(look, u64::MAX)? {
            let (first, end) = (group.header.first.sequence, group.header.end());
            if end > *next && first < place.end {
                let lost = damage(place, from, offset - from, *next, first);
                index.damaged(lost, &mut |offset, len| {
                    at.walk.bytes(offset, len).unwrap_or_default().to_vec()
                });
                *next = (*next).max(first);
                (at.offset, at.due) = (offset, first);
                return Ok(Step::On);
            }
            look = offset + group.header.size();
        }
        if place.open_end {
            return Ok(Step::End);
        }
        let bytes = at.walk.size().saturating_sub(from);
        let lost = damage(place, from, bytes, *next, place.end);
        index.damaged(lost, &mut |offset, len| {
            at.walk.bytes(offset, len).unwrap_or_default().to_vec()
        });
        *next = place.end;
        self.at = None;
        Ok(Step::On)
    }

    /// Goes to the place, unless it is there already.
    fn enter(&mut self, place: &Place, next: u64) -> io::Result<&mut At> {
        let there = |at: &At| at.walk.number() == place.number && at.due <= next;
        let at = match self.at.take().filter(there) {
            Some(at) => at,
            None => {
                let path = segment::path(&self.dir, place.number);
                let file = self.fs.open(&path, Mode::Read)?;
                At {
                    walk: Walk::new(file, place.number, place.salt)?,
                    offset: place.offset,
                    due: place.first.min(next),
                }
            }
        };
        Ok(self.at.insert(at))
    }

    fn error(&self, place: &Place, error: &io::Error) -> LogError {
        let path = segment::path(&self.dir, place.number);
        LogError::Io(format!("{}: {error}", path.display()))
    }
}

impl At {
    /// The group that stands here. What was read earlier may have been written since.
    fn here(&mut self) -> io::Result<Option<Group>> {
        if let Some(group) = self.walk.group_at(self.offset)? {
            return Ok(Some(group));
        }
        self.walk.forget()?;
        self.walk.group_at(self.offset)
    }
}

enum Step {
    Group(Group),
    On,
    End,
}

fn damage(place: &Place, offset: u64, bytes: u64, first: u64, end: u64) -> Damage {
    Damage {
        segment: place.number,
        offset,
        bytes,
        first,
        end,
    }
}
