//! A client that sends what it is told, byte by byte if need be, and says exactly what came.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use forebay_broker::codec::{
    self, Connect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason,
    RetainHandling, Subscribe, Subscription, Unsubscribe, Version,
};

use crate::support::{TestBroker, plain_connect};

const DEADLINE: Duration = Duration::from_secs(10);

pub const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];
pub const SINCE_311: [Version; 2] = [Version::V311, Version::V5];
pub const V3: [Version; 2] = [Version::V31, Version::V311];

/// A CONNECT that all versions take.
pub fn hello(version: Version, id: &str) -> Connect<'_> {
    plain_connect(id, version)
}

pub fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut buf = PropertiesBuf::new();
    assert!(list.iter().all(|property| buf.push(*property)));
    buf
}

/// A PUBLISH to be sent; its packet id is that of its `qos`, unless it is set.
pub fn publication<'a>(topic: &'a str, payload: &'a [u8], qos: u8) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::try_from(qos).unwrap(),
        retain: false,
        topic,
        packet_id: (qos > 0).then_some(PacketId::MIN),
        payload,
        properties: Properties::EMPTY,
    }
}

pub fn filter(filter: &str, qos: u8) -> Subscription<'_> {
    Subscription {
        filter,
        qos: QoS::try_from(qos).unwrap(),
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

/// What CONNACK said.
#[derive(Debug)]
pub struct Welcome {
    pub session_present: bool,
    pub raw: Vec<u8>,
}

impl Welcome {
    /// Its properties, of a 5.0 client.
    pub fn properties(&self) -> Properties<'_> {
        match codec::decode(Version::V5, &self.raw).unwrap() {
            Packet::Connack(connack) => connack.properties,
            other => panic!("{other:?}"),
        }
    }
}

/// A PUBLISH that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub id: u16,
    pub properties: Vec<u8>,
}

impl Message {
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_checked(&self.properties)
    }
}

pub struct Peer {
    stream: TcpStream,
    pub version: Version,
    read: Vec<u8>,
    /// Messages that came before an answer that was waited for.
    aside: VecDeque<Vec<u8>>,
    next_id: u16,
}

/// A refusal without its Reason String, whose words are no part of the protocol.
fn bare(version: Version, frame: Vec<u8>) -> Vec<u8> {
    let Ok(mut packet) = codec::decode(version, &frame) else {
        return frame;
    };
    let properties = match &mut packet {
        Packet::Connack(packet) => &mut packet.properties,
        Packet::Puback(packet) | Packet::Pubrec(packet) => &mut packet.properties,
        Packet::Suback(packet) => &mut packet.properties,
        Packet::Disconnect(packet) => &mut packet.properties,
        _ => return frame,
    };
    let mut kept = PropertiesBuf::default();
    for property in properties.iter() {
        if !matches!(property, Property::ReasonString(_)) {
            kept.push(property);
        }
    }
    *properties = kept.as_properties();
    let mut bare = Vec::new();
    codec::encode(version, &packet, &mut bare).unwrap();
    bare
}

impl Peer {
    /// A socket that has sent nothing.
    pub fn open(broker: &TestBroker, version: Version) -> Self {
        let stream = TcpStream::connect(broker.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            version,
            read: Vec::new(),
            aside: VecDeque::new(),
            next_id: 100,
        }
    }

    pub fn join(broker: &TestBroker, connect: &Connect<'_>) -> (Self, Welcome) {
        let mut peer = Self::open(broker, connect.version);
        peer.send(&Packet::Connect(connect.clone()));
        let welcome = peer.welcome();
        (peer, welcome)
    }

