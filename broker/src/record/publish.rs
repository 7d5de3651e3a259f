//! An accepted publish as a record: kind 1.
//!
//! ```text
//! offset size
//!      0    4  length of the whole record, these four bytes included
//!      4    1  kind: 1
//!      5    1  bits 0-1 QoS, bit 2 RETAIN, bits 3-4 level, bit 5 a user name is present, bit 6 MQTT 5 properties,
//!              bit 7 subscriptions of kept sessions matched, or it is retained above QoS 0
//!      6    2  number of route ids
//!      8    8  time of arrival, milliseconds since 1970
//!     16    4  generation of the route table that gave the route ids
//!     20    2  length of the client id
//!     22    2  length of the user name
//!     24    2  length of the topic
//!     26    2  packet id (0 at QoS 0)
//!     28    4  length of the MQTT 5 properties
//!     32       with bit 7: generation of the subscriptions it was matched against (8 bytes); then route ids
//!              (2 bytes each), client id, user name, topic, properties, payload
//! ```

use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::record::RecordError;
use crate::record::read::{take, u64_at};

/// Bytes of a record before its variable part.
pub const HEAD_BYTES: usize = 32;

/// Bytes more that a record has that matched subscriptions of kept sessions.
pub const MATCHED_BYTES: usize = 8;

pub(super) const KIND: u8 = 1;
const RETAIN: u8 = 0x04;
const HAS_USERNAME: u8 = 0x20;
const HAS_PROPERTIES: u8 = 0x40;
const MATCHED: u8 = 0x80;

/// One accepted publish. Strings and payload are borrowed: from the connection's buffer when it is written, from the
/// chunk when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRecord<'a> {
    /// QoS of the publish as the device sent it.
    pub qos: QoS,
    /// The RETAIN flag as the device sent it.
    pub retain: bool,
    /// When its acknowledgement is due.
    pub level: Level,
    /// Packet identifier, 0 at QoS 0.
    pub packet_id: u16,
    /// Time of arrival, milliseconds since 1970.
    pub arrival_ms: u64,
    /// Generation of the route table that gave `routes`.
    pub generation: u32,
    /// The routes that take it, by their number in that table; empty when no route does.
    pub routes: RouteIds,
    /// Generation of the subscriptions that it was matched against, when subscriptions of kept sessions matched, or when it
    /// is retained above QoS 0.
    pub matched: Option<u64>,
    /// The client identifier of the publisher.
    pub client_id: &'a str,
    /// The user name it was let in under.
    pub username: Option<&'a str>,
    /// The topic name.
    pub topic: &'a str,
    /// The MQTT 5 properties as they came, without their length; `None` for a 3.1 or 3.1.1 publish.
    pub properties: Option<&'a [u8]>,
    /// The payload as it came.
    pub payload: &'a [u8],
}

/// The byte of a record's head that says what it is and what it has: user name, properties, matches.
#[inline]
pub(super) fn bits(qos: QoS, retain: bool, level: Level, has: [bool; 3]) -> u8 {
    let [username, properties, matched] = has;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    qos as u8
        | ((level as u8) << 3)
        | flag(retain, RETAIN)
        | flag(username, HAS_USERNAME)
        | flag(properties, HAS_PROPERTIES)
        | flag(matched, MATCHED)
}

/// Whether the store has something to do with such a publish: kept sessions get it, it is retained, or its packet id is taken.
#[inline]
pub(super) fn is_of_store(qos: QoS, retain: bool, matched: Option<u64>) -> bool {
    matched.is_some() || retain || qos == QoS::ExactlyOnce
}

/// Whether the publisher of such a publish waits for Kafka's acknowledgement.
#[inline]
pub(super) fn is_hurried(qos: QoS, level: Level) -> bool {
    level == Level::Kafka && qos != QoS::AtMostOnce
}

impl<'a> PublishRecord<'a> {
    /// Bytes that [`Record::write`] appends.
    pub fn encoded_len(&self) -> usize {
        HEAD_BYTES
            + self.matched.map_or(0, |_| MATCHED_BYTES)
            + 2 * self.routes.len()
            + self.client_id.len()
            + self.username.map_or(0, str::len)
            + self.topic.len()
            + self.properties.map_or(0, <[u8]>::len)
            + self.payload.len()
    }

