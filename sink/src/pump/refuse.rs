//! What Kafka refuses for good, what no route can place, and what can't be delivered for too long: into the quarantine
//! first, then it counts as done; and from there into the dead letter topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::record::Record;

use super::behind::TAKEN;
use super::feed::bytes_of;
use super::told::Told;
use super::topic::State;
use super::{Delivery, Pump, Source};
use crate::producer::{Outgoing, Producer, SendError};
use crate::quarantine::{Letter, PutError};
use crate::route::{DEFAULT, Place};

/// Bytes of refused records that wait for a quarantine that takes none; then their partitions wait.
const WAITING_BYTES: usize = 1024 * 1024;
/// Bytes of letters on their way to the dead letter topic, and how many.
const FED_BYTES: usize = 1024 * 1024;
const FED: usize = 1000;
/// Time between two tries while the quarantine takes none, and while it can't be read.
const RETRY: Duration = Duration::from_secs(1);
const READ_AGAIN: Duration = Duration::from_secs(30);

/// A refused record on its way into the quarantine.
#[derive(Debug)]
struct Refused {
    delivery: Delivery,
    why: String,
    topic: usize,
    partition: i32,
}

/// The way from refused records to the dead letter topic.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    waiting: Vec<Refused>,
    waiting_bytes: usize,
    /// Why the quarantine took nothing when it was last tried.
    fails: Option<String>,
    pub(super) try_at: Option<Instant>,
    told: Told,
    /// The dead letter topic in the table.
    dead: Option<usize>,
    /// When the quarantine is read again after that failed.
    pub(super) read_at: Option<Instant>,
    unread: Told,
    fed: usize,
    fed_bytes: usize,
}

impl Refusal {
    /// Why refused records wait.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.fails.as_ref()?;
        Some(format!("refused records can't be kept in the quarantine: {why}"))
    }
}

impl Pump {
    pub(super) fn preload_dead_letters(&mut self) {
        if let Some(name) = &self.parts.config.dead_letter_topic {
            self.refusal.dead = Some(self.table.add(name));
        }
    }

    /// Whether a record can be refused now: else it stays where it is.
    pub(super) fn may_refuse(&self) -> bool {
        self.refusal.fails.is_none() || self.refusal.waiting_bytes < WAITING_BYTES
    }

    /// A topic waits because its next record is refused and the quarantine takes none.
    pub(super) fn wait_for_quarantine(&mut self, at: usize) {
        let why = self.refusal.fails.clone().unwrap_or_default();
        if let Some(topic) = self.table.get_mut(at) {
            topic.stuck(
                format!(
                    "topic \"{}\": a record is refused, and the quarantine can't keep it: {why}",
                    topic.name
                ),
                None,
            );
            // It is tried again when the quarantine takes records again.
            (topic.unkept, topic.ask_at) = (true, None);
        }
        self.park(at);
    }

    /// The quarantine takes records again, and so may the topics that waited for it.
    fn kept_again(&mut self) {
        self.refusal.fails = None;
        self.refusal.try_at = None;
        if self.refusal.told.is_over() {
            tracing::info!("the quarantine takes refused records again");
        }
        let now = self.now;
        for topic in self.table.iter_mut() {
            if std::mem::take(&mut topic.unkept) {
                topic.ask_at = Some(now);
            }
        }
    }

    /// A record is refused for good. It is done when the quarantine has it.
    pub(super) fn refuse(&mut self, delivery: Delivery, topic: usize, partition: i32, why: &str) {
        if let Source::Letter { file, .. } = &delivery.source {
            tracing::error!(
                why,
                "the dead letter topic refuses a record too: it is kept in the quarantine"
            );
            self.letter_done(*file, delivery.bytes as usize, true);
            return;
        }
        self.note_refused(&delivery, why);
        self.metrics.poison.increment(1);
        self.refusal.waiting_bytes += delivery.bytes as usize;
        self.refusal.waiting.push(Refused {
            delivery,
            why: why.to_owned(),
            topic,
            partition,
        });
    }

    /// The lowest sequence that waits for the quarantine.
    pub(super) fn lowest_refused(&self) -> Option<u64> {
        let waiting = self.refusal.waiting.iter();
        waiting.map(|refused| refused.delivery.sequence).min()
    }

    /// Keeps what was refused in this turn, and sends what is kept to the dead letter topic.
    pub(super) fn quarantine(&mut self) {
        self.refuse_unplaced();
        let due = self.refusal.try_at.is_none_or(|at| self.now >= at);
        if !self.refusal.waiting.is_empty() && due {
            self.keep();
        }
        self.send_letters();
    }

