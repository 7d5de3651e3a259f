//! A broker on a data folder, copies of that folder, and a plain client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::Broker;
use forebay_broker::auth::ListenerRules;
use forebay_broker::classify::{Class, Classify, Level, NoRoutes, Publisher};
use forebay_broker::codec::{
    self, Ack, Connect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason,
    RetainHandling, Subscribe, Subscription, Version, Will,
};
use forebay_broker::config::{Config, ListenerConfig, LogConfig};
use forebay_broker::spool::SpoolConfig;
use forebay_broker::store::StoreStatus;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// A data folder.
pub struct Data(TempDir);

impl Data {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// What a kill at this moment would leave. The store's file is copied until it did not change meanwhile, and before
    /// the log that it follows: a copy is not taken at one moment, as a kill is.
    pub fn crash_image(&self) -> Data {
        let image = Data::new();
        loop {
            let before = std::fs::read(self.0.path().join("store.redb")).unwrap();
            std::fs::write(image.0.path().join("store.redb"), &before).unwrap();
            let spool = image.0.path().join("spool");
            let _ = std::fs::remove_dir_all(&spool);
            copy(&self.0.path().join("spool"), &spool);
            if std::fs::read(self.0.path().join("store.redb")).unwrap() == before {
                return image;
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn config(data: &Path) -> Config {
    let mut config = Config {
        workers: 2,
        listeners: vec![ListenerConfig {
            name: "test".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            ..ListenerConfig::default()
        }],
        log: LogConfig::Disk(SpoolConfig {
            dir: data.join("spool"),
            max_bytes: 64 << 20,
            segment_bytes: 8 << 20,
            tail_bytes: 8 << 20,
        }),
        ..Config::default()
    };
    config.limits.will_grace_s = 1;
    config
}

/// Everything is acknowledged once Kafka has it.
struct ToKafka;

impl Classify for ToKafka {
    fn generation(&self) -> u32 {
        0
    }

    fn classify(&self, publisher: Publisher<'_>, topic: &str) -> Class {
        Class {
            level: Level::Kafka,
            ..NoRoutes.classify(publisher, topic)
        }
    }

    fn is_open(&self, _: &Class) -> bool {
        true
    }
}

/// A broker.
pub struct Node {
    broker: Broker,
    address: SocketAddr,
}

impl Node {
    pub fn start(data: PathBuf) -> Self {
        Self::start_with(data, |_| {})
    }

    pub fn start_with(data: PathBuf, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(&data);
        change(&mut config);
        Self::start_classified(config, Arc::new(NoRoutes))
    }

    /// All is accepted at level `kafka`, and there is no sink.
    pub fn start_without_sink(data: PathBuf) -> Self {
        Self::start_classified(config(&data), Arc::new(ToKafka))
    }

    fn start_classified(config: Config, classify: Arc<dyn Classify>) -> Self {
        let mut broker = Broker::start(config, classify, Arc::new(ListenerRules)).unwrap();
        broker.open().unwrap();
        let address = broker.addresses()[0].1.tcp().unwrap();
        Self { broker, address }
    }

    pub fn store(&self) -> StoreStatus {
        self.broker.store_status().unwrap()
    }

    pub fn stop(self) {
        self.broker.stop(Duration::from_secs(5));
    }

    /// Its data folder is of no interest any more: a copy of it lives on.
    pub fn abandon(self) {
        self.stop();
    }
}

/// What a client says of itself.
#[derive(Clone, Copy)]
pub struct Connecting<'a> {
    pub id: &'a str,
    pub clean: bool,
    pub expiry_s: u32,
    pub will: Option<(&'a str, &'a [u8])>,
    pub will_delay_s: u32,
}

impl<'a> Connecting<'a> {
    pub fn kept(id: &'a str) -> Self {
        Self {
            id,
            clean: false,
            expiry_s: 3_600,
            will: None,
            will_delay_s: 0,
        }
    }

    pub fn clean(id: &'a str) -> Self {
        Self {
            clean: true,
            expiry_s: 0,
            ..Self::kept(id)
        }
    }
}

/// What a client was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Puback,
    Pubrec(u16),
    Pubcomp(u16),
    Suback,
    Pingresp,
    Message(String),
    Other(String),
}

pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    pub session_present: bool,
    next_id: u16,
    /// Messages that came while something else was waited for.
    early: Vec<String>,
}

impl Client {
    pub fn connect(node: &Node, connecting: Connecting<'_>) -> Self {
        let stream = TcpStream::connect(node.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self {
            stream,
            read: Vec::new(),
            session_present: false,
            next_id: 1,
            early: Vec::new(),
        };
        let mut properties = PropertiesBuf::default();
        if connecting.expiry_s > 0 {
            properties.push(Property::SessionExpiryInterval(connecting.expiry_s));
        }
        let mut of_will = PropertiesBuf::default();
        if connecting.will_delay_s > 0 {
            of_will.push(Property::WillDelayInterval(connecting.will_delay_s));
        }
        client.send(&Packet::Connect(Connect {
            version: Version::V5,
            bridge: false,
            clean_start: connecting.clean,
            keep_alive_s: 0,
            client_id: connecting.id,
            will: connecting.will.map(|(topic, payload)| Will {
                topic,
                payload,
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: of_will.as_properties(),
            }),
            username: None,
            password: None,
            properties: properties.as_properties(),
        }));
        let frame = client.frame(DEADLINE).expect("CONNACK");
        match codec::decode(Version::V5, &frame).unwrap() {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, Reason::Success);
                client.session_present = connack.session_present;
            }
            other => panic!("{other:?}"),
        }
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        codec::encode(Version::V5, packet, &mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    pub fn disconnect(mut self) {
        self.stream.write_all(&[0xE0, 0]).unwrap();
        // Until the broker has closed: then the session is away. What is left unread would break the connection.
        while self.frame(DEADLINE).is_some() {}
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(7).unwrap(),
            properties: Properties::EMPTY,
            filters: vec![Subscription {
                filter,
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Send,
            }],
        }));
        loop {
            match self.receive() {
                Received::Suback => return,
                Received::Message(text) => self.early.push(text),
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        let id = self.next_id;
        self.next_id += 1;
        self.send_publish(id, topic, payload, qos, false, retain);
    }

    pub fn publish_as(&mut self, id: u16, topic: &str, payload: &[u8], qos: QoS, dup: bool) {
        self.send_publish(id, topic, payload, qos, dup, false);
    }

    fn send_publish(&mut self, id: u16, topic: &str, payload: &[u8], qos: QoS, dup: bool, retain: bool) {
        self.send(&Packet::Publish(Publish {
            dup,
            qos,
            retain,
            topic,
            packet_id: PacketId::new(id),
            payload,
            properties: Properties::EMPTY,
        }));
    }

    pub fn pubrel(&mut self, id: u16) {
        self.send(&Packet::Pubrel(ack(id)));
    }

    /// Waits until what was sent before is handled.
    pub fn ping(&mut self) {
        self.send(&Packet::Pingreq);
        while self.receive() != Received::Pingresp {}
    }

    pub fn pubacks(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.receive(), Received::Puback);
        }
    }

    /// The next thing that comes; a message is acknowledged.
    pub fn receive(&mut self) -> Received {
        self.receive_within(DEADLINE).expect("something")
    }

    fn receive_within(&mut self, wait: Duration) -> Option<Received> {
        let frame = self.frame(wait)?;
        let received = match codec::decode(Version::V5, &frame).unwrap() {
            Packet::Puback(ack) if ack.reason as u8 <= 0x10 => Received::Puback,
            Packet::Pubrec(ack) if ack.reason as u8 <= 0x10 => Received::Pubrec(ack.packet_id.get()),
            Packet::Pubcomp(ack) => Received::Pubcomp(ack.packet_id.get()),
            Packet::Suback(_) => Received::Suback,
            Packet::Pingresp => Received::Pingresp,
            Packet::Pubrel(pubrel) => {
                self.send(&Packet::Pubcomp(ack(pubrel.packet_id.get())));
                return self.receive_within(wait);
            }
            Packet::Publish(publish) => {
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::Puback(ack(id.get()))),
                    (QoS::ExactlyOnce, Some(id)) => self.send(&Packet::Pubrec(ack(id.get()))),
                    _ => {}
                }
                Received::Message(text)
            }
            other => Received::Other(format!("{other:?}")),
        };
        Some(received)
    }

    /// Takes `count` messages in and says nothing.
    pub fn read_without_acknowledging(&mut self, count: usize) {
        for _ in 0..count {
            let frame = self.frame(DEADLINE).expect("a message");
            assert!(matches!(
                codec::decode(Version::V5, &frame).unwrap(),
                Packet::Publish(_)
            ));
        }
    }

    /// Up to `most` messages; fewer when nothing came for a while.
    pub fn messages(&mut self, most: usize) -> Vec<String> {
        self.take_messages(most, Duration::from_millis(2_500))
    }

    /// `count` messages, without a look at what may come after.
    pub fn exactly(&mut self, count: usize) -> Vec<String> {
        self.take_messages(count, DEADLINE)
    }

    fn take_messages(&mut self, most: usize, quiet: Duration) -> Vec<String> {
        let mut messages = std::mem::take(&mut self.early);
        while messages.len() < most {
            match self.receive_within(quiet) {
                Some(Received::Message(text)) => messages.push(text),
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
        messages
    }

    /// The next whole frame; `None` when none comes in time or the broker closed.
    fn frame(&mut self, wait: Duration) -> Option<Vec<u8>> {
        let until = Instant::now() + wait;
        loop {
            if let Ok(Some(len)) = codec::frame_len(&self.read, 1 << 20)
                && self.read.len() >= len
            {
                return Some(self.read.drain(..len).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
    }
}

fn ack(id: u16) -> Ack<'static> {
    Ack {
        packet_id: PacketId::new(id).unwrap(),
        reason: Reason::Success,
        properties: Properties::EMPTY,
    }
}