    /// Whether the store has something to do with it: kept sessions get it, it is retained, or its packet id is taken.
    pub fn concerns_store(&self) -> bool {
        is_of_store(self.qos, self.retain, self.matched)
    }

    /// Whether its publisher waits for Kafka's acknowledgement.
    pub fn hurries(&self) -> bool {
        is_hurried(self.qos, self.level)
    }

    /// Appends the record to `out`. Names are at most 65,535 bytes, as MQTT has them.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        let flags = bits(
            self.qos,
            self.retain,
            self.level,
            [
                self.username.is_some(),
                self.properties.is_some(),
                self.matched.is_some(),
            ],
        );
        let mut head = [0u8; HEAD_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = head.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&(self.encoded_len() as u32).to_le_bytes());
        put(&[KIND, flags]);
        put(&(self.routes.len() as u16).to_le_bytes());
        put(&self.arrival_ms.to_le_bytes());
        put(&self.generation.to_le_bytes());
        put(&(self.client_id.len() as u16).to_le_bytes());
        put(&(self.username.map_or(0, str::len) as u16).to_le_bytes());
        put(&(self.topic.len() as u16).to_le_bytes());
        put(&self.packet_id.to_le_bytes());
        put(&(self.properties.map_or(0, <[u8]>::len) as u32).to_le_bytes());
        out.extend_from_slice(&head);
        if let Some(generation) = self.matched {
            out.extend_from_slice(&generation.to_le_bytes());
        }
        for route in &self.routes {
            out.extend_from_slice(&route.to_le_bytes());
        }
        out.extend_from_slice(self.client_id.as_bytes());
        out.extend_from_slice(self.username.unwrap_or_default().as_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.properties.unwrap_or_default());
        out.extend_from_slice(self.payload);
    }

    /// Reads one that fills `bytes`.
    pub(super) fn read_whole(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (head, bytes) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(RecordError::Truncated)?;
        let [first, arrival_ms, third, fourth] = words(head);
        let (kind, flags, routes_count) = ((first >> 32) as u8, (first >> 40) as u8, (first >> 48) as u16);
        let (client_id_len, username_len) = (third >> 32 & 0xFFFF, third >> 48);
        let (topic_len, properties_len) = (fourth & 0xFFFF, fourth >> 32);
        if kind != KIND {
            return Err(RecordError::Invalid("kind"));
        }
        let (matched, bytes) = match flags & MATCHED {
            0 => (None, bytes),
            _ => u64_at(bytes).map(|(generation, rest)| (Some(generation), rest))?,
        };
        let (route_bytes, bytes) = take(bytes, 2 * usize::from(routes_count))?;
        let mut routes = RouteIds::new();
        for pair in route_bytes.as_chunks::<2>().0 {
            routes.push(u16::from_le_bytes(*pair));
        }
        // One look at all three: each record is read on its way to Kafka.
        let (names, bytes) = take(bytes, (client_id_len + username_len + topic_len) as usize)?;
        let (client_id, username, topic) = parts(names, client_id_len as usize, username_len as usize)?;
        let (properties, payload) = take(bytes, properties_len as usize)?;
        Ok(Self {
            qos: QoS::try_from(flags & 0x03).map_err(|_| RecordError::Invalid("QoS"))?,
            retain: flags & RETAIN != 0,
            level: Level::try_from((flags >> 3) & 0x03).map_err(|()| RecordError::Invalid("level"))?,
            packet_id: (fourth >> 16) as u16,
            arrival_ms,
            generation: third as u32,
            routes,
            matched,
            client_id,
            username: (flags & HAS_USERNAME != 0).then_some(username),
            topic,
            properties: (flags & HAS_PROPERTIES != 0).then_some(properties),
            payload,
        })
    }
}

/// The head as four numbers.
#[inline]
fn words(head: &[u8; HEAD_BYTES]) -> [u64; HEAD_BYTES / 8] {
    let mut words = [0; HEAD_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(head.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Three texts that stand one behind the other, of which the first two have these lengths.
fn parts(bytes: &[u8], first: usize, second: usize) -> Result<(&str, &str, &str), RecordError> {
    const UTF8: RecordError = RecordError::Invalid("UTF-8");
    let all = std::str::from_utf8(bytes).map_err(|_| UTF8)?;
    let (a, rest) = all.split_at_checked(first).ok_or(UTF8)?;
    let (b, c) = rest.split_at_checked(second).ok_or(UTF8)?;
    Ok((a, b, c))
}
