//! The producer: what the pump needs of one, and the one that is rdkafka. A scripted one for tests stands beside it.

mod native;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod topics;

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};
pub(crate) use rdkafka::types::RDKafkaErrorCode as Code;

use crate::route::Header;
use native::Native;

/// A record for Kafka.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [Header<'a>],
    /// Milliseconds since 1970; none: the producer takes the time of sending.
    pub(crate) timestamp: Option<i64>,
    /// Comes back with the report.
    pub(crate) opaque: usize,
}

/// What became of a record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) opaque: usize,
    pub(crate) result: Result<(), Code>,
}

/// What a producer has to tell.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Reports, in the order in which they came.
    pub(crate) sent: Vec<Sent>,
    /// The last trouble with the brokers, in words.
    pub(crate) trouble: Option<String>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The producer's queue is full: try again later.
    Full,
    /// It refuses.
    Refused(Code),
}

/// A producer: idempotent, in order for each partition.
pub(crate) trait Producer: Send {
    /// Takes a record; its report comes with [`Producer::poll`].
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError>;

    /// Adds what there is to tell to `events`; waits up to `wait` for it.
    fn poll(&mut self, wait: Duration, events: &mut Events);

    /// Has what was sent go out at once, whatever it would have gathered for; takes up to `wait`.
    fn hasten(&mut self, wait: Duration);

    /// Gives up all that was sent: each record is reported.
    fn purge(&mut self);

    /// Records that are sent and not reported.
    fn in_flight(&self) -> usize;
}

/// Makes producers, each with a new identity at the brokers.
pub(crate) trait Producers: Send {
    /// A new producer; `apart`: for topics that may fail, whose records go one at a time.
    fn create(&mut self, apart: bool) -> Result<Box<dyn Producer>, String>;
}

/// Makes producers of rdkafka.
#[derive(Debug)]
pub(crate) struct KafkaProducers {
    /// What the producer of all that flows is told.
    pub(crate) config: ClientConfig,
    /// What the one apart is told.
    pub(crate) apart: ClientConfig,
}

impl Producers for KafkaProducers {
    fn create(&mut self, apart: bool) -> Result<Box<dyn Producer>, String> {
        let config = if apart { &self.apart } else { &self.config };
        let producer: BaseProducer<Context> = config
            .create_with_context(Context)
            .map_err(|error| error.to_string())?;
        let native = Native::of(&producer).ok_or("librdkafka gives no queue")?;
        Ok(Box::new(KafkaProducer { native, producer }))
    }
}

struct KafkaProducer {
    /// Stands first, so that it ends first.
    native: Native,
    producer: BaseProducer<Context>,
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError> {
        self.native.send(record)
    }

    fn poll(&mut self, wait: Duration, events: &mut Events) {
        // rdkafka's own wait spins for its last millisecond, all of it where the wait is that short.
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        self.native.poll(events);
    }

    fn hasten(&mut self, wait: Duration) {
        self.native.hasten(wait);
    }

    fn purge(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or_default()
    }
}

/// What rdkafka calls back with when a producer is let go: nobody waits for it any more.
struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: usize) {}
}

/// librdkafka's log lines in Forebay's log. What it calls an error is often an outage that it mends by itself.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    // Of what Forebay itself sets nobody needs to be warned, least of all at each new producer.
    if facility == "CONFWARN" && text.contains("enable.gapless.guarantee") {
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{text}")
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}
