//! A cursor file: how far one consumer is, in two slots that are written in turn, so that one is always whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CURSOR_STATE_BYTES;
use super::fields::{Fields, Magic, magic, put_crc};
use super::fs::{File, Fs, Mode, read_around, zero_fill};
use super::group::BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"FBCURSR\x01";
const HEADER_BYTES: usize = 48;

/// Bytes of one slot: header and state.
const SLOT_BYTES: u64 = 64 * 1024;

const _: () = assert!(HEADER_BYTES + CURSOR_STATE_BYTES <= SLOT_BYTES as usize);

/// What a cursor file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The epoch in which it was saved.
    pub epoch: u64,
    /// All below is done with.
    pub sequence: u64,
    /// What the consumer keeps beside it.
    pub state: Vec<u8>,
    /// Rises with each save.
    pub counter: u64,
}

/// How a cursor file was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// At least one slot is good.
    Good(Cursor),
    /// Nothing was ever saved in it.
    Empty,
    /// No slot is good, and not for being new.
    Damaged,
    /// Written by another version of the program.
    Version(u8),
}

/// An open cursor file.
#[derive(Debug)]
pub struct CursorFile {
    file: Arc<dyn File>,
    counter: u64,
    buffer: Vec<u8>,
}

/// The file of the consumer `name`.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("cursor-{name}"))
}

/// The consumer of a file's name.
pub fn consumer(file_name: &str) -> Option<&str> {
    file_name.strip_prefix("cursor-").filter(|name| is_name(name))
}

/// Whether a consumer may be called so: letters, digits, `-` and `_`.
pub fn is_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && name.bytes().all(fine)
}

/// Reads both slots and takes the later one that is good.
pub fn read(file: &dyn File) -> io::Result<Found> {
    let mut found = Found::Empty;
    let mut best: Option<Cursor> = None;
    for slot in 0..2 {
        let mut bytes = vec![0; SLOT_BYTES as usize];
        let (len, unreadable) = read_around(file, &mut bytes, slot * SLOT_BYTES)?;
        bytes.truncate(len);
        match parse(&bytes) {
            Ok(Some(cursor)) if best.as_ref().is_none_or(|b| b.counter < cursor.counter) => {
                best = Some(cursor);
            }
            Ok(Some(_)) => {}
            Ok(None) if !unreadable && bytes.iter().all(|byte| *byte == 0) => {}
            Ok(None) if matches!(found, Found::Version(_)) => {}
            Ok(None) => found = Found::Damaged,
            // The other slot counts, if it is good.
            Err(version) => found = Found::Version(version),
        }
    }
    Ok(best.map_or(found, Found::Good))
}

fn parse(bytes: &[u8]) -> Result<Option<Cursor>, u8> {
    let whole = || {
        let crc = Fields(bytes.get(8..)?).u32()?;
        let mut fields = Fields(bytes.get(12..HEADER_BYTES)?);
        let len = fields.u32()? as usize;
        let body = bytes.get(12..HEADER_BYTES + len)?;
        if crc32c::crc32c(body) != crc {
            return None;
        }
        Some(Cursor {
            counter: fields.u64()?,
            epoch: fields.u64()?,
            sequence: fields.u64()?,
            state: bytes.get(HEADER_BYTES..HEADER_BYTES + len)?.to_vec(),
        })
    };
    // A flipped bit is no other version: the CRC first.
    let Some(cursor) = whole() else {
        return Ok(None);
    };
    match magic(bytes, MAGIC) {
        Magic::Ours => Ok(Some(cursor)),
        Magic::Version(version) => Err(version),
        Magic::Other => Ok(None),
    }
}

impl CursorFile {
    /// Opens the file of `name`, or makes it with both slots in place, so that no save ever needs room.
    pub fn open(fs: &dyn Fs, dir: &Path, name: &str) -> io::Result<(Self, Found)> {
        let path = path(dir, name);
        let file = match fs.open(&path, Mode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs.open(&path, Mode::Create)?,
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        if size < 2 * SLOT_BYTES {
            file.reserve(2 * SLOT_BYTES)?;
            zero_fill(&*file, size, 2 * SLOT_BYTES)?;
            file.sync()?;
        }
        fs.sync_dir(dir)?;
        let found = read(&*file)?;
        let counter = match &found {
            Found::Good(cursor) => cursor.counter,
            _ => 0,
        };
        let buffer = Vec::new();
        Ok((
            Self {
                file,
                counter,
                buffer,
            },
            found,
        ))
    }

    /// Writes the slot that is not the current one, and syncs it.
    pub fn save(&mut self, epoch: u64, sequence: u64, state: &[u8]) -> io::Result<()> {
        if state.len() > CURSOR_STATE_BYTES {
            let text = format!("{} bytes of state are more than a cursor holds", state.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let counter = self.counter + 1;
        let out = &mut self.buffer;
        out.clear();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        for field in [counter, epoch, sequence] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(HEADER_BYTES, 0);
        out.extend_from_slice(state);
        let crc = crc32c::crc32c(out.get(12..).unwrap_or_default());
        put_crc(out, 0, crc);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        self.file.write_at(out, (counter % 2) * SLOT_BYTES)?;
        self.file.sync()?;
        self.counter = counter;
        Ok(())
    }
}
