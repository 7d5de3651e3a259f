//! What happens to a kept session, as a record: kind 2. It stands in the log among the client's publishes, in the order
//! in which the worker of the session did it, so that whoever follows the log knows every kept session.
//!
//! ```text
//! offset size
//!      0    4  length of the whole record, these four bytes included
//!      4    1  kind: 2
//!      5    1  change: 1 release, 2 reset, 3 open, 4 closed, 5 subscribe, 6 unsubscribe, 7 left
//!      6    2  length of the client id
//!      8    8  time, milliseconds since 1970
//!     16       client id, then by change:
//!              release      packet id (2)
//!              reset        nothing
//!              open         expiry (4, seconds), protocol level (1), bits (1): 0 a user name, 1 a will;
//!                           user name: length (2), text; will: bits (1) as of a publish's QoS and RETAIN,
//!                           delay (4, seconds), topic length (2), properties length (4), topic, properties, payload
//!              closed, left expiry (4, seconds)
//!              subscribe    generation (8), options (1): bits 0-1 QoS, 2 no local, 3 retain as published,
//!                           4 retained messages are sent; subscription id (4, 0: none); filter
//!              unsubscribe  generation (8), filter
//! ```

use super::RecordError;
use super::read::{take, text, u8_at, u16_at, u32_at, u64_at};
use crate::codec::QoS;
use crate::hub::SubscriptionOptions;

pub(super) const KIND: u8 = 2;
const HEAD_BYTES: usize = 16;

const USERNAME: u8 = 0x01;
const WILL: u8 = 0x02;
const RETAIN: u8 = 0x04;
const NO_LOCAL: u8 = 0x04;
const AS_PUBLISHED: u8 = 0x08;
const SEND_RETAINED: u8 = 0x10;

/// One change of the kept session of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    /// Whose.
    pub client_id: &'a str,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub change: Change<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// PUBREL: the packet id of a QoS 2 publish is free again. PUBCOMP is sent once this is durable.
    Release(u16),
    /// The session is gone with all it had: a clean start, its expiry, or a connection that ended it.
    Reset,
    /// A connection joined it; it is made if it was not there.
    Open(Open<'a>),
    /// Its connection ended and its will, if one was due, stands in the log before this.
    Closed {
        /// Seconds for which it is kept from now; `u32::MAX`: for ever.
        expiry_s: u32,
    },
    /// Its connection ended, and its will waits for its delay.
    Left {
        /// Seconds for which it is kept from now; `u32::MAX`: for ever.
        expiry_s: u32,
    },
    /// A subscription was made or replaced.
    Subscribe {
        /// Topic filter.
        filter: &'a str,
        /// As asked for.
        options: SubscriptionOptions,
        /// The first generation of the subscriptions that has it.
        generation: u64,
        /// Retained messages were sent for it.
        send_retained: bool,
    },
    /// A subscription was ended.
    Unsubscribe {
        /// Topic filter.
        filter: &'a str,
        /// The first generation of the subscriptions that does not have it.
        generation: u64,
    },
}

/// A connection joins a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Seconds for which the session outlives the connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// Protocol level of its CONNECT: 3, 4 or 5.
    pub level: u8,
    /// The user name it was let in under.
    pub username: Option<&'a str>,
    /// Its will.
    pub will: Option<WillRecord<'a>>,
}

/// A will as it was given in CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WillRecord<'a> {
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Will Delay Interval, seconds.
    pub delay_s: u32,
    /// Topic name.
    pub topic: &'a str,
    /// Its MQTT 5 properties without the delay.
    pub properties: &'a [u8],
    /// Any bytes.
    pub payload: &'a [u8],
}

impl<'a> SessionRecord<'a> {
    /// Bytes that [`SessionRecord::write`] appends.
    pub fn encoded_len(&self) -> usize {
        let body = match &self.change {
            Change::Release(_) => 2,
            Change::Reset => 0,
            Change::Open(open) => {
                6 + open.username.map_or(0, |name| 2 + name.len())
                    + open.will.map_or(0, |will| {
                        11 + will.topic.len() + will.properties.len() + will.payload.len()
                    })
            }
            Change::Closed { .. } | Change::Left { .. } => 4,
            Change::Subscribe { filter, .. } => 13 + filter.len(),
            Change::Unsubscribe { filter, .. } => 8 + filter.len(),
        };
        HEAD_BYTES + self.client_id.len() + body
    }

