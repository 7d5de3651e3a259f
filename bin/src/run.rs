//! `forebay run`: from a checked configuration to a running node, and to its end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_broker::config::{Bind, TransportConfig};
use forebay_broker::fatal::Fatal;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Probes, Readiness, Ready};
use crate::config::{LogFormat, Settings};
use crate::node::Node;
use crate::reload::Reload;
use crate::{exit, files, logging};

/// Time for a stop in order: below the 30 seconds after which Kubernetes kills.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Runs until a signal says stop or a part dies; gives the exit code. `read` reads the configuration again.
pub fn run(mut settings: Settings, read: impl Fn() -> anyhow::Result<Settings>) -> anyhow::Result<u8> {
    let reload = Reload::new(&settings, read);
    logging::start(&settings.log)?;
    for notice in &settings.notices {
        tracing::warn!("{notice}");
    }
    settings.broker.limits.max_connections = files::raise(settings.broker.limits.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let started: Arc<OnceLock<Probes>> = Arc::default();
    let metrics = admin::record()?;
    forebay_broker::metrics::describe();
    let admin = match settings.admin {
        Some(address) => {
            let bound = admin::bind(address)?;
            let address = bound.address();
            bound.serve(metrics, starting_until_set(&started))?;
            Some(address)
        }
        None => None,
    };
    // The signals are listened for before anything is started, so that none is missed.
    let signals = runtime.block_on(async { Signals::new() })?;
    let node = Node::start(&settings)?;
    let probes = Probes {
        ready: Arc::new(node.readiness()),
        accepts: Arc::new(node.acceptance()),
    };
    let _ = started.set(probes);
    announce(&settings, node.addresses(), admin);
    runtime.block_on(until_the_end(signals, node, reload))
}

/// Says "starting" until there is a node to ask.
fn starting_until_set(started: &Arc<OnceLock<Probes>>) -> Probes {
    let ask = |of: fn(&Probes) -> &Ready| -> Ready {
        let started = started.clone();
        Arc::new(move || match started.get() {
            Some(probes) => of(probes)(),
            None => Readiness::no("starting"),
        })
    };
    Probes {
        ready: ask(|probes| &probes.ready),
        accepts: ask(|probes| &probes.accepts),
    }
}

/// Says where it can be reached: a few lines on standard output for people, one in the log for machines.
fn announce(settings: &Settings, listeners: &[(String, Bind)], admin: Option<SocketAddr>) {
    let kafka = settings.kafka.as_ref().map_or("none, a plain broker", |kafka| {
        ["bootstrap.servers", "metadata.broker.list"]
            .iter()
            .find_map(|name| kafka.properties.get(*name))
            .map_or("", String::as_str)
    });
    let node = &settings.broker.node_id;
    tracing::info!(
        node,
        version = env!("CARGO_PKG_VERSION"),
        kafka,
        ?listeners,
        ?admin,
        "started"
    );
    if settings.log.format == LogFormat::Json {
        return;
    }
    let mut text = format!(
        "forebay {} is running as node {node}\n",
        env!("CARGO_PKG_VERSION")
    );
    for ((name, address), config) in listeners.iter().zip(&settings.broker.listeners) {
        let named = if *name == config.bind.to_string() {
            String::new()
        } else {
            format!(" ({name})")
        };
        let how = match &config.transport {
            TransportConfig::Tcp => String::new(),
            TransportConfig::WebSocket(websocket) => format!(" WebSocket at {}", websocket.path),
        };
        let tls = if config.tls.is_some() { " TLS" } else { "" };
        text.push_str(&format!("  mqtt   {address}{tls}{how}{named}\n"));
    }
    text.push_str(&format!("  kafka  {kafka}\n"));
    if let Some(address) = admin {
        text.push_str(&format!(
            "  admin  http://{address} (/metrics /livez /readyz /acceptz)\n"
        ));
    }
    // Whoever started it may have closed its output: that is no reason not to run.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the word to stop; at SIGHUP it calls `reload`.
    async fn stop(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

async fn until_the_end<R>(mut signals: Signals, node: Node, reload: Reload<R>) -> anyhow::Result<u8>
where
    R: Fn() -> anyhow::Result<Settings>,
{
    let fatal = node.fatal();
    tokio::select! {
        fault = fatal.raised() => return Ok(died(&fault)),
        signal = signals.stop(|| reload.run(node.auth(), &node.reload_tls())) => tracing::info!(signal, "stopping"),
    }
    let (done, stopped) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || {
            let _ = done.send(node.stop(STOP_DEADLINE));
        })?;
    tokio::select! {
        fault = fatal.raised() => Ok(died(&fault)),
        _ = signals.stop(|| ()) => {
            tracing::warn!("told to stop again: ending at once");
            Ok(exit::FAILED)
        }
        complete = stopped => {
            tracing::info!(complete = complete.unwrap_or(false), "stopped");
            Ok(exit::OK)
        }
    }
}

/// The exit code of a part's death. The flag has logged the fault.
fn died(fault: &Fatal) -> u8 {
    let code = exit::of_fatal(fault);
    tracing::error!(
        code,
        "ending, to be started again: nothing was acknowledged that is not safe"
    );
    code
}
