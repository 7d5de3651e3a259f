//! What goes into a session and what comes out of it, as plain values.

use std::sync::Arc;

use crate::codec::topic::{SHARE, split_share};
use crate::codec::{PacketId, Publish, Reason, Subscribe, Unsubscribe};
use crate::config::Limits;

/// Bounds of one session, taken from [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Publishes of QoS 1 and 2 that the client may have under way; told to 5.0 clients.
    pub receive_maximum: u16,
    /// Messages of QoS 1 and 2 on their way to the client.
    pub max_inflight_messages: u16,
    /// Levels in a topic name or filter.
    pub max_topic_levels: u16,
    /// Bytes of a topic name or filter.
    pub max_topic_bytes: u16,
    /// Subscriptions.
    pub max_subscriptions: u32,
    /// Shared ones among them: a message goes to the client once for each that matches.
    pub max_shared_subscriptions: u32,
    /// Messages that wait for the client, in number.
    pub max_queued_messages: u32,
    /// Messages that wait for the client, in bytes.
    pub max_queued_bytes: u32,
    /// Greatest packet taken; told to 5.0 clients.
    pub max_packet_bytes: u32,
    /// Messages may be retained; told to 5.0 clients where not.
    pub retains: bool,
    /// Topic aliases that the client may use; told to 5.0 clients.
    pub topic_alias_maximum: u16,
    /// Topic aliases that are used towards the client, if it takes as many.
    pub topic_alias_maximum_out: u16,
    /// A message that finds the queue full takes the place of the oldest.
    pub drop_old: bool,
    /// QoS 0 waits too for a client that is away, until a restart.
    pub queue_qos0: bool,
    /// There is a store, which wants to know what becomes of messages for kept sessions.
    pub tells_store: bool,
}

fn narrow<T: TryFrom<usize>>(value: usize, most: T) -> T {
    T::try_from(value).unwrap_or(most)
}

impl SessionLimits {
    /// Whether a topic name or filter is short enough and has few enough levels.
    #[inline]
    pub fn takes_topic(&self, topic: &str) -> bool {
        let most = usize::from(self.max_topic_levels);
        topic.len() <= usize::from(self.max_topic_bytes)
            && (topic.len() < most || topic.bytes().filter(|byte| *byte == b'/').count() < most)
    }

    /// Whether a filter, with the name of a group in front of it or without, is short enough and has few enough levels. A
    /// group in a group would be taken for the other group where filters are told apart by their names. The name of a
    /// group is one byte longer than its filter, and has a length of two bytes in the store.
    pub fn takes_filter(&self, filter: &str) -> bool {
        let Some((_, plain)) = split_share(filter) else {
            return self.takes_topic(filter);
        };
        let most = usize::from(self.max_topic_bytes.min(u16::MAX - 1));
        self.takes_topic(plain) && filter.len() <= most && !plain.starts_with(SHARE)
    }
}

impl From<&Limits> for SessionLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            receive_maximum: limits.receive_maximum,
            max_inflight_messages: limits.max_inflight_messages,
            max_topic_levels: narrow(limits.max_topic_levels, u16::MAX),
            max_topic_bytes: narrow(limits.max_topic_bytes, u16::MAX),
            max_subscriptions: narrow(limits.max_subscriptions, u32::MAX),
            max_shared_subscriptions: narrow(limits.max_shared_subscriptions, u32::MAX),
            max_queued_messages: narrow(limits.max_queued_messages, u32::MAX),
            max_queued_bytes: narrow(limits.max_queued_bytes, u32::MAX),
            max_packet_bytes: narrow(limits.max_packet_bytes, u32::MAX),
            retains: limits.retains(),
            topic_alias_maximum: limits.topic_alias_maximum,
            topic_alias_maximum_out: limits.topic_alias_maximum_out,
            drop_old: limits.drop_old,
            queue_qos0: limits.queue_qos0,
            tells_store: false,
        }
    }
}

