//! Groups of shared subscriptions. One with a kept member is a session of its own here, under a name that no client can
//! have: what is published for it is the group's until a member says that it has it, so that nobody need write down whom
//! a publisher chose.

use std::sync::Arc;

use super::session::{Number, Queued, Saved, Stored};
use super::{Projection, who};
use crate::codec::QoS;
use crate::codec::topic::split_share;
use crate::hub::shared::{filter_of, group_name, is_group};
use crate::hub::{SubscriptionIds, SubscriptionOptions};
use crate::record::Origin;

/// The subscription by which a group gets messages: each member has its own options.
const FOR_GROUP: SubscriptionOptions = SubscriptionOptions {
    qos: QoS::ExactlyOnce,
    no_local: false,
    retain_as_published: true,
    subscription_id: None,
    kept: true,
};

/// Which member a message of a group was sent to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub number: Number,
    /// How many members had it before.
    pub hops: u32,
}

impl Stored {
    /// Whether it stands for a group.
    pub fn is_group(&self) -> bool {
        is_group(&self.client_id)
    }

    /// Its options as a member of the group of this filter that wants more than QoS 0.
    fn keeps(&self, filter: &str) -> Option<SubscriptionOptions> {
        let held = self.held(filter).map(|held| held.options);
        held.filter(|options| options.qos > QoS::AtMostOnce)
    }
}

