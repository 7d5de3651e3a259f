//! Every metric of this crate: its name, what it counts, and the handles that the hot path holds. No label ever
//! names a client or a topic.

use std::cell::Cell;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
};
use metrics::{gauge, histogram};

use crate::codec::QoS;
use crate::session::Drops;

/// Sockets that were accepted.
pub const CONNECTIONS_ACCEPTED: &str = "forebay_connections_accepted_total";
/// Sockets that were closed at once for want of a permit.
pub const CONNECTIONS_REFUSED: &str = "forebay_connections_refused_total";
/// Handshakes of TLS that were done.
pub const TLS_HANDSHAKES: &str = "forebay_tls_handshakes_total";
/// Handshakes of TLS that were not, by reason.
pub const TLS_FAILED: &str = "forebay_tls_handshakes_failed_total";
/// When the certificate of a listener ends.
pub const TLS_NOT_AFTER: &str = "forebay_tls_certificate_not_after_seconds";
/// Clients that are connected.
pub const CONNECTIONS: &str = "forebay_connections";
/// Sessions, connected or kept.
pub const SESSIONS: &str = "forebay_sessions";
/// Connections that ended, by reason.
pub const CONNECTIONS_CLOSED: &str = "forebay_connections_closed_total";
/// CONNECTs that were refused.
pub const CONNECTS_REFUSED: &str = "forebay_connects_refused_total";
/// Packets read, by type.
pub const PACKETS_RECEIVED: &str = "forebay_packets_received_total";
/// Bytes read from clients.
pub const BYTES_RECEIVED: &str = "forebay_received_bytes_total";
/// Bytes written to clients.
pub const BYTES_SENT: &str = "forebay_sent_bytes_total";
/// Publishes accepted, by QoS.
pub const PUBLISHES: &str = "forebay_publishes_received_total";
/// Publishes of QoS 1 and 2 that were answered 0x97 because the log is full.
pub const PUBLISHES_REJECTED: &str = "forebay_publishes_rejected_total";
/// Publishes of QoS 0 that were dropped because the log is full.
pub const PUBLISHES_DROPPED: &str = "forebay_publishes_dropped_total";
/// Publishes and wills that their clients may not make.
pub const PUBLISHES_DENIED: &str = "forebay_publishes_denied_total";
/// Messages queued for subscribers.
pub const DELIVERIES: &str = "forebay_deliveries_total";
/// Messages that a subscriber did not get, by reason.
pub const DELIVERIES_DROPPED: &str = "forebay_deliveries_dropped_total";
/// Chunks sent to the bus.
pub const CHUNKS: &str = "forebay_chunks_total";
/// Chunks sent to the bus that are not in the log yet.
pub const CHUNKS_IN_FLIGHT: &str = "forebay_chunks_in_flight";
/// QoS 1 and 2 publishes whose acknowledgement waits for Kafka.
pub const ACKS_WAITING: &str = "forebay_acks_waiting";
/// Time from a chunk's first record to the acknowledgement of its records.
pub const ACK_SECONDS: &str = "forebay_ack_seconds";
/// From a chunk's first record until the chunk is on the bus.
pub const SOCKET_TO_BUS: &str = "forebay_socket_to_bus_seconds";
/// From there until its worker finds it durable.
pub const BUS_TO_DURABLE: &str = "forebay_bus_to_durable_seconds";
/// Connections that are not read from because something is full.
pub const HELD: &str = "forebay_connections_held";
/// Times that a client had to wait for its own rate.
pub const SLOWED: &str = "forebay_connections_slowed_total";
/// Time that a commit of the store takes.
pub const STORE_COMMIT_SECONDS: &str = "forebay_store_commit_seconds";
/// Sequence in the log up to which the store has read.
pub const STORE_APPLIED: &str = "forebay_store_applied_sequence";
/// Kept sessions that the store knows.
pub const STORE_SESSIONS: &str = "forebay_store_sessions";
/// Messages that wait in the queues of kept sessions.
pub const STORE_PENDING: &str = "forebay_store_pending_messages";
/// Commits of the store that failed.
pub const STORE_ERRORS: &str = "forebay_store_errors_total";
/// Messages and events for which the store had no room.
pub const STORE_DROPPED: &str = "forebay_store_dropped_total";

