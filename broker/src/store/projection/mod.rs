//! What the log says of kept sessions and retained messages: every record that concerns the store, applied in the order
//! of the log, and what workers said of deliveries since. Pure: entries and events go in, changes for a commit come out.
//!
//! Idempotent by position: a record below `applied` changes nothing, so that a log may be read again from any commit.
//!
//! Bounds: a session's queue ends where the session's own does, in the worker that serves it; that one tells what it
//! dropped. Here the bound stands a good way above that (`SLACK_MESSAGES`), because messages are here before the worker
//! says that they are delivered, and what was acknowledged must not be lost for it.

mod act;
mod change;
mod changes;
mod group;
mod held;
mod messages;
mod publish;
mod restore;
mod retained;
mod session;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use slab::Slab;

pub(crate) use changes::ChangeSet;
pub(crate) use restore::{BadRow, Loading};
pub(crate) use session::{Held, Number, Queued, Stored};

use crate::config::Limits;
use crate::hub::subscriptions::Subscriptions;
use crate::hub::{Match, SubscriberId};
use crate::record::{Origin, Record};
use crate::spool::{Entry, Position};
use changes::Touched;
use group::Claim;
use held::HeldEvents;
use messages::Messages;
use retained::RetainedTopics;

/// Messages, and bytes of them, that a session's queue may hold here above `limits.max_queued_*`.
const SLACK_MESSAGES: usize = 65_536;
const SLACK_BYTES: usize = 16 * 1024 * 1024;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Messages in a session's queue, in number and bytes.
    pub max_queued: usize,
    pub max_queued_bytes: usize,
    /// Retained messages, in number and bytes.
    pub max_retained: usize,
    pub max_retained_bytes: usize,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            max_queued: limits.max_queued_messages.saturating_add(SLACK_MESSAGES),
            max_queued_bytes: limits.max_queued_bytes.saturating_add(SLACK_BYTES),
            max_retained: limits.max_retained_messages,
            max_retained_bytes: limits.max_retained_bytes,
        }
    }
}

/// Where a record stands, under both its names.
#[derive(Debug, Clone, Copy)]
struct At {
    origin: Origin,
    sequence: u64,
}

/// Kept sessions and retained messages as of `applied`.
#[derive(Debug)]
pub(crate) struct Projection {
    /// Everything below this is applied; `None`: nothing was ever.
    applied: Option<Position>,
    sessions: Slab<Stored>,
    by_client: HashMap<Arc<str>, Number, RandomState>,
    /// Messages of groups that members were sent and are not done with.
    claims: HashMap<(Arc<str>, Origin), Claim, RandomState>,
    /// How many of the sessions stand for a group.
    groups: usize,
    subscriptions: Subscriptions,
    messages: Messages,
    retained: RetainedTopics,
    held: HeldEvents,
    touched: Touched,
    /// Rises with each message and each place in a queue.
    next_number: u64,
    /// Messages in all queues.
    queued: usize,
    /// Messages that found no room in a queue, or topics no place among the retained.
    dropped: u64,
    bounds: Bounds,
    matches: Vec<Match>,
}

fn who(number: Number) -> SubscriberId {
    SubscriberId {
        worker: 0,
        slot: number,
        generation: 0,
    }
}

impl Projection {
    /// Nothing yet. `epoch` is that of this run: events name records of it that may not be read yet.
    pub fn new(bounds: Bounds, epoch: u64) -> Self {
        Self {
            applied: None,
            sessions: Slab::new(),
            by_client: HashMap::default(),
            claims: HashMap::default(),
            groups: 0,
            subscriptions: Subscriptions::default(),
            messages: Messages::default(),
            retained: RetainedTopics::default(),
            held: HeldEvents::new(epoch),
            touched: Touched::default(),
            next_number: 1,
            queued: 0,
            dropped: 0,
            bounds,
            matches: Vec::new(),
        }
    }

    /// Everything below is applied; `None` before the first entry.
    pub fn applied(&self) -> Option<Position> {
        self.applied
    }

    /// Sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len() - self.groups
    }

    /// Messages in all queues.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Messages that found no room, and events that were lost, since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped) + self.held.take_lost()
    }

    /// Applies one chunk of the log: what of it stands at or above `applied`.
    pub fn apply(&mut self, entry: &Entry) {
        let chunk = &entry.chunk;
        let (first, worker) = (entry.first, chunk.worker());
        let applied = self.applied.map_or(0, |applied| applied.sequence);
        let end = first.sequence + u64::from(chunk.count());
        if end > applied {
            if chunk.concerns_store() {
                for (index, record) in (0..).zip(chunk.records()) {
                    let sequence = first.sequence + u64::from(index);
                    let origin = Origin {
                        epoch: first.epoch,
                        worker,
                        number: chunk.number(),
                        index,
                    };
                    match record {
                        Ok(_) if sequence < applied => {}
                        Ok(Record::Publish(record)) => self.publish(&record, At { origin, sequence }),
                        Ok(Record::Session(record)) => self.change(&record),
                        Err(error) => {
                            tracing::error!(sequence, %error, "a chunk of the log holds what is no record: its rest is left out");
                        }
                    }
                }
            }
            self.applied = Some(Position {
                epoch: first.epoch,
                sequence: end,
            });
        }
        for event in self.held.applied(first.epoch, worker, chunk.number()) {
            self.act(event);
        }
        for event in self.held.read_to(end) {
            self.act(event);
        }
    }

    /// The log begins at `position`: what stood below was lost, or never was.
    pub fn skip_to(&mut self, position: Position) {
        self.applied = Some(position);
    }

    fn session(&self, number: Number) -> Option<&Stored> {
        self.sessions.get(number as usize)
    }

    fn find(&self, client_id: &str) -> Option<Number> {
        self.by_client.get(client_id).copied()
    }

    /// The session's own row is to be written.
    fn touch_row(&mut self, number: Number) {
        if let Some(session) = self.sessions.get_mut(number as usize)
            && !std::mem::replace(&mut session.row_touched, true)
        {
            self.touched.rows.push(number);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }
}
