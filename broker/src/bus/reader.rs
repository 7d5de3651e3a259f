//! The thread that reads the bus and appends to the log: all that waits, then one sync for all of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::BusDead;
use super::chunk::Chunk;
use super::router::{Came, SubscriberLink};
use super::sequence::{Seen, Sequencer};
use super::shared::Shared;
use crate::fatal::Fatal;
use crate::spool::{AppendError, LogWriter};

/// How often an idle reader looks by itself whether it is to stop.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How long it waits for room at a time before it looks whether it is to stop.
const ROOM_TICK: Duration = Duration::from_millis(100);

/// Appended chunks, and their bytes, after which the log is synced though more waits to be read.
const GROUP_CHUNKS: usize = 64;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A group of so many bytes fills its blocks well: it waits for no more.
const DENSE_BYTES: usize = 64 * 1024;

/// Why the reader ends.
enum End {
    /// Told to stop.
    Stopped,
    /// The bus is dead.
    Dead(BusDead),
    /// The log is closed or broken.
    Log(String),
}

impl From<BusDead> for End {
    fn from(why: BusDead) -> Self {
        End::Dead(why)
    }
}

pub(super) struct Reader {
    link: SubscriberLink,
    log: Box<dyn LogWriter>,
    shared: Arc<Shared>,
    sequencer: Sequencer,
    /// Workers to be woken: many chunks, one wake-up.
    to_wake: Vec<bool>,
    /// Appended and not synced: worker, number and bytes.
    group: Vec<(u16, u64, usize)>,
    group_bytes: usize,
    /// When the last group was durable.
    synced: Instant,
    /// When the first chunk of the open group came.
    began: Instant,
    /// Chunks became durable since workers were woken.
    durable: bool,
}

impl Reader {
    pub fn new(link: SubscriberLink, log: Box<dyn LogWriter>, shared: Arc<Shared>) -> Self {
        let workers = shared.workers();
        Self {
            link,
            log,
            shared,
            sequencer: Sequencer::new(workers),
            to_wake: vec![false; workers],
            group: Vec::new(),
            group_bytes: 0,
            synced: Instant::now(),
            began: Instant::now(),
            durable: false,
        }
    }

    /// Reads until it is stopped or the bus or the log is dead.
    pub fn run(mut self) {
        let _guard = PanicGuard(Arc::clone(&self.shared));
        let end = loop {
            if let Err(end) = self.step() {
                break end;
            }
        };
        let end = match (end, self.sync()) {
            (End::Stopped, Err(end)) | (end, _) => end,
        };
        self.wake();
        match end {
            End::Stopped => {}
            End::Dead(why) => self.shared.fail(&why),
            End::Log(why) => self.shared.fail_with(Fatal::Log(why)),
        }
        self.link.leave();
        self.shared.stopped();
    }

    fn step(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let mut came = self.link.next(now)?;
        if matches!(came, Came::Nothing) {
            came = match self.gathers_until(now) {
                Some(due) => self.link.next(due)?,
                None => {
                    self.sync()?;
                    self.link.next(self.until(now)?)?
                }
            };
        }
        match came {
            Came::Payload(payload) if !payload.is_empty() => self.take(payload),
            _ => Ok(()),
        }
    }

    /// Until when the open group waits for more, because the log wants to be written densely, or because chunks of other
    /// workers are about to come.
    fn gathers_until(&self, now: Instant) -> Option<Instant> {
        let hurries = self.group.is_empty()
            || self.group_bytes >= DENSE_BYTES
            || self.shared.stopping().is_some()
            || !self.shared.is_running();
        let dense = self.synced + self.log.gather();
        let due = match self.is_one_missing() {
            // For as long as a second sync would take.
            true => dense.max(self.began + Duration::from_micros(self.shared.sync_us())),
            false => dense,
        };
        (!hurries && due > now).then_some(due.min(now + TICK))
    }

    /// Whether a worker has nothing in the group that sends at the times at which another in it does.
    fn is_one_missing(&self) -> bool {
        let has = |worker| self.group.iter().any(|(of, ..)| *of == worker);
        self.shared.paced().any(has) && self.shared.paced().any(|worker| !has(worker))
    }

