//! Many publishes in one numbered chunk: how it is filled, how it travels and how it is read.
//!
//! ```text
//! offset size   (all numbers little endian)
//!      0    4  "FBC" and the version of this format, 1
//!      4    2  worker that filled it
//!      6    2  flags: bit 0 a record in it concerns the store, bit 1 a publisher waits for Kafka, bit 2 all its publishes
//!              go nowhere, by one route table; the others are 0
//!      8    8  number among that worker's chunks, from 0
//!     16    4  number of records
//!     20    4  bytes of records that follow
//!     24       the records, one after the other (see [`crate::record`])
//! ```

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::classify;
use crate::codec::Publish;
use crate::record::{Accepted, Record, RecordError, Stem};

/// Bytes of a chunk before its records.
pub const HEAD_BYTES: usize = 24;

const CONCERNS_STORE: u16 = 1;
const HURRIES: u16 = 1 << 1;
const NOWHERE: u16 = 1 << 2;

const MAGIC: [u8; 4] = [b'F', b'B', b'C', 1];

/// A finished chunk: cheap to clone, all clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    worker: u16,
    number: u64,
    count: u32,
    flags: u16,
    bytes: Bytes,
}

/// Why bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes are fewer or more than the header says.
    #[error("the chunk has another length than its header says")]
    Length,
    /// Not a chunk, or one of a version that is not known here.
    #[error("the chunk begins with {0:02x?}")]
    Magic([u8; 4]),
}

impl Chunk {
    /// Reads the header of a chunk that came over the bus or from a log. The records are checked when they are read.
    pub fn parse(bytes: Bytes) -> Result<Self, ChunkError> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(ChunkError::Length)?;
        if *magic != MAGIC {
            return Err(ChunkError::Magic(*magic));
        }
        let (worker, rest) = rest.split_first_chunk::<2>().ok_or(ChunkError::Length)?;
        let (flags, rest) = rest.split_first_chunk::<2>().ok_or(ChunkError::Length)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or(ChunkError::Length)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(ChunkError::Length)?;
        let (len, body) = rest.split_first_chunk::<4>().ok_or(ChunkError::Length)?;
        if body.len() != u32::from_le_bytes(*len) as usize {
            return Err(ChunkError::Length);
        }
        Ok(Self {
            worker: u16::from_le_bytes(*worker),
            number: u64::from_le_bytes(*number),
            count: u32::from_le_bytes(*count),
            flags: u16::from_le_bytes(*flags),
            bytes,
        })
    }

    /// Bytes of the chunk that `bytes` begin with, by its header; `None` when they are too few to say.
    pub fn framed_len(bytes: &[u8]) -> Option<usize> {
        let body = bytes.get(20..HEAD_BYTES)?.first_chunk::<4>()?;
        HEAD_BYTES.checked_add(u32::from_le_bytes(*body) as usize)
    }

    /// The worker that filled it.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// Its number among that worker's chunks, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Records in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a record in it concerns the store: kept sessions, retained messages, QoS 2 packet ids.
    pub fn concerns_store(&self) -> bool {
        self.flags & CONCERNS_STORE != 0
    }

    /// Whether a publisher waits until Kafka has a record in it.
    pub fn hurries(&self) -> bool {
        self.flags & HURRIES != 0
    }

    /// The generation of the route table by which all its publishes go nowhere: while that one is in use, whoever carries
    /// publishes on need not look at them. `None` when some may go somewhere.
    pub fn nowhere_by(&self) -> Option<u32> {
        if self.flags & NOWHERE == 0 {
            return None;
        }
        self.records().find_map(|record| match record {
            Ok(Record::Publish(record)) => Some(record.generation),
            _ => None,
        })
    }

    /// Header and records as they travel.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its records in the order in which they were accepted: the first has index 0. After an error nothing follows.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
        let mut left = self.count;
        let mut rest = self.bytes.get(HEAD_BYTES..).unwrap_or_default();
        std::iter::from_fn(move || {
            if left == 0 {
                let surplus = !std::mem::take(&mut rest).is_empty();
                return surplus.then_some(Err(RecordError::Invalid("count")));
            }
            match Record::read(rest) {
                Ok((record, after)) => {
                    left -= 1;
                    rest = after;
                    Some(Ok(record))
                }
                Err(error) => {
                    left = 0;
                    rest = &[];
                    Some(Err(error))
                }
            }
        })
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("worker", &self.worker)
            .field("number", &self.number)
            .field("count", &self.count)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Where the publishes of a chunk that is being filled go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Goes {
    #[default]
    NoneYet,
    /// Nowhere, by the route table of this generation.
    Nowhere(u32),
    Somewhere,
}

