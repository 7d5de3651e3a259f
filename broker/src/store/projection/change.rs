//! What happens to kept sessions, as the log has it.

use std::sync::Arc;

use super::session::{Number, Queued, Saved, Stored};
use super::{Projection, who};
use crate::codec::QoS;
use crate::codec::topic::split_share;
use crate::hub::SubscriptionIds;
use crate::record::{Change, Open, SessionRecord};
use crate::session::WillMessage;

impl Projection {
    pub(super) fn change(&mut self, record: &SessionRecord<'_>) {
        let known = self.find(record.client_id);
        let number = match (&record.change, known) {
            (Change::Open(open), _) => return self.open(record.client_id, known, open),
            (_, Some(number)) => number,
            (_, None) => return, // of a session that was not kept when it began
        };
        match &record.change {
            Change::Open(_) => {}
            Change::Reset => self.remove(number),
            Change::Closed { expiry_s } => self.closed(number, *expiry_s, record.at_ms, false),
            Change::Left { expiry_s } => self.closed(number, *expiry_s, record.at_ms, true),
            Change::Release(packet_id) => self.release_id(number, *packet_id),
            Change::Subscribe {
                filter,
                options,
                generation,
                send_retained,
            } if split_share(filter).is_none() => {
                let Some(session) = self.sessions.get_mut(number as usize) else {
                    return;
                };
                session.hold(filter, *options, *generation, *send_retained);
                self.subscriptions.insert(filter, who(number), *options, None);
                self.touched.subscriptions.push((number, (*filter).into()));
                if *send_retained {
                    let ids = options.subscription_id.into_iter().collect();
                    self.send_retained(number, filter, options.qos, &ids);
                }
            }
            Change::Subscribe {
                filter,
                options,
                generation,
                ..
            } => self.join(number, filter, *options, *generation),
            Change::Unsubscribe { filter, generation } => match split_share(filter) {
                None => self.unsubscribe(number, filter, *generation),
                Some(_) => self.leave(number, filter),
            },
        }
    }

    fn open(&mut self, client_id: &str, known: Option<Number>, open: &Open<'_>) {
        let number = known.unwrap_or_else(|| {
            let client_id: Arc<str> = client_id.into();
            let number = self.sessions.insert(Stored::new(client_id.clone())) as Number;
            self.by_client.insert(client_id, number);
            number
        });
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        session.username = open.username.map(Into::into);
        session.level = open.level;
        session.expiry_s = open.expiry_s;
        session.left_ms = None;
        let will = open.will.map(|will| Box::new(WillMessage::from_record(&will)));
        if will.is_some() || session.will.is_some() {
            self.touched.wills.push(number);
        }
        session.will = will;
        self.touch_row(number);
    }

    fn closed(&mut self, number: Number, expiry_s: u32, at_ms: u64, will_waits: bool) {
        if let Some(session) = self.sessions.get_mut(number as usize) {
            session.left_ms.get_or_insert(at_ms); // a will that waited does not set it anew
            session.expiry_s = expiry_s;
            if !will_waits && session.will.take().is_some() {
                self.touched.wills.push(number);
            }
        }
        self.touch_row(number);
    }

    fn release_id(&mut self, number: Number, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        if let Ok(at) = session.find_taken(packet_id)
            && session.taken.remove(at).saved
        {
            self.touched.taken_gone.push((number, packet_id));
        }
    }

    fn send_retained(&mut self, number: Number, filter: &str, qos: QoS, ids: &SubscriptionIds) {
        for kept in self.retained.matching(filter, self.bounds.max_queued) {
            let qos = qos.min(kept.qos);
            let origin = self.messages.get(kept.message).map(|message| message.origin);
            let Some(origin) = origin.filter(|_| qos != QoS::AtMostOnce) else {
                continue;
            };
            let queued = Queued {
                order: 0,
                message: kept.message,
                origin,
                qos,
                retain: true,
                ids: ids.clone(),
                packet_id: None,
                group: None,
                matched: 0,
                saved: Saved::No,
            };
            self.enqueue(number, queued);
        }
    }

    /// Ends a subscription. A publish of another worker may stand in the log before this though it was matched after:
    /// nobody was given it, so it leaves the queue again.
    fn unsubscribe(&mut self, number: Number, filter: &str, generation: u64) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        if !session.let_go(filter) {
            return;
        }
        self.subscriptions.remove(filter, who(number));
        self.touched.subscriptions.push((number, filter.into()));
        let mut wrong = Vec::new();
        for queued in session
            .queue
            .iter()
            .rev()
            .filter(|queued| queued.matched >= generation)
        {
            let topic = self.messages.topic(queued.message);
            if topic.is_some_and(|topic| session.matches_at(topic, queued.matched, who(number)).is_none()) {
                wrong.push(queued.order);
            }
        }
        for order in wrong {
            let at = self
                .session(number)
                .and_then(|s| s.position(|queued| queued.order == order));
            if let Some(at) = at {
                self.take_out(number, at);
            }
        }
    }

    /// Takes a message out of a queue.
    pub(super) fn take_out(&mut self, number: Number, at: usize) {
        let Some(session) = self.sessions.get_mut(number as usize) else {
            return;
        };
        let Some(queued) = session.queue.remove(at) else {
            return;
        };
        if queued.saved != Saved::No {
            self.touched.queue_gone.push((number, queued.order));
        }
        session.queue_bytes -= self.messages.release(queued.message);
        self.queued -= 1;
        if let Some(group) = queued.group {
            self.claims.remove(&(group, queued.origin));
        }
    }

    /// Removes a session with all it has.
    pub(super) fn remove(&mut self, number: Number) {
        let Some(mut session) = self.sessions.try_remove(number as usize) else {
            return;
        };
        self.by_client.remove(&session.client_id);
        let is_group = session.is_group();
        self.groups -= usize::from(is_group);
        for held in session.subscriptions {
            // What a group holds is its own filter, whatever that looks like.
            match split_share(&held.filter).filter(|_| !is_group) {
                None => drop(self.subscriptions.remove(&held.filter, who(number))),
                Some(_) if held.options.qos > QoS::AtMostOnce => self.one_less(&held.filter),
                Some(_) => {}
            }
            self.touched.subscriptions.push((number, held.filter));
        }
        for queued in session.queue.drain(..) {
            self.queued -= 1;
            if queued.saved != Saved::No {
                self.touched.queue_gone.push((number, queued.order));
            }
            if let Some(group) = &queued.group {
                self.claims.remove(&(group.clone(), queued.origin));
            }
            self.give_back(queued);
        }
        for taken in session.taken.iter().filter(|taken| taken.saved) {
            self.touched.taken_gone.push((number, taken.id.packet_id));
        }
        if session.will.is_some() {
            self.touched.wills.push(number);
        }
        self.touched.rows.push(number);
    }
}
