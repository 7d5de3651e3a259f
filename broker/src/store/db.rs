//! The store's file: tables of redb, written in whole commits and read once, at the start.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `epoch` and `sequence` up to which the log is applied, `next`, `fingerprint` |
//! | `sessions`, `wills` | session | row |
//! | `subscriptions` | session, filter | row |
//! | `queue` | session, place | row |
//! | `messages` | message | row |
//! | `taken` | session, packet id | row |
//! | `retained` | topic | message |
//!
//! Rows are described in [`super::rows`]. A newer format is refused; there is no older one yet.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, Durability, Error, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::StoreError;
use super::projection::{BadRow, ChangeSet, Loading, Number};
use crate::session::fingerprint;
use crate::spool::Position;

/// The format that is written, and the newest that is read.
const FORMAT: u64 = 1;

/// Memory for pages of the file.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Room on the disk without which no commit is tried again after one that found none.
const ROOM_BYTES: u64 = 16 * 1024 * 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const SESSIONS: TableDefinition<Number, &[u8]> = TableDefinition::new("sessions");
const WILLS: TableDefinition<Number, &[u8]> = TableDefinition::new("wills");
const SUBSCRIPTIONS: TableDefinition<(Number, &str), &[u8]> = TableDefinition::new("subscriptions");
const QUEUE: TableDefinition<(Number, u64), &[u8]> = TableDefinition::new("queue");
const MESSAGES: TableDefinition<u64, &[u8]> = TableDefinition::new("messages");
const TAKEN: TableDefinition<(Number, u16), &[u8]> = TableDefinition::new("taken");
const RETAINED: TableDefinition<&str, u64> = TableDefinition::new("retained");

/// The file.
pub(crate) struct Db {
    path: PathBuf,
    /// `None` after a commit failed: it is opened again for the next one.
    database: Option<Database>,
}

/// Why a commit failed. Nothing of it is in the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The disk is full: it may be tried again.
    #[error("no room on the disk: {0}")]
    Full(String),
    /// Anything else: what the disk holds is not known.
    #[error("{0}")]
    Broken(String),
}

/// Why the file can't be read.
enum LoadError {
    Db(Error),
    Row(BadRow),
    Format(u64),
}

impl<E: Into<Error>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Db(error.into())
    }
}

impl Db {
    /// Opens the file, or makes it, and reads all of it into `loading`.
    pub fn open(path: &Path, loading: &mut Loading) -> Result<Self, StoreError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = builder().create(path)?;
            load(&database, loading)?;
            Ok(database)
        }));
        let path = path.to_owned();
        let why = match opened {
            Ok(Ok(database)) => {
                return Ok(Self {
                    path,
                    database: Some(database),
                });
            }
            Ok(Err(LoadError::Db(Error::DatabaseAlreadyOpen))) => return Err(StoreError::Locked { path }),
            Ok(Err(LoadError::Db(Error::Io(error)))) if error.kind() != ErrorKind::InvalidData => {
                return Err(StoreError::Io {
                    path,
                    why: error.to_string(),
                });
            }
            Ok(Err(LoadError::Format(found))) => {
                return Err(StoreError::Newer {
                    path,
                    found,
                    known: FORMAT,
                });
            }
            Ok(Err(LoadError::Db(error))) => error.to_string(),
            Ok(Err(LoadError::Row(row))) => row.to_string(),
            Err(_) => "it can't be read".to_owned(), // redb panics on some damage
        };
        Err(StoreError::Damaged { path, why })
    }

    /// Writes `sets` in their order, all or nothing, and syncs.
    pub fn commit(&mut self, sets: &[ChangeSet]) -> Result<(), CommitError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_again()?,
        };
        match write(&database, sets) {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => Err(failed(&error)), // redb refuses everything after a failed write: it is dropped here
        }
    }

    fn open_again(&self) -> Result<Database, CommitError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        if let Ok(disk) = rustix::fs::statvfs(folder) {
            let room = disk.f_bavail.saturating_mul(disk.f_frsize);
            if room < ROOM_BYTES {
                return Err(CommitError::Full(format!("{room} bytes are free")));
            }
        }
        builder().open(&self.path).map_err(|error| failed(&error.into()))
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn failed(error: &Error) -> CommitError {
    match error {
        Error::Io(io) if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            CommitError::Full(io.to_string())
        }
        other => CommitError::Broken(other.to_string()),
    }
}

/// A value that depends on how fingerprints are made: the same text hashed.
fn fingerprint_probe() -> u64 {
    fingerprint("forebay", b"fingerprint")
}

fn write(database: &Database, sets: &[ChangeSet]) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    for set in sets {
        remove(&transaction, set)?;
        put(&transaction, set)?;
    }
    transaction.commit()?;
    Ok(())
}

