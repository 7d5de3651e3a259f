//! Groups of shared subscriptions in the model: what is theirs until a member was sent it.

use std::collections::BTreeSet;

use super::model::{Model, ModelQueued, ModelSession};
use crate::codec::{QoS, topic};
use crate::hub::SubscriptionOptions;
use crate::record::{Origin, PublishRecord};

#[derive(Debug, Clone)]
pub struct ModelGroup {
    pub from: u64,
    pub queue: Vec<ModelQueued>,
}

pub fn first_of(queue: &[ModelQueued], origin: Origin) -> Option<usize> {
    queue.iter().position(|queued| queued.origin == origin)
}

impl ModelSession {
    /// Whether it is a member of a group for more than QoS 0.
    pub fn keeps(&self, filter: &str) -> bool {
        let mut held = self.subscriptions.iter();
        held.any(|held| held.0 == filter && held.1.qos > QoS::AtMostOnce)
    }
}

impl Model {
    pub fn publish_to_groups(&mut self, record: &PublishRecord<'_>, generation: u64, origin: Origin) {
        for (filter, group) in &mut self.groups {
            let plain = topic::split_share(filter).unwrap().1;
            let members = self.sessions.values().filter(|session| session.keeps(filter));
            if record.qos > QoS::AtMostOnce
                && group.from <= generation
                && topic::matches(plain, record.topic)
                && group.queue.len() < self.bounds.max_queued * members.count()
            {
                group.queue.push(ModelQueued {
                    origin,
                    topic: record.topic.to_owned(),
                    qos: record.qos,
                    retain: record.retain,
                    ids: Vec::new(),
                    packet_id: None,
                    matched: generation,
                    full: (record.qos, record.retain),
                    group: None,
                    hops: 0,
                });
            }
        }
    }

    /// Groups end with their last member that keeps; new ones begin.
    pub fn look_at_groups(&mut self, generation: u64) {
        let kept: BTreeSet<&String> = self
            .sessions
            .values()
            .flat_map(|session| session.subscriptions.iter().map(move |held| (session, &held.0)))
            .filter(|(session, filter)| topic::split_share(filter).is_some() && session.keeps(filter))
            .map(|(_, filter)| filter)
            .collect();
        self.groups.retain(|filter, _| kept.contains(filter));
        for filter in kept {
            self.groups.entry(filter.clone()).or_insert(ModelGroup {
                from: generation,
                queue: Vec::new(),
            });
        }
    }

    /// Where nobody keeps a group any more, what waits for it is for the last that did, as its options `before` say.
    pub fn inherit(&mut self, client: &str, filter: &str, before: Option<SubscriptionOptions>) {
        let kept = self.sessions.values().any(|session| session.keeps(filter));
        let Some(options) = before.filter(|before| !kept && before.qos > QoS::AtMostOnce) else {
            return;
        };
        let waits = self
            .groups
            .get_mut(filter)
            .map(|group| std::mem::take(&mut group.queue));
        let session = self.sessions.get_mut(client).unwrap();
        for queued in waits.unwrap_or_default() {
            if session.queue.len() < self.bounds.max_queued {
                session
                    .queue
                    .push(queued.for_member(filter, Some(options), None, 0));
            }
        }
    }

    pub fn reset(&mut self, client: &str) {
        let gone = self.sessions.remove(client).unwrap();
        self.look_at_groups(0);
        for queued in gone.queue {
            let Some(filter) = queued.group.filter(|_| queued.qos == QoS::AtLeastOnce) else {
                continue;
            };
            let members = self.sessions.values().filter(|session| session.keeps(&filter));
            let most = self.bounds.max_queued * members.count();
            if let Some(group) = self
                .groups
                .get_mut(&filter)
                .filter(|group| group.queue.len() < most)
            {
                group.queue.push(ModelQueued {
                    qos: queued.full.0,
                    retain: queued.full.1,
                    ids: Vec::new(),
                    packet_id: None,
                    group: None,
                    hops: 0,
                    matched: 0,
                    ..queued
                });
            }
        }
    }

    /// Who was sent a message of a group, and where it stands there.
    pub fn holder(&self, filter: &str, origin: Origin) -> Option<(String, usize)> {
        let of_group =
            |queued: &ModelQueued| queued.origin == origin && queued.group.as_deref() == Some(filter);
        let mut sessions = self.sessions.iter();
        sessions.find_map(|(name, session)| Some((name.clone(), session.queue.iter().position(of_group)?)))
    }

    pub fn claim(&mut self, client: &str, group: &str, origin: Origin, packet_id: u16, hops: u32) {
        let filter = &group[1..];
        let queue = self.groups.get_mut(filter).map(|group| &mut group.queue);
        let at = queue.as_ref().and_then(|queue| first_of(queue, origin));
        let holder = self.holder(filter, origin).filter(|(name, _)| name != client);
        let taken = match (at, holder) {
            (Some(at), _) => self.groups.get_mut(filter).unwrap().queue.remove(at),
            (None, Some((name, at))) => {
                let queue = &mut self.sessions.get_mut(&name).unwrap().queue;
                if queue[at].hops >= hops {
                    return;
                }
                queue.remove(at)
            }
            (None, None) => {
                let session = self.sessions.get_mut(client).unwrap();
                if let Some(at) = session.find(origin, Some(packet_id)) {
                    session.queue[at].packet_id = Some(packet_id);
                }
                return;
            }
        };
        let session = self.sessions.get_mut(client).unwrap();
        let held = session.subscriptions.iter().find(|held| held.0 == filter);
        let options = held.map(|held| held.1);
        if session.queue.len() < self.bounds.max_queued {
            session
                .queue
                .push(taken.for_member(filter, options, Some(packet_id), hops));
        }
    }
}

impl ModelQueued {
    fn for_member(
        self,
        filter: &str,
        options: Option<SubscriptionOptions>,
        packet_id: Option<u16>,
        hops: u32,
    ) -> Self {
        let (qos, retain) = self.full;
        Self {
            qos: options.map_or(qos, |options| options.qos.min(qos)),
            retain: retain && options.is_some_and(|options| options.retain_as_published),
            ids: options
                .and_then(|options| options.subscription_id)
                .into_iter()
                .collect(),
            packet_id,
            group: Some(filter.to_owned()),
            hops,
            matched: 0,
            ..self
        }
    }
}
