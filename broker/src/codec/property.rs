//! MQTT 5.0 properties (section 2.2.2): a checked run of bytes that is read as it is walked, and a builder for it.

use super::cursor::{Cursor, text};
use super::encode::{put_binary, put_var_int};
use super::reason::{DecodeError, Reason};
use super::topic;

/// The properties of one packet, without their length: checked when decoded, so that walking them can't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

/// Where properties stand: decides which are allowed (table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)] // the names are those of the packets
pub enum Place {
    Connect = 1,
    Connack = 1 << 1,
    Publish = 1 << 2,
    Will = 1 << 3,
    Puback = 1 << 4,
    Pubrec = 1 << 5,
    Pubrel = 1 << 6,
    Pubcomp = 1 << 7,
    Subscribe = 1 << 8,
    Suback = 1 << 9,
    Unsubscribe = 1 << 10,
    Unsuback = 1 << 11,
    Disconnect = 1 << 12,
    Auth = 1 << 13,
}

/// One property (table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: the payload is UTF-8 text.
    PayloadFormatIndicator(bool),
    /// 0x02: seconds that the message is worth delivering.
    MessageExpiryInterval(u32),
    /// 0x03: what the payload is.
    ContentType(&'a str),
    /// 0x08: topic name for an answer.
    ResponseTopic(&'a str),
    /// 0x09: what an answer is to carry.
    CorrelationData(&'a [u8]),
    /// 0x0B: identifier of the subscription; may stand several times in a PUBLISH.
    SubscriptionIdentifier(u32),
    /// 0x11: seconds that the session outlives its connection.
    SessionExpiryInterval(u32),
    /// 0x12: the client identifier that the server chose.
    AssignedClientIdentifier(&'a str),
    /// 0x13: keep alive that the server wants.
    ServerKeepAlive(u16),
    /// 0x15: name of the enhanced authentication method.
    AuthenticationMethod(&'a str),
    /// 0x16: data of the enhanced authentication.
    AuthenticationData(&'a [u8]),
    /// 0x17: the client wants reason strings and user properties on failures.
    RequestProblemInformation(bool),
    /// 0x18: seconds between the connection's end and the will.
    WillDelayInterval(u32),
    /// 0x19: the client wants response information.
    RequestResponseInformation(bool),
    /// 0x1A: a base for response topics.
    ResponseInformation(&'a str),
    /// 0x1C: another server to use.
    ServerReference(&'a str),
    /// 0x1F: text for a person.
    ReasonString(&'a str),
    /// 0x21: QoS 1 and 2 publishes taken at once.
    ReceiveMaximum(u16),
    /// 0x22: greatest topic alias taken.
    TopicAliasMaximum(u16),
    /// 0x23: number that stands for a topic name.
    TopicAlias(u16),
    /// 0x24: greatest QoS the server takes, 0 or 1.
    MaximumQoS(u8),
    /// 0x25: the server keeps retained messages.
    RetainAvailable(bool),
    /// 0x26: name and value; may stand several times.
    UserProperty(&'a str, &'a str),
    /// 0x27: greatest packet taken, in bytes.
    MaximumPacketSize(u32),
    /// 0x28: wildcards may be subscribed to.
    WildcardSubscriptionAvailable(bool),
    /// 0x29: subscription identifiers may be used.
    SubscriptionIdentifierAvailable(bool),
    /// 0x2A: shared subscriptions may be used.
    SharedSubscriptionAvailable(bool),
}

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_ID: u8 = 0x0B;

/// How the value of a property is written.
#[derive(Clone, Copy)]
enum Kind {
    Byte,
    U16,
    U32,
    VarInt,
    /// Text or binary data: a length and bytes.
    Sized,
    Pair,
}

/// Table 2-4: how property `id` is written and in which places it may stand.
fn row(id: u8) -> Option<(Kind, u16)> {
    use Place as P;
    const CONNECT: u16 = P::Connect as u16;
    const CONNACK: u16 = P::Connack as u16;
    const PUBLISH: u16 = P::Publish as u16;
    const WILL: u16 = P::Will as u16;
    const DISCONNECT: u16 = P::Disconnect as u16;
    const AUTH: u16 = P::Auth as u16;
    const ACKS: u16 = P::Puback as u16
        | P::Pubrec as u16
        | P::Pubrel as u16
        | P::Pubcomp as u16
        | P::Suback as u16
        | P::Unsuback as u16;
    Some(match id {
        0x01 => (Kind::Byte, PUBLISH | WILL),
        0x02 => (Kind::U32, PUBLISH | WILL),
        0x03 | 0x08 | 0x09 => (Kind::Sized, PUBLISH | WILL),
        SUBSCRIPTION_ID => (Kind::VarInt, PUBLISH | P::Subscribe as u16),
        0x11 => (Kind::U32, CONNECT | CONNACK | DISCONNECT),
        0x12 | 0x1A => (Kind::Sized, CONNACK),
        0x13 => (Kind::U16, CONNACK),
        0x15 | 0x16 => (Kind::Sized, CONNECT | CONNACK | AUTH),
        0x17 | 0x19 => (Kind::Byte, CONNECT),
        0x18 => (Kind::U32, WILL),
        0x1C => (Kind::Sized, CONNACK | DISCONNECT),
        0x1F => (Kind::Sized, CONNACK | ACKS | DISCONNECT | AUTH),
        0x21 | 0x22 => (Kind::U16, CONNECT | CONNACK),
        0x23 => (Kind::U16, PUBLISH),
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => (Kind::Byte, CONNACK),
        USER_PROPERTY => (Kind::Pair, u16::MAX),
        0x27 => (Kind::U32, CONNECT | CONNACK),
        _ => return None,
    })
}

/// Splits the first property off: its id and the bytes of its value, for texts and binary data without their length.
fn split<'a>(cursor: &mut Cursor<'a>) -> Result<(u8, u16, &'a [u8]), DecodeError> {
    // The identifier is a variable byte integer, but all that exist fit one byte.
    let id = cursor.u8()?;
    let (kind, places) = row(id).ok_or(DecodeError::malformed("unknown property (section 2.2.2.2)"))?;
    let value = match kind {
        Kind::Byte => cursor.take(1)?,
        Kind::U16 => cursor.take(2)?,
        Kind::U32 => cursor.take(4)?,
        Kind::Sized => cursor.binary()?,
        Kind::VarInt => {
            let before = cursor.rest();
            cursor.var_int()?;
            before
                .get(..before.len() - cursor.rest().len())
                .unwrap_or_default()
        }
        Kind::Pair => {
            let before = cursor.rest();
            cursor.binary()?;
            cursor.binary()?;
            before
                .get(..before.len() - cursor.rest().len())
                .unwrap_or_default()
        }
    };
    Ok((id, places, value))
}

fn flag(value: &[u8]) -> Result<bool, DecodeError> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(DecodeError::protocol(
            "a property is neither 0 nor 1 (section 2.2.2.2)",
        )),
    }
}

fn number(value: &[u8]) -> u32 {
    value.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

impl<'a> Property<'a> {
    /// From what [`split`] gave.
    fn read(id: u8, value: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(match id {
            0x01 => Property::PayloadFormatIndicator(flag(value)?),
            0x02 => Property::MessageExpiryInterval(number(value)),
            0x03 => Property::ContentType(text(value)?),
            0x08 => Property::ResponseTopic(text(value)?),
            0x09 => Property::CorrelationData(value),
            SUBSCRIPTION_ID => Property::SubscriptionIdentifier(Cursor::new(value).var_int()?),
            0x11 => Property::SessionExpiryInterval(number(value)),
            0x12 => Property::AssignedClientIdentifier(text(value)?),
            0x13 => Property::ServerKeepAlive(number(value) as u16),
            0x15 => Property::AuthenticationMethod(text(value)?),
            0x16 => Property::AuthenticationData(value),
            0x17 => Property::RequestProblemInformation(flag(value)?),
            0x18 => Property::WillDelayInterval(number(value)),
            0x19 => Property::RequestResponseInformation(flag(value)?),
            0x1A => Property::ResponseInformation(text(value)?),
            0x1C => Property::ServerReference(text(value)?),
            0x1F => Property::ReasonString(text(value)?),
            0x21 => Property::ReceiveMaximum(number(value) as u16),
            0x22 => Property::TopicAliasMaximum(number(value) as u16),
            0x23 => Property::TopicAlias(number(value) as u16),
            0x24 => Property::MaximumQoS(u8::from(flag(value)?)),
            0x25 => Property::RetainAvailable(flag(value)?),
            USER_PROPERTY => {
                let mut pair = Cursor::new(value);
                Property::UserProperty(pair.text()?, pair.text()?)
            }
            0x27 => Property::MaximumPacketSize(number(value)),
            0x28 => Property::WildcardSubscriptionAvailable(flag(value)?),
            0x29 => Property::SubscriptionIdentifierAvailable(flag(value)?),
            0x2A => Property::SharedSubscriptionAvailable(flag(value)?),
            _ => return Err(DecodeError::malformed("unknown property (section 2.2.2.2)")),
        })
    }

    /// Rules on the value itself.
    fn check_value(&self) -> Result<(), DecodeError> {
        match self {
            Property::ReceiveMaximum(0) => {
                Err(DecodeError::protocol("Receive Maximum is 0 (section 3.1.2.11.3)"))
            }
            Property::MaximumPacketSize(0) => Err(DecodeError::protocol(
                "Maximum Packet Size is 0 (section 3.1.2.11.4)",
            )),
            Property::SubscriptionIdentifier(0) => Err(DecodeError::protocol(
                "Subscription Identifier is 0 (section 3.8.2.1.2)",
            )),
            Property::TopicAlias(0) => Err(DecodeError {
                reason: Reason::TopicAliasInvalid,
                text: "Topic Alias is 0 [MQTT-3.3.2-8]",
            }),
            Property::ResponseTopic(name) => topic::check_name(name),
            _ => Ok(()),
        }
    }

    /// Appends it. `false`, and nothing is appended, when a text or binary value is over 65,535 bytes.
    fn write(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.push(self.id());
        let written = match self {
            Property::PayloadFormatIndicator(value)
            | Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifierAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => {
                out.push(u8::from(*value));
                Ok(())
            }
            Property::MaximumQoS(value) => {
                out.push(*value);
                Ok(())
            }
            Property::ServerKeepAlive(value)
            | Property::ReceiveMaximum(value)
            | Property::TopicAliasMaximum(value)
            | Property::TopicAlias(value) => {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value)
            | Property::MaximumPacketSize(value) => {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }
            Property::SubscriptionIdentifier(value) => put_var_int(*value as usize, out),
            Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => put_binary(bytes, out),
            Property::ContentType(text)
            | Property::ResponseTopic(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => put_binary(text.as_bytes(), out),
            Property::UserProperty(name, value) => {
                put_binary(name.as_bytes(), out).and_then(|()| put_binary(value.as_bytes(), out))
            }
        };
        if written.is_err() {
            out.truncate(start);
        }
        written.is_ok()
    }

    /// Its identifier (table 2-4).
    pub fn id(&self) -> u8 {
        match self {
            Property::PayloadFormatIndicator(_) => 0x01,
            Property::MessageExpiryInterval(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => SUBSCRIPTION_ID,
            Property::SessionExpiryInterval(_) => 0x11,
            Property::AssignedClientIdentifier(_) => 0x12,
            Property::ServerKeepAlive(_) => 0x13,
            Property::AuthenticationMethod(_) => 0x15,
            Property::AuthenticationData(_) => 0x16,
            Property::RequestProblemInformation(_) => 0x17,
            Property::WillDelayInterval(_) => 0x18,
            Property::RequestResponseInformation(_) => 0x19,
            Property::ResponseInformation(_) => 0x1A,
            Property::ServerReference(_) => 0x1C,
            Property::ReasonString(_) => 0x1F,
            Property::ReceiveMaximum(_) => 0x21,
            Property::TopicAliasMaximum(_) => 0x22,
            Property::TopicAlias(_) => 0x23,
            Property::MaximumQoS(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(..) => USER_PROPERTY,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifierAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// Bytes that [`Properties::check`] accepted before and that were kept, as a record or a message keeps them.
    /// Other bytes do no harm: the walk ends where they make no sense.
    pub fn from_checked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Checks the form of each property, that it may stand here, that it stands once, and its value.
    pub fn check(raw: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(raw);
        let mut seen = 0u64;
        while !cursor.is_empty() {
            let (id, places, value) = split(&mut cursor)?;
            if places & place as u16 == 0 {
                return Err(DecodeError::malformed(
                    "a property is not valid for this packet (section 2.2.2.2)",
                ));
            }
            let repeats = id == USER_PROPERTY || (id == SUBSCRIPTION_ID && place == Place::Publish);
            if !repeats && seen & (1 << id) != 0 {
                return Err(DecodeError::protocol("a property stands twice (section 2.2.2.2)"));
            }
            seen |= 1 << id;
            Property::read(id, value)?.check_value()?;
        }
        if seen & (1 << 0x16) != 0 && seen & (1 << 0x15) == 0 {
            return Err(DecodeError::protocol(
                "Authentication Data without Authentication Method (section 3.1.2.11.10)",
            ));
        }
        Ok(Self { raw })
    }

    /// The bytes as they stand on the wire, without their length.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Each property, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.split()
            .map_while(|(id, value)| Property::read(id, value).ok())
    }

    /// Each property unread: so that looking for one does not check the texts of the others again.
    fn split(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut cursor = Cursor::new(self.raw);
        std::iter::from_fn(move || split(&mut cursor).ok().map(|(id, _, value)| (id, value)))
    }

    #[inline]
    fn find(&self, wanted: u8) -> Option<&'a [u8]> {
        match self.raw {
            [] => None, // as with most publishes
            _ => self.find_in_some(wanted),
        }
    }

    fn find_in_some(&self, wanted: u8) -> Option<&'a [u8]> {
        self.split().find(|(id, _)| *id == wanted).map(|(_, value)| value)
    }

    fn find_u32(&self, wanted: u8) -> Option<u32> {
        self.find(wanted).map(number)
    }

    #[inline]
    fn find_u16(&self, wanted: u8) -> Option<u16> {
        self.find(wanted).map(|value| number(value) as u16)
    }

    fn find_flag(&self, wanted: u8) -> Option<bool> {
        self.find(wanted).and_then(|value| flag(value).ok())
    }

    fn find_text(&self, wanted: u8) -> Option<&'a str> {
        self.find(wanted).and_then(|value| text(value).ok())
    }
}

/// Makes one getter a property.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $find:ident($id:literal);)*) => {
        impl<'a> Properties<'a> {
            $($(#[$doc])* #[inline] pub fn $name(&self) -> Option<$type> {
                self.$find($id)
            })*
        }
    };
}

getters! {
    /// Payload Format Indicator: `true` for UTF-8 text.
    payload_format: bool = find_flag(0x01);
    /// Message Expiry Interval.
    message_expiry_s: u32 = find_u32(0x02);
    /// Content Type.
    content_type: &'a str = find_text(0x03);
    /// Response Topic.
    response_topic: &'a str = find_text(0x08);
    /// Correlation Data.
    correlation_data: &'a [u8] = find(0x09);
    /// Session Expiry Interval.
    session_expiry_s: u32 = find_u32(0x11);
    /// Assigned Client Identifier.
    assigned_client_id: &'a str = find_text(0x12);
    /// Server Keep Alive.
    server_keep_alive_s: u16 = find_u16(0x13);
    /// Authentication Method.
    authentication_method: &'a str = find_text(0x15);
    /// Authentication Data.
    authentication_data: &'a [u8] = find(0x16);
    /// Request Problem Information.
    request_problem_information: bool = find_flag(0x17);
    /// Will Delay Interval.
    will_delay_s: u32 = find_u32(0x18);
    /// Request Response Information.
    request_response_information: bool = find_flag(0x19);
    /// Server Reference.
    server_reference: &'a str = find_text(0x1C);
    /// Reason String.
    reason_string: &'a str = find_text(0x1F);
    /// Receive Maximum.
    receive_maximum: u16 = find_u16(0x21);
    /// Topic Alias Maximum.
    topic_alias_maximum: u16 = find_u16(0x22);
    /// Topic Alias.
    topic_alias: u16 = find_u16(0x23);
    /// Maximum Packet Size.
    maximum_packet_size: u32 = find_u32(0x27);
}

impl<'a> Properties<'a> {
    /// Subscription Identifiers: at most one in SUBSCRIBE, one a matching subscription in PUBLISH.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// User properties, name and value, in the order of the wire.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.split()
            .filter(|(id, _)| *id == USER_PROPERTY)
            .filter_map(|(id, value)| match Property::read(id, value) {
                Ok(Property::UserProperty(name, value)) => Some((name, value)),
                _ => None,
            })
    }
}

/// Properties in the making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertiesBuf(Vec<u8>);

impl PropertiesBuf {
    /// Nothing yet; allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends one. Whether it fits its place in the packet is the caller's care. `false`: a text or binary value of
    /// over 65,535 bytes or an identifier of over 268,435,455; nothing was appended.
    pub fn push(&mut self, property: Property<'_>) -> bool {
        property.write(&mut self.0)
    }

    /// Appends all of them.
    pub fn extend(&mut self, properties: Properties<'_>) {
        self.0.extend_from_slice(properties.raw);
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What was pushed.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.0 }
    }
}
