//! Kept sessions with their queues and QoS 2 ids, retained messages and wills: a projection of the log, in a file of its
//! own, so that they survive the process.
//!
//! The log alone says everything: [`projection`] applies its records in their order, [`db`] keeps what comes of it with the
//! position up to which it is applied, and [`thread`] follows the log, behind the acknowledgements and not in their way.
//! At a start the file is loaded and the log read from that position to its end, before a client is let in.

mod db;
pub mod event;
pub mod kept;
mod metrics;
mod projection;
mod rows;
#[cfg(test)]
mod tests;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use event::{StoreEvent, TakeEvents};
pub use kept::{KeptGroup, KeptMessage, KeptSession, Restored, TakenId};
pub use thread::{StoreHandle, StoreStatus};

use crate::config::Limits;
use crate::fatal::FatalFlag;
use crate::spool::{Log, LogError};

/// A store that is loaded and up to the end of the log, before its thread runs.
pub struct StoreBuilder {
    keeper: Box<thread::Keeper>,
}

impl StoreBuilder {
    /// Where workers tell what they did; it waits for the thread.
    pub fn events(&self) -> Arc<dyn TakeEvents> {
        self.keeper.outside.clone()
    }

    /// Starts the thread. It follows `log` until that is closed and read; what ends it before is raised in `fatal`.
    pub fn spawn(self, fatal: FatalFlag) -> Result<StoreHandle, StoreError> {
        thread::spawn(self.keeper, fatal)
    }
}

/// Opens the file at `path`, or makes it, and brings it up to the end of what is durable in `log`. Nothing may be appended
/// to the log before. `now_ms` is the time, milliseconds since 1970, at which the broker's own clock begins.
pub fn open(
    path: &Path,
    limits: &Limits,
    log: &Log,
    now_ms: u64,
) -> Result<(Restored, StoreBuilder), StoreError> {
    thread::open(path, limits, log, now_ms)
}

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{path} is in use by another process: stop that one first")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "{path} has format {found}, this version reads up to {known}: use the version that wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// It can't be made sense of.
    #[error(
        "{path} is damaged ({why}): put back a copy, or move it away to start without the sessions and retained messages in it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It can't be read or written.
    #[error("can't open {path}: {why}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Of the system.
        why: String,
    },
    /// The log can't be read to its end.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its thread can't be started.
    #[error("can't start the store's thread: {0}")]
    Thread(std::io::Error),
}
