//! The one way back from every failure: give the producer up, collect its reports, and go on from each partition's
//! commit point under a new one. A record is never sent again by itself: that is how order breaks.

use std::time::{Duration, Instant};

use super::Pump;
use super::settle::Failure;
use super::topic::{State, Via};
use crate::outcome::{Class, classify};
use crate::producer::Code;

/// Longest wait for the reports of a producer that is given up.
const COLLECT: Duration = Duration::from_secs(5);

/// Wait before the next producer is made, after so many failures in a row.
pub(super) fn back_off(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(100 << (n - 2).min(8)).min(Duration::from_secs(10)),
    }
}

impl Pump {
    pub(super) fn recover(&mut self, via: Via, mut failures: Vec<Failure>) {
        self.collect(via, &mut failures);
        let first = cause(&failures);
        tracing::warn!(
            code = first.map(|failure| failure.code.to_string()),
            records = failures.len(),
            "Kafka refused records or did not answer: going back to what it has acknowledged, with a new producer"
        );
        self.metrics.recoveries.increment(1);
        let lanes = self.lanes_of(via);
        if via == Via::Main {
            self.trip(&failures);
        }
        let mut again = 0;
        // Newest first: a lane's own suspects are judged before it is rewound.
        for failure in &failures {
            self.metrics.failed(classify(failure.code));
            self.judge(via, *failure);
        }
        for at in lanes {
            if let Some(state) = self.lanes.get_mut(at) {
                again += state.lane.sent() as u64;
                state.lane.rewind();
            }
            self.pop(at);
        }
        self.metrics.retried.increment(again);
        let now = self.now;
        let trouble = first.map(|failure| format!("Kafka refused records: {}", failure.code));
        let class = first.map_or(Class::Retry, |failure| classify(failure.code));
        let link = self.link(via);
        match class {
            // A verdict on a record or a topic is progress, and topics have a back-off of their own.
            Class::Poison | Class::Timestamp | Class::Topic => link.failures = 0,
            Class::Retry | Class::Config => link.failures += 1,
        }
        link.create_at = now + back_off(link.failures);
        if class == Class::Config {
            link.create_at = link.create_at.max(now + Duration::from_secs(1));
        }
        link.in_flight = 0;
        if let Some(trouble) = trouble {
            link.troubled(trouble, now);
        }
        link.events.sent.clear();
        self.return_to_main();
        self.create(via);
    }

    /// Purges and collects reports until all are in or the deadline passes, then lets the producer go.
    fn collect(&mut self, via: Via, failures: &mut Vec<Failure>) {
        let deadline = Instant::now() + COLLECT;
        if let Some(producer) = self.link(via).producer.as_mut() {
            producer.purge();
        }
        while Instant::now() < deadline {
            self.poll(via, Duration::from_millis(1), failures);
            let link = self.link(via);
            if link.producer.as_ref().is_none_or(|p| p.in_flight() == 0) {
                break;
            }
        }
        self.poll(via, Duration::ZERO, failures);
        // Letting it go may wait for its threads, and nothing is expected of it any more.
        if let Some(producer) = self.link(via).producer.take() {
            let gone = std::thread::Builder::new().name("forebay-producer-end".to_owned());
            let _ = gone.spawn(move || drop(producer));
        }
    }

    fn lanes_of(&self, via: Via) -> Vec<usize> {
        let lanes = self.lanes.iter().enumerate();
        let mine = lanes.filter(|(_, lane)| self.table.get(lane.topic).is_some_and(|t| t.via == via));
        mine.map(|(at, _)| at).collect()
    }

