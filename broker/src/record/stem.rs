//! What all publishes of one publisher on one topic have in common, written once: a device says much on few topics.

use crate::classify::Class;
use crate::codec::Publish;
use crate::record::publish::{HEAD_BYTES, KIND, MATCHED_BYTES, bits, is_hurried, is_of_store};

/// The bytes of a record from its head to its topic, without what each publish has of its own.
#[derive(Debug)]
pub(crate) struct Stem {
    /// The head, route ids, client id, user name, topic.
    bytes: Box<[u8]>,
    /// Where the topic begins.
    topic_at: usize,
    class: Class,
    has_username: bool,
}

/// What a record says of its publish beside the publish itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// Time of arrival, milliseconds since 1970.
    pub arrival_ms: u64,
    /// Generation of the subscriptions that it was matched against, when subscriptions of kept sessions matched.
    pub matched: Option<u64>,
}

impl Stem {
    /// Of this publisher, for what goes where `class` says. Names are at most 65,535 bytes, as MQTT has them.
    pub fn new(client_id: &str, username: Option<&str>, topic: &str, class: Class) -> Self {
        let name = username.unwrap_or_default();
        let len = HEAD_BYTES + 2 * class.routes.len() + client_id.len() + name.len();
        let mut bytes = Vec::with_capacity(len + topic.len());
        let mut head = [0; HEAD_BYTES];
        head[4] = KIND;
        head[6..8].copy_from_slice(&(class.routes.len() as u16).to_le_bytes());
        head[16..20].copy_from_slice(&class.generation.to_le_bytes());
        head[20..22].copy_from_slice(&(client_id.len() as u16).to_le_bytes());
        head[22..24].copy_from_slice(&(name.len() as u16).to_le_bytes());
        head[24..26].copy_from_slice(&(topic.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend(class.routes.iter().flat_map(|route| route.to_le_bytes()));
        for text in [client_id, name, topic] {
            bytes.extend_from_slice(text.as_bytes());
        }
        Self {
            bytes: bytes.into(),
            topic_at: len,
            class,
            has_username: username.is_some(),
        }
    }

    /// Where its publishes go.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Whether this is its topic.
    #[inline]
    pub fn is_on(&self, topic: &str) -> bool {
        self.bytes.get(self.topic_at..) == Some(topic.as_bytes())
    }

    /// Bytes of the record that `publish` becomes, at most.
    #[inline]
    pub fn record_bytes(&self, publish: &Publish<'_>) -> usize {
        self.bytes.len() + MATCHED_BYTES + publish.properties.as_bytes().len() + publish.payload.len()
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
        let Some((head, names)) = self.bytes.split_first_chunk::<HEAD_BYTES>() else {
            return;
        };
        let matched_bytes = accepted.matched.map_or(0, |_| MATCHED_BYTES);
        let len = self.bytes.len() + matched_bytes + properties.len() + publish.payload.len();
        let mut head = *head;
        head[0..4].copy_from_slice(&(len as u32).to_le_bytes());
        head[5] = bits(
            publish.qos,
            publish.retain,
            self.class.level,
            [
                self.has_username,
                !properties.is_empty(),
                accepted.matched.is_some(),
            ],
        );
        let packet_id = publish.packet_id.map_or(0, u16::from);
        head[8..16].copy_from_slice(&accepted.arrival_ms.to_le_bytes());
        head[26..28].copy_from_slice(&packet_id.to_le_bytes());
        head[28..32].copy_from_slice(&(properties.len() as u32).to_le_bytes());
        out.reserve(len);
        out.extend_from_slice(&head);
        if let Some(generation) = accepted.matched {
            out.extend_from_slice(&generation.to_le_bytes());
        }
        out.extend_from_slice(names);
        if !properties.is_empty() {
            out.extend_from_slice(properties);
        }
        out.extend_from_slice(publish.payload);
    }
}
