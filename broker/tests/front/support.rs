//! A broker with a reader of its log in the test's hands, and a raw client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay_broker::Broker;
use forebay_broker::auth::{Authenticator, ListenerRules};
use forebay_broker::bus::{Outcome, Report};
use forebay_broker::classify::{Class, Classify, Level, Publisher, RouteIds};
use forebay_broker::codec::{
    self, Ack, Connect, Disconnect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish,
};
use forebay_broker::codec::{QoS, Reason, RetainHandling, Subscribe, Subscription, Unsubscribe};
use forebay_broker::codec::{Version, Will};
use forebay_broker::config::{Config, ListenerConfig, LogConfig};
use forebay_broker::record::{Change, Record, SessionRecord};
use forebay_broker::spool::LogReader;

const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One level for all but topics that begin with the name of another; `stuck/` topics can be closed.
struct OneLevel {
    level: Level,
    open: Arc<AtomicBool>,
}

impl Classify for OneLevel {
    fn generation(&self) -> u32 {
        0
    }

    fn classify(&self, _publisher: Publisher<'_>, topic: &str) -> Class {
        Class {
            generation: 0,
            level: match topic.split('/').next() {
                Some("received") => Level::Received,
                Some("spooled") => Level::Spooled,
                Some("kafka") => Level::Kafka,
                _ => self.level,
            },
            routes: RouteIds::from_slice(&[u16::from(topic.starts_with("stuck/"))]),
        }
    }

    fn is_open(&self, class: &Class) -> bool {
        class.routes[0] == 0 || self.open.load(Ordering::Acquire)
    }
}

pub struct TestBroker {
    broker: Broker,
    reader: Arc<Mutex<Box<dyn LogReader>>>,
    open: Arc<AtomicBool>,
    /// Records of sessions that were read, in words.
    changes: Mutex<Vec<String>>,
    pub address: SocketAddr,
}

/// A publish as the log's reader saw it.
#[derive(Debug)]
pub struct Seen {
    worker: u16,
    number: u64,
    index: u32,
    pub topic: String,
    pub properties: Vec<u8>,
    pub matched: Option<u64>,
    pub payload: Vec<u8>,
}

fn in_words(record: &SessionRecord<'_>) -> String {
    let id = record.client_id;
    match &record.change {
        Change::Release(packet_id) => format!("{id} release {packet_id}"),
        Change::Reset => format!("{id} reset"),
        Change::Open(open) => format!(
            "{id} open {} {}{}",
            open.level,
            open.expiry_s,
            if open.will.is_some() { " will" } else { "" }
        ),
        Change::Closed { expiry_s } => format!("{id} closed {expiry_s}"),
        Change::Left { expiry_s } => format!("{id} left {expiry_s}"),
        Change::Subscribe { filter, options, .. } => {
            assert!(options.kept);
            format!("{id} subscribe {filter} {}", options.qos as u8)
        }
        Change::Unsubscribe { filter, .. } => format!("{id} unsubscribe {filter}"),
    }
}

pub struct Ended {
    pub undecided: usize,
    pub records: usize,
}

/// One worker and a log that 16 records of 1 KiB fill.
pub fn small_log(config: &mut Config) {
    config.workers = 1;
    config.bus.chunk_bytes = 4 * 1024;
    config.limits.max_packet_bytes = 2 * 1024;
    config.log = LogConfig::Memory { max_bytes: 16 * 1024 };
}

impl TestBroker {
    pub fn start(change: impl FnOnce(&mut Config), level: Level) -> Self {
        Self::start_with(change, level, |_| Arc::new(ListenerRules))
    }

    /// Clients are let in by `auth`.
    pub fn start_with(
        change: impl FnOnce(&mut Config),
        level: Level,
        auth: impl FnOnce(&Config) -> Arc<dyn Authenticator>,
    ) -> Self {
        let mut config = Config {
            workers: 2,
            listeners: vec![ListenerConfig {
                name: "test".into(),
                ..ListenerConfig::default()
            }],
            ..Config::default()
        };
        change(&mut config);
        let open = Arc::new(AtomicBool::new(true));
        let classify = OneLevel {
            level,
            open: open.clone(),
        };
        let auth = auth(&config);
        let mut broker = Broker::start(config, Arc::new(classify), auth).unwrap();
        let reader = Arc::new(Mutex::new(broker.log_reader("test").unwrap()));
        broker.open().unwrap();
        let address = broker.addresses()[0].1.tcp().unwrap();
        Self {
            broker,
            reader,
            open,
            changes: Mutex::default(),
            address,
        }
    }

