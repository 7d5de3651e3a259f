//! The listeners: bind, accept, take a permit, deal the sockets out to the workers. Of what a socket brings a PROXY
//! header is read here, which says whose connection it is, and a CONNECT that is there already, which says whose worker's.

mod accept;
mod frames;
mod places;
mod proxy;
mod rate;
mod tcp;
pub(crate) mod tls;
pub(crate) mod told;
pub(crate) mod transport;
mod unix;
pub(crate) mod upgrade;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::config::{Bind, ListenerConfig};
use crate::connection::{Accepted, read_ahead};
use crate::worker::Shared;
use accept::Accepting;
pub(crate) use places::{Place, Places};
use rate::Rates;
use transport::Detached;
use unix::SocketFile;

/// Wait after an accept that failed for want of something that others must give back first.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Connections above the bounds that are told of another server at a time; further ones are closed at once.
const IN_FRONT: usize = 64;

/// Why a listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}`: can't listen on {bind}: {source}")]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// The address asked for.
    pub bind: Bind,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Sockets that listen but are not accepted from yet.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<(ListenerConfig, Socket)>,
}

/// One of them.
#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The accept loops, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Listeners {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// What a connection holds for as long as it stands.
#[derive(Debug)]
pub(crate) struct Seat {
    _all: Place,
    _own: Option<Place>,
}

/// What it holds on its way in.
#[derive(Debug)]
pub(crate) struct Permits {
    seat: Seat,
    handshake: Option<OwnedSemaphorePermit>,
    /// It holds a place in front of the door only, to be told of another server.
    is_turned_away: bool,
}

impl Permits {
    /// Its CONNECT is here and answered: another may come that has sent none.
    pub fn shake_hands(&mut self) {
        self.handshake = None;
    }

    /// It is in.
    pub fn into_seat(self) -> Seat {
        self.seat
    }

    /// There are too many: its CONNECT is answered with where another server is.
    pub fn is_turned_away(&self) -> bool {
        self.is_turned_away
    }
}

impl Bound {
    /// Binds every listener; none is accepted from before [`Bound::serve`].
    pub fn open(listeners: &[ListenerConfig]) -> Result<Self, BindError> {
        let sockets = listeners
            .iter()
            .map(|config| match bind(config, listeners) {
                Ok(socket) => Ok((config.clone(), socket)),
                Err(source) => Err(BindError {
                    name: config.name.clone(),
                    bind: config.bind.clone(),
                    source,
                }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// Name and address of each listener, with the port that the system gave for port 0.
    pub fn addresses(&self) -> Vec<(String, Bind)> {
        let address = |config: &ListenerConfig, socket: &Socket| {
            match socket {
                Socket::Tcp(socket) => socket.local_addr().ok().map(Bind::Tcp),
                Socket::Unix(..) => None,
            }
            .unwrap_or_else(|| config.bind.clone())
        };
        self.sockets
            .iter()
            .map(|(config, socket)| (config.name.clone(), address(config, socket)))
            .collect()
    }

    /// Starts to accept; sockets go round the workers' mailboxes, at most as many at a time as there are `places`.
    pub fn serve(self, shared: Arc<Shared>, places: Arc<Places>) -> io::Result<Listeners> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let rates = Rates::new(shared.config.limits.max_connect_rate_per_address, Instant::now());
        let deal = Arc::new(Deal {
            shared,
            places,
            in_front: Places::new(IN_FRONT),
            next: AtomicU64::new(0),
            rates: Mutex::new(rates),
            accepted: counter!(crate::metrics::CONNECTIONS_ACCEPTED),
            refused: counter!(crate::metrics::CONNECTIONS_REFUSED),
        });
        let thread = std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let mut loops = JoinSet::new();
                    for (index, (config, socket)) in self.sockets.into_iter().enumerate() {
                        let door = Door::new(index, config, deal.clone());
                        loops.spawn(door.accept(socket, stopped.clone()));
                    }
                    while loops.join_next().await.is_some() {}
                });
            })?;
        Ok(Listeners { stop, thread })
    }
}

