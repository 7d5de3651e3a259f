//! One node: the broker, and the sink where there is a Kafka. Started and stopped in order, by `run` and by `demo`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_broker::auth::FileAuth;
use forebay_broker::classify::{Classify, NoRoutes};
use forebay_broker::config::Bind;
use forebay_broker::fatal::FatalFlag;
use forebay_broker::spool::Log;
use forebay_broker::tls::TlsFault;
use forebay_broker::{Broker, StartError};
use forebay_sink::{Sink, SinkHandle, Wiring};

use crate::admin::Readiness;
use crate::config::{Fault, Place, Refused, Settings};
use crate::exit::{self, Coded};

/// What the sink gets at a stop: time for what is on its way to Kafka, and to save how far it is.
const SINK_MOST: Duration = Duration::from_secs(5);

/// Threads that check passwords, at most: a storm of connects must leave the workers their cores.
const PASSWORD_THREADS: usize = 4;

/// A running node.
pub struct Node {
    auth: Arc<FileAuth>,
    broker: Broker,
    sink: Option<SinkHandle>,
}

impl Node {
    /// Starts broker and sink; then the listeners accept.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let routes = match &settings.kafka {
            Some(config) => Some(forebay_sink::compile(config).map_err(refused)?),
            None => None,
        };
        let classify: Arc<dyn Classify> = match &routes {
            Some(routes) => routes.clone(),
            None => Arc::new(NoRoutes),
        };
        let auth = Arc::new(FileAuth::load(&settings.broker, threads_for_passwords())?);
        let mut broker = Broker::start(settings.broker.clone(), classify, auth.clone()).map_err(hinted)?;
        let sink = match (&settings.kafka, routes) {
            (Some(config), Some(routes)) => {
                let log = broker.log().clone();
                let wiring = Wiring {
                    node_id: settings.broker.node_id.clone(),
                    epoch: broker.epoch(),
                    reader: broker.log_reader("kafka").context("the log can't be read")?,
                    reports: broker.reports(),
                    delivered: Some(broker.delivered()),
                    end: Some(Box::new(move || log.status().durable_sequence)),
                    durable: matches!(broker.log(), Log::Disk(_)),
                    fatal: broker.fatal(),
                };
                let sink = Sink::start(config.clone(), routes, wiring);
                Some(sink.context("the way into Kafka can't be started")?)
            }
            _ => None,
        };
        broker.open().context("the listeners can't accept")?;
        Ok(Self { auth, broker, sink })
    }

    /// Name and address of each listener, with the port that was found for port 0.
    pub fn addresses(&self) -> &[(String, Bind)] {
        self.broker.addresses()
    }

    /// Who may connect and what they may do.
    pub fn auth(&self) -> &FileAuth {
        &self.auth
    }

    /// Reads the files of TLS again. What is wrong with them is returned; their listeners go on with what they have.
    pub fn reload_tls(&self) -> Vec<TlsFault> {
        self.broker.reload_tls()
    }

    /// What ends the process when it is raised.
    pub fn fatal(&self) -> FatalFlag {
        self.broker.fatal()
    }

    /// What `/readyz` asks.
    pub fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let fatal = self.broker.fatal();
        let sink = self.sink.clone();
        move || readiness(&fatal, sink.as_ref())
    }

    /// What `/acceptz` asks: whether publishes are taken, wherever Kafka is.
    pub fn acceptance(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let fatal = self.broker.fatal();
        let pressure = self.broker.log().pressure();
        move || match fatal.get() {
            Some(fault) => Readiness::no(fault.to_string()),
            None if pressure.is_full() => Readiness::no("the spool is full: publishers are held back"),
            None => Readiness::yes("publishes are taken"),
        }
    }

    /// Stops in order, in `deadline` at most: no new clients and no more reading, what was accepted is decided and
    /// acknowledged, clients are told, what is on its way to Kafka gets there. What waits in the spool stays there for
    /// the next start. Returns whether every publish was decided.
    pub fn stop(self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let stopped = self.broker.stop(deadline.saturating_sub(SINK_MOST));
        if stopped.undecided > 0 {
            tracing::warn!(
                publishes = stopped.undecided,
                "stopped before they were decided: they were not acknowledged, and their clients will send them again"
            );
        }
        let stop = |sink: &SinkHandle| sink.stop(until.min(Instant::now() + SINK_MOST));
        let ended = self.sink.as_ref().map(stop);
        if let Some(why) = self.sink.as_ref().and_then(|sink| sink.status().unsaved) {
            tracing::warn!(why, "the next start sends some of what Kafka has once more");
        }
        match ended {
            None | Some(Ok(0)) => {}
            Some(Ok(records)) => {
                tracing::info!(
                    records,
                    "not in Kafka yet: they wait in the spool for the next start"
                );
            }
            Some(Err(error)) => tracing::warn!(error, "the way into Kafka did not end in order"),
        }
        stopped.undecided == 0
    }
}

fn threads_for_passwords() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2).min(PASSWORD_THREADS))
}

fn readiness(fatal: &FatalFlag, sink: Option<&SinkHandle>) -> Readiness {
    if let Some(fault) = fatal.get() {
        return Readiness::no(fault.to_string());
    }
    match sink.map(SinkHandle::status) {
        None => Readiness::yes("ready: a plain broker, without Kafka"),
        Some(status) if status.ready => Readiness::yes("ready"),
        Some(status) => Readiness::no(status.reason),
    }
}

/// What the check of the configuration did not find but the compiler of the routes did.
pub fn refused(faults: Vec<forebay_sink::Fault>) -> Refused {
    let fault = |fault: forebay_sink::Fault| Fault {
        place: Place::Whole,
        text: format!("`{}`: {}", fault.key, fault.text),
        hint: fault.hint,
    };
    Refused {
        file: "the configuration".to_owned(),
        faults: faults.into_iter().map(fault).collect(),
    }
}

fn hinted(error: StartError) -> Coded {
    let (hint, code) = match &error {
        StartError::Bind(_) => (
            "\n    hint: end what uses the address, or set another one in [[listener]] bind",
            exit::FAILED,
        ),
        StartError::Spool(_) | StartError::Store(_) => {
            ("\n    hint: node.data_dir says where it is", exit::IO)
        }
        _ => ("", exit::FAILED),
    };
    Coded {
        text: format!("the broker can't be started: {error}{hint}"),
        code,
    }
}
