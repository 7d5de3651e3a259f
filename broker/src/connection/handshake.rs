//! From the accepted socket to the session: CONNECT under a deadline, then to the worker where the session lives,
//! then who it is, then CONNACK.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};

use super::exchange::{Again, Outcome, converse};
use super::intake::Intake;
use super::{Accepted, Connection};
use crate::auth::{Method, Origin, Principal, Subject};
use crate::codec::{Connect, DecodeError, Packet, Reason, Version, decode, frame_len, peek_version};
use crate::config::TransportConfig;
use crate::listener::tls;
use crate::listener::transport::{Detached, Transport};
use crate::listener::upgrade::upgrade;
use crate::session::{Detach, SessionLimits, asked_expiry_s, fits_mount, of_connect, put_refusal};
use crate::worker::{Attached, Stage, Worker};

/// Packet type of CONNECT.
const CONNECT: u8 = 1;

/// Time in which a refusal must be written.
const REFUSE_WITHIN: Duration = Duration::from_secs(1);

/// Who is let in.
struct Guest {
    principal: Principal,
    /// The one that was chosen here.
    client_id: Option<String>,
    /// How it may authenticate again.
    again: Option<Again>,
}

/// What a CONNECT leads to.
enum Next {
    /// Served here.
    Join(Guest),
    /// It is asked further by a method, then served here.
    Converse {
        method: Arc<dyn Method>,
        client_id: Option<String>,
    },
    /// It is gone.
    Gone,
    /// Its session lives on another worker.
    Home(u16),
    /// No.
    Refuse(Reason),
}

/// Reads CONNECT and answers it. `None`: the socket was refused, lost, or handed to another worker.
pub(super) async fn connect(worker: Rc<Worker>, accepted: Box<Accepted>) -> Option<Connection> {
    let Accepted {
        stream,
        peer,
        listener,
        mut permits,
        mut read,
        deadline,
    } = *accepted;
    let first = first_packet(&worker, stream, listener, &mut read, (peer, deadline));
    let (mut stream, len) = timeout_at(deadline.into(), first)
        .await
        .inspect_err(|_| tracing::debug!(%peer, "closed: no CONNECT within limits.connect_timeout_s"))
        .ok()?
        .inspect_err(|error| tracing::debug!(%peer, %error, "closed before a whole CONNECT came"))
        .ok()?;
    let frame = read.get(..len)?;
    let packet = match decode(Version::V5, frame) {
        Ok(Packet::Connect(connect)) => connect,
        Ok(_) => return None,
        Err(error) => {
            permits.shake_hands();
            refuse_malformed(&worker, stream, frame, error).await;
            return None;
        }
    };
    if permits.is_turned_away() {
        permits.shake_hands();
        return turn_away(&worker, stream, &packet, peer, len).await;
    }
    let mut behind = read.get(len..).unwrap_or_default().to_vec();
    let decided = decide(&worker, &mut stream, &mut behind, &packet, peer.ip(), listener);
    let Ok(next) = timeout_at(deadline.into(), decided).await else {
        tracing::debug!(%peer, "closed: not authenticated within limits.connect_timeout_s");
        return None;
    };
    if !matches!(next, Next::Home(_)) {
        permits.shake_hands();
        worker.with(|state| state.count_connect(len)); // once, wherever it came to first
    }
    match next {
        Next::Join(guest) => {
            let joined = join(&worker, &packet, guest.client_id, guest.principal, listener)?;
            let intake = intake(&worker, behind, listener).may_authenticate(guest.again);
            let (version, seat) = (packet.version, permits.into_seat());
            Some(Connection::new(worker, stream, joined, version, intake, seat))
        }
        Next::Home(home) => {
            let handed_over = Accepted {
                stream: stream.detach().ok()?,
                peer,
                listener,
                permits,
                read,
                deadline,
            };
            let mailbox = worker.shared.mailboxes.get(usize::from(home))?;
            mailbox.put_socket(Box::new(handed_over));
            None
        }
        Next::Converse { .. } | Next::Gone => None,
        Next::Refuse(reason) => {
            refuse_connect(&worker, stream, &packet, peer, reason).await;
            None
        }
    }
}

/// Begins with what came behind CONNECT.
fn intake(worker: &Worker, behind: Vec<u8>, listener: usize) -> Intake {
    let limits = worker.shared.config.limits_at(listener);
    Intake::new(behind, limits, worker.with(|state| state.now_ms()))
}

