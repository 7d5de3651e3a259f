//! Out of the log and towards Kafka: records become deliveries, deliveries are placed and sent.

use forebay_broker::bus::chunk::HEAD_BYTES;
use forebay_broker::classify::{Classify, Level, RouteIds};
use forebay_broker::record::{PublishRecord, Record};
use forebay_broker::spool::Entry;

use super::refuse::send_letter;
use super::topic::{State, Topic, Via};
use super::{Delivery, LaneState, Pump, Several, Source, TICKET_BITS};
use crate::outcome::{self, Class};
use crate::partition::partition_for;
use crate::producer::{Code, Outgoing, Producer, SendError, Sent};
use crate::route::{DEFAULT, NOWHERE, Place, Rendered, Routes};
use crate::window::Ledger;

/// Bytes that Kafka adds to a record alone in its batch, at least.
const BATCH_OVERHEAD: usize = 61;

/// Where a record came from.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    /// The chunk of the ledger that holds it; none: it is read for the second time.
    slot: Option<u32>,
    offset: u32,
    bytes: &'a [u8],
    sequence: u64,
    epoch: u16,
    worker: u16,
    number: u64,
    index: u32,
    /// Accepted in this run, so that its publisher may wait.
    ours: bool,
}

impl Pump {
    /// Takes a chunk of the log.
    pub(super) fn take(&mut self, entry: Entry) -> Result<(), String> {
        let (chunk, first) = (entry.chunk.clone(), entry.first.sequence);
        let slot = self.ledger.push(chunk, first, entry.durable_ms);
        self.take_records(&entry, Some(slot))?;
        self.ledger.release(slot);
        self.read_to = entry.first.sequence + u64::from(entry.chunk.count());
        Ok(())
    }

    /// Takes from a chunk of the log what topics have missed that fell behind.
    pub(super) fn take_missed(&mut self, entry: &Entry) -> Result<(), String> {
        self.take_records(entry, None)
    }

    fn take_records(&mut self, entry: &Entry, slot: Option<u32>) -> Result<(), String> {
        let ours = entry.first.epoch == self.parts.epoch;
        let epoch = self.epoch(entry.first.epoch)?;
        let chunk = &entry.chunk;
        // Nobody waits for Kafka in it: what goes nowhere has no such level.
        if ours && chunk.nowhere_by() == Some(self.parts.routes.generation()) {
            return Ok(());
        }
        let bytes = chunk.as_bytes();
        let mut rest = bytes.get(HEAD_BYTES..).unwrap_or_default();
        for index in 0..chunk.count() {
            let offset = (bytes.len() - rest.len()) as u32;
            let (record, after) =
                Record::read(rest).map_err(|error| format!("a chunk of the log: {error}"))?;
            rest = after;
            let origin = Origin {
                slot,
                offset,
                bytes: bytes
                    .get(offset as usize..bytes.len() - after.len())
                    .unwrap_or_default(),
                sequence: entry.first.sequence + u64::from(index),
                epoch,
                worker: chunk.worker(),
                number: chunk.number(),
                index,
                ours,
            };
            if let Record::Publish(record) = record {
                self.accept(&record, origin);
            }
        }
        Ok(())
    }

    /// The place of an epoch among those on their way. Epochs are few: one a start.
    fn epoch(&mut self, epoch: u64) -> Result<u16, String> {
        let at = match self.epochs.iter().position(|(known, _)| *known == epoch) {
            Some(at) => at,
            None => {
                let prefix = format!("{}/{epoch}/", self.parts.node_id).into_bytes();
                self.epochs.push((epoch, prefix));
                self.epochs.len() - 1
            }
        };
        u16::try_from(at).map_err(|_| "the log has more than 65,535 epochs".to_owned())
    }

