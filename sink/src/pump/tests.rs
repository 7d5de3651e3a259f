//! Tests of the pump with a scripted Kafka: turn by turn, with no thread and no socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use forebay_broker::bus::{ChunkBuilder, Outcome};
use forebay_broker::classify::{Classify, Level, Publisher};
use forebay_broker::record::{Change, Record, SessionRecord};

use self::disk::Disk;
use super::*;
use crate::config::RouteConfig;
use crate::producer::Code;
use crate::producer::scripted::{FakeProducers, FakeTopics, Kafka, Landed, Verdict};
use crate::producer::topics::Finding;
use crate::route::{compile, tests as samples};

mod behind;
mod cursor;
mod disk;
mod gather;
mod model;
mod refuse;

struct Bench {
    config: SinkConfig,
    pump: Pump,
    kafka: Arc<Mutex<Kafka>>,
    topics: FakeTopics,
    disk: Disk,
    epoch: u64,
    reports: Reports,
    routes: Arc<Routes>,
    number: u64,
    got: Vec<Report>,
}

impl Bench {
    fn new(routes: Vec<RouteConfig>, rule: impl FnMut(&[Landed]) -> Verdict + Send + 'static) -> Self {
        Self::with(routes, |_| {}, rule)
    }

    fn with(
        routes: Vec<RouteConfig>,
        change: impl FnOnce(&mut SinkConfig),
        rule: impl FnMut(&[Landed]) -> Verdict + Send + 'static,
    ) -> Self {
        let mut config = samples::config(routes);
        config.topic_retry = Duration::from_millis(1);
        config.topic_refresh = Duration::from_millis(20);
        config.stuck_after = Duration::from_millis(50);
        config.parked_topic_bytes = 2000;
        config.gather = Duration::ZERO;
        change(&mut config);
        let kafka = Arc::new(Mutex::new(Kafka {
            landed: Vec::new(),
            rule: Box::new(rule),
            producers: 0,
            hastened: 0,
            queue: usize::MAX,
        }));
        let topics = FakeTopics(Arc::default(), vec!["unanswered"]);
        let reports = Reports::new(1);
        let disk = Disk::new();
        let (routes, pump) = start(&config, 1, &disk, &reports, &topics, &kafka);
        Self {
            config,
            pump,
            kafka,
            topics,
            disk,
            epoch: 1,
            reports,
            routes,
            number: 0,
            got: Vec::new(),
        }
    }

    /// Ends as a process does that is asked to.
    fn stop(&mut self) {
        self.pump.finish().unwrap();
        self.crash();
    }

    /// Ends at once: what was not saved is lost.
    fn crash(&mut self) {
        self.epoch = self.disk.restart();
        self.number = 0;
        self.got.clear();
        self.reports = Reports::new(1);
    }

    fn start(&mut self, routes: Vec<RouteConfig>) {
        self.config.routes = routes;
        self.restart();
    }

    fn restart(&mut self) {
        let parts = (&self.config, self.epoch, &self.disk, &self.reports);
        (self.routes, self.pump) = start(parts.0, parts.1, parts.2, parts.3, &self.topics, &self.kafka);
    }

    fn append(&mut self, builder: &mut ChunkBuilder) {
        self.disk.append(&builder.finish(0, self.number));
        self.number += 1;
    }

    /// One chunk of publishes: topic and payload each.
    fn publish(&mut self, publishes: &[(&str, String)]) {
        let mut builder = ChunkBuilder::new(1 << 16);
        for (topic, payload) in publishes {
            let publisher = Publisher {
                client_id: "client",
                username: None,
            };
            let class = self.routes.classify(publisher, topic);
            let mut record = samples::record(topic, payload.as_bytes());
            record.level = class.level;
            record.routes = class.routes;
            builder.push(&Record::Publish(record)).unwrap();
        }
        self.append(&mut builder);
    }

