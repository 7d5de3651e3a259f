//! The record: one thing that was accepted, as it stands in a chunk, on the bus and in the node's log. Most are
//! publishes ([`publish`]); the others tell what happened to kept sessions ([`session`]).
//!
//! Written once, by the worker that accepted it, straight from the connection's read buffer; read as a view by all
//! that come after. All numbers are little endian. Every record begins with its length (4 bytes, these included) and
//! its kind (1 byte).

mod publish;
mod read;
mod session;
mod stem;
#[cfg(test)]
mod tests;

pub use publish::{HEAD_BYTES, MATCHED_BYTES, PublishRecord};
pub use session::{Change, Open, SessionRecord, WillRecord};
pub(crate) use stem::{Accepted, Stem};

/// One record. Strings and payloads are borrowed: from the connection's buffer when it is written, from the chunk when
/// it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// An accepted publish.
    Publish(PublishRecord<'a>),
    /// A change of a kept session.
    Session(SessionRecord<'a>),
}

/// Names a record for good: its chunk stands in the log as the worker made it, so that a record is known by the same
/// name when it is accepted, when it is read from the log, and after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The epoch in which it was accepted.
    pub epoch: u64,
    /// The worker that accepted it.
    pub worker: u16,
    /// Number of its chunk among that worker's chunks of this epoch.
    pub number: u64,
    /// Its index in the chunk.
    pub index: u32,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The buffer ends before the record does.
    #[error("the record is cut off")]
    Truncated,
    /// A kind, level, QoS or text that this version does not write.
    #[error("the record holds a value that is not allowed: {0}")]
    Invalid(&'static str),
}

impl<'a> Record<'a> {
    /// Bytes that [`Record::write`] appends.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Publish(record) => record.encoded_len(),
            Self::Session(record) => record.encoded_len(),
        }
    }

    /// Appends the record to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Publish(record) => record.write(out),
            Self::Session(record) => record.write(out),
        }
    }

    /// Whether the store has something to do with it.
    pub fn concerns_store(&self) -> bool {
        match self {
            Self::Publish(record) => record.concerns_store(),
            Self::Session(_) => true,
        }
    }

    /// Whether somebody waits until Kafka has it.
    pub fn hurries(&self) -> bool {
        match self {
            Self::Publish(record) => record.hurries(),
            Self::Session(_) => false,
        }
    }

    /// Reads the record at the start of `bytes` and returns it with the bytes that follow it.
    pub fn read(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), RecordError> {
        let (len, _) = read::u32_at(bytes)?;
        let (whole, rest) = bytes
            .split_at_checked(len as usize)
            .ok_or(RecordError::Truncated)?;
        let record = match whole.get(4) {
            Some(&publish::KIND) => Self::Publish(PublishRecord::read_whole(whole)?),
            Some(&session::KIND) => Self::Session(SessionRecord::read_whole(whole)?),
            Some(_) => return Err(RecordError::Invalid("kind")),
            None => return Err(RecordError::Truncated),
        };
        Ok((record, rest))
    }

    /// The publish at the start of `bytes`; `None` when it is something else.
    pub fn read_publish(bytes: &'a [u8]) -> Option<PublishRecord<'a>> {
        match Self::read(bytes) {
            Ok((Self::Publish(record), _)) => Some(record),
            _ => None,
        }
    }
}
