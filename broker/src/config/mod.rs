//! What the broker can be told, with its defaults: plain values, checked by [`Config::faults`].

mod listener;

pub use listener::{Bind, EVERY_PATH, ListenerConfig, NoBind, TransportConfig, Versions, WebSocketConfig};
pub use listener::{ClientCert, TlsConfig};

use crate::auth::{DenyAction, Rule};
use crate::codec::Reason;
use crate::hub::SharedStrategy;
use crate::spool::SpoolConfig;

/// Levels of a topic that may be allowed: subscriptions and retained messages are walked level by level on a thread's
/// stack.
const MOST_TOPIC_LEVELS: usize = 1000;

/// One kibibyte.
const KIB: usize = 1024;

/// Everything the broker needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this node, first part of every record's position.
    pub node_id: String,
    /// Threads that serve connections; one per core is right.
    pub workers: usize,
    /// Where clients connect.
    pub listeners: Vec<ListenerConfig>,
    /// Bounds on what clients may do.
    pub limits: Limits,
    /// The bus between workers and log.
    pub bus: BusConfig,
    /// The node's log.
    pub log: LogConfig,
    /// What is done while the log is full.
    pub full: FullConfig,
    /// Seconds between two updates of `$SYS`; 0: there is none.
    pub sys_interval_s: u32,
    /// What clients may do: the first that fits decides. With none, and no acl_file, everything.
    pub acl: Vec<Rule>,
    /// What becomes of a client that does what these or an acl_file deny.
    pub deny_action: DenyAction,
    /// What 5.0 clients are told.
    pub told: ToldConfig,
}

/// What 5.0 clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldConfig {
    /// What clients that ask for it begin their response topics with; `{client_id}` stands for theirs.
    pub response_information: Option<String>,
    /// Where clients find another server when this one stops or has too many.
    pub server_reference: Option<String>,
}

impl ToldConfig {
    /// The other server, where `reason` sends clients to it.
    pub(crate) fn reference_for(&self, reason: Reason) -> Option<&str> {
        let goes = matches!(reason, Reason::UseAnotherServer | Reason::ServerMoved);
        self.server_reference.as_deref().filter(|_| goes)
    }
}

/// What is done with publishes while the log is full. QoS 1 and 2 are never dropped silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullConfig {
    /// QoS 1 and 2 publishes of 5.0 clients are answered 0x97. Else, and those of 3.x clients, they are held.
    pub reject: bool,
    /// QoS 0 publishes are dropped and counted. Else they are held.
    pub drop_qos0: bool,
    /// Bytes that one connection may add while more than half of the log is in use: beyond them, the log is full for it.
    pub client_share_bytes: u64,
}

/// Where the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogConfig {
    /// In memory: for tests and for who embeds the broker. What waits in it is lost with the process.
    Memory {
        /// Bytes that are kept until the log's readers are done with them.
        max_bytes: usize,
    },
    /// On disk: the spool.
    Disk(SpoolConfig),
}