    /// What a failure says about its record or its topic.
    fn judge(&mut self, via: Via, failure: Failure) {
        let class = classify(failure.code);
        let (now, retry) = (self.now, self.parts.config.topic_retry);
        let Some(state) = self.lanes.get_mut(failure.lane) else {
            return;
        };
        let at = state.topic;
        // First without our timestamp; what is refused then is refused for good.
        if class == Class::Timestamp
            && let Some(delivery) = state.lane.sent_mut(failure.ticket).filter(|d| !d.untimed)
        {
            delivery.untimed = true;
            if let Some(topic) = self.table.get_mut(at) {
                topic.timestamp_refused();
            }
            return;
        }
        match class {
            Class::Retry | Class::Config => {}
            Class::Poison | Class::Timestamp if via == Via::Main => {
                state.lane.suspect(failure.ticket);
                let together = state.lane.sent_bytes();
                let large = matches!(
                    failure.code,
                    Code::MessageSizeTooLarge | Code::MessageBatchTooLarge
                );
                if large
                    && state.lane.sent() > 1
                    && let Some(topic) = self.table.get_mut(at)
                {
                    // Perhaps it was the batch that was too large: the next ones are smaller.
                    topic.cap = topic.cap.min(together / 2);
                }
                self.move_aside(at);
            }
            // On the side a record goes alone: it is the one.
            Class::Poison | Class::Timestamp => {
                let partition = state.partition;
                if !self.may_refuse() {
                    self.wait_for_quarantine(at);
                } else if let Some(state) = self.lanes.get_mut(failure.lane)
                    && let Some(delivery) = state.lane.refuse_front()
                {
                    self.refuse(delivery, at, partition, &failure.code.to_string());
                }
            }
            Class::Topic => {
                self.move_aside(at);
                if let Some(topic) = self.table.get_mut(at)
                    && topic.state == State::Ready
                {
                    let why = format!(
                        "topic \"{}\": {}: {}",
                        topic.name,
                        failure.code,
                        remedy(failure.code)
                    );
                    topic.stuck(why, Some(now));
                    topic.ask_at = Some(topic.back_off(now, retry));
                    self.park(at);
                }
            }
        }
    }

    /// Topics that again and again fail by themselves leave the producer of the others.
    fn trip(&mut self, failures: &[Failure]) {
        let mut tripped = Vec::new();
        for failure in failures {
            let class = classify(failure.code);
            let own = matches!(class, Class::Retry | Class::Config) && !follows(failure.code);
            let topic = self.lanes.get(failure.lane).map(|state| state.topic);
            if let Some(at) = topic.filter(|at| own && !tripped.contains(at)) {
                tripped.push(at);
            }
        }
        // Where all fail, none is to blame.
        if tripped.len() > 3 {
            return;
        }
        for at in tripped {
            let now = self.now;
            if let Some(topic) = self.table.get_mut(at)
                && topic.trips(now)
            {
                tracing::warn!(
                    topic = &*topic.name,
                    "it fails again and again: it gets a producer apart from the others"
                );
            }
        }
    }

    fn move_aside(&mut self, at: usize) {
        if let Some(topic) = self.table.get_mut(at) {
            topic.via = Via::Side;
        }
    }

    /// Topics on the side whose trouble is over go back to the main producer, when nothing of them is on its way.
    pub(super) fn return_to_main(&mut self) {
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get_mut(at) else {
                continue;
            };
            if topic.via != Via::Side || topic.state != State::Ready {
                continue;
            }
            let lanes = &mut self.lanes;
            let quiet = topic.lanes.iter().filter_map(|lane| lanes.get(*lane));
            let mut quiet = quiet.map(|state| state.lane.sent() == 0 && !state.lane.is_suspect());
            if !quiet.all(|quiet| quiet) || topic.failures > 0 {
                continue;
            }
            topic.via = Via::Main;
            topic.why = None;
            for lane in topic.lanes.clone() {
                if let Some(state) = self.lanes.get_mut(lane) {
                    state.lane.unprime();
                }
                self.list(lane);
            }
        }
    }
}

/// The failure that the others followed from: those are only given up or thrown away.
fn cause(failures: &[Failure]) -> Option<Failure> {
    let cause = failures.iter().find(|failure| !follows(failure.code));
    cause.or(failures.first()).copied()
}

fn follows(code: Code) -> bool {
    matches!(
        code,
        Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee
    )
}

fn remedy(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed => "allow Write on it to Forebay's user",
        _ => "create it, or set create_topics = true under [kafka]",
    }
}
