//! The client's publishes of QoS 1 and 2: which wait to be settled, in which order they are acknowledged
//! [MQTT-4.6.0-2, MQTT-4.6.0-3], and which QoS 2 packet ids are taken (section 4.3.3).

use std::collections::VecDeque;

use super::event::{Ticket, Violation};
use crate::classify::Level;
use crate::codec::{PacketId, QoS, Reason, put_puback};
use crate::store::TakenId;

/// One publish that is not acknowledged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    ticket: Ticket,
    packet_id: PacketId,
    qos: QoS,
    /// Of topic and payload: a client that lost its memory counts its ids from 1 again.
    fingerprint: u64,
    result: Option<Reason>,
}

/// What is rarely there.
#[derive(Debug, Default)]
struct Rest {
    /// From connections that are gone, oldest first: a client that sends such a publish again joins it here instead
    /// of having it published twice.
    parked: VecDeque<Pending>,
    /// QoS 2 ids from their PUBLISH to their PUBREL, sorted.
    taken: VecDeque<PacketId>,
    /// Taken ids from before a restart of which it is not known yet whether Kafka has their publish: no PUBREC before
    /// that. The client may have had its PUBREC before the restart, and go on with PUBREL.
    unsure: Vec<(Ticket, PacketId)>,
}

/// What to do about a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is new.
    New(Ticket),
    /// It is known, and is acknowledged when its time comes.
    Known,
}

/// An acknowledgement that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub packet_id: PacketId,
    pub qos: QoS,
    pub reason: Reason,
}

/// The client's publishes under way.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Of this connection, in the order in which they came.
    pending: VecDeque<Pending>,
    rest: Option<Box<Rest>>,
    next_ticket: u32,
    /// Publishes of this connection that count against Receive Maximum (section 4.9).
    under_way: u16,
}

impl Inbound {
    /// A connection begins: what the last one left unacknowledged is parked. At most `receive_maximum` publishes are
    /// under way at once, so twice as many parked ones is more than a client can come back for; older QoS 1 entries
    /// are forgotten, which costs at worst a duplicate.
    pub fn attach(&mut self, receive_maximum: u16) {
        self.under_way = 0;
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let parked = &mut self.rest.get_or_insert_default().parked;
        parked.extend(pending);
        let mut surplus = parked.len().saturating_sub(2 * usize::from(receive_maximum));
        parked.retain(|entry| {
            let drop = surplus > 0 && entry.qos == QoS::AtLeastOnce;
            surplus -= usize::from(drop);
            !drop
        });
    }

    /// The packet ids that were taken before a restart. Returns which ticket waits for which sequence of the log.
    pub fn restore(&mut self, taken: &[TakenId]) -> Vec<(Ticket, u64)> {
        let mut waiting = Vec::new();
        for id in taken {
            let Some(packet_id) = PacketId::new(id.packet_id) else {
                continue;
            };
            let ticket = self.ticket();
            let rest = self.rest.get_or_insert_default();
            if let Err(at) = rest.taken.binary_search(&packet_id) {
                rest.taken.insert(at, packet_id);
            }
            if id.level == Level::Kafka {
                rest.unsure.push((ticket, packet_id));
                waiting.push((ticket, id.sequence));
            }
        }
        waiting
    }

    /// A PUBLISH of QoS 1 or 2 came.
    pub fn arrive(&mut self, packet_id: PacketId, qos: QoS, dup: bool, fingerprint: u64) -> Arrival {
        self.under_way = self.under_way.saturating_add(1);
        match qos {
            QoS::ExactlyOnce => self.arrive_qos2(packet_id, fingerprint),
            _ => self.arrive_qos1(packet_id, dup, fingerprint),
        }
    }

    fn arrive_qos1(&mut self, packet_id: PacketId, dup: bool, fingerprint: u64) -> Arrival {
        let parked = self.unpark(packet_id, QoS::AtLeastOnce);
        if dup {
            if let Some(entry) = parked.filter(|entry| entry.fingerprint == fingerprint) {
                self.pending.push_back(entry);
                return Arrival::Known;
            }
            if self.is_waiting(packet_id, QoS::AtLeastOnce) {
                self.under_way -= 1; // one acknowledgement answers both
                return Arrival::Known;
            }
        }
        self.push_new(packet_id, QoS::AtLeastOnce, fingerprint)
    }

