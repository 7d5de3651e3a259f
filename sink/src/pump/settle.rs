//! Back from Kafka: reports make deliveries done, and what is done is told to the workers and the ledger.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_broker::bus::{Outcome, Report};

use super::topic::Via;
use super::{Delivery, Pump, Source, TICKET_BITS};
use crate::producer::{Code, Sent};

/// A failed report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) lane: usize,
    pub(super) ticket: u64,
    pub(super) code: Code,
}

/// From when the times of a record on its way to Kafka count, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    arrival_ms: u64,
    durable_ms: Option<u64>,
}

impl Pump {
    /// Looks at the reports of both producers; waits up to `wait` for the main one's.
    pub(super) fn settle(&mut self, wait: Duration) -> Result<(), String> {
        self.settle_one(Via::Main, wait);
        self.settle_one(Via::Side, Duration::ZERO);
        Ok(())
    }

    fn settle_one(&mut self, via: Via, wait: Duration) {
        let mut failures = Vec::new();
        if self.poll(via, wait, &mut failures) {
            self.return_to_main();
        }
        // On the side records go one at a time, so that one without answer holds up its topic: tried again.
        let silent = via == Via::Side
            && self.side.in_flight > 0
            && self.now - self.side.last_report > 3 * self.parts.config.stuck_after;
        if silent || !failures.is_empty() {
            self.recover(via, failures);
        }
    }

    /// Takes what the producer has to tell; true when there were reports.
    pub(super) fn poll(&mut self, via: Via, wait: Duration, failures: &mut Vec<Failure>) -> bool {
        let now = self.now;
        let link = self.link(via);
        let Some(producer) = link.producer.as_mut() else {
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            return false;
        };
        let mut events = std::mem::take(&mut link.events);
        producer.poll(wait, &mut events);
        link.full = false;
        if let Some(trouble) = events.trouble.take() {
            link.troubled(trouble, now);
        }
        let any = !events.sent.is_empty();
        self.take_reports(via, &mut events.sent, failures);
        let link = self.link(via);
        // The buffer is used again; nothing is called back outside of poll.
        link.events = events;
        any
    }

    fn take_reports(&mut self, via: Via, sent: &mut Vec<Sent>, failures: &mut Vec<Failure>) {
        let (mut delivered, mut sample) = (0u64, None);
        for report in sent.drain(..) {
            let link = self.link(via);
            link.in_flight = link.in_flight.saturating_sub(1);
            let lane = report.opaque >> TICKET_BITS;
            let low = (report.opaque & ((1 << TICKET_BITS) - 1)) as u64;
            let Some(state) = self.lanes.get_mut(lane) else {
                continue;
            };
            let Some(ticket) = state.lane.ticket(low, TICKET_BITS) else {
                continue;
            };
            match report.result {
                Ok(()) => {
                    state.lane.delivered(ticket);
                    state.moved = self.now;
                    if let Some(topic) = self.table.get_mut(state.topic) {
                        topic.well();
                    }
                    let (count, first) = self.pop(lane);
                    delivered += count;
                    sample = sample.or(first);
                }
                Err(code) => failures.push(Failure { lane, ticket, code }),
            }
        }
        if delivered > 0 {
            let now = self.now;
            let link = self.link(via);
            link.last_report = now;
            link.failures = 0;
            link.well();
            if via == Via::Main {
                self.hear();
            }
            self.metrics.delivered.increment(delivered);
        }
        if let Some(since) = sample {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let took = |since_ms| now.saturating_sub(Duration::from_millis(since_ms));
            self.metrics.latency.record(took(since.arrival_ms));
            if let Some(durable_ms) = since.durable_ms {
                self.metrics.durable_to_kafka.record(took(durable_ms));
            }
        }
    }

    /// Takes what is done off the front of a lane; how many Kafka has, and when the first of them arrived and became durable.
    pub(super) fn pop(&mut self, at: usize) -> (u64, Option<Since>) {
        let (mut count, mut first) = (0, None);
        while let Some(state) = self.lanes.get_mut(at)
            && let Some((delivery, delivered)) = state.lane.pop()
        {
            let (topic, partition) = (state.topic, state.partition);
            if delivered {
                count += 1;
                first = first.or_else(|| Some(self.since(&delivery)));
            } else {
                self.refuse(delivery, topic, partition, "Kafka takes no record of its size");
                continue;
            }
            self.done(delivery, delivered);
        }
        if self
            .lanes
            .get(at)
            .is_some_and(|state| state.lane.sent() < state.lane.len())
        {
            self.list(at);
        } else if self.lanes.get(at).is_some_and(|state| state.lane.is_empty()) {
            self.lane_emptied(at);
        }
        (count, first)
    }

    fn since(&self, delivery: &Delivery) -> Since {
        let durable_ms = match &delivery.source {
            Source::Chunk { slot, .. } => self.ledger.durable_ms(*slot),
            // What has waited in memory or in a file says nothing of the way.
            Source::Own { .. } | Source::Letter { .. } => None,
        };
        Since {
            arrival_ms: delivery.arrival_ms,
            durable_ms,
        }
    }

    /// A delivery needs nothing any more.
    pub(super) fn done(&mut self, delivery: Delivery, delivered: bool) {
        match &delivery.source {
            Source::Letter { file, .. } => {
                self.letter_done(*file, delivery.bytes as usize, false);
                return;
            }
            Source::Chunk { slot, .. } => self.ledger.release(*slot),
            Source::Own { bytes, topic } => self.unpark(*topic, bytes.len()),
        }
        self.open -= 1;
        self.awaited -= usize::from(delivery.awaited);
        self.report(&delivery, delivered);
    }

    /// Tells the publisher, if it waits and this was the last of its record's routes.
    pub(super) fn report(&mut self, delivery: &Delivery, delivered: bool) {
        if !delivery.reported {
            return;
        }
        let mut outcome = if delivered {
            Outcome::InKafka
        } else {
            Outcome::Refused
        };
        if delivery.several
            && let Some(several) = self.several.get_mut(&delivery.sequence)
        {
            several.left = several.left.saturating_sub(1);
            several.refused |= !delivered;
            if several.left > 0 {
                return;
            }
            if several.refused {
                outcome = Outcome::Refused;
            }
            self.several.remove(&delivery.sequence);
        }
        let worker = usize::from(delivery.worker);
        if self.outbox.len() <= worker {
            self.outbox.resize_with(worker + 1, Vec::new);
        }
        if let Some(out) = self.outbox.get_mut(worker) {
            out.push(Report {
                number: delivery.number,
                index: delivery.index,
                outcome,
            });
        }
    }

    /// Logs that a record was refused for good, at most once a second.
    pub(super) fn note_refused(&mut self, delivery: &Delivery, why: &str) {
        self.refused.since += 1;
        if self
            .refused
            .logged
            .is_some_and(|at| self.now - at < Duration::from_secs(1))
        {
            return;
        }
        let route = self
            .parts
            .routes
            .get(delivery.route)
            .map_or("", |route| route.name.as_str());
        tracing::error!(
            why,
            route,
            sequence = delivery.sequence,
            records = self.refused.since,
            "refused for good: the record goes to the quarantine, its publisher is told if it waits"
        );
        self.refused.logged = Some(self.now);
        self.refused.since = 0;
    }
}
