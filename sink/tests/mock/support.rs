//! A bench for the sink: mock cluster, log, workers' ends, and a consumer that reads a topic from its beginning.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::bus::{ChunkBuilder, Outcome, Report, Reports};
use forebay_broker::classify::{Class, Classify, Level, Publisher};
use forebay_broker::codec::QoS;
use forebay_broker::fatal::FatalFlag;
use forebay_broker::record::{PublishRecord, Record};
use forebay_broker::spool::fs::RealFs;
use forebay_broker::spool::{self, Log, LogWriter, SpoolConfig, memory};
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
    pub log: Log,
    config: SinkConfig,
    /// Where the log is, when it is on disk.
    dir: Option<tempfile::TempDir>,
    pub fatal: FatalFlag,
    writer: Option<Box<dyn LogWriter>>,
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

/// A publish at QoS 1, of a known time.
pub fn record<'a>(class: &Class, client_id: &'a str, topic: &'a str, payload: &'a [u8]) -> PublishRecord<'a> {
    PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        level: class.level,
        packet_id: 1,
        arrival_ms: 1_763_722_800_000,
        generation: class.generation,
        routes: class.routes.clone(),
        client_id,
        matched: None,
        username: None,
        topic,
        properties: None,
        payload,
    }
}

fn open(dir: &std::path::Path) -> (Box<dyn LogWriter>, Log) {
    let config = SpoolConfig {
        dir: dir.join("spool"),
        max_bytes: 256 << 20,
        segment_bytes: 4 << 20,
        tail_bytes: 1 << 20,
    };
    // The last run's threads may take a moment to let go of the lock.
    let until = Instant::now() + SOON;
    loop {
        match spool::open(&config, 0, Arc::new(RealFs)) {
            Ok((writer, log, _)) => return (Box::new(writer), Log::Disk(log)),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(
    config: &SinkConfig,
    routes: &Arc<Routes>,
    log: &Log,
    reports: &Reports,
    fatal: &FatalFlag,
) -> SinkHandle {
    let wiring = Wiring {
        node_id: "node".to_owned(),
        epoch: log.epoch(),
        reader: log.reader("kafka").unwrap(),
        reports: reports.clone(),
        delivered: None,
        end: None,
        durable: matches!(log, Log::Disk(_)),
        fatal: fatal.clone(),
    };
    Sink::start(config.clone(), Arc::clone(routes), wiring).unwrap()
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
    /// Over a log in memory.
    pub fn new(cluster: Cluster, routes: Vec<RouteConfig>, change: impl FnOnce(&mut SinkConfig)) -> Self {
        let (writer, log) = memory::open(7, 64 * 1024 * 1024);
        Self::over(
            cluster,
            routes,
            change,
            (Box::new(writer), Log::Memory(log)),
            None,
        )
    }

    /// Over a spool on disk, with a quarantine beside it.
    pub fn durable(cluster: Cluster, routes: Vec<RouteConfig>, change: impl FnOnce(&mut SinkConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = dir.path().join("quarantine");
        let log = open(dir.path());
        let change = |config: &mut SinkConfig| {
            config.quarantine_dir = Some(quarantine);
            change(config);
        };
        Self::over(cluster, routes, change, log, Some(dir))
    }

    fn over(
        cluster: Cluster,
        routes: Vec<RouteConfig>,
        change: impl FnOnce(&mut SinkConfig),
        (writer, log): (Box<dyn LogWriter>, Log),
        dir: Option<tempfile::TempDir>,
    ) -> Self {
        let mut config = SinkConfig {
            properties: BTreeMap::from([("bootstrap.servers".into(), cluster.bootstrap_servers())]),
            routes,
            default_ack: Level::Kafka,
            topic_retry: Duration::from_millis(200),
            ..SinkConfig::default()
        };
        change(&mut config);
        let routes = compile(&config).unwrap();
        let reports = Reports::new(1);
        let fatal = FatalFlag::default();
        let handle = start(&config, &routes, &log, &reports, &fatal);
        Self {
            cluster,
            routes,
            handle,
            config,
            dir,
            log,
            fatal,
            writer: Some(writer),
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
        let record = Record::Publish(record(&class, client_id, topic, payload));
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
        let writer = self.writer.as_mut().unwrap();
        let room = writer.wait_room(chunk.as_bytes().len(), SOON).unwrap();
        assert!(room, "the log stays full: {:?}", self.handle.status());
        writer.append(&chunk).unwrap();
        writer.sync().unwrap();
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

    /// Stops the sink within `deadline` and starts everything anew over the same log. Reports begin anew.
    pub fn restart(&mut self, deadline: Duration) {
        self.flush();
        let _ = self.handle.stop(Instant::now() + deadline);
        self.writer = None;
        let (_, empty) = memory::open(0, 1);
        self.log = Log::Memory(empty);
        let (writer, log) = open(self.dir.as_ref().unwrap().path());
        (self.writer, self.log) = (Some(writer), log);
        (self.number, self.reports) = (0, Reports::new(1));
        self.got.clear();
        self.handle = start(&self.config, &self.routes, &self.log, &self.reports, &self.fatal);
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
