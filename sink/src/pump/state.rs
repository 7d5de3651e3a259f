//! What stands beside the saved cursor (pure): the topics whose records are not all done up to where the others are.
//! Empty when there is none. Version 1, all numbers little endian:
//!
//! ```text
//! offset size
//!      0    1  1
//!      1    8  fingerprint of the routes: by another table these positions say nothing
//!      9    8  sequence below which all is done, but for what follows
//!     17    2  number of topics; then each:
//!             1  length of its name, and the name
//!             2  number of positions, n
//!           8 n  for each partition of a count of n: the sequence from which its records are to be read
//! ```

use forebay_broker::spool::CURSOR_STATE_BYTES;

const VERSION: u8 = 1;

/// The state beside the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CursorState {
    pub(super) fingerprint: u64,
    /// All below is done, but for what follows.
    pub(super) done: u64,
    /// Topics, and for each partition where its records go on.
    pub(super) topics: Vec<(String, Vec<u64>)>,
}

impl CursorState {
    /// As bytes. Where they would be too many, first the partitions and then all topics are left out: then more is
    /// sent again after a crash.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut short = self.write();
        if short.len() > CURSOR_STATE_BYTES {
            let lowest = |from: &[u64]| vec![from.iter().copied().min().unwrap_or(self.done)];
            let topics = self
                .topics
                .iter()
                .map(|(name, from)| (name.clone(), lowest(from)));
            short = Self {
                topics: topics.collect(),
                ..*self
            }
            .write();
        }
        if self.topics.is_empty() || short.len() > CURSOR_STATE_BYTES {
            short.clear();
        }
        short
    }

    fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&self.done.to_le_bytes());
        out.extend_from_slice(&(self.topics.len() as u16).to_le_bytes());
        for (name, from) in &self.topics {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&(from.len() as u16).to_le_bytes());
            for sequence in from {
                out.extend_from_slice(&sequence.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`CursorState::encode`] made; none for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], mut rest) = bytes.split_first_chunk::<1>()? else {
            return None;
        };
        let rest = &mut rest;
        let fingerprint = u64::from_le_bytes(take(rest)?);
        let done = u64::from_le_bytes(take(rest)?);
        let count = u16::from_le_bytes(take(rest)?);
        let mut topics = Vec::new();
        for _ in 0..count {
            let [len] = take(rest)?;
            let (name, after) = rest.split_at_checked(usize::from(len))?;
            *rest = after;
            let partitions = u16::from_le_bytes(take(rest)?);
            let from: Option<Vec<u64>> = (0..partitions)
                .map(|_| Some(u64::from_le_bytes(take(rest)?)))
                .collect();
            let from = from.filter(|from| !from.is_empty())?;
            topics.push((std::str::from_utf8(name).ok()?.to_owned(), from));
        }
        rest.is_empty().then_some(Self {
            fingerprint,
            done,
            topics,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(topics: usize, partitions: usize) -> CursorState {
        let topic = |number: usize| (format!("topic-{number}"), vec![number as u64 + 3; partitions]);
        CursorState {
            fingerprint: 7,
            done: 5000,
            topics: (0..topics).map(topic).collect(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let some = state(3, 12);
        let bytes = some.encode();
        assert_eq!(CursorState::decode(&bytes), Some(some));
        for len in 0..bytes.len() {
            assert_eq!(CursorState::decode(&bytes[..len]), None, "{len} bytes");
        }
        assert!(state(0, 0).encode().is_empty());
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let bytes = state(1000, 100).encode();
        assert!(bytes.len() < CURSOR_STATE_BYTES);
        let read = CursorState::decode(&bytes).unwrap();
        assert_eq!((read.topics.len(), &read.topics[5].1[..]), (1000, &[8][..]));
        assert!(state(10_000, 1).encode().is_empty());
    }
}
