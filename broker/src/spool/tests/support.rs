//! What the spool's tests share: chunks, a spool on a faulty file system, and reading all that is there.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::{Chunk, ChunkBuilder};
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::record::{PublishRecord, Record};
use crate::spool::open::open_inline;
use crate::spool::{Entry, LogReader, LogWriter, OpenError, Recovery, Spool, SpoolConfig, SpoolWriter};
use crate::testing::faulty_fs::FaultyFs;

/// Small segments: eight in all.
pub fn config() -> SpoolConfig {
    SpoolConfig {
        dir: "spool".into(),
        max_bytes: 8 * 32 * 1024,
        segment_bytes: 32 * 1024,
        tail_bytes: 8 * 1024,
    }
}

/// A chunk of one worker with `records` records of `payload` bytes.
pub fn chunk(number: u64, records: u32, payload: usize) -> Chunk {
    chunk_of(Level::Spooled, number, records, payload)
}

/// The same at another level.
pub fn chunk_of(level: Level, number: u64, records: u32, payload: usize) -> Chunk {
    let mut builder = ChunkBuilder::new(1 << 20);
    let payload = vec![number as u8; payload];
    for index in 0..records {
        builder
            .push(&Record::Publish(PublishRecord {
                qos: QoS::AtLeastOnce,
                level,
                packet_id: index as u16 + 1,
                client_id: "device",
                topic: "t",
                payload: &payload,
                ..blank()
            }))
            .unwrap();
    }
    builder.finish(0, number)
}

fn blank() -> PublishRecord<'static> {
    PublishRecord {
        qos: QoS::AtMostOnce,
        retain: false,
        level: Level::Received,
        packet_id: 0,
        arrival_ms: 0,
        generation: 0,
        routes: RouteIds::new(),
        matched: None,
        client_id: "",
        username: None,
        topic: "",
        properties: None,
        payload: &[],
    }
}

pub fn try_open(fs: &FaultyFs) -> Result<(SpoolWriter, Spool, Recovery), OpenError> {
    open_inline(&config(), 0, Arc::new(fs.clone()))
}

pub fn open(fs: &FaultyFs) -> (SpoolWriter, Spool, Recovery) {
    try_open(fs).unwrap()
}

/// Appends chunks and makes them durable in one sync.
pub fn put(writer: &mut SpoolWriter, chunks: &[Chunk]) {
    for chunk in chunks {
        writer.append(chunk).unwrap();
    }
    writer.sync().unwrap();
}

/// All that a reader gives now.
pub fn read_all(reader: &mut dyn LogReader) -> Vec<Entry> {
    std::iter::from_fn(|| reader.read(Duration::ZERO).unwrap()).collect()
}

/// The numbers of all chunks in the log, as a new consumer without a cursor reads them.
pub fn numbers(spool: &Spool) -> Vec<u64> {
    let mut reader = spool.reader_at(0).unwrap();
    let entries = read_all(&mut reader);
    entries.iter().map(|entry| entry.chunk.number()).collect()
}
