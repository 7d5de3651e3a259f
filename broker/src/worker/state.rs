//! What one worker owns: its sessions, its open chunk, its timers. All of it is touched by one thread only; nothing
//! here reads a socket or a clock.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use super::Shared;
use super::acks::{Acks, Owed};
use super::backlog::Backlog;
use super::census::Census;
use super::full::Share;
use super::guard::Guard;
use super::lines::Tie;
use super::linger::Linger;
use super::mailbox::Delivery;
use super::nap::{Found, Naps};
use super::restore::Since;
use super::timers::Timers;
use super::walk::Walks;
use crate::bus::{BusSender, ChunkBuilder, Report};
use crate::classify::Publisher;
use crate::codec::Reason;
use crate::hub::registry::Registry;
use crate::hub::{HubReader, Load, Match};
use crate::metrics::WorkerMetrics;
use crate::record::Stem;
use crate::session::{Session, SessionLimits, Whole};
use crate::store::StoreEvent;
use crate::sys::WorkerCounts;

/// The timers look no further ahead: what a session leaves in them when its deadline moves is gone after this time.
const LOOK_AGAIN_MS: u64 = 10 * 60 * 1_000;

/// Held connections that are woken at a time when room comes free.
const WAKE_AT_ONCE: usize = 64;

/// Events that wait for the log at most; with more the store is told though it may not have read what they are about,
/// which at worst leaves a message to be sent once more after a restart.
const MOST_EVENTS: usize = 1 << 16;

/// Names a session of this worker; a session that took the place of another has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub slot: u32,
    pub generation: u32,
}

/// One session and what belongs to it.
pub(super) struct Slot {
    pub generation: u32,
    pub session: Session,
    pub username: Option<Box<str>>,
    /// What it may do; without it, everything, if it is known.
    pub guard: Option<Box<Guard>>,
    /// A client has come since the start: it is known which rules hold for it, or that none do.
    pub is_known: bool,
    pub link: Option<Link>,
    /// The last topic it published on, and where that goes.
    pub stem: Option<Rc<Stem>>,
    /// When the timers look at it next.
    pub armed_ms: u64,
    /// Forebay itself has stopped reading: its keep-alive does not run.
    pub held: bool,
    /// When its connection is woken to read on: it was faster than it may be.
    pub resume_ms: u64,
    /// It stands in a line of those that wait: for room, for a route, or for the next tick.
    pub in_line: bool,
    /// The log knows of it as a kept session.
    pub stored: bool,
    /// What it added to a log that is more than half full.
    pub share: Option<Box<Share>>,
    /// How busy it is, for those who choose a member of a group that it is in.
    pub load: Option<Arc<Load>>,
    /// Retained messages that are on their way to it.
    pub walks: Option<Box<Walks>>,
    /// When something was written to it last: the low half of the milliseconds.
    pub written_ms: u32,
    /// Its messages wait to be written together with further ones.
    pub lingers: bool,
}

/// The session's way to its connection.
pub(super) struct Link {
    pub tie: Rc<Tie>,
    /// If it has a task.
    pub waker: Option<Waker>,
}

/// The worker's own things.
pub(crate) struct State {
    pub(super) id: u16,
    pub(super) shared: Arc<Shared>,
    /// Monotonic milliseconds since the broker started, as of this turn.
    pub(super) now_ms: u64,
    /// Milliseconds since 1970, as of this turn.
    pub(super) wall_ms: u64,
    /// The bounds of a session whose client did not come yet, and of the clients of each listener.
    pub(super) session_limits: Arc<SessionLimits>,
    pub(super) listener_limits: Vec<Arc<SessionLimits>>,
    pub(super) slots: Slab<Slot>,
    pub(super) next_generation: u32,
    pub(super) registry: Registry,
    pub(super) hub: HubReader,
    pub(super) open: ChunkBuilder,
    pub(super) opened_ms: u64,
    pub(super) owed: Vec<Owed>,
    pub(super) sender: BusSender,
    pub(super) acks: Acks,
    pub(super) settled: Vec<Owed>,
    pub(super) reports: Vec<Report>,
    pub(super) matches: Vec<Match>,
    /// Sessions that have room for more of what is retained for them.
    pub(super) walking: VecDeque<SessionRef>,
    pub(super) outbox: Vec<Vec<Delivery>>,
    pub(super) linger: Linger,
    pub(super) timers: Timers,
    /// Connections that were too fast, by when they are read on.
    pub(super) slowed: Timers,
    /// Connections that wait for room on the bus, first come first served.
    pub(super) held: VecDeque<SessionRef>,
    /// Connections that wait for a route to open.
    pub(super) gated: Vec<SessionRef>,
    /// Connections that are looked at again at the next tick.
    pub(super) paused: Vec<SessionRef>,
    pub(super) backlog: Backlog,
    pub(super) whole: Whole,
    pub(super) since: Since,
    /// What the store is to be told.
    pub(super) events: Vec<StoreEvent>,
    /// What it is told once so many chunks are durable.
    telling: Vec<StoreEvent>,
    tell_after: u64,
    pub(super) metrics: WorkerMetrics,
    /// What `$SYS` is made of.
    pub(super) counts: Arc<WorkerCounts>,
    pub(super) census: Census,
    /// What was read in this turn.
    pub(super) found: Found,
    pub(super) naps: Naps,
    /// Connections were woken at the end of a turn.
    pub(super) woke: bool,
}

