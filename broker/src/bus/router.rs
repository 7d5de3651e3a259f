//! The only file that knows rumqttd: the router of this process and the links on it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flume::{RecvTimeoutError, TrySendError};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Disconnect, DisconnectReasonCode, Packet};
use rumqttd::{Notification, Router, RouterConfig};

use super::sender::Wire;
use super::{BusDead, BusError};

/// The router keeps a log in memory per topic, in segments of this size. A reader loses nothing as long as fewer than
/// `SEGMENTS - 1` whole segments are ahead of it. The log keeps its full size for as long as the process lives: 18 MiB
/// an instance at most, and as much again where chunks are tiny, since each costs the router about 250 bytes of its own.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
const SEGMENTS: usize = 9;

/// Weight of what may be in flight over all workers. Half of what the router keeps: while a sender goes back, copies of
/// what is in flight may stand there a second time.
pub(super) const MAX_IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(2 * MAX_IN_FLIGHT_BYTES <= (SEGMENTS - 1) * SEGMENT_BYTES);

/// What the router adds to a payload when it counts a segment's size: four bytes and the topic.
const PER_CHUNK: usize = 64;

/// What a chunk counts in the window. One that is larger than a segment fills just one, so it counts no more than one:
/// each segment that is closed holds at least its size in weight.
pub(super) fn weight(bytes: usize) -> usize {
    (bytes + PER_CHUNK).min(SEGMENT_BYTES)
}

/// Links over all instances of a process.
const MAX_LINKS: usize = 2048;

type Connect = dyn Fn(&str) -> Result<(LinkTx, LinkRx), BusDead> + Send + Sync;

/// The router's thread can't be ended (it holds a sender to itself), so there is one for the life of the process. Kept
/// as a function, since the type of its channel is not public.
static ROUTER: OnceLock<Box<Connect>> = OnceLock::new();

fn connect(client_id: &str) -> Result<(LinkTx, LinkRx), BusDead> {
    let router = ROUTER.get_or_init(|| {
        let to_router = Router::new(
            0,
            RouterConfig {
                max_connections: MAX_LINKS,
                max_outgoing_packet_count: 100,
                max_segment_size: SEGMENT_BYTES,
                max_segment_count: SEGMENTS,
                ..RouterConfig::default()
            },
        )
        .spawn();
        Box::new(move |client_id| {
            let link = LinkBuilder::new(client_id, to_router.clone()).build();
            let (tx, rx, _connack) = link.map_err(|e| dead(&e))?;
            Ok((tx, rx))
        })
    });
    router(client_id)
}

fn dead(error: &LinkError) -> BusDead {
    BusDead(error.to_string())
}

/// As [`connect`], but with an end: a router whose thread is just dying still takes the request and never answers, and
/// the builder waits without a deadline. Its thread stays behind then, for the rest of a process that is to end anyway.
fn connect_until(client_id: String, deadline: Instant) -> Result<(LinkTx, LinkRx), BusError> {
    let (done, answer) = sync_channel(1);
    std::thread::Builder::new()
        .name("bus-connect".to_owned())
        .spawn(move || {
            let _ = done.try_send(connect(&client_id));
        })?;
    match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(links) => links.map_err(|e| BusError::Router(e.0)),
        Err(error) => Err(BusError::Router(error.to_string())),
    }
}

/// One broker instance: its topic and the names of its links, never used again in this process.
pub(super) struct Instance {
    name: String,
    /// Until when the router must have answered all that a start asks of it.
    deadline: Instant,
}

impl Instance {
    pub fn new(timeout: Duration) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("forebay-{number}"),
            deadline: Instant::now() + timeout,
        }
    }

    fn topic(&self) -> Bytes {
        Bytes::from(self.name.clone())
    }

    fn connect(&self, link: &str) -> Result<(LinkTx, LinkRx), BusError> {
        connect_until(format!("{}-{link}", self.name), self.deadline)
    }

    /// A link that publishes on the topic.
    pub fn publisher(&self, name: &str) -> Result<PublisherLink, BusError> {
        let (tx, rx) = self.connect(name)?;
        let topic = self.topic();
        Ok(PublisherLink { tx, rx, topic })
    }

    /// The link that reads the topic, subscribed.
    pub fn subscriber(&self) -> Result<SubscriberLink, BusError> {
        let (mut tx, mut rx) = self.connect("reader")?;
        let fault = |e: LinkError| BusError::Router(e.to_string());
        tx.subscribe(self.name.as_str()).map_err(fault)?;
        // CONNACK was taken by the builder, so the first acknowledgement is SUBACK.
        while !matches!(
            rx.recv_deadline(self.deadline).map_err(fault)?,
            Some(Notification::DeviceAck(_))
        ) {}
        let topic = self.topic();
        Ok(SubscriberLink { tx, rx, topic })
    }
}