    /// Address of the listener with this index.
    pub fn address_of(&self, listener: usize) -> SocketAddr {
        self.broker.addresses()[listener].1.tcp().unwrap()
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
        self.broker.reports().reopened();
    }

    /// Reads the log until `count` records of sessions came; they are in words.
    pub fn changes(&self, count: usize) -> Vec<String> {
        until("records of sessions", || {
            self.changes.lock().unwrap().len() >= count || {
                self.read(Duration::from_millis(20));
                false
            }
        });
        let changes = std::mem::take(&mut *self.changes.lock().unwrap());
        assert_eq!(changes.len(), count, "{changes:?}");
        changes
    }

    /// Reads the log until `count` publishes came.
    pub fn records(&self, count: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        let start = Instant::now();
        while seen.len() < count {
            assert!(
                start.elapsed() < DEADLINE,
                "{} of {count} records came",
                seen.len()
            );
            seen.extend(self.read(Duration::from_millis(50)));
        }
        assert_eq!(seen.len(), count);
        seen
    }

    pub fn read(&self, timeout: Duration) -> Vec<Seen> {
        let mut reader = self.reader.lock().unwrap();
        let Ok(Some(entry)) = reader.read(timeout) else {
            return Vec::new();
        };
        let chunk = &entry.chunk;
        reader
            .commit(entry.first.sequence + u64::from(chunk.count()))
            .unwrap();
        chunk
            .records()
            .enumerate()
            .filter_map(|(index, record)| match record.unwrap() {
                Record::Publish(record) => Some(Seen {
                    worker: chunk.worker(),
                    number: chunk.number(),
                    index: index as u32,
                    topic: record.topic.to_owned(),
                    properties: record.properties.unwrap_or_default().to_vec(),
                    matched: record.matched,
                    payload: record.payload.to_vec(),
                }),
                Record::Session(record) => {
                    self.changes.lock().unwrap().push(in_words(&record));
                    None
                }
            })
            .collect()
    }

    /// Reads and commits chunks until there were `count` records.
    pub fn commit_all(&self, count: u16) {
        let mut seen = 0;
        while seen < count {
            seen += self.commit_some(Duration::from_secs(5)) as u16;
        }
    }

    /// Reads and commits one chunk; its records.
    pub fn commit_some(&self, timeout: Duration) -> usize {
        let count = self.read(timeout).len();
        assert!(count > 0, "nothing more came into the log");
        count
    }

    /// Reads and commits all that comes, on a thread of its own, until `stop`.
    pub fn drain_until(&self, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
        let reader = self.reader.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let mut reader = reader.lock().unwrap();
                if let Ok(Some(entry)) = reader.read(Duration::from_millis(20)) {
                    let end = entry.first.sequence + u64::from(entry.chunk.count());
                    reader.commit(end).unwrap();
                }
            }
        })
    }

    pub fn report(&self, record: &Seen, outcome: Outcome) {
        let report = Report {
            number: record.number,
            index: record.index,
            outcome,
        };
        self.broker.reports().send(record.worker, &mut vec![report]);
    }

    pub fn stop(self) -> Ended {
        let stopped = self.broker.stop(Duration::from_secs(5));
        let mut records = 0;
        let mut reader = self.reader.lock().unwrap();
        while let Ok(Some(entry)) = reader.read(Duration::from_millis(10)) {
            records += entry.chunk.count() as usize;
        }
        Ended {
            undecided: stopped.undecided,
            records,
        }
    }
}

/// What a client was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Puback(u16, Reason),
    Pubrec(u16, Reason),
    Pubcomp(u16, Reason),
    Suback(u16, Vec<Reason>),
    Unsuback(u16),
    Publish(Vec<u8>, u16),
    Pingresp,
    Disconnect(Reason),
    Closed,
    Other(String),
}

