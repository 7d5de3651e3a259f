//! Rows of the store's tables as bytes. All numbers are little endian.
//!
//! ```text
//! session       expiry (4, seconds), protocol level (1), bits (1): 0 a user name, 1 left; packet id used last (2),
//!               left at (8, milliseconds since 1970), lengths of client id (2) and user name (2), number of ids that
//!               wait for PUBCOMP (2); client id, user name, ids (2 each)
//! will          bits (1): 0-1 QoS, 2 RETAIN; delay (4, seconds), lengths of topic (2) and properties (4);
//!               topic, properties, payload
//! subscription  first generation (8), bits (1): 0-1 QoS, 2 no local, 3 retain as published, 4 what was retained is sent
//!               for it; subscription id (4, 0: none)
//! queue         message (8), bits (1): 0-1 QoS, 2 RETAIN, 3 sent for a group; packet id it was sent under (2, 0:
//!               none); with bit 3: length (4) and name of the group; subscription ids (4 each)
//! message       origin: epoch (8), worker (2), chunk (8), index (4); bits (1): 0-1 QoS, 2 RETAIN; expires at
//!               (8, milliseconds since 1970, 0: never), lengths of topic (2) and properties (4);
//!               topic, properties, payload
//! taken         fingerprint (8), sequence (8), level (1)
//! ```

use std::sync::Arc;

use super::kept::TakenId;
use super::projection::{Held, Queued, Stored};
use crate::classify::Level;
use crate::codec::{Properties, QoS};
use crate::hub::{SubscriptionIds, SubscriptionOptions};
use crate::record::{Origin, PublishRecord, WillRecord};
use crate::session::{MESSAGE_OVERHEAD_BYTES, Message};

const QOS: u8 = 0x03;
const RETAIN: u8 = 0x04;
const NO_LOCAL: u8 = 0x04;
const AS_PUBLISHED: u8 = 0x08;
const WITH_RETAINED: u8 = 0x10;
const OF_GROUP: u8 = 0x08;
const USERNAME: u8 = 0x01;
const LEFT: u8 = 0x02;

/// Reads a row from its front; `None` once it is too short.
struct Row<'a>(&'a [u8]);

impl<'a> Row<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, len: u16) -> Option<&'a str> {
        std::str::from_utf8(self.take(usize::from(len))?).ok()
    }
}

fn qos(bits: u8) -> Option<QoS> {
    QoS::try_from(bits & QOS).ok()
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// What a publish counts for in the bounds of queues: as [`Message::cost`].
pub(super) fn cost(record: &PublishRecord<'_>) -> usize {
    MESSAGE_OVERHEAD_BYTES
        + record.topic.len()
        + record.payload.len()
        + record.properties.map_or(0, <[u8]>::len)
}

/// The row of a session.
pub(super) fn session(session: &Stored) -> Vec<u8> {
    let username = session.username.as_deref().unwrap_or_default();
    let mut row = Vec::with_capacity(24 + session.client_id.len() + username.len());
    row.extend_from_slice(&session.expiry_s.to_le_bytes());
    let bits = flag(session.username.is_some(), USERNAME) | flag(session.left_ms.is_some(), LEFT);
    row.extend_from_slice(&[session.level, bits]);
    row.extend_from_slice(&session.last_packet_id.to_le_bytes());
    row.extend_from_slice(&session.left_ms.unwrap_or(0).to_le_bytes());
    row.extend_from_slice(&(session.client_id.len() as u16).to_le_bytes());
    row.extend_from_slice(&(username.len() as u16).to_le_bytes());
    row.extend_from_slice(&(session.releasing.len() as u16).to_le_bytes());
    row.extend_from_slice(session.client_id.as_bytes());
    row.extend_from_slice(username.as_bytes());
    for packet_id in &session.releasing {
        row.extend_from_slice(&packet_id.to_le_bytes());
    }
    row
}

/// The session of a row, without what other tables hold of it.
pub(super) fn read_session(row: &[u8]) -> Option<Stored> {
    let mut row = Row(row);
    let (expiry_s, level, bits) = (row.u32()?, row.u8()?, row.u8()?);
    let (last_packet_id, left_ms) = (row.u16()?, row.u64()?);
    let (client_id_len, username_len, releasing) = (row.u16()?, row.u16()?, row.u16()?);
    let client_id: Arc<str> = row.text(client_id_len)?.into();
    let username = row.text(username_len)?;
    let mut session = Stored::new(client_id);
    session.username = (bits & USERNAME != 0).then(|| username.into());
    session.level = level;
    session.expiry_s = expiry_s;
    session.left_ms = (bits & LEFT != 0).then_some(left_ms);
    session.last_packet_id = last_packet_id;
    for _ in 0..releasing {
        session.releasing.push(row.u16()?);
    }
    row.0.is_empty().then_some(session)
}

/// The row of a will.
pub(super) fn will(will: &WillRecord<'_>) -> Vec<u8> {
    let mut row = vec![will.qos as u8 | flag(will.retain, RETAIN)];
    row.extend_from_slice(&will.delay_s.to_le_bytes());
    row.extend_from_slice(&(will.topic.len() as u16).to_le_bytes());
    row.extend_from_slice(&(will.properties.len() as u32).to_le_bytes());
    row.extend_from_slice(will.topic.as_bytes());
    row.extend_from_slice(will.properties);
    row.extend_from_slice(will.payload);
    row
}

/// The will of a row.
pub(super) fn read_will(row: &[u8]) -> Option<WillRecord<'_>> {
    let mut row = Row(row);
    let (bits, delay_s) = (row.u8()?, row.u32()?);
    let (topic_len, properties_len) = (row.u16()?, row.u32()?);
    Some(WillRecord {
        qos: qos(bits)?,
        retain: bits & RETAIN != 0,
        delay_s,
        topic: row.text(topic_len)?,
        properties: row.take(properties_len as usize)?,
        payload: row.0,
    })
}

