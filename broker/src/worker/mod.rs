//! One core: a thread with a current-thread runtime, the sessions whose client ids hash to it, one open chunk, one
//! mailbox. What its connections read in one turn leaves as one chunk at the turn's end.

mod acks;
mod attach;
mod backlog;
mod census;
mod full;
mod guard;
mod hear;
mod lines;
mod linger;
mod mailbox;
mod nap;
mod publish;
mod restore;
mod serve;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;
mod timers;
mod walk;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::LocalOptions;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(crate) use attach::Attached;
pub(crate) use lines::Tie;
pub(crate) use mailbox::{Delivery, Mailbox};
pub(crate) use publish::Taken;
pub(crate) use state::{SessionRef, State};

use lines::{Lines, Sockets};

use crate::auth::Authenticator;
use crate::bus::report::{Outcome, ReportSlot};
use crate::bus::{BusSender, Reports};
use crate::classify::Classify;
use crate::codec::Reason;
use crate::config::Config;
use crate::connection::{self, Connection};
use crate::fatal::{Fatal, FatalFlag};
use crate::hub::Hub;
use crate::listener::tls::Keys;
use crate::spool::Pressure;
use crate::store::{KeptSession, TakeEvents};
use crate::sys::Counts;

/// Bytes that a worker reads at once, for whichever connection has something.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The buffer for what is written is kept up to this size.
const MOST_OUT_BYTES: usize = 128 * 1024;

/// How often the timers are looked at: the grain of keep-alive and expiry.
const TICK: Duration = Duration::from_millis(100);

/// Connections that are served before the clock is read again.
const POLLS_BETWEEN_TICKS: u8 = 16;

/// Connections that are served before the kernel is asked which others are ready.
const TASKS_BETWEEN_LOOKS: u32 = 128;

/// How far a broker is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Serving.
    Running = 0,
    /// Nothing is read any more; what was accepted is decided and acknowledged.
    Quiet = 1,
    /// Connections say good-bye and close.
    Closing = 2,
    /// Workers end.
    Ended = 3,
}

/// What all workers of a broker share, as it is at the start.
pub(crate) struct Parts {
    pub config: Config,
    pub classify: Arc<dyn Classify>,
    pub auth: Arc<dyn Authenticator>,
    pub hub: Hub,
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    pub reports: Reports,
    pub fatal: FatalFlag,
    /// The epoch of this start.
    pub epoch: u64,
    /// Who is told what happened to messages of kept sessions; `None` when nothing is kept over a restart.
    pub store: Option<Arc<dyn TakeEvents>>,
    /// How full the log is.
    pub pressure: Arc<Pressure>,
    /// TLS of the listeners that have it, by their place.
    pub tls: Box<[Option<Keys>]>,
}

/// What all workers of a broker share.
pub(crate) struct Shared {
    parts: Parts,
    pub counts: Counts,
    /// All below this sequence of the log is done for the sink.
    pub delivered: Arc<AtomicU64>,
    pub started: Instant,
    /// Workers that have taken in what was kept for them.
    ready: AtomicUsize,
    /// Records of each worker that are not decided yet: what a stop waits for.
    unsettled: Box<[AtomicUsize]>,
    stage: AtomicU8,
    home: ahash::RandomState,
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        Self {
            unsettled: parts.mailboxes.iter().map(|_| AtomicUsize::new(0)).collect(),
            counts: Counts::new(parts.mailboxes.len()),
            stage: AtomicU8::new(Stage::Running as u8),
            parts,
            delivered: Arc::default(),
            ready: AtomicUsize::new(0),
            started: Instant::now(),
            home: ahash::RandomState::with_seeds(0x666f, 0x7265, 0x6261, 0x79), // over restarts too
        }
    }

    /// Goes on to `stage` and tells every worker.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        for mailbox in self.mailboxes.iter() {
            mailbox.wake();
        }
    }

    /// Workers that serve.
    pub fn ready(&self) -> usize {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether `stage` was entered.
    pub fn is_past(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Records that were accepted and are not decided yet, over all workers, as of their last turns.
    pub fn unsettled(&self) -> usize {
        self.unsettled
            .iter()
            .map(|count| count.load(Ordering::Acquire))
            .sum()
    }

    /// The worker on which the session of `client_id` lives, for good.
    pub fn home_of(&self, client_id: &str) -> u16 {
        let mut hasher = self.home.build_hasher();
        hasher.write(client_id.as_bytes());
        (hasher.finish() % self.mailboxes.len().max(1) as u64) as u16
    }
}

/// One worker as its connections see it. Everything in it belongs to one thread.
pub(crate) struct Worker {
    pub id: u16,
    pub shared: Arc<Shared>,
    state: RefCell<State>,
    scratch: Cell<Vec<u8>>,
    out: Cell<Vec<u8>>,
    slot: Arc<ReportSlot>,
    lines: Lines,
    reopened_seen: Cell<u64>,
    /// The open chunk waits for more: a turn is wanted in `bus.max_wait_ms`, or its timer already runs.
    flush_wanted: Cell<bool>,
    flush_armed: Cell<bool>,
    closing: Cell<bool>,
    /// Something of this worker is to run that was woken at the end of the turn.
    awake: Cell<bool>,
    /// Polls until the clock is read again.
    ticks: Cell<u8>,
    /// When a turn ended last: a worker that always has something ready never parks.
    turn_ended_ms: Cell<u64>,
}

thread_local! {
    /// The worker of this thread, for the runtime's hook.
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// Starts the thread of worker `id` with the sessions that were kept for it; [`Shared::ready`] counts it once it has
/// taken them in.
pub(crate) fn spawn(
    id: u16,
    shared: Arc<Shared>,
    sender: BusSender,
    kept: Vec<KeptSession>,
) -> io::Result<JoinHandle<()>> {
    let fatal = shared.fatal.clone();
    std::thread::Builder::new()
        .name(format!("worker-{id}"))
        .spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| run(id, shared, sender, kept));
            match std::panic::catch_unwind(work) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => fatal.raise(Fatal::Worker(id, error.to_string())),
                Err(_) => fatal.raise(Fatal::Worker(id, "panic".to_owned())),
            }
        })
}