impl Projection {
    /// A member subscribes to the whole filter of a group, or changes its options.
    pub(super) fn join(
        &mut self,
        number: Number,
        filter: &str,
        options: SubscriptionOptions,
        generation: u64,
    ) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        let before = session.keeps(filter);
        session.hold(filter, options, generation, false);
        let keeps = session.keeps(filter).is_some();
        self.touched.subscriptions.push((number, filter.into()));
        match before {
            None if keeps => self.one_more(filter, generation),
            Some(before) if !keeps => self.keeps_no_more(number, filter, before),
            _ => {}
        }
    }

    /// A member ends its subscription.
    pub(super) fn leave(&mut self, number: Number, filter: &str) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        let before = session.keeps(filter);
        if session.let_go(filter) {
            self.touched.subscriptions.push((number, filter.into()));
        }
        if let Some(before) = before {
            self.keeps_no_more(number, filter, before);
        }
    }

    /// A member that kept a group, by its options `before`, does so no more. What waits for a group goes with the last of
    /// them: that one may have it in its queue, and be about to send it.
    fn keeps_no_more(&mut self, number: Number, filter: &str, before: SubscriptionOptions) {
        let last = self
            .find(&group_name(filter))
            .and_then(|group| self.session(group));
        if let Some(group) = last.filter(|group| group.keepers == 1) {
            let (name, waits) = (group.client_id.clone(), group.queue.clone());
            for queued in waits {
                let key = (name.clone(), queued.origin);
                let queued = self.for_member(queued, &name, Some(before), None);
                if self.enqueue(number, queued) {
                    self.claims.insert(key, Claim { number, hops: 0 });
                }
            }
        }
        self.one_less(filter);
    }

    /// What a message of a group's queue is in the queue of a member with these options.
    fn for_member(
        &self,
        queued: Queued,
        group: &Arc<str>,
        options: Option<SubscriptionOptions>,
        packet_id: Option<u16>,
    ) -> Queued {
        let message = self.messages.get(queued.message);
        let (qos, retain) = message.map_or((queued.qos, queued.retain), |message| {
            (message.qos, message.retain)
        });
        Queued {
            qos: options.map_or(qos, |options| options.qos.min(qos)),
            retain: retain && options.is_some_and(|options| options.retain_as_published),
            ids: options
                .and_then(|options| options.subscription_id)
                .into_iter()
                .collect(),
            packet_id,
            group: Some(group.clone()),
            matched: 0,
            saved: Saved::No,
            ..queued
        }
    }

    fn one_more(&mut self, filter: &str, generation: u64) {
        let name = group_name(filter);
        let number = match self.find(&name) {
            Some(number) => number,
            None => self.found_group(name.into(), filter, generation),
        };
        if let Some(group) = self.sessions.get_mut(number as usize) {
            group.keepers += 1;
        }
    }

    fn found_group(&mut self, name: Arc<str>, filter: &str, generation: u64) -> Number {
        let mut group = Stored::new(name.clone());
        group.expiry_s = u32::MAX;
        let plain = split_share(filter).map_or(filter, |(_, plain)| plain);
        group.hold(plain, FOR_GROUP, generation, false);
        let number = self.sessions.insert(group) as Number;
        self.by_client.insert(name, number);
        self.groups += 1;
        self.subscriptions.insert(plain, who(number), FOR_GROUP, None);
        self.touched.subscriptions.push((number, plain.into()));
        self.touch_row(number);
        number
    }

    /// A group without a kept member ends.
    pub(super) fn one_less(&mut self, filter: &str) {
        let Some(number) = self.find(&group_name(filter)) else {
            return;
        };
        let Some(group) = self.sessions.get_mut(number as usize) else {
            return;
        };
        group.keepers = group.keepers.saturating_sub(1);
        if group.keepers == 0 {
            self.remove(number);
        }
    }

    /// Where the message of a group stands that a member was sent.
    pub(super) fn holder(&self, key: &(Arc<str>, Origin)) -> Option<(Number, usize)> {
        let number = self.claims.get(key)?.number;
        let of_group = |queued: &Queued| queued.origin == key.1 && queued.group.as_ref() == Some(&key.0);
        let at = self.session(number)?.position(of_group)?;
        Some((number, at))
    }

    /// A member was sent a message of its group, `hops` members after the first. What workers say may cross: where another
    /// member had it, this one's word counts if it came behind.
    pub(super) fn claimed(
        &mut self,
        number: Number,
        (group, origin): (&Arc<str>, Origin),
        packet_id: u16,
        hops: u32,
    ) {
        let key = (group.clone(), origin);
        let waits = self.find(group).and_then(|from| {
            let at = self.session(from)?.position_of(origin, None)?;
            Some((from, at))
        });
        let holder = || self.holder(&key).filter(|(holder, _)| *holder != number);
        let Some((from, at)) = waits.or_else(holder) else {
            return self.sent(number, origin, packet_id);
        };
        if waits.is_none() && self.claims.get(&key).is_some_and(|claim| claim.hops >= hops) {
            return;
        }
        let taken = self.session(from).and_then(|from| from.queue.get(at)).cloned();
        let Some(taken) = taken else { return };
        let session = self.session(number);
        let options = session.and_then(|session| session.held(filter_of(group)));
        let options = options.map(|held| held.options);
        let queued = self.for_member(taken, group, options, Some(packet_id));
        let fits = self.enqueue(number, queued);
        self.take_out(from, at);
        if fits {
            self.claims.insert(key, Claim { number, hops });
        }
        if let Some(session) = self.sessions.get_mut(number as usize) {
            session.last_packet_id = packet_id;
        }
    }

    /// A session that was sent `queued` for a group is gone: other members are to get it, but not at QoS 2
    /// [MQTT-4.8.2-5].
    pub(super) fn give_back(&mut self, queued: Queued) {
        let group = queued.group.as_ref().filter(|_| queued.qos == QoS::AtLeastOnce);
        if let Some(number) = group.and_then(|group| self.find(group)) {
            let message = queued.message;
            let (qos, retain) = self
                .messages
                .get(message)
                .map_or((queued.qos, queued.retain), |known| (known.qos, known.retain));
            let back = Queued {
                qos,
                retain,
                ids: SubscriptionIds::new(),
                packet_id: None,
                group: None,
                matched: 0,
                saved: Saved::No,
                ..queued
            };
            self.enqueue(number, back);
            self.messages.release(message);
        } else {
            self.messages.release(queued.message);
        }
    }
}
