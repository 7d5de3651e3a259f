//! What `verify` found, as a table for people and as JSON for machines.

use std::fmt;
use std::time::Duration;

use forebay_broker::codec::QoS;

use super::{Keys, Options};
use crate::fleet::tally::Tally;

/// The result.
#[derive(Debug)]
pub struct Report {
    counts: Vec<(&'static str, &'static str, u64)>,
    passed: bool,
    notes: Vec<String>,
    examples: Vec<String>,
    last_failure: Option<String>,
    published_for: Duration,
}

impl Report {
    /// Takes the counts.
    pub fn new(tally: &Tally, options: &Options, keys: Keys, published_for: Duration) -> Self {
        let lost = tally.missing();
        let scattered = tally.scattered();
        let mut notes = Vec::new();
        if tally.in_kafka == 0 {
            notes.push(
                "nothing came out of Kafka: is it the right topic, and does it get what is published?"
                    .to_owned(),
            );
        }
        if tally.acknowledged == 0 && options.qos != QoS::AtMostOnce {
            notes.push("nothing was acknowledged, so nothing was proven".to_owned());
        }
        if scattered > 0 {
            notes.push(format!(
                "{scattered} devices have records in several partitions: Kafka keeps no order between those"
            ));
        }
        if options.qos == QoS::AtMostOnce {
            let gone = tally.published.saturating_sub(tally.in_kafka);
            notes.push(format!(
                "QoS 0 promises nothing: {gone} publishes are not in Kafka"
            ));
        }
        Self {
            counts: vec![
                ("published", "published", tally.published),
                ("acknowledged", "acknowledged", tally.acknowledged),
                ("refused", "refused", tally.refused),
                ("in Kafka", "in_kafka", tally.in_kafka),
                ("lost", "lost", lost),
                ("duplicated", "duplicated", tally.doubled),
                ("out of order", "out_of_order", tally.out_of_order),
                ("devices in several partitions", "scattered_devices", scattered),
                ("keyed by device", "keyed_by_device", keys.device),
                ("keyed otherwise", "keyed_otherwise", keys.other),
                ("without a key", "without_key", keys.none),
                (
                    "connections failed or lost",
                    "connection_failures",
                    tally.failures,
                ),
                ("records of others", "other_records", tally.others),
            ],
            passed: lost == 0
                && tally.out_of_order == 0
                && tally.in_kafka > 0
                && (tally.acknowledged > 0 || options.qos == QoS::AtMostOnce),
            notes,
            examples: tally.examples(),
            last_failure: tally.last_failure.clone(),
            published_for,
        }
    }

    /// Nothing acknowledged is lost, nothing is out of order, and something was proven.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("passed".to_owned(), self.passed.into());
        for (_, key, count) in &self.counts {
            object.insert((*key).to_owned(), (*count).into());
        }
        object.insert(
            "published_for_s".to_owned(),
            self.published_for.as_secs_f64().into(),
        );
        object.insert("notes".to_owned(), self.notes.clone().into());
        object.insert("examples".to_owned(), self.examples.clone().into());
        object.insert(
            "last_connection_failure".to_owned(),
            self.last_failure.clone().into(),
        );
        serde_json::Value::Object(object).to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, _, count) in &self.counts {
            writeln!(f, "{name:<30}{count:>12}")?;
        }
        for example in &self.examples {
            writeln!(f, "  {example}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if let Some(failure) = &self.last_failure {
            writeln!(f, "note: the last connection failed because: {failure}")?;
        }
        writeln!(f, "{}", if self.passed { "ok" } else { "FAILED" })
    }
}