/// Bounds on what clients may do; each is checked before memory is taken.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections over all listeners.
    pub max_connections: usize,
    /// Connections that one address may open within a second, over all listeners; 0: no bound. An IPv6 address counts by
    /// its /64.
    pub max_connect_rate_per_address: u32,
    /// Greatest packet taken, in bytes, fixed header included; told to 5.0 clients.
    pub max_packet_bytes: usize,
    /// QoS 1 and 2 publishes of one client that may wait for their acknowledgement; told to 5.0 clients.
    pub receive_maximum: u16,
    /// Topic aliases that a 5.0 client may use; told to it. 0: none.
    pub topic_alias_maximum: u16,
    /// Topic aliases that are used towards a 5.0 client, if it takes as many. 0: none.
    pub topic_alias_maximum_out: u16,
    /// Seconds from accept to a whole CONNECT.
    pub connect_timeout_s: u16,
    /// Connections of one listener that have not sent a whole CONNECT yet; beyond them none is accepted.
    pub max_handshakes: usize,
    /// Greatest keep-alive granted to MQTT 5 clients, in seconds; 0: no bound.
    pub max_keep_alive_s: u16,
    /// Levels in a topic name or filter.
    pub max_topic_levels: usize,
    /// Bytes of a topic name or filter.
    pub max_topic_bytes: usize,
    /// PUBLISHes that are read of one client in a second, in the middle; 0: no bound.
    pub max_message_rate: u32,
    /// Bytes that are read of one client in a second, in the middle; 0: no bound.
    pub max_bytes_rate: usize,
    /// Subscriptions of one client.
    pub max_subscriptions: usize,
    /// Shared ones among them.
    pub max_shared_subscriptions: usize,
    /// QoS 1 and 2 messages on their way to one client.
    pub max_inflight_messages: u16,
    /// Messages that wait for one client, in number.
    pub max_queued_messages: usize,
    /// Messages that wait for one client, in bytes.
    pub max_queued_bytes: usize,
    /// A message that finds a session's queue full takes the place of the oldest; else it is dropped itself.
    pub drop_old: bool,
    /// QoS 0 messages wait too for a client that is away, until a restart.
    pub queue_qos0: bool,
    /// Retained messages, in number; 0: none, of which 5.0 clients are told.
    pub max_retained_messages: usize,
    /// Retained messages, in bytes of topic and payload; 0: none.
    pub max_retained_bytes: usize,
    /// Disconnected sessions that are kept.
    pub max_kept_sessions: usize,
    /// Seconds for which a kept session outlives its connection; 3.x sessions too.
    pub max_session_expiry_s: u32,
    /// Seconds after a restart in which a client may come back before its will is published.
    pub will_grace_s: u32,
    /// Which member of a group gets a message.
    pub shared_strategy: SharedStrategy,
    /// Milliseconds for which a message may wait to be written together with others, on a worker that delivers much.
    pub max_write_wait_ms: u32,
}

/// The bus between workers and log.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Bytes of a full chunk.
    pub chunk_bytes: usize,
    /// Chunks in flight over all workers.
    pub window_chunks: usize,
    /// Longest time that an open chunk waits while another is in flight, milliseconds.
    pub max_wait_ms: u64,
    /// Time without progress after which the sender goes back, milliseconds.
    pub resend_after_ms: u64,
}

impl Limits {
    /// Whether messages are retained at all.
    pub fn retains(&self) -> bool {
        self.max_retained_messages > 0 && self.max_retained_bytes > 0
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1_000_000,
            max_connect_rate_per_address: 0,
            max_packet_bytes: 1000 * KIB,
            receive_maximum: 1024,
            topic_alias_maximum: 10,
            topic_alias_maximum_out: 10,
            connect_timeout_s: 10,
            max_handshakes: 10_000,
            max_keep_alive_s: 0,
            max_topic_levels: 200,
            max_topic_bytes: 65_535,
            max_message_rate: 0,
            max_bytes_rate: 0,
            max_subscriptions: 1000,
            max_shared_subscriptions: 50,
            max_inflight_messages: 20,
            max_queued_messages: 1000,
            max_queued_bytes: 16 * KIB * KIB,
            drop_old: false,
            queue_qos0: false,
            max_retained_messages: 1_000_000,
            max_retained_bytes: 512 * KIB * KIB,
            max_kept_sessions: 100_000,
            max_session_expiry_s: 7 * 24 * 3600,
            will_grace_s: 30,
            shared_strategy: SharedStrategy::LeastInflight,
            max_write_wait_ms: 5,
        }
    }
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            chunk_bytes: 256 * KIB,
            window_chunks: 64,
            max_wait_ms: 5,
            resend_after_ms: 2_000,
        }
    }
}

