//! Publishes of the log: into the queues of kept sessions, among the retained messages, and the ids they take.

use smallvec::SmallVec;

use super::messages::Shared;
use super::session::{Number, Queued, Saved, Taken};
use super::{At, Projection};
use crate::codec::QoS;
use crate::hub::SubscriptionOptions;
use crate::record::PublishRecord;
use crate::session::fingerprint;
use crate::store::kept::TakenId;
use crate::store::rows;

/// Retained messages that are forgotten at a time.
const EXPIRED_AT_ONCE: usize = 1_000;

impl Projection {
    pub(super) fn publish(&mut self, record: &PublishRecord<'_>, at: At) {
        if record.qos == QoS::ExactlyOnce && record.packet_id != 0 {
            self.take_id(record, at.sequence);
        }
        let mut message = None;
        if let Some(generation) = record.matched {
            self.fan_out(record, generation, at, &mut message);
        }
        if record.retain {
            self.retain(record, at, &mut message);
            self.send_to_later(record, at, &mut message);
        }
        if let Some(message) = message {
            self.messages.release(message); // it was held while its takers were looked for
        }
    }

    fn take_id(&mut self, record: &PublishRecord<'_>, sequence: u64) {
        let Some(number) = self.find(record.client_id) else {
            return; // a session that is not kept
        };
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        let taken = Taken {
            saved: false,
            id: TakenId {
                packet_id: record.packet_id,
                fingerprint: fingerprint(record.topic, record.payload),
                level: record.level,
                sequence,
            },
        };
        match session.find_taken(record.packet_id) {
            Ok(at) => {
                let before = session
                    .taken
                    .get_mut(at)
                    .map(|known| std::mem::replace(known, taken));
                if before.is_some_and(|before| before.saved) {
                    self.touched.taken_gone.push((number, record.packet_id));
                }
            }
            Err(at) => session.taken.insert(at, taken),
        }
        self.touched.taken.push((number, record.packet_id));
    }

    /// The number of the message that `record` is, which is made when it is first asked for.
    fn message_of(&mut self, record: &PublishRecord<'_>, at: At, message: &mut Option<u64>) -> u64 {
        if let Some(number) = *message {
            return number;
        }
        let number = self.next_number();
        let shared = Shared {
            origin: at.origin,
            qos: record.qos,
            retain: record.retain,
            cost: rows::cost(record),
            references: 1,
            row: Some(rows::message(record, at.origin)),
        };
        self.messages.insert(number, shared);
        *message = Some(number);
        number
    }

    /// Puts the publish into the queues of the sessions that had a subscription to it in `generation`.
    fn fan_out(&mut self, record: &PublishRecord<'_>, generation: u64, at: At, message: &mut Option<u64>) {
        let mut matches = std::mem::take(&mut self.matches);
        self.subscriptions.matches(record.topic, &mut matches); // a group has a subscription of its own
        for found in matches.drain(..) {
            let number = found.who.slot;
            let Some(session) = self.session(number) else {
                continue;
            };
            let found = match session.newest_from > generation {
                false => Some(found),
                true => session.matches_at(record.topic, generation, found.who),
            };
            let Some(found) = found.filter(|f| f.qos != QoS::AtMostOnce) else {
                continue;
            };
            if record.qos == QoS::AtMostOnce || found.no_local && *session.client_id == *record.client_id {
                continue;
            }
            let queued = Queued {
                order: 0,
                message: self.message_of(record, at, message),
                origin: at.origin,
                qos: found.qos.min(record.qos),
                retain: record.retain && found.retain_as_published,
                ids: found.ids,
                packet_id: None,
                group: None,
                matched: generation,
                saved: Saved::No,
            };
            self.enqueue(number, queued);
        }
        self.matches = matches;
    }

    /// Puts a message behind a queue; false when there is no room.
    pub(super) fn enqueue(&mut self, number: Number, mut queued: Queued) -> bool {
        queued.order = self.next_number();
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return false;
        };
        let cost = self.messages.refer(queued.message);
        let queues = session.keepers.max(1); // of a group those of its members
        if session.queue.len() >= self.bounds.max_queued.saturating_mul(queues)
            || session.queue_bytes + cost > self.bounds.max_queued_bytes.saturating_mul(queues)
        {
            self.messages.release(queued.message);
            self.dropped += 1;
            return false;
        }
        session.queue_bytes += cost;
        session.queue.push_back(queued);
        self.queued += 1;
        self.touched.queue_changes += 1;
        if !std::mem::replace(&mut session.queue_touched, true) {
            self.touched.queues.push(number);
        }
        true
    }

    /// As [`crate::hub::retained::Retained::set`]: what finds no room clears its topic too.
    fn retain(&mut self, record: &PublishRecord<'_>, at: At, message: &mut Option<u64>) {
        if let Some(before) = self.retained.clear(record.topic) {
            self.messages.release(before);
        }
        if record.payload.is_empty() {
            return;
        }
        let cost = rows::cost(record);
        if !self.retained.has_room(cost, self.bounds) {
            self.dropped += 1;
            return;
        }
        let number = self.message_of(record, at, message);
        self.messages.refer(number);
        let expires_ms = rows::expires_ms(record);
        self.retained
            .set(record.topic, number, record.qos, cost, expires_ms);
    }

    /// A publish is retained before its subscribers are looked for, so that who subscribes meanwhile, on another worker, gets
    /// it as retained. Where that subscription stands before it in the log it gets it here.
    fn send_to_later(&mut self, record: &PublishRecord<'_>, at: At, message: &mut Option<u64>) {
        let Some(generation) = record.matched.filter(|_| record.qos != QoS::AtMostOnce) else {
            return; // in a log of before, as of when it was matched is not known
        };
        if !self.retained.is_by(record.topic, *message) {
            return;
        }
        let mut matches = std::mem::take(&mut self.matches);
        self.subscriptions.matches(record.topic, &mut matches);
        for found in matches.drain(..) {
            let number = found.who.slot;
            let Some(session) = self.session(number).filter(|s| s.newest_from > generation) else {
                continue;
            };
            let is_own = *session.client_id == *record.client_id;
            let options: SmallVec<[SubscriptionOptions; 1]> = session
                .retained_before(record.topic, generation)
                .map(|held| held.options)
                .filter(|options| options.qos != QoS::AtMostOnce && !(options.no_local && is_own))
                .collect();
            for options in options {
                let queued = Queued {
                    order: 0,
                    message: self.message_of(record, at, message),
                    origin: at.origin,
                    qos: options.qos.min(record.qos),
                    retain: true,
                    ids: options.subscription_id.into_iter().collect(),
                    packet_id: None,
                    group: None,
                    matched: 0,
                    saved: Saved::No,
                };
                self.enqueue(number, queued);
            }
        }
        self.matches = matches;
    }

    /// Forgets some of the retained messages whose time has passed, milliseconds since 1970.
    pub fn expire_retained(&mut self, now_ms: u64) {
        for message in self.retained.expire(now_ms, EXPIRED_AT_ONCE) {
            self.messages.release(message);
        }
    }
}
