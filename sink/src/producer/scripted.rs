//! A scripted Kafka for tests: producers that send when they are polled, and a rule that says what becomes of each batch.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::topics::{Answer, Finding, Topics};
use super::{Code, Events, Outgoing, Producer, Producers, SendError, Sent};

/// Records of a batch at most.
pub(crate) const BATCH: usize = 4;

/// A record as the scripted Kafka has it.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) position: String,
    pub(crate) timed: bool,
    /// Reason, topic and partition of a dead letter.
    pub(crate) error: [String; 3],
}

/// What becomes of a batch.
pub(crate) enum Verdict {
    Taken,
    /// Nothing of it is kept.
    Refused(Code),
    /// All of it is kept, and the answer is an error.
    Lost(Code),
    /// No answer yet.
    Silence,
}

pub(crate) type Rule = Box<dyn FnMut(&[Landed]) -> Verdict + Send>;

pub(crate) struct Kafka {
    pub(crate) landed: Vec<Landed>,
    pub(crate) rule: Rule,
    /// Producers made so far.
    pub(crate) producers: usize,
    /// How often a producer was told not to linger.
    pub(crate) hastened: usize,
    /// Records that a producer takes before its queue is full.
    pub(crate) queue: usize,
}

impl Kafka {
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let mine = self.landed.iter().filter(|landed| landed.topic == topic);
        mine.map(|landed| landed.value.clone()).collect()
    }
}

pub(crate) struct FakeProducers(pub(crate) Arc<Mutex<Kafka>>);

impl Producers for FakeProducers {
    fn create(&mut self, _apart: bool) -> Result<Box<dyn Producer>, String> {
        self.0.lock().unwrap().producers += 1;
        Ok(Box::new(FakeProducer {
            kafka: Arc::clone(&self.0),
            queue: VecDeque::new(),
            dead: false,
            known: HashSet::new(),
            gaps: HashSet::new(),
        }))
    }
}

/// Sends, at each poll, what stands in its queue: neighbours of one partition as one batch. Dead after the first failure,
/// as a producer is that leaves no gap. As brokers do, a partition takes any batch of a producer that it knows nothing
/// of, and nothing behind a failed one of a producer that it knows.
pub(crate) struct FakeProducer {
    kafka: Arc<Mutex<Kafka>>,
    queue: VecDeque<(usize, Landed)>,
    dead: bool,
    known: HashSet<(String, i32)>,
    gaps: HashSet<(String, i32)>,
}

impl Producer for FakeProducer {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError> {
        if self.dead {
            return Err(SendError::Refused(Code::Fatal));
        }
        if self.queue.len() >= self.kafka.lock().unwrap().queue {
            return Err(SendError::Full);
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let header = |wanted: &str| {
            let found = record.headers.iter().find(|(name, _)| *name == wanted);
            text(found.map_or(b"", |(_, value)| *value))
        };
        let landed = Landed {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: text(record.key),
            value: text(record.value.unwrap_or_default()),
            position: header("forebay.position"),
            timed: record.timestamp.is_some(),
            error: ["forebay.error", "forebay.topic", "forebay.partition"].map(header),
        };
        self.queue.push_back((record.opaque, landed));
        Ok(())
    }

    fn poll(&mut self, _wait: Duration, events: &mut Events) {
        let mut kafka = self.kafka.lock().unwrap();
        let mut silent = VecDeque::new();
        let mut waiting = HashSet::new();
        while let Some((_, first)) = self.queue.front() {
            let place = (first.topic.clone(), first.partition);
            let same = |landed: &Landed| (&landed.topic, landed.partition) == (&place.0, place.1);
            let mine = self
                .queue
                .iter()
                .take(BATCH)
                .take_while(|(_, landed)| same(landed));
            let count = mine.count();
            let batch: Vec<(usize, Landed)> = self.queue.drain(..count).collect();
            let records: Vec<Landed> = batch.iter().map(|(_, landed)| landed.clone()).collect();
            let verdict = if waiting.contains(&place) {
                Verdict::Silence
            } else if self.gaps.contains(&place) {
                Verdict::Refused(Code::OutOfOrderSequenceNumber)
            } else {
                (kafka.rule)(&records)
            };
            let result = match verdict {
                Verdict::Taken => {
                    kafka.landed.extend(records);
                    self.known.insert(place);
                    Ok(())
                }
                Verdict::Refused(code) => {
                    if self.known.contains(&place) {
                        self.gaps.insert(place);
                    }
                    Err(code)
                }
                Verdict::Lost(code) => {
                    kafka.landed.extend(records);
                    self.known.insert(place);
                    Err(code)
                }
                Verdict::Silence => {
                    waiting.insert(place);
                    silent.extend(batch);
                    continue;
                }
            };
            self.dead |= result.is_err();
            events.sent.extend(batch.iter().map(|(opaque, _)| Sent {
                opaque: *opaque,
                result,
            }));
        }
        self.queue = silent;
    }

    fn hasten(&mut self, _wait: Duration) {
        self.kafka.lock().unwrap().hastened += 1;
    }

    fn purge(&mut self) {
        // What was not sent is thrown away; its reports come with the next poll, after a rule that takes nothing.
        self.dead = true;
        let mut kafka = self.kafka.lock().unwrap();
        let rule = std::mem::replace(&mut kafka.rule, Box::new(|_| Verdict::Refused(Code::PurgeQueue)));
        drop(kafka);
        let mut events = Events::default();
        self.poll(Duration::ZERO, &mut events);
        self.kafka.lock().unwrap().rule = rule;
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }
}

/// Answers what stands in its table, else that a topic has two partitions; of some it never answers.
#[derive(Clone, Default)]
pub(crate) struct FakeTopics(pub(crate) Arc<Mutex<Findings>>, pub(crate) Vec<&'static str>);

/// What is to be answered, and the answers that wait.
pub(crate) type Findings = (HashMap<String, Finding>, VecDeque<Answer>);

impl FakeTopics {
    pub(crate) fn set(&self, topic: &str, finding: Finding) {
        self.0.lock().unwrap().0.insert(topic.to_owned(), finding);
    }
}

impl Topics for FakeTopics {
    fn ask(&mut self, topic: &Arc<str>) {
        let mut state = self.0.lock().unwrap();
        if self.1.contains(&&**topic) {
            return;
        }
        let finding = state.0.get(&**topic).cloned();
        let answer = finding.unwrap_or(Finding::Ready { partitions: 2 });
        state.1.push_back((Arc::clone(topic), answer));
    }

    fn answer(&mut self) -> Result<Option<Answer>, String> {
        Ok(self.0.lock().unwrap().1.pop_front())
    }
}
