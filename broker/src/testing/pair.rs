//! A session and its scripted peer on a virtual clock: what the peer sends goes through the codec's bytes, and what the
//! session sends comes back as one line per packet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;

use crate::codec::*;
use crate::config::Limits;
use crate::hub::{Match, SubscriberId, SubscriptionIds};
use crate::record::Origin;
use crate::session::{
    Attach, Delivered, Detach, Message, Request, Restart, Session, SessionLimits, Ticket, Violation,
    WillMessage,
};
use crate::store::{KeptSession, StoreEvent};

/// Greatest packet of these tests.
const MAX_PACKET: usize = 1 << 20;

/// The session under test, and the client's end.
pub struct Pair {
    pub session: Session,
    pub now_ms: u64,
    pub version: Version,
    limits: SessionLimits,
    /// Answers wait for [`Pair::sync`] until their records are durable.
    pub slow_log: bool,
    pub answers: Vec<Ticket>,
    /// What the listener puts before every topic.
    pub mount: Option<Arc<str>>,
    /// Restarts so far: each jumps further.
    restarts: u16,
}

pub fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// A CONNECT that keeps its session.
pub fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive_s: 60,
        client_id: "dev",
        will: None,
        username: None,
        password: None,
        properties: match version {
            Version::V5 => properties(&[Property::SessionExpiryInterval(100)]),
            _ => Properties::EMPTY,
        },
    }
}

pub fn properties(all: &[Property<'_>]) -> Properties<'static> {
    let mut buf = PropertiesBuf::default();
    for property in all {
        buf.push(*property);
    }
    Properties::from_checked(Vec::leak(buf.as_properties().as_bytes().to_vec()))
}

pub fn publish(topic: &'static str, qos: QoS, packet_id: u16, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id),
        payload: b"x",
        properties: Properties::EMPTY,
    })
}

pub fn ack(packet_id: u16, reason: Reason) -> Ack<'static> {
    Ack {
        packet_id: id(packet_id),
        reason,
        properties: Properties::EMPTY,
    }
}

pub fn message(payload: &str, qos: QoS) -> Arc<Message> {
    Arc::new(Message {
        topic: "t".into(),
        payload: payload.as_bytes().into(),
        properties: None,
        qos,
        retain: false,
        publisher: None,
        expires_at_ms: None,
        origin: None,
    })
}

pub fn with_origin(payload: &str, qos: QoS, number: u64) -> Message {
    let mut message = Message::clone(&message(payload, qos));
    message.origin = Some(Origin {
        epoch: 1,
        worker: 0,
        number,
        index: 0,
    });
    message
}

pub fn to(qos: QoS, ids: &[u32]) -> Match {
    Match {
        kept: false,
        who: SubscriberId {
            worker: 0,
            slot: 0,
            generation: 0,
        },
        qos,
        no_local: false,
        retain_as_published: false,
        ids: SubscriptionIds::from_slice(ids),
        share: None,
    }
}

impl Pair {
    /// A session that no client has joined yet.
    pub fn new(version: Version, change: impl FnOnce(&mut SessionLimits)) -> Self {
        let mut limits = SessionLimits::from(&Limits::default());
        change(&mut limits);
        Self {
            session: Session::new("dev".into(), limits),
            now_ms: 1_000,
            version,
            limits,
            slow_log: false,
            answers: Vec::new(),
            mount: None,
            restarts: 0,
        }
    }

    /// A session with a connection whose CONNACK was read.
    pub fn connected(version: Version) -> Self {
        let mut pair = Self::new(version, |_| {});
        pair.connect(connect(version), false);
        pair.read();
        pair
    }

    pub fn connect(&mut self, connect: Connect<'_>, session_present: bool) {
        if !session_present {
            self.session = Session::new("dev".into(), self.limits);
        }
        let granted = Attach {
            session_present,
            keep_alive_s: connect.keep_alive_s,
            assigned_client_id: None,
            max_session_expiry_s: 3_600,
            authentication_data: None,
            response_information: None,
            mount: self.mount.clone(),
        };
        self.session.attach(self.now_ms, &connect, granted);
    }

    /// The connection breaks, and the client comes back to its session. Returns what it reads.
    pub fn resume(&mut self) -> Vec<String> {
        self.session.detach(self.now_ms, Detach::Lost);
        self.connect(connect(self.version), true);
        self.read()
    }

    /// The process is killed, and another has the session as it was kept. Returns what waits for which sequence.
    pub fn restart(&mut self, kept: KeptSession) -> Vec<(Ticket, u64)> {
        self.answers.clear();
        self.restarts += 1;
        let restart = Restart {
            now_ms: self.now_ms,
            away_ms: 0,
            will_grace_ms: 0,
            id_jump: 500 * self.restarts,
        };
        let (session, waiting) = Session::restore(kept, self.limits, restart);
        self.session = session;
        waiting
    }

    pub fn lose(&mut self, how: Detach) -> Option<WillMessage> {
        self.session.detach(self.now_ms, how)
    }