fn remove(transaction: &WriteTransaction, set: &ChangeSet) -> Result<(), Error> {
    let keys = &set.remove;
    let mut sessions = transaction.open_table(SESSIONS)?;
    for number in &keys.sessions {
        sessions.remove(number)?;
    }
    let mut wills = transaction.open_table(WILLS)?;
    for number in &keys.wills {
        wills.remove(number)?;
    }
    let mut subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
    for (number, filter) in &keys.subscriptions {
        subscriptions.remove((*number, &**filter))?;
    }
    let mut queue = transaction.open_table(QUEUE)?;
    for key in &keys.queue {
        queue.remove(key)?;
    }
    let mut messages = transaction.open_table(MESSAGES)?;
    for number in &keys.messages {
        messages.remove(number)?;
    }
    let mut taken = transaction.open_table(TAKEN)?;
    for key in &keys.taken {
        taken.remove(key)?;
    }
    let mut retained = transaction.open_table(RETAINED)?;
    for topic in &keys.retained {
        retained.remove(&**topic)?;
    }
    Ok(())
}

fn put(transaction: &WriteTransaction, set: &ChangeSet) -> Result<(), Error> {
    let rows = &set.put;
    let mut meta = transaction.open_table(META)?;
    meta.insert("format", FORMAT)?;
    meta.insert("fingerprint", fingerprint_probe())?;
    meta.insert("next", set.next_number)?;
    if let Some(applied) = set.applied {
        meta.insert("epoch", applied.epoch)?;
        meta.insert("sequence", applied.sequence)?;
    }
    let mut sessions = transaction.open_table(SESSIONS)?;
    for (number, row) in &rows.sessions {
        sessions.insert(number, &**row)?;
    }
    let mut wills = transaction.open_table(WILLS)?;
    for (number, row) in &rows.wills {
        wills.insert(number, &**row)?;
    }
    let mut subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
    for (number, filter, row) in &rows.subscriptions {
        subscriptions.insert((*number, &**filter), &**row)?;
    }
    let mut queue = transaction.open_table(QUEUE)?;
    for (number, place, row) in &rows.queue {
        queue.insert((*number, *place), &**row)?;
    }
    let mut messages = transaction.open_table(MESSAGES)?;
    for (number, row) in &rows.messages {
        messages.insert(number, &**row)?;
    }
    let mut taken = transaction.open_table(TAKEN)?;
    for (number, packet_id, row) in &rows.taken {
        taken.insert((*number, *packet_id), &**row)?;
    }
    let mut retained = transaction.open_table(RETAINED)?;
    for (topic, message) in &rows.retained {
        retained.insert(&**topic, message)?;
    }
    Ok(())
}

/// Reads all tables, in the order in which [`Loading`] wants them. A file that was just made has none.
fn load(database: &Database, loading: &mut Loading) -> Result<(), LoadError> {
    let transaction = database.begin_read()?;
    if transaction.list_tables()?.next().is_none() {
        return Ok(());
    }
    let meta = transaction.open_table(META)?;
    let number = |name: &str| Ok::<_, Error>(meta.get(name)?.map(|value| value.value()));
    match number("format")? {
        Some(FORMAT) => {}
        found => return Err(LoadError::Format(found.unwrap_or(0))),
    }
    let applied = match (number("epoch")?, number("sequence")?) {
        (Some(epoch), Some(sequence)) => Some(Position { epoch, sequence }),
        _ => None,
    };
    let fingerprints_hold = number("fingerprint")? == Some(fingerprint_probe());
    loading.begin(applied, number("next")?.unwrap_or(1), fingerprints_hold);
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (key, row) = entry?;
        loading
            .session(key.value(), row.value())
            .map_err(LoadError::Row)?;
    }
    loading.sessions_end();
    for entry in transaction.open_table(WILLS)?.iter()? {
        let (key, row) = entry?;
        loading.will(key.value(), row.value()).map_err(LoadError::Row)?;
    }
    for entry in transaction.open_table(SUBSCRIPTIONS)?.iter()? {
        let (key, row) = entry?;
        let (number, filter) = key.value();
        loading
            .subscription(number, filter, row.value())
            .map_err(LoadError::Row)?;
    }
    for entry in transaction.open_table(MESSAGES)?.iter()? {
        let (key, row) = entry?;
        loading
            .message(key.value(), row.value())
            .map_err(LoadError::Row)?;
    }
    for entry in transaction.open_table(QUEUE)?.iter()? {
        let (key, row) = entry?;
        let (number, place) = key.value();
        loading
            .queued(number, place, row.value())
            .map_err(LoadError::Row)?;
    }
    for entry in transaction.open_table(TAKEN)?.iter()? {
        let (key, row) = entry?;
        let (number, packet_id) = key.value();
        loading
            .taken(number, packet_id, row.value())
            .map_err(LoadError::Row)?;
    }
    for entry in transaction.open_table(RETAINED)?.iter()? {
        let (key, message) = entry?;
        loading
            .retained(key.value(), message.value())
            .map_err(LoadError::Row)?;
    }
    loading.end();
    Ok(())
}