fn run(id: u16, shared: Arc<Shared>, sender: BusSender, kept: Vec<KeptSession>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(|| {
            CURRENT.with_borrow(|worker| {
                if let Some(worker) = worker {
                    worker.before_park();
                }
            });
        })
        .on_thread_unpark(|| {
            CURRENT.with_borrow(|worker| {
                if let Some(worker) = worker {
                    worker.begin_turn();
                }
            });
        })
        .event_interval(TASKS_BETWEEN_LOOKS)
        .build_local(LocalOptions::default())?;
    let slot = shared
        .reports
        .slot(id)
        .ok_or_else(|| io::Error::other("no report slot"))?;
    let worker = Rc::new(Worker {
        id,
        state: RefCell::new(State::new(id, shared.clone(), sender)),
        shared,
        scratch: Cell::new(vec![0; SCRATCH_BYTES]),
        out: Cell::default(),
        slot,
        lines: Lines::new()?,
        reopened_seen: Cell::new(0),
        flush_wanted: Cell::new(false),
        flush_armed: Cell::new(false),
        closing: Cell::new(false),
        awake: Cell::new(false),
        ticks: Cell::new(0),
        turn_ended_ms: Cell::new(0),
    });
    worker.tick();
    worker.with(|state| state.restore(kept));
    worker.shared.ready.fetch_add(1, Ordering::Release);
    CURRENT.set(Some(worker.clone()));
    let lines = EndLines(worker.clone());
    let ended = runtime.block_on(worker.clone().control());
    CURRENT.set(None);
    drop(runtime); // and the connections that have tasks with it
    drop(lines);
    worker.with(|state| {
        state.send_last_events();
        state.metrics.show();
    });
    ended
}

/// The lines know their worker: none would ever be closed if they were not let go, after a panic too.
struct EndLines(Rc<Worker>);

impl Drop for EndLines {
    fn drop(&mut self) {
        self.0.lines.clear();
    }
}