    fn keep(&mut self) {
        let mut waiting = std::mem::take(&mut self.refusal.waiting);
        while !waiting.is_empty() {
            let count = batch(&waiting);
            let letters = waiting.iter().take(count);
            let letters = letters.filter_map(|refused| self.letter(refused)).collect();
            if let Err(error) = self.quarantine.put(letters) {
                self.not_kept(waiting, &error);
                return;
            }
            self.metrics.quarantined.increment(count as u64);
            for refused in waiting.drain(..count) {
                self.refusal.waiting_bytes -= refused.delivery.bytes as usize;
                self.done(refused.delivery, false);
            }
        }
        if self.refusal.fails.is_some() {
            self.kept_again();
        }
    }

    /// The quarantine takes none: what waits for it gets copies of its own, so that the log's chunks go on without it.
    fn not_kept(&mut self, mut waiting: Vec<Refused>, error: &PutError) {
        for refused in &mut waiting {
            self.copy_out(refused.topic, &mut refused.delivery);
        }
        let unplaced = self.table.unplaced();
        if self
            .table
            .get(unplaced)
            .is_some_and(|topic| !topic.waiting.is_empty())
        {
            self.park(unplaced);
        }
        self.refusal.waiting = waiting;
        self.refusal.try_at = Some(self.now + RETRY);
        let text = error.to_string();
        if self.refusal.told.is_news(&text, self.now) {
            tracing::error!(
                %error,
                records = self.refusal.waiting.len(),
                "refused records can't be kept in the quarantine: nothing is lost, but their partitions wait; \
                 make room on its disk, raise kafka.quarantine_max_bytes, or empty it"
            );
        }
        self.refusal.fails = Some(text);
    }

    /// The letter of a refused record: what was to be sent, with the reason in its headers.
    fn letter(&mut self, refused: &Refused) -> Option<Letter> {
        let delivery = &refused.delivery;
        let routes = Arc::clone(&self.parts.routes);
        let route = routes.get(delivery.route)?;
        let record = bytes_of(&delivery.source, &self.ledger).and_then(Record::read_publish)?;
        let rendered = &mut self.rendered;
        let keyed = routes.target(route, &record, rendered).is_ok();
        let place = Place {
            prefix: self
                .epochs
                .get(usize::from(delivery.epoch))
                .map_or(b"", |(_, prefix)| prefix),
            sequence: delivery.sequence,
            several: delivery.several,
        };
        routes.body(route, &record, &place, rendered);
        let name = self.table.get(refused.topic).map_or("", |topic| &topic.name);
        let name = match (name, route.literal_topic()) {
            ("", Some(literal)) => literal.to_owned(),
            ("", None) => String::from_utf8_lossy(&rendered.topic).into_owned(),
            (name, _) => name.to_owned(),
        };
        let mut headers = vec![
            ("forebay.error".to_owned(), refused.why.clone().into_bytes()),
            ("forebay.topic".to_owned(), name.into_bytes()),
            (
                "forebay.partition".to_owned(),
                refused.partition.to_string().into_bytes(),
            ),
            ("forebay.route".to_owned(), route.name.clone().into_bytes()),
            ("forebay.position".to_owned(), place.text(route)),
            ("mqtt.topic".to_owned(), record.topic.as_bytes().to_vec()),
        ];
        for (header, value) in routes.headers(route, &record, rendered) {
            if header != "forebay.position" && header != "mqtt.topic" {
                headers.push((header.to_owned(), value.to_vec()));
            }
        }
        Some(Letter {
            arrival_ms: record.arrival_ms,
            key: if keyed {
                rendered.key.clone()
            } else {
                record.client_id.as_bytes().to_vec()
            },
            value: rendered.value(&record).map(<[u8]>::to_vec),
            headers,
        })
    }

    /// Refuses what no route can place, and what its topic has not taken for too long.
    fn refuse_unplaced(&mut self) {
        let unplaced = self.table.unplaced();
        while self.may_refuse()
            && let Some(topic) = self.table.get_mut(unplaced)
            && let Some(delivery) = topic.waiting.pop_front()
        {
            if topic.waiting.is_empty() {
                topic.waits_since = None;
            }
            let why = self.why_unplaced(&delivery);
            self.metrics.rejected.increment(1);
            self.refuse(delivery, unplaced, -1, &why);
        }
        let after = self.parts.config.undeliverable_after;
        if self.refusal.dead.is_none() {
            return;
        }
        for at in 0..self.table.len() {
            let now = self.now;
            let Some(topic) = self.table.get_mut(at) else {
                continue;
            };
            let long = topic.stuck_since.is_some_and(|since| now - since > after);
            if long && !topic.undeliverable && Some(at) != self.refusal.dead {
                topic.undeliverable = true;
                tracing::error!(
                    topic = &*topic.name,
                    "it has taken no records for too long: where a route says so, they go to the dead letter topic"
                );
            }
            if topic.undeliverable && topic.state == State::Stuck && self.may_refuse() {
                self.refuse_undeliverable(at);
            }
        }
    }