impl Default for FullConfig {
    fn default() -> Self {
        Self {
            reject: false,
            drop_qos0: false,
            client_share_bytes: (KIB * KIB) as u64,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: "forebay".to_owned(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            listeners: Vec::new(),
            limits: Limits::default(),
            bus: BusConfig::default(),
            log: LogConfig::Memory {
                max_bytes: 64 * KIB * KIB,
            },
            full: FullConfig::default(),
            sys_interval_s: 10,
            acl: Vec::new(),
            deny_action: DenyAction::Ignore,
            told: ToldConfig::default(),
        }
    }
}

impl Limits {
    fn add_faults(&self, section: &str, check: &mut dyn FnMut(bool, &str)) {
        let key = |key: &str, text: &str| format!("{section}.{key} {text}");
        check(
            (64..=268_435_460).contains(&self.max_packet_bytes),
            &key("max_packet_bytes", "must be 64 to 268435460"),
        );
        check(
            (1..=MOST_TOPIC_LEVELS).contains(&self.max_topic_levels),
            &key("max_topic_levels", "must be 1 to 1000"),
        );
        for (name, is_there) in [
            ("receive_maximum", self.receive_maximum > 0),
            ("max_inflight_messages", self.max_inflight_messages > 0),
            ("max_handshakes", self.max_handshakes > 0),
            ("max_topic_bytes", self.max_topic_bytes > 0),
        ] {
            check(is_there, &key(name, "must be at least 1"));
        }
    }
}

impl Config {
    /// The bounds for the clients of a listener, by its place among them.
    pub fn limits_at(&self, listener: usize) -> &Limits {
        let own = self
            .listeners
            .get(listener)
            .and_then(|listener| listener.limits.as_deref());
        own.unwrap_or(&self.limits)
    }

    /// Bytes of the greatest packet that a listener takes.
    pub fn greatest_packet(&self) -> usize {
        (0..self.listeners.len())
            .map(|listener| self.limits_at(listener).max_packet_bytes)
            .fold(self.limits.max_packet_bytes, usize::max)
    }

    /// The bounds of the store: its queues are as great as those of any listener's clients, since a session may come by any.
    pub(crate) fn limits_of_store(&self) -> Limits {
        let mut limits = self.limits.clone();
        for own in self
            .listeners
            .iter()
            .filter_map(|listener| listener.limits.as_ref())
        {
            limits.max_queued_messages = limits.max_queued_messages.max(own.max_queued_messages);
            limits.max_queued_bytes = limits.max_queued_bytes.max(own.max_queued_bytes);
        }
        limits
    }

    /// Everything that is wrong with it, each with its remedy; empty when it can be started.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |fine: bool, text: &str| {
            if !fine {
                faults.push(text.to_owned());
            }
        };
        check((1..=1024).contains(&self.workers), "workers must be 1 to 1024");
        check(!self.listeners.is_empty(), "at least one listener is needed");
        self.limits.add_faults("limits", &mut check);
        check(
            (4 * KIB..=1024 * KIB).contains(&self.bus.chunk_bytes),
            "bus.chunk_bytes must be 4 KiB to 1 MiB",
        );
        check(
            (2..=128).contains(&self.bus.window_chunks),
            "bus.window_chunks must be 2 to 128",
        );
        let greatest = self.bus.chunk_bytes.max(self.greatest_packet());
        self.log.add_faults(greatest, &mut check);
        for (index, listener) in self.listeners.iter().enumerate() {
            listener.add_faults(index, &mut check);
        }
        faults
    }
}

impl LogConfig {
    /// `greatest`: bytes of the greatest packet or chunk.
    fn add_faults(&self, greatest: usize, check: &mut dyn FnMut(bool, &str)) {
        match self {
            Self::Memory { max_bytes } => check(
                *max_bytes >= 4 * greatest,
                "spool.memory_max_bytes must hold at least four chunks of the greatest packet: raise it or lower limits.max_packet_bytes",
            ),
            Self::Disk(spool) => {
                check(
                    spool.segment_bytes >= 4 * greatest as u64 && spool.segment_bytes >= 64 * KIB as u64,
                    "spool.segment_bytes must be at least 64 KiB and hold at least four chunks of the greatest packet: raise it or lower limits.max_packet_bytes",
                );
                check(
                    spool.segment_bytes <= u64::from(u32::MAX),
                    "spool.segment_bytes must be less than 4 GiB",
                );
                check(
                    spool.max_bytes / 4 >= spool.segment_bytes,
                    "spool.max_bytes must be at least four times spool.segment_bytes: raise it or lower spool.segment_bytes",
                );
            }
        }
    }
}
