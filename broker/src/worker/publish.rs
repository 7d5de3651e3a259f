//! An accepted publish: into the open chunk, to the subscribers, into the retained messages, in one step that either
//! happens whole or not at all.

use std::sync::Arc;

use super::acks::{Debt, Owed, owe_publish};
use super::lines::WARMED;
use super::mailbox::{Delivery, Mail};
use super::state::{SessionRef, State};
use crate::codec::{Publish, QoS, Reason};
use crate::hub::{Match, Share, SubscriberId};
use crate::record::{Accepted, Change, Origin, Stem};
use crate::session::{Delivered, Message, Published, Ticket, Violation, Whole};
use crate::store::StoreEvent;
use crate::sys::is_reserved;

/// What became of a PUBLISH that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the open chunk, or it was one that we had already.
    Yes,
    /// Something is full: keep it, read no further PUBLISH, and try again when woken.
    Held,
}

impl State {
    /// Takes a PUBLISH of session `at`, if there is room for it. The decision falls before anything is changed.
    pub fn publish(&mut self, at: SessionRef, publish: &Publish<'_>) -> Result<Taken, Violation> {
        let Some(slot) = self.slot(at) else {
            return Ok(Taken::Yes);
        };
        if !slot.session.renames(publish) {
            return self.publish_whole(at, publish, publish);
        }
        let mut room = std::mem::take(&mut self.whole);
        let taken = self.publish_renamed(at, publish, &mut room);
        self.whole = room;
        taken
    }

    /// `room`: for the topic and properties that are not as they came.
    fn publish_renamed(
        &mut self,
        at: SessionRef,
        publish: &Publish<'_>,
        room: &mut Whole,
    ) -> Result<Taken, Violation> {
        let Some(slot) = self.slot(at) else {
            return Ok(Taken::Yes);
        };
        let whole = slot.session.resolve(publish.clone(), room)?;
        self.publish_whole(at, publish, &whole)
    }

    /// `publish` as it came, `whole` as the broker knows it.
    fn publish_whole(
        &mut self,
        at: SessionRef,
        publish: &Publish<'_>,
        whole: &Publish<'_>,
    ) -> Result<Taken, Violation> {
        if self.waits_behind_backlog(at) {
            return self.no_room(at, publish, false);
        }
        let shared = &*self.shared;
        let slot = self.slots.get_mut(at.slot as usize);
        let Some(slot) = slot.filter(|slot| slot.generation == at.generation) else {
            return Ok(Taken::Yes);
        };
        if publish.qos != QoS::AtMostOnce && !slot.session.can_take_publish() {
            return Ok(Taken::Held); // settling wakes the connection
        }
        if is_reserved(whole.topic) || !slot.may_publish(whole.topic) {
            return self.deny_publish(at, publish, whole.topic);
        }
        let stem = slot.stem(shared, whole.topic);
        if !shared.classify.is_open(stem.class()) {
            if !std::mem::replace(&mut slot.in_line, true) {
                self.gated.push(at);
            }
            return Ok(Taken::Held);
        }
        let bytes = stem.record_bytes(whole);
        if !self.is_within_share(at, bytes) {
            return self.no_room(at, publish, true);
        }
        if !self.make_room(bytes) {
            return self.no_room(at, publish, false);
        }
        let now_ms = self.now_ms;
        let Some(slot) = self.slot(at) else {
            return Ok(Taken::Yes);
        };
        let Published::New(ticket) = slot.session.handle_publish(now_ms, publish)? else {
            slot.wake();
            return Ok(Taken::Yes);
        };
        let subscriber = SubscriberId {
            worker: self.id,
            slot: at.slot,
            generation: at.generation,
        };
        let index = self.accept(Some(subscriber), &stem, whole);
        self.count_share(at, bytes);
        self.counts.publish_bytes_received.add(whole.payload.len() as u64);
        if let (Some(ticket), Some(index)) = (ticket, index) {
            owe_publish(&mut self.owed, at, ticket, stem.class().level, index);
        }
        Ok(Taken::Yes)
    }