    /// CONNACK of success.
    pub fn welcome(&mut self) -> Welcome {
        let raw = self.frame().expect("CONNACK");
        match codec::decode(self.version, &raw) {
            Ok(Packet::Connack(connack)) if connack.reason == Reason::Success => Welcome {
                session_present: connack.session_present,
                raw: raw.clone(),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn connect(broker: &TestBroker, version: Version, id: &str) -> Self {
        Self::join(broker, &hello(version, id)).0
    }

    /// With a session that is kept; whether there was one.
    pub fn connect_kept(broker: &TestBroker, version: Version, id: &str) -> (Self, bool) {
        let expiry = properties(&[Property::SessionExpiryInterval(600)]);
        let connect = Connect {
            clean_start: false,
            properties: match version {
                Version::V5 => expiry.as_properties(),
                _ => Properties::EMPTY,
            },
            ..hello(version, id)
        };
        let (peer, welcome) = Self::join(broker, &connect);
        (peer, welcome.session_present)
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(self.version, packet, &mut bytes).unwrap();
        self.send_raw(&bytes);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The same for a peer that may be closed while it writes.
    pub fn try_send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next whole frame; `None`: the broker closed.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        self.aside.pop_front().or_else(|| self.next_frame())
    }

    /// The next frame that is no PUBLISH; those before it are put aside.
    fn answer(&mut self) -> Option<Vec<u8>> {
        loop {
            let frame = self.next_frame()?;
            if frame[0] & 0xF0 != 0x30 {
                return Some(frame);
            }
            self.aside.push_back(frame);
        }
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let len = codec::frame_len(&self.read, usize::MAX).unwrap();
            if let Some(len) = len.filter(|len| self.read.len() >= *len) {
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

    /// The next frame is exactly this.
    pub fn expect(&mut self, bytes: &[u8]) {
        let frame = self.frame().map(|frame| bare(self.version, frame));
        assert_eq!(frame.as_deref(), Some(bytes), "{:?}", self.version);
    }

    /// The next packet but messages answers `id` with this reason: its first byte, then how its version writes it.
    pub fn expect_ack(&mut self, first: u8, id: u16, reason: Reason) {
        let [high, low] = id.to_be_bytes();
        let mut expected = vec![first, 2, high, low];
        if self.version == Version::V5 && reason != Reason::Success {
            expected[1] += 1;
            expected.push(reason as u8);
        }
        let answer = self.answer().map(|frame| bare(self.version, frame));
        assert_eq!(answer, Some(expected), "{:?}", self.version);
    }

    pub fn send_ack(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send_raw(&[first, 2, high, low]);
    }

    /// A PUBLISH, and its answers up to the last.
    pub fn publish(&mut self, publish: &Publish<'_>) {
        self.next_id += 1;
        let id = self.next_id;
        let packet_id = publish.packet_id.and_then(|_| PacketId::new(id));
        self.send(&Packet::Publish(Publish {
            packet_id,
            ..publish.clone()
        }));
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answered(0x40, id),
            QoS::ExactlyOnce => {
                self.answered(0x50, id);
                self.send_ack(0x62, id);
                self.answered(0x70, id);
            }
        }
    }

    /// The next packet is this acknowledgement, without an error.
    fn answered(&mut self, first: u8, id: u16) {
        let frame = self.answer().expect("an acknowledgement");
        let [high, low] = id.to_be_bytes();
        assert_eq!((frame[0], frame[2], frame[3]), (first, high, low), "{frame:x?}");
        assert!(frame.get(4).is_none_or(|reason| *reason < 0x80), "{frame:x?}");
    }

    /// SUBSCRIBE; the reasons of SUBACK.
    pub fn subscribe(&mut self, filters: &[Subscription<'_>], properties: &PropertiesBuf) -> Vec<Reason> {
        self.next_id += 1;
        let packet_id = PacketId::new(self.next_id).unwrap();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            filters: filters.to_vec(),
            properties: properties.as_properties(),
        }));
        let frame = self.answer().expect("SUBACK");
        match codec::decode(self.version, &frame).unwrap() {
            Packet::Suback(suback) if suback.packet_id == packet_id => suback.reasons,
            other => panic!("{other:?}"),
        }
    }

    /// Subscribes to one filter, which must be granted.
    pub fn listen(&mut self, filter: &str, qos: u8) {
        let reasons = self.subscribe(&[self::filter(filter, qos)], &PropertiesBuf::new());
        assert_eq!(reasons.iter().map(|r| *r as u8).collect::<Vec<_>>(), [qos]);
    }

    /// UNSUBSCRIBE; the reasons of UNSUBACK.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<Reason> {
        self.next_id += 1;
        let packet_id = PacketId::new(self.next_id).unwrap();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: filters.to_vec(),
            properties: Properties::EMPTY,
        }));
        let frame = self.answer().expect("UNSUBACK");
        match codec::decode(self.version, &frame).unwrap() {
            Packet::Unsuback(unsuback) if unsuback.packet_id == packet_id => unsuback.reasons,
            other => panic!("{other:?}"),
        }
    }

    /// The next packet, a PUBLISH, not answered.
    pub fn message(&mut self) -> Message {
        let frame = self.frame().expect("PUBLISH");
        match codec::decode(self.version, &frame).unwrap() {
            Packet::Publish(publish) => Message {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                id: publish.packet_id.map_or(0, PacketId::get),
                properties: publish.properties.as_bytes().to_vec(),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The next packet, a PUBLISH, answered to the end.
    pub fn take(&mut self) -> Message {
        let message = self.message();
        match message.qos {
            0 => {}
            1 => self.send_ack(0x40, message.id),
            _ => {
                self.send_ack(0x50, message.id);
                self.expect_ack(0x62, message.id, Reason::Success);
                self.send_ack(0x70, message.id);
            }
        }
        message
    }

    /// The next packet is a PUBLISH with this payload.
    pub fn take_payload(&mut self, payload: &[u8]) -> Message {
        let message = self.take();
        assert_eq!(message.payload, payload, "{:?}: {message:?}", self.version);
        message
    }

    /// A ping is answered, and before it came nothing.
    pub fn ping(&mut self) {
        self.send_raw(b"\xC0\x00");
        self.expect(b"\xD0\x00");
    }

    /// The broker closed, and before that sent nothing.
    pub fn closed(&mut self) {
        assert_eq!(self.frame(), None, "{:?}", self.version);
    }

    /// The broker closed; a 5.0 client was told why.
    pub fn turned_out(&mut self, reason: Reason) {
        if self.version == Version::V5 {
            let frame = self.frame().expect("DISCONNECT");
            match codec::decode(Version::V5, &frame).unwrap() {
                Packet::Disconnect(disconnect) => assert_eq!(disconnect.reason, reason),
                other => panic!("{other:?}"),
            }
        }
        self.closed();
    }

    /// Leaves in order.
    pub fn leave(&mut self) {
        self.send_raw(b"\xE0\x00");
        self.closed();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
