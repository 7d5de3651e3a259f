//! Answers that wait until what they say is durable: SUBACK, UNSUBACK and PUBCOMP of a kept session.

use std::collections::VecDeque;

use super::Session;
use super::event::{Drops, Ticket};
use super::explain::{self, put};
use super::names::Names;
use super::transmit::ack;
use crate::codec::{Packet, PacketId, Properties, Reason, Suback};
use crate::store::StoreEvent;

/// One answer.
#[derive(Debug)]
pub(super) enum Answer {
    Pubcomp(PacketId, Reason),
    /// SUBACK, as bytes: what is queued behind its SUBSCRIBE goes behind it.
    Suback(Box<[u8]>),
    /// UNSUBACK, as bytes.
    Unsuback(Box<[u8]>),
}

/// The answers of this connection that wait, in the order in which they become due.
#[derive(Debug, Default)]
pub(super) struct Later {
    answers: VecDeque<(Ticket, Answer)>,
    /// How many of the messages in the queue stand before each SUBACK, and behind the one before it.
    before: VecDeque<usize>,
}

impl Later {
    /// `queued`: how many messages are in the queue.
    fn push(&mut self, ticket: Ticket, answer: Answer, queued: usize) {
        if matches!(answer, Answer::Suback(_)) {
            let before: usize = self.before.iter().sum();
            self.before.push_back(queued.saturating_sub(before));
        }
        self.answers.push_back((ticket, answer));
    }

    fn pop(&mut self) -> Option<(Ticket, Answer)> {
        let (ticket, answer) = self.answers.pop_front()?;
        if matches!(answer, Answer::Suback(_)) {
            let before = self.before.pop_front().unwrap_or(0);
            if let Some(next) = self.before.front_mut() {
                *next += before;
            }
        }
        Some((ticket, answer))
    }
}

/// What few sessions have at a time.
#[derive(Debug, Default)]
pub(super) struct Aside {
    pub later: Later,
    /// What the store is to be told.
    pub events: Vec<StoreEvent>,
    /// What topics are called on this connection.
    pub names: Names,
    /// Messages that were given up, and not counted yet.
    pub drops: Drops,
}

impl Aside {
    pub fn is_empty(&self) -> bool {
        self.later.answers.is_empty()
            && self.events.is_empty()
            && self.names.is_empty()
            && self.drops == Drops::default()
    }
}

impl Session {
    /// Keeps `answer` until its ticket is [`answered`](Session::answered).
    pub(super) fn hold(&mut self, answer: Answer) -> Ticket {
        let ticket = self.inbound.ticket();
        let queued = self.outbound.len();
        let later = &mut self.aside.get_or_insert_default().later;
        later.push(ticket, answer, queued);
        ticket
    }

    /// What the answer of `ticket` says is durable: it is sent now, and so are those before it. One whose connection is
    /// gone is forgotten.
    pub fn answered(&mut self, ticket: Ticket) {
        let Some(aside) = &self.aside else { return };
        if !aside.later.answers.iter().any(|(waiting, _)| *waiting == ticket) {
            return;
        }
        while let Some((next, answer)) = self.aside.as_mut().and_then(|aside| aside.later.pop()) {
            match answer {
                Answer::Pubcomp(packet_id, reason) => self.control(&Packet::Pubcomp(ack(packet_id, reason))),
                Answer::Suback(bytes) | Answer::Unsuback(bytes) => self.control.extend_from_slice(&bytes),
            }
            if next == ticket {
                return;
            }
        }
    }

    /// Whether the next in the queue comes behind a SUBACK that waits.
    pub(super) fn is_behind_suback(&self) -> bool {
        let before = self.aside.as_ref().and_then(|aside| aside.later.before.front());
        before == Some(&0)
    }

    /// One was taken from the front of the queue.
    pub(super) fn taken_from_queue(&mut self) {
        let aside = self.aside.as_mut();
        if let Some(before) = aside.and_then(|aside| aside.later.before.front_mut()) {
            *before = before.saturating_sub(1);
        }
    }

    /// The connection that answers waited for is gone.
    pub(super) fn forget_answers(&mut self) {
        if let Some(aside) = &mut self.aside {
            aside.later = Later::default();
        }
    }

    /// Answers SUBSCRIBE; with `wait` once the ticket that is returned is [`answered`](Session::answered).
    pub fn subscribed(&mut self, packet_id: PacketId, reasons: Vec<Reason>, wait: bool) -> Option<Ticket> {
        let refused = reasons.iter().find(|reason| reason.is_error()).copied();
        let told = self.told(refused.unwrap_or(Reason::Success), explain::of_filter);
        let suback = |properties| {
            Packet::Suback(Suback {
                packet_id,
                reasons: reasons.clone(),
                properties,
            })
        };
        let mut bytes = Vec::new();
        told.put(self.version, self.client_max_packet, suback, &mut bytes);
        let bytes = bytes.into();
        self.answer(Answer::Suback(bytes), wait)
    }

    /// Answers UNSUBSCRIBE; with `wait` once the ticket that is returned is [`answered`](Session::answered).
    pub fn unsubscribed(&mut self, packet_id: PacketId, reasons: Vec<Reason>, wait: bool) -> Option<Ticket> {
        let unsuback = Packet::Unsuback(Suback {
            packet_id,
            reasons,
            properties: Properties::EMPTY,
        });
        let mut bytes = Vec::new();
        put(self.version, self.client_max_packet, &unsuback, &mut bytes);
        let bytes = bytes.into();
        self.answer(Answer::Unsuback(bytes), wait)
    }

    fn answer(&mut self, answer: Answer, wait: bool) -> Option<Ticket> {
        match answer {
            Answer::Suback(bytes) | Answer::Unsuback(bytes) if !wait => {
                self.control.extend_from_slice(&bytes);
                None
            }
            answer => Some(self.hold(answer)),
        }
    }
}