    /// Until when to wait for more, or that it is over.
    fn until(&self, now: Instant) -> Result<Instant, End> {
        if !self.shared.is_running() {
            return Err(End::Stopped);
        }
        match self.shared.stopping() {
            Some(deadline) if now >= deadline || self.shared.window.is_empty() => Err(End::Stopped),
            Some(deadline) => Ok(deadline.min(now + TICK)),
            None => Ok(now + TICK),
        }
    }

    fn take(&mut self, payload: Bytes) -> Result<(), End> {
        let chunk = Chunk::parse(payload).map_err(|e| BusDead(format!("not a chunk on the bus: {e}")))?;
        let (worker, number) = (chunk.worker(), chunk.number());
        match self.sequencer.offer(chunk) {
            Seen::InLine => {
                while let Some(chunk) = self.sequencer.next() {
                    self.append(&chunk)?;
                }
            }
            Seen::Before => {
                self.shared.counters.repeated.fetch_add(1, Relaxed);
                self.mark(worker);
            }
            Seen::Gap => {
                tracing::warn!(
                    worker,
                    number,
                    "chunks were lost on the bus: their sender goes back"
                );
                self.shared.counters.gaps.fetch_add(1, Relaxed);
                self.shared.ask_to_go_back(worker);
            }
            Seen::Skipped => {}
            Seen::Stranger => return Err(BusDead(format!("a chunk of worker {worker} on the bus")).into()),
        }
        Ok(())
    }

    fn append(&mut self, chunk: &Chunk) -> Result<(), End> {
        let bytes = chunk.as_bytes().len();
        loop {
            match self.log.append(chunk) {
                Ok(_) => break,
                Err(AppendError::Full) => self.wait_room(bytes)?,
                Err(error) => return Err(End::Log(error.to_string())),
            }
        }
        if self.group.is_empty() {
            self.began = Instant::now();
        }
        self.group.push((chunk.worker(), chunk.number(), bytes));
        self.group_bytes += bytes;
        match self.group.len() >= GROUP_CHUNKS || self.group_bytes >= GROUP_BYTES {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Makes durable what was appended and tells its senders. While a sync takes long, that nothing moves is no fault.
    fn sync(&mut self) -> Result<(), End> {
        if !self.group.is_empty() {
            self.shared.sync_begins();
            let synced = self.log.sync();
            self.shared.sync_ends();
            synced.map_err(|error| End::Log(error.to_string()))?;
            self.synced = Instant::now();
        }
        self.group_bytes = 0;
        let mut group = std::mem::take(&mut self.group);
        for (worker, number, bytes) in group.drain(..) {
            let counters = &self.shared.counters;
            counters.chunks.fetch_add(1, Relaxed);
            counters.bytes.fetch_add(bytes as u64, Relaxed);
            self.shared.set_appended(worker, number + 1);
            self.shared.window.give_back(bytes);
            self.mark(worker);
            self.durable = true;
        }
        self.group = group;
        self.wake();
        Ok(())
    }

    /// The log is full. Nothing is taken from the bus meanwhile: the window fills and the workers stop reading.
    fn wait_room(&mut self, bytes: usize) -> Result<(), End> {
        self.sync()?;
        self.shared.set_waits_for_room(true);
        let end = loop {
            match self.log.wait_room(bytes, ROOM_TICK) {
                Ok(true) => break Ok(()),
                Ok(false) if !self.shared.is_running() => break Err(End::Stopped),
                Ok(false) => {
                    let stopping = self.shared.stopping();
                    if stopping.is_some_and(|deadline| Instant::now() >= deadline) {
                        break Err(End::Stopped);
                    }
                }
                Err(error) => break Err(End::Log(error.to_string())),
            }
        };
        self.shared.set_waits_for_room(false);
        end
    }

    fn mark(&mut self, worker: u16) {
        if let Some(wake) = self.to_wake.get_mut(usize::from(worker)) {
            *wake = true;
        }
    }

    /// Wakes those whose chunks were appended, and those that the full window had refused.
    fn wake(&mut self) {
        if std::mem::take(&mut self.durable) && self.shared.room_came() {
            self.to_wake.fill(false);
        }
        for (worker, wake) in self.to_wake.iter_mut().enumerate() {
            if std::mem::take(wake) {
                self.shared.wake(worker as u16);
            }
        }
    }
}

/// A reader that panics takes the bus with it: better down than wrong.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&BusDead("its reader panicked".to_owned()));
        }
    }
}
