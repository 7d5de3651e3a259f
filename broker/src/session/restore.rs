//! A kept session as it is after a restart: without a connection, with all that was kept of it.

use std::sync::Arc;

use super::Session;
use super::event::{SessionLimits, Ticket};
use super::inflight::Inflight;
use super::outbound::Queued;
use crate::codec::{PacketId, Version};
use crate::store::{KeptMessage, KeptSession};

/// Ids that a jump passes over at least, and leaves in front of it.
const LEAST_JUMP: u64 = 8_192;

/// The circumstances of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The time of the new run.
    pub now_ms: u64,
    /// How long ago the session's connection ended, milliseconds.
    pub away_ms: u64,
    /// How long a client may take to come back, before its will is published.
    pub will_grace_ms: u64,
    /// How far packet ids jump: see [`id_jump`].
    pub id_jump: u16,
}

/// How far packet ids jump at the start of the run `epoch`. The store learns late which one was used last, and a client
/// may still hold a QoS 2 message under one that it has not learnt of: that one must not be used for another message.
/// Another jump for each run, since nobody may have learnt of the ids of the last run at all.
pub fn id_jump(epoch: u64) -> u16 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let spread = epoch.wrapping_mul(GOLDEN) >> 48;
    (LEAST_JUMP + spread % (65_536 - 2 * LEAST_JUMP)) as u16
}

impl Session {
    /// The session that was kept. Returned with it: which tickets are to be [`settle`](Session::settle)d once the sink
    /// is done with which sequence of the log.
    pub fn restore(
        kept: KeptSession,
        limits: impl Into<Arc<SessionLimits>>,
        restart: Restart,
    ) -> (Self, Vec<(Ticket, u64)>) {
        let mut session = Self::new(kept.client_id, limits);
        session.version = Version::from_level(kept.level).unwrap_or(Version::V311);
        session.expiry_s = kept.expiry_s;
        session
            .timers
            .detach(restart.now_ms, restart.away_ms, kept.expiry_s);
        session.will = kept.will.map(|mut will| {
            let left_ms = (u64::from(will.delay_s()) * 1_000).saturating_sub(restart.away_ms);
            will.is_due_at(restart.now_ms + left_ms.max(restart.will_grace_ms));
            Box::new(will)
        });
        for (filter, _) in &kept.subscriptions {
            session.filters.insert(filter, usize::MAX, usize::MAX);
        }
        let mut inflight =
            Inflight::restore(&kept.releasing, kept.last_packet_id.wrapping_add(restart.id_jump));
        for message in kept.queue {
            let packet_id = message.packet_id.and_then(PacketId::new);
            let queued = Queued::from(message);
            match packet_id {
                Some(packet_id) => inflight.restore_sent(packet_id, queued),
                None => session.outbound.push(queued),
            }
        }
        session.inflight = Some(Box::new(inflight)); // be it empty: it knows which ids not to begin with
        let waiting = session.inbound.restore(&kept.taken);
        (session, waiting)
    }

    /// The will of a connection that is gone, which nobody has published yet.
    pub fn take_late_will(&mut self) -> Option<super::WillMessage> {
        match self.is_attached() {
            true => None,
            false => self.will.take().map(|will| *will),
        }
    }
}

impl From<KeptMessage> for Queued {
    fn from(kept: KeptMessage) -> Self {
        Self {
            message: kept.message,
            ids: kept.ids,
            qos: kept.qos,
            retain: kept.retain,
            share: kept.share,
        }
    }
}