fn bind(config: &ListenerConfig, all: &[ListenerConfig]) -> io::Result<Socket> {
    let address = match &config.bind {
        Bind::Tcp(address) => *address,
        Bind::Unix(path) => {
            return unix::bind(path, config.socket_mode).map(|(socket, file)| Socket::Unix(socket, file));
        }
    };
    let alone_on_port = !all
        .iter()
        .filter_map(|other| other.bind.tcp())
        .any(|other| other.is_ipv4() && other.port() == address.port() && address.port() != 0);
    tcp::bind(address, alone_on_port).map(Socket::Tcp)
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
    shared: Arc<Shared>,
    places: Arc<Places>,
    /// Of those that are told of another server.
    in_front: Arc<Places>,
    next: AtomicU64,
    rates: Mutex<Rates>,
    accepted: Counter,
    refused: Counter,
}

/// One listener while it accepts.
struct Door {
    index: usize,
    config: ListenerConfig,
    deal: Arc<Deal>,
    /// Places of this listener alone, where it has a bound of its own.
    own: Option<Arc<Places>>,
    /// Permits of those that have not sent a whole CONNECT.
    handshakes: Arc<Semaphore>,
    connect_timeout: Duration,
    rates: Rates,
    /// Connections whose PROXY header is on its way. Each holds its permits.
    announced: JoinSet<Option<Guest>>,
}

/// One connection on its way in.
struct Guest {
    stream: Detached,
    peer: SocketAddr,
    permits: Permits,
    deadline: Instant,
    /// What came behind the PROXY header.
    read: Vec<u8>,
}

impl Door {
    fn new(index: usize, config: ListenerConfig, deal: Arc<Deal>) -> Self {
        let bounded = config.max_connections > 0;
        let limits = deal.shared.config.limits_at(index);
        let handshakes = limits.max_handshakes.min(Semaphore::MAX_PERMITS);
        let connect_timeout = Duration::from_secs(limits.connect_timeout_s.into());
        Self {
            index,
            own: bounded.then(|| Places::new(config.max_connections)),
            handshakes: Arc::new(Semaphore::new(handshakes)),
            connect_timeout,
            rates: Rates::new(config.max_connect_rate_per_address, Instant::now()),
            announced: JoinSet::new(),
            config,
            deal,
        }
    }

    async fn accept(mut self, socket: Socket, mut stopped: watch::Receiver<bool>) {
        let socket = match Accepting::new(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(listener = self.config.name, %error, "can't accept on this listener");
                return;
            }
        };
        loop {
            let accepted = tokio::select! {
                accepted = accept(&socket, self.handshakes.clone()) => accepted,
                Some(guest) = self.announced.join_next() => {
                    if let Ok(Some(guest)) = guest {
                        self.let_in(guest);
                    }
                    continue;
                }
                _ = stopped.changed() => return,
            };
            match accepted {
                Ok((stream, peer, handshake)) => {
                    self.deal.shared.counts.sockets.add(1);
                    self.take(stream, peer, handshake);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    // No descriptor left, most likely: one comes free when a client leaves.
                    tracing::warn!(listener = self.config.name, %error, "accept failed, trying again shortly");
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_BACK_OFF) => {}
                        _ = stopped.changed() => return,
                    }
                }
            }
        }
    }

    /// Takes one socket that was accepted, unless there are too many.
    fn take(&mut self, stream: Detached, peer: SocketAddr, handshake: OwnedSemaphorePermit) {
        let Some(permits) = self.permits(handshake) else {
            self.deal.refused.increment(1);
            tracing::debug!(listener = self.config.name, %peer, "refused: max_connections are open");
            return;
        };
        let guest = Guest {
            stream,
            peer,
            permits,
            deadline: Instant::now() + self.connect_timeout,
            read: Vec::new(),
        };
        if self.config.proxy_protocol {
            self.announced.spawn(announce(
                guest,
                self.config.name.clone(),
                self.config.loopback_only,
            ));
        } else {
            self.let_in(guest);
        }
    }

    fn permits(&self, handshake: OwnedSemaphorePermit) -> Option<Permits> {
        let own = self.own.as_ref().map(Places::take);
        if own.as_ref().is_none_or(Option::is_some)
            && let Some(all) = self.deal.places.take()
        {
            return Some(Permits {
                seat: Seat {
                    _all: all,
                    _own: own.flatten(),
                },
                handshake: Some(handshake),
                is_turned_away: false,
            });
        }
        self.deal.shared.config.told.server_reference.as_ref()?;
        let place = self.deal.in_front.take()?;
        Some(Permits {
            seat: Seat {
                _all: place,
                _own: None,
            },
            handshake: Some(handshake),
            is_turned_away: true,
        })
    }

    /// Hands one socket to the worker where it belongs as far as that can be seen, unless its address connects too often.
    fn let_in(&mut self, mut guest: Guest) {
        let peer = guest.peer;
        if !self.rates.take(peer.ip(), Instant::now()) || !self.deal.lets_in(&guest) {
            self.deal.refused.increment(1);
            tracing::debug!(listener = self.config.name, %peer, "refused: more than max_connect_rate_per_address");
            return;
        }
        let home = read_ahead(&self.deal.shared, &guest.stream, self.index, &mut guest.read);
        let accepted = Accepted {
            stream: guest.stream,
            peer,
            listener: self.index,
            permits: guest.permits,
            read: guest.read,
            deadline: guest.deadline,
        };
        self.deal.out(Box::new(accepted), home);
    }
}

