//! The node's log: what the bus delivers is appended here, and every consumer (the sink, the store) reads it by
//! position. [`memory`] keeps it in memory; the spool keeps it on disk, in one folder. This is the format of that folder,
//! version 1. All numbers are little endian; every CRC is CRC32C.
//!
//! ```text
//! lock                      locked for as long as a process has the spool open
//! NNNNNNNNNNNNNNNNNNNN.seg  a segment; its number rises, by one but for files that went
//! cursor-NAME               how far the consumer NAME is
//! making.tmp                a segment that is being made; removed at a start
//! damage-...                what was damaged, set aside to be looked at; nothing reads it
//!
//! segment   block 0 and 1: its header, twice; from block 2 (byte 8192) on: groups. A block is 4096 bytes.
//!  header   0  8 "FBSEGMT" and version, 1         24  8 epoch of the run that wrote it
//!           8  4 CRC of bytes 12 to 64            32  8 first: all records below are durable, none is in it
//!          12  4 0                                40  8 salt, drawn by lot
//!          16  8 number, as in the file's name    48  8 time of writing, ms since 1970; then zeros
//!
//! group     begins on a block; what one write and one fdatasync made durable
//!           0  8 "FBGROUP" and version, 1         40  8 sequence of its first record
//!           8  4 CRC of the salt, then of byte    48  8 durable before: all records below were durable
//!                12 to the payload's end                when it was written
//!          12  4 bytes of payload                 56  8 time of writing, ms since 1970
//!          16  8 number of its segment            64  4 chunks
//!          24  8 frame epoch: of the run that     68  4 records
//!                wrote it here                    72  8 0
//!          32  8 epoch of its records             80    payload: whole chunks (see [`crate::bus`]); then zeros
//!
//! cursor    two slots of 64 KiB, written in turn; the good one with the higher counter counts
//!           0  8 "FBCURSR" and version, 1         24  8 epoch in which it was saved
//!           8  4 CRC of byte 12 to the state's end 32 8 sequence: all records below are done with
//!          12  4 bytes of state                   40  8 0
//!          16  8 counter                          48    the consumer's state
//! ```
//!
//! - A segment is made ahead by a thread of its own: filled with zeros, synced, given its number, and the folder synced.
//!   So a full disk is met before anything is written that counts. One that no consumer needs is renamed to be the next;
//!   its old header has another number, so it is empty, and its old groups have another salt, so they are none.
//! - A sync writes one group and syncs the file; then all readers see one new end. Segment k is synced before the header
//!   of k + 1 is written. Nothing that was synced is written again.
//! - A record stands in the last segment that holds it: what a segment has at or above the next one's `first` is of no
//!   account, since recovery copied it there.
//! - Recovery reads the headers, and of the last segment that holds groups all of it ([`table`] has its decisions). What
//!   is above the last claim of durability is written again into a new segment and synced; no old segment is appended
//!   to. The new epoch is above all that are found, at least the time, and at least what the caller knows of.
//! - On a disk without room, and at the bound, the new segment holds its header and what is copied, no more; the next
//!   one is made when there is room.
//! - A block that the disk can't read is taken for zeros. A file without headers in which groups of its number stand is
//!   set aside whole.
//! - What is damaged is left out by readers, reported once, and set aside; what stands beside it is delivered. A cursor
//!   beyond the end is damage too: the sequences go on at the cursor, so that none is used twice.
//! - After a failed write or fsync nothing is appended any more; a new start copies what is in doubt and syncs it.

mod begin;
pub mod cursor;
mod damage;
mod disk;
mod fields;
mod forget;
pub mod fs;
mod gather;
pub mod group;
mod inspect;
mod log;
pub mod memory;
mod metrics;
mod open;
mod pressure;
mod reader;
mod recovery;
mod segment;
mod shared;
pub mod table;
mod unread;
mod upkeep;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use crate::bus::Chunk;
pub use damage::Damage;
pub use forget::forget;
pub use inspect::{CursorView, Entries, Inspection, SegmentView, inspect, open_read_only};
pub use log::Log;
pub use open::{OpenError, Spool, open};
pub use pressure::Pressure;
pub use reader::SpoolReader;
pub use recovery::Recovery;
pub use writer::SpoolWriter;

/// What a spool on disk needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Its folder; made when it is not there.
    pub dir: PathBuf,
    /// Bytes on disk, the file made ahead included; at the bound publishers are held back.
    pub max_bytes: u64,
    /// Bytes of one file.
    pub segment_bytes: u64,
    /// Bytes of the newest chunks that are kept in memory too, for readers that keep up.
    pub tail_bytes: usize,
}

impl SpoolConfig {
    /// A spool in `dir` with the default bounds: 10 GiB in files of 64 MiB, of which 32 MiB are in memory too.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 10 << 30,
            segment_bytes: 64 << 20,
            tail_bytes: 32 << 20,
        }
    }
}

