//! Fuzz target: a string of bytes as what happens to one session: connections of any version that come and go, packets of
//! a client that may send anything, messages for it, answers of the broker in any order, time. Nothing may panic; no
//! bound may be exceeded; what is sent must decode, within what the client takes, acknowledgements in the order of the
//! publishes [MQTT-4.6.0-2, MQTT-4.6.0-3], messages in their order [MQTT-4.6.0-6], nothing behind DISCONNECT.
#![no_main]
// Of the rooms that are taken in, most is for others.
#![allow(dead_code, unused_imports)]

#[path = "rooms/auth.rs"]
mod auth;
#[path = "../../src/classify.rs"]
mod classify;
#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/hub/mod.rs"]
mod hub;
#[path = "../../src/record/mod.rs"]
mod record;
#[path = "../../src/session/mod.rs"]
mod session;
#[path = "rooms/spool.rs"]
mod spool;
#[path = "rooms/store.rs"]
mod store;

use std::collections::VecDeque;
use std::sync::Arc;

use codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason,
    Subscribe, Version, decode, frame_len, topic,
};
use config::Limits;
use hub::{Match, SubscriberId, SubscriptionOptions};
use libfuzzer_sys::fuzz_target;
use record::Origin;
use session::{
    Attach, Delivered, Detach, Message, Request, Session, SessionLimits, Ticket, TimeoutKind, Violation,
};

/// Greatest packet that the session takes.
const MAX_PACKET_BYTES: usize = 4_096;

const RECEIVE_MAXIMUM: u16 = 6;
const MAX_INFLIGHT: u16 = 4;
const MAX_QUEUED: usize = 12;
const MAX_SUBSCRIPTIONS: usize = 8;
const TOPIC_ALIASES: u16 = 3;

/// What an operation may leave unsent: who lets it grow reads no further, and so does this target.
const CONTROL_BYTES: usize = 16 * 1024;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fuzz_target!(|input: &[u8]| {
    let mut node = Node::new();
    let mut input = Input(input);
    while let Some(operation) = input.byte() {
        node.run(operation, &mut input);
        node.check();
    }
});

/// The bytes that say what happens.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A byte, or 0 at the end.
    fn next(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A packet id; few, so that they meet.
    fn id(&mut self) -> Option<PacketId> {
        PacketId::new(u16::from(self.next() % 9))
    }
}

/// The broker around one session, and what it knows of its client.
struct Node {
    session: Session,
    limits: SessionLimits,
    now_ms: u64,
    version: Version,
    /// The session was there before, and is to be kept.
    known: bool,
    /// The greatest packet the client takes.
    most: usize,
    window: usize,
    /// Publishes that were accepted and not settled, of this connection and of those before it.
    unsettled: Vec<Ticket>,
    /// Answers whose record is not durable.
    unanswered: Vec<Ticket>,
    /// Publishes of QoS 1 and 2 of this connection, in their order.
    to_acknowledge: VecDeque<(QoS, PacketId)>,
    /// Messages for the client, numbered.
    delivered: u32,
    /// The next new message must not be older than this.
    next: u32,
    greeted: bool,
    ended: bool,
}

impl Node {
    fn new() -> Self {
        let limits = Limits {
            receive_maximum: RECEIVE_MAXIMUM,
            max_inflight_messages: MAX_INFLIGHT,
            max_queued_messages: MAX_QUEUED,
            max_queued_bytes: 4_096,
            max_subscriptions: MAX_SUBSCRIPTIONS,
            max_packet_bytes: MAX_PACKET_BYTES,
            topic_alias_maximum: TOPIC_ALIASES,
            topic_alias_maximum_out: TOPIC_ALIASES,
            ..Limits::default()
        };
        let mut limits = SessionLimits::from(&limits);
        limits.tells_store = true;
        Self {
            session: Session::new("fuzz".into(), limits),
            limits,
            now_ms: 1,
            version: Version::V5,
            known: false,
            most: usize::MAX,
            window: 0,
            unsettled: Vec::new(),
            unanswered: Vec::new(),
            to_acknowledge: VecDeque::new(),
            delivered: 0,
            next: 0,
            greeted: false,
            ended: false,
        }
    }