impl State {
    pub fn new(id: u16, shared: Arc<Shared>, sender: BusSender) -> Self {
        let workers = shared.mailboxes.len();
        let limits = |limits| {
            Arc::new(SessionLimits {
                tells_store: shared.store.is_some(),
                ..SessionLimits::from(limits)
            })
        };
        let listeners = 0..shared.config.listeners.len();
        Self {
            id,
            now_ms: 0,
            wall_ms: 0,
            session_limits: limits(&shared.config.limits),
            listener_limits: listeners.map(|at| limits(shared.config.limits_at(at))).collect(),
            slots: Slab::new(),
            next_generation: 0,
            registry: Registry::new(shared.config.limits.max_kept_sessions.div_ceil(workers.max(1))),
            hub: shared.hub.reader(),
            open: ChunkBuilder::new(shared.config.bus.chunk_bytes),
            opened_ms: 0,
            owed: Vec::new(),
            sender,
            acks: Acks::default(),
            settled: Vec::new(),
            reports: Vec::new(),
            matches: Vec::new(),
            walking: VecDeque::new(),
            outbox: (0..workers).map(|_| Vec::new()).collect(),
            linger: Linger::new(shared.config.limits.max_write_wait_ms.into()),
            timers: Timers::default(),
            slowed: Timers::default(),
            held: VecDeque::new(),
            gated: Vec::new(),
            paused: Vec::new(),
            backlog: Backlog::default(),
            whole: Whole::default(),
            since: Since::default(),
            events: Vec::new(),
            telling: Vec::new(),
            tell_after: 0,
            metrics: WorkerMetrics::new(id),
            counts: shared.counts.worker(id),
            census: Census::default(),
            found: Found::default(),
            naps: Naps::new(Duration::from_millis(shared.config.bus.max_wait_ms)),
            woke: false,
            shared,
        }
    }

    /// The session `at`, unless another took its place.
    pub(super) fn slot(&mut self, at: SessionRef) -> Option<&mut Slot> {
        self.slots
            .get_mut(at.slot as usize)
            .filter(|slot| slot.generation == at.generation)
    }

    /// Reads a little of these sessions, all at once ([`Lines`](super::lines::Lines)).
    pub(super) fn warm(&self, slots: impl Iterator<Item = u32>) -> u32 {
        let slots = slots.filter_map(|at| self.slots.get(at as usize));
        slots.fold(0, |sum, slot| sum ^ slot.warm())
    }

    /// Puts the session's next deadline into the timers, unless they look at it before that anyway.
    pub(super) fn arm(&mut self, at: SessionRef) {
        let latest_ms = self.now_ms + LOOK_AGAIN_MS;
        let Some(slot) = self.slot(at) else { return };
        if let Some(deadline_ms) = slot.session.poll_timeout().map(|at| at.min(latest_ms))
            && deadline_ms < slot.armed_ms
        {
            slot.armed_ms = deadline_ms;
            self.timers.arm(deadline_ms, at.slot, at.generation);
        }
    }

    /// Wakes connections that wait for room, as long as there is some.
    pub(super) fn wake_held(&mut self) {
        self.woke = true;
        for _ in 0..self.held.len().min(WAKE_AT_ONCE) {
            if let Some(at) = self.held.pop_front()
                && let Some(slot) = self.slot(at)
            {
                slot.in_line = false;
                slot.wake();
            }
        }
    }

    /// Wakes connections that wait for a route.
    pub(super) fn wake_gated(&mut self) {
        let gated = std::mem::take(&mut self.gated);
        self.wake_all(gated);
    }

    /// Wakes connections that were too fast, and have waited for it.
    pub(super) fn wake_slowed(&mut self) {
        while let Some((resume_ms, slot, generation)) = self.slowed.pop_due(self.now_ms) {
            let at = SessionRef { slot, generation };
            if let Some(slot) = self.slot(at).filter(|slot| slot.resume_ms == resume_ms) {
                slot.resume_ms = u64::MAX;
                slot.wake();
            }
        }
    }

    /// Wakes connections that wait for something that is looked at by the clock.
    pub(super) fn wake_paused(&mut self) {
        let paused = std::mem::take(&mut self.paused);
        self.wake_all(paused);
    }