    /// The client sends a packet.
    pub fn send(&mut self, packet: Packet<'_>) -> Result<Request<'static>, Violation> {
        let mut bytes = Vec::new();
        encode(self.version, &packet, &mut bytes).expect("a packet that can be written");
        let packet = decode(self.version, Vec::leak(bytes)).expect("a packet that can be read");
        let request = self.session.handle_packet(self.now_ms, packet)?;
        if let Request::Released { answer, .. } = request {
            self.answers.push(answer);
            if !self.slow_log {
                self.sync();
            }
        }
        Ok(request)
    }

    /// All records so far are durable.
    pub fn sync(&mut self) {
        for answer in std::mem::take(&mut self.answers) {
            self.session.answered(answer);
        }
    }

    /// The client publishes something new.
    pub fn publish(&mut self, qos: QoS, packet_id: u16) -> Ticket {
        match self.send(publish("t", qos, packet_id, false)) {
            Ok(Request::Publish {
                ticket: Some(ticket), ..
            }) => ticket,
            other => panic!("not taken as new: {other:?}"),
        }
    }

    /// The client publishes something that the session knows.
    pub fn publish_again(&mut self, qos: QoS, packet_id: u16) {
        assert_eq!(self.send(publish("t", qos, packet_id, true)), Ok(Request::None));
    }

    pub fn deliver(&mut self, payload: &str, qos: QoS) -> Delivered {
        self.session.deliver(
            self.now_ms,
            &message(payload, qos),
            &to(QoS::ExactlyOnce, &[]),
            false,
        )
    }

    /// Delivers a message of the record `number`.
    pub fn deliver_from(&mut self, number: u64, qos: QoS) -> Delivered {
        let message = with_origin(&number.to_string(), qos, number);
        let to = to(QoS::ExactlyOnce, &[]);
        self.session.deliver(self.now_ms, &Arc::new(message), &to, false)
    }

    /// What the store is told, a line for each event.
    pub fn told(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        self.session.take_events(&mut events);
        let line = |event| match event {
            StoreEvent::Sent {
                origin, packet_id, ..
            } => format!("sent {} #{packet_id}", origin.number),
            StoreEvent::Claimed {
                group,
                origin,
                packet_id,
                ..
            } => format!(
                "claimed {} #{packet_id} of {}",
                origin.number,
                group.escape_default()
            ),
            StoreEvent::Received {
                origin, packet_id, ..
            } => format!("received {} #{packet_id}", origin.number),
            StoreEvent::Walked { .. } => "walked".to_owned(),
            StoreEvent::Completed { packet_id, .. } => format!("completed #{packet_id}"),
            StoreEvent::Done {
                client,
                origin,
                packet_id: None,
            } if client.starts_with('\0') => {
                format!("done {} by {}", origin.number, client.escape_default())
            }
            StoreEvent::Done {
                origin, packet_id, ..
            } => match packet_id {
                Some(packet_id) => format!("done {} #{packet_id}", origin.number),
                None => format!("done {}", origin.number),
            },
        };
        events.into_iter().map(line).collect()
    }

    /// All that the session sends now, a line for each packet.
    pub fn read(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        while self.session.poll_transmit(self.now_ms, &mut bytes, usize::MAX) {}
        let mut lines = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = frame_len(rest, MAX_PACKET).unwrap().unwrap();
            lines.push(line(
                &decode(self.version, &rest[..len]).expect("a packet that can be read"),
            ));
            rest = &rest[len..];
        }
        lines
    }
}

fn line(packet: &Packet<'_>) -> String {
    let answer = |name: &str, ack: &Ack<'_>| match ack.reason {
        Reason::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {reason:?}", ack.packet_id),
    };
    match packet {
        Packet::Connack(c) => format!(
            "CONNACK {:?}{}",
            c.reason,
            if c.session_present { " present" } else { "" }
        ),
        Packet::Publish(p) => publish_line(p),
        Packet::Puback(a) => answer("PUBACK", a),
        Packet::Pubrec(a) => answer("PUBREC", a),
        Packet::Pubrel(a) => answer("PUBREL", a),
        Packet::Pubcomp(a) => answer("PUBCOMP", a),
        Packet::Suback(s) => format!("SUBACK {} {:?}", s.packet_id, s.reasons),
        Packet::Unsuback(s) => format!("UNSUBACK {} {:?}", s.packet_id, s.reasons),
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(d) => format!("DISCONNECT {:?}", d.reason),
        other => panic!("not for a client: {other:?}"),
    }
}

fn publish_line(p: &Publish<'_>) -> String {
    let mut line = format!("PUBLISH {} {}", p.qos as u8, String::from_utf8_lossy(p.payload));
    if p.topic != "t" {
        line += &format!(" @{}", p.topic);
    }
    if let Some(id) = p.packet_id {
        line += &format!(" #{id}");
    }
    for (set, mark) in [(p.dup, " dup"), (p.retain, " retain")] {
        line += if set { mark } else { "" };
    }
    if let Some(s) = p.properties.message_expiry_s() {
        line += &format!(" expiry={s}");
    }
    if let Some(alias) = p.properties.topic_alias() {
        line += &format!(" alias={alias}");
    }
    for id in p.properties.subscription_ids() {
        line += &format!(" sub={id}");
    }
    line
}