    fn run(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation % 16 {
            0 => self.attach(input),
            1 => self.detach(input.next()),
            2 | 3 => self.deliver(input),
            4 | 5 => self.transmit(usize::from(input.next()) * 8),
            6 => self.settle(input.next(), input.next()),
            7 => self.answered(input.next()),
            8 => self.wait(u64::from(input.next()) * 200),
            9 => {
                let len = usize::from(input.next());
                self.frame(input.take(len));
            }
            10 | 11 => self.publish(input),
            12 => self.acknowledge(input),
            13 => self.subscribe(input),
            14 => self.packet(Packet::Pingreq),
            _ => {
                if input.next() < 32 {
                    self.session.close(Reason::ServerShuttingDown);
                } else {
                    let mut events = Vec::new();
                    self.session.take_events(&mut events);
                    let _ = self.session.take_drops();
                }
            }
        }
    }

    /// A connection begins; one that stands is taken over.
    fn attach(&mut self, input: &mut Input<'_>) {
        let flags = input.next();
        self.detach(3);
        self.version = [Version::V31, Version::V311, Version::V5][usize::from(flags % 3)];
        let clean = flags & 0x80 != 0;
        let mut properties = PropertiesBuf::default();
        (self.most, self.window) = (usize::MAX, usize::from(MAX_INFLIGHT));
        if self.version == Version::V5 {
            let (expiry, most, window) = (input.next(), input.next(), input.next());
            properties.push(Property::SessionExpiryInterval(u32::from(expiry)));
            if most < 200 {
                self.most = usize::from(most) + 20;
                properties.push(Property::MaximumPacketSize(self.most as u32));
            }
            if let 1..=8 = window {
                self.window = self.window.min(usize::from(window));
                properties.push(Property::ReceiveMaximum(u16::from(window)));
            }
            if flags & 0x40 != 0 {
                properties.push(Property::TopicAliasMaximum(3));
            }
        }
        let connect = Connect {
            version: self.version,
            bridge: flags & 0x20 != 0,
            clean_start: clean,
            keep_alive_s: 10,
            client_id: "fuzz",
            will: None,
            username: None,
            password: None,
            properties: properties.as_properties(),
        };
        if clean || !self.known {
            self.forget();
        }
        let granted = Attach {
            session_present: self.known,
            keep_alive_s: 10,
            max_session_expiry_s: 100,
            ..Attach::default()
        };
        self.session.attach(self.now_ms, &connect, granted);
        self.to_acknowledge.clear();
        self.known = self.session.is_persistent();
        (self.greeted, self.ended) = (false, false);
    }

    /// The session ends, and its client begins a new one.
    fn forget(&mut self) {
        self.session = Session::new("fuzz".into(), self.limits);
        self.unsettled.clear();
        self.unanswered.clear();
        self.known = false;
        self.next = self.delivered;
    }

    fn detach(&mut self, how: u8) {
        let how = [Detach::Clean, Detach::WithWill, Detach::Lost, Detach::TakenOver][usize::from(how % 4)];
        let _ = self.session.detach(self.now_ms, how);
        self.known = self.session.is_persistent();
        if !self.known {
            self.forget();
        }
    }

    fn deliver(&mut self, input: &mut Input<'_>) {
        let (flags, size) = (input.next(), usize::from(input.next()));
        let mut payload = self.delivered.to_be_bytes().to_vec();
        payload.resize(4 + size * 2, b'x');
        let mut properties = PropertiesBuf::default();
        if flags & 0x10 != 0 {
            properties.push(Property::ContentType("text"));
            properties.push(Property::UserProperty("k", "v"));
        }
        let message = Arc::new(Message {
            topic: ["a", "a/b", "topic/of/some/length"][usize::from(flags >> 5) % 3].into(),
            payload: payload.into(),
            properties: (flags & 0x10 != 0).then(|| properties.as_properties().as_bytes().into()),
            qos: QOS[usize::from(flags % 3)],
            retain: flags & 4 != 0,
            publisher: None,
            expires_at_ms: (flags & 8 != 0).then(|| self.now_ms + 5_000),
            origin: Some(Origin {
                epoch: 1,
                worker: 0,
                number: u64::from(self.delivered),
                index: 0,
            }),
        });
        let who = SubscriberId {
            worker: 0,
            slot: 0,
            generation: 0,
        };
        let filter = codec::Subscription {
            filter: "#",
            qos: QOS[usize::from(flags / 3 % 3)],
            no_local: false,
            retain_as_published: flags & 0x80 != 0,
            retain_handling: codec::RetainHandling::Send,
        };
        let id = (flags & 0x40 != 0).then_some(7);
        let to: Match = SubscriptionOptions::new(&filter, id).as_match(who);
        let delivered = self.session.deliver(self.now_ms, &message, &to, flags & 4 != 0);
        assert_ne!(delivered, Delivered::Expired);
        self.delivered += 1;
    }

