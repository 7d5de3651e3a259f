//! Metrics and health over HTTP (/metrics /livez /readyz /acceptz), on a thread of its own so that it answers when the workers are busy.

mod process;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use forebay_broker::metrics::{SPOOL_GROUP_BYTES as GROUP_BYTES, SPOOL_GROUP_CHUNKS as GROUP_CHUNKS};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How often the recorder folds its histograms: between two scrapes memory must not grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets of every latency histogram, in seconds: from what a bus costs to what an outage costs.
const BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Buckets of the bytes that one sync makes durable.
const BYTES_BUCKETS: [f64; 7] = [4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6];

/// Buckets of the chunks that one sync makes durable.
const CHUNKS_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Whether this node can do its work, and what it says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// Why, one line for each part.
    pub reason: String,
}

impl Readiness {
    /// It can.
    pub fn yes(reason: impl Into<String>) -> Self {
        Self {
            ready: true,
            reason: reason.into(),
        }
    }

    /// It can't.
    pub fn no(reason: impl std::fmt::Display) -> Self {
        Self {
            ready: false,
            reason: format!("not ready: {reason}"),
        }
    }
}

/// Says whether the node is ready, each time it is asked. Must not block.
pub type Ready = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// What the pages about the node's state ask.
#[derive(Clone)]
pub struct Probes {
    /// `/readyz`: all of it works, the way into Kafka too.
    pub ready: Ready,
    /// `/acceptz`: clients can connect, and what they publish is taken.
    pub accepts: Ready,
}

/// Makes the recorder that all metrics go to. Once in a process, before the broker starts.
pub fn record() -> anyhow::Result<PrometheusHandle> {
    let full = |name: &str| Matcher::Full(name.to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(full(GROUP_BYTES), &BYTES_BUCKETS))
        .and_then(|builder| builder.set_buckets_for_metric(full(GROUP_CHUNKS), &CHUNKS_BUCKETS))
        .context("the histogram buckets were refused")?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("there is a recorder of metrics already")?;
    metrics::describe_gauge!("forebay_build_info", "Always 1; the version is in the label");
    metrics::gauge!("forebay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Binds `bind`; [`Bound::serve`] answers there.
pub fn bind(bind: SocketAddr) -> anyhow::Result<Bound> {
    let listener = TcpListener::bind(bind).with_context(|| {
        format!("the admin address {bind} can't be had\n    hint: set another one in [admin] bind, or end what uses it")
    })?;
    listener.set_nonblocking(true)?;
    Ok(Bound {
        address: listener.local_addr()?,
        listener,
    })
}

/// An admin address that is bound.
pub struct Bound {
    address: SocketAddr,
    listener: TcpListener,
}

impl Bound {
    /// Where it is bound, with the port that was found for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers on a thread of its own until the process ends.
    pub fn serve(self, handle: PrometheusHandle, probes: Probes) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let app = routes(handle.clone(), probes);
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(upkeep(handle));
                let served = match tokio::net::TcpListener::from_std(self.listener) {
                    Ok(listener) => axum::serve(listener, app).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    tracing::error!(%error, "the admin address no longer answers");
                }
            });
        };
        std::thread::Builder::new().name("admin".to_owned()).spawn(work)?;
        Ok(())
    }
}

async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[derive(Clone)]
struct Shared {
    handle: PrometheusHandle,
    probes: Probes,
}

fn routes(handle: PrometheusHandle, probes: Probes) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(|shared: State<Shared>| async move { answer(&shared.probes.ready) }),
        )
        .route(
            "/acceptz",
            get(|shared: State<Shared>| async move { answer(&shared.probes.accepts) }),
        )
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "not here; there are /metrics /livez /readyz /acceptz\n",
            )
        })
        .with_state(Shared { handle, probes })
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = shared.handle.render();
    process::render(&mut text);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}

fn answer(ready: &Ready) -> impl IntoResponse + use<> {
    let Readiness { ready, reason } = ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, format!("{reason}\n"))
}
