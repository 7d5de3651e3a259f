//! What the sink can be told: plain values with their defaults, and every fault in them with its remedy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use forebay_broker::classify::Level;

use crate::{filter, properties, route, template};

const MIB: usize = 1024 * 1024;

/// Header names that a route may ask for.
pub const HEADERS: [&str; 10] = [
    "mqtt.topic",
    "mqtt.qos",
    "mqtt.retain",
    "mqtt.client_id",
    "mqtt.username",
    "content-type",
    "correlation-data",
    "response-topic",
    "user-properties",
    "forebay.position",
];

/// Everything the sink needs to start.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Properties of the Kafka client under librdkafka's own names.
    pub properties: BTreeMap<String, String>,
    /// Topics that do not exist are made.
    pub create_topics: bool,
    /// Partitions of a topic that is made.
    pub partitions: u32,
    /// Copies of each partition of a topic that is made.
    pub replication: u16,
    /// Where publishes go; several may take the same one.
    pub routes: Vec<RouteConfig>,
    /// Where a publish goes that no route takes.
    pub default_topic: String,
    /// Level of a publish that no route takes.
    pub default_ack: Level,
    /// Kafka topics that templates may name in all.
    pub max_topics: usize,
    /// Greatest packet that clients may send, for a warning where a topic takes less.
    pub max_packet_bytes: usize,
    /// How long records whose publishers do not wait for Kafka are left to gather into large batches, at most.
    pub gather: Duration,
    /// Bytes of the log that are on their way at once.
    pub window_bytes: usize,
    /// Records that the producer holds at once.
    pub window_records: usize,
    /// Bytes on their way to one partition at once.
    pub partition_bytes: usize,
    /// Bytes kept for one topic that can't take records; then its publishers are held back.
    pub parked_topic_bytes: usize,
    /// Bytes kept for all such topics; then reading stops.
    pub parked_bytes: usize,
    /// Time without any report after which a partition with records on their way counts as stuck.
    pub stuck_after: Duration,
    /// Time between two looks at a topic that can't take records: the first, doubled up to twenty times it.
    pub topic_retry: Duration,
    /// Time between two looks at the partition counts of topics in use.
    pub topic_refresh: Duration,
    /// Where records go that Kafka refuses for good, with the reason in their headers; none: they stay in quarantine.
    pub dead_letter_topic: Option<String>,
    /// Time after which the records of a topic that takes none are undeliverable, where their route sends such to the
    /// dead letter topic.
    pub undeliverable_after: Duration,
    /// Directory of the refused records, which wait there for the dead letter topic or for an operator; none: they
    /// are kept in memory until the dead letter topic has them, and dropped where there is none.
    pub quarantine_dir: Option<PathBuf>,
    /// Bytes of refused records that are kept; then the partition of the next one waits.
    pub quarantine_max_bytes: u64,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            properties: BTreeMap::new(),
            create_topics: false,
            partitions: 12,
            replication: 1,
            routes: Vec::new(),
            default_topic: "mqtt".to_owned(),
            default_ack: Level::Spooled,
            max_topics: 1000,
            max_packet_bytes: 1000 * 1024,
            gather: Duration::from_millis(100),
            window_bytes: 32 * MIB,
            window_records: 200_000,
            partition_bytes: 8 * MIB,
            parked_topic_bytes: 8 * MIB,
            parked_bytes: 128 * MIB,
            stuck_after: Duration::from_secs(10),
            topic_retry: Duration::from_secs(1),
            topic_refresh: Duration::from_secs(60),
            dead_letter_topic: None,
            undeliverable_after: Duration::from_secs(60),
            quarantine_dir: None,
            quarantine_max_bytes: 1024 * MIB as u64,
        }
    }
}

/// What becomes of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Value {
    /// The payload's bytes as they came.
    #[default]
    Raw,
    /// A JSON object with device id, time of arrival, topic, QoS and the payload.
    Json,
}

/// What becomes of an empty payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empty {
    /// An empty value.
    #[default]
    Value,
    /// No value: a tombstone in a compacted topic.
    Null,
}

/// What becomes of the records of a topic that can't take them for long: it is missing, or may not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undeliverable {
    /// They wait until it can.
    #[default]
    Retry,
    /// After [`SinkConfig::undeliverable_after`] they go to the dead letter topic.
    DeadLetter,
}