    fn accept(&mut self, record: &PublishRecord<'_>, origin: Origin<'_>) {
        let asked_again;
        // Another run may have had another table under the same generation.
        let known = origin.ours && record.generation == self.parts.routes.generation();
        let routes: &RouteIds = if known {
            &record.routes
        } else {
            asked_again = self.parts.routes.matched(record);
            &asked_again
        };
        let reported = origin.ours && record.level == Level::Kafka;
        let awaited = origin.ours && record.hurries();
        let several = routes.len() > 1;
        let delivery = |route: u16| Delivery {
            source: Source::Chunk {
                slot: origin.slot.unwrap_or_default(),
                offset: origin.offset,
            },
            sequence: origin.sequence,
            arrival_ms: record.arrival_ms,
            number: origin.number,
            index: origin.index,
            bytes: record.encoded_len() as u32,
            worker: origin.worker,
            route,
            epoch: origin.epoch,
            reported,
            awaited,
            several,
            untimed: false,
        };
        if several && reported && origin.slot.is_some() {
            let left = routes.len();
            self.several
                .insert(origin.sequence, Several { left, refused: false });
        }
        if routes.is_empty() {
            self.dispatch(record, delivery(DEFAULT), origin);
        }
        for route in routes {
            self.dispatch(record, delivery(*route), origin);
        }
    }

    /// Finds topic and partition of a delivery and puts it in line.
    fn dispatch(&mut self, record: &PublishRecord<'_>, mut delivery: Delivery, origin: Origin<'_>) {
        if delivery.route == NOWHERE {
            if origin.slot.is_some() {
                self.report(&delivery, true);
            }
            return;
        }
        // A route that is gone leaves its records to the default one: nothing accepted is swallowed.
        if self.parts.routes.get(delivery.route).is_none() {
            delivery.route = DEFAULT;
        }
        let at = match self.target(record, &delivery) {
            Ok(at) => at,
            Err(_) => self.table.unplaced(),
        };
        self.note_route(at, delivery.route);
        if !self.takes(at, &origin) {
            return;
        }
        self.open += 1;
        self.awaited += usize::from(delivery.awaited);
        match origin.slot {
            Some(slot) => self.ledger.need(slot),
            None => delivery.source = self.own(at, origin.bytes.into()),
        }
        self.place(at, delivery, Some(record));
    }

    /// Whether a record is to be taken from where it was read. The key is rendered.
    fn takes(&self, at: usize, origin: &Origin<'_>) -> bool {
        let scanned = origin.slot.is_none();
        let Some(behind) = self.table.get(at).and_then(|topic| topic.behind.as_ref()) else {
            return !scanned;
        };
        let partition = partition_for(&self.rendered.key, behind.partitions());
        behind.takes(partition, origin.sequence, scanned)
    }

    /// Notes that a route brings records to a topic.
    fn note_route(&mut self, at: usize, route: u16) {
        if let Some(topic) = self.table.get_mut(at)
            && !topic.routes.contains(&route)
        {
            topic.routes.push(route);
            if topic.behind.is_some() {
                self.parts.routes.set_closed(route, true);
            }
        }
    }

    /// Renders the key and finds the topic.
    pub(super) fn target(
        &mut self,
        record: &PublishRecord<'_>,
        delivery: &Delivery,
    ) -> Result<usize, String> {
        let routes = &self.parts.routes;
        let route = routes.get(delivery.route).ok_or("no such route")?;
        let target = routes.target(route, record, &mut self.rendered);
        target.map_err(|reject| reject.to_string())?;
        if let Some(name) = route.literal_topic() {
            return Ok(self.table.of_route(delivery.route, name));
        }
        let name = std::str::from_utf8(&self.rendered.topic).unwrap_or_default();
        if let Some(topic) = self.table.find(name) {
            return Ok(topic);
        }
        if self.table.len() >= self.parts.config.max_topics {
            return Err("its template has named kafka.max_topics topics already".to_owned());
        }
        Ok(self.table.add(name))
    }

    /// Puts a delivery in its lane, or in its topic's line if the partitions are not known. The key is rendered.
    pub(super) fn place(&mut self, at: usize, mut delivery: Delivery, fresh: Option<&PublishRecord<'_>>) {
        let Some(topic) = self.table.get(at) else {
            return;
        };
        let (parks, places) = (topic.parks, topic.places());
        let partition = partition_for(&self.rendered.key, topic.lanes.len() as u32);
        let lane = topic.lanes.get(partition as usize).copied();
        if parks {
            self.copy_out(at, &mut delivery);
        }
        match lane {
            Some(lane) if places => self.push(lane, delivery, fresh),
            _ => {
                let now = self.now;
                if let Some(topic) = self.table.get_mut(at) {
                    topic.waits_since.get_or_insert(now);
                    topic.waiting.push_back(delivery);
                }
            }
        }
    }