pub struct Client {
    stream: TcpStream,
    pub version: Version,
    read: Vec<u8>,
    pub session_present: bool,
}

/// A CONNECT with a clean start and nothing else to it.
pub fn plain_connect(id: &str, version: Version) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

impl Client {
    pub fn open(broker: &TestBroker) -> Self {
        Self::open_at(broker.address)
    }

    /// Connects as `connect` says. Returns the CONNACK too.
    pub fn connect_as(address: SocketAddr, connect: &Connect<'_>) -> (Self, Vec<u8>) {
        let mut client = Self::open_at(address);
        client.version = connect.version;
        client.send(&Packet::Connect(connect.clone()));
        let frame = client.frame().expect("CONNACK");
        let Ok(Packet::Connack(connack)) = codec::decode(connect.version, &frame) else {
            panic!("not a CONNACK: {frame:?}");
        };
        client.session_present = connack.session_present;
        (client, frame)
    }

    pub fn open_at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            version: Version::V311,
            read: Vec::new(),
            session_present: false,
        }
    }

    pub fn connect(broker: &TestBroker, id: &str, version: Version) -> Self {
        Self::join(broker, id, version, true).expect("connected")
    }

    pub fn connect_kept(broker: &TestBroker, id: &str, version: Version) -> Self {
        Self::join(broker, id, version, false).expect("connected")
    }

    pub fn try_connect(broker: &TestBroker, id: &str, version: Version) -> Option<Self> {
        Self::join(broker, id, version, true)
    }

    fn join(broker: &TestBroker, id: &str, version: Version, clean_start: bool) -> Option<Self> {
        let mut client = Self::open(broker);
        client.version = version;
        let mut properties = PropertiesBuf::default();
        if version == Version::V5 && !clean_start {
            properties.push(Property::SessionExpiryInterval(60));
        }
        let connect = Packet::Connect(Connect {
            clean_start,
            properties: properties.as_properties(),
            ..plain_connect(id, version)
        });
        let mut out = Vec::new();
        codec::encode(version, &connect, &mut out).unwrap();
        client.stream.write_all(&out).ok()?;
        let frame = client.frame()?;
        let Ok(Packet::Connack(connack)) = codec::decode(version, &frame) else {
            panic!("not a CONNACK: {frame:?}");
        };
        assert_eq!(connack.reason, Reason::Success);
        client.session_present = connack.session_present;
        Some(client)
    }

    /// Connects a 3.1.1 client with a will; `behind` is sent in one write with CONNECT.
    pub fn connect_with_will(broker: &TestBroker, id: &str, topic: &str, will: &[u8], behind: &[u8]) -> Self {
        let mut client = Self::open(broker);
        let connect = Packet::Connect(Connect {
            will: Some(Will {
                topic,
                payload: will,
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: Properties::EMPTY,
            }),
            ..plain_connect(id, Version::V311)
        });
        let mut out = Vec::new();
        codec::encode(Version::V311, &connect, &mut out).unwrap();
        out.extend_from_slice(behind);
        client.send_raw(&out);
        let frame = client.frame().expect("CONNACK");
        assert_eq!(frame, [0x20, 2, 0, 0]);
        client
    }

    pub fn publish_frame(
        version: Version,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        id: u16,
        dup: bool,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let publish = Packet::Publish(Publish {
            dup,
            qos,
            retain: false,
            topic,
            packet_id: PacketId::new(id),
            payload,
            properties: Properties::EMPTY,
        });
        codec::encode(version, &publish, &mut out).unwrap();
        out
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, id: u16) {
        let frame = Self::publish_frame(self.version, topic, payload, qos, id, false);
        self.send_raw(&frame);
    }

    pub fn publish_dup(&mut self, topic: &str, payload: &[u8], qos: QoS, id: u16) {
        let frame = Self::publish_frame(self.version, topic, payload, qos, id, true);
        self.send_raw(&frame);
    }

    pub fn try_publish(&mut self, topic: &str, payload: &[u8], qos: QoS, id: u16) -> bool {
        let frame = Self::publish_frame(self.version, topic, payload, qos, id, false);
        self.stream.write_all(&frame).is_ok()
    }

    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.stream.set_write_timeout(Some(timeout)).unwrap();
    }

    pub fn pubrel(&mut self, id: u16) {
        self.send(&Packet::Pubrel(Ack {
            packet_id: PacketId::new(id).unwrap(),
            reason: Reason::Success,
            properties: Properties::EMPTY,
        }));
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS, id: u16) {
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(id).unwrap(),
            filters: vec![Subscription {
                filter,
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Send,
            }],
            properties: Properties::EMPTY,
        }));
    }

    pub fn unsubscribe(&mut self, filter: &str, id: u16) {
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: PacketId::new(id).unwrap(),
            filters: vec![filter],
            properties: Properties::EMPTY,
        }));
    }

    /// Leaves; a 5.0 client may say for how long its session is to be kept.
    pub fn disconnect(&mut self, expiry_s: Option<u32>) {
        let mut properties = PropertiesBuf::default();
        if let Some(expiry_s) = expiry_s {
            properties.push(Property::SessionExpiryInterval(expiry_s));
        }
        self.send(&Packet::Disconnect(Disconnect {
            reason: Reason::Success,
            properties: properties.as_properties(),
        }));
        assert_eq!(self.receive(), Received::Closed);
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        codec::encode(self.version, packet, &mut out).unwrap();
        self.send_raw(&out);
    }

    /// Pings; false when the connection is gone.
    pub fn try_ping(&mut self) -> bool {
        self.stream.write_all(&[0xC0, 0]).is_ok()
    }

    pub fn ping(&mut self) {
        self.send_raw(&[0xC0, 0]);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn socket(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.stream)
    }

    /// The next whole frame; `None` when the broker closed.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Some(len)) = codec::frame_len(&self.read, 1 << 20)
                && self.read.len() >= len
            {
                return Some(self.read.drain(..len).collect());
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return None;
                }
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    pub fn receive(&mut self) -> Received {
        let Some(frame) = self.frame() else {
            return Received::Closed;
        };
        match codec::decode(self.version, &frame).unwrap() {
            Packet::Puback(ack) => Received::Puback(ack.packet_id.get(), ack.reason),
            Packet::Pubrec(ack) => Received::Pubrec(ack.packet_id.get(), ack.reason),
            Packet::Pubcomp(ack) => Received::Pubcomp(ack.packet_id.get(), ack.reason),
            Packet::Suback(suback) => Received::Suback(suback.packet_id.get(), suback.reasons),
            Packet::Unsuback(unsuback) => Received::Unsuback(unsuback.packet_id.get()),
            Packet::Publish(publish) => Received::Publish(
                publish.payload.to_vec(),
                publish.packet_id.map_or(0, PacketId::get),
            ),
            Packet::Pingresp => Received::Pingresp,
            Packet::Disconnect(disconnect) => Received::Disconnect(disconnect.reason),
            other => Received::Other(format!("{other:?}")),
        }
    }

    /// What comes within `time`, if anything.
    pub fn try_receive(&mut self, time: Duration) -> Option<Received> {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let came = matches!(self.stream.peek(&mut byte), Ok(1)) || !self.read.is_empty();
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        came.then(|| self.receive())
    }

    /// Nothing comes for a while.
    pub fn expect_silence(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let read = self.stream.read(&mut byte);
        assert!(
            matches!(&read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "something came: {read:?}"
        );
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }

    /// PUBACKs that come until none came for `quiet`.
    pub fn drain_pubacks(&mut self, quiet: Duration) -> u16 {
        self.drain_pubacks_until(u16::MAX, quiet)
    }

    /// PUBACKs that come, at most `most`, each within `quiet`.
    pub fn drain_pubacks_until(&mut self, most: u16, quiet: Duration) -> u16 {
        self.stream.set_read_timeout(Some(quiet)).unwrap();
        let mut count = 0;
        while count < most {
            while self.read.len() >= 4 && count < most {
                self.read.drain(..4);
                count += 1;
            }
            let mut buffer = [0; 4096];
            if count < most {
                match self.stream.read(&mut buffer) {
                    Ok(read) if read > 0 => self.read.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
        }
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        count
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