impl Goes {
    /// One more publish came.
    #[inline]
    fn with(self, routes: &[u16], generation: u32) -> Self {
        let is_nowhere = *routes == [classify::NOWHERE];
        match self {
            Self::NoneYet if is_nowhere => Self::Nowhere(generation),
            Self::Nowhere(known) if is_nowhere && known == generation => self,
            _ => Self::Somewhere,
        }
    }
}

/// The chunk is full: send it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk is full")]
pub struct ChunkFull;

/// The chunk that a worker fills. A record is copied once, from the connection's read buffer to here.
#[derive(Debug)]
pub struct ChunkBuilder {
    /// Place for the header, then the records. What stands beyond `end` was written half and is cut off by the next
    /// push: a connection that panics while it writes leaves no trace in the chunk of its neighbours.
    bytes: Vec<u8>,
    end: usize,
    count: u32,
    flags: u16,
    goes: Goes,
    max_bytes: usize,
    /// When its first record came.
    opened: Option<Instant>,
}

impl ChunkBuilder {
    /// An empty chunk that is full at `chunk_bytes`, its header included.
    pub fn new(chunk_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            end: HEAD_BYTES,
            count: 0,
            flags: 0,
            goes: Goes::NoneYet,
            max_bytes: chunk_bytes,
            opened: None,
        }
    }

    /// Adds a record and returns its index in the chunk. A record that is larger than a whole chunk is taken when the
    /// chunk is empty.
    pub fn push(&mut self, record: &Record<'_>) -> Result<u32, ChunkFull> {
        self.make_room(record.encoded_len())?;
        record.write(&mut self.bytes);
        if let Record::Publish(record) = record {
            self.goes = self.goes.with(&record.routes, record.generation);
        }
        Ok(self.pushed(record.concerns_store(), record.hurries()))
    }

    /// The same for the record that a client's publish becomes: the way of every message.
    #[inline]
    pub(crate) fn push_publish(
        &mut self,
        stem: &Stem,
        publish: &Publish<'_>,
        accepted: Accepted,
    ) -> Result<u32, ChunkFull> {
        self.make_room(stem.record_bytes(publish))?;
        stem.write(publish, accepted, &mut self.bytes);
        self.goes = self.goes.with(&stem.class().routes, stem.class().generation);
        Ok(self.pushed(stem.concerns_store(publish, accepted), stem.hurries(publish)))
    }

    /// Before a record of at most `len` bytes is written.
    #[inline]
    fn make_room(&mut self, len: usize) -> Result<(), ChunkFull> {
        if self.count > 0 && self.end + len > self.max_bytes {
            return Err(ChunkFull);
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.max_bytes.max(HEAD_BYTES + len));
        }
        if self.bytes.len() != self.end {
            self.bytes.resize(self.end, 0);
        }
        Ok(())
    }

    /// A record was written whole.
    #[inline]
    fn pushed(&mut self, concerns_store: bool, hurries: bool) -> u32 {
        if concerns_store {
            self.flags |= CONCERNS_STORE;
        }
        if hurries {
            self.flags |= HURRIES;
        }
        let index = self.count;
        self.end = self.bytes.len();
        self.count += 1;
        if index == 0 {
            self.opened = Some(Instant::now());
        }
        index
    }

    /// When the first of its records came.
    pub fn opened(&self) -> Option<Instant> {
        self.opened.filter(|_| self.count > 0)
    }

    /// Records in it.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the chunk would have if it were finished now.
    pub fn bytes(&self) -> usize {
        self.end
    }

    /// Closes the chunk under its number and begins the next one.
    pub fn finish(&mut self, worker: u16, number: u64) -> Chunk {
        self.bytes.resize(self.end, 0);
        let body = self.end - HEAD_BYTES;
        let flags = std::mem::take(&mut self.flags);
        // Where a publisher waits for the sink all the same, the sink is to say that it is done.
        let goes_nowhere = matches!(std::mem::take(&mut self.goes), Goes::Nowhere(_)) && flags & HURRIES == 0;
        let flags = flags | if goes_nowhere { NOWHERE } else { 0 };
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &worker.to_le_bytes(),
            &flags.to_le_bytes(),
            &number.to_le_bytes(),
            &self.count.to_le_bytes(),
            &(body as u32).to_le_bytes(),
        ];
        let places = self.bytes.iter_mut();
        for (place, byte) in places.zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        let count = std::mem::take(&mut self.count);
        self.end = HEAD_BYTES;
        Chunk {
            worker,
            number,
            count,
            flags,
            bytes: self.take_bytes(),
        }
    }

    /// The buffer itself where it is well filled. A small chunk is copied out instead: it may stay in the log for long
    /// and would hold the whole buffer, which the log's bound does not count.
    fn take_bytes(&mut self) -> Bytes {
        let capacity = self.bytes.capacity();
        if self.bytes.len() >= capacity - capacity / 4 {
            return Bytes::from(std::mem::take(&mut self.bytes));
        }
        let bytes = Bytes::copy_from_slice(&self.bytes);
        if capacity > self.max_bytes {
            self.bytes = Vec::new();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::classify::{Level, RouteIds};
    use crate::codec::QoS;
    use crate::record::{Change, PublishRecord, SessionRecord};
    use proptest::prelude::*;

    fn record<'a>(client_id: &'a str, payload: &'a [u8]) -> Record<'a> {
        Record::Publish(PublishRecord {
            qos: QoS::AtLeastOnce,
            retain: false,
            level: Level::Kafka,
            packet_id: 1,
            arrival_ms: 5,
            generation: 1,
            routes: RouteIds::new(),
            matched: None,
            client_id,
            username: None,
            topic: "t",
            properties: None,
            payload,
        })
    }

    fn payloads(chunk: &Chunk) -> Vec<Vec<u8>> {
        let payload = |record| match record {
            Ok(Record::Publish(record)) => record.payload.to_vec(),
            other => panic!("{other:?}"),
        };
        chunk.records().map(payload).collect()
    }

    #[test]
    fn a_full_chunk_refuses_and_keeps_what_it_has() {
        let mut builder = ChunkBuilder::new(4096);
        let mut taken = 0;
        while builder.push(&record("d", &[7; 100])).is_ok() {
            taken += 1;
        }
        assert!(builder.bytes() <= 4096 && builder.bytes() > 4096 - 200);
        let chunk = builder.finish(2, 9);
        assert_eq!((chunk.worker(), chunk.number(), chunk.count()), (2, 9, taken));
        assert_eq!(payloads(&chunk).len(), taken as usize);
        assert!(builder.is_empty());
    }

    #[test]
    fn only_a_chunk_of_which_nothing_goes_anywhere_says_so() {
        let to = |routes: &[u16], generation, level| {
            let Record::Publish(publish) = record("d", b"x") else {
                unreachable!()
            };
            Record::Publish(PublishRecord {
                routes: RouteIds::from_slice(routes),
                generation,
                level,
                ..publish
            })
        };
        let nowhere = &[classify::NOWHERE][..];
        let mut builder = ChunkBuilder::new(4096);
        let mut check = |level, publishes: &[(&[u16], u32)], by: Option<u32>| {
            let reset = SessionRecord {
                client_id: "d",
                at_ms: 1,
                change: Change::Reset,
            };
            builder.push(&Record::Session(reset)).unwrap();
            for (routes, generation) in publishes {
                builder.push(&to(routes, *generation, level)).unwrap();
            }
            let chunk = Chunk::parse(builder.finish(0, 0).as_bytes().clone()).unwrap();
            assert_eq!(chunk.nowhere_by(), by, "{publishes:?}");
        };
        check(Level::Spooled, &[], None);
        check(Level::Spooled, &[(nowhere, 3)], Some(3));
        check(Level::Kafka, &[(nowhere, 3)], None); // whose publisher waits for the sink
        check(Level::Spooled, &[(nowhere, 3), (nowhere, 3)], Some(3));
        check(Level::Spooled, &[(nowhere, 3), (nowhere, 4)], None);
        check(Level::Spooled, &[(nowhere, 3), (&[0], 3), (nowhere, 3)], None);
        check(Level::Spooled, &[(&[], 3), (nowhere, 3)], None);
        check(Level::Spooled, &[(&[classify::NOWHERE, 0], 3)], None);
    }

    #[test]
    fn a_record_larger_than_a_chunk_travels_alone() {
        let mut builder = ChunkBuilder::new(4096);
        assert_eq!(builder.push(&record("d", &[1; 10_000])), Ok(0));
        assert_eq!(builder.push(&record("d", &[2; 1])), Err(ChunkFull));
        let chunk = builder.finish(0, 0);
        assert_eq!(payloads(&chunk), vec![vec![1; 10_000]]);
        assert_eq!(builder.push(&record("d", &[2; 1])), Ok(0));
        assert_eq!(payloads(&builder.finish(0, 1)), vec![vec![2; 1]]);
        assert!(builder.bytes.capacity() <= 4096, "a large buffer is not kept");
    }

    #[test]
    fn a_half_written_record_leaves_no_trace() {
        let mut builder = ChunkBuilder::new(4096);
        builder.push(&record("a", b"first")).unwrap();
        // As a panic inside the write would leave it.
        builder.bytes.extend_from_slice(b"half a rec");
        builder.push(&record("b", b"second")).unwrap();
        builder.bytes.extend_from_slice(b"and again");
        let chunk = builder.finish(0, 0);
        assert_eq!(payloads(&chunk), vec![b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(Chunk::parse(chunk.as_bytes().clone()).unwrap(), chunk);
    }

    #[test]
    fn a_well_filled_buffer_is_given_away_and_a_small_one_kept() {
        let mut builder = ChunkBuilder::new(4096);
        while builder.push(&record("d", &[7; 100])).is_ok() {}
        let full = builder.bytes.as_ptr();
        let chunk = builder.finish(0, 0);
        assert_eq!(chunk.as_bytes().as_ptr(), full, "no copy");
        builder.push(&record("d", b"x")).unwrap();
        let kept = builder.bytes.as_ptr();
        let small = builder.finish(0, 1);
        assert_ne!(small.as_bytes().as_ptr(), kept);
        assert_eq!(builder.bytes.as_ptr(), kept, "the buffer is used again");
    }

    #[test]
    fn every_cut_and_every_surplus_byte_is_an_error() {
        let mut builder = ChunkBuilder::new(4096);
        builder.push(&record("a", b"x")).unwrap();
        let bytes = builder.finish(1, 1).as_bytes().clone();
        for end in 0..bytes.len() {
            assert_eq!(Chunk::parse(bytes.slice(..end)), Err(ChunkError::Length));
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Chunk::parse(Bytes::from(longer)), Err(ChunkError::Length));
        let mut other = bytes.to_vec();
        other[3] = 2;
        assert!(matches!(
            Chunk::parse(Bytes::from(other)),
            Err(ChunkError::Magic(_))
        ));
    }

    #[test]
    fn a_count_that_is_wrong_is_found() {
        let mut builder = ChunkBuilder::new(4096);
        builder.push(&record("a", b"x")).unwrap();
        builder.push(&record("b", b"y")).unwrap();
        let good = builder.finish(1, 1).as_bytes().to_vec();
        for count in [1u8, 3] {
            let mut bytes = good.clone();
            bytes[16] = count;
            let chunk = Chunk::parse(Bytes::from(bytes)).unwrap();
            let last = chunk.records().last().unwrap();
            assert!(last.is_err(), "count {count}");
            assert_eq!(chunk.records().filter(Result::is_err).count(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_records_come_back_in_order(sizes in proptest::collection::vec(0usize..300, 0..40)) {
            let mut builder = ChunkBuilder::new(64 * 1024);
            let mut sent = Vec::new();
            for (at, size) in sizes.iter().enumerate() {
                let payload = vec![at as u8; *size];
                prop_assert_eq!(builder.push(&record("d", &payload)).unwrap() as usize, at);
                sent.push(payload);
            }
            prop_assert_eq!(builder.len() as usize, sent.len());
            let size = builder.bytes();
            let chunk = Chunk::parse(builder.finish(3, 4).as_bytes().clone()).unwrap();
            prop_assert_eq!(chunk.as_bytes().len(), size);
            prop_assert_eq!(payloads(&chunk), sent);
        }

        #[test]
        fn any_body_is_read_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..5) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&[0; 12]);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&body);
            let chunk = Chunk::parse(Bytes::from(bytes)).unwrap();
            prop_assert!(chunk.records().count() <= count as usize + 1);
        }
    }
}
