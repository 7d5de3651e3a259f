//! One Kafka topic as the pump knows it, and the table of all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use super::Delivery;
use super::behind::Behind;
use crate::route::Routes;

/// Replacements of the main producer that a topic may cause, and the time after which they are forgotten.
const TRIPS: u32 = 3;
const TRIPS_WITHIN: Duration = Duration::from_secs(60);

/// Which of the two producers serves a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The producer of all that flows.
    Main,
    /// A producer apart, for topics that may fail: one record at a time in each partition. What fails here disturbs
    /// nobody else.
    Side,
}

/// How a topic stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Asked for; nothing is known.
    Asked,
    /// It takes records.
    Ready,
    /// It does not.
    Stuck,
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) state: State,
    pub(super) via: Via,
    /// Its lanes by partition, as indices into the pump's table.
    pub(super) lanes: Vec<usize>,
    /// Partitions it has now, while the lanes still hold records placed by the old count.
    pub(super) grown: Option<u32>,
    /// Records that have no partition yet, and since when there are some.
    pub(super) waiting: VecDeque<Delivery>,
    pub(super) waits_since: Option<Instant>,
    /// Whether new records are copied out of the log's chunks, so that the log goes on.
    pub(super) parks: bool,
    pub(super) parked_bytes: usize,
    /// Set when its share was full: its records stay in the log, and its routes are closed.
    pub(super) behind: Option<Behind>,
    /// Routes that brought it records.
    pub(super) routes: SmallVec<[u16; 2]>,
    /// When it is asked for again; none while a question is open or none is needed.
    pub(super) ask_at: Option<Instant>,
    /// Why it took no records when it was last tried; none when it took some since.
    pub(super) why: Option<String>,
    /// Whether a question is open.
    pub(super) asked: bool,
    /// A record of it is refused, and waits for a quarantine that takes none.
    pub(super) unkept: bool,
    /// Since when it is missing or may not be written.
    pub(super) stuck_since: Option<Instant>,
    /// That is so for too long.
    pub(super) undeliverable: bool,
    /// How often it had the main producer replaced, and when last.
    trips: (u32, Option<Instant>),
    /// Refusals in a row.
    pub(super) failures: u32,
    /// Records that arrived up to this time, in milliseconds since 1970, are sent without it.
    pub(super) untimed_until: u64,
    timestamp_refusals: u32,
    /// Bytes that may be on their way to one of its partitions: less than usual after the broker refused a batch.
    pub(super) cap: usize,
    /// Greatest batch that the broker takes, where it is known.
    pub(super) max_message_bytes: Option<usize>,
}

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: State::Asked,
            via: Via::Main,
            lanes: Vec::new(),
            grown: None,
            waiting: VecDeque::new(),
            waits_since: None,
            parks: false,
            parked_bytes: 0,
            behind: None,
            routes: SmallVec::new(),
            ask_at: None,
            why: None,
            asked: false,
            unkept: false,
            stuck_since: None,
            undeliverable: false,
            trips: (0, None),
            failures: 0,
            untimed_until: 0,
            timestamp_refusals: 0,
            cap: usize::MAX,
            max_message_bytes: None,
        }
    }

    /// Whether new records can be placed.
    pub(super) fn places(&self) -> bool {
        !self.lanes.is_empty() && self.grown.is_none() && self.waiting.is_empty()
    }

    /// Whether none of its records waits.
    pub(super) fn is_idle(&self) -> bool {
        self.parked_bytes == 0 && self.waiting.is_empty() && self.behind.is_none()
    }

    /// Whether what it has missed can be brought to it.
    pub(super) fn can_join(&self) -> bool {
        self.state == State::Ready || self.undeliverable
    }

    /// It had the producer of all that flows replaced, for no fault of a record. True when it did so too often: it is
    /// served apart, until it has taken a record there.
    pub(super) fn trips(&mut self, now: Instant) -> bool {
        let (count, last) = self.trips;
        let recent = last.is_some_and(|last| now - last < TRIPS_WITHIN);
        self.trips = (if recent { count + 1 } else { 1 }, Some(now));
        if self.trips.0 <= TRIPS {
            return false;
        }
        self.via = Via::Side;
        self.failures = self.failures.max(1);
        true
    }

    /// It took records, or will.
    pub(super) fn well(&mut self) {
        self.failures = 0;
        self.stuck_since = None;
        self.undeliverable = false;
    }

    /// It takes no records, for this reason; logged when it is news. `since`: it is missing or may not be written.
    pub(super) fn stuck(&mut self, why: String, since: Option<Instant>) {
        self.state = State::Stuck;
        self.stuck_since = self.stuck_since.or(since);
        if self.why.as_ref() != Some(&why) {
            tracing::error!("{why}");
            self.why = Some(why);
        }
    }

    /// The broker refused a time of arrival: what has arrived up to now is sent without it, lest each batch of a backlog
    /// be refused. When that happens again and again, the clocks differ: then all that comes.
    pub(super) fn timestamp_refused(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // One refusal is reported for each record of a batch.
        if now <= self.untimed_until.saturating_add(50) {
            return;
        }
        self.timestamp_refusals += 1;
        self.untimed_until = if self.timestamp_refusals < 4 {
            now
        } else {
            u64::MAX
        };
        tracing::warn!(
            topic = &*self.name,
            always = self.untimed_until == u64::MAX,
            "Kafka refuses the time of arrival (message.timestamp.before.max.ms or after.max.ms of the topic): \
             records get the time of sending"
        );
    }

    /// When to try again after one more failure: doubled from `first` up to twenty times it.
    pub(super) fn back_off(&mut self, now: Instant, first: Duration) -> Instant {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX).min(20);
        self.failures = self.failures.saturating_add(1);
        now + first * factor
    }
}

