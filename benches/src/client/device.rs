//! One device: what it has published, what is on the way and what was acknowledged. Pure: bytes and times go in,
//! bytes come out.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use anyhow::{Result, bail};
use forebay_broker::codec::QoS;

use super::plan::{Names, Plan};
use super::ranges::Ranges;
use super::schedule::Schedule;
use super::stats::Stats;
use super::wire::{self, Incoming};

/// A publish that is on the way.
#[derive(Debug)]
struct Flight {
    sequence: u64,
    sent_ns: u64,
    packet_id: NonZeroU16,
    /// QoS 2: PUBREC came, PUBREL is out.
    released: bool,
}

/// What the devices of one thread share.
#[derive(Debug)]
pub struct Shared<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// When publishes are due, over the devices of this thread.
    pub schedule: Schedule,
    /// Counts of this thread.
    pub stats: Stats,
    /// Scratch for payloads.
    pub payload: Vec<u8>,
    /// A device stops putting publishes into the output at this many bytes.
    pub output_bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    names: Names,
    /// Number within its thread: its place in the schedule.
    slot: u64,
    next_sequence: u64,
    in_flight: VecDeque<Flight>,
    window: usize,
    last_packet_id: NonZeroU16,
    /// Sent and answered for, but not acknowledged.
    not_acked: Ranges,
    up: bool,
    was_up: bool,
}

impl Device {
    /// The device with this number within the run and within its thread.
    pub fn new(plan: &Plan, index: u32, slot: u64) -> Self {
        Self {
            names: plan.names(index),
            slot,
            next_sequence: 0,
            in_flight: VecDeque::new(),
            window: usize::from(plan.in_flight),
            last_packet_id: NonZeroU16::MAX,
            not_acked: Ranges::default(),
            up: false,
            was_up: false,
        }
    }

    /// Device id.
    pub fn id(&self) -> &str {
        &self.names.id
    }

    /// Whether the broker has taken the connection.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether nothing waits for an acknowledgement.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Publishes sent.
    pub fn published(&self) -> u64 {
        self.next_sequence
    }

    /// Sequence numbers below [`Device::published`] that were not acknowledged.
    pub fn unacknowledged(&self) -> Ranges {
        let mut set = self.not_acked.clone();
        for flight in self.in_flight.iter().filter(|flight| !flight.released) {
            set.insert(flight.sequence);
        }
        set
    }

    /// When the publishes were due, of those that are due when `all` are, that are neither acknowledged nor refused.
    pub fn unfelt(&self, schedule: &Schedule, all: u64, most: u64) -> impl Iterator<Item = u64> {
        let on_the_way = self.in_flight.iter().filter(|flight| !flight.released);
        let on_the_way = on_the_way.map(|flight| flight.sequence);
        let unsent = self.next_sequence..schedule.due_of(self.slot, all).min(most);
        let (schedule, slot) = (*schedule, self.slot);
        on_the_way
            .chain(unsent)
            .filter_map(move |sequence| schedule.due_at(slot, sequence))
    }

    /// Writes CONNECT.
    pub fn connect(&self, plan: &Plan, out: &mut Vec<u8>) -> Result<()> {
        let client_id = plan.client_id(&self.names.id);
        // A run starts with a clean session; what it has in flight goes on in the kept one.
        let goes_on = self.was_up && plan.reconnect;
        wire::connect(plan, &client_id, !goes_on, out)
    }

    /// Notes that the connection is gone.
    pub fn lost(&mut self, plan: &Plan) {
        self.up = false;
        if plan.qos == QoS::AtMostOnce
            && let Some(last) = self.next_sequence.checked_sub(1)
        {
            // Which of them the broker has read can't be known.
            self.not_acked = Ranges::span(0, last);
        }
    }

    /// Writes the publishes that are due and that the window has room for. Returns whether more are due than fitted
    /// into the output.
    pub fn fill(
        &mut self,
        now_ns: u64,
        all_due: u64,
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        if !self.up {
            return Ok(false);
        }
        let plan = shared.plan;
        let due = shared.schedule.due_of(self.slot, all_due).min(plan.count);
        while self.next_sequence < due {
            if plan.qos != QoS::AtMostOnce && !self.has_room() {
                return Ok(false);
            }
            if out.len() >= shared.output_bytes {
                return Ok(true);
            }
            let sequence = self.next_sequence;
            plan.payload(&self.names.id, sequence, &mut shared.payload);
            let packet_id = self.next_packet_id();
            wire::publish(plan, false, packet_id, &self.names.topic, &shared.payload, out)?;
            self.next_sequence += 1;
            shared.stats.published += 1;
            shared.stats.payload_bytes += shared.payload.len() as u64;
            if plan.qos == QoS::AtMostOnce {
                shared.stats.acked += 1;
            } else {
                self.last_packet_id = packet_id;
                self.in_flight.push_back(Flight {
                    sequence,
                    sent_ns: now_ns,
                    packet_id,
                    released: false,
                });
            }
        }
        Ok(false)
    }

