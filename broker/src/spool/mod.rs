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

/// Why a chunk can't be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room until readers have committed more.
    #[error("the log is full")]
    Full,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// The one writer of the log: the bus's reader.
pub trait LogWriter: Send {
    /// Appends all records of `chunk`; returns the position of the first. A chunk larger than the whole log is taken
    /// when the log is empty.
    fn append(&self, chunk: &Chunk) -> Result<Position, AppendError>;

    /// Waits up to `timeout` for room for a chunk of `bytes`; true when there is.
    fn wait_room(&self, bytes: usize, timeout: Duration) -> Result<bool, AppendError>;
}

/// How the log stands, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStatus {
    /// Chunks that are kept.
    pub chunks: usize,
    /// Bytes that are kept.
    pub bytes: usize,
    /// Bytes that may be kept.
    pub max_bytes: usize,
    /// Records that are kept.
    pub records: u64,
    /// Sequence that the next record will get: records appended since the start.
    pub next_sequence: u64,
    /// For how long the oldest chunk has been in the log; zero when there is none.
    pub oldest: Duration,
    /// Consumers that read it.
    pub readers: usize,
}
