//! The properties of the Kafka client: which are Forebay's to set, and how the client is told.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::config::{Fault, SinkConfig};

/// Properties whose value the promise of order and delivery hangs on, under all of librdkafka's names for them.
const OURS: [(&str, &str); 17] = [
    ("enable.idempotence", "it is always true"),
    ("acks", "it is always all"),
    ("request.required.acks", "it is always all"),
    ("retries", "Forebay retries for ever"),
    ("message.send.max.retries", "Forebay retries for ever"),
    ("message.timeout.ms", "a record waits for Kafka for ever"),
    ("delivery.timeout.ms", "a record waits for Kafka for ever"),
    ("max.in.flight", "it is 5, the most that keeps order"),
    (
        "max.in.flight.requests.per.connection",
        "it is 5, the most that keeps order",
    ),
    ("partitioner", "the partition is computed as Java's client does"),
    ("queue.buffering.max.messages", "set kafka.window_records instead"),
    ("queue.buffering.max.kbytes", "set kafka.window_bytes instead"),
    ("queuing.strategy", "it is always fifo"),
    ("enable.gapless.guarantee", "it is always true"),
    ("delivery.report.only.error", "every record is reported"),
    ("transactional.id", "transactions are not there yet"),
    ("log.queue", "logs go to Forebay's own"),
];

const BOOTSTRAP: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
const LINGER: [&str; 2] = ["linger.ms", "queue.buffering.max.ms"];
const MESSAGE_MAX: &str = "message.max.bytes";

/// Adds what is wrong with `properties`.
pub(crate) fn faults(properties: &BTreeMap<String, String>, faults: &mut Vec<Fault>) {
    if !BOOTSTRAP.iter().any(|name| properties.contains_key(*name)) {
        faults.push(Fault::new(
            "kafka.properties",
            "\"bootstrap.servers\" is missing",
            "\"bootstrap.servers\" = \"broker1:9092,broker2:9092\"",
        ));
    }
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        let key = format!("kafka.properties.{name}");
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
            faults.push(Fault::new(
                key,
                "clashes with what Forebay sets",
                format!("leave it out: {why}"),
            ));
        } else if name.starts_with("test.mock.") || name == "ut_handle_ProduceResponse" {
            faults.push(Fault::new(
                key,
                "turns a mock of Kafka on",
                "leave it out: `forebay demo` has its own",
            ));
        } else {
            config.set(name, value);
            if let Err(error) = config.create_native_config() {
                faults.push(refused(&key, &error));
                config.remove(name);
            }
        }
    }
}

fn refused(key: &str, error: &KafkaError) -> Fault {
    let text = match error {
        KafkaError::ClientConfig(_, text, _, _) => text.clone(),
        other => other.to_string(),
    };
    Fault::new(
        key,
        text,
        "the names and values are those of librdkafka's CONFIGURATION.md",
    )
}

/// What the producer for topics that may fail is told: its records go one at a time, so that none waits for a next one.
pub(crate) fn producer_apart(config: &SinkConfig) -> ClientConfig {
    let mut client = producer(config);
    for name in LINGER {
        client.remove(name);
    }
    client.set("linger.ms", "0");
    client
}

/// What a producer is told. `max_record_bytes` is what the client may hold in one record; Kafka's own limit decides.
pub(crate) fn producer(config: &SinkConfig) -> ClientConfig {
    // Above what the pump lets be on its way, records of stuck partitions among it: a full queue would hold up all.
    let records = (2 * config.window_records + config.parked_bytes / 32).min(2_000_000_000);
    let kbytes = (2 * config.window_bytes + config.parked_bytes) / 1024;
    let mut client = common(config);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("max.in.flight.requests.per.connection", "5")
        .set("enable.gapless.guarantee", "true")
        .set("queue.buffering.max.messages", records.to_string())
        .set("queue.buffering.max.kbytes", kbytes.to_string());
    if !LINGER.iter().any(|name| config.properties.contains_key(*name)) {
        client.set("linger.ms", "5");
    }
    if !config.properties.contains_key(MESSAGE_MAX) {
        // The topic's limit is to decide, not the client's default of 1 MB: room for the packet, its key and headers.
        let max = (config.max_packet_bytes * 2 + 1024 * 1024).min(1_000_000_000);
        client.set(MESSAGE_MAX, max.to_string());
        if !config.properties.contains_key("batch.size") {
            client.set("batch.size", "1000000");
        }
    }
    client
}

/// What every client is told: the producers, and the one that asks for topics.
pub(crate) fn common(config: &SinkConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    if !config.properties.contains_key("client.id") {
        client.set("client.id", "forebay");
    }
    // A broker that is back is found again soon, and not by all at the same moment (librdkafka adds jitter).
    if !config.properties.contains_key("reconnect.backoff.max.ms") {
        client.set("reconnect.backoff.max.ms", "2000");
    }
    client.set_log_level(RDKafkaLogLevel::Warning);
    client
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn faults_of(name: &str, value: &str) -> Vec<Fault> {
        let properties = BTreeMap::from([
            ("bootstrap.servers".to_owned(), "k:9092".to_owned()),
            (name.to_owned(), value.to_owned()),
        ]);
        let mut found = Vec::new();
        faults(&properties, &mut found);
        found
    }

    #[test]
    fn both_names_of_what_forebay_sets_are_refused() {
        for (name, _) in OURS {
            let found = faults_of(name, "1");
            assert_eq!(found.len(), 1, "{name}");
            assert!(found[0].text.contains("clashes"), "{name}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_in_librdkafkas_own_words() {
        let found = faults_of("bootstrap.server", "k:9092");
        assert!(
            found[0].text.contains("No such configuration property"),
            "{found:?}"
        );
        let found = faults_of("compression.type", "zip");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn other_properties_pass() {
        for (name, value) in [
            ("linger.ms", "50"),
            ("queue.buffering.max.ms", "50"),
            ("compression.type", "lz4"),
            ("security.protocol", "SASL_SSL"),
        ] {
            assert_eq!(faults_of(name, value), Vec::new(), "{name}");
        }
        assert!(!faults_of("test.mock.num.brokers", "1").is_empty());
    }

    #[test]
    fn without_brokers_nothing_starts() {
        let mut found = Vec::new();
        faults(&BTreeMap::new(), &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn librdkafka_takes_what_a_producer_is_told() {
        let config = SinkConfig {
            properties: BTreeMap::from([("bootstrap.servers".into(), "k:9092".into())]),
            ..SinkConfig::default()
        };
        producer(&config).create_native_config().unwrap();
    }
}