    fn push(&mut self, at: usize, delivery: Delivery, fresh: Option<&PublishRecord<'_>>) {
        let now = self.now;
        let Some(state) = self.lanes.get_mut(at) else {
            return;
        };
        if state.lane.is_empty() {
            if now - state.moved > super::FORGOTTEN {
                state.lane.unprime();
            }
            state.moved = now;
        }
        let bytes = delivery.bytes as usize;
        // What was just rendered is the next of the lane only if nothing else waits before it.
        let next = state.lane.sent() == state.lane.len();
        state.lane.push(delivery, bytes);
        if next {
            self.send_next(at, fresh);
        }
    }

    /// Sends what may go of a lane.
    pub(super) fn send_lane(&mut self, at: usize) {
        while self.send_next(at, None) {}
    }

    /// Sends the next record of a lane if it may go; true when it went. `fresh` is that record where it has just been
    /// read and its key rendered.
    fn send_next(&mut self, at: usize, fresh: Option<&PublishRecord<'_>>) -> bool {
        let Some(state) = self.lanes.get(at) else {
            return false;
        };
        let Some(topic) = self.table.get(state.topic) else {
            return false;
        };
        let via = topic.via;
        let full = match via {
            Via::Main => self.main.full,
            Via::Side => self.side.full,
        };
        if full {
            self.list(at); // no report would bring it back: it may have nothing on its way
            return false;
        }
        if topic.state != State::Ready || (via == Via::Side && !self.may_use_side(topic)) {
            return false;
        }
        let cap = match via {
            Via::Main => {
                lane_bytes(topic.max_message_bytes, self.parts.config.partition_bytes).min(topic.cap)
            }
            Via::Side => 0,
        };
        let Some((ticket, delivery)) = state.lane.next(cap) else {
            return false;
        };
        let link = match via {
            Via::Main => &mut self.main,
            Via::Side => &mut self.side,
        };
        let Some(producer) = link.producer.as_mut() else {
            return false;
        };
        if let Source::Letter { letter, .. } = &delivery.source {
            let (opaque, untimed) = (opaque(at, ticket), delivery.untimed);
            let producer = producer.as_mut();
            let result = send_letter(letter, &topic.name, state.partition, opaque, untimed, producer);
            return self.sent(at, via, ticket, result);
        }
        let read = match fresh {
            Some(_) => None,
            None => bytes_of(&delivery.source, &self.ledger).and_then(Record::read_publish),
        };
        let Some(record) = fresh.or(read.as_ref()) else {
            return false;
        };
        let prefix = self.epochs.get(usize::from(delivery.epoch));
        let parcel = Parcel {
            delivery,
            record,
            topic: &topic.name,
            partition: state.partition,
            opaque: opaque(at, ticket),
            prefix: prefix.map_or(b"", |(_, prefix)| prefix),
            untimed: delivery.untimed || record.arrival_ms <= topic.untimed_until,
            max_bytes: topic.max_message_bytes.filter(|_| !self.compresses),
            keyed: fresh.is_some(),
        };
        let result = parcel.send(&self.parts.routes, &mut self.rendered, producer.as_mut());
        link.hasty |= delivery.awaited && result.is_ok();
        self.sent(at, via, ticket, result)
    }

    /// A topic whose trouble is over sends nothing more by the side: it returns when all of it is quiet.
    fn may_use_side(&self, topic: &Topic) -> bool {
        let mut lanes = topic.lanes.iter().filter_map(|lane| self.lanes.get(*lane));
        topic.failures > 0 || lanes.any(|state| state.lane.is_suspect())
    }