/// The row of a subscription.
pub(super) fn subscription(held: &Held) -> Vec<u8> {
    let options = &held.options;
    let mut row = held.from.to_le_bytes().to_vec();
    row.push(
        options.qos as u8
            | flag(options.no_local, NO_LOCAL)
            | flag(options.retain_as_published, AS_PUBLISHED)
            | flag(held.retained, WITH_RETAINED),
    );
    row.extend_from_slice(&options.subscription_id.unwrap_or(0).to_le_bytes());
    row
}

/// First generation and options of a subscription's row, and whether what was retained is sent for it.
pub(super) fn read_subscription(row: &[u8]) -> Option<(u64, SubscriptionOptions, bool)> {
    let mut row = Row(row);
    let (from, bits, id) = (row.u64()?, row.u8()?, row.u32()?);
    let options = SubscriptionOptions {
        qos: qos(bits)?,
        no_local: bits & NO_LOCAL != 0,
        retain_as_published: bits & AS_PUBLISHED != 0,
        subscription_id: (id != 0).then_some(id),
        kept: true,
    };
    Some((from, options, bits & WITH_RETAINED != 0))
}

/// The row of a message's place in a queue.
pub(super) fn queued(queued: &Queued) -> Vec<u8> {
    let mut row = Vec::with_capacity(11 + 4 * queued.ids.len());
    row.extend_from_slice(&queued.message.to_le_bytes());
    let bits = flag(queued.retain, RETAIN) | flag(queued.group.is_some(), OF_GROUP);
    row.push(queued.qos as u8 | bits);
    row.extend_from_slice(&queued.packet_id.unwrap_or(0).to_le_bytes());
    if let Some(group) = &queued.group {
        row.extend_from_slice(&(group.len() as u32).to_le_bytes());
        row.extend_from_slice(group.as_bytes());
    }
    for id in &queued.ids {
        row.extend_from_slice(&id.to_le_bytes());
    }
    row
}

/// What a row of a queue says.
#[derive(Debug)]
pub(super) struct QueuedRow {
    pub message: u64,
    pub qos: QoS,
    pub retain: bool,
    pub packet_id: Option<u16>,
    pub group: Option<Arc<str>>,
    pub ids: SubscriptionIds,
}

