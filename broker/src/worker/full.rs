//! The log is full, or one connection has added its share of what was left: what becomes of a publish then. The decision
//! falls before anything is changed, and QoS 1 and 2 are never dropped silently.

use super::publish::Taken;
use super::state::{SessionRef, State};
use crate::codec::{Packet, Publish, QoS, Reason, Version};
use crate::session::{Request, Violation};

/// What a connection has added since more than half of the log came to be in use.
#[derive(Debug, Default)]
pub(super) struct Share {
    episode: u64,
    bytes: u64,
}

impl State {
    /// Whether session `at` may add `bytes` now, as far as its share goes.
    pub(super) fn is_within_share(&mut self, at: SessionRef, bytes: usize) -> bool {
        let Some(episode) = self.shared.pressure.episode() else {
            return true;
        };
        let most = self.shared.config.full.client_share_bytes;
        let Some(share) = self.slot(at).and_then(|slot| slot.share.as_ref()) else {
            return true;
        };
        share.episode != episode || share.bytes + bytes as u64 <= most
    }

    /// Session `at` has added `bytes`.
    pub(super) fn count_share(&mut self, at: SessionRef, bytes: usize) {
        let Some(episode) = self.shared.pressure.episode() else {
            return;
        };
        let Some(slot) = self.slot(at) else { return };
        let share = slot.share.get_or_insert_default();
        if share.episode != episode {
            **share = Share { episode, bytes: 0 };
        }
        share.bytes += bytes as u64;
    }

    /// There is no room for `publish` of session `at`. That the bus has none for a moment holds it; that the log has
    /// none, or none for this client, does what was configured.
    pub(super) fn no_room(
        &mut self,
        at: SessionRef,
        publish: Publish<'_>,
        over_share: bool,
    ) -> Result<Taken, Violation> {
        let config = self.shared.config.full;
        if over_share || self.shared.pressure.is_full() {
            let version = self.slot(at).map(|slot| slot.session.version());
            match publish.qos {
                QoS::AtMostOnce if config.drop_qos0 => {
                    let now_ms = self.now_ms;
                    if let Some(slot) = self.slot(at) {
                        slot.session.handle_packet(now_ms, Packet::Publish(publish))?; // it may number a topic
                    }
                    self.metrics.publishes_dropped.increment(1);
                    return Ok(Taken::Yes);
                }
                QoS::AtLeastOnce | QoS::ExactlyOnce if config.reject && version == Some(Version::V5) => {
                    return self.reject(at, publish);
                }
                _ => {}
            }
        }
        match over_share {
            true => self.pause(at),
            false => self.stand_in_line(at),
        }
        Ok(Taken::Held)
    }

    /// Answered 0x97, in the order of the client's publishes; one that is known already is not refused.
    fn reject(&mut self, at: SessionRef, publish: Publish<'_>) -> Result<Taken, Violation> {
        let now_ms = self.now_ms;
        let Some(slot) = self.slot(at) else {
            return Ok(Taken::Yes);
        };
        let request = slot.session.handle_packet(now_ms, Packet::Publish(publish))?;
        if let Request::Publish {
            ticket: Some(ticket), ..
        } = request
        {
            slot.session.settle(ticket, Err(Reason::QuotaExceeded));
            slot.wake();
            self.metrics.publishes_rejected.increment(1);
        } else {
            slot.wake();
        }
        Ok(Taken::Yes)
    }

    /// The connection is woken at the next tick.
    pub(super) fn pause(&mut self, at: SessionRef) {
        if let Some(slot) = self.slot(at)
            && !std::mem::replace(&mut slot.in_line, true)
        {
            self.paused.push(at);
        }
    }
}
