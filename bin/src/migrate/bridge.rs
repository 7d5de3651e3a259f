//! Bridges: what they took to another broker on its way to Kafka, routes take there at once.

use super::document::Block;
use super::read::{Bridge, Setting};
use super::value::quoted;
use super::{Note, Origin};

/// The note about a bridge, and routes for what it took out, as a suggestion.
pub fn routes(bridge: &Bridge, notes: &mut Vec<Note>) -> Vec<Block> {
    let address = bridge
        .settings
        .iter()
        .find(|setting| setting.key.starts_with("address"));
    let address = address.map_or("another broker", |setting| setting.value.as_str());
    let name = &bridge.begin.value;
    let topics: Vec<&Setting> = bridge
        .settings
        .iter()
        .filter(|setting| setting.key == "topic")
        .collect();
    let out: Vec<(String, &Origin)> = topics
        .iter()
        .filter_map(|topic| Some((taken_out(&topic.value)?, &topic.origin)))
        .collect();
    let hint = if out.is_empty() {
        "let the clients there connect here, or keep a bridge beside Forebay".to_owned()
    } else {
        let filters: Vec<&str> = out.iter().map(|(filter, _)| filter.as_str()).collect();
        format!(
            "if it brought messages on their way to Kafka, the way into Kafka replaces it: {} as [[route]] sections, written as comments",
            filters.join(", ")
        )
    };
    notes.push(Note {
        origin: Some(bridge.begin.origin.clone()),
        text: format!("bridge {name} to {address} is not carried over: bridges are not built"),
        hint,
    });
    let route = |(filter, origin): (String, &Origin)| {
        let mut block = Block::new("[[route]]", Some(origin));
        block.set("filter", &quoted(&filter), Some(origin));
        block.set("topic", &quoted(&kafka_topic(&filter)), Some(origin));
        block.take_out(&format!(
            "Instead of bridge {name}; needs [kafka.properties] with \"bootstrap.servers\"."
        ));
        block
    };
    out.into_iter().map(route).collect()
}

/// The filter of what a `topic` line takes out: pattern, direction, QoS, local prefix, remote prefix.
fn taken_out(value: &str) -> Option<String> {
    let mut words = value.split_whitespace();
    let pattern = words.next()?;
    if !matches!(words.next().unwrap_or("out"), "out" | "both") {
        return None;
    }
    let bare = |word: &str| {
        if word == "\"\"" {
            String::new()
        } else {
            word.to_owned()
        }
    };
    let prefix = words.nth(1).map(bare).unwrap_or_default();
    Some(format!("{prefix}{}", bare(pattern)))
}

/// A name that Kafka takes, after the fixed levels of the filter.
fn kafka_topic(filter: &str) -> String {
    let levels = filter
        .split('/')
        .filter(|level| !matches!(*level, "+" | "#" | ""));
    let name: String = levels
        .collect::<Vec<_>>()
        .join(".")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect();
    if name.is_empty() { "mqtt".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_go_out_become_filters_and_names() {
        for (line, filter) in [
            ("sensors/#", Some("sensors/#")),
            ("# out 1 site/ remote/", Some("site/#")),
            ("a/+ both 2 \"\" up/", Some("a/+")),
            ("cmd/# in 1", None),
            ("", None),
        ] {
            assert_eq!(taken_out(line).as_deref(), filter, "{line}");
        }
        for (filter, name) in [("site/+/up/#", "site.up"), ("#", "mqtt"), ("a b/ü", "a_b._")] {
            assert_eq!(kafka_topic(filter), name);
        }
    }
}
