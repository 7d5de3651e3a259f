//! What the store should know, in the plainest way: vectors that are walked.

use std::collections::{BTreeMap, BTreeSet};

use super::model_groups::{ModelGroup, first_of};
use crate::codec::{QoS, topic};
use crate::hub::SubscriptionOptions;
use crate::record::{Change, Origin, PublishRecord, Record, SessionRecord};
use crate::session::fingerprint;
use crate::spool::Entry;
use crate::store::event::StoreEvent;
use crate::store::kept::{KeptSession, Restored};
use crate::store::projection::Bounds;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelQueued {
    pub origin: Origin,
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    pub ids: Vec<u32>,
    pub packet_id: Option<u16>,
    pub matched: u64,
    /// As published.
    pub full: (QoS, bool),
    /// The group it was sent for.
    pub group: Option<String>,
    /// How many members had it before, of those that have said so in this run.
    pub hops: u32,
}

#[derive(Debug, Clone, Default)]
pub struct ModelSession {
    pub username: Option<String>,
    pub level: u8,
    pub expiry_s: u32,
    pub left_ms: Option<u64>,
    pub will: Option<String>,
    pub subscriptions: Vec<(String, SubscriptionOptions, u64)>,
    /// Of these, for which what was retained is sent.
    with_retained: BTreeSet<String>,
    pub queue: Vec<ModelQueued>,
    pub releasing: Vec<u16>,
    pub taken: BTreeMap<u16, (u64, u64)>,
}

#[derive(Debug, Clone)]
struct ModelRetained {
    topic: String,
    origin: Origin,
    qos: QoS,
}

/// The model.
#[derive(Debug, Clone)]
pub struct Model {
    pub sessions: BTreeMap<String, ModelSession>,
    retained: BTreeMap<String, ModelRetained>,
    /// By their whole filters.
    pub groups: BTreeMap<String, ModelGroup>,
    pub bounds: Bounds,
    /// Worker and number of the chunks that are applied, of this epoch.
    applied: Vec<(u16, u64)>,
    /// With the chunk that each waits for, or where the log must be read to.
    waiting: Vec<((u16, u64), StoreEvent)>,
    epoch: u64,
    /// All of the log below is applied.
    read: u64,
}

