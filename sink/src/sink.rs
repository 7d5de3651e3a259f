//! The sink from outside: it is started with its configuration and a reader of the log, watched, and stopped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use forebay_broker::bus::Reports;
use forebay_broker::fatal::{Fatal, FatalFlag};
use forebay_broker::spool::LogReader;

use crate::config::SinkConfig;
use crate::producer::KafkaProducers;
use crate::producer::topics::Keeper;
use crate::properties;
use crate::pump::{Parts, Pump};
use crate::route::Routes;
use crate::status::Shared;
pub use crate::status::SinkStatus;

/// What a stop waits for beyond its deadline: the turn in progress and the producer's own end.
const GRACE: Duration = Duration::from_secs(2);

/// The sink.
#[derive(Debug)]
pub struct Sink;

/// Why the sink can't start. Kafka being away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system gives no thread.
    #[error("the sink can't start: {0}")]
    Thread(String),
    /// The folder of refused records can't be made.
    #[error(
        "the quarantine {folder} can't be made: {error}: set node.data_dir to a folder that can be written to"
    )]
    Quarantine {
        /// The folder.
        folder: String,
        /// What the system says.
        error: String,
    },
}

/// What joins the sink to the node.
pub struct Wiring {
    /// First part of every record's position.
    pub node_id: String,
    /// Epoch of this run: the records of earlier ones have nobody who waits for a report.
    pub epoch: u64,
    /// The sink's own reader of the log; to be made before the first chunk is appended.
    pub reader: Box<dyn LogReader>,
    /// The way back to the workers.
    pub reports: Reports,
    /// Where the sequence goes below which Kafka has all, or has refused it; only rises.
    pub delivered: Option<Arc<AtomicU64>>,
    /// Says where the log ends, for the backlog in the metrics.
    pub end: Option<Box<dyn Fn() -> u64 + Send>>,
    /// Whether the log outlives the process: then a stop does not wait for a Kafka that takes nothing.
    pub durable: bool,
    /// Raised when the sink breaks.
    pub fatal: FatalFlag,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wiring = f.debug_struct("Wiring");
        wiring.field("node_id", &self.node_id).field("epoch", &self.epoch);
        wiring.finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the sink on its own threads. It goes on where its reader's saved cursor stands.
    pub fn start(config: SinkConfig, routes: Arc<Routes>, wiring: Wiring) -> Result<SinkHandle, StartError> {
        if let Some(folder) = &config.quarantine_dir {
            std::fs::create_dir_all(folder).map_err(|error| StartError::Quarantine {
                folder: folder.display().to_string(),
                error: error.to_string(),
            })?;
        }
        let topics = Keeper::start(&config).map_err(StartError::Thread)?;
        let shared = Arc::new(Shared::new());
        let parts = Parts {
            producers: Box::new(KafkaProducers {
                config: properties::producer(&config),
                apart: properties::producer_apart(&config),
            }),
            config: Arc::new(config),
            routes,
            node_id: wiring.node_id,
            epoch: wiring.epoch,
            reader: wiring.reader,
            reports: wiring.reports,
            delivered: wiring.delivered,
            end: wiring.end,
            durable: wiring.durable,
            topics: Box::new(topics),
            shared: Arc::clone(&shared),
        };
        let ending = End {
            shared: Arc::clone(&shared),
            fatal: wiring.fatal,
            end: None,
        };
        let thread = std::thread::Builder::new().name("forebay-sink".to_owned());
        let run = move || {
            let mut ending = ending;
            ending.end = Some(Pump::new(parts).and_then(Pump::run));
        };
        thread
            .spawn(run)
            .map_err(|error| StartError::Thread(error.to_string()))?;
        Ok(SinkHandle { shared })
    }
}

/// Tells of the thread's end, a panic among them.
struct End {
    shared: Arc<Shared>,
    fatal: FatalFlag,
    end: Option<Result<usize, String>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let end = self
            .end
            .take()
            .unwrap_or_else(|| Err("its thread panicked".to_owned()));
        if let Err(why) = &end {
            self.fatal.raise(Fatal::Sink(why.clone()));
        }
        self.shared.end(end);
    }
}

/// The running sink.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    shared: Arc<Shared>,
}

impl SinkHandle {
    /// How it stands.
    pub fn status(&self) -> SinkStatus {
        self.shared.status()
    }

    /// Delivers what is in the log and ends; blocks until then, or until `deadline`. To be called when nothing is
    /// accepted any more. Returns the number of records that were read and that Kafka does not have.
    pub fn stop(&self, deadline: Instant) -> Result<usize, String> {
        let end = self.shared.stop(deadline, GRACE);
        end.unwrap_or_else(|| Err("the sink did not end in time".to_owned()))
    }
}