/// Gives the connection its session. `None`: CONNACK is larger than the client takes, so there is no way to tell it that
/// it is in [MQTT-3.1.2-24].
fn join(
    worker: &Worker,
    connect: &Connect<'_>,
    assigned: Option<String>,
    principal: Principal,
    listener: usize,
) -> Option<Attached> {
    let client_id = assigned.as_deref().unwrap_or(connect.client_id);
    let is_assigned = assigned.is_some();
    let joined = worker.with(|state| state.attach(connect, client_id, principal, is_assigned, listener));
    if worker.with(|state| state.has_connack(joined.at)) {
        return Some(joined);
    }
    worker.with(|state| state.detach(joined.at, Detach::Clean));
    None
}

/// What comes before MQTT on this listener, then the first packet, in `read`: its length.
async fn first_packet(
    worker: &Worker,
    stream: Detached,
    listener: usize,
    read: &mut Vec<u8>,
    (peer, deadline): (SocketAddr, Instant),
) -> io::Result<(Transport, usize)> {
    let config = &worker.shared.config;
    let max_bytes = config.limits_at(listener).max_packet_bytes;
    let mut stream = stream.attach();
    if let Some(Some(keys)) = worker.shared.tls.get(listener)
        && !stream.is_tls()
    {
        stream = Box::pin(tls::accept(stream, std::mem::take(read), keys, peer, deadline)).await?;
    }
    if let Some(TransportConfig::WebSocket(websocket)) = config.listeners.get(listener).map(|l| &l.transport)
        && !stream.is_websocket()
    {
        stream = upgrade(stream, std::mem::take(read), websocket, max_bytes).await?;
    }
    let len = read_connect(&mut stream, read, max_bytes).await?;
    Ok((stream, len))
}

