//! What workers tell the store of the messages that are on their way to kept sessions. The store may learn of it late or,
//! at a crash, never: then a message is sent once more, which MQTT allows.

use std::sync::Arc;

use crate::codec::QoS;
use crate::record::Origin;

/// One step of one message on its way to the client of a kept session. A session's steps come in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// PUBLISH was sent under this packet id.
    Sent {
        /// Whose session.
        client: Arc<str>,
        /// The message.
        origin: Origin,
        /// Its packet id, in use until `Completed` or `Done`.
        packet_id: u16,
    },
    /// PUBLISH was sent to this member of a group: it is the client's from now on, and the group's no more.
    Claimed {
        /// Whose session.
        client: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// The message.
        origin: Origin,
        /// Its packet id, in use until `Completed` or `Done`.
        packet_id: u16,
        /// What it was sent at.
        qos: QoS,
        /// How many members had it before, so that what their workers say may cross.
        hops: u32,
    },
    /// PUBREC came: the message is the client's; PUBREL is owed for the id.
    Received {
        /// Whose session.
        client: Arc<str>,
        /// The id that PUBREL is owed for.
        packet_id: u16,
        /// The message.
        origin: Origin,
    },
    /// PUBCOMP came: the id is free.
    Completed {
        /// Whose session.
        client: Arc<str>,
        /// The id that is free.
        packet_id: u16,
    },
    /// All that was retained for its subscriptions was sent: what is in its queue for that and was not sent was replaced
    /// before its turn came.
    Walked {
        /// Whose session.
        client: Arc<str>,
    },
    /// The message is of no concern any more: acknowledged, refused by the client, expired, too large for it, or dropped
    /// because its queue was full.
    Done {
        /// Whose session, or the group to no member of which it was sent.
        client: Arc<str>,
        /// The message.
        origin: Origin,
        /// The id it was sent under, if it was, which is free now.
        packet_id: Option<u16>,
    },
}

impl StoreEvent {
    /// Whose session it is about.
    pub fn client(&self) -> &Arc<str> {
        match self {
            Self::Sent { client, .. }
            | Self::Claimed { client, .. }
            | Self::Received { client, .. }
            | Self::Completed { client, .. }
            | Self::Walked { client }
            | Self::Done { client, .. } => client,
        }
    }
}

/// Takes events from workers.
pub trait TakeEvents: Send + Sync {
    /// Takes all of `events`, in their order, and leaves it empty. Called once a turn by each worker: must not block.
    fn take(&self, events: &mut Vec<StoreEvent>);
}
