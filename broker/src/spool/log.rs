//! The node's log, wherever it stands: the same for all who use it.

use std::sync::Arc;

use super::memory::MemoryLog;
use super::{LogError, LogReader, LogStatus, Pressure, Spool};

/// The log from outside: makes readers and says how it stands. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Log {
    /// In memory.
    Memory(MemoryLog),
    /// On disk.
    Disk(Spool),
}

impl Log {
    /// The epoch of what is appended in this run.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Memory(log) => log.epoch(),
            Self::Disk(log) => log.epoch(),
        }
    }

    /// The reader of the consumer `name`, where its last run stood; without one at the oldest chunk. What it has not
    /// committed and saved is kept for it.
    pub fn reader(&self, name: &str) -> Result<Box<dyn LogReader>, LogError> {
        match self {
            Self::Memory(log) => Ok(Box::new(log.reader())),
            Self::Disk(log) => Ok(Box::new(log.reader(name)?)),
        }
    }

    /// A reader for a consumer that itself keeps how far it is: it needs nothing below `sequence`, and what it commits
    /// is released at once. When the log does not reach up to `sequence`, or no longer down to it, the reader begins
    /// elsewhere: see [`LogReader::begin`].
    pub fn reader_at(&self, sequence: u64) -> Result<Box<dyn LogReader>, LogError> {
        match self {
            Self::Memory(log) => Ok(Box::new(log.reader_at(sequence))),
            Self::Disk(log) => Ok(Box::new(log.reader_at(sequence)?)),
        }
    }

    /// How it stands.
    pub fn status(&self) -> LogStatus {
        match self {
            Self::Memory(log) => log.status(),
            Self::Disk(log) => log.status(),
        }
    }

    /// How full it is, for the workers.
    pub fn pressure(&self) -> Arc<Pressure> {
        match self {
            Self::Memory(log) => log.pressure(),
            Self::Disk(log) => log.pressure(),
        }
    }

    /// Nothing is appended any more; readers get what is left, then [`LogError::Closed`].
    pub fn close(&self) {
        match self {
            Self::Memory(log) => log.close(),
            Self::Disk(log) => log.close(),
        }
    }
}
