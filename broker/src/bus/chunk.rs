//! Many publishes in one numbered chunk.

use bytes::Bytes;

use crate::record::{Record, RecordError};

/// A finished chunk: cheap to clone, all clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    bytes: Bytes,
}

impl Chunk {
    /// The worker that filled it.
    pub fn worker(&self) -> u16 {
        0
    }

    /// Its number among that worker's chunks, from 0.
    pub fn number(&self) -> u64 {
        0
    }

    /// Records in it.
    pub fn count(&self) -> u32 {
        0
    }

    /// Header and records as they travel.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its records in the order in which they were accepted.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
        std::iter::empty()
    }
}

/// The chunk that a worker fills.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    bytes: Vec<u8>,
    count: u32,
}
