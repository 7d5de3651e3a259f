//! What senders and reader share: how far each worker's chunks got, what is in flight, and whether the bus lives.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use super::BusDead;
use super::report::ReportSlot;
use super::router::{MAX_IN_FLIGHT_BYTES, weight};
use crate::config::BusConfig;
use crate::fatal::{Fatal, FatalFlag};

const RUNNING: u8 = 0;
const STOPPED: u8 = 1;
const DEAD: u8 = 2;

/// Syncs over which their time is averaged.
const SYNCS_KNOWN: u64 = 16;

/// Beyond four times the average one sync counts for this much more at most.
const SYNC_STEP_US: u64 = 1_000;

/// Shared by all senders and the reader of one broker instance.
pub(super) struct Shared {
    lanes: Box<[Lane]>,
    pub window: Window,
    pub resend_after_ms: u64,
    state: AtomicU8,
    stopping: OnceLock<Instant>,
    /// The log is full: the reader waits for room in it.
    waits_for_room: AtomicBool,
    /// Since when the reader waits for the disk.
    syncs_since: Mutex<Option<Instant>>,
    /// What a sync takes, over the last of them.
    pub(super) sync_us: AtomicU64,
    /// Rises when the reader begins and when it ends to wait for room, and when it has waited long for the disk: no
    /// progress is no fault then.
    waits: AtomicU64,
    /// A sender found the window full and is to be woken when there is room.
    refused: AtomicBool,
    fatal: FatalFlag,
    pub counters: Counters,
}

/// One worker. Each on its own cache lines, since its worker and the reader write it all the time.
#[repr(align(128))]
struct Lane {
    appended: AtomicU64,
    go_back: AtomicU64,
    /// Its chunks leave at the times at which those of other such workers do.
    paced: AtomicBool,
    slot: Arc<ReportSlot>,
}

/// Counted since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub chunks: AtomicU64,
    pub bytes: AtomicU64,
    pub gaps: AtomicU64,
    pub repeated: AtomicU64,
    pub resends: AtomicU64,
}

impl Shared {
    pub fn new(config: &BusConfig, slots: Vec<Arc<ReportSlot>>, fatal: FatalFlag) -> Self {
        let lane = |slot| Lane {
            appended: AtomicU64::new(0),
            go_back: AtomicU64::new(0),
            paced: AtomicBool::new(false),
            slot,
        };
        Self {
            lanes: slots.into_iter().map(lane).collect(),
            window: Window::new(config.window_chunks),
            resend_after_ms: config.resend_after_ms.max(1),
            state: AtomicU8::new(RUNNING),
            stopping: OnceLock::new(),
            waits_for_room: AtomicBool::new(false),
            syncs_since: Mutex::default(),
            sync_us: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            fatal,
            counters: Counters::default(),
        }
    }

    pub fn workers(&self) -> usize {
        self.lanes.len()
    }

    /// Chunks of `worker` that stand in the log.
    pub fn appended(&self, worker: u16) -> u64 {
        let lane = self.lanes.get(usize::from(worker));
        lane.map_or(0, |lane| lane.appended.load(Acquire))
    }

    pub fn set_appended(&self, worker: u16, count: u64) {
        if let Some(lane) = self.lanes.get(usize::from(worker)) {
            lane.appended.store(count, Release);
        }
    }

    /// How often the reader has asked `worker` to go back.
    pub fn go_backs(&self, worker: u16) -> u64 {
        let lane = self.lanes.get(usize::from(worker));
        lane.map_or(0, |lane| lane.go_back.load(Acquire))
    }

    pub fn ask_to_go_back(&self, worker: u16) {
        if let Some(lane) = self.lanes.get(usize::from(worker)) {
            lane.go_back.fetch_add(1, Release);
            lane.slot.wake();
        }
    }

    pub fn wake(&self, worker: u16) {
        if let Some(lane) = self.lanes.get(usize::from(worker)) {
            lane.slot.wake();
        }
    }

    fn wake_all(&self) {
        for lane in &self.lanes {
            lane.slot.wake();
        }
    }

    /// A sender was refused: it is woken at the next [`Shared::room_came`]. It must look at the window once more after
    /// this call, or it could miss that.
    pub fn note_refused(&self) {
        self.refused.store(true, SeqCst);
    }

    /// The window has room again: wakes those that were refused. True when it woke all workers.
    pub fn room_came(&self) -> bool {
        let refused = self.refused.load(SeqCst) && self.refused.swap(false, SeqCst);
        if refused {
            self.wake_all();
        }
        refused
    }

    pub fn set_waits_for_room(&self, waits: bool) {
        self.waits_for_room.store(waits, SeqCst);
        self.waits.fetch_add(1, SeqCst);
    }

    /// A sync begins.
    pub fn sync_begins(&self) {
        *self.lock_sync() = Some(Instant::now());
    }

    /// It is done. One that took no time worth speaking of is no reason for a chunk that does not come: others are
    /// synced all the time.
    pub fn sync_ends(&self) {
        let Some(since) = self.lock_sync().take() else {
            return;
        };
        if self.is_long(since) {
            self.waits.fetch_add(1, SeqCst);
        }
        let took_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mean_us = self.sync_us();
        let took_us = took_us.min(4 * mean_us + SYNC_STEP_US); // a disk that stood still once is not a slow one
        let mean_us = mean_us - mean_us / SYNCS_KNOWN + took_us / SYNCS_KNOWN;
        self.sync_us.store(mean_us, Relaxed);
    }

