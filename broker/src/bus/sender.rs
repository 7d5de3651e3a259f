//! A worker's end of the bus: numbers chunks, keeps them until they stand in the log, sends again what got lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use metrics::{Histogram, histogram};

use super::BusDead;
use super::chunk::{Chunk, ChunkBuilder};
use super::shared::Shared;
use crate::metrics::{BUS_TO_DURABLE, SOCKET_TO_BUS};

/// How often a sender goes back in vain before it takes the bus for dead.
const MAX_ROUNDS: u32 = 15;

/// Milliseconds until a chunk is offered again that the router had no room for.
const RETRY_MS: u64 = 1;

/// What a sender talks to: the router's link, or something in front of it in tests. Nothing here may block.
pub(super) trait Wire: Send {
    /// Hands one chunk over; false when there is no room for it now.
    fn offer(&mut self, chunk: &Bytes) -> Result<bool, BusDead>;
    /// Whether the other side is still there.
    fn check(&mut self) -> Result<(), BusDead>;
    /// Says goodbye.
    fn leave(&mut self);
}

/// Why a chunk was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The window is full: the worker is woken when there is room. The builder is as it was.
    #[error("the window of the bus is full")]
    Full,
    /// The bus is dead or was stopped: nothing that is not yet acknowledged will be.
    #[error("the bus is dead")]
    Dead,
}

/// A chunk on its way.
struct Kept {
    chunk: Chunk,
    sent: Instant,
}

/// One worker's end of the bus. Never blocks.
pub struct BusSender {
    worker: u16,
    next_number: u64,
    /// Sent and not yet known to stand in the log, in order of their numbers, which have no gap.
    kept: VecDeque<Kept>,
    /// The first of `kept` that is to be offered to the wire.
    unsent: usize,
    wire: Box<dyn Wire>,
    shared: Arc<Shared>,
    /// When something was last appended, or the reader was last seen to wait for room.
    progress_ms: u64,
    /// Times that this sender went back since then.
    rounds: u32,
    go_backs_seen: u64,
    waits_seen: u64,
    socket_to_bus: Histogram,
    bus_to_durable: Histogram,
}

impl BusSender {
    pub(super) fn new(worker: u16, wire: Box<dyn Wire>, shared: Arc<Shared>) -> Self {
        Self {
            worker,
            next_number: 0,
            kept: VecDeque::new(),
            unsent: 0,
            wire,
            shared,
            progress_ms: 0,
            rounds: 0,
            go_backs_seen: 0,
            waits_seen: 0,
            socket_to_bus: histogram!(SOCKET_TO_BUS),
            bus_to_durable: histogram!(BUS_TO_DURABLE),
        }
    }

    /// Sends what `chunk` holds, under the next number, which is returned, and empties it. `now_ms` is a monotonic time
    /// in milliseconds, the same clock at every call.
    pub fn send(&mut self, now_ms: u64, chunk: &mut ChunkBuilder) -> Result<u64, SendError> {
        self.catch_up(now_ms)?;
        let bytes = chunk.bytes();
        if !self.shared.window.try_take(bytes) {
            self.shared.note_refused();
            // Room may have come before the note was there to be seen.
            if !self.shared.window.try_take(bytes) {
                return Err(SendError::Full);
            }
        }
        if self.kept.is_empty() {
            self.progress_ms = now_ms;
        }
        let number = self.next_number;
        self.next_number += 1;
        let (opened, sent) = (chunk.opened(), Instant::now());
        if let Some(opened) = opened {
            self.socket_to_bus.record(sent - opened);
        }
        let chunk = chunk.finish(self.worker, number);
        self.kept.push_back(Kept { chunk, sent });
        self.pump()?;
        Ok(number)
    }

    /// Microseconds that a sync of the log takes, over the last of them.
    pub fn sync_us(&self) -> u64 {
        self.shared.sync_us()
    }

    /// Says whether this worker sends its chunks at the times at which all such workers do: one sync waits for them all.
    pub fn set_paced(&self, paced: bool) {
        self.shared.set_paced(self.worker, paced);
    }

