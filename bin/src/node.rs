//! One node: the broker, and the sink where there is a Kafka. Started and stopped in order, by `run` and by `demo`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_broker::auth::ListenerRules;
use forebay_broker::classify::{Classify, NoRoutes};
use forebay_broker::fatal::FatalFlag;
use forebay_broker::spool::Log;
use forebay_broker::{Broker, StartError};
use forebay_sink::{Sink, SinkHandle, Wiring};

use crate::admin::Readiness;
use crate::config::{Fault, Place, Refused, Settings};

/// The least that is left for the sink when a stop's deadline is near: time to hand in what Kafka has reported.
const SINK_LEAST: Duration = Duration::from_secs(2);

/// A running node.
pub struct Node {
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
        let mut broker =
            Broker::start(settings.broker.clone(), classify, Arc::new(ListenerRules)).map_err(hinted)?;
        let sink = match (&settings.kafka, routes) {
            (Some(config), Some(routes)) => {
                let log = broker.log().clone();
                let wiring = Wiring {
                    node_id: settings.broker.node_id.clone(),
                    epoch: broker.epoch(),
                    reader: broker.log_reader("kafka").context("the log can't be read")?,
                    reports: broker.reports(),
                    delivered: None,
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
        Ok(Self { broker, sink })
    }

    /// Name and address of each listener, with the port that was found for port 0.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        self.broker.addresses()
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

    /// Stops in order, in `deadline` at most: no new clients and no more reading, what was accepted is delivered and
    /// acknowledged, clients are told, the producer is flushed. Returns whether all of it was done.
    pub fn stop(self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let stopped = self.broker.stop(deadline.saturating_sub(SINK_LEAST));
        if stopped.undecided > 0 {
            tracing::warn!(
                publishes = stopped.undecided,
                "stopped before they were decided: they were not acknowledged, and their clients will send them again"
            );
        }
        let undelivered = match self
            .sink
            .map(|sink| sink.stop(until.max(Instant::now() + SINK_LEAST)))
        {
            None | Some(Ok(0)) => return stopped.undecided == 0,
            Some(Ok(records)) => format!("{records} records that Kafka did not take in time"),
            Some(Err(error)) => error,
        };
        tracing::warn!(undelivered, "stopped before all of the log was in Kafka");
        false
    }
}

fn readiness(fatal: &FatalFlag, sink: Option<&SinkHandle>) -> Readiness {
    if let Some(fault) = fatal.get() {
        return Readiness {
            ready: false,
            reason: format!("not ready: {fault}"),
        };
    }
    match sink.map(SinkHandle::status) {
        None => Readiness {
            ready: true,
            reason: "ready: a plain broker, without Kafka".to_owned(),
        },
        Some(status) => Readiness {
            ready: status.ready,
            reason: if status.ready {
                "ready".to_owned()
            } else {
                format!("not ready: {}", status.reason)
            },
        },
    }
}

/// What the check of the configuration did not find but the compiler of the routes did.
fn refused(faults: Vec<forebay_sink::Fault>) -> Refused {
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

fn hinted(error: StartError) -> anyhow::Error {
    let hint = match &error {
        StartError::Bind(_) => {
            "\n    hint: end what uses the address, or set another one in [[listener]] bind"
        }
        _ => "",
    };
    anyhow::anyhow!("the broker can't be started: {error}{hint}")
}
