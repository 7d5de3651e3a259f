//! The control packets, one set of types for 3.1, 3.1.1 and 5.0, borrowed from the bytes they were read from
//! (MQTT 5.0 section 3; 3.1.1 section 3).

use std::num::NonZeroU16;

use super::property::Properties;
use super::reason::Reason;

/// The protocol version a client speaks, from CONNECT's protocol name and level (5.0 section 3.1.2.1, 3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: name `MQTT`, level 4.
    V311,
    /// MQTT 5.0: name `MQTT`, level 5.
    V5,
}

impl Version {
    /// Its protocol level, as CONNECT has it.
    pub fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// The version of a protocol level.
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Version::V31),
            4 => Some(Version::V311),
            5 => Some(Version::V5),
            _ => None,
        }
    }
}

/// Quality of service (5.0 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl TryFrom<u8> for QoS {
    type Error = Reason;

    fn try_from(value: u8) -> Result<Self, Reason> {
        match value {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(Reason::MalformedPacket),
        }
    }
}

/// Packet identifier: never 0 [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

/// One control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Client asks for a connection.
    Connect(Connect<'a>),
    /// Server answers CONNECT.
    Connack(Connack<'a>),
    /// An application message.
    Publish(Publish<'a>),
    /// QoS 1 received.
    Puback(Ack<'a>),
    /// QoS 2 received, part 1.
    Pubrec(Ack<'a>),
    /// QoS 2 release, part 2.
    Pubrel(Ack<'a>),
    /// QoS 2 complete, part 3.
    Pubcomp(Ack<'a>),
    /// Client asks for subscriptions.
    Subscribe(Subscribe<'a>),
    /// Server answers SUBSCRIBE.
    Suback(Suback<'a>),
    /// Client gives up subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// Server answers UNSUBSCRIBE; in 3.1 and 3.1.1 without reasons.
    Unsuback(Suback<'a>),
    /// Keep-alive question.
    Pingreq,
    /// Keep-alive answer.
    Pingresp,
    /// The connection ends in order; in 5.0 either side may send it.
    Disconnect(Disconnect<'a>),
    /// Enhanced authentication, 5.0 only.
    Auth(Auth<'a>),
}

/// CONNECT (section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// From protocol name and level.
    pub version: Version,
    /// Bit 0x80 of the protocol level was set: Mosquitto's mark for a bridge.
    pub bridge: bool,
    /// Clean Session (3.x) or Clean Start (5.0).
    pub clean_start: bool,
    /// Seconds without a packet after which the client counts as gone after half as much again; 0: never.
    pub keep_alive_s: u16,
    /// Client identifier; empty when the server is to choose one.
    pub client_id: &'a str,
    /// Message to publish when the connection ends without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password; any bytes.
    pub password: Option<&'a [u8]>,
    /// 5.0 properties; empty for 3.x.
    pub properties: Properties<'a>,
}

/// The will in CONNECT (section 3.1.2.5, 3.1.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Any bytes.
    pub payload: &'a [u8],
    /// QoS it is published at.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// 5.0 will properties.
    pub properties: Properties<'a>,
}

/// CONNACK (section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack<'a> {
    /// The server had state for this client and goes on with it.
    pub session_present: bool,
    /// Result; written as a return code to 3.x clients.
    pub reason: Reason,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// PUBLISH (section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, by the sender's word.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// To be kept for later subscribers.
    pub retain: bool,
    /// Topic name; in 5.0 empty when a topic alias stands for it.
    pub topic: &'a str,
    /// Packet identifier: present at QoS 1 and 2 only.
    pub packet_id: Option<PacketId>,
    /// Any bytes, empty included.
    pub payload: &'a [u8],
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The PUBLISH that is answered.
    pub packet_id: PacketId,
    /// [`Reason::Success`] in 3.x.
    pub reason: Reason,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE (section 3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<Subscription<'a>>,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// One filter of a SUBSCRIBE with its options (5.0 section 3.8.3.1; 3.x knows `qos` only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic filter, `$share/...` included.
    pub filter: &'a str,
    /// Greatest QoS the client wants.
    pub qos: QoS,
    /// Not to the connection it came from.
    pub no_local: bool,
    /// Forward with the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription (5.0 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only when the subscription is new.
    SendIfNew = 1,
    /// Not at all.
    DoNotSend = 2,
}

/// SUBACK, and UNSUBACK with its reasons (sections 3.9 and 3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback<'a> {
    /// The SUBSCRIBE or UNSUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// One per filter, in order; empty in a 3.x UNSUBACK.
    pub reasons: Vec<Reason>,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// UNSUBSCRIBE (section 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<&'a str>,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// DISCONNECT (section 3.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// [`Reason::Success`] (normal disconnection) in 3.x.
    pub reason: Reason,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// AUTH (5.0 section 3.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}