/// Bytes in the spool that a consumer still needs.
pub const SPOOL_BYTES: &str = "forebay_spool_bytes";
/// Bytes that the spool may take on disk.
pub const SPOOL_MAX_BYTES: &str = "forebay_spool_max_bytes";
/// Age of the oldest record in the spool that a consumer still needs.
pub const SPOOL_OLDEST_AGE: &str = "forebay_spool_oldest_age_seconds";
/// Time that one fdatasync of the spool took.
pub const SPOOL_FSYNC: &str = "forebay_spool_fsync_seconds";
/// Bytes that one fdatasync made durable.
pub const SPOOL_GROUP_BYTES: &str = "forebay_spool_group_bytes";
/// Chunks that one fdatasync made durable.
pub const SPOOL_GROUP_CHUNKS: &str = "forebay_spool_group_chunks";
/// The sequence below which all is durable.
pub const SPOOL_DURABLE: &str = "forebay_spool_durable_sequence";
/// Damaged places found in the spool.
pub const SPOOL_DAMAGED: &str = "forebay_spool_damaged_total";
/// Seconds in which the spool took nothing because it was full.
pub const SPOOL_FULL_SECONDS: &str = "forebay_spool_full_seconds_total";
/// Records that a consumer of the log has not done with, by consumer.
pub const LOG_READER_BACKLOG: &str = "forebay_log_reader_backlog_records";

/// Names the metrics to the recorder. Called once the recorder is installed.
pub fn describe() {
    describe_counter!(CONNECTIONS_ACCEPTED, "Sockets accepted");
    describe_counter!(
        CONNECTIONS_REFUSED,
        "Sockets closed at once: too many connections"
    );
    describe_counter!(TLS_HANDSHAKES, "Handshakes of TLS that were done");
    describe_counter!(TLS_FAILED, "Handshakes of TLS that failed, by reason");
    describe_gauge!(
        TLS_NOT_AFTER,
        Unit::Seconds,
        "When the certificate of a listener ends, in seconds since 1970"
    );
    describe_gauge!(CONNECTIONS, "Clients connected");
    describe_gauge!(SESSIONS, "Sessions, connected or kept");
    describe_counter!(CONNECTIONS_CLOSED, "Connections ended, by reason");
    describe_counter!(CONNECTS_REFUSED, "CONNECT packets refused");
    describe_counter!(PACKETS_RECEIVED, "Packets read, by type");
    describe_counter!(BYTES_RECEIVED, Unit::Bytes, "Bytes read from clients");
    describe_counter!(BYTES_SENT, Unit::Bytes, "Bytes written to clients");
    describe_counter!(PUBLISHES, "Publishes accepted, by QoS");
    describe_counter!(
        PUBLISHES_REJECTED,
        "QoS 1 and 2 publishes answered 0x97: the log is full"
    );
    describe_counter!(PUBLISHES_DROPPED, "QoS 0 publishes dropped: the log is full");
    describe_counter!(
        PUBLISHES_DENIED,
        "Publishes and wills that their clients may not make"
    );
    describe_counter!(DELIVERIES, "Messages queued for subscribers");
    describe_counter!(
        DELIVERIES_DROPPED,
        "Messages that a subscriber did not get, by reason"
    );
    describe_counter!(CHUNKS, "Chunks sent to the bus");
    describe_gauge!(CHUNKS_IN_FLIGHT, "Chunks on the bus that are not in the log yet");
    describe_gauge!(
        ACKS_WAITING,
        "QoS 1 and 2 publishes whose acknowledgement waits for Kafka"
    );
    describe_histogram!(
        ACK_SECONDS,
        Unit::Seconds,
        "Time from a chunk's first record to the acknowledgement of its records"
    );
    describe_histogram!(
        SOCKET_TO_BUS,
        Unit::Seconds,
        "From a chunk's first record until the chunk is on the bus"
    );
    describe_histogram!(
        BUS_TO_DURABLE,
        Unit::Seconds,
        "From a chunk on the bus until its worker finds it durable"
    );
    describe_gauge!(HELD, "Connections held back because something is full");
    describe_counter!(
        SLOWED,
        "Times that a client had to wait for its message or byte rate"
    );
    describe_spool();
    describe_store();
}