/// The place in a queue of a row.
pub(super) fn read_queued(row: &[u8]) -> Option<QueuedRow> {
    let mut row = Row(row);
    let (message, bits, packet_id) = (row.u64()?, row.u8()?, row.u16()?);
    let mut group = None;
    if bits & OF_GROUP != 0 {
        let len = row.u32()? as usize;
        group = Some(std::str::from_utf8(row.take(len)?).ok()?.into());
    }
    let mut ids = SubscriptionIds::new();
    while !row.0.is_empty() {
        ids.push(row.u32()?);
    }
    Some(QueuedRow {
        message,
        qos: qos(bits)?,
        retain: bits & RETAIN != 0,
        packet_id: (packet_id != 0).then_some(packet_id),
        group,
        ids,
    })
}

/// When a publish is of no use any more, milliseconds since 1970; 0: never.
pub(super) fn expires_ms(record: &PublishRecord<'_>) -> u64 {
    let properties = Properties::from_checked(record.properties.unwrap_or_default());
    let until = |s: u32| record.arrival_ms.saturating_add(u64::from(s) * 1_000).max(1);
    properties.message_expiry_s().map_or(0, until)
}

const MESSAGE_TOPIC: usize = 22 + 1 + 8 + 2 + 4;

/// The row of a message.
pub(super) fn message(record: &PublishRecord<'_>, origin: Origin) -> Box<[u8]> {
    let properties = record.properties.unwrap_or_default();
    let expires_ms = expires_ms(record);
    let mut row = Vec::with_capacity(MESSAGE_TOPIC + cost(record) - MESSAGE_OVERHEAD_BYTES);
    row.extend_from_slice(&origin.epoch.to_le_bytes());
    row.extend_from_slice(&origin.worker.to_le_bytes());
    row.extend_from_slice(&origin.number.to_le_bytes());
    row.extend_from_slice(&origin.index.to_le_bytes());
    row.push(record.qos as u8 | flag(record.retain, RETAIN));
    row.extend_from_slice(&expires_ms.to_le_bytes());
    row.extend_from_slice(&(record.topic.len() as u16).to_le_bytes());
    row.extend_from_slice(&(properties.len() as u32).to_le_bytes());
    row.extend_from_slice(record.topic.as_bytes());
    row.extend_from_slice(properties);
    row.extend_from_slice(record.payload);
    row.into()
}

/// The message of a row. `now_ms` is the time, in milliseconds since 1970, at which the broker's own clock begins.
pub(super) fn read_message(row: &[u8], now_ms: u64) -> Option<Message> {
    let mut row = Row(row);
    let origin = Origin {
        epoch: row.u64()?,
        worker: row.u16()?,
        number: row.u64()?,
        index: row.u32()?,
    };
    let (bits, expires_ms) = (row.u8()?, row.u64()?);
    let (topic_len, properties_len) = (row.u16()?, row.u32()?);
    let topic = row.text(topic_len)?;
    let properties = row.take(properties_len as usize)?;
    Some(Message {
        topic: topic.into(),
        payload: row.0.into(),
        properties: (!properties.is_empty()).then(|| properties.into()),
        qos: qos(bits)?,
        retain: bits & RETAIN != 0,
        publisher: None,
        expires_at_ms: (expires_ms != 0).then(|| expires_ms.saturating_sub(now_ms)),
        origin: Some(origin),
    })
}

/// The topic of a message's row.
pub(super) fn topic(row: &[u8]) -> Option<&str> {
    let mut row = Row(row);
    row.take(MESSAGE_TOPIC - 6)?;
    let topic_len = row.u16()?;
    row.u32()?;
    row.text(topic_len)
}

/// The row of a QoS 2 id.
pub(super) fn taken(id: &TakenId) -> Vec<u8> {
    let mut row = id.fingerprint.to_le_bytes().to_vec();
    row.extend_from_slice(&id.sequence.to_le_bytes());
    row.push(id.level as u8);
    row
}

/// The QoS 2 id of a row.
pub(super) fn read_taken(packet_id: u16, row: &[u8]) -> Option<TakenId> {
    let mut row = Row(row);
    Some(TakenId {
        packet_id,
        fingerprint: row.u64()?,
        sequence: row.u64()?,
        level: Level::try_from(row.u8()?).ok()?,
    })
}
