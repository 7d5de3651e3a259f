//! Topics: questions and answers, partitions that come or go, and what waits for a topic that can't take records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::record::Record;

use super::feed::bytes_of;
use super::topic::{State, Via};
use super::{Delivery, LaneState, Pump, Source};
use crate::producer::topics::Finding;
use crate::window::Lane;

/// Time between two looks whether Kafka is there, where nothing on its way shows it.
const PING: Duration = Duration::from_secs(1);

impl Pump {
    /// Asks for topics whose time has come.
    pub(super) fn ask(&mut self) {
        let now = self.now;
        if now >= self.refresh_at {
            self.refresh_at = now + self.parts.config.topic_refresh;
            self.table.ask_ready(now, usize::MAX);
        } else if (self.main.trouble.is_some() && self.main.in_flight == 0) || self.is_silent() {
            self.table.ask_ready(now + PING, 1);
        }
        for topic in self.table.iter_mut() {
            if !topic.asked && topic.ask_at.is_some_and(|at| now >= at) {
                topic.asked = true;
                topic.ask_at = None;
                self.parts.topics.ask(&topic.name);
            }
        }
    }

    /// Takes the answers.
    pub(super) fn answers(&mut self) -> Result<(), String> {
        while let Some((name, finding)) = self.parts.topics.answer()? {
            let Some(at) = self.table.find(&name) else {
                continue;
            };
            if !matches!(finding, Finding::Unreachable(_)) {
                self.hear();
            }
            self.answer(at, finding);
        }
        if self.table.iter().any(|topic| topic.via == Via::Side) {
            self.return_to_main();
        }
        Ok(())
    }

    fn answer(&mut self, at: usize, finding: Finding) {
        let (now, retry) = (self.now, self.parts.config.topic_retry);
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        match finding {
            Finding::Ready { partitions } => {
                topic.asked = false;
                if topic.unkept {
                    return;
                }
                if self.main.producer.is_some() {
                    self.main.well();
                }
                self.ready(at, partitions);
            }
            Finding::Unreachable(why) => {
                topic.asked = false;
                topic.ask_at = Some(now + retry);
                self.main.troubled(why, now);
            }
            Finding::MaxMessageBytes(max) => topic.max_message_bytes = Some(max),
            Finding::Stuck(why) => {
                topic.asked = false;
                topic.ask_at = Some(topic.back_off(now, retry));
                let lanes = &self.lanes;
                let busy = topic.lanes.iter().filter_map(|lane| lanes.get(*lane));
                // What is on its way will be reported: the reports decide.
                if busy.map(|state| state.lane.sent()).sum::<usize>() > 0 {
                    return;
                }
                topic.stuck(why, Some(now));
                self.park(at);
            }
        }
    }

    fn ready(&mut self, at: usize, partitions: u32) {
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        let count = topic.lanes.len();
        let was = std::mem::replace(&mut topic.state, State::Ready);
        // A topic on the side has to take a record before it counts as well.
        if topic.via == Via::Main {
            topic.well();
            topic.why = None;
            if was != State::Ready {
                tracing::info!(topic = &*topic.name, partitions, "topic is there");
            }
        }
        topic.parks &= topic.parked_bytes > 0;
        if partitions as usize != count {
            topic.grown = Some(partitions);
            self.resize(at);
        }
        let lanes = self.table.get(at).map(|topic| topic.lanes.clone());
        for lane in lanes.unwrap_or_default() {
            self.list(lane);
        }
    }

    /// Takes the new count of partitions in use as soon as order allows: where the topic grew, when all that was
    /// placed by the old count is in Kafka; where it shrank (it was made anew), when nothing is on its way.
    pub(super) fn resize(&mut self, at: usize) {
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        let Some(partitions) = topic.grown else {
            return;
        };
        let (old, new) = (topic.lanes.len(), partitions as usize);
        let mut left = 0;
        for lane in &topic.lanes {
            if let Some(state) = self.lanes.get(*lane) {
                left += if new > old {
                    state.lane.len()
                } else {
                    state.lane.sent()
                };
            }
        }
        if left > 0 {
            return;
        }
        topic.grown = None;
        let mut waiting: Vec<Delivery> = Vec::new();
        for lane in topic.lanes.clone() {
            if let Some(state) = self.lanes.get_mut(lane) {
                waiting.extend(std::mem::take(&mut state.lane).into_values());
            }
        }
        waiting.sort_by_key(|delivery| delivery.sequence);
        waiting.extend(std::mem::take(&mut topic.waiting));
        topic.waits_since = None;
        if old > 0 {
            tracing::info!(
                topic = &*topic.name,
                from = old,
                to = new,
                "partitions of the topic changed"
            );
        }
        topic.lanes.truncate(new);
        for partition in topic.lanes.len()..new {
            topic.lanes.push(self.lanes.len());
            self.lanes.push(LaneState {
                lane: Lane::default(),
                topic: at,
                partition: i32::try_from(partition).unwrap_or(i32::MAX),
                moved: self.now,
                listed: false,
            });
        }
        self.place_again(at, waiting.into());
    }

