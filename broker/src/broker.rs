//! A whole broker in this process: start it, read its log, stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::auth::Authenticator;
use crate::bus::{self, BusError, BusHandle, BusMonitor, BusSender, Reports};
use crate::classify::Classify;
use crate::config::{Bind, Config, ListenerConfig, LogConfig};
use crate::fatal::FatalFlag;
use crate::hub::Hub;
use crate::listener::tls::{Keys, TlsFault};
use crate::listener::{BindError, Bound, Listeners, Places};
use crate::spool::fs::RealFs;
use crate::spool::{self, Log, LogError, LogReader, LogStatus, LogWriter, OpenError, memory};
use crate::store::{self, KeptSession, Restored, StoreError, StoreHandle, StoreStatus};
use crate::sys::Sys;
use crate::worker::{self, Mailbox, Parts, Shared, Stage};

/// How often a stop looks whether all is decided.
const STOP_POLL: Duration = Duration::from_millis(5);

/// Time for connections to say good-bye and for threads to end, after what was accepted is decided.
const GOOD_BYE: Duration = Duration::from_millis(200);

/// Time in which the workers take in the sessions that were kept.
const RESTORE_WITHIN: Duration = Duration::from_secs(60);

/// The store's file, beside the folder of the spool.
const STORE_FILE: &str = "store.redb";

/// Why a broker can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't work; every fault is named.
    #[error("the configuration can't work: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A listener's address can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The files of a listener's TLS are not as they must be.
    #[error("{}", .0.iter().map(TlsFault::to_string).collect::<Vec<_>>().join("; "))]
    Tls(Vec<TlsFault>),
    /// The spool can't be opened.
    #[error("the spool can't be opened: {0}")]
    Spool(#[from] OpenError),
    /// The bus did not start.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store of kept sessions can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running broker. Dropping it without [`Broker::stop`] leaves its threads behind.
pub struct Broker {
    shared: Arc<Shared>,
    addresses: Vec<(String, Bind)>,
    bound: Option<Bound>,
    listeners: Option<Listeners>,
    places: Arc<Places>,
    workers: Vec<JoinHandle<()>>,
    bus: BusHandle,
    sys: Option<Sys>,
    store: Option<StoreHandle>,
    log: Log,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Accepted publishes that were not decided within the deadline; none of them was acknowledged at its level.
    pub undecided: usize,
}

impl Broker {
    /// Binds the listeners and starts bus and workers. Nothing is accepted before [`Broker::open`]: take the log's
    /// readers first.
    pub fn start(
        config: Config,
        classify: Arc<dyn Classify>,
        auth: Arc<dyn Authenticator>,
    ) -> Result<Self, StartError> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(StartError::Config(faults));
        }
        let tls = load_tls(&config)?;
        let bound = Bound::open(&config.listeners)?;
        let workers = config.workers as u16;
        let fatal = FatalFlag::default();
        let reports = Reports::new(config.workers);
        let (writer, log) = open_log(&config.log)?;
        let epoch = log.epoch();
        let (restored, store) = open_store(&config, &log, &fatal)?;
        let (senders, bus) = bus::start(&config.bus, workers, writer, &reports, fatal.clone())?;
        let mailboxes: Arc<[Arc<Mailbox>]> = (0..workers)
            .filter_map(|id| reports.slot(id))
            .map(|slot| Arc::new(Mailbox::new(slot)))
            .collect();
        let hub = Hub::new(&config.limits, first_generation(epoch));
        let lost = hub.restore_retained(restored.retained);
        if lost > 0 {
            tracing::warn!(
                lost,
                "retained messages are above limits.max_retained_messages or max_retained_bytes"
            );
        }
        let places = Places::new(config.limits.max_connections);
        let shared = Arc::new(Shared::new(Parts {
            config,
            classify,
            auth,
            hub,
            mailboxes,
            reports,
            fatal,
            epoch,
            store: store.as_ref().map(StoreHandle::events),
            pressure: log.pressure(),
            tls,
        }));
        let dealt = shared.deal(restored.sessions, restored.groups);
        let workers = start_workers(&shared, senders, dealt)?;
        let sys = match shared.config.sys_interval_s {
            0 => None,
            seconds => Some(Sys::spawn(shared.clone(), Duration::from_secs(seconds.into()))?),
        };
        Ok(Self {
            addresses: bound.addresses(),
            bound: Some(bound),
            listeners: None,
            places,
            shared,
            workers,
            bus,
            sys,
            store,
            log,
        })
    }

    /// Starts to accept clients. Called again it does nothing.
    pub fn open(&mut self) -> std::io::Result<()> {
        if let Some(bound) = self.bound.take() {
            if Arc::strong_count(&self.shared.delivered) == 1 {
                self.shared.delivered.store(u64::MAX, Ordering::Release); // no sink will say so
            }
            self.listeners = Some(bound.serve(self.shared.clone(), self.places.clone())?);
        }
        Ok(())
    }

    /// Reads the files of TLS again. Where one is faulty its listener goes on with all that it had; what is wrong is
    /// returned. Connections that stand stay as they are.
    pub fn reload_tls(&self) -> Vec<TlsFault> {
        let keys = self.shared.tls.iter().flatten();
        keys.filter_map(|keys| keys.reload().err()).flatten().collect()
    }

    /// Name and address of each listener, with the port that was found for port 0.
    pub fn addresses(&self) -> &[(String, Bind)] {
        &self.addresses
    }

    /// The reader of the log for the consumer `name`, where its last run stood; without one at the oldest chunk. What it
    /// has not committed is kept for it.
    pub fn log_reader(&self, name: &str) -> Result<Box<dyn LogReader>, LogError> {
        self.log.reader(name)
    }

    /// The node's log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How much the log holds.
    pub fn log_status(&self) -> LogStatus {
        self.log.status()
    }

    /// How the store of kept sessions stands; `None` without one, as with a log in memory.
    pub fn store_status(&self) -> Option<StoreStatus> {
        self.store.as_ref().map(StoreHandle::status)
    }

    /// How the bus stands; also good after the stop.
    pub fn bus(&self) -> BusMonitor {
        self.bus.monitor()
    }

    /// The way back to the workers, for the log's reader.
    pub fn reports(&self) -> Reports {
        self.shared.reports.clone()
    }

    /// Where the sink says how far it is: all below this sequence of the log is done for it. What was published
    /// at level `kafka` and QoS 2 before a restart is acknowledged by that; at once when nobody has asked for this
    /// before [`Broker::open`].
    pub fn delivered(&self) -> Arc<AtomicU64> {
        self.shared.delivered.clone()
    }

    /// What ends the process when it is raised.
    pub fn fatal(&self) -> FatalFlag {
        self.shared.fatal.clone()
    }

    /// The epoch of this start: the middle part of every record's position.
    pub fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    /// Stops in order: no new clients, no more reading; what was accepted is decided and acknowledged, for at most
    /// `deadline`; connections are told and closed. Blocks. The log's readers go on until they have read its end.
    pub fn stop(self, deadline: Duration) -> Stopped {
        let until = Instant::now() + deadline;
        if let Some(listeners) = self.listeners {
            listeners.stop();
        }
        if let Some(sys) = self.sys {
            sys.stop();
        }
        self.shared.enter(Stage::Quiet);
        std::thread::sleep(STOP_POLL); // a turn of every worker, after which `unsettled` counts all that was read
        while self.shared.unsettled() > 0 && Instant::now() < until && self.shared.fatal.get().is_none() {
            self.shared.enter(Stage::Quiet);
            std::thread::sleep(STOP_POLL);
        }
        self.shared.enter(Stage::Closing);
        std::thread::sleep(GOOD_BYE);
        while self.shared.unsettled() > 0 && Instant::now() < until && self.shared.fatal.get().is_none() {
            self.shared.enter(Stage::Closing);
            std::thread::sleep(STOP_POLL);
        }
        let undecided = self.shared.unsettled(); // the wills of those that were told to go included
        let appended = self.bus.stop(Instant::now() + GOOD_BYE);
        if !appended {
            tracing::warn!("the log did not take everything that was on the bus before the deadline");
        }
        self.shared.enter(Stage::Ended);
        for worker in self.workers {
            let _ = worker.join();
        }
        let stored = self
            .store
            .is_none_or(|store| store.stop(until.max(Instant::now() + GOOD_BYE)));
        if !stored {
            tracing::warn!(
                "the store did not read the log to its end before the deadline: the next start does"
            );
        }
        Stopped { undecided }
    }
}

