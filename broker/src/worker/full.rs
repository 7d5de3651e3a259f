//! The log is full, or one connection has added its share of what was left: what becomes of a publish then. The decision
//! falls before anything is changed, and QoS 1 and 2 are never dropped silently.

use super::publish::Taken;
use super::state::{SessionRef, State};
use crate::codec::{Publish, QoS, Reason, Version};
use crate::session::{Published, Violation};

/// What a connection has added since more than half of the log came to be in use.
#[derive(Debug, Default)]
pub(super) struct Share {
    episode: u64,
    bytes: u64,
}

impl State {
    /// Whether session `at` may add `bytes` now, as far as its share goes.
    #[inline]
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
    #[inline]
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
        publish: &Publish<'_>,
        over_share: bool,
    ) -> Result<Taken, Violation> {
        let config = self.shared.config.full;
        if over_share || self.shared.pressure.is_full() {
            let version = self.slot(at).map(|slot| slot.session.version());
            match publish.qos {
                QoS::AtMostOnce if config.drop_qos0 => {
                    let now_ms = self.now_ms;
                    if let Some(slot) = self.slot(at) {
                        slot.session.handle_publish(now_ms, publish)?; // it may number a topic
                    }
                    self.metrics.publishes_dropped.increment(1);
                    self.counts.publishes_dropped.add(1);
                    return Ok(Taken::Yes);
                }
                QoS::AtLeastOnce | QoS::ExactlyOnce if config.reject && version == Some(Version::V5) => {
                    let refused = self.refuse(at, publish, Reason::QuotaExceeded)?;
                    self.metrics.publishes_rejected.increment(u64::from(refused));
                    return Ok(Taken::Yes);
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

    /// What this client may not publish. A 5.0 client is told (0x87); of others it is taken and dropped, since they can't be
    /// told but by the end of their connection.
    pub(super) fn deny(&mut self, at: SessionRef, publish: &Publish<'_>) -> Result<Taken, Violation> {
        self.metrics.publishes_denied.increment(1);
        tracing::debug!(topic = publish.topic, "a publish is denied");
        self.refuse(at, publish, Reason::NotAuthorized)?;
        Ok(Taken::Yes)
    }

    /// Answers in the order of the client's publishes, a 5.0 client with `reason`. False when there is nothing to refuse:
    /// it is known already, or it is QoS 0.
    fn refuse(&mut self, at: SessionRef, publish: &Publish<'_>, reason: Reason) -> Result<bool, Violation> {
        let now_ms = self.now_ms;
        let Some(slot) = self.slot(at) else {
            return Ok(false);
        };
        let published = slot.session.handle_publish(now_ms, publish)?;
        slot.wake();
        let Published::New(Some(ticket)) = published else {
            return Ok(false);
        };
        let result = match slot.session.version() {
            Version::V5 => Err(reason),
            Version::V31 | Version::V311 => Ok(()),
        };
        slot.session.settle(ticket, result);
        Ok(true)
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
