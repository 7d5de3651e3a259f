//! Every metric of this crate, by held handles. None has a label by client or topic.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
};
use metrics::{gauge, histogram};

use crate::outcome::Class;

const DELIVERED: &str = "forebay_kafka_delivered_total";
const RETRIED: &str = "forebay_kafka_retried_total";
const FAILED: &str = "forebay_kafka_failed_total";
const RECOVERIES: &str = "forebay_kafka_recoveries_total";
const IN_FLIGHT: &str = "forebay_kafka_in_flight";
const PARKED: &str = "forebay_kafka_parked_records";
const PARKED_BYTES: &str = "forebay_kafka_parked_bytes";
const SINCE_ACK: &str = "forebay_kafka_seconds_since_ack";
const READY: &str = "forebay_kafka_ready";
const POISON: &str = "forebay_sink_poison_total";
const BACKLOG: &str = "forebay_sink_backlog_records";
const DELIVERED_SEQUENCE: &str = "forebay_sink_delivered_sequence";
const QUARANTINED: &str = "forebay_quarantine_total";
const QUARANTINE: &str = "forebay_quarantine_records";
const QUARANTINE_BYTES: &str = "forebay_quarantine_bytes";
const QUARANTINE_UNREADABLE: &str = "forebay_quarantine_unreadable_files";
const SAVES: &str = "forebay_sink_cursor_saves_total";
const SAVE_ERRORS: &str = "forebay_sink_cursor_save_errors_total";
const LATENCY: &str = "forebay_publish_to_kafka_seconds";
const DURABLE_TO_KAFKA: &str = "forebay_durable_to_kafka_seconds";

/// The handles. They count for the recorder that is installed when this is made.
pub(crate) struct Metrics {
    pub(crate) delivered: Counter,
    pub(crate) retried: Counter,
    failed: [Counter; Class::ALL.len()],
    pub(crate) rejected: Counter,
    pub(crate) recoveries: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) parked: Gauge,
    pub(crate) parked_bytes: Gauge,
    pub(crate) since_ack: Gauge,
    pub(crate) ready: Gauge,
    pub(crate) poison: Counter,
    pub(crate) backlog: Gauge,
    pub(crate) delivered_sequence: Gauge,
    pub(crate) quarantined: Counter,
    pub(crate) quarantine: Gauge,
    pub(crate) quarantine_bytes: Gauge,
    pub(crate) quarantine_unreadable: Gauge,
    pub(crate) saves: Counter,
    pub(crate) save_errors: Counter,
    pub(crate) latency: Histogram,
    pub(crate) durable_to_kafka: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_log();
        describe_counter!(DELIVERED, "Records that Kafka has acknowledged");
        describe_counter!(RETRIED, "Records that were sent again under a new producer");
        describe_counter!(
            FAILED,
            "Failed reports by class of error; poison and route are refused for good, the others tried again"
        );
        describe_counter!(RECOVERIES, "Producers that were given up and replaced");
        describe_gauge!(
            IN_FLIGHT,
            "Records that are sent and not yet acknowledged by Kafka"
        );
        describe_gauge!(PARKED, "Records that wait for a topic that can't take any");
        describe_gauge!(PARKED_BYTES, Unit::Bytes, "Bytes of the parked records");
        describe_gauge!(
            SINCE_ACK,
            Unit::Seconds,
            "Time since Kafka acknowledged anything, while records wait"
        );
        describe_gauge!(READY, "1 while every record can be delivered");
        describe_histogram!(
            LATENCY,
            Unit::Seconds,
            "From arrival to Kafka's acknowledgement, sampled"
        );
        describe_histogram!(
            DURABLE_TO_KAFKA,
            Unit::Seconds,
            "From a chunk that became durable to Kafka's acknowledgement, sampled"
        );
        Self {
            delivered: counter!(DELIVERED),
            retried: counter!(RETRIED),
            failed: Class::ALL.map(|class| counter!(FAILED, "class" => class.name())),
            rejected: counter!(FAILED, "class" => "route"),
            recoveries: counter!(RECOVERIES),
            in_flight: gauge!(IN_FLIGHT),
            parked: gauge!(PARKED),
            parked_bytes: gauge!(PARKED_BYTES),
            since_ack: gauge!(SINCE_ACK),
            ready: gauge!(READY),
            poison: counter!(POISON),
            backlog: gauge!(BACKLOG),
            delivered_sequence: gauge!(DELIVERED_SEQUENCE),
            quarantined: counter!(QUARANTINED),
            quarantine: gauge!(QUARANTINE),
            quarantine_bytes: gauge!(QUARANTINE_BYTES),
            quarantine_unreadable: gauge!(QUARANTINE_UNREADABLE),
            saves: counter!(SAVES),
            save_errors: counter!(SAVE_ERRORS),
            latency: histogram!(LATENCY),
            durable_to_kafka: histogram!(DURABLE_TO_KAFKA),
        }
    }

    /// Counts a failed report.
    pub(crate) fn failed(&self, class: Class) {
        if let Some(counter) = self.failed.get(class as usize) {
            counter.increment(1);
        }
    }
}

/// What concerns the log and the quarantine.
fn describe_log() {
    describe_counter!(POISON, "Records that were refused for good");
    describe_gauge!(
        BACKLOG,
        "Records of the log from the first on that Kafka does not have"
    );
    describe_gauge!(
        DELIVERED_SEQUENCE,
        "Sequence of the log below which Kafka has all, or has refused it"
    );
    describe_counter!(QUARANTINED, "Records that were put into the quarantine");
    describe_gauge!(
        QUARANTINE,
        "Records in the quarantine that wait for the dead letter topic or an operator"
    );
    describe_gauge!(QUARANTINE_BYTES, Unit::Bytes, "Bytes of the quarantine");
    describe_gauge!(
        QUARANTINE_UNREADABLE,
        "Files of the quarantine that can't be read and were set aside"
    );
    describe_counter!(
        SAVES,
        "How often the position of the sink in the log was made durable"
    );
    describe_counter!(SAVE_ERRORS, "How often that failed");
}
