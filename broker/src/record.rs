//! The record: one accepted publish as it stands in a chunk, on the bus and in the node's log.
//!
//! Written once, by the worker that accepted it, straight from the connection's read buffer; read as a view by all
//! that come after. All numbers are little endian:
//!
//! ```text
//! offset size
//!      0    4  length of the whole record, these four bytes included
//!      4    1  kind: 1 = publish
//!      5    1  bits 0-1 QoS, bit 2 RETAIN, bits 3-4 level, bit 5 a user name is present, bit 6 MQTT 5 properties
//!      6    2  number of route ids
//!      8    8  time of arrival, milliseconds since 1970
//!     16    4  generation of the route table that gave the route ids
//!     20    2  length of the client id
//!     22    2  length of the user name
//!     24    2  length of the topic
//!     26    2  packet id (0 at QoS 0)
//!     28    4  length of the MQTT 5 properties
//!     32       route ids (2 bytes each), client id, user name, topic, properties, payload
//! ```

use crate::classify::{Level, RouteIds};
use crate::codec::QoS;

/// Bytes of a record before its variable part.
pub const HEAD_BYTES: usize = 32;

const KIND_PUBLISH: u8 = 1;
const RETAIN: u8 = 0x04;
const HAS_USERNAME: u8 = 0x20;
const HAS_PROPERTIES: u8 = 0x40;

/// One accepted publish. Strings and payload are borrowed: from the connection's buffer when it is written, from the
/// chunk when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
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

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The buffer ends before the record does.
    #[error("the record is cut off")]
    Truncated,
    /// A kind, level, QoS or text that this version does not write.
    #[error("the record holds a value that is not allowed: {0}")]
    Invalid(&'static str),
}

impl<'a> Record<'a> {
    /// Bytes that [`Record::write`] appends.
    pub fn encoded_len(&self) -> usize {
        HEAD_BYTES
            + 2 * self.routes.len()
            + self.client_id.len()
            + self.username.map_or(0, str::len)
            + self.topic.len()
            + self.properties.map_or(0, <[u8]>::len)
            + self.payload.len()
    }

    /// Appends the record to `out`. Names are at most 65,535 bytes, as MQTT has them.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        let mut flags = self.qos as u8 | ((self.level as u8) << 3);
        if self.retain {
            flags |= RETAIN;
        }
        if self.username.is_some() {
            flags |= HAS_USERNAME;
        }
        if self.properties.is_some() {
            flags |= HAS_PROPERTIES;
        }
        let mut head = [0u8; HEAD_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = head.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&(self.encoded_len() as u32).to_le_bytes());
        put(&[KIND_PUBLISH, flags]);
        put(&(self.routes.len() as u16).to_le_bytes());
        put(&self.arrival_ms.to_le_bytes());
        put(&self.generation.to_le_bytes());
        put(&(self.client_id.len() as u16).to_le_bytes());
        put(&(self.username.map_or(0, str::len) as u16).to_le_bytes());
        put(&(self.topic.len() as u16).to_le_bytes());
        put(&self.packet_id.to_le_bytes());
        put(&(self.properties.map_or(0, <[u8]>::len) as u32).to_le_bytes());
        out.extend_from_slice(&head);
        for route in &self.routes {
            out.extend_from_slice(&route.to_le_bytes());
        }
        out.extend_from_slice(self.client_id.as_bytes());
        out.extend_from_slice(self.username.unwrap_or_default().as_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.properties.unwrap_or_default());
        out.extend_from_slice(self.payload);
    }

    /// Reads the record at the start of `bytes` and returns it with the bytes that follow it.
    pub fn read(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), RecordError> {
        let (len, _) = u32_at(bytes)?;
        let (whole, rest) = bytes
            .split_at_checked(len as usize)
            .ok_or(RecordError::Truncated)?;
        Ok((Self::read_whole(whole)?, rest))
    }

    fn read_whole(bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let (_, bytes) = u32_at(bytes)?;
        let (kind, bytes) = u8_at(bytes)?;
        let (flags, bytes) = u8_at(bytes)?;
        let (routes_count, bytes) = u16_at(bytes)?;
        let (arrival_ms, bytes) = u64_at(bytes)?;
        let (generation, bytes) = u32_at(bytes)?;
        let (client_id_len, bytes) = u16_at(bytes)?;
        let (username_len, bytes) = u16_at(bytes)?;
        let (topic_len, bytes) = u16_at(bytes)?;
        let (packet_id, bytes) = u16_at(bytes)?;
        let (properties_len, bytes) = u32_at(bytes)?;
        if kind != KIND_PUBLISH {
            return Err(RecordError::Invalid("kind"));
        }
        let (route_bytes, bytes) = take(bytes, 2 * usize::from(routes_count))?;
        let (client_id, bytes) = text(bytes, client_id_len)?;
        let (username, bytes) = text(bytes, username_len)?;
        let (topic, bytes) = text(bytes, topic_len)?;
        let (properties, payload) = take(bytes, properties_len as usize)?;
        Ok(Record {
            qos: QoS::try_from(flags & 0x03).map_err(|_| RecordError::Invalid("QoS"))?,
            retain: flags & RETAIN != 0,
            level: Level::try_from((flags >> 3) & 0x03).map_err(|()| RecordError::Invalid("level"))?,
            packet_id,
            arrival_ms,
            generation,
            routes: route_bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_le_bytes(*pair))
                .collect(),
            client_id,
            username: (flags & HAS_USERNAME != 0).then_some(username),
            topic,
            properties: (flags & HAS_PROPERTIES != 0).then_some(properties),
            payload,
        })
    }
}

fn take(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), RecordError> {
    bytes.split_at_checked(len).ok_or(RecordError::Truncated)
}

fn text(bytes: &[u8], len: u16) -> Result<(&str, &[u8]), RecordError> {
    let (text, rest) = take(bytes, usize::from(len))?;
    let text = std::str::from_utf8(text).map_err(|_| RecordError::Invalid("UTF-8"))?;
    Ok((text, rest))
}

fn u8_at(bytes: &[u8]) -> Result<(u8, &[u8]), RecordError> {
    bytes
        .split_first()
        .map(|(first, rest)| (*first, rest))
        .ok_or(RecordError::Truncated)
}

fn u16_at(bytes: &[u8]) -> Result<(u16, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u16::from_le_bytes(*head), rest))
}

fn u32_at(bytes: &[u8]) -> Result<(u32, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u32::from_le_bytes(*head), rest))
}

fn u64_at(bytes: &[u8]) -> Result<(u64, &[u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Truncated)?;
    Ok((u64::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Record<'static> {
        Record {
            qos: QoS::AtLeastOnce,
            retain: true,
            level: Level::Kafka,
            packet_id: 7,
            arrival_ms: 1_763_722_800_000,
            generation: 3,
            routes: RouteIds::from_slice(&[0, 9]),
            client_id: "d7",
            username: Some("meter"),
            topic: "devices/d7/telemetry",
            properties: Some(&[0x03, 0, 1, b'x']),
            payload: b"21.5",
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_its_rest() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes);
        assert_eq!(bytes.len(), sample().encoded_len());
        bytes.extend_from_slice(b"rest");
        let (record, rest) = Record::read(&bytes).unwrap();
        assert_eq!(record, sample());
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn every_cut_is_an_error() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Record::read(&bytes[..end]), Err(RecordError::Truncated));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 4..200)) {
            let len = (bytes.len() as u32).to_le_bytes();
            bytes[..4].copy_from_slice(&len);
            let _ = Record::read(&bytes);
        }
    }
}