async fn read_connect(
    stream: &mut Transport,
    read: &mut Vec<u8>,
    max_packet_bytes: usize,
) -> io::Result<usize> {
    loop {
        if read.first().is_some_and(|first| first >> 4 != CONNECT) {
            return Err(io::Error::other("the first packet is not CONNECT [MQTT-3.1.0-1]"));
        }
        match frame_len(read, max_packet_bytes) {
            Ok(Some(len)) if read.len() >= len => return Ok(len),
            Ok(_) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a CONNECT leads to, once the client has said all that is asked of it. `behind`: what came behind CONNECT.
async fn decide(
    worker: &Worker,
    stream: &mut Transport,
    behind: &mut Vec<u8>,
    connect: &Connect<'_>,
    peer: IpAddr,
    listener: usize,
) -> Next {
    let next = match next(worker, connect, peer, listener).await {
        Next::Converse { method, client_id } => {
            let subject = Subject {
                client_id: client_id.as_deref().unwrap_or(connect.client_id),
                username: connect.username,
            };
            let exchange = method.begin(subject);
            let max_bytes = worker.shared.config.limits_at(listener).max_packet_bytes;
            match converse(worker, (stream, behind), connect, exchange, max_bytes).await {
                Outcome::Done(principal) => {
                    let name = connect.properties.authentication_method();
                    Next::Join(Guest {
                        principal,
                        client_id,
                        again: name.map(|name| Again::new(name, method)),
                    })
                }
                Outcome::Refused(reason) => Next::Refuse(reason),
                Outcome::Gone => Next::Gone,
            }
        }
        next => next,
    };
    match next {
        Next::Join(_) if worker.shared.is_past(Stage::Quiet) => Next::Refuse(Reason::ServerShuttingDown),
        next => next,
    }
}

async fn next(worker: &Worker, connect: &Connect<'_>, peer: IpAddr, index: usize) -> Next {
    let limits = SessionLimits::from(worker.shared.config.limits_at(index));
    let Some(listener) = worker.shared.config.listeners.get(index) else {
        return Next::Refuse(Reason::ServerUnavailable);
    };
    if !listener.versions.has(connect.version) {
        return Next::Refuse(Reason::UnsupportedProtocolVersion);
    }
    if let Err(error) = connect.check_client_id() {
        return Next::Refuse(error.reason);
    }
    let will = connect.will.as_ref();
    if will.is_some_and(|will| !limits.takes_topic(will.topic)) {
        return Next::Refuse(Reason::TopicNameInvalid);
    }
    if connect.version == Version::V5 && !limits.retains && will.is_some_and(|will| will.retain) {
        return Next::Refuse(Reason::RetainNotSupported); // [MQTT-3.2.2-13]
    }
    let assigned = connect.client_id.is_empty().then(|| client_id_at_home(worker));
    let home = worker
        .shared
        .home_of(assigned.as_deref().unwrap_or(connect.client_id));
    if home != worker.id {
        return Next::Home(home);
    }
    let mount = listener.mount_point.as_deref();
    if connect
        .will
        .as_ref()
        .is_some_and(|will| !fits_mount(mount, will.topic))
    {
        return Next::Refuse(Reason::TopicNameInvalid);
    }
    if connect.will.is_some() && !worker.with(|state| state.takes_wills()) {
        return Next::Refuse(Reason::ServerBusy);
    }
    if asked_expiry_s(connect) > 0 && !worker.with(|state| state.takes_kept()) {
        return Next::Refuse(Reason::ServerBusy);
    }
    let origin = Origin {
        peer,
        listener: index,
        allow_anonymous: listener.allow_anonymous,
        loopback_only: listener.loopback_only,
    };
    if let Some(name) = connect.properties.authentication_method() {
        return match worker.shared.auth.method(name, origin) {
            _ if !origin.is_near_enough() => Next::Refuse(Reason::NotAuthorized),
            Some(method) => Next::Converse {
                method,
                client_id: assigned,
            },
            None => Next::Refuse(Reason::BadAuthenticationMethod), // [MQTT-4.12.0-1]
        };
    }
    match worker
        .hear(worker.shared.auth.authenticate(connect, origin))
        .await
    {
        Ok(principal) => Next::Join(Guest {
            principal,
            client_id: assigned,
            again: None,
        }),
        Err(reason) => Next::Refuse(reason),
    }
}

/// A client id that nobody can guess and whose session lives on this worker.
fn client_id_at_home(worker: &Worker) -> String {
    let random = RandomState::new();
    let mut count = 0u64;
    loop {
        let id = format!("forebay-{:016x}", random.hash_one(count));
        if worker.shared.home_of(&id) == worker.id {
            return id;
        }
        count += 1;
    }
}

/// There are too many connections: its CONNECT of `len` bytes is answered with where another server is.
async fn turn_away(
    worker: &Worker,
    stream: Transport,
    connect: &Connect<'_>,
    peer: SocketAddr,
    len: usize,
) -> Option<Connection> {
    worker.with(|state| state.count_connect(len));
    refuse_connect(worker, stream, connect, peer, Reason::UseAnotherServer).await;
    None
}

async fn refuse_connect(
    worker: &Worker,
    stream: Transport,
    connect: &Connect<'_>,
    peer: SocketAddr,
    reason: Reason,
) {
    worker.with(|state| state.count_refused());
    tracing::info!(%peer, client_id = connect.client_id, ?reason, "CONNECT refused");
    let most = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
    let reference = worker.shared.config.told.reference_for(reason);
    let mut connack = Vec::new();
    put_refusal(
        connect.version,
        most,
        reason,
        of_connect(reason),
        reference,
        &mut connack,
    );
    refuse(stream, connack).await;
}

/// CONNACK that says no, then the end [MQTT-3.2.2-7; 3.1.1: MQTT-3.2.2-5].
async fn refuse(mut stream: Transport, connack: Vec<u8>) {
    let _ = timeout(REFUSE_WITHIN, stream.write_all(&connack)).await; // the peer may be gone: it is refused anyway
    stream.linger(Vec::new()).await;
}

/// A CONNECT that can't be read: a 5.0 client is told why; a 3.x client only that its version is not known here, all
/// else is a close [MQTT-3.1.2-1, MQTT-3.1.2-2; 3.1.1: MQTT-3.1.4-1].
async fn refuse_malformed(worker: &Worker, stream: Transport, frame: &[u8], error: DecodeError) {
    worker.with(|state| state.count_connect(frame.len()));
    tracing::debug!(%error, "malformed CONNECT");
    let version = match (peek_version(frame), error.reason) {
        (_, Reason::UnsupportedProtocolVersion) => Version::V311,
        (Ok(Version::V5), _) => Version::V5,
        _ => return,
    };
    let mut connack = Vec::new();
    put_refusal(version, u32::MAX, error.reason, error.text, None, &mut connack);
    refuse(stream, connack).await;
}