    /// Places records that were read before, in order.
    fn place_again(&mut self, at: usize, waiting: VecDeque<Delivery>) {
        let routes = Arc::clone(&self.parts.routes);
        let outer = std::mem::replace(&mut self.placing, true);
        for delivery in waiting {
            if let Source::Letter { letter, .. } = &delivery.source {
                self.rendered.key.clone_from(&letter.key);
            }
            let read = bytes_of(&delivery.source, &self.ledger).and_then(Record::read_publish);
            if let (Some(record), Some(route)) = (read, routes.get(delivery.route)) {
                // It was rendered before: it can't be rejected now.
                let _ = routes.target(route, &record, &mut self.rendered);
            }
            self.place(at, delivery, None);
        }
        self.placing = outer;
    }

    /// A lane has nothing left.
    pub(super) fn lane_emptied(&mut self, lane: usize) {
        let topic = self.lanes.get(lane).map(|state| state.topic);
        if let Some(at) = topic
            && self.table.get(at).is_some_and(|topic| topic.grown.is_some())
        {
            self.resize(at);
        }
    }

    /// Partitions that report nothing while Kafka answers, be it for other partitions or be it questions: their topics
    /// park. Else what they keep would in the end stop all, where others have little to report.
    pub(super) fn find_stalled(&mut self) {
        let after = self.parts.config.stuck_after;
        // When Kafka has just come back, all get their time.
        if self.now - self.heard > after || self.now - self.answers_since <= after {
            return;
        }
        self.park_unanswered(after);
        let stalled = self.lanes.iter().filter(|state| {
            state.lane.sent() > 0
                && self.now - state.moved > after
                && self.table.get(state.topic).is_some_and(|topic| !topic.parks)
        });
        let stalled: Vec<(usize, i32)> = stalled.map(|state| (state.topic, state.partition)).collect();
        for (at, partition) in stalled {
            if let Some(topic) = self.table.get(at) {
                tracing::warn!(
                    topic = &*topic.name,
                    partition,
                    "no acknowledgement for {} s: its records wait apart from the others",
                    after.as_secs()
                );
            }
            self.park(at);
        }
    }

    /// Topics that were asked for and not answered, while others flow: their records must not keep the log's chunks.
    fn park_unanswered(&mut self, after: Duration) {
        for at in 0..self.table.len() {
            let long = self.table.get(at).is_some_and(|topic| {
                !topic.parks && topic.waits_since.is_some_and(|since| self.now - since > after)
            });
            if long {
                self.park(at);
            }
        }
    }

    /// From here on the topic's records are kept apart from the log's chunks.
    pub(super) fn park(&mut self, at: usize) {
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        if std::mem::replace(&mut topic.parks, true) {
            return;
        }
        // Not while others of its records are about to be placed behind those that are.
        if !self.placing {
            self.let_go(at);
        }
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        let mut waiting = std::mem::take(&mut topic.waiting);
        let lanes = topic.lanes.clone();
        for delivery in &mut waiting {
            self.copy_out(at, delivery);
        }
        for lane in lanes {
            let Some(state) = self.lanes.get_mut(lane) else {
                continue;
            };
            let mut taken = std::mem::take(&mut state.lane);
            for delivery in taken.iter_mut() {
                self.copy_out(at, delivery);
            }
            if let Some(state) = self.lanes.get_mut(lane) {
                state.lane = taken;
            }
        }
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        topic.waiting = waiting;
        if topic.grown.is_some() {
            self.resize(at); // what it waited for may have been let go
        }
    }

    /// Gives a delivery its own copy of the record.
    pub(super) fn copy_out(&mut self, at: usize, delivery: &mut Delivery) {
        let Source::Chunk { slot, offset } = delivery.source else {
            return;
        };
        let start = offset as usize;
        let chunk = self.ledger.chunk(slot);
        let bytes = chunk.and_then(|chunk| chunk.as_bytes().get(start..start + delivery.bytes as usize));
        let Some(bytes) = bytes.map(Box::from) else {
            return;
        };
        delivery.source = self.own(at, bytes);
        self.ledger.release(slot);
    }

    /// A copy of a record for topic `at`.
    pub(super) fn own(&mut self, at: usize, bytes: Box<[u8]>) -> Source {
        self.parked += 1;
        self.parked_bytes += bytes.len();
        if let Some(topic) = self.table.get_mut(at) {
            topic.parked_bytes += bytes.len();
        }
        Source::Own { bytes, topic: at }
    }

    /// A copy is not needed any more.
    pub(super) fn unpark(&mut self, at: usize, bytes: usize) {
        self.parked -= 1;
        self.parked_bytes -= bytes;
        if let Some(topic) = self.table.get_mut(at) {
            topic.parked_bytes -= bytes;
            topic.parks &= topic.parked_bytes > 0 || topic.state != State::Ready;
        }
    }
}
