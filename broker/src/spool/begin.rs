//! The segment of a new run: its header and what recovery copies, in a file that was made ahead or in a new one; on a
//! disk without room, and at the bound, in one that holds no more than that.

use std::io;
use std::sync::Arc;

use super::SpoolConfig;
use super::fs::{File, Fs, Mode, zero_fill};
use super::group::GroupHeader;
use super::open::OpenError;
use super::recovery::{Plan, Survey};
use super::segment::{self, DATA_START, SegmentHeader};
use super::shared::{Mark, Segment, now_ms};
use super::upkeep::{FILL_BYTES, MAKING, has_room, is_no_room};
use super::writer::{Target, salt};

/// The segment of this run as it will stand in its file: the header, and what had to be copied.
struct Beginning {
    number: u64,
    salt: u64,
    first: u64,
    buffer: Vec<u8>,
    marks: Vec<Mark>,
}

impl Beginning {
    fn new(number: u64, plan: &Plan, epoch: u64) -> Self {
        let first = plan.copies.first();
        let first = first.map_or(plan.next_sequence, |group| group.header.first.sequence);
        let salt = salt();
        let header = SegmentHeader {
            number,
            epoch,
            first,
            salt,
            written_ms: now_ms(),
        };
        let mut buffer = Vec::new();
        header.write(&mut buffer);
        let mut marks = Vec::new();
        for group in &plan.copies {
            marks.push(Mark {
                sequence: group.header.first.sequence,
                offset: buffer.len() as u64,
                written_ms: group.header.written_ms,
            });
            let header = GroupHeader {
                segment: number,
                epoch,
                durable_before: first,
                ..group.header
            };
            header.write(salt, &group.chunks, &mut buffer);
        }
        Self {
            number,
            salt,
            first,
            buffer,
            marks,
        }
    }

    fn end(&self) -> u64 {
        self.buffer.len() as u64
    }

    fn done(self, file: Arc<dyn File>, size: u64, filled: u64) -> (Target, u64, Segment) {
        let end = self.end();
        let segment = Segment {
            number: self.number,
            first: self.first,
            salt: self.salt,
            size,
            filled,
            used: end,
            marks: self.marks,
        };
        let target = Target {
            number: self.number,
            salt: self.salt,
            size,
            file,
            begun: true,
        };
        (target, end, segment)
    }
}

/// Makes the segment of this run, with what had to be copied in it, and syncs both. At the bound, and on a disk without
/// room, it holds no more than that: the upkeep makes the next one once there is room.
pub(super) fn begin(
    config: &SpoolConfig,
    fs: &dyn Fs,
    survey: &Survey,
    plan: &Plan,
    epoch: u64,
) -> Result<(Target, u64, Segment), OpenError> {
    let ready = ready(config, survey);
    let beginning = Beginning::new(next_number(survey, ready), plan, epoch);
    let path = segment::path(&config.dir, beginning.number);
    let end = beginning.end();
    let size = config.segment_bytes.max(end);
    if ready.is_some() && size == config.segment_bytes {
        let made = || {
            let file = fs.open(&path, Mode::Write)?;
            file.write_at(&beginning.buffer, 0)?;
            file.sync()?;
            fs.sync_dir(&config.dir)?;
            io::Result::Ok(file)
        };
        let file = made().map_err(OpenError::io(&path))?;
        return Ok(beginning.done(file, size, size));
    }
    let in_bound = plan.file_bytes() + size <= config.max_bytes;
    if in_bound && has_room(fs, &config.dir, size).map_err(OpenError::io(&config.dir))? {
        match make(config, fs, &beginning, size) {
            Err(error) if is_no_room(&error) => {}
            made => {
                let (file, filled) = made.map_err(OpenError::io(&path))?;
                return Ok(beginning.done(file, size, filled));
            }
        }
    }
    let made = match make(config, fs, &beginning, end) {
        Err(error) if is_no_room(&error) => {
            shrink(config, fs, plan)?;
            make(config, fs, &beginning, end)
        }
        made => made,
    };
    let (file, filled) = made.map_err(OpenError::io(&path))?;
    Ok(beginning.done(file, end, filled))
}

/// Makes the file under the name that the next start removes, so that a start that fails leaves nothing. A small
/// beginning is filled with zeros here, so that the start is quick; the upkeep does the rest.
fn make(
    config: &SpoolConfig,
    fs: &dyn Fs,
    beginning: &Beginning,
    size: u64,
) -> io::Result<(Arc<dyn File>, u64)> {
    let making = config.dir.join(MAKING);
    let made = || {
        let file = fs.open(&making, Mode::Create)?;
        file.reserve(size)?;
        let end = beginning.end();
        let filled = size.min(end + FILL_BYTES);
        zero_fill(&*file, end, filled)?;
        file.write_at(&beginning.buffer, 0)?;
        file.sync()?;
        fs.rename(&making, &segment::path(&config.dir, beginning.number))?;
        fs.sync_dir(&config.dir)?;
        Ok((file, filled))
    };
    made().inspect_err(|_| {
        let _ = fs.remove(&making); // the error that is returned says more
    })
}

/// On a disk that is full to the last byte: gives back what stands behind the last group that counts, before anything is
/// written. The claims that the headers make stay.
fn shrink(config: &SpoolConfig, fs: &dyn Fs, plan: &Plan) -> Result<(), OpenError> {
    let last = plan.segments.last().map(|last| (last.number, plan.last_end));
    let empty = plan.empty.iter().map(|number| (*number, DATA_START));
    for (number, end) in empty.chain(last) {
        let path = segment::path(&config.dir, number);
        let done = || {
            let file = fs.open(&path, Mode::Write)?;
            if file.size()? > end {
                file.truncate(end)?;
                file.sync()?;
            }
            Ok(())
        };
        done().map_err(OpenError::io(&path))?;
    }
    Ok(())
}

/// One that was made ahead.
pub(super) fn ready(config: &SpoolConfig, survey: &Survey) -> Option<u64> {
    let mut unused = survey.unused.iter();
    let ready = unused.find(|(_, size)| *size == config.segment_bytes);
    ready.map(|(number, _)| *number)
}

/// The one that is ready, or the number after all others.
fn next_number(survey: &Survey, ready: Option<u64>) -> u64 {
    let known = survey.known.iter().map(|known| known.header.number);
    let others = survey.headless.iter().chain(&survey.unused);
    let above = known.chain(others.map(|(number, _)| *number)).max();
    ready.unwrap_or(above.map_or(1, |above| above + 1))
}