/// The next socket, once fewer than may be are on their way to a CONNECT. Those that wait stand in the system's line.
async fn accept(
    socket: &Accepting,
    handshakes: Arc<Semaphore>,
) -> io::Result<(Detached, SocketAddr, OwnedSemaphorePermit)> {
    let handshake = handshakes.acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, handshake))
}

/// Reads the PROXY header, which makes the address that it states the peer's. `None`: there was none in time.
async fn announce(guest: Guest, listener: String, loopback_only: bool) -> Option<Guest> {
    let Guest {
        stream,
        peer,
        permits,
        deadline,
        mut read,
    } = guest;
    let header = async {
        let mut stream = stream.attach();
        let stated = proxy::read_header(&mut stream, &mut read).await?;
        Ok::<_, io::Error>((stated, stream.detach()?))
    };
    let (stated, stream) = match timeout_at(deadline.into(), header).await {
        Ok(Ok(announced)) => announced,
        Ok(Err(error)) => {
            tracing::debug!(listener, %peer, %error, "closed: no PROXY header");
            return None;
        }
        Err(_) => {
            tracing::debug!(listener, %peer, "closed: no PROXY header within limits.connect_timeout_s");
            return None;
        }
    };
    // Nobody else gets to say that it is on this machine.
    let may_state = !loopback_only || peer.ip().to_canonical().is_loopback();
    Some(Guest {
        stream,
        peer: stated.filter(|_| may_state).unwrap_or(peer),
        permits,
        deadline,
        read,
    })
}

/// Faults of one connection attempt, not of the listener.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl Deal {
    /// Whether the address of `guest` has not connected too often over all listeners. Who comes by a unix socket has none.
    fn lets_in(&self, guest: &Guest) -> bool {
        if matches!(guest.stream, Detached::Unix(_)) {
            return true;
        }
        let mut rates = self.rates.lock().unwrap_or_else(|e| e.into_inner());
        rates.take(guest.peer.ip(), Instant::now())
    }

    /// Hands one socket to the worker where it is at `home`, or to the next one.
    fn out(&self, accepted: Box<Accepted>, home: Option<u16>) {
        self.accepted.increment(1);
        let next = || self.next.fetch_add(1, Ordering::Relaxed) % self.shared.mailboxes.len().max(1) as u64;
        let worker = home.map_or_else(|| next() as usize, usize::from);
        if let Some(mailbox) = self.shared.mailboxes.get(worker) {
            mailbox.put_socket(accepted);
        }
    }
}