    fn wake_all(&mut self, line: Vec<SessionRef>) {
        for at in line {
            if let Some(slot) = self.slot(at) {
                slot.in_line = false;
                slot.wake();
            }
        }
    }

    /// Tells the store what happened, once all that this worker had written by then is durable: a message that was
    /// retained is in a queue because of a subscription that the store must find in the log.
    pub(super) fn send_events(&mut self) {
        for _ in 0..2 {
            let many = self.events.len() + self.telling.len() >= MOST_EVENTS;
            if self.telling.is_empty() {
                if self.events.is_empty() || (self.backlog.len() > 0 && !many) {
                    return;
                }
                std::mem::swap(&mut self.events, &mut self.telling);
                self.tell_after = self.sender.next_number() + u64::from(!self.open.is_empty());
            }
            if self.sender.appended() < self.tell_after && !many {
                return;
            }
            if let Some(store) = &self.shared.store {
                store.take(&mut self.telling);
            }
            self.telling.clear();
        }
    }

    /// Tells the store all that is left: the worker ends.
    pub(super) fn send_last_events(&mut self) {
        self.telling.append(&mut self.events);
        if let Some(store) = &self.shared.store {
            store.take(&mut self.telling);
        }
    }

    /// Brings gauges up to date; called by the ticker, not by packets.
    pub(super) fn observe(&self) {
        self.metrics.sessions.set(self.slots.len() as f64);
        self.counts.sessions.set(self.slots.len() as u64);
        self.metrics
            .held
            .set((self.held.len() + self.gated.len() + self.paused.len()) as f64);
        self.metrics.chunks_in_flight.set(self.sender.in_flight() as f64);
        self.metrics.acks_waiting.set(self.acks.owed_by_kafka() as f64);
    }
}

impl Slot {
    /// A session without a connection.
    pub fn new(generation: u32, session: Session) -> Self {
        Self {
            generation,
            session,
            username: None,
            guard: None,
            is_known: false,
            link: None,
            stem: None,
            armed_ms: u64::MAX,
            held: false,
            resume_ms: u64::MAX,
            in_line: false,
            stored: false,
            share: None,
            load: None,
            walks: None,
            written_ms: 0,
            lingers: false,
        }
    }

    /// Reads a little of all that a publish needs of it.
    fn warm(&self) -> u32 {
        let stem = self.stem.as_ref().is_some_and(|stem| stem.is_on(""));
        let client_id = self.session.client_id().as_bytes().first();
        let bytes = client_id.copied().unwrap_or(0) ^ u8::from(stem);
        let kicked = self.link.as_ref().is_some_and(|link| link.tie.kicked().is_some());
        let says = self.session.wants_transmit() ^ self.held ^ kicked;
        u32::from(bytes) ^ u32::from(says) ^ self.generation ^ self.written_ms ^ self.session.expiry_s()
    }

    /// What waits for it has changed.
    pub fn note_load(&self) {
        if let Some(load) = &self.load {
            let (waiting, window) = self.session.load();
            load.set(waiting, window);
            load.set_most(self.session.most_load());
        }
    }

    /// Its load, for the first shared subscription.
    pub fn shared_load(&mut self) -> Arc<Load> {
        let load = self.load.get_or_insert_default().clone();
        self.note_load();
        load
    }

    /// Lets the connection run.
    pub fn wake(&self) {
        match &self.link {
            Some(Link {
                waker: Some(waker), ..
            }) => waker.wake_by_ref(),
            Some(Link { tie, .. }) => tie.call(),
            None => {}
        }
    }

    /// Ends the connection for `reason`; its task says good-bye and closes.
    pub fn kick(&self, reason: Reason) {
        if let Some(link) = &self.link {
            link.tie.kick(reason);
            self.wake();
        }
    }

    /// Where a publish on `topic` goes, and how its record begins: the last answer if it still holds.
    #[inline]
    pub fn stem(&mut self, shared: &Shared, topic: &str) -> Rc<Stem> {
        match &self.stem {
            Some(stem) if stem.is_on(topic) && stem.class().generation == shared.classify.generation() => {
                stem.clone()
            }
            _ => self.new_stem(shared, topic),
        }
    }

    fn new_stem(&mut self, shared: &Shared, topic: &str) -> Rc<Stem> {
        let (client_id, username) = (self.session.client_id(), self.username.as_deref());
        let class = shared.classify.classify(Publisher { client_id, username }, topic);
        let stem = Rc::new(Stem::new(client_id, username, topic, class));
        self.stem.insert(stem).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each a worker has as many as there are sessions: docs/sizing.md counts with them.
    #[test]
    fn a_session_that_only_stands_costs_little() {
        let (session, slot) = (std::mem::size_of::<Session>(), std::mem::size_of::<Slot>());
        assert!(
            session <= 232 && slot <= 360,
            "a session takes {session} bytes, its slot {slot}"
        );
    }
}