/// One route.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// Name in logs and faults.
    pub name: String,
    /// MQTT topic filter; a level `{name}` matches one level and captures it.
    pub filter: String,
    /// Kafka topic, may be a template.
    pub topic: String,
    /// Key, may be a template; none: `{device_id}` if the filter captures it, else `{client_id}`.
    pub key: Option<String>,
    /// What becomes of the payload.
    pub value: Value,
    /// When the publisher is acknowledged.
    pub ack: Level,
    /// Headers, from [`HEADERS`]; none: the topic, the position, and what an MQTT 5 publish itself carries.
    pub headers: Option<Vec<String>>,
    /// What becomes of an empty payload.
    pub empty: Empty,
    /// False: what this route takes goes nowhere by it, and not to the default topic either.
    pub sink: bool,
    /// What becomes of its records when their topic can't take them for long.
    pub undeliverable: Undeliverable,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            filter: "#".to_owned(),
            topic: String::new(),
            key: None,
            value: Value::default(),
            ack: Level::Spooled,
            headers: None,
            empty: Empty::default(),
            sink: true,
            undeliverable: Undeliverable::default(),
        }
    }
}

/// One fault of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text} ({hint})")]
pub struct Fault {
    /// The key at fault, such as `route[0].topic` or `kafka.properties.acks`.
    pub key: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            text: text.into(),
            hint: hint.into(),
        }
    }
}

impl SinkConfig {
    /// Everything that is wrong with it; empty when it can be started.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        properties::faults(&self.properties, &mut faults);
        self.kafka_faults(&mut faults);
        for (at, route) in self.routes.iter().enumerate() {
            route.faults(&format!("route[{at}]"), &mut faults);
            let earlier = self.routes.iter().take(at);
            if !route.name.is_empty() && earlier.into_iter().any(|r| r.name == route.name) {
                faults.push(Fault::new(
                    format!("route[{at}].name"),
                    format!("\"{}\" is the name of an earlier route", route.name),
                    "give each route its own name",
                ));
            }
        }
        if self.routes.len() > usize::from(route::MAX_ROUTES) {
            faults.push(Fault::new(
                "route",
                "too many routes",
                "at most 65,000 are possible",
            ));
        }
        faults
    }

    /// Whether the producer compresses: then a record may take less than its own size.
    pub(crate) fn compresses(&self) -> bool {
        let names = ["compression.type", "compression.codec"];
        let mut values = names.iter().filter_map(|name| self.properties.get(*name));
        values.any(|value| value != "none")
    }

    /// What is allowed but unwise.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut warnings = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            if let Some(headers) = &route.headers
                && !headers.iter().any(|h| h == "forebay.position")
                && route.sink
            {
                warnings.push(Fault::new(
                    format!("route[{at}].headers"),
                    "without forebay.position duplicates after a crash can't be told",
                    "add \"forebay.position\" unless consumers do not mind duplicates",
                ));
            }
        }
        warnings
    }

    fn kafka_faults(&self, faults: &mut Vec<Fault>) {
        let mut check = |fine: bool, key: &str, text: &str, hint: &str| {
            if !fine {
                faults.push(Fault::new(key, text, hint));
            }
        };
        check(
            (1..=100_000).contains(&self.partitions),
            "kafka.partitions",
            "out of range",
            "1 to 100000; 12 is a fair start",
        );
        check(
            (1..=100).contains(&self.replication),
            "kafka.replication",
            "out of range",
            "1 to 100; 3 where there are three brokers",
        );
        check(
            template::is_topic_name(&self.default_topic),
            "kafka.default_topic",
            "not a Kafka topic name",
            "1 to 249 of a-z A-Z 0-9 . _ -",
        );
        check(
            (1..=100_000).contains(&self.max_topics),
            "kafka.max_topics",
            "must be 1 to 100000",
            "1000 is the default",
        );
        check(
            (MIB..=16_384 * MIB).contains(&self.window_bytes)
                && self.window_records >= 100
                && self.partition_bytes >= 64 * 1024,
            "kafka.window_bytes",
            "the window is too small or too large",
            "1 MiB to 16 GiB, at least 100 records and 64 KiB per partition",
        );
        check(
            self.parked_topic_bytes >= 64 * 1024
                && self.parked_bytes >= self.parked_topic_bytes
                && self.parked_bytes <= 65_536 * MIB,
            "kafka.parked_bytes",
            "too small or too large",
            "at least 64 KiB per topic, not less in all than for one, and at most 64 GiB",
        );
        let dead = self.dead_letter_topic.as_deref();
        check(
            dead.is_none_or(template::is_topic_name),
            "kafka.dead_letter_topic",
            "not a Kafka topic name",
            "1 to 249 of a-z A-Z 0-9 . _ -",
        );
        check(
            self.quarantine_max_bytes >= 16 * MIB as u64,
            "kafka.quarantine_max_bytes",
            "too small",
            "at least 16 MiB; 1 GiB is the default",
        );
        let routes = self.routes.iter().enumerate();
        for (at, _) in routes.filter(|(_, route)| route.undeliverable == Undeliverable::DeadLetter) {
            if dead.is_none() {
                faults.push(Fault::new(
                    format!("route[{at}].undeliverable"),
                    "\"dead_letter\" needs a dead letter topic",
                    "set kafka.dead_letter_topic, or take \"retry\"",
                ));
            }
        }
    }
}

