//! MQTT 5.0 properties (section 2.2.2): a checked run of bytes that is read as it is walked, and a builder for it.

use super::primitive::Cursor;
use super::reason::DecodeError;

/// The properties of one packet, without their length: checked when decoded, so that walking them can't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

/// One property (table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the specification's
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(u8),
    RetainAvailable(u8),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

/// Where properties stand: each packet type, and the will, allows its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // the names are the specification's
pub enum Place {
    Connect = 1 << 0,
    Connack = 1 << 1,
    Publish = 1 << 2,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK: the same for all.
    Ack = 1 << 3,
    Subscribe = 1 << 4,
    Unsubscribe = 1 << 5,
    Disconnect = 1 << 6,
    Auth = 1 << 7,
    Will = 1 << 8,
}

const CONNECT: u32 = Place::Connect as u32;
const CONNACK: u32 = Place::Connack as u32;
const PUBLISH: u32 = Place::Publish as u32;
const ACK: u32 = Place::Ack as u32;
const SUBSCRIBE: u32 = Place::Subscribe as u32;
const DISCONNECT: u32 = Place::Disconnect as u32;
const AUTH: u32 = Place::Auth as u32;
const WILL: u32 = Place::Will as u32;

/// The identifier of a property and the places that allow it (table 2-4).
fn allowed(id: u32) -> Option<u32> {
    Some(match id {
        0x01 | 0x02 | 0x03 | 0x08 | 0x09 => PUBLISH | WILL,
        0x0B => PUBLISH | SUBSCRIBE,
        0x11 => CONNECT | CONNACK | DISCONNECT,
        0x12 | 0x13 | 0x1A | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => CONNACK,
        0x15 | 0x16 => CONNECT | CONNACK | AUTH,
        0x17 | 0x19 => CONNECT,
        0x18 => WILL,
        0x1C => CONNACK | DISCONNECT,
        0x1F => CONNACK | ACK | DISCONNECT | AUTH,
        0x21 | 0x22 | 0x27 => CONNECT | CONNACK,
        0x23 => PUBLISH,
        0x26 => u32::MAX,
        _ => return None,
    })
}