    /// Appends the record to `out`. Names are at most 65,535 bytes, as MQTT has them.
    pub fn write(&self, out: &mut Vec<u8>) {
        let number = match self.change {
            Change::Release(_) => 1,
            Change::Reset => 2,
            Change::Open(_) => 3,
            Change::Closed { .. } => 4,
            Change::Subscribe { .. } => 5,
            Change::Unsubscribe { .. } => 6,
            Change::Left { .. } => 7,
        };
        out.extend_from_slice(&(self.encoded_len() as u32).to_le_bytes());
        out.extend_from_slice(&[KIND, number]);
        out.extend_from_slice(&(self.client_id.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(self.client_id.as_bytes());
        match &self.change {
            Change::Release(packet_id) => out.extend_from_slice(&packet_id.to_le_bytes()),
            Change::Reset => {}
            Change::Open(open) => open.write(out),
            Change::Closed { expiry_s } | Change::Left { expiry_s } => {
                out.extend_from_slice(&expiry_s.to_le_bytes())
            }
            Change::Subscribe {
                filter,
                options,
                generation,
                send_retained,
            } => {
                let mut bits = options.qos as u8;
                bits |= if options.no_local { NO_LOCAL } else { 0 };
                bits |= if options.retain_as_published {
                    AS_PUBLISHED
                } else {
                    0
                };
                bits |= if *send_retained { SEND_RETAINED } else { 0 };
                out.extend_from_slice(&generation.to_le_bytes());
                out.push(bits);
                out.extend_from_slice(&options.subscription_id.unwrap_or(0).to_le_bytes());
                out.extend_from_slice(filter.as_bytes());
            }
            Change::Unsubscribe { filter, generation } => {
                out.extend_from_slice(&generation.to_le_bytes());
                out.extend_from_slice(filter.as_bytes());
            }
        }
    }

    /// Reads one that fills `bytes`.
    pub(super) fn read_whole(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (_len_and_kind, bytes) = take(bytes, 5)?;
        let (number, bytes) = u8_at(bytes)?;
        let (client_id_len, bytes) = u16_at(bytes)?;
        let (at_ms, bytes) = u64_at(bytes)?;
        let (client_id, bytes) = text(bytes, client_id_len)?;
        let change = match number {
            1 => Change::Release(u16_at(bytes)?.0),
            2 => Change::Reset,
            3 => Change::Open(Open::read(bytes)?),
            4 => Change::Closed {
                expiry_s: u32_at(bytes)?.0,
            },
            5 => read_subscribe(bytes)?,
            6 => {
                let (generation, bytes) = u64_at(bytes)?;
                Change::Unsubscribe {
                    filter: rest_as_text(bytes)?,
                    generation,
                }
            }
            7 => Change::Left {
                expiry_s: u32_at(bytes)?.0,
            },
            _ => return Err(RecordError::Invalid("change")),
        };
        Ok(Self {
            client_id,
            at_ms,
            change,
        })
    }
}

impl<'a> Open<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut bits = 0;
        bits |= if self.username.is_some() { USERNAME } else { 0 };
        bits |= if self.will.is_some() { WILL } else { 0 };
        out.extend_from_slice(&self.expiry_s.to_le_bytes());
        out.extend_from_slice(&[self.level, bits]);
        if let Some(name) = self.username {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        if let Some(will) = &self.will {
            out.push(will.qos as u8 | if will.retain { RETAIN } else { 0 });
            out.extend_from_slice(&will.delay_s.to_le_bytes());
            out.extend_from_slice(&(will.topic.len() as u16).to_le_bytes());
            out.extend_from_slice(&(will.properties.len() as u32).to_le_bytes());
            out.extend_from_slice(will.topic.as_bytes());
            out.extend_from_slice(will.properties);
            out.extend_from_slice(will.payload);
        }
    }

    fn read(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (expiry_s, bytes) = u32_at(bytes)?;
        let (level, bytes) = u8_at(bytes)?;
        let (bits, mut bytes) = u8_at(bytes)?;
        let mut username = None;
        if bits & USERNAME != 0 {
            let (len, rest) = u16_at(bytes)?;
            let (name, rest) = text(rest, len)?;
            username = Some(name);
            bytes = rest;
        }
        let will = match bits & WILL {
            0 => None,
            _ => Some(WillRecord::read(bytes)?),
        };
        Ok(Self {
            expiry_s,
            level,
            username,
            will,
        })
    }
}

impl<'a> WillRecord<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (bits, bytes) = u8_at(bytes)?;
        let (delay_s, bytes) = u32_at(bytes)?;
        let (topic_len, bytes) = u16_at(bytes)?;
        let (properties_len, bytes) = u32_at(bytes)?;
        let (topic, bytes) = text(bytes, topic_len)?;
        let (properties, payload) = take(bytes, properties_len as usize)?;
        Ok(Self {
            qos: QoS::try_from(bits & 0x03).map_err(|_| RecordError::Invalid("QoS"))?,
            retain: bits & RETAIN != 0,
            delay_s,
            topic,
            properties,
            payload,
        })
    }
}

fn read_subscribe(bytes: &[u8]) -> Result<Change<'_>, RecordError> {
    let (generation, bytes) = u64_at(bytes)?;
    let (bits, bytes) = u8_at(bytes)?;
    let (id, bytes) = u32_at(bytes)?;
    Ok(Change::Subscribe {
        filter: rest_as_text(bytes)?,
        options: SubscriptionOptions {
            qos: QoS::try_from(bits & 0x03).map_err(|_| RecordError::Invalid("QoS"))?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & AS_PUBLISHED != 0,
            subscription_id: (id != 0).then_some(id),
            kept: true,
        },
        generation,
        send_retained: bits & SEND_RETAINED != 0,
    })
}

fn rest_as_text(bytes: &[u8]) -> Result<&str, RecordError> {
    std::str::from_utf8(bytes).map_err(|_| RecordError::Invalid("UTF-8"))
}