impl RouteConfig {
    fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !self.name.chars().all(plain) {
            faults.push(Fault::new(
                format!("{at}.name"),
                format!("\"{}\" can't stand in a header", self.name),
                "a-z A-Z 0-9 . _ -",
            ));
        }
        let filter = match filter::Filter::parse(&self.filter) {
            Ok(filter) => Some(filter),
            Err(text) => {
                faults.push(Fault::new(
                    format!("{at}.filter"),
                    text,
                    "as in \"devices/{device_id}/#\"",
                ));
                None
            }
        };
        if !self.sink {
            return;
        }
        let captures = filter.as_ref().map(filter::Filter::captures).unwrap_or_default();
        let mut check = |name: &str, text: &str| {
            let template = template::Template::parse(text, &captures);
            // A filter that can't be read has its own fault: do not complain about its captures as well.
            let template = match template {
                Err(_) if filter.is_none() => return None,
                other => other,
            };
            match template {
                Ok(template) => Some(template),
                Err(text) => {
                    faults.push(Fault::new(
                        format!("{at}.{name}"),
                        text,
                        "captured levels, {client_id}, {username}, {topic}, {topic[1]}, {qos}, {json:/pointer}",
                    ));
                    None
                }
            }
        };
        let topic = check("topic", &self.topic);
        if let Some(key) = &self.key {
            check("key", key);
        }
        if topic.is_some_and(|t| t.literal().is_some_and(|t| !template::is_topic_name(t))) {
            faults.push(Fault::new(
                format!("{at}.topic"),
                format!("\"{}\" is not a Kafka topic name", self.topic),
                "1 to 249 of a-z A-Z 0-9 . _ -",
            ));
        }
        for header in self.headers.iter().flatten() {
            if !HEADERS.contains(&header.as_str()) {
                faults.push(Fault::new(
                    format!("{at}.headers"),
                    format!("\"{header}\" is not known"),
                    format!("one of {}", HEADERS.join(", ")),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn good() -> SinkConfig {
        SinkConfig {
            properties: BTreeMap::from([("bootstrap.servers".into(), "127.0.0.1:9092".into())]),
            routes: vec![RouteConfig {
                filter: "devices/{device_id}/#".into(),
                topic: "telemetry".into(),
                ..RouteConfig::default()
            }],
            ..SinkConfig::default()
        }
    }

    #[test]
    fn a_good_configuration_has_no_fault() {
        assert_eq!(good().faults(), Vec::new());
        assert_eq!(good().warnings(), Vec::new());
    }

    #[test]
    fn all_faults_come_at_once() {
        let mut config = good();
        config.partitions = 0;
        config.default_topic = "a b".into();
        config.properties.insert("acks".into(), "1".into());
        config.routes[0].undeliverable = Undeliverable::DeadLetter;
        config.routes[0].topic = "{nobody}".into();
        config.routes[0].headers = Some(vec!["mqtt.colour".into()]);
        config.routes.push(RouteConfig {
            filter: "a/#/b".into(),
            topic: "no/slash".into(),
            ..RouteConfig::default()
        });
        let keys: Vec<String> = config.faults().into_iter().map(|f| f.key).collect();
        let expected = [
            "kafka.properties.acks",
            "kafka.partitions",
            "kafka.default_topic",
            "route[0].undeliverable",
            "route[0].topic",
            "route[0].headers",
            "route[1].filter",
            "route[1].topic",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn headers_without_the_position_are_warned_of() {
        let mut config = good();
        config.routes[0].headers = Some(Vec::new());
        assert_eq!(config.warnings().len(), 1);
    }
}