impl Worker {
    /// The worker's own things. Never held across an await; connections are polled one at a time.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.borrow_mut())
    }

    /// The same for a drop, which may come while the things are in use.
    pub fn try_with(&self, act: impl FnOnce(&mut State)) {
        if let Ok(mut state) = self.state.try_borrow_mut() {
            act(&mut state);
        }
    }

    /// Reads the clock now and then in a long turn.
    pub fn tick_on(&self) {
        match self.ticks.get() {
            0 => self.tick(),
            left => self.ticks.set(left - 1),
        }
    }

    /// The runtime is about to wait for the kernel.
    fn before_park(&self) {
        let came = self.come();
        let now_us = self.now_us();
        let nap = self.with(|state| {
            let found = std::mem::take(&mut state.found);
            let nap = state.naps.after(now_us, found, state.sender.sync_us());
            state.sender.set_paced(nap.is_some());
            nap
        });
        self.end_of_turn(nap.is_some_and(|nap| !nap.leaves));
        // What is acknowledged when it leaves. What lines did here is to leave too, and may have woken others.
        if self.come() || came {
            self.run_again();
        }
        let Some(nap) = nap else { return };
        let length = Duration::from_micros(nap.until_us.saturating_sub(now_us));
        let is_missed = !self.awake.get() && self.slot.nap(length);
        // What gathered leaves with what is ready now. Where no nap was taken, who was to run may be gone.
        if is_missed || self.with(|state| !state.open.is_empty()) {
            self.slot.waker.wake();
        }
    }

    fn now_us(&self) -> u64 {
        self.shared.started.elapsed().as_micros() as u64
    }

    fn begin_turn(&self) {
        self.read_clock();
        self.turn_ended_ms.set(self.with(|state| state.now_ms));
    }

    /// Reads the clock for this turn.
    pub fn tick(&self) {
        let now_ms = self.read_clock();
        if now_ms.saturating_sub(self.turn_ended_ms.get()) > self.shared.config.bus.max_wait_ms {
            self.end_of_turn(false);
            if self.lines.is_called() {
                self.run_again();
            }
        }
    }

    fn read_clock(&self) -> u64 {
        self.ticks.set(POLLS_BETWEEN_TICKS);
        let now_ms = self.shared.started.elapsed().as_millis() as u64;
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        self.with(|state| {
            state.now_ms = now_ms;
            state.wall_ms = wall_ms;
        });
        now_ms
    }

    /// Lends the read buffer; it must come back by [`Worker::return_scratch`].
    pub fn lend_scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.resize(SCRATCH_BYTES, 0); // no-op but for a buffer that a panicking connection took with it
        scratch
    }

    /// Gives the read buffer back.
    pub fn return_scratch(&self, scratch: Vec<u8>) {
        self.scratch.set(scratch);
    }

    /// Lends an empty buffer for what is to be written; it comes back by [`Worker::return_out`] unless the socket does not
    /// take all of it at once.
    pub fn lend_out(&self) -> Vec<u8> {
        self.out.take()
    }

    /// Gives it back.
    pub fn return_out(&self, mut out: Vec<u8>) {
        out.clear();
        if out.capacity() <= MOST_OUT_BYTES {
            self.out.set(out);
        }
    }

    /// Nothing is ready any more: what this turn gathered leaves, unless it `gathers` on. While a chunk of this worker is in
    /// flight the open one waits for more, but not for longer than `bus.max_wait_ms`.
    fn end_of_turn(&self, gathers: bool) {
        self.with(|state| {
            self.turn_ended_ms.set(state.now_ms);
            self.awake.set(false);
            state.write_backlog();
            state.send_outbox();
            state.send_events();
            let config = &self.shared.config.bus;
            let is_small = state.open.bytes() < config.chunk_bytes / 2;
            let is_young = state.now_ms.saturating_sub(state.opened_ms) < config.max_wait_ms;
            let waits = state.sender.in_flight() > 0 && is_young && !state.open.is_empty();
            match is_small && (gathers || waits) {
                true if gathers => {}
                true => {
                    state.naps.is_still_due();
                    if !self.flush_armed.get() && !self.flush_wanted.replace(true) {
                        self.run_again();
                    }
                }
                // When the bus is full it wakes this worker once there is room.
                false => _ = state.flush(),
            }
            if !state.held.is_empty() && state.sender.has_room(state.open.bytes()) {
                state.wake_held();
            }
            if std::mem::take(&mut state.woke) {
                self.awake.set(true);
            }
            state.metrics.show();
            if state.linger.arm() {
                self.run_again(); // its timer is to be set
            }
            let unsettled = state.open.len() as usize + state.acks.owed() + state.backlog.len();
            if let Some(counter) = self.shared.unsettled.get(usize::from(self.id)) {
                counter.store(unsettled, Ordering::Release);
            }
        });
    }

    /// At the end of a turn: another one follows at once.
    fn run_again(&self) {
        self.awake.set(true);
        self.slot.waker.wake();
    }

    /// Runs until the broker stops: takes mail and reports, fires timers.
    async fn control(self: Rc<Self>) -> io::Result<()> {
        let sockets = self.lines.in_runtime()?;
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let flush_after = Duration::from_millis(self.shared.config.bus.max_wait_ms.max(1));
        let mut flush_timer = std::pin::pin!(sleep(flush_after));
        let mut linger_timer = std::pin::pin!(sleep(flush_after));
        poll_fn(|cx| {
            self.slot.waker.register(cx.waker());
            self.tick();
            if ticker.poll_tick(cx).is_ready() {
                while ticker.poll_tick(cx).is_ready() {}
                // A will that is due at once must find the subscriptions of all workers.
                let all_restored = self.shared.ready() == self.shared.mailboxes.len();
                self.with(|state| {
                    if all_restored {
                        state.fire_timers();
                    }
                    state.look_at_restored();
                    if self.id == 0 {
                        state.shared.hub.expire_retained(state.now_ms);
                    }
                    state.wake_paused();
                    state.wake_slowed();
                    state.observe();
                    state.take_census();
                });
            }
            if self.flush_wanted.take() {
                flush_timer
                    .as_mut()
                    .reset(tokio::time::Instant::now() + flush_after);
                self.flush_armed.set(true);
            }
            if self.flush_armed.get() && flush_timer.as_mut().poll(cx).is_ready() {
                self.flush_armed.set(false);
            }
            self.take_reports();
            if self.with(State::feed_walks) {
                self.slot.waker.wake(); // the next slices come after all that is ready now
            }
            let mail = self.take_mail();
            while let Some(left_ms) = self.with(State::end_linger) {
                let left = Duration::from_millis(left_ms);
                linger_timer.as_mut().reset(tokio::time::Instant::now() + left);
                if linger_timer.as_mut().poll(cx).is_pending() {
                    break;
                }
                self.tick();
            }
            self.hear_sockets(&sockets, cx);
            self.come();
            if self.lines.is_called() {
                self.run_again();
            }
            mail
        })
        .await;
        Ok(())
    }

    /// Serves the lines whose sockets have something to say.
    fn hear_sockets(&self, sockets: &Sockets, cx: &mut Context<'_>) {
        while let Poll::Ready(Ok(mut guard)) = sockets.poll_read_ready(cx) {
            if self.lines.hear(self) {
                return self.run_again();
            }
            guard.clear_ready();
        }
    }

    /// Serves the lines for which there is something: an acknowledgement, a message, room. Whether there were any.
    fn come(&self) -> bool {
        let is_called = self.lines.is_called();
        if is_called {
            self.lines.come(self);
        }
        is_called
    }

    /// Serves a connection over a plain socket until it ends.
    pub fn adopt(&self, connection: Connection) {
        self.lines.adopt(connection);
    }

    fn take_reports(&self) {
        self.with(|state| {
            let mut reports = std::mem::take(&mut state.reports);
            self.slot.take(&mut reports);
            let mut settled_last = None;
            for report in reports.drain(..) {
                let Some((owed, opened_ms)) = state.acks.settle(report.number, report.index) else {
                    continue;
                };
                if settled_last.replace(report.number) != Some(report.number) {
                    let waited = state.now_ms.saturating_sub(opened_ms) as f64 / 1_000.0;
                    state.metrics.ack_seconds.record(waited);
                }
                let result = match report.outcome {
                    Outcome::InKafka => Ok(()),
                    Outcome::Refused => Err(Reason::QuotaExceeded),
                };
                state.settle(owed, result);
            }
            state.reports = reports;
            let now_ms = state.now_ms;
            let _ = state.sender.poll(now_ms); // a dead bus has raised its fault; nothing is acknowledged after it
            state.settle_durable();
            let reopened = self.shared.reports.reopened_count();
            if self.reopened_seen.replace(reopened) != reopened {
                state.wake_gated();
            }
        });
    }

    fn take_mail(self: &Rc<Self>) -> Poll<()> {
        let Some(mailbox) = self.shared.mailboxes.get(usize::from(self.id)) else {
            return Poll::Ready(());
        };
        let mail = mailbox.take();
        if !mail.deliveries.is_empty() {
            self.with(|state| state.take_deliveries(&mail));
        }
        let quiet = self.shared.is_past(Stage::Quiet);
        for socket in mail.sockets {
            if !quiet {
                tokio::task::spawn_local(connection::serve(self.clone(), socket));
            }
        }
        if self.shared.is_past(Stage::Closing) && !self.closing.replace(true) {
            let reason = match self.shared.config.told.server_reference {
                Some(_) => Reason::UseAnotherServer,
                None => Reason::ServerShuttingDown,
            };
            self.with(|state| state.kick_all(reason));
        }
        match self.shared.is_past(Stage::Ended) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