    fn settle(&mut self, which: u8, how: u8) {
        if self.unsettled.is_empty() {
            return;
        }
        let ticket = self
            .unsettled
            .swap_remove(usize::from(which) % self.unsettled.len());
        let result = if how < 200 {
            Ok(())
        } else {
            Err(Reason::QuotaExceeded)
        };
        self.session.settle(ticket, result);
    }

    fn answered(&mut self, which: u8) {
        if !self.unanswered.is_empty() {
            let ticket = self
                .unanswered
                .swap_remove(usize::from(which) % self.unanswered.len());
            self.session.answered(ticket);
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now_ms) {
            match self.session.handle_timeout(self.now_ms) {
                Some(TimeoutKind::KeepAlive) => self.session.close(Reason::KeepAliveTimeout),
                Some(TimeoutKind::Expired) => {
                    assert!(!self.session.is_attached());
                    self.forget();
                }
                _ => {}
            }
        } else {
            let _ = self.session.handle_timeout(self.now_ms);
        }
    }

    /// Bytes of the client, whatever they are.
    fn frame(&mut self, bytes: &[u8]) {
        if let Ok(packet) = decode(self.version, bytes) {
            self.packet(packet);
        }
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let (flags, packet_id) = (input.next(), input.id());
        let qos = QOS[usize::from(flags % 3)];
        let payload = input.take(usize::from(flags >> 6));
        let mut properties = PropertiesBuf::default();
        if self.version == Version::V5 && flags & 0x20 != 0 {
            properties.push(Property::TopicAlias(u16::from(flags >> 6)));
        }
        let bytes = properties.as_properties().as_bytes().to_vec();
        self.packet(Packet::Publish(Publish {
            dup: flags & 0x10 != 0,
            qos,
            retain: false,
            topic: if flags & 8 != 0 && self.version == Version::V5 {
                ""
            } else {
                "t"
            },
            packet_id: packet_id.filter(|_| qos != QoS::AtMostOnce),
            payload,
            properties: Properties::from_checked(&bytes),
        }));
    }

    fn acknowledge(&mut self, input: &mut Input<'_>) {
        let kind = input.next();
        let Some(packet_id) = PacketId::new(u16::from(input.next() % 12)) else {
            return;
        };
        let ack = Ack {
            packet_id,
            reason: if kind >= 200 && self.version == Version::V5 {
                Reason::UnspecifiedError
            } else {
                Reason::Success
            },
            properties: Properties::EMPTY,
        };
        self.packet(match kind % 4 {
            0 => Packet::Puback(ack),
            1 => Packet::Pubrec(ack),
            2 => Packet::Pubrel(ack),
            _ => Packet::Pubcomp(ack),
        });
    }

    fn subscribe(&mut self, input: &mut Input<'_>) {
        let filter = format!("f/{}/#", input.next() % 12);
        let Some(packet_id) = input.id() else { return };
        self.packet(Packet::Subscribe(Subscribe {
            packet_id,
            filters: vec![codec::Subscription {
                filter: &filter,
                qos: QoS::AtLeastOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: codec::RetainHandling::Send,
            }],
            properties: Properties::EMPTY,
        }));
    }

