//! A bench for the sink: mock cluster, log, workers' ends, and a consumer that reads a topic from its beginning.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::bus::{ChunkBuilder, Outcome, Report, Reports};
use forebay_broker::classify::{Classify, Level, Publisher};
use forebay_broker::codec::QoS;
use forebay_broker::fatal::FatalFlag;
use forebay_broker::record::{PublishRecord, Record};
use forebay_broker::spool::{LogWriter, memory};
use forebay_sink::{RouteConfig, Routes, Sink, SinkConfig, SinkHandle, Wiring, compile};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Longest wait for anything that is to happen.
pub const SOON: Duration = Duration::from_secs(30);

pub type Cluster = MockCluster<'static, DefaultProducerContext>;

pub struct Bench {
    pub cluster: Cluster,
    pub routes: Arc<Routes>,
    pub handle: SinkHandle,
    pub log: memory::MemoryLog,
    pub fatal: FatalFlag,
    writer: memory::MemoryWriter,
    reports: Reports,
    builder: ChunkBuilder,
    number: u64,
    got: Vec<Report>,
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub key: String,
    pub value: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn position(&self) -> &str {
        let header = self.headers.iter().find(|(name, _)| name == "forebay.position");
        header.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

pub fn route(filter: &str, topic: &str) -> RouteConfig {
    RouteConfig {
        filter: filter.into(),
        topic: topic.into(),
        ack: Level::Kafka,
        ..RouteConfig::default()
    }
}

/// A cluster of one broker with these topics.
pub fn cluster(topics: &[(&str, i32)]) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions, 1).unwrap();
    }
    cluster
}

impl Bench {
    pub fn new(cluster: Cluster, routes: Vec<RouteConfig>, change: impl FnOnce(&mut SinkConfig)) -> Self {
        let mut config = SinkConfig {
            properties: BTreeMap::from([("bootstrap.servers".into(), cluster.bootstrap_servers())]),
            routes,
            default_ack: Level::Kafka,
            topic_retry: Duration::from_millis(200),
            ..SinkConfig::default()
        };
        change(&mut config);
        let routes = compile(&config).unwrap();
        let (writer, log) = memory::open(7, 64 * 1024 * 1024);
        let reports = Reports::new(1);
        let fatal = FatalFlag::default();
        let wiring = Wiring {
            node_id: "node".to_owned(),
            epoch: 7,
            reader: Box::new(log.reader()),
            reports: reports.clone(),
            delivered: None,
            end: None,
            durable: false,
            fatal: fatal.clone(),
        };
        let handle = Sink::start(config, Arc::clone(&routes), wiring);
        Self {
            cluster,
            routes,
            handle: handle.unwrap(),
            log,
            fatal,
            writer,
            reports,
            builder: ChunkBuilder::new(256 * 1024),
            number: 0,
            got: Vec::new(),
        }
    }

    /// Adds a publish to the open chunk.
    pub fn publish(&mut self, client_id: &str, topic: &str, payload: &[u8]) {
        let publisher = Publisher {
            client_id,
            username: None,
        };
        let class = self.routes.classify(publisher, topic);
        let record = Record::Publish(PublishRecord {
            qos: QoS::AtLeastOnce,
            retain: false,
            level: class.level,
            packet_id: 1,
            arrival_ms: 1_763_722_800_000,
            generation: class.generation,
            routes: class.routes,
            client_id,
            matched: None,
            username: None,
            topic,
            properties: None,
            payload,
        });
        if self.builder.push(&record).is_err() {
            self.flush();
            self.builder.push(&record).unwrap();
        }
    }

    /// Whether publishers on `topic` may go on.
    pub fn is_open(&self, topic: &str) -> bool {
        let publisher = Publisher {
            client_id: "x",
            username: None,
        };
        self.routes.is_open(&self.routes.classify(publisher, topic))
    }

    /// Appends the open chunk to the log.
    pub fn flush(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let chunk = self.builder.finish(0, self.number);
        self.number += 1;
        let room = self.writer.wait_room(chunk.as_bytes().len(), SOON).unwrap();
        assert!(room, "the log stays full: {:?}", self.handle.status());
        self.writer.append(&chunk).unwrap();
    }

    /// Reports that came so far.
    pub fn reports(&mut self) -> &[Report] {
        self.reports.slot(0).unwrap().take(&mut self.got);
        &self.got
    }

    /// Waits for that many reports, and that none came twice.
    pub fn wait_reports(&mut self, count: usize) {
        let until = Instant::now() + SOON;
        while self.reports().len() < count {
            assert!(
                Instant::now() < until,
                "{} of {count} reports; {:?}",
                self.got.len(),
                self.handle.status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.reports().len(), count);
        let mut seen = std::collections::HashSet::new();
        assert!(
            self.got.iter().all(|r| seen.insert((r.number, r.index))),
            "a report came twice"
        );
    }

    /// Reports of refused records.
    pub fn refused(&mut self) -> usize {
        let refused = self.reports().iter().filter(|r| r.outcome == Outcome::Refused);
        refused.count()
    }

    pub fn wait_for(&self, what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + SOON;
        while !done() {
            assert!(Instant::now() < until, "{what}: {:?}", self.handle.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the sink; what it could not deliver.
    pub fn stop(&self) -> usize {
        self.handle.stop(Instant::now() + SOON).unwrap()
    }

    /// Reads `topic` until `enough`, or for as long as things may take.
    pub fn consume(&self, topic: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "check")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut assignment = rdkafka::TopicPartitionList::new();
        let metadata = consumer.fetch_metadata(Some(topic), SOON).unwrap();
        for partition in metadata.topics()[0].partitions() {
            let beginning = rdkafka::Offset::Beginning;
            assignment
                .add_partition_offset(topic, partition.id(), beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut seen = Vec::new();
        let until = Instant::now() + SOON;
        while !enough(&seen) {
            assert!(Instant::now() < until, "{} records in {topic}", seen.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                seen.push(see(&message));
            }
        }
        seen
    }
}

fn see(message: &rdkafka::message::BorrowedMessage<'_>) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Seen {
        partition: message.partition(),
        key: text(message.key().unwrap_or_default()),
        value: message.payload().map(<[u8]>::to_vec),
        timestamp: message.timestamp().to_millis(),
        headers: headers
            .map(|h| (h.key.to_owned(), text(h.value.unwrap_or_default())))
            .collect(),
    }
}

/// The first copy of each record by key, in the order of its partition; asserts that nothing is missing and that the
/// values of each key count up from 0.
pub fn assert_in_order(seen: &[Seen], keys: &[&str], each: usize) {
    let mut next: HashMap<&str, usize> = HashMap::new();
    let mut positions = std::collections::HashSet::new();
    for record in seen {
        if !positions.insert(record.position().to_owned()) {
            continue;
        }
        let expected = next.entry(&record.key).or_default();
        let number = record.text();
        let number = number.split(':').next().unwrap_or_default();
        assert_eq!(number, expected.to_string(), "key {}", record.key);
        *expected += 1;
    }
    for key in keys {
        assert_eq!(next.get(key).copied().unwrap_or_default(), each, "key {key}");
    }
}

/// Whether each of `count` records was seen at least once.
pub fn all_of(count: usize) -> impl Fn(&[Seen]) -> bool {
    move |seen| {
        let mut positions: Vec<&str> = seen.iter().map(Seen::position).collect();
        positions.sort_unstable();
        positions.dedup();
        positions.len() >= count
    }
}