    fn sent(&mut self, at: usize, via: Via, ticket: u64, result: Result<(), SendError>) -> bool {
        let now = self.now;
        let link = self.link(via);
        match result {
            Ok(()) => {
                if link.in_flight == 0 {
                    link.last_report = now;
                }
                link.in_flight += 1;
            }
            Err(SendError::Full) => {
                link.full = true;
                self.list(at);
                return false;
            }
            Err(SendError::Refused(code)) if outcome::classify(code) == Class::Poison => {
                if !self.may_refuse() {
                    let topic = self.lanes.get(at).map(|state| state.topic);
                    self.wait_for_quarantine(topic.unwrap_or_default());
                    return false;
                }
                self.metrics.failed(Class::Poison);
                self.mark(at, |state| state.lane.mark_refused());
                // It is passed over when all before it are done.
                self.pop(at);
                return true;
            }
            Err(SendError::Refused(code)) => {
                // Not a record's fault: the producer is done for. Its reports say so at the next poll.
                link.full = true;
                link.in_flight += 1;
                let failed = Sent {
                    opaque: opaque(at, ticket),
                    result: Err(code),
                };
                link.events.sent.push(failed);
                self.mark(at, |state| state.lane.mark_sent());
                return false;
            }
        }
        self.mark(at, |state| state.lane.mark_sent());
        true
    }

    fn mark(&mut self, at: usize, mark: impl FnOnce(&mut LaneState)) {
        let now = self.now;
        if let Some(state) = self.lanes.get_mut(at) {
            if state.lane.sent() == 0 {
                state.moved = now;
            }
            mark(state);
        }
    }
}

/// What comes back with a report: the lane and the low bits of the ticket.
fn opaque(lane: usize, ticket: u64) -> usize {
    (lane << TICKET_BITS) | (ticket & ((1 << TICKET_BITS) - 1)) as usize
}

/// The bytes of a record, perhaps with more behind them.
pub(super) fn bytes_of<'a>(source: &'a Source, ledger: &'a Ledger) -> Option<&'a [u8]> {
    match source {
        Source::Own { bytes, .. } => Some(bytes),
        Source::Letter { .. } => None,
        Source::Chunk { slot, offset } => {
            let chunk = ledger.chunk(*slot)?;
            chunk.as_bytes().get(*offset as usize..)
        }
    }
}

/// A delivery with all that it takes to send it.
struct Parcel<'a> {
    delivery: &'a Delivery,
    record: &'a PublishRecord<'a>,
    topic: &'a str,
    partition: i32,
    opaque: usize,
    prefix: &'a [u8],
    /// Sent without its time of arrival; one of 0 is none.
    untimed: bool,
    /// Greatest batch that the broker takes, where a record's own size tells whether it fits.
    max_bytes: Option<usize>,
    /// Whether its key has just been rendered.
    keyed: bool,
}

impl Parcel<'_> {
    fn send(
        &self,
        routes: &Routes,
        rendered: &mut Rendered,
        producer: &mut dyn Producer,
    ) -> Result<(), SendError> {
        let (delivery, record) = (self.delivery, self.record);
        let Some(route) = routes.get(delivery.route) else {
            return Err(SendError::Refused(Code::Fail));
        };
        if !self.keyed {
            // It was rendered before: it can't be rejected now.
            let _ = routes.target(route, record, rendered);
        }
        let place = Place {
            prefix: self.prefix,
            sequence: delivery.sequence,
            several: delivery.several,
        };
        routes.body(route, record, &place, rendered);
        let value = rendered.value(record);
        let bytes = rendered.key.len() + value.map_or(0, <[u8]>::len) + BATCH_OVERHEAD;
        if self.max_bytes.is_some_and(|max| bytes > max) {
            return Err(SendError::Refused(Code::MessageSizeTooLarge));
        }
        producer.send(&Outgoing {
            topic: self.topic,
            partition: self.partition,
            key: &rendered.key,
            value,
            headers: &routes.headers(route, record, rendered),
            timestamp: (!self.untimed).then_some(record.arrival_ms as i64),
            opaque: self.opaque,
        })
    }
}

/// Bytes that may be on their way to one partition. Where the broker takes smaller batches than the producer makes, so
/// few that they fit into one.
fn lane_bytes(max_message_bytes: Option<usize>, usual: usize) -> usize {
    const BATCH: usize = 1_000_000;
    match max_message_bytes {
        Some(max) if max < BATCH + BATCH / 32 => usual.min(max / 2),
        _ => usual,
    }
}