    fn why_unplaced(&mut self, delivery: &Delivery) -> String {
        let chunk = match &delivery.source {
            Source::Chunk { slot, .. } => self.ledger.chunk(*slot).cloned(),
            _ => None,
        };
        let bytes = match (&delivery.source, &chunk) {
            (Source::Own { bytes, .. }, _) => Some(&**bytes),
            (Source::Chunk { offset, .. }, Some(chunk)) => chunk.as_bytes().get(*offset as usize..),
            _ => None,
        };
        let record = bytes.and_then(Record::read_publish);
        let why = record.and_then(|record| self.target(&record, delivery).err());
        why.unwrap_or_else(|| "no route could place it".to_owned())
    }

    /// Refuses the records of a stuck topic whose routes want that.
    fn refuse_undeliverable(&mut self, at: usize) {
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        let why = topic.why.clone().unwrap_or_default();
        let (waiting, lanes) = (std::mem::take(&mut topic.waiting), topic.lanes.clone());
        let routes = Arc::clone(&self.parts.routes);
        let dead = |delivery: &Delivery| {
            let route = routes.get(delivery.route);
            route.is_some_and(|route| route.dead_letter) && !matches!(delivery.source, Source::Letter { .. })
        };
        for delivery in waiting {
            if dead(&delivery) {
                self.refuse(delivery, at, -1, &why);
            } else if let Some(topic) = self.table.get_mut(at) {
                topic.waiting.push_back(delivery);
            }
        }
        for lane in lanes {
            let Some(state) = self.lanes.get_mut(lane) else {
                continue;
            };
            if state.lane.sent() > 0 || !state.lane.iter().any(dead) {
                continue;
            }
            let partition = state.partition;
            for delivery in std::mem::take(&mut state.lane).into_values() {
                if dead(&delivery) {
                    self.refuse(delivery, at, partition, &why);
                } else if let Some(state) = self.lanes.get_mut(lane) {
                    let bytes = delivery.bytes as usize;
                    state.lane.push(delivery, bytes);
                }
            }
            self.lane_emptied(lane);
        }
        if let Some(topic) = self.table.get_mut(at)
            && topic.waiting.is_empty()
        {
            topic.waits_since = None;
        }
    }

    /// Sends letters of the quarantine to the dead letter topic, some at a time.
    fn send_letters(&mut self) {
        let Some(at) = self.refusal.dead else {
            return;
        };
        if self.refusal.read_at.is_some_and(|at| self.now < at) {
            return;
        }
        while self.refusal.fed < FED && self.refusal.fed_bytes < FED_BYTES {
            let fed = match self.quarantine.next() {
                Ok(Some(fed)) => fed,
                Ok(None) => break,
                Err(error) => {
                    if self.refusal.unread.is_news(&error.to_string(), self.now) {
                        tracing::error!(%error, "the quarantine can't be read: its records wait; look at its disk");
                    }
                    self.refusal.read_at = Some(self.now + READ_AGAIN);
                    break;
                }
            };
            self.refusal.unread.is_over();
            let bytes = fed.letter.bytes();
            self.refusal.fed += 1;
            self.refusal.fed_bytes += bytes;
            self.rendered.key.clone_from(&fed.letter.key);
            let delivery = Delivery {
                sequence: TAKEN,
                arrival_ms: fed.letter.arrival_ms,
                source: Source::Letter {
                    letter: fed.letter,
                    file: fed.file,
                },
                number: 0,
                index: 0,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                worker: 0,
                route: DEFAULT,
                epoch: 0,
                reported: false,
                awaited: false,
                several: false,
                untimed: false,
            };
            self.place(at, delivery, None);
        }
    }

    /// The dead letter topic has a letter, or refuses it.
    pub(super) fn letter_done(&mut self, file: u64, bytes: usize, refused: bool) {
        self.refusal.fed -= 1;
        self.refusal.fed_bytes -= bytes;
        self.quarantine.done(file, refused);
    }

    /// Letters that are on their way.
    pub(super) fn letters_open(&self) -> usize {
        self.refusal.fed
    }
}

/// How many of them go into the quarantine at once: no more than fit where there is room for some.
fn batch(waiting: &[Refused]) -> usize {
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|refused| {
        let fits = bytes < WAITING_BYTES;
        bytes += refused.delivery.bytes as usize;
        fits
    });
    fits.count()
}

/// Hands a letter to the producer.
pub(super) fn send_letter(
    letter: &Letter,
    topic: &str,
    partition: i32,
    opaque: usize,
    untimed: bool,
    producer: &mut dyn Producer,
) -> Result<(), SendError> {
    let headers = letter.headers.iter();
    let headers: Vec<(&str, &[u8])> = headers.map(|(name, value)| (name.as_str(), &**value)).collect();
    producer.send(&Outgoing {
        topic,
        partition,
        key: &letter.key,
        value: letter.value.as_deref(),
        headers: &headers,
        timestamp: (!untimed).then_some(letter.arrival_ms as i64),
        opaque,
    })
}
