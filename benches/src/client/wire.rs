//! The packets of a client, on the broker's codec: what is sent, and what an answer means.

use std::num::NonZeroU16;

use anyhow::Result;
use forebay_broker::codec::{
    self, Ack, Connect, Disconnect, Packet, Properties, PropertiesBuf, Property, Publish, QoS, Reason,
    RetainHandling, Subscribe, Subscription, Version,
};

use super::plan::{Plan, read_payload};

/// Largest packet that is taken from a broker.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// How long a 5.0 session is kept for a client that means to come back.
const SESSION_EXPIRY_S: u32 = 3600;

/// A packet from the broker, as far as a publisher cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// CONNACK.
    Connack {
        /// Why the connection was refused, if it was.
        refused: Option<u8>,
        /// The broker goes on with a session.
        session_present: bool,
        /// How many publishes the broker wants unacknowledged at most.
        receive_maximum: u16,
    },
    /// PUBACK.
    Puback { packet_id: NonZeroU16, refused: bool },
    /// PUBREC.
    Pubrec { packet_id: NonZeroU16, refused: bool },
    /// PUBCOMP.
    Pubcomp { packet_id: NonZeroU16 },
    /// SUBACK.
    Suback { refused: bool },
    /// PUBLISH: its id when it is to be acknowledged, and the sequence number in a payload of ours.
    Publish {
        packet_id: Option<NonZeroU16>,
        sequence: Option<u64>,
    },
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT (5.0).
    Disconnect { reason: u8 },
    /// What a server does not send.
    Unexpected,
}

/// Writes CONNECT. A client that means to come back asks for its session to be kept.
pub fn connect(plan: &Plan, client_id: &str, fresh: bool, out: &mut Vec<u8>) -> Result<()> {
    let mut properties = PropertiesBuf::new();
    if plan.version == Version::V5 && plan.reconnect {
        properties.push(Property::SessionExpiryInterval(SESSION_EXPIRY_S));
    }
    let packet = Packet::Connect(Connect {
        version: plan.version,
        bridge: false,
        // Before 5.0 a session that begins clean ends with its connection.
        clean_start: fresh && (plan.version == Version::V5 || !plan.reconnect),
        keep_alive_s: plan.keep_alive_s,
        client_id,
        will: None,
        username: plan.login.as_ref().map(|(name, _)| name.as_str()),
        password: plan.login.as_ref().map(|(_, password)| password.as_bytes()),
        properties: properties.as_properties(),
    });
    Ok(codec::encode(plan.version, &packet, out)?)
}

/// Writes PUBLISH.
pub fn publish(
    plan: &Plan,
    dup: bool,
    packet_id: NonZeroU16,
    topic: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    let packet = Packet::Publish(Publish {
        dup,
        qos: plan.qos,
        retain: false,
        topic,
        packet_id: (plan.qos != QoS::AtMostOnce).then_some(packet_id),
        payload,
        properties: Properties::EMPTY,
    });
    Ok(codec::encode(plan.version, &packet, out)?)
}

/// Writes PUBREL.
pub fn pubrel(plan: &Plan, packet_id: NonZeroU16, out: &mut Vec<u8>) -> Result<()> {
    let ack = Ack {
        packet_id,
        reason: Reason::Success,
        properties: Properties::EMPTY,
    };
    Ok(codec::encode(plan.version, &Packet::Pubrel(ack), out)?)
}

/// Writes PUBACK.
pub fn puback(plan: &Plan, packet_id: NonZeroU16, out: &mut Vec<u8>) -> Result<()> {
    let ack = Ack {
        packet_id,
        reason: Reason::Success,
        properties: Properties::EMPTY,
    };
    Ok(codec::encode(plan.version, &Packet::Puback(ack), out)?)
}

/// Writes SUBSCRIBE of one filter, at the plan's quality of service.
pub fn subscribe(plan: &Plan, filter: &str, out: &mut Vec<u8>) -> Result<()> {
    let subscription = Subscription {
        filter,
        qos: plan.qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    };
    let packet = Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        filters: vec![subscription],
        properties: Properties::EMPTY,
    });
    Ok(codec::encode(plan.version, &packet, out)?)
}

/// Writes PINGREQ.
pub fn ping(plan: &Plan, out: &mut Vec<u8>) -> Result<()> {
    Ok(codec::encode(plan.version, &Packet::Pingreq, out)?)
}

/// Writes DISCONNECT.
pub fn disconnect(plan: &Plan, out: &mut Vec<u8>) -> Result<()> {
    let packet = Packet::Disconnect(Disconnect {
        reason: Reason::Success,
        properties: Properties::EMPTY,
    });
    Ok(codec::encode(plan.version, &packet, out)?)
}

/// The packet at the start of `bytes` and its length; none while it is not whole.
pub fn next(plan: &Plan, bytes: &[u8]) -> Result<Option<(usize, Incoming)>> {
    let Some(len) = codec::frame_len(bytes, MAX_PACKET_BYTES)? else {
        return Ok(None);
    };
    let Some(frame) = bytes.get(..len) else {
        return Ok(None);
    };
    let packet = match codec::decode(plan.version, frame)? {
        Packet::Connack(connack) => Incoming::Connack {
            refused: (connack.reason != Reason::Success).then_some(connack.reason as u8),
            session_present: connack.session_present,
            receive_maximum: connack.properties.receive_maximum().unwrap_or(u16::MAX),
        },
        Packet::Puback(ack) => Incoming::Puback {
            packet_id: ack.packet_id,
            refused: ack.reason.is_error(),
        },
        Packet::Pubrec(ack) => Incoming::Pubrec {
            packet_id: ack.packet_id,
            refused: ack.reason.is_error(),
        },
        Packet::Pubcomp(ack) => Incoming::Pubcomp {
            packet_id: ack.packet_id,
        },
        Packet::Suback(suback) => Incoming::Suback {
            refused: suback.reasons.iter().any(|reason| reason.is_error()),
        },
        Packet::Publish(publish) => Incoming::Publish {
            packet_id: publish.packet_id,
            sequence: plan
                .feed
                .as_ref()
                .and_then(|_| Some(read_payload(publish.payload)?.1)),
        },
        Packet::Pingresp => Incoming::Pingresp,
        Packet::Disconnect(disconnect) => Incoming::Disconnect {
            reason: disconnect.reason as u8,
        },
        _ => Incoming::Unexpected,
    };
    Ok(Some((len, packet)))
}
