//! Retained messages (section 3.3.1.3), each in one piece of memory, in the order of their topics' levels. A walk over
//! them goes in slices, each from where the last one ended, so that it holds up nobody. Bounded in number and bytes. A
//! pure structure: no lock.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::SubscriberId;
use super::by_level::{self, Look};
use crate::codec::QoS;
use crate::record::Origin;
use crate::session::Message;

/// There is no room for one more retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limits.max_retained_messages or limits.max_retained_bytes is reached")]
pub struct Full;

/// What is beside text and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    qos: QoS,
    retain: bool,
    publisher: Option<SubscriberId>,
    expires_at_ms: Option<u64>,
    origin: Option<Origin>,
}

const QOS: u8 = 0x03;
const RETAIN: u8 = 0x04;
const EXPIRES: u8 = 0x08;
const ORIGIN: u8 = 0x10;
const PUBLISHER: u8 = 0x20;

/// One message: length of the topic (2) and of the properties (4), topic, bits (1), then as the bits say when it expires
/// (8), its origin (22) and its publisher (10); properties, payload.
#[derive(Debug, Clone)]
struct Row(Box<[u8]>);

const TOPIC_AT: usize = 6;

impl Row {
    fn of(message: &Message) -> Self {
        let properties = message.properties.as_deref().unwrap_or_default();
        let most = TOPIC_AT + 41 + message.topic.len() + properties.len() + message.payload.len();
        let mut row = Vec::with_capacity(most);
        row.extend_from_slice(&(message.topic.len() as u16).to_le_bytes());
        row.extend_from_slice(&(properties.len() as u32).to_le_bytes());
        row.extend_from_slice(message.topic.as_bytes());
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        row.push(
            message.qos as u8
                | flag(message.retain, RETAIN)
                | flag(message.expires_at_ms.is_some(), EXPIRES)
                | flag(message.origin.is_some(), ORIGIN)
                | flag(message.publisher.is_some(), PUBLISHER),
        );
        if let Some(at_ms) = message.expires_at_ms {
            row.extend_from_slice(&at_ms.to_le_bytes());
        }
        if let Some(origin) = message.origin {
            row.extend_from_slice(&origin.epoch.to_le_bytes());
            row.extend_from_slice(&origin.worker.to_le_bytes());
            row.extend_from_slice(&origin.number.to_le_bytes());
            row.extend_from_slice(&origin.index.to_le_bytes());
        }
        if let Some(who) = message.publisher {
            row.extend_from_slice(&who.worker.to_le_bytes());
            row.extend_from_slice(&who.slot.to_le_bytes());
            row.extend_from_slice(&who.generation.to_le_bytes());
        }
        row.extend_from_slice(properties);
        row.extend_from_slice(&message.payload);
        Self(row.into_boxed_slice())
    }

    /// A row to look others up by.
    fn at(topic: &str) -> Self {
        let len = (topic.len() as u16).to_le_bytes();
        Self([&len, &[0; 4][..], topic.as_bytes()].concat().into())
    }

    fn topic(&self) -> &str {
        let len = self.0.first_chunk().map_or(0, |len| u16::from_le_bytes(*len));
        let topic = self.0.get(TOPIC_AT..TOPIC_AT + usize::from(len));
        std::str::from_utf8(topic.unwrap_or_default()).unwrap_or_default()
    }

    /// What comes behind the topic: facts, properties, payload.
    fn read(&self) -> Option<(Facts, &[u8], &[u8])> {
        let mut rest = self.0.get(2..)?;
        let properties_len = u32::from_le_bytes(take(&mut rest)?) as usize;
        rest = rest.get(self.topic().len()..)?;
        let [bits] = take(&mut rest)?;
        let mut facts = Facts {
            qos: QoS::try_from(bits & QOS).ok()?,
            retain: bits & RETAIN != 0,
            publisher: None,
            expires_at_ms: None,
            origin: None,
        };
        if bits & EXPIRES != 0 {
            facts.expires_at_ms = Some(u64::from_le_bytes(take(&mut rest)?));
        }
        if bits & ORIGIN != 0 {
            facts.origin = Some(Origin {
                epoch: u64::from_le_bytes(take(&mut rest)?),
                worker: u16::from_le_bytes(take(&mut rest)?),
                number: u64::from_le_bytes(take(&mut rest)?),
                index: u32::from_le_bytes(take(&mut rest)?),
            });
        }
        if bits & PUBLISHER != 0 {
            facts.publisher = Some(SubscriberId {
                worker: u16::from_le_bytes(take(&mut rest)?),
                slot: u32::from_le_bytes(take(&mut rest)?),
                generation: u32::from_le_bytes(take(&mut rest)?),
            });
        }
        let (properties, payload) = rest.split_at_checked(properties_len)?;
        Some((facts, properties, payload))
    }