/// A worker's link.
pub(super) struct PublisherLink {
    tx: LinkTx,
    rx: LinkRx,
    topic: Bytes,
}

impl Wire for PublisherLink {
    fn offer(&mut self, chunk: &Bytes) -> Result<bool, BusDead> {
        match self.tx.try_publish(self.topic.clone(), chunk.clone()) {
            Ok(_) => Ok(true),
            // The router's channel is full, but the packet stands in the link's buffer: it is taken out again, unless
            // the router has fetched it meanwhile with one before it. Only this thread puts anything in.
            Err(LinkError::TrySend(TrySendError::Full(_))) => Ok(self.tx.buffer().pop_back().is_none()),
            Err(error) => Err(dead(&error)),
        }
    }

    /// The router says nothing to a link that only publishes at QoS 0, but it drops its end when the link is gone: a
    /// publish would still be taken then, and vanish.
    fn check(&mut self) -> Result<(), BusDead> {
        match self.rx.recv_deadline(Instant::now()) {
            Ok(_) | Err(LinkError::RecvTimeout(RecvTimeoutError::Timeout)) => Ok(()),
            Err(_) => Err(BusDead("the router has dropped a worker's link".to_owned())),
        }
    }

    fn leave(&mut self) {
        leave(&mut self.tx, &self.topic);
    }
}

/// Sends DISCONNECT without blocking: the packet is laid into the buffer, and the publish behind it, which the router
/// no longer looks at, makes the router look.
fn leave(tx: &mut LinkTx, topic: &Bytes) -> bool {
    let goodbye = Disconnect {
        reason_code: DisconnectReasonCode::NormalDisconnection,
    };
    tx.buffer().push_back(Packet::Disconnect(goodbye, None));
    tx.try_publish(topic.clone(), Bytes::new()).is_ok()
}

/// What came to the reader.
pub(super) enum Came {
    /// A payload on the topic.
    Payload(Bytes),
    /// Something else; there may be more.
    Other,
    /// Nothing until the deadline.
    Nothing,
}

/// The reader's link.
pub(super) struct SubscriberLink {
    tx: LinkTx,
    rx: LinkRx,
    topic: Bytes,
}

impl SubscriberLink {
    /// The next thing that comes until `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Result<Came, BusDead> {
        match self.rx.recv_deadline(deadline) {
            Ok(Some(Notification::Forward(forward))) => Ok(Came::Payload(forward.publish.payload)),
            Ok(Some(Notification::Unschedule)) => {
                self.rx.ready().map_err(|e| dead(&e))?;
                Ok(Came::Other)
            }
            Ok(Some(Notification::Disconnect(..))) => {
                Err(BusDead("the router has disconnected the reader".to_owned()))
            }
            // None is a wake-up for something that was taken before, not the end.
            Ok(_) => Ok(Came::Other),
            Err(LinkError::RecvTimeout(RecvTimeoutError::Timeout)) => Ok(Came::Nothing),
            Err(error) => Err(dead(&error)),
        }
    }

    /// Leaves: without it the router would keep what it had laid out for this link. Nothing is read after this, since
    /// answering the router for a link that it no longer has would end its thread.
    pub fn leave(mut self) {
        for _ in 0..100 {
            if leave(&mut self.tx, &self.topic) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends the router's thread, as a fault in it would: `ready()` for a link that it no longer has is one of its panics.
#[cfg(test)]
pub(super) fn kill() {
    let (mut tx, rx) = connect("killer").unwrap();
    assert!(leave(&mut tx, &Bytes::from_static(b"killer")));
    rx.ready().unwrap();
}

/// Makes the router drop the reader's link on `topic`: a second link with the same name takes its place.
#[cfg(test)]
pub(super) fn take_readers_place(topic: &Bytes) -> SubscriberLink {
    let name = std::str::from_utf8(topic).unwrap();
    let (tx, rx) = connect(&format!("{name}-reader")).unwrap();
    SubscriberLink {
        tx,
        rx,
        topic: topic.clone(),
    }
}

#[cfg(test)]
impl PublisherLink {
    pub(super) fn topic(&self) -> Bytes {
        self.topic.clone()
    }
}