impl<'a> Property<'a> {
    /// The property's identifier (table 2-4).
    pub fn id(&self) -> u8 {
        match self {
            Property::PayloadFormatIndicator(_) => 0x01,
            Property::MessageExpiryInterval(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => 0x0B,
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
            Property::UserProperty(..) => 0x26,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifierAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        Ok(match cursor.var_int()? {
            0x01 => Property::PayloadFormatIndicator(cursor.u8()?),
            0x02 => Property::MessageExpiryInterval(cursor.u32()?),
            0x03 => Property::ContentType(cursor.string()?),
            0x08 => Property::ResponseTopic(cursor.string()?),
            0x09 => Property::CorrelationData(cursor.binary()?),
            0x0B => Property::SubscriptionIdentifier(cursor.var_int()?),
            0x11 => Property::SessionExpiryInterval(cursor.u32()?),
            0x12 => Property::AssignedClientIdentifier(cursor.string()?),
            0x13 => Property::ServerKeepAlive(cursor.u16()?),
            0x15 => Property::AuthenticationMethod(cursor.string()?),
            0x16 => Property::AuthenticationData(cursor.binary()?),
            0x17 => Property::RequestProblemInformation(cursor.u8()?),
            0x18 => Property::WillDelayInterval(cursor.u32()?),
            0x19 => Property::RequestResponseInformation(cursor.u8()?),
            0x1A => Property::ResponseInformation(cursor.string()?),
            0x1C => Property::ServerReference(cursor.string()?),
            0x1F => Property::ReasonString(cursor.string()?),
            0x21 => Property::ReceiveMaximum(cursor.u16()?),
            0x22 => Property::TopicAliasMaximum(cursor.u16()?),
            0x23 => Property::TopicAlias(cursor.u16()?),
            0x24 => Property::MaximumQoS(cursor.u8()?),
            0x25 => Property::RetainAvailable(cursor.u8()?),
            0x26 => Property::UserProperty(cursor.string()?, cursor.string()?),
            0x27 => Property::MaximumPacketSize(cursor.u32()?),
            0x28 => Property::WildcardSubscriptionAvailable(cursor.u8()?),
            0x29 => Property::SubscriptionIdentifierAvailable(cursor.u8()?),
            0x2A => Property::SharedSubscriptionAvailable(cursor.u8()?),
            _ => {
                return Err(DecodeError::malformed(
                    "a property identifier is not known (table 2-4)",
                ));
            }
        })
    }
}

/// Checks a value that the specification bounds beyond its type.
fn value_is_allowed(property: &Property<'_>) -> bool {
    match property {
        Property::PayloadFormatIndicator(v)
        | Property::RequestProblemInformation(v)
        | Property::RequestResponseInformation(v)
        | Property::MaximumQoS(v)
        | Property::RetainAvailable(v)
        | Property::WildcardSubscriptionAvailable(v)
        | Property::SubscriptionIdentifierAvailable(v)
        | Property::SharedSubscriptionAvailable(v) => *v <= 1,
        Property::SubscriptionIdentifier(v) => *v != 0,
        Property::ReceiveMaximum(v) => *v != 0,
        Property::MaximumPacketSize(v) => *v != 0,
        _ => true,
    }
}

/// Walks checked properties.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        match self.cursor.is_empty() {
            true => None,
            false => Property::read(&mut self.cursor).ok(),
        }
    }
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty) => {
        $(#[$doc])*
        pub fn $name(&self) -> Option<$type> {
            self.iter().find_map(|property| match property {
                Property::$variant(value) => Some(value),
                _ => None,
            })
        }
    };
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// Checks `raw` as the properties of `place`: known, allowed there, not twice, in bounds [MQTT-2.2.2-2].
    pub fn check(raw: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(raw);
        let mut seen = 0u64;
        while !cursor.is_empty() {
            let property = Property::read(&mut cursor)?;
            let id = u32::from(property.id());
            if allowed(id).is_none_or(|places| places & place as u32 == 0) {
                return Err(DecodeError::protocol(
                    "a property stands where it is not allowed (table 2-4)",
                ));
            }
            let may_repeat = id == 0x26 || (id == 0x0B && place == Place::Publish);
            if seen & (1 << id) != 0 && !may_repeat {
                return Err(DecodeError::protocol("a property stands twice (section 2.2.2.2)"));
            }
            if !value_is_allowed(&property) {
                return Err(DecodeError::protocol(
                    "a property has a value that is not allowed",
                ));
            }
            seen |= 1 << id;
        }
        Ok(Self { raw })
    }

    /// Properties that were checked before they were stored. What can't be read ends the walk.
    pub fn from_checked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes as they stand on the wire, without their length.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// All of them, in the order of the wire.
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            cursor: Cursor::new(self.raw),
        }
    }

    getter!(/** Section 3.3.2.3.2. */ payload_format, PayloadFormatIndicator, u8);
    getter!(/** Section 3.3.2.3.3, seconds. */ message_expiry_s, MessageExpiryInterval, u32);
    getter!(/** Section 3.3.2.3.9. */ content_type, ContentType, &'a str);
    getter!(/** Section 3.3.2.3.5. */ response_topic, ResponseTopic, &'a str);
    getter!(/** Section 3.3.2.3.6. */ correlation_data, CorrelationData, &'a [u8]);
    getter!(/** Section 3.3.2.3.4. */ topic_alias, TopicAlias, u16);
    getter!(/** Section 3.1.2.11.2, seconds. */ session_expiry_s, SessionExpiryInterval, u32);
    getter!(/** Section 3.1.2.11.3. */ receive_maximum, ReceiveMaximum, u16);
    getter!(/** Section 3.1.2.11.4, bytes. */ maximum_packet_size, MaximumPacketSize, u32);
    getter!(/** Section 3.1.2.11.5. */ topic_alias_maximum, TopicAliasMaximum, u16);
    getter!(/** Section 3.1.2.11.7. */ request_problem_information, RequestProblemInformation, u8);
    getter!(/** Section 3.1.2.11.9. */ authentication_method, AuthenticationMethod, &'a str);
    getter!(/** Section 3.1.3.2.2, seconds. */ will_delay_s, WillDelayInterval, u32);
    getter!(/** Section 3.2.2.3.7. */ assigned_client_id, AssignedClientIdentifier, &'a str);
    getter!(/** Section 3.2.2.3.14, seconds. */ server_keep_alive_s, ServerKeepAlive, u16);
    getter!(/** Section 3.2.2.3.9. */ reason_string, ReasonString, &'a str);

    /// Subscription identifiers (sections 3.3.2.3.8 and 3.8.2.1.2).
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// User properties, in order (section 3.3.2.3.7).
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }
}

/// Properties being put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertiesBuf {
    raw: Vec<u8>,
}

impl PropertiesBuf {
    /// Adds one. Text and data beyond 65,535 bytes, which the wire can't hold, are left out.
    pub fn push(&mut self, property: Property<'_>) {
        let start = self.raw.len();
        self.raw.push(property.id());
        let fits = match property {
            Property::PayloadFormatIndicator(v)
            | Property::RequestProblemInformation(v)
            | Property::RequestResponseInformation(v)
            | Property::MaximumQoS(v)
            | Property::RetainAvailable(v)
            | Property::WildcardSubscriptionAvailable(v)
            | Property::SubscriptionIdentifierAvailable(v)
            | Property::SharedSubscriptionAvailable(v) => {
                self.raw.push(v);
                true
            }
            Property::ServerKeepAlive(v)
            | Property::ReceiveMaximum(v)
            | Property::TopicAliasMaximum(v)
            | Property::TopicAlias(v) => self.bytes(&v.to_be_bytes()),
            Property::MessageExpiryInterval(v)
            | Property::SessionExpiryInterval(v)
            | Property::WillDelayInterval(v)
            | Property::MaximumPacketSize(v) => self.bytes(&v.to_be_bytes()),
            Property::SubscriptionIdentifier(v) => {
                super::encode::var_int(v, &mut self.raw);
                true
            }
            Property::CorrelationData(v) | Property::AuthenticationData(v) => self.counted(v),
            Property::ContentType(v)
            | Property::ResponseTopic(v)
            | Property::AssignedClientIdentifier(v)
            | Property::AuthenticationMethod(v)
            | Property::ResponseInformation(v)
            | Property::ServerReference(v)
            | Property::ReasonString(v) => self.counted(v.as_bytes()),
            Property::UserProperty(name, value) => {
                self.counted(name.as_bytes()) && self.counted(value.as_bytes())
            }
        };
        if !fits {
            self.raw.truncate(start);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.raw.extend_from_slice(bytes);
        true
    }

    fn counted(&mut self, bytes: &[u8]) -> bool {
        let Ok(len) = u16::try_from(bytes.len()) else {
            return false;
        };
        self.raw.extend_from_slice(&len.to_be_bytes());
        self.bytes(bytes)
    }

    /// What was added, in order.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.raw }
    }
}
