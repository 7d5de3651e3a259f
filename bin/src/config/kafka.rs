//! The sections of the way into Kafka: kafka, kafka.properties, route.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_sink::config::{Empty, Undeliverable};
use forebay_sink::{RouteConfig, SinkConfig, Value};

use super::fault::Faults;
use super::reader::Section;
use super::value::Table;

/// Greatest value of a number that has no bound of its own.
const ANY: i64 = u32::MAX as i64;

/// Reads them all; `None` where there is no `[kafka]`.
pub fn read(
    root: &Section<'_>,
    max_packet_bytes: usize,
    quarantine_dir: &Path,
    notices: &mut Vec<String>,
) -> Option<SinkConfig> {
    let kafka = root.section("kafka");
    let config = SinkConfig {
        properties: read_properties(&kafka),
        create_topics: kafka.flag("create_topics"),
        partitions: kafka.integer("partitions", 1..=100_000),
        replication: kafka.integer("replication", 1..=100),
        routes: root.sections("route").iter().map(read_route).collect(),
        default_topic: kafka.text("default_topic"),
        default_ack: read_ack(&kafka, "default_ack"),
        max_topics: kafka.integer("max_topics", 1..=ANY),
        max_packet_bytes,
        gather: Duration::from_millis(kafka.integer("gather_ms", 0..=100)),
        window_bytes: kafka.bytes("window_bytes"),
        window_records: kafka.integer("window_records", 100..=10_000_000),
        partition_bytes: kafka.bytes("partition_bytes"),
        parked_topic_bytes: kafka.bytes("parked_topic_bytes"),
        parked_bytes: kafka.bytes("parked_bytes"),
        dead_letter_topic: kafka.optional_text("dead_letter_topic"),
        undeliverable_after: Duration::from_secs(kafka.integer("undeliverable_after_s", 1..=ANY)),
        quarantine_dir: Some(quarantine_dir.to_owned()),
        quarantine_max_bytes: kafka.size("quarantine_max_bytes", 1..=1 << 50),
        ..SinkConfig::default()
    };
    if kafka.is_given() {
        return Some(config);
    }
    if root.has("route") {
        root.fault(
            "route",
            "there are routes, but no [kafka] to send to",
            "add [kafka.properties] with \"bootstrap.servers\", or take the routes out",
        );
    } else {
        notices.push("no [kafka] section: this is a plain MQTT broker, nothing goes to Kafka".to_owned());
    }
    None
}

/// Adds what the sink itself finds wrong, at the place of the key that each fault names. Where a fault stands already,
/// what follows from it is left out.
pub fn add_faults(config: &SinkConfig, given: &Table, faults: &Faults) {
    for fault in config.faults() {
        let place = given.place_of(&fault.key);
        if !faults.stands_at(&place) {
            faults.add(&place, format!("`{}`: {}", fault.key, fault.text), fault.hint);
        }
    }
}

fn read_properties(kafka: &Section<'_>) -> BTreeMap<String, String> {
    let section = kafka.section("properties");
    section.any_key();
    section.free_texts().into_iter().collect()
}

fn read_route(section: &Section<'_>) -> RouteConfig {
    let hint = "an MQTT filter; {name} captures a level: \"devices/{device_id}/#\"";
    let filter = section.required_text("filter", hint);
    let sink = section.flag("sink");
    let topic = if sink {
        let hint = "the Kafka topic, or `sink = false` for what shall not go to Kafka";
        section.required_text("topic", hint)
    } else {
        section.optional_text("topic").unwrap_or_default()
    };
    RouteConfig {
        name: section.optional_text("name").unwrap_or_default(),
        filter,
        topic,
        key: section.optional_text("key"),
        value: section.choice("value", &[("raw", Value::Raw), ("json", Value::Json)]),
        ack: read_ack(section, "ack"),
        headers: section.optional_texts("headers"),
        empty: section.choice("empty", &[("value", Empty::Value), ("null", Empty::Null)]),
        sink,
        undeliverable: section.choice(
            "undeliverable",
            &[
                ("retry", Undeliverable::Retry),
                ("dead_letter", Undeliverable::DeadLetter),
            ],
        ),
    }
}

fn read_ack(section: &Section<'_>, key: &'static str) -> Level {
    let choices = [
        ("spooled", Level::Spooled),
        ("kafka", Level::Kafka),
        ("received", Level::Received),
    ]
    .map(|(word, level)| (word, Some(level)));
    section.choice(key, &choices).unwrap_or(Level::Spooled)
}