/// Starts the workers and waits until each has taken in the sessions that were kept for it.
fn start_workers(
    shared: &Arc<Shared>,
    senders: Vec<BusSender>,
    dealt: Vec<Vec<KeptSession>>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let workers = senders
        .into_iter()
        .zip(dealt)
        .enumerate()
        .map(|(id, (sender, kept))| worker::spawn(id as u16, shared.clone(), sender, kept))
        .collect::<Result<Vec<_>, _>>()?;
    let until = Instant::now() + RESTORE_WITHIN;
    while shared.ready() < workers.len() {
        if shared.fatal.get().is_some() || Instant::now() > until {
            return Err(std::io::Error::other(
                "the workers did not take in the kept sessions",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(workers)
}

/// Reads the files of each listener that has TLS.
fn load_tls(config: &Config) -> Result<Box<[Option<Keys>]>, StartError> {
    let mut faults = Vec::new();
    let load = |listener: &ListenerConfig| {
        let loaded = Keys::load(&listener.name, listener.tls.as_ref()?);
        loaded.map_err(|found| faults.extend(found)).ok()
    };
    let keys = config.listeners.iter().map(load).collect();
    match faults.is_empty() {
        true => Ok(keys),
        false => Err(StartError::Tls(faults)),
    }
}

/// Where the generations of the subscriptions begin: above those of earlier starts, of which each had fewer than a
/// million changes for each millisecond that it ran.
fn first_generation(epoch: u64) -> u64 {
    epoch << 20
}

/// The log's writing end and the log from outside.
fn open_log(config: &LogConfig) -> Result<(Box<dyn LogWriter>, Log), StartError> {
    match config {
        LogConfig::Memory { max_bytes } => {
            let (writer, log) = memory::open(epoch(), *max_bytes);
            Ok((Box::new(writer), Log::Memory(log)))
        }
        LogConfig::Disk(config) => {
            let (writer, spool, _) = spool::open(config, 0, Arc::new(RealFs))?;
            Ok((Box::new(writer), Log::Disk(spool)))
        }
    }
}

/// What was kept, and the store that goes on from there: beside the spool, so a log in memory has none.
fn open_store(
    config: &Config,
    log: &Log,
    fatal: &FatalFlag,
) -> Result<(Restored, Option<StoreHandle>), StartError> {
    let LogConfig::Disk(spool) = &config.log else {
        return Ok((Restored::default(), None));
    };
    let path = spool.dir.with_file_name(STORE_FILE);
    let (restored, builder) = store::open(&path, &config.limits_of_store(), log, epoch())?;
    Ok((restored, Some(builder.spawn(fatal.clone())?)))
}

/// Milliseconds since 1970: rises from start to start as long as the clock does.
fn epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_millis() as u64)
}