    fn turn(&mut self) {
        // Timers and topics are looked at each turn.
        self.pump.tick_at = self.pump.now;
        self.pump.turn().unwrap();
        self.reports.slot(0).unwrap().take(&mut self.got);
    }

    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            let reason = self.pump.not_ready();
            assert!(
                Instant::now() < until,
                "{what}: {} open, {reason:?}",
                self.pump.open
            );
            self.turn();
        }
    }

    /// Turns until all is delivered or refused, and checks the books: nothing held, every report once.
    fn turn_to_end(&mut self) {
        self.turn_until("all is done", |bench| {
            let letters = bench.pump.letters_open();
            bench.pump.open + letters == 0 && bench.pump.cursor.committed == bench.disk.next_sequence()
        });
        let mut seen = HashSet::new();
        assert!(
            self.got.iter().all(|r| seen.insert((r.number, r.index))),
            "reported twice"
        );
        assert_eq!((self.pump.parked, self.pump.parked_bytes), (0, 0));
        assert!(self.pump.several.is_empty());
        assert_eq!(self.pump.ledger.bytes(), 0);
    }

    fn refused(&self) -> Vec<(u64, u32)> {
        let refused = self.got.iter().filter(|r| r.outcome == Outcome::Refused);
        refused.map(|r| (r.number, r.index)).collect()
    }
}

fn start(
    config: &SinkConfig,
    epoch: u64,
    disk: &Disk,
    reports: &Reports,
    topics: &FakeTopics,
    kafka: &Arc<Mutex<Kafka>>,
) -> (Arc<Routes>, Pump) {
    // Checked without the bounds that a configuration has, so that shares are soon full.
    let routes = compile(&SinkConfig {
        parked_topic_bytes: 1 << 20,
        quarantine_max_bytes: 1 << 30,
        window_bytes: 1 << 20,
        ..config.clone()
    });
    let routes = routes.unwrap();
    let pump = Pump::new(Parts {
        config: Arc::new(config.clone()),
        routes: Arc::clone(&routes),
        node_id: "n".to_owned(),
        epoch,
        reader: Box::new(disk.reader()),
        reports: reports.clone(),
        delivered: None,
        end: Some(disk.end()),
        durable: true,
        topics: Box::new(topics.clone()),
        producers: Box::new(FakeProducers(Arc::clone(kafka))),
        shared: Arc::new(Shared::new()),
    });
    let mut pump = pump.unwrap();
    pump.idle = Duration::from_millis(1);
    (routes, pump)
}

/// Asserts that the first copies of each key stand in the order of their values, over all partitions.
fn assert_order(landed: &[Landed]) {
    let mut seen = HashSet::new();
    let mut last: BTreeMap<(String, String), i64> = BTreeMap::new();
    for record in landed {
        if seen.insert((record.topic.clone(), record.position.clone())) {
            let value: i64 = record.value.parse().unwrap();
            let before = last.insert((record.topic.clone(), record.key.clone()), value);
            assert!(
                before.is_none_or(|before| before < value),
                "{record:?} after {before:?}"
            );
        }
    }
}

fn devices() -> Vec<RouteConfig> {
    vec![samples::route("devices/{device_id}", "t")]
}

fn numbers(topic: &str, range: std::ops::Range<usize>) -> Vec<(&str, String)> {
    range.map(|number| (topic, number.to_string())).collect()
}

#[test]
fn a_failed_batch_and_the_success_behind_it_go_again_in_order() {
    // The first batch under a new producer fails: the partition would take what was sent behind it.
    let mut batches = 0;
    let mut bench = Bench::new(devices(), move |_| {
        batches += 1;
        if batches == 2 || batches == 4 {
            Verdict::Refused(Code::OutOfOrderSequenceNumber)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("devices/a", 0..1));
    bench.turn_to_end();
    for start in 0..4 {
        bench.publish(&numbers("devices/a", 1 + 5 * start..6 + 5 * start));
    }
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.producers, 3);
    assert_eq!(bench.got.len(), 21);
}

#[test]
fn a_new_producer_sends_one_record_of_each_partition_alone_first() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let mut bench = Bench::new(devices(), move |batch| {
        seen.lock().unwrap().push(batch.len());
        Verdict::Taken
    });
    bench.publish(&numbers("devices/a", 0..10));
    bench.turn_to_end();
    assert_eq!(*sizes.lock().unwrap(), [1, 4, 4, 1]);
}