impl Model {
    pub fn new(bounds: Bounds, epoch: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            groups: BTreeMap::new(),
            bounds,
            applied: Vec::new(),
            waiting: Vec::new(),
            epoch,
            read: 0,
        }
    }

    /// A new run: events that waited are lost.
    pub fn restart(&mut self, epoch: u64) {
        self.epoch = epoch;
        let sessions = self.sessions.values_mut();
        let queued = sessions.flat_map(|session| &mut session.queue);
        queued.for_each(|queued| queued.hops = 0);
        self.applied.clear();
        self.waiting.clear();
        for session in self.sessions.values_mut() {
            session.queue.iter_mut().for_each(|queued| queued.matched = 0); // is not in the file
        }
    }

    pub fn apply(&mut self, entry: &Entry) {
        let (worker, number) = (entry.chunk.worker(), entry.chunk.number());
        for (index, record) in (0..).zip(entry.chunk.records()) {
            let origin = Origin {
                epoch: entry.first.epoch,
                worker,
                number,
                index,
            };
            match record.unwrap() {
                Record::Publish(record) => {
                    self.publish(&record, origin, entry.first.sequence + u64::from(index));
                }
                Record::Session(record) => self.change(&record),
            }
        }
        if entry.first.epoch == self.epoch {
            self.applied.push((worker, number));
            self.free(worker, number);
        }
        self.read = entry.first.sequence + u64::from(entry.chunk.count());
        self.free(u16::MAX, self.read);
    }

    fn free(&mut self, worker: u16, number: u64) {
        let (now, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(key, _)| key.0 == worker && key.1 <= number);
        self.waiting = later;
        for (_, event) in now {
            self.act(&event);
        }
    }

    fn publish(&mut self, record: &PublishRecord<'_>, origin: Origin, sequence: u64) {
        if record.qos == QoS::ExactlyOnce
            && record.packet_id != 0
            && let Some(session) = self.sessions.get_mut(record.client_id)
        {
            let print = fingerprint(record.topic, record.payload);
            session.taken.insert(record.packet_id, (print, sequence));
        }
        if let Some(generation) = record.matched {
            for (client, session) in &mut self.sessions {
                let own = client == record.client_id;
                let Some((qos, no_local, as_published, ids)) = matched(session, record.topic, generation)
                else {
                    continue;
                };
                let qos = qos.min(record.qos);
                if qos == QoS::AtMostOnce || no_local && own || session.queue.len() >= self.bounds.max_queued
                {
                    continue;
                }
                session.queue.push(ModelQueued {
                    origin,
                    topic: record.topic.to_owned(),
                    qos,
                    retain: record.retain && as_published,
                    ids,
                    packet_id: None,
                    matched: generation,
                    full: (record.qos, record.retain),
                    group: None,
                    hops: 0,
                });
            }
            self.publish_to_groups(record, generation, origin);
        }
        if record.retain {
            self.retained.remove(record.topic);
            if !record.payload.is_empty() && self.retained.len() < self.bounds.max_retained {
                let kept = ModelRetained {
                    topic: record.topic.to_owned(),
                    origin,
                    qos: record.qos,
                };
                self.retained.insert(record.topic.to_owned(), kept);
                self.send_to_later(record, record.matched.unwrap_or(0));
            }
        }
    }

    fn change(&mut self, record: &SessionRecord<'_>) {
        if let Change::Open(open) = &record.change {
            let session = self.sessions.entry(record.client_id.to_owned()).or_default();
            session.username = open.username.map(str::to_owned);
            session.level = open.level;
            session.expiry_s = open.expiry_s;
            session.left_ms = None;
            session.will = open.will.map(|will| will.topic.to_owned());
            return;
        }
        let Some(session) = self.sessions.get_mut(record.client_id) else {
            return;
        };
        match &record.change {
            Change::Open(_) => {}
            Change::Reset => self.reset(record.client_id),
            Change::Closed { expiry_s } => {
                session.left_ms.get_or_insert(record.at_ms);
                session.expiry_s = *expiry_s;
                session.will = None;
            }
            Change::Left { expiry_s } => {
                session.left_ms.get_or_insert(record.at_ms);
                session.expiry_s = *expiry_s;
            }
            Change::Release(id) => drop(session.taken.remove(id)),
            Change::Subscribe {
                filter,
                options,
                generation,
                send_retained,
            } => {
                let before = session.held(filter);
                if *send_retained {
                    session.with_retained.insert((*filter).to_owned());
                }
                match session.subscriptions.iter_mut().find(|held| held.0 == *filter) {
                    Some(held) => held.1 = *options,
                    None => {
                        session
                            .subscriptions
                            .push(((*filter).to_owned(), *options, *generation));
                    }
                }
                if topic::split_share(filter).is_some() {
                    self.inherit(record.client_id, filter, before);
                    self.look_at_groups(*generation);
                } else if *send_retained {
                    self.send_retained(record.client_id, filter, *options);
                }
            }
            Change::Unsubscribe { filter, generation } => {
                let before = session.held(filter);
                session.subscriptions.retain(|held| held.0 != *filter);
                session.with_retained.remove(*filter);
                if topic::split_share(filter).is_some() {
                    self.inherit(record.client_id, filter, before);
                    return self.look_at_groups(*generation);
                }
                let rest = session.clone();
                session.queue.retain(|queued| {
                    queued.matched < *generation || matched(&rest, &queued.topic, queued.matched).is_some()
                });
            }
        }
    }

    /// To subscriptions that came after it was retained and stand before it in the log.
    fn send_to_later(&mut self, record: &PublishRecord<'_>, generation: u64) {
        let mut later = Vec::new();
        for (client, session) in &self.sessions {
            for (filter, options, from) in &session.subscriptions {
                let is_own = options.no_local && client == record.client_id;
                let is_shared = topic::split_share(filter).is_some();
                if *from > generation && session.with_retained.contains(filter) && !is_own && !is_shared {
                    later.push((filter.clone(), client.clone(), *options));
                }
            }
        }
        later.sort_by(|a, b| a.0.cmp(&b.0));
        for (filter, client, options) in later {
            self.send_kept(&client, &filter, options, Some(record.topic));
        }
    }

    fn send_retained(&mut self, client: &str, filter: &str, options: SubscriptionOptions) {
        self.send_kept(client, filter, options, None);
    }

    fn send_kept(&mut self, client: &str, filter: &str, options: SubscriptionOptions, only: Option<&str>) {
        let session = self.sessions.get_mut(client).unwrap();
        let is_meant = |kept: &&ModelRetained| only.is_none_or(|name| name == kept.topic);
        for kept in self.retained.values().filter(is_meant) {
            let qos = options.qos.min(kept.qos);
            if topic::matches(filter, &kept.topic)
                && qos != QoS::AtMostOnce
                && session.queue.len() < self.bounds.max_queued
            {
                session.queue.push(ModelQueued {
                    origin: kept.origin,
                    topic: kept.topic.clone(),
                    qos,
                    retain: true,
                    ids: options.subscription_id.into_iter().collect(),
                    packet_id: None,
                    matched: 0,
                    full: (kept.qos, true),
                    group: None,
                    hops: 0,
                });
            }
        }
    }

    /// Whether PUBREC of the same id waits already.
    pub fn waits_for(&self, event: &StoreEvent) -> bool {
        let key = |event: &StoreEvent| match event {
            StoreEvent::Received {
                client, packet_id, ..
            } => Some((client.clone(), *packet_id)),
            _ => None,
        };
        let wanted = key(event);
        wanted.is_some() && self.waiting.iter().any(|(_, other)| key(other) == wanted)
    }

    pub fn event(&mut self, event: &StoreEvent, end: u64) {
        let key = match event {
            StoreEvent::Sent { origin, .. }
            | StoreEvent::Claimed { origin, .. }
            | StoreEvent::Received { origin, .. }
            | StoreEvent::Done { origin, .. } => {
                let known = self
                    .applied
                    .iter()
                    .any(|(worker, number)| *worker == origin.worker && *number >= origin.number);
                let ahead = origin.epoch == self.epoch && !known;
                let behind = (self.read < end).then_some((u16::MAX, end));
                ahead.then_some((origin.worker, origin.number)).or(behind)
            }
            StoreEvent::Walked { .. } => (self.read < end).then_some((u16::MAX, end)),
            StoreEvent::Completed { client, packet_id } => self.waiting.iter().rev().find_map(|(key, other)| {
                matches!(other, StoreEvent::Received { client: c, packet_id: p, .. } if c == client && p == packet_id)
                    .then_some(*key)
            }),
        };
        match key {
            Some(key) => self.waiting.push((key, event.clone())),
            None => self.act(event),
        }
    }

    fn act(&mut self, event: &StoreEvent) {
        if let Some(filter) = event.client().strip_prefix('\0') {
            let StoreEvent::Done { origin, .. } = event else {
                return;
            };
            let queue = self.groups.get_mut(filter).map(|group| &mut group.queue);
            let waits = queue.and_then(|queue| Some((first_of(queue, *origin)?, queue)));
            if let Some((at, queue)) = waits {
                queue.remove(at);
            } else if let Some((name, at)) = self.holder(filter, *origin) {
                self.sessions.get_mut(&name).unwrap().queue.remove(at);
            }
            return;
        }
        if let StoreEvent::Claimed {
            client,
            group,
            origin,
            packet_id,
            qos,
            hops,
        } = event
        {
            if self.sessions.contains_key(&**client) {
                return self.claim(client, group, *origin, *packet_id, *hops);
            }
            if *qos == QoS::ExactlyOnce {
                self.act(&StoreEvent::Done {
                    client: group.clone(),
                    origin: *origin,
                    packet_id: None,
                });
            }
            return;
        }
        let Some(session) = self.sessions.get_mut(&**event.client()) else {
            return;
        };
        match event {
            StoreEvent::Claimed { .. } => {}
            StoreEvent::Walked { .. } => session
                .queue
                .retain(|queued| queued.packet_id.is_some() || queued.matched > 0 || !queued.retain),
            StoreEvent::Sent {
                origin, packet_id, ..
            } => {
                if let Some(at) = session.find(*origin, Some(*packet_id)) {
                    session.queue[at].packet_id = Some(*packet_id);
                }
            }
            StoreEvent::Received {
                origin, packet_id, ..
            } => {
                if let Some(at) = session.find_done(*origin, Some(*packet_id)) {
                    session.queue.remove(at);
                }
                if !session.releasing.contains(packet_id) {
                    session.releasing.push(*packet_id);
                }
            }
            StoreEvent::Completed { packet_id, .. } => session.releasing.retain(|id| id != packet_id),
            StoreEvent::Done {
                origin, packet_id, ..
            } => {
                if let Some(at) = session.find_done(*origin, *packet_id) {
                    session.queue.remove(at);
                }
            }
        }
    }

    /// Whether what was restored is what the model has.
    pub fn check(&self, restored: &Restored) {
        let mut groups: Vec<_> = restored
            .groups
            .iter()
            .map(|group| {
                let queue = group.queue.iter().map(|message| message.origin.unwrap());
                (group.name[1..].to_owned(), queue.collect::<Vec<_>>())
            })
            .collect();
        groups.sort();
        let expected: Vec<_> = self
            .groups
            .iter()
            .map(|(filter, group)| {
                (
                    filter.clone(),
                    group.queue.iter().map(|q| q.origin).collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(groups, expected, "what no member of a group was sent");
        let mut found: Vec<&KeptSession> = restored.sessions.iter().collect();
        found.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        let clients: Vec<&str> = found.iter().map(|session| &*session.client_id).collect();
        assert_eq!(
            clients,
            self.sessions.keys().map(String::as_str).collect::<Vec<_>>()
        );
        for (session, (client, model)) in found.into_iter().zip(&self.sessions) {
            assert_eq!(session.username.as_deref(), model.username.as_deref(), "{client}");
            let plain = (session.level, session.expiry_s, session.left_ms);
            assert_eq!(plain, (model.level, model.expiry_s, model.left_ms), "{client}");
            let will = session
                .will
                .as_ref()
                .map(|will| will.as_publish().topic.to_owned());
            assert_eq!(will, model.will, "{client}");
            let mut subscriptions: Vec<_> = model.subscriptions.iter().map(|s| (&*s.0, s.1)).collect();
            subscriptions.sort_by_key(|held| held.0);
            let held: Vec<_> = session.subscriptions.iter().map(|s| (&*s.0, s.1)).collect();
            assert_eq!(held, subscriptions, "{client}");
            assert_eq!(session.releasing, model.releasing, "{client}");
            let taken: Vec<_> = session
                .taken
                .iter()
                .map(|id| (id.packet_id, (id.fingerprint, id.sequence)))
                .collect();
            assert_eq!(
                taken,
                model.taken.clone().into_iter().collect::<Vec<_>>(),
                "{client}"
            );
            check_queue(session, model);
        }
        let mut retained: Vec<_> = restored
            .retained
            .iter()
            .map(|message| (&*message.topic, message.origin.unwrap()))
            .collect();
        retained.sort();
        let expected: Vec<_> = self.retained.values().map(|r| (&*r.topic, r.origin)).collect();
        assert_eq!(retained, expected);
    }
}

impl ModelSession {
    fn held(&self, filter: &str) -> Option<SubscriptionOptions> {
        let mut held = self.subscriptions.iter();
        held.find(|held| held.0 == filter).map(|held| held.1)
    }

    /// What was sent under that id, before what was not.
    fn find_done(&self, origin: Origin, packet_id: Option<u16>) -> Option<usize> {
        let sent = |queued: &ModelQueued| queued.origin == origin && queued.packet_id == packet_id;
        let exact = packet_id.and_then(|_| {
            let len = self.queue.len();
            (0..len)
                .flat_map(|at| [at, len - 1 - at])
                .find(|at| sent(&self.queue[*at]))
        });
        exact.or_else(|| self.find(origin, packet_id))
    }

    /// The entry itself, or one of that origin that was not sent, looked for from both ends.
    pub fn find(&self, origin: Origin, packet_id: Option<u16>) -> Option<usize> {
        let len = self.queue.len();
        let both_ends = || (0..len).flat_map(move |at| [at, len - 1 - at]);
        let of = |at: &usize| self.queue[*at].origin == origin;
        let unsent_or_same = |at: &usize| {
            let known = self.queue[*at].packet_id;
            known.is_none() || known == packet_id
        };
        both_ends()
            .find(|at| of(at) && unsent_or_same(at))
            .or_else(|| both_ends().find(|at| of(at) && packet_id.is_none()))
    }
}

fn matched(session: &ModelSession, name: &str, generation: u64) -> Option<(QoS, bool, bool, Vec<u32>)> {
    let held: Vec<_> = session
        .subscriptions
        .iter()
        .filter(|(filter, _, from)| *from <= generation && topic::matches(filter, name))
        .map(|(_, options, _)| options)
        .collect();
    let qos = held.iter().map(|options| options.qos).max()?;
    let mut ids: Vec<u32> = held
        .iter()
        .filter_map(|options| options.subscription_id)
        .collect();
    ids.sort_unstable();
    let no_local = held.iter().all(|options| options.no_local);
    let as_published = held.iter().any(|options| options.retain_as_published);
    Some((qos, no_local, as_published, ids))
}

fn check_queue(session: &KeptSession, model: &ModelSession) {
    let queue: Vec<_> = session
        .queue
        .iter()
        .map(|kept| {
            let mut ids = kept.ids.to_vec();
            ids.sort_unstable();
            (
                kept.message.origin.unwrap(),
                kept.message.topic.to_string(),
                kept.qos,
                kept.retain,
                ids,
                kept.packet_id,
            )
        })
        .collect();
    let plain = |queued: &ModelQueued| {
        let queued = queued.clone();
        (
            queued.origin,
            queued.topic,
            queued.qos,
            queued.retain,
            queued.ids,
            queued.packet_id,
        )
    };
    let waiting = model.queue.iter().filter(|queued| queued.packet_id.is_none());
    let sent = queue.iter().take_while(|queued| queued.5.is_some()).count();
    assert_eq!(
        queue[sent..],
        waiting.map(plain).collect::<Vec<_>>(),
        "what waits for {}",
        session.client_id
    );
    let mut in_flight: Vec<_> = queue[..sent].to_vec();
    let mut expected: Vec<_> = model
        .queue
        .iter()
        .filter(|q| q.packet_id.is_some())
        .map(plain)
        .collect();
    in_flight.sort();
    expected.sort();
    assert_eq!(in_flight, expected, "in flight to {}", session.client_id);
}