    /// The connection is woken when there is room.
    pub(super) fn stand_in_line(&mut self, at: SessionRef) {
        if let Some(slot) = self.slot(at)
            && !std::mem::replace(&mut slot.in_line, true)
        {
            self.held.push_back(at);
        }
    }

    /// Whether a record of `bytes` fits into the open chunk, which is sent to make room if it must be.
    #[inline]
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        let fits = self.open.is_empty() || self.open.bytes() + bytes <= self.shared.config.bus.chunk_bytes;
        fits || self.flush()
    }

    /// Writes the publish into the open chunk, gives it to its subscribers and to the retained messages. There is room:
    /// the caller made it. Returns its index in the chunk.
    ///
    /// It is retained before its subscribers are looked for: a SUBSCRIBE on another worker, which enters first and then
    /// looks for what is retained, gets it in one of the two ways.
    pub(super) fn accept(
        &mut self,
        from: Option<SubscriberId>,
        stem: &Stem,
        publish: &Publish<'_>,
    ) -> Option<u32> {
        let retained = publish.retain.then(|| self.retain(from, publish));
        self.matches.clear();
        let generation = self.hub.matches(publish.topic, &mut self.matches);
        // What is retained may be for a kept session that subscribes at this moment: the log says which of the two came first.
        let is_dated = publish.retain && publish.qos != QoS::AtMostOnce;
        if self.matches.is_empty() {
            return self.append(stem, publish, is_dated.then_some(generation));
        }
        let mut matches = std::mem::take(&mut self.matches);
        if from.is_some() {
            matches.retain(|to| !to.no_local || Some(to.who) != from);
        }
        let is_dated = is_dated || matches.iter().any(|to| is_kept(to, publish.qos));
        let matched = is_dated.then_some(generation);
        let index = self.append(stem, publish, matched);
        if let Some(index) = index
            && !matches.is_empty()
        {
            let message = retained.unwrap_or_else(|| self.message(from, publish, index));
            for to in matches.drain(..) {
                self.route(&message, to);
            }
        }
        self.matches = matches;
        index
    }

    /// The name of record `index` of the open chunk.
    fn origin(&self, index: u32) -> Origin {
        Origin {
            epoch: self.shared.epoch,
            worker: self.id,
            number: self.sender.next_number(),
            index,
        }
    }

    fn append(&mut self, stem: &Stem, publish: &Publish<'_>, matched: Option<u64>) -> Option<u32> {
        if self.open.is_empty() {
            self.opened_ms = self.now_ms;
        }
        let accepted = Accepted {
            arrival_ms: self.wall_ms,
            matched,
        };
        self.metrics.publish(publish.qos);
        self.open.push_publish(stem, publish, accepted).ok()
    }

    /// The publish is copied once, for all that get it: record `index` of the open chunk.
    fn message(&self, from: Option<SubscriberId>, publish: &Publish<'_>, index: u32) -> Arc<Message> {
        let origin = self.origin(index);
        Arc::new(Message::from_publish(publish, from, Some(origin), self.now_ms))
    }

    /// Keeps for later subscribers what is about to be the next record of the open chunk.
    fn retain(&self, from: Option<SubscriberId>, publish: &Publish<'_>) -> Arc<Message> {
        let message = self.message(from, publish, self.open.len());
        if self.shared.hub.retain(message.clone()).is_err() && self.shared.config.limits.retains() {
            tracing::warn!(
                "limits.max_retained_messages or max_retained_bytes reached: a message is not retained"
            );
        }
        message
    }

    pub(super) fn route(&mut self, message: &Arc<Message>, to: Match) {
        if to.who.worker == self.id {
            self.deliver(message, &to, false);
        } else if let Some(batch) = self.outbox.get_mut(usize::from(to.who.worker)) {
            batch.push(Delivery {
                message: message.clone(),
                to,
            });
        }
    }

    /// The member of a group that a message was for is gone: it goes to another, if there is one.
    pub(super) fn give_to_another(&mut self, message: &Arc<Message>, share: &Share) {
        if let Some(to) = self.hub.member_of(share) {
            self.route(message, to);
        }
    }

    /// Queues `message` for a session of this worker; `retained`: because it was kept for new subscribers.
    pub(super) fn deliver(&mut self, message: &Arc<Message>, to: &Match, retained: bool) {
        let now_ms = self.now_ms;
        let at = SessionRef {
            slot: to.who.slot,
            generation: to.who.generation,
        };
        let slot = self.slots.get_mut(at.slot as usize);
        let Some(slot) = slot.filter(|slot| slot.generation == at.generation) else {
            if let Some(share) = &to.share {
                self.give_to_another(message, share);
            }
            return;
        };
        if message.origin.is_none() && slot.link.is_none() {
            return; // a figure of `$SYS`, of no use later: it takes no room in the queue of who is away
        }
        if !slot.may_read(&message.topic) {
            return self.deny_delivery(at, message, to.share.as_ref());
        }
        if let Some(share) = &to.share
            && !slot.session.has_room_for(message)
        {
            slot.note_load();
            if let Some(other) = self.hub.member_with_room(share, |who| who != to.who) {
                return self.route(message, other);
            }
        }
        let delivered = slot.session.deliver(now_ms, message, to, retained);
        slot.session.take_events(&mut self.events);
        slot.note_load();
        self.metrics.dropped(slot.session.take_drops());
        match delivered {
            Delivered::Queued => {
                self.metrics.deliveries.increment(1);
                self.write_soon(at);
            }
            Delivered::DroppedQoS0 => {
                self.metrics.dropped_qos0.increment(1);
                self.counts.publishes_dropped.add(u64::from(slot.link.is_some()));
            }
            Delivered::DroppedFull => {
                self.metrics.dropped_full.increment(1);
                self.counts.publishes_dropped.add(1);
            }
            Delivered::Expired => self.metrics.dropped_expired.increment(1),
        }
    }

    /// Takes what the publishers of other workers have for sessions of this one.
    pub(super) fn take_deliveries(&mut self, mail: &Mail) {
        for delivery in &mail.deliveries {
            self.deliver(&delivery.message, &delivery.to, false);
        }
        for (who, origin, share) in &mail.lost {
            let at = SessionRef {
                slot: who.slot,
                generation: who.generation,
            };
            if let Some(slot) = self.slot(at) {
                slot.session.lost(*origin, share.as_ref());
                self.take_events(at);
            } else if let Some(share) = share {
                self.forget_of_group(share, Some(*origin));
            }
        }
    }

    /// No member of a group is to get this message: the store need not keep it.
    pub(super) fn forget_of_group(&mut self, share: &Share, origin: Option<Origin>) {
        if let Some(origin) = origin.filter(|_| share.owed && self.shared.store.is_some()) {
            self.events.push(StoreEvent::Done {
                client: share.group.clone(),
                origin,
                packet_id: None,
            });
        }
    }

    /// Hands what was gathered for other workers to their mailboxes. What finds no room there is lost, but for messages of
    /// groups that have a member with room elsewhere.
    pub(super) fn send_outbox(&mut self) {
        let (mut full, mut refused) = (Vec::new(), Vec::new());
        while let Some(worker) = self.outbox.iter().position(|batch| !batch.is_empty()) {
            let mailbox = self.shared.mailboxes.get(worker).cloned();
            let (Some(mailbox), Some(batch)) = (mailbox, self.outbox.get_mut(worker)) else {
                return;
            };
            mailbox.put_deliveries(batch, &mut refused);
            if refused.is_empty() {
                continue;
            }
            full.push(worker as u16);
            let mut lost = 0;
            for Delivery { message, to } in refused.drain(..) {
                let share = to.share.as_ref();
                let may = |who: SubscriberId| !full.contains(&who.worker);
                match share.and_then(|share| self.hub.member_with_room(share, may)) {
                    Some(other) => self.route(&message, other),
                    None => {
                        mailbox.note_lost(&Delivery { message, to });
                        lost += 1;
                    }
                }
            }
            self.metrics.dropped_mailbox.increment(lost);
            self.counts.publishes_dropped.add(lost);
        }
    }

    /// Sends the open chunk if the bus has room for it, and settles what is due at level `received`.
    pub(super) fn flush(&mut self) -> bool {
        if self.open.is_empty() {
            return true;
        }
        let Ok(number) = self.sender.send(self.now_ms, &mut self.open) else {
            return false; // full: try again when woken; dead: the process is about to end, nothing is acknowledged
        };
        self.metrics.chunks.increment(1);
        let mut settled = std::mem::take(&mut self.settled);
        self.acks
            .sent(number, self.opened_ms, &mut self.owed, &mut settled);
        let waited = self.now_ms.saturating_sub(self.opened_ms) as f64 / 1_000.0;
        if !settled.is_empty() {
            self.metrics.ack_seconds.record(waited);
            self.woke = true;
        }
        for owed in settled.drain(..) {
            self.settle(owed, Ok(()));
        }
        self.settled = settled;
        true
    }

    /// Settles what was waiting for chunks that are durable now.
    pub(super) fn settle_durable(&mut self) {
        let appended = self.sender.appended();
        let mut settled = std::mem::take(&mut self.settled);
        while let Some(opened_ms) = self.acks.durable(appended, &mut settled) {
            let waited = self.now_ms.saturating_sub(opened_ms) as f64 / 1_000.0;
            self.metrics.ack_seconds.record(waited);
            for some in settled.chunks(WARMED) {
                std::hint::black_box(self.warm(some.iter().map(|owed| owed.slot)));
                for &owed in some {
                    self.settle(owed, Ok(()));
                }
            }
            settled.clear();
        }
        self.settled = settled;
    }

    /// Tells the session of `owed` what became of its publish.
    pub(super) fn settle(&mut self, owed: Owed, result: Result<(), Reason>) {
        let at = SessionRef {
            slot: owed.slot,
            generation: owed.generation,
        };
        let Some(slot) = self.slot(at) else { return };
        if let (Debt::Publish(first), Ok(())) = (owed.debt, result) {
            slot.session.settle_run(first, owed.count);
            return slot.wake();
        }
        let (ticket, result) = match (owed.debt, result) {
            (Debt::Answer(ticket), _) => {
                slot.session.answered(ticket);
                return slot.wake();
            }
            (Debt::Refusal(ticket, reason), _) => (ticket, Err(reason)),
            (Debt::Publish(ticket), Ok(())) => (ticket, Ok(())),
            (Debt::Publish(ticket), Err(_)) if !slot.session.is_told_refusals() => (ticket, Ok(())),
            (Debt::Publish(ticket), Err(reason)) => {
                if slot.stored && self.free_refused(at, ticket, reason) {
                    return;
                }
                (ticket, Err(reason))
            }
        };
        let Some(slot) = self.slot(at) else { return };
        slot.session.settle(ticket, result);
        slot.wake();
    }

    /// A publish of a kept session is refused, of which the log says that it took its packet id: the log must say that the
    /// id is free before the client hears of it, or the next publish under it would be taken for this one after a
    /// restart. False when there is no such id.
    fn free_refused(&mut self, at: SessionRef, ticket: Ticket, reason: Reason) -> bool {
        let Some(slot) = self.slot(at) else { return false };
        let Some(packet_id) = slot.session.takes_id(ticket) else {
            return false;
        };
        let client_id = slot.session.client_id_shared();
        let refusal = Some((at, Debt::Refusal(ticket, reason)));
        self.write_down(&client_id, Change::Release(packet_id.get()), refusal);
        true
    }
}

/// Whether the store is to know that a publish of `qos` was given to this subscriber, or to the group that it is of.
fn is_kept(to: &Match, qos: QoS) -> bool {
    match &to.share {
        Some(share) => share.owed && qos > QoS::AtMostOnce,
        None => to.kept && to.qos.min(qos) > QoS::AtMostOnce,
    }
}