fn describe_spool() {
    describe_gauge!(
        SPOOL_BYTES,
        Unit::Bytes,
        "Bytes in the spool that are still needed"
    );
    describe_gauge!(
        SPOOL_MAX_BYTES,
        Unit::Bytes,
        "Bytes that the spool may take on disk"
    );
    describe_gauge!(
        SPOOL_OLDEST_AGE,
        Unit::Seconds,
        "Age of the oldest record in the spool that is still needed"
    );
    describe_histogram!(SPOOL_FSYNC, Unit::Seconds, "Time of one fdatasync of the spool");
    describe_histogram!(
        SPOOL_GROUP_BYTES,
        Unit::Bytes,
        "Bytes made durable by one fdatasync"
    );
    describe_histogram!(SPOOL_GROUP_CHUNKS, "Chunks made durable by one fdatasync");
    describe_gauge!(SPOOL_DURABLE, "The sequence below which all is durable");
    describe_counter!(SPOOL_DAMAGED, "Damaged places found in the spool");
    describe_counter!(
        SPOOL_FULL_SECONDS,
        Unit::Seconds,
        "Seconds in which the spool was full"
    );
    describe_gauge!(
        LOG_READER_BACKLOG,
        "Records that a consumer of the log has not done with"
    );
}

fn describe_store() {
    describe_histogram!(
        STORE_COMMIT_SECONDS,
        Unit::Seconds,
        "Time a commit of the store takes"
    );
    describe_gauge!(
        STORE_APPLIED,
        "Sequence in the log up to which the store has read"
    );
    describe_gauge!(STORE_SESSIONS, "Kept sessions in the store");
    describe_gauge!(STORE_PENDING, "Messages that wait in queues of kept sessions");
    describe_counter!(STORE_ERRORS, "Commits of the store that failed");
    describe_counter!(
        STORE_DROPPED,
        "Messages and events for which the store had no room"
    );
}

/// Packet types by the high half of their first byte (5.0 section 2.1.2).
const PACKET_TYPES: [&str; 16] = [
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Disconnect,
    Lost,
    Protocol,
    TakenOver,
    KeepAlive,
    Shutdown,
    Other,
}

/// In the order of [`Closed`].
const CLOSED: [&str; 7] = [
    "disconnect",
    "lost",
    "protocol",
    "taken_over",
    "keep_alive",
    "shutdown",
    "other",
];

/// A counter that is added to for every packet: in memory of its own thread, and for all to see once a turn.
pub(crate) struct Tally {
    shown: Counter,
    more: Cell<u64>,
}

impl Tally {
    fn new(shown: Counter) -> Self {
        let more = Cell::new(0);
        Self { shown, more }
    }

    /// Counts.
    pub fn increment(&self, by: u64) {
        self.more.set(self.more.get().wrapping_add(by));
    }

    fn show(&self) {
        let more = self.more.take();
        if more > 0 {
            self.shown.increment(more);
        }
    }
}