/// Where a record stands in the log of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Rises at each start; at least the seconds since 1970. The epoch in which the record was accepted.
    pub epoch: u64,
    /// Number of the record in the log. Goes on over starts, but for a log that was lost: then it may begin anew, under
    /// another epoch.
    pub sequence: u64,
}

/// A chunk as it stands in the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Position of the chunk's first record; the others follow it one by one.
    pub first: Position,
    /// The records.
    pub chunk: Chunk,
    /// When it became durable, milliseconds since 1970; of one that was read from disk: when it was written.
    pub durable_ms: u64,
}

impl Entry {
    /// The sequence after its last record.
    pub fn end(&self) -> u64 {
        self.first.sequence.saturating_add(u64::from(self.chunk.count()))
    }
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
    /// A file of the log or of the cursor can't be read or written.
    #[error("the log can't be read: {0}")]
    Io(String),
}

/// Greatest state that [`LogReader::save`] takes.
pub const CURSOR_STATE_BYTES: usize = 60 * 1024;

/// One consumer's way of reading the log. Each consumer has its own cursor; what all consumers have saved as done is
/// released. Nothing is read that is not durable.
pub trait LogReader: Send {
    /// The next chunk, in order of appending. Waits up to `timeout` for one; `None` when none came. What is damaged on
    /// disk is left out (and counted): the next entry may begin at a later sequence than the last one ended.
    fn read(&mut self, timeout: Duration) -> Result<Option<Entry>, LogError>;

    /// Lets chunks gather: waits for `timeout`, or until one that hurries (see [`Chunk::hurries`]) is to be read, until
    /// much is, or until the log is closed. Costs the writer nothing for each chunk, as a wait in [`LogReader::read`] does.
    fn rest(&mut self, timeout: Duration);

    /// Goes back (or on): the next [`LogReader::read`] gives the chunk that holds `sequence`.
    fn seek(&mut self, sequence: u64) -> Result<(), LogError>;

    /// This consumer no longer needs what stands below `sequence`. Kept in memory until [`LogReader::save`].
    fn commit(&mut self, sequence: u64) -> Result<(), LogError>;

    /// Makes durable what was committed, with `state` (at most [`CURSOR_STATE_BYTES`]) beside it; then it may be
    /// released. Costs an fsync: at most once a second, and on stop.
    fn save(&mut self, state: &[u8]) -> Result<(), LogError>;

    /// The state that was saved last, in this run or the one before; empty when there is none.
    fn state(&self) -> &[u8];

    /// Where this consumer stood when it was opened: the first sequence that [`LogReader::read`] gives.
    fn begin(&self) -> u64;

    /// A second look at the log from `sequence` on, which has no cursor of its own: it holds nothing back, so what
    /// it reads must be above what this consumer has saved.
    fn scan(&self, sequence: u64) -> Result<Box<dyn LogScan>, LogError>;
}

/// A second look at what stands in the log.
pub trait LogScan: Send {
    /// The next chunk; `None` at the end of what is durable now. Does not wait.
    fn read(&mut self) -> Result<Option<Entry>, LogError>;
}

/// Why a chunk can't be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room until readers have committed more, or until the disk has some.
    #[error("the log is full")]
    Full,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A write or fsync failed: what was not synced may be lost, and nothing more is taken.
    #[error("the log can't be written: {0}")]
    Io(String),
}

/// The one writer of the log: the bus's reader. It appends all that waits, then syncs once.
pub trait LogWriter: Send {
    /// Appends all records of `chunk`; returns the position of the first. It is not durable, and no reader sees it,
    /// before [`LogWriter::sync`]. A chunk larger than the whole log is taken when the log is empty.
    fn append(&mut self, chunk: &Chunk) -> Result<Position, AppendError>;

    /// Makes all that was appended durable, in one write and one fdatasync, and shows it to the readers.
    fn sync(&mut self) -> Result<(), AppendError>;

    /// How long after the last sync the next one should come, so that more is written with it: a sync takes at least
    /// 4 KiB of the log, however little there is to write.
    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    /// Waits up to `timeout` for room for a chunk of `bytes`; true when there is.
    fn wait_room(&mut self, bytes: usize, timeout: Duration) -> Result<bool, AppendError>;
}

/// How the log stands, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStatus {
    /// Bytes that are kept.
    pub bytes: u64,
    /// Bytes that may be kept.
    pub max_bytes: u64,
    /// Records that are kept.
    pub records: u64,
    /// Sequence that the next record will get.
    pub next_sequence: u64,
    /// Everything below is durable.
    pub durable_sequence: u64,
    /// For how long the oldest chunk has been in the log; zero when there is none.
    pub oldest: Duration,
    /// Consumers that read it.
    pub readers: usize,
}

#[cfg(test)]
mod tests;