/// All topics.
#[derive(Debug)]
pub(super) struct Table {
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize, ahash::RandomState>,
    by_route: HashMap<u16, usize, ahash::RandomState>,
}

impl Table {
    pub(super) fn new(routes: &Routes) -> Self {
        let mut table = Self {
            topics: Vec::new(),
            by_name: HashMap::default(),
            by_route: HashMap::default(),
        };
        let unplaced = table.add("");
        if let Some(topic) = table.topics.get_mut(unplaced) {
            (topic.state, topic.ask_at) = (State::Ready, None);
        }
        table.preload(routes);
        table
    }

    /// The topic of what no route can place: it has no partitions, and its records wait for the quarantine.
    pub(super) fn unplaced(&self) -> usize {
        0
    }

    pub(super) fn get(&self, at: usize) -> Option<&Topic> {
        self.topics.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Topic> {
        self.topics.get_mut(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.topics.iter_mut()
    }

    /// Has up to `count` topics that are there asked for again at `when`.
    pub(super) fn ask_ready(&mut self, when: Instant, count: usize) {
        let ready = self.topics.iter_mut();
        let ready = ready.filter(|topic| topic.state == State::Ready && !topic.name.is_empty());
        for topic in ready.take(count) {
            topic.ask_at = topic.ask_at.or(Some(when));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The topics of all routes whose topic is no template: they are asked for at start. The default topic counts only
    /// where there is no route: it need not exist when nothing goes there.
    fn preload(&mut self, routes: &Routes) {
        for (id, route) in routes.all() {
            if let Some(name) = route.literal_topic()
                && (id != crate::route::DEFAULT || routes.is_empty())
            {
                let at = self.of_route(id, name);
                if let Some(topic) = self.topics.get_mut(at) {
                    topic.routes.push(id);
                }
            }
        }
    }

    /// The topic of a route whose topic is always the same.
    pub(super) fn of_route(&mut self, id: u16, name: &str) -> usize {
        if let Some(at) = self.by_route.get(&id) {
            return *at;
        }
        let at = self.add(name);
        self.by_route.insert(id, at);
        at
    }

    /// Adds a topic, or finds it.
    pub(super) fn add(&mut self, name: &str) -> usize {
        if let Some(at) = self.find(name) {
            return at;
        }
        let name: Arc<str> = name.into();
        let at = self.topics.len();
        let mut topic = Topic::new(Arc::clone(&name));
        topic.ask_at = Some(Instant::now());
        self.topics.push(topic);
        self.by_name.insert(name, at);
        at
    }
}
