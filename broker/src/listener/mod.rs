//! The listeners: bind, accept, take a permit, deal the sockets out to the workers. No byte is read here.

mod tcp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::config::ListenerConfig;
use crate::connection::Accepted;
use crate::worker::Mailbox;

/// Wait after an accept that failed for want of something that others must give back first.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Why a listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}`: can't listen on {bind}: {source}")]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// The address asked for.
    pub bind: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Sockets that listen but are not accepted from yet.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<(ListenerConfig, std::net::TcpListener)>,
}

/// The accept loops, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Listeners {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Bound {
    /// Binds every listener; none is accepted from before [`Bound::serve`].
    pub fn open(listeners: &[ListenerConfig]) -> Result<Self, BindError> {
        let sockets = listeners
            .iter()
            .map(|config| {
                let alone_on_port = !listeners.iter().any(|other| {
                    other.bind.is_ipv4() && other.bind.port() == config.bind.port() && config.bind.port() != 0
                });
                match tcp::bind(config.bind, alone_on_port) {
                    Ok(socket) => Ok((config.clone(), socket)),
                    Err(source) => Err(BindError {
                        name: config.name.clone(),
                        bind: config.bind,
                        source,
                    }),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// Name and address of each listener, with the port that the system gave for port 0.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.sockets
            .iter()
            .map(|(config, socket)| (config.name.clone(), socket.local_addr().unwrap_or(config.bind)))
            .collect()
    }

    /// Starts to accept; sockets go round the `mailboxes`, at most as many at a time as there are `permits`.
    pub fn serve(self, mailboxes: Arc<[Arc<Mailbox>]>, permits: Arc<Semaphore>) -> io::Result<Listeners> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let deal = Arc::new(Deal {
            mailboxes,
            permits,
            next: AtomicU64::new(0),
            accepted: counter!(crate::metrics::CONNECTIONS_ACCEPTED),
            refused: counter!(crate::metrics::CONNECTIONS_REFUSED),
        });
        let thread = std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let mut loops = tokio::task::JoinSet::new();
                    for (index, (config, socket)) in self.sockets.into_iter().enumerate() {
                        loops.spawn(accept(index, config, socket, deal.clone(), stopped.clone()));
                    }
                    while loops.join_next().await.is_some() {}
                });
            })?;
        Ok(Listeners { stop, thread })
    }
}

impl Listeners {
    /// Closes the listening sockets and waits for the accept loops to end.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

/// What the accept loops share.
struct Deal {
    mailboxes: Arc<[Arc<Mailbox>]>,
    permits: Arc<Semaphore>,
    next: AtomicU64,
    accepted: Counter,
    refused: Counter,
}

async fn accept(
    index: usize,
    config: ListenerConfig,
    socket: std::net::TcpListener,
    deal: Arc<Deal>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = config.name, %error, "can't accept on this listener");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => deal.out(index, &config, stream, peer),
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(listener = config.name, %error, "accept failed, trying again shortly");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// Faults of one connection attempt, not of the listener.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl Deal {
    /// Hands one socket to the next worker, or closes it when there are too many.
    fn out(&self, listener: usize, config: &ListenerConfig, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.refused.increment(1);
            tracing::debug!(listener = config.name, %peer, "refused: limits.max_connections are open");
            return;
        };
        let stream = match tcp::tune(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(listener = config.name, %peer, %error, "gone before it was served");
                return;
            }
        };
        self.accepted.increment(1);
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len().max(1) as u64;
        if let Some(mailbox) = self.mailboxes.get(turn as usize) {
            mailbox.put_socket(Box::new(Accepted {
                stream,
                peer,
                listener,
                permit,
                read: Vec::new(),
                deadline_ms: None,
            }));
        }
    }
}
