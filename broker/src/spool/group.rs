//! A group: what one write and one fdatasync made durable. Its place in the file is on a block of 4 KiB.

use bytes::Bytes;

use super::fields::{Fields, Magic, magic, put_crc};
use super::{Entry, Position};
use crate::bus::Chunk;

/// Groups begin on multiples of this: a sector that was acknowledged is never written again.
pub const BLOCK_BYTES: u64 = 4096;

/// Bytes of a group before its chunks.
pub const GROUP_HEADER_BYTES: usize = 80;

const MAGIC: &[u8; 8] = b"FBGROUP\x01";

/// What stands before a group's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Number of the segment that it was written to.
    pub segment: u64,
    /// Epoch of the run that wrote it; another one than that of its records when recovery copied it.
    pub epoch: u64,
    /// Position of its first record.
    pub first: Position,
    /// When it was written, all below this sequence was durable.
    pub durable_before: u64,
    /// When it was written, milliseconds since 1970.
    pub written_ms: u64,
    /// Chunks in it.
    pub chunks: u32,
    /// Records in it.
    pub records: u32,
    /// Bytes of its chunks.
    pub payload_bytes: u32,
}

/// A group that was read and checked.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its header.
    pub header: GroupHeader,
    /// Its chunks.
    pub chunks: Vec<Chunk>,
}

/// Bytes that a group of `payload` bytes takes in its file.
pub fn group_bytes(payload: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64 + payload).next_multiple_of(BLOCK_BYTES)
}

impl GroupHeader {
    /// The sequence after its last record.
    pub fn end(&self) -> u64 {
        self.first.sequence.saturating_add(u64::from(self.records))
    }

    /// Bytes that it takes in its file.
    pub fn size(&self) -> u64 {
        group_bytes(u64::from(self.payload_bytes))
    }

    /// Reads the fields without the check of the CRC; `None` when these bytes can't begin a group of `segment`.
    pub fn peek(bytes: &[u8], segment: u64) -> Option<Self> {
        if magic(bytes, MAGIC) != Magic::Ours {
            return None;
        }
        let mut fields = Fields(bytes.get(12..GROUP_HEADER_BYTES)?);
        let payload_bytes = fields.u32()?;
        let header = Self {
            payload_bytes,
            segment: fields.u64()?,
            epoch: fields.u64()?,
            first: Position {
                epoch: fields.u64()?,
                sequence: fields.u64()?,
            },
            durable_before: fields.u64()?,
            written_ms: fields.u64()?,
            chunks: fields.u32()?,
            records: fields.u32()?,
        };
        (header.segment == segment).then_some(header)
    }

    /// Appends the group to `out`, filled up with zeros to a whole block. Its numbers of chunks, records and bytes are
    /// counted here.
    pub fn write(self, salt: u64, chunks: &[Chunk], out: &mut Vec<u8>) {
        let at = out.len();
        self.write_head(salt, chunks, out);
        for chunk in chunks {
            out.extend_from_slice(chunk.as_bytes());
        }
        out.resize(
            at + group_bytes((out.len() - at - GROUP_HEADER_BYTES) as u64) as usize,
            0,
        );
    }

    /// Appends what stands before the chunks alone: the chunks themselves follow, and zeros up to a whole block.
    pub fn write_head(mut self, salt: u64, chunks: &[Chunk], out: &mut Vec<u8>) {
        let payload: usize = chunks.iter().map(|chunk| chunk.as_bytes().len()).sum();
        self.payload_bytes = payload as u32;
        self.chunks = chunks.len() as u32;
        self.records = chunks.iter().map(Chunk::count).sum();
        let at = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        let (first, before) = (self.first, self.durable_before);
        let wide = [self.segment, self.epoch, first.epoch, first.sequence, before];
        for field in wide.into_iter().chain([self.written_ms]) {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.chunks.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let head = checksum(salt, out.get(at + 12..).unwrap_or_default());
        let crc = chunks
            .iter()
            .fold(head, |crc, chunk| crc32c::crc32c_append(crc, chunk.as_bytes()));
        put_crc(out, at, crc);
    }
}

impl Group {
    /// Checks and reads the group at the start of `bytes`, which hold all of it. `None` when it is not one, or not
    /// whole, or of another segment or an earlier life of this one.
    pub fn read(bytes: &[u8], segment: u64, salt: u64) -> Option<Self> {
        let header = GroupHeader::peek(bytes, segment)?;
        let end = GROUP_HEADER_BYTES + header.payload_bytes as usize;
        let crc = Fields(bytes.get(8..)?).u32()?;
        if checksum(salt, bytes.get(12..end)?) != crc {
            return None;
        }
        let mut payload = Bytes::copy_from_slice(bytes.get(GROUP_HEADER_BYTES..end)?);
        let mut chunks = Vec::new();
        let mut records = 0u32;
        while !payload.is_empty() {
            let len = Chunk::framed_len(&payload).filter(|len| *len <= payload.len())?;
            let chunk = Chunk::parse(payload.split_to(len)).ok()?;
            records = records.checked_add(chunk.count())?;
            chunks.push(chunk);
        }
        (records == header.records).then_some(Self { header, chunks })
    }

    /// Its chunks with their positions.
    pub fn entries(self) -> impl Iterator<Item = Entry> {
        let Position { epoch, mut sequence } = self.header.first;
        let durable_ms = self.header.written_ms;
        self.chunks.into_iter().map(move |chunk| {
            let first = Position { epoch, sequence };
            sequence += u64::from(chunk.count());
            Entry {
                first,
                chunk,
                durable_ms,
            }
        })
    }
}

/// The salt is of the segment: what a client sends can't look like a group, nor can what an earlier life left.
fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}
