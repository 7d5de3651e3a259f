//! The way of a publish behind the codec, step by step: who subscribed to it, which routes take it, its record in a chunk,
//! the chunk in the spool, and the window of its partition on the way to Kafka: cargo bench -p forebay-bench --bench path.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use forebay_broker::bus::{Chunk, ChunkBuilder};
use forebay_broker::classify::{Class, Classify, Level, Publisher};
use forebay_broker::codec::{QoS, RetainHandling, Subscription};
use forebay_broker::hub::subscriptions::Subscriptions;
use forebay_broker::hub::{SubscriberId, SubscriptionOptions};
use forebay_broker::record::{PublishRecord, Record};
use forebay_broker::spool::fs::RealFs;
use forebay_broker::spool::{self, LogReader, LogWriter, SpoolConfig};
use forebay_sink::window::{Lane, Ledger};
use forebay_sink::{RouteConfig, Routes, SinkConfig, compile, partition_for};

const PAYLOAD: [u8; 128] = [b'x'; 128];
const CHUNK_BYTES: usize = 256 * 1024;
const TOPIC: &str = "devices/d-000017/telemetry";

fn main() {
    divan::main();
}

fn routes(count: usize) -> Arc<Routes> {
    let others = (1..count).map(|n| format!("plant-{n}/{{device_id}}/#"));
    let filters = others.chain(["devices/{device_id}/#".to_owned()]);
    let routes = filters.map(|filter| RouteConfig {
        filter,
        topic: "telemetry".into(),
        ack: Level::Spooled,
        ..RouteConfig::default()
    });
    compile(&SinkConfig {
        properties: BTreeMap::from([("bootstrap.servers".into(), "127.0.0.1:9092".into())]),
        routes: routes.collect(),
        ..SinkConfig::default()
    })
    .unwrap()
}

fn class(routes: &Routes) -> Class {
    let publisher = Publisher {
        client_id: "d-000017",
        username: None,
    };
    routes.classify(publisher, black_box(TOPIC))
}

fn record(class: &Class) -> PublishRecord<'static> {
    PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        level: class.level,
        packet_id: 1,
        arrival_ms: 1_763_722_800_000,
        generation: class.generation,
        routes: class.routes.clone(),
        client_id: "d-000017",
        matched: None,
        username: None,
        topic: TOPIC,
        properties: None,
        payload: &PAYLOAD,
    }
}

fn chunk(number: u64) -> Chunk {
    let class = class(&routes(1));
    let mut builder = ChunkBuilder::new(CHUNK_BYTES);
    while builder.push(&Record::Publish(record(&class))).is_ok() {}
    builder.finish(0, number)
}

/// Which routes take a topic: asked once a connection and topic, then remembered.
#[divan::bench(args = [1, 10, 100])]
fn route(bencher: Bencher, count: usize) {
    let routes = routes(count);
    bencher.bench_local(|| class(&routes));
}

#[divan::bench]
fn partition(bencher: Bencher) {
    bencher.bench_local(|| partition_for(black_box(b"d-000017"), black_box(12)));
}

/// One filter a device, and some with wildcards.
#[divan::bench(args = [1_000, 1_000_000])]
fn matching(bencher: Bencher, count: u32) {
    let mut all = Subscriptions::new(0);
    fn options(filter: &str) -> SubscriptionOptions {
        let asked = Subscription {
            filter,
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        };
        SubscriptionOptions::new(&asked, None)
    }
    for slot in 0..count {
        let who = SubscriberId {
            worker: 0,
            slot,
            generation: 0,
        };
        let filter = format!("devices/d-{slot:06}/telemetry");
        all.insert(&filter, who, options(&filter), None);
    }
    let mut found = Vec::new();
    bencher.bench_local(|| {
        found.clear();
        all.matches(black_box(TOPIC), &mut found);
        found.len()
    });
}

/// A record written into the open chunk.
#[divan::bench]
fn chunk_push(bencher: Bencher) {
    let class = class(&routes(1));
    let record = Record::Publish(record(&class));
    let mut builder = ChunkBuilder::new(CHUNK_BYTES);
    let mut number = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        if builder.push(black_box(&record)).is_err() {
            black_box(builder.finish(0, number));
            number += 1;
        }
    });
}

/// All records of a chunk read.
#[divan::bench]
fn chunk_read(bencher: Bencher) {
    let chunk = chunk(0);
    let count = ItemsCount::new(chunk.count());
    bencher
        .counter(count)
        .bench_local(|| chunk.records().filter(Result::is_ok).count());
}

/// Chunks appended and synced as one group, on the disk of the temporary folder.
#[divan::bench(args = [1, 4], sample_count = 50, sample_size = 1)]
fn spool_sync(bencher: Bencher, chunks: u64) {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig::new(dir.path());
    let (mut writer, log, _) = spool::open(&config, 0, Arc::new(RealFs)).unwrap();
    let mut reader = log.reader_at(0).unwrap();
    let group: Vec<Chunk> = (0..chunks).map(chunk).collect();
    let bytes: usize = group.iter().map(|chunk| chunk.as_bytes().len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        for chunk in &group {
            writer.append(chunk).unwrap();
        }
        writer.sync().unwrap();
        // What was read is released, so that the log does not grow.
        while let Some(entry) = reader.read(std::time::Duration::ZERO).unwrap() {
            reader.commit(entry.end()).unwrap();
        }
    });
}

/// All records of a chunk through the windows of so many partitions: in line, sent, reported in batches, done; and the chunk
/// with them.
#[divan::bench(args = [1, 12, 1000])]
fn window(bencher: Bencher, partitions: usize) {
    const REPORTED_AT_ONCE: u64 = 64;
    let chunk = chunk(0);
    let count = u64::from(chunk.count());
    let bytes = chunk.as_bytes().len() / chunk.count() as usize;
    let mut lanes: Vec<Lane<u64>> = (0..partitions).map(|_| Lane::default()).collect();
    let mut ledger = Ledger::default();
    let mut sequence = 0;
    let mut sent: Vec<(usize, u64)> = Vec::new();
    // Until a partition has had a report, one record is alone on its way.
    for (at, lane) in lanes.iter_mut().enumerate() {
        let slot = ledger.push(chunk.clone(), at as u64, 0);
        lane.push(0, bytes);
        lane.mark_sent();
        assert!(lane.delivered(0) && lane.pop().is_some());
        ledger.release(slot);
    }
    assert!(ledger.advance().is_some());
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let slot = ledger.push(chunk.clone(), sequence, 0);
        for record in 0..count {
            let at = (record as usize * 7) % partitions;
            let Some(lane) = lanes.get_mut(at) else { continue };
            ledger.need(slot);
            lane.push(sequence + record, bytes);
            if let Some((ticket, value)) = lane.next(usize::MAX) {
                black_box(value);
                lane.mark_sent();
                sent.push((at, ticket));
            }
            if sent.len() as u64 == REPORTED_AT_ONCE || record + 1 == count {
                for (at, ticket) in sent.drain(..) {
                    let Some(lane) = lanes.get_mut(at) else { continue };
                    lane.delivered(black_box(ticket));
                    while lane.pop().is_some() {
                        ledger.release(slot);
                    }
                }
            }
        }
        ledger.release(slot);
        sequence += count;
        ledger.advance()
    });
}
