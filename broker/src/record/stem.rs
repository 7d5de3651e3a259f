//! What all publishes of one publisher on one topic have in common, written once: a device says much on few topics.

use crate::classify::Class;
use crate::codec::Publish;
use crate::record::publish::{HEAD_BYTES, KIND, MATCHED_BYTES, bits, is_hurried, is_of_store};

/// A record from its head to its topic, without what each publish has of its own.
#[derive(Debug)]
pub(crate) struct Stem {
    /// Bytes 0 to 7 of the head, with 0 for what each publish has of its own; then 16 to 23 and 24 to 31.
    first: u64,
    third: u64,
    fourth: u64,
    /// Route ids, client id, user name, topic.
    names: Box<[u8]>,
    topic: Box<str>,
    class: Class,
    has_username: bool,
}

/// What a record says of its publish beside the publish itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// Time of arrival, milliseconds since 1970.
    pub arrival_ms: u64,
    /// The same of [`PublishRecord`](super::PublishRecord).
    pub matched: Option<u64>,
}

impl Stem {
    /// Of this publisher, for what goes where `class` says. Names are at most 65,535 bytes, as MQTT has them.
    pub fn new(client_id: &str, username: Option<&str>, topic: &str, class: Class) -> Self {
        let name = username.unwrap_or_default();
        let texts = [client_id, name, topic];
        let len = 2 * class.routes.len() + texts.into_iter().map(str::len).sum::<usize>();
        let mut names = Vec::with_capacity(len);
        names.extend(class.routes.iter().flat_map(|route| route.to_le_bytes()));
        for text in texts {
            names.extend_from_slice(text.as_bytes());
        }
        Self {
            first: u64::from(KIND) << 32 | (class.routes.len() as u64) << 48,
            third: u64::from(class.generation) | (client_id.len() as u64) << 32 | (name.len() as u64) << 48,
            fourth: topic.len() as u64,
            names: names.into(),
            topic: topic.into(),
            class,
            has_username: username.is_some(),
        }
    }

    /// Where its publishes go.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Its topic.
    #[inline]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether `topic` is its topic, as it mostly is by being the same place in memory.
    #[inline]
    pub fn is_on(&self, topic: &str) -> bool {
        std::ptr::eq(&*self.topic, topic) || *self.topic == *topic
    }

    /// Bytes of the record that `publish` becomes, at most.
    #[inline]
    pub fn record_bytes(&self, publish: &Publish<'_>) -> usize {
        HEAD_BYTES
            + MATCHED_BYTES
            + self.names.len()
            + publish.properties.as_bytes().len()
            + publish.payload.len()
    }

    /// Whether the record that `publish` becomes is of concern to the store.
    #[inline]
    pub fn concerns_store(&self, publish: &Publish<'_>, accepted: Accepted) -> bool {
        is_of_store(publish.qos, publish.retain, accepted.matched)
    }

    /// Whether who sends `publish` waits until Kafka has it.
    #[inline]
    pub fn hurries(&self, publish: &Publish<'_>) -> bool {
        is_hurried(publish.qos, self.class.level)
    }

    /// Appends the record that `publish`, on this topic, becomes.
    #[inline]
    pub fn write(&self, publish: &Publish<'_>, accepted: Accepted, out: &mut Vec<u8>) {
        let properties = publish.properties.as_bytes();
        let matched_bytes = accepted.matched.map_or(0, |_| MATCHED_BYTES);
        let body = matched_bytes + self.names.len() + properties.len() + publish.payload.len();
        let has = [
            self.has_username,
            !properties.is_empty(),
            accepted.matched.is_some(),
        ];
        let flags = bits(publish.qos, publish.retain, self.class.level, has);
        let len = (HEAD_BYTES + body) as u32;
        let packet_id = publish.packet_id.map_or(0, u16::from);
        let own = u64::from(packet_id) << 16 | u64::from(properties.len() as u32) << 32;
        let head: [[u8; 8]; HEAD_BYTES / 8] = [
            (self.first | u64::from(len) | u64::from(flags) << 40).to_le_bytes(),
            accepted.arrival_ms.to_le_bytes(),
            self.third.to_le_bytes(),
            (self.fourth | own).to_le_bytes(),
        ];
        out.reserve(HEAD_BYTES + body);
        out.extend_from_slice(head.as_flattened());
        if let Some(generation) = accepted.matched {
            out.extend_from_slice(&generation.to_le_bytes());
        }
        out.extend_from_slice(&self.names);
        if !properties.is_empty() {
            out.extend_from_slice(properties);
        }
        out.extend_from_slice(publish.payload);
    }
}