    /// A packet of the client, as the connection and the worker handle it.
    fn packet(&mut self, packet: Packet<'_>) {
        if !self.session.is_attached() || self.session.control_bytes() > CONTROL_BYTES {
            return;
        }
        let came = match &packet {
            Packet::Publish(publish) if publish.qos != QoS::AtMostOnce => {
                if !self.session.can_take_publish() {
                    return;
                }
                publish.packet_id.map(|packet_id| (publish.qos, packet_id))
            }
            _ => None,
        };
        match self.session.handle_packet(self.now_ms, packet) {
            Ok(request) => {
                self.to_acknowledge.extend(came);
                self.request(request);
            }
            Err(Violation { reason, .. }) => self.session.close(reason),
        }
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Publish { ticket, publish } => {
                assert_eq!(ticket.is_some(), publish.qos != QoS::AtMostOnce);
                self.unsettled.extend(ticket);
            }
            Request::Released { answer, .. } => self.unanswered.push(answer),
            Request::Subscribe(subscribe) => {
                let mut reasons = Vec::new();
                for asked in &subscribe.filters {
                    let plain = topic::split_share(asked.filter).map_or(asked.filter, |(_, plain)| plain);
                    assert!(topic::check_filter(plain).is_ok());
                    reasons.push(self.session.admit_subscription(asked));
                }
                let wait = self.session.is_persistent();
                let answer = self.session.subscribed(subscribe.packet_id, reasons, wait);
                self.unanswered.extend(answer);
            }
            Request::Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.filters.iter();
                let reasons: Vec<Reason> = filters
                    .map(|filter| match self.session.forget_subscription(filter) {
                        true => Reason::Success,
                        false => Reason::NoSubscriptionExisted,
                    })
                    .collect();
                let wait = self.session.is_persistent();
                let answer = self.session.unsubscribed(unsubscribe.packet_id, reasons, wait);
                self.unanswered.extend(answer);
            }
            Request::Disconnect { with_will } => self.detach(u8::from(with_will)),
            _ => {}
        }
    }

    /// Has the session write, and reads it as the client does.
    fn transmit(&mut self, soft_limit: usize) {
        let mut out = Vec::new();
        self.session.poll_transmit(self.now_ms, &mut out, soft_limit);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let len = frame_len(rest, usize::MAX)
                .expect("a frame")
                .expect("a whole frame");
            let (frame, behind) = rest.split_at(len);
            rest = behind;
            assert!(!self.ended, "nothing comes behind DISCONNECT");
            assert!(len <= self.most, "the client takes {} bytes", self.most);
            let packet = decode(self.version, frame).expect("what is sent can be read");
            self.read(&packet);
        }
    }

    fn read(&mut self, packet: &Packet<'_>) {
        assert!(
            self.greeted || matches!(packet, Packet::Connack(_)) || self.most < 64,
            "CONNACK is first"
        );
        match packet {
            Packet::Connack(_) => {
                assert!(!self.greeted, "there is one CONNACK");
                self.greeted = true;
            }
            Packet::Puback(ack) => self.acknowledgement(QoS::AtLeastOnce, ack),
            Packet::Pubrec(ack) => self.acknowledgement(QoS::ExactlyOnce, ack),
            Packet::Publish(publish) => self.message(publish),
            Packet::Disconnect(Disconnect { .. }) => {
                assert_eq!(self.version, Version::V5);
                self.ended = true;
            }
            Packet::Pubrel(_) | Packet::Pubcomp(_) | Packet::Suback(_) | Packet::Unsuback(_) => {}
            Packet::Pingresp | Packet::Auth(_) => {}
            other => panic!("only a client sends {other:?}"),
        }
    }

    /// What it answers came in this connection, and what came before that needs no answer any more: it was one of two
    /// copies, or refused.
    fn acknowledgement(&mut self, qos: QoS, ack: &Ack<'_>) {
        let at = self
            .to_acknowledge
            .iter()
            .position(|came| *came == (qos, ack.packet_id));
        let at = at.expect("acknowledgements come in the order of the publishes");
        self.to_acknowledge.drain(..=at);
    }

    fn message(&mut self, publish: &Publish<'_>) {
        let number: [u8; 4] = publish.payload[..4].try_into().expect("a number");
        let number = u32::from_be_bytes(number);
        assert!(number < self.delivered);
        assert_eq!(publish.packet_id.is_some(), publish.qos != QoS::AtMostOnce);
        if !publish.dup {
            assert!(number >= self.next, "messages come in their order, once");
            self.next = number + 1;
        }
    }

    fn check(&self) {
        let session = &self.session;
        assert!(session.inflight() <= usize::from(MAX_INFLIGHT));
        assert!(session.queued() <= MAX_QUEUED);
        assert!(session.filters().count() <= MAX_SUBSCRIPTIONS);
        assert!(session.control_bytes() <= CONTROL_BYTES + MAX_PACKET_BYTES);
        assert!(
            session.pending_acks() <= usize::from(RECEIVE_MAXIMUM),
            "publishes under way"
        );
    }
}