    fn arrive_qos2(&mut self, packet_id: PacketId, fingerprint: u64) -> Arrival {
        let taken = &mut self.rest.get_or_insert_default().taken;
        match taken.binary_search(&packet_id) {
            Err(at) => {
                taken.insert(at, packet_id);
                self.push_new(packet_id, QoS::ExactlyOnce, fingerprint)
            }
            Ok(_) => {
                if let Some(entry) = self.unpark(packet_id, QoS::ExactlyOnce) {
                    self.pending.push_back(entry);
                } else if self.is_waiting(packet_id, QoS::ExactlyOnce) {
                    self.under_way -= 1;
                } else if let Some(ticket) = self.take_unsure(|(_, id)| *id == packet_id) {
                    self.push(ticket, packet_id, QoS::ExactlyOnce, fingerprint, None);
                } else {
                    let ticket = self.ticket();
                    self.push(
                        ticket,
                        packet_id,
                        QoS::ExactlyOnce,
                        fingerprint,
                        Some(Reason::Success),
                    );
                }
                Arrival::Known
            }
        }
    }

    /// A ticket that this session has not given out.
    pub fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        ticket
    }

    fn push_new(&mut self, packet_id: PacketId, qos: QoS, fingerprint: u64) -> Arrival {
        let ticket = self.ticket();
        self.push(ticket, packet_id, qos, fingerprint, None);
        Arrival::New(ticket)
    }

    fn push(
        &mut self,
        ticket: Ticket,
        packet_id: PacketId,
        qos: QoS,
        fingerprint: u64,
        result: Option<Reason>,
    ) {
        self.pending.push_back(Pending {
            ticket,
            packet_id,
            qos,
            fingerprint,
            result,
        });
    }

    fn is_waiting(&self, packet_id: PacketId, qos: QoS) -> bool {
        self.pending
            .iter()
            .any(|e| e.packet_id == packet_id && e.qos == qos)
    }

    fn unpark(&mut self, packet_id: PacketId, qos: QoS) -> Option<Pending> {
        let parked = &mut self.rest.as_mut()?.parked;
        let at = parked
            .iter()
            .position(|e| e.packet_id == packet_id && e.qos == qos)?;
        parked.remove(at)
    }

    fn take_unsure(&mut self, which: impl Fn(&(Ticket, PacketId)) -> bool) -> Option<Ticket> {
        let unsure = &mut self.rest.as_mut()?.unsure;
        let at = unsure.iter().position(which)?;
        Some(unsure.swap_remove(at).0)
    }

    /// The publish of `ticket` is decided.
    pub fn settle(&mut self, ticket: Ticket, result: Result<(), Reason>) {
        let reason = result.err().unwrap_or(Reason::Success);
        if let Some(entry) = self.find(ticket).and_then(|at| self.pending.get_mut(at)) {
            let entry_was = *entry;
            entry.result = Some(reason);
            if reason != Reason::Success {
                self.free(entry_was);
            }
        } else if self.take_unsure(|(unsure, _)| *unsure == ticket).is_none() {
            self.settle_parked(ticket, reason);
        }
    }

    /// The publishes of the `count` tickets from `first` on are accepted. Most often they stand one behind the other.
    pub fn settle_run(&mut self, first: Ticket, count: u32) {
        let start = match self.pending.front() {
            Some(entry) if entry.ticket == first => 0,
            _ => self.find(first).unwrap_or(self.pending.len()),
        };
        let mut settled = 0;
        for entry in self.pending.range_mut(start..).take(count as usize) {
            if entry.ticket != first.after(settled) {
                break;
            }
            entry.result = Some(Reason::Success);
            settled += 1;
        }
        for left in settled..count {
            self.settle(first.after(left), Ok(()));
        }
    }

    /// Tickets rise along `pending`, but for a client that sends again in another order than before.
    fn find(&self, ticket: Ticket) -> Option<usize> {
        let age = |ticket: Ticket| ticket.0.wrapping_sub(self.next_ticket);
        self.pending
            .binary_search_by_key(&age(ticket), |entry| age(entry.ticket))
            .ok()
            .or_else(|| self.pending.iter().position(|entry| entry.ticket == ticket))
    }

    /// The id that the publish of `ticket` has taken.
    pub fn takes_id(&self, ticket: Ticket) -> Option<PacketId> {
        let entry = match self.find(ticket) {
            Some(at) => self.pending.get(at),
            None => {
                let parked = &self.rest.as_ref()?.parked;
                parked.iter().find(|entry| entry.ticket == ticket)
            }
        };
        entry
            .filter(|entry| entry.qos == QoS::ExactlyOnce)
            .map(|entry| entry.packet_id)
    }

    /// Nobody can be answered now. What was refused is forgotten, so that it is tried again when it is sent again.
    fn settle_parked(&mut self, ticket: Ticket, reason: Reason) {
        let Some(parked) = self.rest.as_mut().map(|rest| &mut rest.parked) else {
            return;
        };
        let Some(at) = parked.iter().position(|entry| entry.ticket == ticket) else {
            return;
        };
        if reason == Reason::Success {
            if let Some(entry) = parked.get_mut(at) {
                entry.result = Some(reason);
            }
        } else if let Some(entry) = parked.remove(at) {
            self.free(entry);
        }
    }

    /// A refused QoS 2 publish leaves its packet id free (section 4.3.3).
    fn free(&mut self, entry: Pending) {
        if entry.qos == QoS::ExactlyOnce {
            self.release_id(entry.packet_id);
        }
    }

    fn release_id(&mut self, packet_id: PacketId) -> bool {
        self.take_unsure(|(_, id)| *id == packet_id);
        let Some(rest) = self.rest.as_mut() else {
            return false;
        };
        let found = rest.taken.binary_search(&packet_id);
        if let Ok(at) = found {
            rest.taken.remove(at);
        }
        found.is_ok()
    }

    /// PUBREL: whether the id was taken. One that is waiting for its PUBREC can't be released by a client that keeps
    /// to the protocol; answered with PUBCOMP, it would be taken for done.
    pub fn release(&mut self, packet_id: PacketId) -> Result<bool, Violation> {
        const EARLY: Violation =
            Violation::protocol("PUBREL for a publish that has no PUBREC yet [MQTT-4.3.3-6]");
        if self.is_waiting(packet_id, QoS::ExactlyOnce) {
            return Err(EARLY);
        }
        match self.unpark(packet_id, QoS::ExactlyOnce) {
            Some(entry) if entry.result.is_none() => Err(EARLY),
            _ => {
                let known = self.release_id(packet_id);
                if known {
                    self.completed();
                }
                Ok(known)
            }
        }
    }

    /// One publish less is under way.
    fn completed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The next acknowledgement in order, if it is settled.
    pub fn next_due(&mut self) -> Option<Due> {
        let entry = *self.pending.front()?;
        let reason = entry.result?;
        self.pending.pop_front();
        if entry.qos == QoS::AtLeastOnce || reason != Reason::Success {
            self.completed();
        }
        Some(Due {
            packet_id: entry.packet_id,
            qos: entry.qos,
            reason,
        })
    }

    /// Appends the acknowledgements in order of QoS 1 publishes that were accepted, up to the first other one.
    pub fn put_pubacks(&mut self, out: &mut Vec<u8>) {
        let is_plain =
            |entry: &&Pending| entry.qos == QoS::AtLeastOnce && entry.result == Some(Reason::Success);
        let mut count = 0;
        for entry in self.pending.iter().take_while(is_plain) {
            put_puback(entry.packet_id, out);
            count += 1;
        }
        self.pending.drain(..count);
        self.under_way = self
            .under_way
            .saturating_sub(u16::try_from(count).unwrap_or(u16::MAX));
    }

    /// Whether an acknowledgement can be sent now.
    pub fn is_due(&self) -> bool {
        self.pending.front().is_some_and(|entry| entry.result.is_some())
    }

    /// Publishes of this connection that are not acknowledged yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Publishes of this connection that count against Receive Maximum.
    pub fn under_way(&self) -> u16 {
        self.under_way
    }

    /// Gives memory back that a burst has left.
    pub fn shrink(&mut self) {
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        if self
            .rest
            .as_ref()
            .is_some_and(|r| r.parked.is_empty() && r.taken.is_empty() && r.unsure.is_empty())
        {
            self.rest = None;
        }
    }
}
