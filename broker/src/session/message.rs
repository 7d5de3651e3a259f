//! Messages that are kept: on their way to subscribers, retained, or as a will.

use crate::codec::{Properties, PropertiesBuf, Property, Publish, QoS, Will};
use crate::hub::SubscriberId;
use crate::record::{Origin, WillRecord};

/// What a message costs beside its text and bytes, for the bounds on queues.
pub(crate) const OVERHEAD_BYTES: usize = 64;

/// An application message, shared by all who are to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: Box<str>,
    /// Any bytes.
    pub payload: Box<[u8]>,
    /// The 5.0 properties as published, without a topic alias; `None` when there are none.
    pub properties: Option<Box<[u8]>>,
    /// QoS it was published at.
    pub qos: QoS,
    /// RETAIN flag it was published with.
    pub retain: bool,
    /// Who published it, for No Local; `None` for the broker itself.
    pub publisher: Option<SubscriberId>,
    /// When it is of no use any more, on the broker's clock.
    pub expires_at_ms: Option<u64>,
    /// The record it came from; `None` for what stands in no log.
    pub origin: Option<Origin>,
}

impl Message {
    /// Copies a publish out of its read buffer.
    pub fn from_publish(
        publish: &Publish<'_>,
        publisher: Option<SubscriberId>,
        origin: Option<Origin>,
        now_ms: u64,
    ) -> Self {
        let expiry_s = publish.properties.message_expiry_s();
        Self {
            topic: publish.topic.into(),
            payload: publish.payload.into(),
            properties: keep(publish.properties, |property| {
                !matches!(property, Property::TopicAlias(_))
            }),
            qos: publish.qos,
            retain: publish.retain,
            publisher,
            expires_at_ms: expiry_s.map(|s| now_ms.saturating_add(u64::from(s) * 1_000)),
            origin,
        }
    }

    /// The properties, for walking them.
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_checked(self.properties.as_deref().unwrap_or_default())
    }

    /// Whether its time has passed.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// What is left of its Message Expiry Interval, in seconds, rounded up [MQTT-3.3.2-6].
    pub fn expires_in_s(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_at_ms?.saturating_sub(now_ms);
        Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    /// What it counts for in a queue that is bounded in bytes.
    pub fn cost(&self) -> usize {
        OVERHEAD_BYTES
            + self.topic.len()
            + self.payload.len()
            + self.properties.as_ref().map_or(0, |p| p.len())
    }
}

/// The properties that `wanted` lets through, as bytes of their own.
fn keep(properties: Properties<'_>, wanted: impl Fn(&Property<'_>) -> bool) -> Option<Box<[u8]>> {
    let raw = properties.as_bytes();
    if raw.is_empty() {
        return None;
    }
    if properties.iter().all(|property| wanted(&property)) {
        return Some(raw.into());
    }
    let mut kept = PropertiesBuf::default();
    for property in properties.iter().filter(|property| wanted(property)) {
        kept.push(property);
    }
    let raw = kept.as_properties().as_bytes();
    (!raw.is_empty()).then(|| raw.into())
}

/// What a client wants published when it is gone (section 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillMessage {
    topic: Box<str>,
    payload: Box<[u8]>,
    properties: Option<Box<[u8]>>,
    qos: QoS,
    retain: bool,
    delay_s: u32,
    /// When it is to be published, on the broker's clock: once its connection is gone.
    due_ms: Option<u64>,
}

impl WillMessage {
    /// The will of a CONNECT, behind the mount point of its listener.
    pub(super) fn new(will: &Will<'_>, mount: Option<&str>) -> Self {
        Self {
            topic: [mount.unwrap_or_default(), will.topic].concat().into(),
            payload: will.payload.into(),
            properties: keep(will.properties, |property| {
                !matches!(property, Property::WillDelayInterval(_))
            }),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.properties.will_delay_s().unwrap_or(0),
            due_ms: None,
        }
    }

    /// As it stood in a record.
    pub fn from_record(will: &WillRecord<'_>) -> Self {
        Self {
            topic: will.topic.into(),
            payload: will.payload.into(),
            properties: (!will.properties.is_empty()).then(|| will.properties.into()),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.delay_s,
            due_ms: None,
        }
    }

    /// As it stands in a record.
    pub fn as_record(&self) -> WillRecord<'_> {
        WillRecord {
            qos: self.qos,
            retain: self.retain,
            delay_s: self.delay_s,
            topic: &self.topic,
            properties: self.properties.as_deref().unwrap_or_default(),
            payload: &self.payload,
        }
    }

    /// The PUBLISH it turns into.
    pub fn as_publish(&self) -> Publish<'_> {
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: None,
            payload: &self.payload,
            properties: Properties::from_checked(self.properties.as_deref().unwrap_or_default()),
        }
    }

    /// What it counts for in a bound in bytes.
    pub fn cost(&self) -> usize {
        OVERHEAD_BYTES
            + self.topic.len()
            + self.payload.len()
            + self.properties.as_ref().map_or(0, |p| p.len())
    }

    pub(super) fn is_due_at(&mut self, due_ms: u64) {
        self.due_ms = Some(due_ms);
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Will Delay Interval, seconds.
    pub fn delay_s(&self) -> u32 {
        self.delay_s
    }
}