    /// The number that the next chunk gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Chunks of this worker that stand in the log, durably, counted from the first: those with a lower number than this. After
    /// the bus has died it does not rise any more.
    pub fn appended(&self) -> u64 {
        if self.shared.is_dead() {
            return self.known_appended();
        }
        self.shared.appended(self.worker)
    }

    /// Chunks of this worker that are not known to stand in the log.
    pub fn in_flight(&self) -> usize {
        (self.next_number - self.appended()) as usize
    }

    /// Whether a chunk of usual size, or one of `bytes` if that is more, can be sent now. When not, the worker is woken
    /// once there is room.
    pub fn has_room(&self, bytes: usize) -> bool {
        const USUAL_BYTES: usize = 256 * 1024;
        let room = || self.shared.window.has_room(bytes.max(USUAL_BYTES));
        if room() {
            return true;
        }
        self.shared.note_refused();
        room()
    }

    /// Goes on with what is in flight: to be called when the worker is woken and at the deadline that was returned
    /// last, in milliseconds of the same clock. `None`: nothing is in flight.
    pub fn poll(&mut self, now_ms: u64) -> Result<Option<u64>, SendError> {
        self.catch_up(now_ms)?;
        self.pump()?;
        if self.kept.is_empty() {
            return Ok(None);
        }
        if self.unsent < self.kept.len() {
            return Ok(Some(now_ms + RETRY_MS));
        }
        Ok(Some(self.progress_ms + self.shared.resend_after_ms))
    }

    fn known_appended(&self) -> u64 {
        self.next_number - self.kept.len() as u64
    }

    /// Lets go of what stands in the log and goes back where that is due.
    fn catch_up(&mut self, now_ms: u64) -> Result<(), SendError> {
        if !self.shared.is_running() {
            return Err(SendError::Dead);
        }
        let done = self.shared.appended(self.worker) - self.known_appended();
        if done > 0 {
            let now = Instant::now();
            for kept in self.kept.drain(..(done as usize).min(self.kept.len())) {
                self.bus_to_durable.record(now - kept.sent);
            }
            self.unsent = self.unsent.saturating_sub(done as usize);
            self.progress_ms = now_ms;
            self.rounds = 0;
        }
        let go_backs = self.shared.go_backs(self.worker);
        let waits = self.shared.waits();
        if go_backs != self.go_backs_seen {
            self.go_backs_seen = go_backs;
            self.go_back(now_ms)?;
        } else if self.kept.is_empty() || now_ms < self.progress_ms + self.shared.resend_after_ms {
            return Ok(());
        } else if self.shared.is_held_up() || waits != self.waits_seen {
            // The log is full or slow: no fault, but the router may die meanwhile.
            self.waits_seen = waits;
            self.progress_ms = now_ms;
            self.check()?;
        } else {
            self.check()?;
            let chunks = self.kept.len();
            tracing::warn!(worker = self.worker, chunks, "no progress: sending again");
            self.go_back(now_ms)?;
        }
        Ok(())
    }

    /// All that is kept is sent again.
    fn go_back(&mut self, now_ms: u64) -> Result<(), SendError> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(self.fail(&BusDead(format!(
                "worker {} has sent its chunks {MAX_ROUNDS} times and none was appended",
                self.worker
            ))));
        }
        let again = self.unsent as u64;
        self.shared.counters.resends.fetch_add(again, Relaxed);
        self.unsent = 0;
        self.progress_ms = now_ms;
        Ok(())
    }

    /// Hands over what is unsent, in order, as far as there is room.
    fn pump(&mut self) -> Result<(), SendError> {
        while let Some(kept) = self.kept.get(self.unsent) {
            match self.wire.offer(kept.chunk.as_bytes()) {
                Ok(true) => self.unsent += 1,
                Ok(false) => break,
                Err(why) => return Err(self.fail(&why)),
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), SendError> {
        self.wire.check().map_err(|why| self.fail(&why))
    }

    fn fail(&self, why: &BusDead) -> SendError {
        self.shared.fail(why);
        SendError::Dead
    }
}

impl Drop for BusSender {
    fn drop(&mut self) {
        self.wire.leave();
    }
}