    /// Microseconds that a sync takes, over the last of them.
    pub fn sync_us(&self) -> u64 {
        self.sync_us.load(Relaxed)
    }

    pub fn set_paced(&self, worker: u16, paced: bool) {
        if let Some(lane) = self.lanes.get(usize::from(worker))
            && lane.paced.load(Relaxed) != paced
        {
            lane.paced.store(paced, Relaxed);
        }
    }

    /// Workers whose chunks leave at the same times.
    pub fn paced(&self) -> impl Iterator<Item = u16> {
        let lanes = (0u16..).zip(&self.lanes);
        lanes
            .filter(|(_, lane)| lane.paced.load(Relaxed))
            .map(|(worker, _)| worker)
    }

    fn lock_sync(&self) -> MutexGuard<'_, Option<Instant>> {
        self.syncs_since.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn is_long(&self, since: Instant) -> bool {
        since.elapsed() >= Duration::from_millis(self.resend_after_ms / 2)
    }

    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room.load(SeqCst)
    }

    /// Whether the reader waits for something that is not the bus.
    pub fn is_held_up(&self) -> bool {
        self.waits_for_room() || self.lock_sync().is_some_and(|since| self.is_long(since))
    }

    pub fn waits(&self) -> u64 {
        self.waits.load(SeqCst)
    }

    /// Whether chunks may be sent.
    pub fn is_running(&self) -> bool {
        self.state.load(Acquire) == RUNNING
    }

    pub fn is_dead(&self) -> bool {
        self.state.load(Acquire) == DEAD
    }

    /// The bus is dead: nothing is acknowledged from here on and the process is to end.
    pub fn fail(&self, why: &BusDead) {
        self.fail_with(Fatal::Bus(why.0.clone()));
    }

    pub fn fail_with(&self, fault: Fatal) {
        let was = self.state.compare_exchange(RUNNING, DEAD, SeqCst, Acquire);
        if was.is_ok() {
            self.fatal.raise(fault);
            self.wake_all();
        }
    }

    pub fn stop_at(&self, deadline: Instant) {
        // Only the handle says this, and it is consumed by it.
        let _ = self.stopping.set(deadline);
    }

    pub fn stopping(&self) -> Option<Instant> {
        self.stopping.get().copied()
    }

    /// The reader has left in good order.
    pub fn stopped(&self) {
        let _ = self.state.compare_exchange(RUNNING, STOPPED, SeqCst, Acquire);
        self.wake_all();
    }
}

/// What is in flight over all workers, in chunks (upper 16 bits) and weight, in one word: a reservation takes both or
/// neither.
pub(super) struct Window {
    taken: AtomicU64,
    max_chunks: u64,
}

const CHUNK: u64 = 1 << 48;

impl Window {
    fn new(max_chunks: usize) -> Self {
        Self {
            taken: AtomicU64::new(0),
            max_chunks: (max_chunks as u64).min(128),
        }
    }

    /// Reserves room for a chunk of `bytes`.
    pub fn try_take(&self, bytes: usize) -> bool {
        let weight = weight(bytes) as u64;
        self.taken
            .fetch_update(SeqCst, SeqCst, |taken| {
                let fits =
                    taken / CHUNK < self.max_chunks && taken % CHUNK + weight <= MAX_IN_FLIGHT_BYTES as u64;
                fits.then_some(taken + CHUNK + weight)
            })
            .is_ok()
    }

    pub fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(CHUNK + weight(bytes) as u64, SeqCst);
    }

    /// Whether a chunk of `bytes` would fit now.
    pub fn has_room(&self, bytes: usize) -> bool {
        let taken = self.taken.load(SeqCst);
        taken / CHUNK < self.max_chunks && taken % CHUNK + weight(bytes) as u64 <= MAX_IN_FLIGHT_BYTES as u64
    }

    pub fn is_empty(&self) -> bool {
        self.chunks() == 0
    }

    pub fn chunks(&self) -> usize {
        (self.taken.load(SeqCst) / CHUNK) as usize
    }

    fn bytes(&self) -> usize {
        (self.taken.load(SeqCst) % CHUNK) as usize
    }
}

/// How the bus stands, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusStatus {
    /// Chunks can be sent.
    pub running: bool,
    /// The log is full: the reader waits until its consumers have committed more.
    pub waits_for_room: bool,
    /// Chunks in flight over all workers.
    pub in_flight_chunks: usize,
    /// Bytes in flight over all workers, as the window counts them.
    pub in_flight_bytes: usize,
    /// Chunks appended since the start.
    pub chunks: u64,
    /// Bytes appended since the start.
    pub bytes: u64,
    /// Gaps that the reader found in a worker's numbers.
    pub gaps: u64,
    /// Chunks that came once more though they stood in the log.
    pub repeated: u64,
    /// Chunks that were sent again.
    pub resends: u64,
}

/// Says how the bus stands. Cheap to clone.
#[derive(Clone)]
pub struct BusMonitor {
    shared: Arc<Shared>,
}

impl BusMonitor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How the bus stands now.
    pub fn status(&self) -> BusStatus {
        let counters = &self.shared.counters;
        BusStatus {
            running: self.shared.is_running(),
            waits_for_room: self.shared.waits_for_room(),
            in_flight_chunks: self.shared.window.chunks(),
            in_flight_bytes: self.shared.window.bytes(),
            chunks: counters.chunks.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            gaps: counters.gaps.load(Relaxed),
            repeated: counters.repeated.load(Relaxed),
            resends: counters.resends.load(Relaxed),
        }
    }
}
