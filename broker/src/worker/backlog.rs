//! What a worker writes into the log beside its clients' publishes: wills, and what happened to kept sessions. It goes
//! into the open chunk at once where there is room; else it waits here, in order for each client, and what that client
//! publishes waits behind it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;

use super::acks::{Debt, owe};
use super::state::{SessionRef, State};
use crate::classify::{Level, Publisher};
use crate::record::{Change, Record, SessionRecord, Stem};
use crate::session::WillMessage;
use crate::sys::is_reserved;

/// Bytes of wills that may wait, and of records that may wait.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What a waiting record costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// What is owed to a client once a record is durable.
pub(super) type Answer = (SessionRef, Debt);

/// Something that waits for room.
struct Waiting {
    client_id: Arc<str>,
    what: What,
}

enum What {
    Will {
        username: Option<Box<str>>,
        will: WillMessage,
    },
    Record {
        bytes: Box<[u8]>,
        answer: Option<Answer>,
    },
}

impl What {
    fn cost(&self) -> usize {
        match self {
            What::Will { will, .. } => will.cost(),
            What::Record { bytes, .. } => OVERHEAD_BYTES + bytes.len(),
        }
    }
}

/// All that waits, oldest first.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<Waiting>,
    /// How many of them each client has.
    clients: HashMap<Arc<str>, usize, RandomState>,
    wills_bytes: usize,
    records_bytes: usize,
}

impl Backlog {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether something of this client waits: what it does now comes after it.
    pub fn holds(&self, client_id: &str) -> bool {
        !self.queue.is_empty() && self.clients.contains_key(client_id)
    }

    /// Whether a further will may come to wait.
    pub fn takes_wills(&self) -> bool {
        self.wills_bytes < MOST_BYTES
    }

    /// Whether so many records wait that clients must not bring further ones.
    pub fn is_full(&self) -> bool {
        self.records_bytes >= MOST_BYTES
    }

    fn bytes_of(&mut self, what: &What) -> &mut usize {
        match what {
            What::Will { .. } => &mut self.wills_bytes,
            What::Record { .. } => &mut self.records_bytes,
        }
    }

    fn push(&mut self, client_id: Arc<str>, what: What) {
        *self.bytes_of(&what) += what.cost();
        *self.clients.entry(client_id.clone()).or_default() += 1;
        self.queue.push_back(Waiting { client_id, what });
    }

    /// One less waits.
    fn done(&mut self, waiting: &Waiting) {
        *self.bytes_of(&waiting.what) -= waiting.what.cost();
        if let Some(count) = self.clients.get_mut(&waiting.client_id) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&waiting.client_id);
            }
        }
    }
}

impl State {
    /// Whether a client with a will can be let in: the wills of those that are gone may wait for room.
    pub fn takes_wills(&self) -> bool {
        self.backlog.takes_wills()
    }

    /// Whether a client can be let in whose session is kept: that alone writes records.
    pub fn takes_kept(&self) -> bool {
        !self.backlog.is_full()
    }

    /// The will of a client that is gone waits for its turn.
    pub(super) fn push_will(&mut self, client_id: Arc<str>, username: Option<Box<str>>, will: WillMessage) {
        if is_reserved(will.as_publish().topic) {
            self.metrics.publishes_denied.increment(1);
        } else if self.may_publish_will(&client_id, username.as_deref(), &will) {
            self.backlog.push(client_id, What::Will { username, will });
        }
    }

    /// Writes down what happened to the kept session of `client_id`; `answer` is due once that is durable.
    pub(super) fn write_down(&mut self, client_id: &Arc<str>, change: Change<'_>, answer: Option<Answer>) {
        let record = Record::Session(SessionRecord {
            client_id,
            at_ms: self.wall_ms,
            change,
        });
        if !self.backlog.holds(client_id) && self.make_room(record.encoded_len()) {
            self.append_record(&record, answer);
            return;
        }
        self.push_record(client_id, &record, answer);
    }

    /// The same at the end of the turn: for what comes up while a publish is being accepted, whose chunk must not leave
    /// before its acknowledgement is owed.
    pub(super) fn write_later(&mut self, client_id: &Arc<str>, change: Change<'_>) {
        let record = Record::Session(SessionRecord {
            client_id,
            at_ms: self.wall_ms,
            change,
        });
        self.push_record(client_id, &record, None);
    }

    fn push_record(&mut self, client_id: &Arc<str>, record: &Record<'_>, answer: Option<Answer>) {
        let mut bytes = Vec::with_capacity(record.encoded_len());
        record.write(&mut bytes);
        let bytes = bytes.into();
        self.backlog
            .push(client_id.clone(), What::Record { bytes, answer });
    }

    /// There is room: the caller made it.
    fn append_record(&mut self, record: &Record<'_>, answer: Option<Answer>) {
        if self.open.is_empty() {
            self.opened_ms = self.now_ms;
        }
        let Ok(index) = self.open.push(record) else { return };
        if let Some((at, debt)) = answer {
            owe(&mut self.owed, at, debt, Level::Spooled, index);
        }
    }

    /// Whether something of session `at`'s client waits, after another attempt to write it.
    pub(super) fn waits_behind_backlog(&mut self, at: SessionRef) -> bool {
        if self.backlog.len() == 0 || !self.backlog_holds(at) {
            return false;
        }
        self.write_backlog();
        self.backlog_holds(at)
    }

    fn backlog_holds(&self, at: SessionRef) -> bool {
        let slot = self.slots.get(at.slot as usize);
        slot.is_some_and(|slot| self.backlog.holds(slot.session.client_id()))
    }

    /// Writes what waits as far as there is room.
    pub(super) fn write_backlog(&mut self) {
        while let Some(waiting) = self.backlog.queue.pop_front() {
            if !self.write_waiting(&waiting) {
                self.backlog.queue.push_front(waiting);
                return;
            }
            self.backlog.done(&waiting);
        }
    }

    /// Whether there was room for it.
    fn write_waiting(&mut self, waiting: &Waiting) -> bool {
        match &waiting.what {
            What::Record { bytes, answer } => {
                if !self.make_room(bytes.len()) {
                    return false;
                }
                if let Ok((record, _)) = Record::read(bytes) {
                    self.append_record(&record, *answer);
                }
                true
            }
            What::Will { username, will } => self.publish_will(&waiting.client_id, username.as_deref(), will),
        }
    }

    /// Nobody waits for the acknowledgement of a will: that its route is closed does not hold it up, since what its client
    /// does next would wait behind it.
    fn publish_will(&mut self, client_id: &str, username: Option<&str>, will: &WillMessage) -> bool {
        let publish = will.as_publish();
        let publisher = Publisher { client_id, username };
        let class = self.shared.classify.classify(publisher, publish.topic);
        let stem = Stem::new(client_id, username, publish.topic, class);
        if !self.make_room(stem.record_bytes(&publish)) {
            return false;
        }
        self.accept(None, &stem, &publish);
        true
    }
}
