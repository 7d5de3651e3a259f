//! How fast a backlog drains, beside what librdkafka alone reaches on the same records. A measurement:
//! `cargo test -p forebay-sink --test mock drain -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use forebay_broker::bus::{ChunkBuilder, Reports};
use forebay_broker::classify::{Classify, Publisher};
use forebay_broker::fatal::FatalFlag;
use forebay_broker::record::Record;
use forebay_broker::spool::fs::RealFs;
use forebay_broker::spool::{self, LogWriter, SpoolConfig};
use forebay_sink::{Routes, Sink, SinkConfig, Wiring, compile, partition_for};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::support::*;

const RECORDS: u64 = 1_000_000;
const PARTITIONS: u32 = 12;
const PAYLOAD: [u8; 128] = [b'x'; 128];

fn devices() -> Vec<(String, String)> {
    let names = (0..1000).map(|n| format!("device-{n:04}"));
    names
        .map(|name| (format!("devices/{name}/telemetry"), name))
        .collect()
}

fn fill(writer: &mut impl LogWriter, routes: &Routes) {
    let mut builder = ChunkBuilder::new(256 * 1024);
    let devices = devices();
    let (mut number, mut left) = (0, RECORDS);
    let mut flush = |builder: &mut ChunkBuilder| {
        let chunk = builder.finish(0, number);
        assert!(writer.wait_room(chunk.as_bytes().len(), SOON).unwrap());
        writer.append(&chunk).unwrap();
        writer.sync().unwrap();
        number += 1;
    };
    'all: loop {
        for (topic, name) in &devices {
            let publisher = Publisher {
                client_id: name,
                username: None,
            };
            let record = Record::Publish(record(&routes.classify(publisher, topic), name, topic, &PAYLOAD));
            if builder.push(&record).is_err() {
                flush(&mut builder);
                builder.push(&record).unwrap();
            }
            left -= 1;
            if left == 0 {
                break 'all;
            }
        }
    }
    flush(&mut builder);
}

/// Records a second by the sink, out of a spool on disk.
fn by_the_sink(cluster: &Cluster, topic: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig {
        properties: [("bootstrap.servers".into(), cluster.bootstrap_servers())].into(),
        routes: vec![forebay_sink::RouteConfig {
            ack: forebay_broker::classify::Level::Spooled,
            ..route("devices/{device_id}/#", topic)
        }],
        ..SinkConfig::default()
    };
    let routes = compile(&config).unwrap();
    let spool = SpoolConfig {
        dir: dir.path().to_owned(),
        max_bytes: 1 << 30,
        segment_bytes: 64 << 20,
        tail_bytes: 32 << 20,
    };
    let (mut writer, log, _) = spool::open(&spool, 0, Arc::new(RealFs)).unwrap();
    let reader = Box::new(log.reader("kafka").unwrap());
    fill(&mut writer, &routes);
    let delivered = Arc::new(AtomicU64::new(0));
    let wiring = Wiring {
        node_id: "node".to_owned(),
        epoch: log.epoch(),
        reader,
        reports: Reports::new(1),
        delivered: Some(Arc::clone(&delivered)),
        end: None,
        durable: true,
        fatal: FatalFlag::default(),
    };
    let start = Instant::now();
    let handle = Sink::start(config, routes, wiring).unwrap();
    while delivered.load(Ordering::Acquire) < RECORDS {
        assert!(start.elapsed() < SOON * 4, "{:?}", handle.status());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let rate = RECORDS as f64 / start.elapsed().as_secs_f64();
    handle.stop(Instant::now() + SOON).unwrap();
    rate
}

/// Records a second by librdkafka with the same settings and headers.
fn by_librdkafka(cluster: &Cluster, topic: &str) -> f64 {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "true")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "400000")
        .create()
        .unwrap();
    let devices = devices();
    let start = Instant::now();
    for number in 0..RECORDS {
        let (topic_name, key) = &devices[number as usize % devices.len()];
        let position = format!("node/1/{number:020}");
        loop {
            let headers = OwnedHeaders::new_with_capacity(2);
            let headers = headers.insert(Header {
                key: "mqtt.topic",
                value: Some(topic_name),
            });
            let headers = headers.insert(Header {
                key: "forebay.position",
                value: Some(&position),
            });
            let record = BaseRecord::to(topic)
                .partition(partition_for(key.as_bytes(), PARTITIONS) as i32)
                .key(key)
                .payload(&PAYLOAD[..])
                .headers(headers)
                .timestamp(1_763_722_800_000);
            if producer.send(record).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            producer.poll(std::time::Duration::ZERO);
        }
        if number % 64 == 0 {
            producer.poll(std::time::Duration::ZERO);
        }
    }
    producer.flush(SOON * 4).unwrap();
    RECORDS as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn a_backlog_drains_at_the_rate_of_librdkafka() {
    let cluster = cluster(&[("sink", PARTITIONS as i32), ("alone", PARTITIONS as i32)]);
    for _ in 0..3 {
        let alone = by_librdkafka(&cluster, "alone");
        let sink = by_the_sink(&cluster, "sink");
        println!(
            "records a second: librdkafka alone {alone:.0}, the sink {sink:.0}: {:.2}",
            sink / alone
        );
    }
}