#[test]
fn poison_is_found_one_by_one_and_its_neighbours_are_delivered() {
    let mut bench = Bench::new(devices(), |batch| {
        if batch.iter().any(|r| r.value == "7" || r.value == "31") {
            Verdict::Refused(Code::MessageSizeTooLarge)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("devices/a", 0..50));
    bench.turn_to_end();
    assert_eq!(bench.refused(), [(0, 7), (0, 31)]);
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("t").len(), 48);
}

#[test]
fn a_broker_that_takes_smaller_batches_than_the_producer_makes_gets_smaller_ones() {
    let mut bench = Bench::new(devices(), |batch| {
        if batch.len() > 2 {
            Verdict::Refused(Code::MessageSizeTooLarge)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("devices/a", 0..300));
    bench.turn_to_end();
    assert_eq!(bench.refused(), []);
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert!(kafka.producers < 20, "{} producers", kafka.producers);
}

#[test]
fn a_refused_timestamp_is_left_out() {
    let mut bench = Bench::new(devices(), |batch| {
        let bad = batch.iter().any(|r| r.value == "3" && r.timed);
        if bad {
            Verdict::Refused(Code::InvalidTimestamp)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("devices/a", 0..9));
    bench.turn_to_end();
    assert_eq!(bench.refused(), []);
    let kafka = bench.kafka.lock().unwrap();
    assert!(kafka.landed.iter().any(|r| r.value == "3" && !r.timed));
    assert_eq!(kafka.producers, 2);
    assert_order(&kafka.landed);
}

#[test]
fn a_topic_that_grows_is_drained_before_its_new_partitions_are_used() {
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let hold = Arc::clone(&silent);
    let mut bench = Bench::new(devices(), move |_| {
        if hold.load(std::sync::atomic::Ordering::Relaxed) {
            Verdict::Silence
        } else {
            Verdict::Taken
        }
    });
    let publishes = |range: std::ops::Range<usize>| -> Vec<(&'static str, String)> {
        let topics = ["devices/a", "devices/b", "devices/c", "devices/d", "devices/e"];
        range
            .flat_map(|n| topics.map(|topic| (topic, n.to_string())))
            .collect()
    };
    bench.publish(&publishes(0..5));
    bench.turn_to_end();
    silent.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.publish(&publishes(5..10));
    bench.turn();
    bench.topics.set("t", Finding::Ready { partitions: 7 });
    bench.turn_until("the new count is known", |bench| {
        bench.pump.table.iter().any(|t| t.grown == Some(7))
    });
    bench.publish(&publishes(10..15));
    bench.turn();
    assert!(bench.kafka.lock().unwrap().landed.iter().all(|r| r.partition < 2));
    silent.store(false, std::sync::atomic::Ordering::Relaxed);
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert!(kafka.landed.iter().any(|r| r.partition > 1));
    for record in kafka.landed.iter().skip(50) {
        let expected = crate::partition_for(record.key.as_bytes(), 7);
        assert_eq!(record.partition as u32, expected);
    }
}

#[test]
fn one_report_for_a_record_of_two_routes_and_refused_if_one_refuses() {
    let routes = vec![samples::route("x/#", "one"), samples::route("x/#", "two")];
    let mut bench = Bench::new(routes, |batch| {
        let bad = batch.iter().any(|r| r.topic == "two" && r.value == "1");
        if bad {
            Verdict::Refused(Code::InvalidRecord)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("x/y", 0..3));
    bench.turn_to_end();
    assert_eq!((bench.got.len(), bench.refused()), (3, vec![(0, 1)]));
    assert_eq!(bench.kafka.lock().unwrap().values("one").len(), 3);
}

#[test]
fn a_full_queue_is_waited_for() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.kafka.lock().unwrap().queue = 3;
    bench.publish(&numbers("devices/a", 0..100));
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_eq!((kafka.values("t").len(), kafka.producers), (100, 1));
}
