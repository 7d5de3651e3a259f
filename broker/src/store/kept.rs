//! A kept session as the store hands it to its worker when the broker starts.

use std::sync::Arc;

use crate::classify::Level;
use crate::codec::QoS;
use crate::hub::{SubscriptionIds, SubscriptionOptions};
use crate::session::{Message, WillMessage};

/// All that was kept.
#[derive(Debug, Default)]
pub struct Restored {
    /// Sessions, in no order.
    pub sessions: Vec<KeptSession>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
}

/// One session.
#[derive(Debug, Clone)]
pub struct KeptSession {
    /// Its client identifier.
    pub client_id: Arc<str>,
    /// The user name of its last connection.
    pub username: Option<Box<str>>,
    /// Protocol level of its last connection: 3, 4 or 5.
    pub level: u8,
    /// Seconds for which it outlives its connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// When its connection ended, milliseconds since 1970; `None`: it was connected when the process ended.
    pub left_ms: Option<u64>,
    /// The will of that connection, if it was not published and not given up.
    pub will: Option<WillMessage>,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions)>,
    /// Messages for it: those that were sent first, in that order, then those that wait.
    pub queue: Vec<KeptMessage>,
    /// Ids for which PUBREC came and PUBCOMP did not, in the order of their PUBREC.
    pub releasing: Vec<u16>,
    /// QoS 2 ids of its own publishes that it has not released.
    pub taken: Vec<TakenId>,
    /// The packet id that was used last to send to it, as far as the store knows.
    pub last_packet_id: u16,
}

/// One message for a session. `message.expires_at_ms` is on the clock of the new run, which begins at 0.
#[derive(Debug, Clone)]
pub struct KeptMessage {
    /// The message, with its origin.
    pub message: Arc<Message>,
    /// QoS it is sent at: the smaller of the subscription's and its own.
    pub qos: QoS,
    /// RETAIN as it is sent.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub ids: SubscriptionIds,
    /// The id it was sent under and is not acknowledged under.
    pub packet_id: Option<u16>,
}

/// A QoS 2 packet id between PUBLISH and PUBREL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenId {
    /// The id.
    pub packet_id: u16,
    /// Of topic and payload, as [`crate::session::fingerprint`] makes it.
    pub fingerprint: u64,
    /// When its PUBREC is due.
    pub level: Level,
    /// The sequence of its publish in the log.
    pub sequence: u64,
}
