//! A segment: one file of the spool. Its name, its header, and the walk over its groups.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::{Fields, Magic, magic, put_crc};
use super::fs::{File, read_around};
use super::group::{BLOCK_BYTES, Group, GroupHeader};

/// Where the first group stands: after two copies of the header, a block each.
pub const DATA_START: u64 = 2 * BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"FBSEGMT\x01";
const HEADER_BYTES: usize = 64;

/// What stands in a segment before its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The number in the file's name.
    pub number: u64,
    /// Epoch of the run that wrote it.
    pub epoch: u64,
    /// The first record in it has this sequence or a later one; all below was durable when this was written.
    pub first: u64,
    /// Drawn by lot: part of the CRC of each group in it.
    pub salt: u64,
    /// When it was written, milliseconds since 1970.
    pub written_ms: u64,
}

/// What the head of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A segment in use.
    Header(SegmentHeader),
    /// Nothing for this number: made ahead and not used yet, or damaged.
    Nothing,
    /// Written by another version of the program.
    Version(u8),
}

impl SegmentHeader {
    /// Both copies, as they stand at the start of the file.
    pub fn write(&self, out: &mut Vec<u8>) {
        for _ in 0..2 {
            let at = out.len();
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&[0; 8]);
            for field in [self.number, self.epoch, self.first, self.salt, self.written_ms] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.resize(at + HEADER_BYTES, 0);
            let crc = crc32c::crc32c(out.get(at + 12..).unwrap_or_default());
            put_crc(out, at, crc);
            out.resize(at + BLOCK_BYTES as usize, 0);
        }
    }

    /// Reads the header of the segment `number`: the first good copy. What an earlier life of the file left, under
    /// another number, is nothing.
    pub fn read(file: &dyn File, number: u64) -> io::Result<Head> {
        let mut found = Head::Nothing;
        for copy in [0, BLOCK_BYTES] {
            let mut bytes = [0; HEADER_BYTES];
            read_around(file, &mut bytes, copy)?;
            match parse(&bytes) {
                Some(Head::Header(header)) if header.number != number => {}
                Some(header @ Head::Header(_)) => return Ok(header),
                Some(other) => found = other,
                None => {}
            }
        }
        Ok(found)
    }
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let crc = Fields(bytes.get(8..)?).u32()?;
    if crc32c::crc32c(bytes.get(12..)?) != crc {
        return None;
    }
    match magic(bytes, MAGIC) {
        Magic::Ours => {}
        Magic::Version(version) => return Some(Head::Version(version)),
        Magic::Other => return None,
    }
    let mut fields = Fields(bytes.get(16..)?);
    Some(Head::Header(SegmentHeader {
        number: fields.u64()?,
        epoch: fields.u64()?,
        first: fields.u64()?,
        salt: fields.u64()?,
        written_ms: fields.u64()?,
    }))
}

/// The file of segment `number`.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.seg"))
}

/// The number in a segment's file name.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// A look at the groups of one segment, from anywhere in it on.
#[derive(Debug)]
pub struct Walk {
    file: Arc<dyn File>,
    number: u64,
    salt: u64,
    size: u64,
    /// Of the run that wrote the segment, and its first sequence: what says otherwise is no group, whatever its payload.
    written_by: Option<(u64, u64)>,
    /// What was read last: where it begins, and the bytes.
    window: Vec<u8>,
    window_at: u64,
}

/// How far into a file without a header is looked for groups: those of a segment stand from its beginning on.
const LOOK_BYTES: u64 = 1 << 20;

/// How many groups, at most two, that were written to the segment `number` its file seems to hold. Without its header,
/// and so without its salt, they can't be checked.
pub fn own_groups(file: Arc<dyn File>, number: u64) -> io::Result<usize> {
    let mut walk = Walk::new(file, number, 0)?;
    let mut found = 0;
    let mut at = DATA_START;
    while at < LOOK_BYTES.min(walk.size()) && found < 2 {
        let block = walk.bytes(at, BLOCK_BYTES)?;
        found += usize::from(GroupHeader::peek(block, number).is_some());
        at += BLOCK_BYTES;
    }
    Ok(found)
}

/// Read at a time: many small groups, or the beginning of a large one.
const WINDOW_BYTES: u64 = 128 * 1024;

impl Walk {
    /// Looks at the segment `number` of `salt` in `file`.
    pub fn new(file: Arc<dyn File>, number: u64, salt: u64) -> io::Result<Self> {
        Ok(Self {
            size: file.size()?,
            file,
            number,
            salt,
            written_by: None,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// The same for all that stands in it. What a client sends may look like the beginning of a large group again and
    /// again: it is not read for its CRC unless it says of which run it is.
    pub fn whole(file: Arc<dyn File>, header: &SegmentHeader) -> io::Result<Self> {
        let mut walk = Self::new(file, header.number, header.salt)?;
        walk.written_by = Some((header.epoch, header.first));
        Ok(walk)
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The segment's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Forgets what was read: the file has been written to since.
    pub fn forget(&mut self) -> io::Result<()> {
        self.window.clear();
        self.size = self.file.size()?;
        Ok(())
    }

    /// The group at `offset`; `None` when no good one begins there.
    pub fn group_at(&mut self, offset: u64) -> io::Result<Option<Group>> {
        let number = self.number;
        let written_by = self.written_by;
        let head = self.bytes(offset, BLOCK_BYTES)?;
        let Some(header) = GroupHeader::peek(head, number) else {
            return Ok(None);
        };
        let strange = |(epoch, first)| header.epoch != epoch || header.first.sequence < first;
        if offset + header.size() > self.size || written_by.is_some_and(strange) {
            return Ok(None);
        }
        let salt = self.salt;
        Ok(Group::read(self.bytes(offset, header.size())?, number, salt))
    }

    /// The first good group on a block at or after `offset` and below `limit`, with its place.
    pub fn next_from(&mut self, offset: u64, limit: u64) -> io::Result<Option<(u64, Group)>> {
        let mut at = offset.max(DATA_START);
        while at < limit.min(self.size) {
            if let Some(group) = self.group_at(at)? {
                return Ok(Some((at, group)));
            }
            at += BLOCK_BYTES;
        }
        Ok(None)
    }

    /// Up to `len` bytes from `offset`: fewer at the file's end.
    pub fn bytes(&mut self, offset: u64, len: u64) -> io::Result<&[u8]> {
        let end = (offset + len).min(self.size);
        if offset < self.window_at || end > self.window_at + self.window.len() as u64 {
            let want = (end.saturating_sub(offset))
                .max(WINDOW_BYTES)
                .min(self.size.saturating_sub(offset));
            self.window.resize(want as usize, 0);
            let (read, _) = read_around(&*self.file, &mut self.window, offset)?;
            self.window.truncate(read);
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        let to = from + end.saturating_sub(offset) as usize;
        Ok(self
            .window
            .get(from..to.min(self.window.len()))
            .unwrap_or_default())
    }
}