    /// Takes a packet from the broker; an answer goes to `out`. An error means that the connection is of no use.
    pub fn handle(
        &mut self,
        now_ns: u64,
        start_ns: u64,
        packet: &Incoming,
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match *packet {
            Incoming::Connack {
                refused: Some(reason),
                ..
            } => bail!("CONNACK with reason 0x{reason:02X}"),
            Incoming::Connack {
                session_present,
                receive_maximum,
                ..
            } => {
                self.up = true;
                self.was_up = true;
                self.window = usize::from(shared.plan.in_flight.min(receive_maximum));
                self.resume(session_present, shared, out)?;
                if let Some(filter) = &shared.plan.subscribe {
                    wire::subscribe(shared.plan, &filter.replace("{id}", &self.names.id), out)?;
                }
            }
            Incoming::Puback { packet_id, refused } => {
                self.acknowledged(now_ns, start_ns, packet_id, refused, shared);
            }
            Incoming::Pubrec { packet_id, refused } => {
                self.acknowledged(now_ns, start_ns, packet_id, refused, shared);
                if !refused {
                    wire::pubrel(shared.plan, packet_id, out)?;
                }
            }
            Incoming::Pubcomp { packet_id } => {
                let found = self
                    .in_flight
                    .iter()
                    .position(|flight| flight.packet_id == packet_id && flight.released);
                if found.and_then(|at| self.in_flight.remove(at)).is_none() {
                    shared.stats.unexpected += 1;
                }
            }
            Incoming::Publish { packet_id, sequence } => {
                shared.stats.received += 1;
                if let Some(due_us) = sequence.and_then(|at| shared.plan.fed_ns_ago(at, now_ns)) {
                    shared.stats.from_due_us.saturating_record(due_us / 1000);
                }
                if let Some(packet_id) = packet_id {
                    wire::puback(shared.plan, packet_id, out)?;
                }
            }
            Incoming::Suback { refused: true } => bail!("the subscription was refused"),
            Incoming::Suback { refused: false } | Incoming::Pingresp => {}
            Incoming::Disconnect { reason } => bail!("DISCONNECT with reason 0x{reason:02X}"),
            Incoming::Unexpected => shared.stats.unexpected += 1,
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        // An id that is still on the way can only be the oldest one's.
        self.in_flight.len() < self.window
            && self
                .in_flight
                .front()
                .is_none_or(|flight| flight.packet_id != self.next_packet_id())
    }

    fn next_packet_id(&self) -> NonZeroU16 {
        self.last_packet_id.checked_add(1).unwrap_or(NonZeroU16::MIN)
    }

    /// PUBACK or PUBREC.
    fn acknowledged(
        &mut self,
        now_ns: u64,
        start_ns: u64,
        packet_id: NonZeroU16,
        refused: bool,
        shared: &mut Shared<'_>,
    ) {
        let found = self
            .in_flight
            .iter()
            .position(|flight| flight.packet_id == packet_id && !flight.released);
        let Some((at, flight)) = found.and_then(|at| Some((at, self.in_flight.get_mut(at)?))) else {
            shared.stats.unexpected += 1;
            return;
        };
        let sent_us = now_ns.saturating_sub(flight.sent_ns) / 1000;
        let due_ns = shared
            .schedule
            .due_at(self.slot, flight.sequence)
            .map_or(flight.sent_ns, |due| due + start_ns);
        let stats = &mut shared.stats;
        stats.from_sent_us.saturating_record(sent_us);
        stats
            .from_due_us
            .saturating_record(now_ns.saturating_sub(due_ns) / 1000);
        if refused {
            stats.refused += 1;
            self.not_acked.insert(flight.sequence);
        } else {
            stats.acked += 1;
        }
        if !refused && shared.plan.qos == QoS::ExactlyOnce {
            flight.released = true;
        } else {
            self.in_flight.remove(at);
        }
        if self.in_flight.iter().take(at).any(|flight| !flight.released) {
            shared.stats.acks_out_of_order += 1;
        }
    }

    /// What is on the way goes out again, in its order [MQTT-4.4.0-1]; as new when the broker knows nothing of it.
    fn resume(&mut self, session_present: bool, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Result<()> {
        let plan = shared.plan;
        if !session_present {
            self.in_flight.retain(|flight| !flight.released);
        }
        for flight in &self.in_flight {
            if flight.released {
                wire::pubrel(plan, flight.packet_id, out)?;
                continue;
            }
            plan.payload(&self.names.id, flight.sequence, &mut shared.payload);
            wire::publish(
                plan,
                session_present,
                flight.packet_id,
                &self.names.topic,
                &shared.payload,
                out,
            )?;
            shared.stats.resent += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
