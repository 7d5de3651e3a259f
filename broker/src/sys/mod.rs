//! `$SYS` under Mosquitto's names, for the exporters that people have: a thread that adds up at each interval what the
//! workers count, and hands what changed to the subscribers. In memory alone: none of it is written down anywhere.

mod counts;
mod tree;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::codec::QoS;
use crate::codec::topic::matches;
use crate::hub::{HubReader, Match};
use crate::session::Message;
use crate::worker::{Delivery, Shared};
pub(crate) use counts::{Counts, Sent, WorkerCounts};
use tree::{Figures, Tree};

/// What clients may publish there all the same: bridges of Mosquitto tell by it whether they stand.
const BRIDGE_STATE: &str = "$SYS/broker/connection/+/state";

/// Whether clients may not publish on this topic: what the broker says itself, and what begins a shared subscription,
/// which is no topic.
#[inline]
pub(crate) fn is_reserved(topic: &str) -> bool {
    if !topic.starts_with('$') {
        return false;
    }
    let first = topic.split('/').next();
    first == Some("$share") || (first == Some("$SYS") && !matches(BRIDGE_STATE, topic))
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Sys {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Sys {
    /// Says all there is at once, and from then on what changes each `interval`.
    pub fn spawn(shared: Arc<Shared>, interval: Duration) -> io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(0);
        let mut teller = Teller::new(shared);
        teller.tell();
        let thread = std::thread::Builder::new()
            .name("sys".to_owned())
            .spawn(move || {
                let mut next = Instant::now() + interval;
                while let Err(RecvTimeoutError::Timeout) =
                    stopped.recv_timeout(next.saturating_duration_since(Instant::now()))
                {
                    teller.tell();
                    next = (next + interval).max(Instant::now());
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic was logged, and costs nothing but figures
    }
}

struct Teller {
    shared: Arc<Shared>,
    hub: HubReader,
    tree: Tree,
    told: Instant,
    matches: Vec<Match>,
    batches: Vec<Vec<Delivery>>,
}

impl Teller {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            hub: shared.hub.reader(),
            tree: Tree::default(),
            told: Instant::now(),
            matches: Vec::new(),
            batches: shared.mailboxes.iter().map(|_| Vec::new()).collect(),
            shared,
        }
    }

    fn tell(&mut self) {
        let now = Instant::now();
        let elapsed_s = now.saturating_duration_since(self.told).as_secs_f64();
        self.told = now;
        for (topic, text) in self.tree.update(&self.figures(), elapsed_s) {
            self.publish(topic, text);
        }
        for (mailbox, batch) in self.shared.mailboxes.iter().zip(&mut self.batches) {
            if !batch.is_empty() {
                mailbox.put_deliveries(batch, &mut Vec::new()); // what finds no room is old in a moment
            }
        }
    }

    /// At QoS 0: who is away is of no use to have it later.
    fn publish(&mut self, topic: String, text: String) {
        let message = Arc::new(Message {
            topic: topic.into(),
            payload: text.into_bytes().into(),
            properties: None,
            qos: QoS::AtMostOnce,
            retain: true,
            publisher: None,
            expires_at_ms: None,
            origin: None,
        });
        if self.shared.hub.retain(message.clone()).is_err() {
            tracing::warn!(
                topic = &*message.topic,
                "no room to retain it: the bridges' states have taken it"
            );
        }
        self.matches.clear();
        self.hub.matches(&message.topic, &mut self.matches);
        for to in self.matches.drain(..) {
            if let Some(batch) = self.batches.get_mut(usize::from(to.who.worker)) {
                let message = message.clone();
                batch.push(Delivery { message, to });
            }
        }
    }

    fn figures(&self) -> Figures {
        let counts = &self.shared.counts;
        let (retained, retained_bytes) = self.shared.hub.retained_size();
        let shared = self.shared.hub.shared_subscriptions();
        Figures {
            uptime_s: self.shared.started.elapsed().as_secs(),
            connected: counts.sum(|c| &c.connected),
            sessions: counts.sum(|c| &c.sessions),
            expired: counts.sum(|c| &c.expired),
            packets_received: counts.sum(|c| &c.packets_received),
            packets_sent: counts.sum(|c| &c.packets_sent),
            bytes_received: counts.sum(|c| &c.bytes_received),
            bytes_sent: counts.sum(|c| &c.bytes_sent),
            publishes_received: counts.sum(|c| &c.publishes_received),
            publishes_sent: counts.sum(|c| &c.publishes_sent),
            publishes_dropped: counts.sum(|c| &c.publishes_dropped),
            publish_bytes_received: counts.sum(|c| &c.publish_bytes_received),
            publish_bytes_sent: counts.sum(|c| &c.publish_bytes_sent),
            sockets: counts.sockets.get(),
            connects: counts.sum(|c| &c.connects),
            subscriptions: self.shared.hub.subscriptions().saturating_sub(shared) as u64,
            shared_subscriptions: shared as u64,
            retained: retained as u64,
            retained_bytes: retained_bytes as u64,
            queued: counts.sum(|c| &c.queued),
            queued_bytes: counts.sum(|c| &c.queued_bytes),
            inflight: counts.sum(|c| &c.inflight),
            heap_bytes: resident_bytes().unwrap_or(0),
        }
    }
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_publish_nothing_there_but_the_states_of_bridges() {
        for reserved in [
            "$SYS",
            "$SYS/",
            "$SYS/broker/uptime",
            "$SYS/broker/connection/state",
            "$SYS/x",
            "$share/group/a",
            "$share",
        ] {
            assert!(is_reserved(reserved), "{reserved}");
        }
        for free in [
            "a",
            "$SYSTEM/x",
            "$shared/x",
            "$sys/x",
            "$SYS/broker/connection/edge.b/state",
            "a/$SYS",
        ] {
            assert!(!is_reserved(free), "{free}");
        }
    }
}
