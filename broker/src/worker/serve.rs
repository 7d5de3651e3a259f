//! What a connection's task asks of its session: bytes came, a packet came, what is there to send.

use std::rc::Rc;
use std::task::Waker;

use super::acks::Debt;
use super::state::{SessionRef, State};
use crate::codec::{Packet, PacketId, Reason};
use crate::metrics::Closed;
use crate::record::{Change, Stem};
use crate::session::{Request, Ticket, Violation};
use crate::sys::Sent;

/// A client that says nothing for so long is in no hurry: what it sends may gather a moment with what others send.
const SPARSE_MS: u64 = 20;

/// The type of PUBLISH.
const PUBLISH: u8 = 3;

impl State {
    /// The connection's task runs for the first time: from now on it is woken through `waker`.
    pub fn register(&mut self, at: SessionRef, waker: Waker) {
        if let Some(link) = self.slot(at).and_then(|slot| slot.link.as_mut()) {
            link.waker = Some(waker);
        }
    }

    /// Bytes came: keep-alive starts again. The timers stay as they are. Returns for how long none had come.
    pub fn touch(&mut self, at: SessionRef, bytes: usize) -> u64 {
        let now_ms = self.now_ms;
        self.metrics.bytes_received.increment(bytes as u64);
        self.counts.bytes_received.add(bytes as u64);
        let Some(slot) = self.slot(at) else { return 0 };
        let quiet_ms = slot.session.touch(now_ms);
        self.found.sparse += u32::from(quiet_ms >= SPARSE_MS);
        quiet_ms
    }

    /// They do not count: keep-alive runs on, with the time that had gone by.
    pub fn untouch(&mut self, at: SessionRef, quiet_ms: u64) {
        if let Some(slot) = self.slot(at) {
            slot.session.untouch(quiet_ms);
        }
    }

    /// Whether reading must stop: `held` for want of room for what was read, or because the records of kept sessions
    /// wait for room. Keep-alive does not run against the client then [MQTT-3.1.2-22].
    pub fn must_hold(&mut self, at: SessionRef, held: bool) -> bool {
        let full = self.backlog.is_full();
        let Some(slot) = self.slot(at) else { return held };
        let paused = full && slot.stored;
        slot.held = held || paused;
        if paused {
            self.pause(at);
        }
        held || paused
    }

    /// Counts a connection that ended.
    pub fn count_closed(&mut self, why: Closed) {
        self.metrics.closed(why);
    }

    /// The clock of this turn.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Wakes the connection of session `at` at that time: until then it reads nothing. False when the time is past.
    pub fn resume_at(&mut self, at: SessionRef, resume_ms: u64) -> bool {
        let is_past = resume_ms <= self.now_ms;
        let Some(slot) = self.slot(at).filter(|_| !is_past) else {
            return false;
        };
        if slot.resume_ms != resume_ms {
            slot.resume_ms = resume_ms;
            self.metrics.connections_slowed.increment(1);
            self.slowed.arm(resume_ms, at.slot, at.generation);
        }
        true
    }

    /// How the records of session `at` began last.
    pub fn stem(&self, at: SessionRef) -> Option<Rc<Stem>> {
        let slot = self.slots.get(at.slot as usize);
        slot.filter(|slot| slot.generation == at.generation)?.stem.clone()
    }

    /// Counts a packet by the first byte of its frame.
    pub fn count_packet(&mut self, first_byte: u8) {
        self.found.packets = self.found.packets.saturating_add(1);
        self.metrics.packets(first_byte, 1);
        self.counts.packets_received.add(1);
        self.counts
            .publishes_received
            .add(u64::from(first_byte >> 4 == PUBLISH));
    }

    /// Counts so many PUBLISH packets at once.
    pub fn count_publishes(&mut self, count: u32) {
        if count > 0 {
            self.found.packets = self.found.packets.saturating_add(count);
            self.metrics.packets(PUBLISH << 4, count.into());
            self.counts.packets_received.add(count.into());
            self.counts.publishes_received.add(count.into());
        }
    }

