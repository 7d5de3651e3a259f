//! What a run is to do, the same for all its devices, and the names and payloads made from it.

use std::sync::Arc;

use forebay_broker::codec::{QoS, Version};

use super::run::Run;
use super::stream::Tls;

/// The run as asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of connections.
    pub connections: u32,
    /// Number of the first device: several processes can share one set of names.
    pub first: u32,
    /// Device id, with `{n}` for its number.
    pub device: String,
    /// Topic, with `{id}` for the device id.
    pub topic: String,
    /// Client id, with `{id}` for the device id.
    pub client_id: String,
    /// What tells this run's payloads from those of earlier runs in the same Kafka topic.
    pub run: String,
    /// Protocol version.
    pub version: Version,
    /// Quality of service of each publish.
    pub qos: QoS,
    /// Unacknowledged publishes per connection at most.
    pub in_flight: u16,
    /// Bytes of a payload; more when id and sequence number need more.
    pub payload_bytes: usize,
    /// Keep-alive told to the broker; 0: none, and no pings.
    pub keep_alive_s: u16,
    /// MQTT in frames of WebSocket.
    pub websocket: bool,
    /// Whether sessions are kept and lost connections are made again.
    pub reconnect: bool,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// TLS, if the run asks for it.
    pub tls: Option<Tls>,
    /// Filter each connection subscribes to, with `{id}`.
    pub subscribe: Option<String>,
    /// Whether devices publish at all.
    pub publish: bool,
    /// Publishes per device at most.
    pub count: u64,
    /// Whose publishes the subscribers get: the one device of another run, at its rate.
    pub feed: Option<Arc<Run>>,
}

/// The names of one device.
#[derive(Debug)]
pub struct Names {
    /// Device id.
    pub id: Box<str>,
    /// Topic it publishes to.
    pub topic: Box<str>,
}

impl Plan {
    /// The names of the device with this number within the run.
    pub fn names(&self, index: u32) -> Names {
        let id = self
            .device
            .replace("{n}", &(u64::from(self.first) + u64::from(index)).to_string());
        let topic = self.topic.replace("{id}", &id);
        Names {
            id: id.into(),
            topic: topic.into(),
        }
    }

    /// How long ago a publish of the feed was due.
    pub fn fed_ns_ago(&self, sequence: u64, now_ns: u64) -> Option<u64> {
        let feed = self.feed.as_ref()?;
        let start = feed.start.get()?.saturating_duration_since(feed.origin);
        let due_ns = start.as_nanos() as f64 + sequence as f64 * 1e9 / feed.rate;
        Some(now_ns.saturating_sub(due_ns as u64))
    }

    /// Client id of a device.
    pub fn client_id(&self, id: &str) -> String {
        self.client_id.replace("{id}", id)
    }

    /// Puts the payload of a device's publish into `out`: `id seq run ` and filling.
    pub fn payload(&self, id: &str, sequence: u64, out: &mut Vec<u8>) {
        use std::io::Write;
        out.clear();
        // Writing to a vector can't fail.
        let _ = write!(out, "{id} {sequence} {} ", self.run);
        if out.len() < self.payload_bytes {
            out.resize(self.payload_bytes, b'x');
        }
    }
}

/// Device id, sequence number and run of a payload that [`Plan::payload`] made.
pub fn read_payload(payload: &[u8]) -> Option<(&str, u64, &str)> {
    let mut parts = payload.splitn(4, |&byte| byte == b' ');
    let id = std::str::from_utf8(parts.next()?).ok()?;
    let sequence = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let run = std::str::from_utf8(parts.next()?).ok()?;
    parts.next()?;
    Some((id, sequence, run))
}