/// The handles of one worker.
pub(crate) struct WorkerMetrics {
    packets: [Tally; 16],
    closed: [Counter; CLOSED.len()],
    publishes: [Tally; 3],
    pub bytes_received: Tally,
    pub bytes_sent: Tally,
    pub connects_refused: Counter,
    pub publishes_rejected: Counter,
    pub publishes_dropped: Counter,
    pub publishes_denied: Counter,
    pub deliveries: Tally,
    pub dropped_qos0: Counter,
    pub dropped_full: Counter,
    pub dropped_expired: Counter,
    pub dropped_mailbox: Counter,
    pub dropped_denied: Counter,
    dropped_too_large: Counter,
    dropped_outside: Counter,
    pub chunks: Counter,
    pub ack_seconds: Histogram,
    pub connections: Gauge,
    pub connections_slowed: Counter,
    pub sessions: Gauge,
    pub held: Gauge,
    pub chunks_in_flight: Gauge,
    pub acks_waiting: Gauge,
}

impl WorkerMetrics {
    /// Handles on the recorder that is installed.
    pub fn new(worker: u16) -> Self {
        let dropped = |reason: &'static str| counter!(DELIVERIES_DROPPED, "reason" => reason);
        let worker = worker.to_string();
        Self {
            closed: CLOSED.map(|reason| counter!(CONNECTIONS_CLOSED, "reason" => reason)),
            packets: PACKET_TYPES.map(|kind| Tally::new(counter!(PACKETS_RECEIVED, "type" => kind))),
            publishes: ["0", "1", "2"].map(|qos| Tally::new(counter!(PUBLISHES, "qos" => qos))),
            bytes_received: Tally::new(counter!(BYTES_RECEIVED)),
            bytes_sent: Tally::new(counter!(BYTES_SENT)),
            connects_refused: counter!(CONNECTS_REFUSED),
            publishes_rejected: counter!(PUBLISHES_REJECTED),
            publishes_dropped: counter!(PUBLISHES_DROPPED),
            publishes_denied: counter!(PUBLISHES_DENIED),
            deliveries: Tally::new(counter!(DELIVERIES)),
            dropped_qos0: dropped("qos0"),
            dropped_full: dropped("queue_full"),
            dropped_expired: dropped("expired"),
            dropped_mailbox: dropped("mailbox_full"),
            dropped_denied: dropped("acl"),
            dropped_too_large: dropped("too_large"),
            dropped_outside: dropped("outside_mount_point"),
            chunks: counter!(CHUNKS),
            ack_seconds: histogram!(ACK_SECONDS),
            connections: gauge!(CONNECTIONS),
            connections_slowed: counter!(SLOWED),
            sessions: gauge!(SESSIONS, "worker" => worker.clone()),
            held: gauge!(HELD, "worker" => worker.clone()),
            chunks_in_flight: gauge!(CHUNKS_IN_FLIGHT, "worker" => worker.clone()),
            acks_waiting: gauge!(ACKS_WAITING, "worker" => worker),
        }
    }

    /// Shows what was counted in this turn.
    pub fn show(&self) {
        let often = [&self.bytes_received, &self.bytes_sent, &self.deliveries];
        let tallies = self.packets.iter().chain(&self.publishes).chain(often);
        tallies.for_each(Tally::show);
    }

    /// Counts a connection that ended.
    pub fn closed(&self, why: Closed) {
        if let Some(counter) = self.closed.get(why as usize) {
            counter.increment(1);
        }
    }

    /// Counts packets by their first byte.
    #[inline]
    pub fn packets(&self, first_byte: u8, count: u64) {
        if let Some(counter) = self.packets.get(usize::from(first_byte >> 4)) {
            counter.increment(count);
        }
    }

    /// Counts messages that were given up while they waited.
    pub fn dropped(&self, drops: Drops) {
        if drops != Drops::default() {
            self.dropped_too_large.increment(u64::from(drops.too_large));
            self.dropped_expired.increment(u64::from(drops.expired));
            self.dropped_qos0.increment(u64::from(drops.qos0));
            self.dropped_full.increment(u64::from(drops.full));
            self.dropped_outside.increment(u64::from(drops.outside));
        }
    }

    /// Counts a publish that was accepted.
    #[inline]
    pub fn publish(&self, qos: QoS) {
        if let Some(counter) = self.publishes.get(qos as usize) {
            counter.increment(1);
        }
    }
}