/// Names one publish that waits for its acknowledgement, or an answer that waits for its record. Stays good over the end
/// of the connection; one whose session has forgotten it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub(super) u32);

impl Ticket {
    /// The one that its session gives out `count` tickets later.
    #[inline]
    pub(crate) fn after(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl From<u32> for Ticket {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

/// What the broker grants to a connection that begins.
#[derive(Debug, Clone, Default)]
pub struct Attach {
    /// The session was there before this connection.
    pub session_present: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// The client identifier that was chosen for a client that sent none.
    pub assigned_client_id: Option<Box<str>>,
    /// Seconds for which the session may outlive its connection at most; `u32::MAX`: for ever.
    pub max_session_expiry_s: u32,
    /// What the method that let the client in says at last.
    pub authentication_data: Option<Vec<u8>>,
    /// What the client is to begin its response topics with, if it asked (section 3.2.2.3.15).
    pub response_information: Option<Box<str>>,
    /// What stands before every topic of its clients on this listener.
    pub mount: Option<Arc<str>>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// DISCONNECT with reason 0x00: the will is forgotten [MQTT-3.14.4-3].
    Clean,
    /// DISCONNECT with another reason: the will is published.
    WithWill,
    /// The network connection broke, or the broker closed it.
    Lost,
    /// The client id connected again [MQTT-3.1.4-3].
    TakenOver,
}

/// What a PUBLISH asks of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Nothing: it came before, and is answered when its time comes.
    Known,
    /// Accept it, then [`settle`](super::Session::settle) its ticket; QoS 0 has none.
    New(Option<Ticket>),
}

/// What a packet asks of the broker, beyond what the session has done itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Nothing.
    None,
    /// Accept this message, then [`settle`](super::Session::settle) its ticket; QoS 0 has none.
    Publish {
        /// What to settle.
        ticket: Option<Ticket>,
        /// The message.
        publish: Publish<'a>,
    },
    /// PUBREL of a kept session: once a record of it is durable, [`answered`](super::Session::answered).
    Released {
        /// The packet id that is free.
        packet_id: PacketId,
        /// PUBCOMP.
        answer: Ticket,
    },
    /// Enter these subscriptions, then [`subscribed`](super::Session::subscribed).
    Subscribe(Subscribe<'a>),
    /// Remove these subscriptions, then [`unsubscribed`](super::Session::unsubscribed).
    Unsubscribe(Unsubscribe<'a>),
    /// The client is leaving: close, and [`detach`](super::Session::detach).
    Disconnect {
        /// The will is to be published all the same.
        with_will: bool,
    },
}

/// The client broke the protocol: the connection must end, and a 5.0 client be told the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text} (reason 0x{:02X})", *reason as u8)]
pub struct Violation {
    /// For DISCONNECT.
    pub reason: Reason,
    /// For the log.
    pub text: &'static str,
}

impl Violation {
    pub(super) const fn new(reason: Reason, text: &'static str) -> Self {
        Self { reason, text }
    }

    pub(super) const fn protocol(text: &'static str) -> Self {
        Self::new(Reason::ProtocolError, text)
    }
}

/// What became of a message for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It waits for its turn.
    Queued,
    /// QoS 0, and the client is away or too slow.
    DroppedQoS0,
    /// QoS 1 or 2, and the queue is full.
    DroppedFull,
    /// Its time had passed.
    Expired,
}

/// Messages that were given up after they had been queued, since they were asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// Larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    pub too_large: u32,
    /// Their time passed while they waited [MQTT-3.3.2-5].
    pub expired: u32,
    /// QoS 0, when the connection ended before they were sent.
    pub qos0: u32,
    /// The oldest in a full queue, for others that came.
    pub full: u32,
    /// Outside the mount point of the listener to which the client has come back.
    pub outside: u32,
}

/// Which deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// Nothing was heard for one and a half keep-alives [MQTT-3.1.2-22]: close with 0x8D.
    KeepAlive,
    /// The session has outlived its connection long enough: remove it.
    Expired,
    /// The will's delay is over: publish it.
    WillDelay,
}