    fn message(&self) -> Option<Message> {
        let (facts, properties, payload) = self.read()?;
        Some(Message {
            topic: self.topic().into(),
            payload: payload.into(),
            properties: (!properties.is_empty()).then(|| properties.into()),
            qos: facts.qos,
            retain: facts.retain,
            publisher: facts.publisher,
            expires_at_ms: facts.expires_at_ms,
            origin: facts.origin,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }
}

impl Eq for Row {}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        by_level::compare(self.topic(), other.topic())
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All retained messages.
#[derive(Debug)]
pub struct Retained {
    rows: BTreeMap<Row, ()>,
    /// When which topic's message is of no use any more.
    expiring: BTreeSet<(u64, Box<str>)>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

impl Retained {
    /// None yet.
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            expiring: BTreeSet::new(),
            bytes: 0,
            max_count,
            max_bytes,
        }
    }

    /// Messages kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What they count for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `message` in place of its topic's last one; an empty payload only clears that [MQTT-3.3.1-6,
    /// MQTT-3.3.1-7]. When there is no room, the last one is cleared too: it is not the current one any more.
    pub fn set(&mut self, message: &Message) -> Result<(), Full> {
        self.clear(&message.topic);
        if message.payload.is_empty() {
            return Ok(());
        }
        let bytes = self.bytes + message.cost();
        if self.rows.len() >= self.max_count || bytes > self.max_bytes {
            return Err(Full);
        }
        if let Some(at_ms) = message.expires_at_ms {
            self.expiring.insert((at_ms, message.topic.clone()));
        }
        self.rows.insert(Row::of(message), ());
        self.bytes = bytes;
        Ok(())
    }

    fn clear(&mut self, topic: &str) {
        let Some((row, ())) = self.rows.remove_entry(&Row::at(topic)) else {
            return;
        };
        let Some(message) = row.message() else { return };
        self.bytes -= message.cost();
        if let Some(at_ms) = message.expires_at_ms {
            self.expiring.remove(&(at_ms, message.topic));
        }
    }

    /// Removes up to `most` messages whose time has passed. Returns how many.
    pub fn expire(&mut self, now_ms: u64, most: usize) -> usize {
        for count in 0..most {
            let next = self.expiring.first().filter(|(at_ms, _)| *at_ms <= now_ms);
            let Some((_, topic)) = next.cloned() else {
                return count;
            };
            self.clear(&topic);
        }
        most
    }

    /// The message kept for exactly this topic.
    pub fn get(&self, topic: &str) -> Option<Message> {
        self.rows.get_key_value(&Row::at(topic))?.0.message()
    }

    /// Appends up to `most` messages whose topics match `filter`, from behind the topic `after` on; looks at no more than
    /// `looks` topics. Returns behind which topic to go on, `None` at the end.
    pub fn slice(
        &self,
        filter: &str,
        after: Option<&str>,
        most: usize,
        looks: usize,
        into: &mut Vec<Arc<Message>>,
    ) -> Option<Box<str>> {
        let mut from = match after {
            Some(topic) => Bound::Excluded(Row::at(topic)),
            None => Bound::Included(Row::at(by_level::begin(filter))),
        };
        let (mut found, mut looked) = (0, 0);
        'jump: loop {
            for (row, ()) in self.rows.range((from, Bound::Unbounded)) {
                looked += 1;
                match by_level::look(filter, row.topic()) {
                    Look::Takes => {
                        into.extend(row.message().map(Arc::new));
                        found += 1;
                    }
                    Look::NoMore => return None,
                    Look::GoOnAt(_) if looked >= looks => {}
                    Look::GoOnAt(topic) => {
                        from = Bound::Included(Row::at(&topic));
                        continue 'jump;
                    }
                }
                if found >= most || looked >= looks {
                    return Some(row.topic().into());
                }
            }
            return None;
        }
    }
}