    /// Counts a CONNECT of `bytes`.
    pub fn count_connect(&mut self, bytes: usize) {
        self.found.packets = self.found.packets.saturating_add(1);
        self.metrics.packets(0x10, 1);
        self.metrics.bytes_received.increment(bytes as u64);
        self.counts.packets_received.add(1);
        self.counts.connects.add(1);
        self.counts.bytes_received.add(bytes as u64);
    }

    /// Counts a CONNECT that was refused.
    pub fn count_refused(&mut self) {
        self.metrics.connects_refused.increment(1);
    }

    /// Counts bytes that were written.
    pub fn sent(&mut self, bytes: usize) {
        self.metrics.bytes_sent.increment(bytes as u64);
        self.counts.bytes_sent.add(bytes as u64);
    }

    /// Appends what session `at` has to send to `out`, up to about `soft_limit` bytes. Returns whether more may wait.
    pub fn transmit(&mut self, at: SessionRef, out: &mut Vec<u8>, soft_limit: usize) -> bool {
        let now_ms = self.now_ms;
        if let Some(slot) = self.slot(at)
            && slot.session.wants_transmit()
        {
            let before = out.len();
            slot.session.poll_transmit(now_ms, out, soft_limit);
            slot.written_ms = now_ms as u32;
            slot.note_load();
            let drops = slot.session.take_drops();
            let sent = Sent::in_bytes(slot.session.version(), out.get(before..).unwrap_or_default());
            self.metrics.dropped(drops);
            self.counts.packets_sent.add(sent.packets);
            self.counts.publishes_sent.add(sent.publishes);
            self.counts.publish_bytes_sent.add(sent.publish_bytes);
            self.counts
                .publishes_dropped
                .add(u64::from(drops.too_large) + u64::from(drops.expired));
            self.take_events(at);
            self.go_on_walking(at);
            return self.slot(at).is_some_and(|slot| slot.session.wants_transmit());
        }
        false
    }

    /// Bytes of the greatest packet that the client takes.
    pub fn client_max_packet(&mut self, at: SessionRef) -> u32 {
        self.slot(at)
            .map_or(u32::MAX, |slot| slot.session.client_max_packet())
    }

    /// Handles any packet but PUBLISH. `Some(with_will)`: it was DISCONNECT.
    pub fn control_packet(&mut self, at: SessionRef, packet: Packet<'_>) -> Result<Option<bool>, Violation> {
        let now_ms = self.now_ms;
        let Some(slot) = self.slot(at) else {
            return Ok(None);
        };
        let request = slot.session.handle_packet(now_ms, packet)?;
        slot.note_load();
        self.take_events(at);
        match request {
            Request::Released { packet_id, answer } => self.released(at, packet_id, answer),
            Request::Subscribe(subscribe) => self.subscribe(at, &subscribe),
            Request::Unsubscribe(unsubscribe) => self.unsubscribe(at, &unsubscribe),
            Request::Disconnect { with_will } => return Ok(Some(with_will)),
            Request::None | Request::Publish { .. } => {}
        }
        Ok(None)
    }

    /// Takes what session `at` has for the store.
    pub(super) fn take_events(&mut self, at: SessionRef) {
        if let Some(slot) = self.slots.get_mut(at.slot as usize)
            && slot.generation == at.generation
        {
            slot.session.take_events(&mut self.events);
        }
    }

    /// PUBREL of a kept session: PUBCOMP once that is durable.
    fn released(&mut self, at: SessionRef, packet_id: PacketId, answer: Ticket) {
        if let Some(client_id) = self.slot(at).map(|slot| slot.session.client_id_shared()) {
            let answer = Some((at, Debt::Answer(answer)));
            self.write_down(&client_id, Change::Release(packet_id.get()), answer);
        }
    }

    /// Ends every connection for `reason`.
    pub(super) fn kick_all(&mut self, reason: Reason) {
        for (_, slot) in &self.slots {
            slot.kick(reason);
        }
    }
}
