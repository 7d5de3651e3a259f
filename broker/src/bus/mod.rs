//! The bus: chunks of accepted publishes go from the workers to the node's log over an in-process rumqttd router.
//!
//! ```text
//! worker 0: BusSender ─ Wire ─┐                        ┌─ reader thread: Sequencer ─▶ LogWriter
//! worker 1: BusSender ─ Wire ─┼─▶ rumqttd's Router ────┘        │
//! worker n: BusSender ─ Wire ─┘    one fixed topic              │
//!      ▲                                                        │
//!      └────── Shared: appended counts, window, go-back requests, dead ◀──┘
//! ```
//!
//! rumqttd's router drops silently for a reader that falls a whole log behind, and vanishes silently when a link is
//! gone. So chunks are numbered per worker and kept by their sender until they stand in the log; what is in flight is
//! bounded over all workers, so that the router never drops; a gap in the numbers, or no progress for a while, makes
//! the sender go back and send again; and a link that is gone makes the bus dead: nothing is acknowledged any more.
//! That the log has no room is not a fault: the reader waits, the window fills, and the workers stop reading.
//!
//! One router a process (it can't be ended), one topic a broker instance. All rumqttd names stay in [`router`]. The
//! router writes a tracing span at level error for each chunk: a log filter needs `rumqttd=off`.

pub mod chunk;
pub mod report;

mod reader;
mod router;
mod sender;
mod sequence;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use chunk::{Chunk, ChunkBuilder, ChunkError, ChunkFull};
pub use report::{Outcome, Report, Reports};
pub use sender::{BusSender, SendError};
pub use shared::{BusMonitor, BusStatus};

use crate::config::BusConfig;
use crate::fatal::FatalFlag;
use crate::spool::LogWriter;
use reader::Reader;
use router::{Instance, PublisherLink};
use sender::Wire;
use shared::Shared;

/// How long the router may take to answer all that a start asks of it.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the bus can't be started.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The router of this process is gone or does not answer.
    #[error("the router of this process does not answer: {0}")]
    Router(String),
    /// `slots` has no slot for a worker.
    #[error("worker {0} has no slot to be woken by")]
    NoSlot(u16),
    /// The reader's thread can't be started.
    #[error("the bus's reader can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The bus is dead, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct BusDead(String);

/// Starts a bus for `workers` workers into `log`: one sender per worker, in the order of their numbers. Returns after
/// the router has acknowledged the reader's subscription, since what is sent before that would vanish.
///
/// Workers are woken through their slot in `slots` when chunks were appended or when they must poll their sender.
pub fn start(
    config: &BusConfig,
    workers: u16,
    log: Box<dyn LogWriter>,
    slots: &Reports,
    fatal: FatalFlag,
) -> Result<(Vec<BusSender>, BusHandle), BusError> {
    start_with(config, workers, log, slots, fatal, |_, link| Box::new(link))
}

/// As [`start`]; `wire` may put something between a sender and its link.
fn start_with(
    config: &BusConfig,
    workers: u16,
    log: Box<dyn LogWriter>,
    slots: &Reports,
    fatal: FatalFlag,
    mut wire: impl FnMut(u16, PublisherLink) -> Box<dyn Wire>,
) -> Result<(Vec<BusSender>, BusHandle), BusError> {
    let instance = Instance::new(START_TIMEOUT);
    let mut worker_slots = Vec::new();
    for worker in 0..workers {
        worker_slots.push(slots.slot(worker).ok_or(BusError::NoSlot(worker))?);
    }
    let shared = Arc::new(Shared::new(config, worker_slots, fatal));
    let link = instance.subscriber()?;
    let control = instance.publisher("control")?;
    let mut senders = Vec::new();
    for worker in 0..workers {
        let link = instance.publisher(&format!("worker-{worker}"))?;
        senders.push(BusSender::new(worker, wire(worker, link), Arc::clone(&shared)));
    }
    let reader = Reader::new(link, log, Arc::clone(&shared));
    let (done, ended) = sync_channel(1);
    thread::Builder::new()
        .name("bus-reader".to_owned())
        .spawn(move || {
            reader.run();
            // The handle may be gone: then nobody waits.
            let _ = done.try_send(());
        })?;
    let handle = BusHandle {
        shared,
        control,
        ended,
    };
    Ok((senders, handle))
}

/// The running bus, for whoever stops it.
#[must_use = "the bus runs until it is stopped"]
pub struct BusHandle {
    shared: Arc<Shared>,
    /// Wakes the reader when it is to stop.
    control: PublisherLink,
    ended: Receiver<()>,
}

impl BusHandle {
    /// How the bus stands, from any thread and also after the stop.
    pub fn monitor(&self) -> BusMonitor {
        BusMonitor::new(Arc::clone(&self.shared))
    }

    /// Ends the reader once all that is in flight stands in the log, at the latest at `deadline`, and closes the log.
    /// Senders say [`SendError::Dead`] from then on. The workers must have sent their last chunk; as long as they poll
    /// their senders, lost chunks are still sent again. Returns whether everything in flight was appended.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.shared.stop_at(deadline);
        // An empty payload is no chunk: the reader wakes and looks whether it is to stop. Should it not get through, the
        // reader looks by itself within a second.
        let _ = self.control.offer(&Bytes::new());
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = self.ended.recv_timeout(left + reader::TICK * 2).is_ok();
        self.control.leave();
        ended && self.shared.window.is_empty() && !self.shared.is_dead()
    }
}
