//! What was kept over a restart comes back: the sessions of a worker, before anyone can connect, and then in time what
//! still waits for something: QoS 2 publishes of which Kafka may know.

use std::sync::atomic::Ordering;

use super::Shared;
use super::acks::{Debt, Owed};
use super::state::{SessionRef, Slot, State};
use crate::classify::Level;
use crate::codec::topic::split_share;
use crate::record::Change;
use crate::session::{Restart, Session, id_jump};
use crate::store::{KeptGroup, KeptSession};

/// What waits since a restart; mostly nothing.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// Up to which sequence the sink must be done for an acknowledgement, greatest first.
    unsure: Vec<(u64, Owed)>,
}

impl Shared {
    /// Deals out sessions to the workers on which they live. Of more than may be kept without a connection, those that were
    /// left longest ago are dealt with an expiry of 0, which ends them; those that were connected stay.
    /// What no member of a group was sent is dealt out to those of its members that stay.
    pub fn deal(&self, mut sessions: Vec<KeptSession>, groups: Vec<KeptGroup>) -> Vec<Vec<KeptSession>> {
        let left = sessions
            .iter()
            .filter(|session| session.left_ms.is_some())
            .count();
        let surplus = left.saturating_sub(self.config.limits.max_kept_sessions);
        if surplus > 0 {
            tracing::warn!(
                surplus,
                "limits.max_kept_sessions is lower than what was kept: the sessions that were left longest ago are dropped"
            );
            sessions.sort_by_key(|session| session.left_ms.unwrap_or(u64::MAX));
            for session in sessions.iter_mut().take(surplus) {
                session.expiry_s = 0;
            }
        }
        KeptGroup::deal_all(groups, &mut sessions);
        let mut dealt: Vec<Vec<KeptSession>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for session in sessions {
            if let Some(hand) = dealt.get_mut(usize::from(self.home_of(&session.client_id))) {
                hand.push(session);
            }
        }
        dealt
    }
}

impl State {
    /// Takes in the sessions that were kept, those that were left longest ago first.
    pub fn restore(&mut self, mut kept: Vec<KeptSession>) {
        kept.sort_by_key(|kept| kept.left_ms.unwrap_or(u64::MAX));
        let mut subscriptions = Vec::with_capacity(kept.len());
        let mut restored = Vec::with_capacity(kept.len());
        for kept in kept {
            if kept.expiry_s == 0 && kept.will.is_none() {
                self.write_down(&kept.client_id, Change::Reset, None);
                continue;
            }
            if kept.left_ms.is_none() {
                // Its time runs from now, and so does its will's, over the next restart too.
                let expiry_s = kept.expiry_s;
                let change = match kept.will {
                    None => Change::Closed { expiry_s },
                    Some(_) => Change::Left { expiry_s },
                };
                self.write_down(&kept.client_id, change, None);
            }
            let filters = kept.subscriptions.clone();
            let at = self.restore_one(kept);
            let who = self.subscriber(at);
            let any_shared = filters.iter().any(|(filter, _)| split_share(filter).is_some());
            let load = self
                .slot(at)
                .filter(|_| any_shared)
                .map(|slot| slot.shared_load());
            subscriptions.extend(
                filters
                    .into_iter()
                    .map(|(filter, options)| (filter, who, options, load.clone())),
            );
            restored.push(at);
        }
        let subscriptions = subscriptions.iter().map(|(filter, who, options, load)| {
            let mut options = *options;
            options.kept = true;
            (&**filter, *who, options, load.as_ref())
        });
        self.shared.hub.subscribe_all(subscriptions);
        for at in restored {
            self.registry.restored(at.slot);
            self.arm(at);
        }
        self.since
            .unsure
            .sort_unstable_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    }

    fn restore_one(&mut self, mut kept: KeptSession) -> SessionRef {
        let away_ms = kept.left_ms.map_or(0, |left| self.wall_ms.saturating_sub(left));
        let (client_id, username) = (kept.client_id.clone(), kept.username.take());
        let restart = Restart {
            now_ms: self.now_ms,
            away_ms,
            will_grace_ms: u64::from(self.shared.config.limits.will_grace_s) * 1_000,
            id_jump: id_jump(self.shared.epoch),
        };
        let (session, unsure) = Session::restore(kept, self.session_limits.clone(), restart);
        let at = self.insert_slot(&client_id, |generation| Slot {
            username,
            stored: true,
            ..Slot::new(generation, session)
        });
        let owed = unsure.into_iter().map(|(ticket, sequence)| {
            let owed = Owed {
                slot: at.slot,
                generation: at.generation,
                debt: Debt::Publish(ticket),
                index: 0,
                level: Level::Kafka,
                count: 1,
            };
            (sequence, owed)
        });
        self.since.unsure.extend(owed);
        at
    }

    /// Looks at what waits since the restart; called by the ticker.
    pub(super) fn look_at_restored(&mut self) {
        if self.since.unsure.is_empty() {
            return;
        }
        let delivered = self.shared.delivered.load(Ordering::Acquire);
        while let Some((_, owed)) = self.since.unsure.pop_if(|(sequence, _)| *sequence < delivered) {
            self.settle(owed, Ok(()));
        }
    }

    /// The client has not come back before its will was due.
    pub(super) fn publish_late_will(&mut self, at: SessionRef) {
        let Some(slot) = self.slot(at) else { return };
        let Some(will) = slot.session.take_late_will() else {
            return;
        };
        let client_id = slot.session.client_id_shared();
        let username = slot.username.clone();
        let (stored, expiry_s) = (slot.stored, slot.session.expiry_s());
        self.push_will(client_id.clone(), username, will);
        if stored {
            self.write_down(&client_id, Change::Closed { expiry_s }, None);
        }
    }
}
