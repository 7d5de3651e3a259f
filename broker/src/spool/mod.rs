//! The node's log: what the bus delivers is appended here, and every consumer (the sink, later the store) reads it
//! by position. For now the log lives in memory ([`memory`]); the one on disk implements the same [`LogReader`].

pub mod memory;

use std::time::Duration;

use crate::bus::Chunk;

/// Where a record stands in the log of this node: the epoch rises at each start, the sequence counts records in
/// the order in which they were appended, from 0 in each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Rises at each start; at least the seconds since 1970.
    pub epoch: u64,
    /// Number of the record within the epoch.
    pub sequence: u64,
}

/// A chunk as it stands in the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Position of the chunk's first record; the others follow it one by one.
    pub first: Position,
    /// The records.
    pub chunk: Chunk,
}

/// Why the log can't be read any more.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The broker has stopped and everything in the log has been read.
    #[error("the log is closed")]
    Closed,
    /// The position asked for is below what was committed or beyond the end.
    #[error("position {sequence} is not in the log")]
    NotInLog {
        /// The sequence asked for.
        sequence: u64,
    },
}

/// One consumer's way of reading the log. Each consumer has its own cursor; a chunk is released when every consumer
/// has committed past it.
pub trait LogReader: Send {
    /// The next chunk, in order of appending. Waits up to `timeout` for one; `None` when none came.
    fn read(&mut self, timeout: Duration) -> Result<Option<Entry>, LogError>;

    /// Goes back (or on): the next [`LogReader::read`] gives the chunk that holds `sequence`.
    fn seek(&mut self, sequence: u64) -> Result<(), LogError>;

    /// This consumer no longer needs what stands below `sequence`.
    fn commit(&mut self, sequence: u64) -> Result<(), LogError>;
}
