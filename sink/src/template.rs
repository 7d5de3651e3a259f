//! Templates for topic names and keys: text with `{variables}` that a publish fills in (pure).

use std::borrow::Cow;

use forebay_broker::record::PublishRecord;
use sonic_rs::{JsonValueTrait, LazyValue, PointerNode};

/// Names that a capture can't have.
pub(crate) const RESERVED: [&str; 6] = ["client_id", "username", "topic", "qos", "cert_cn", "json"];

/// Whether Kafka takes `name` as the name of a topic.
pub(crate) fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// A level that the filter captured, by its number among the captures.
    Capture(usize),
    ClientId,
    Username,
    Topic,
    /// One level of the topic, from 0.
    TopicLevel(usize),
    QoS,
    /// A member of the JSON payload, by the unescaped tokens of its pointer.
    Json(Vec<String>),
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// A variable that this publish does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing;

impl Template {
    /// Reads a template for a filter that captures `captures`.
    pub(crate) fn parse(text: &str, captures: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, after) = rest.split_once('{').unwrap_or((rest, ""));
            if plain.contains('}') {
                return Err("} without {".to_owned());
            }
            if !plain.is_empty() {
                parts.push(Part::Text(plain.into()));
            }
            if plain.len() == rest.len() {
                break;
            }
            let (name, after) = after.split_once('}').ok_or("{ without }")?;
            parts.push(Self::variable(name, captures)?);
            rest = after;
        }
        if parts.is_empty() {
            return Err("is empty".to_owned());
        }
        Ok(Self { parts })
    }

    fn variable(name: &str, captures: &[&str]) -> Result<Part, String> {
        if let Some(at) = captures.iter().position(|capture| *capture == name) {
            return Ok(Part::Capture(at));
        }
        if let Some(level) = name.strip_prefix("topic[").and_then(|l| l.strip_suffix(']')) {
            let level = level
                .parse()
                .map_err(|_| format!("{{{name}}}: a level is a number from 0"))?;
            return Ok(Part::TopicLevel(level));
        }
        if let Some(pointer) = name.strip_prefix("json:") {
            let tokens = pointer
                .strip_prefix('/')
                .ok_or_else(|| format!("{{{name}}}: a JSON pointer begins with /"))?;
            let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
            return Ok(Part::Json(tokens.split('/').map(unescape).collect()));
        }
        match name {
            "client_id" => Ok(Part::ClientId),
            "username" => Ok(Part::Username),
            "topic" => Ok(Part::Topic),
            "qos" => Ok(Part::QoS),
            "cert_cn" => Err("{cert_cn} is not there yet: certificates of clients are no names".to_owned()),
            _ => Err(format!(
                "{{{name}}} is neither captured by the filter nor a variable"
            )),
        }
    }

    /// The text, where it has no variable.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends what the template stands for in `record`.
    pub(crate) fn render(
        &self,
        record: &PublishRecord<'_>,
        captured: &[&str],
        out: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => &**text,
                Part::Capture(at) => *captured.get(*at).ok_or(Missing)?,
                Part::ClientId => record.client_id,
                Part::Username => record.username.ok_or(Missing)?,
                Part::Topic => record.topic,
                Part::TopicLevel(level) => record.topic.split('/').nth(*level).ok_or(Missing)?,
                Part::QoS => *["0", "1", "2"].get(record.qos as usize).ok_or(Missing)?,
                Part::Json(tokens) => {
                    json(record.payload, tokens, out)?;
                    continue;
                }
            };
            out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }
}

/// Appends the member that `tokens` point at: a string without its quotes, a number or boolean as it is written.
fn json(payload: &[u8], tokens: &[String], out: &mut Vec<u8>) -> Result<(), Missing> {
    let (last, before) = tokens.split_last().ok_or(Missing)?;
    let mut at = Cow::Borrowed(
        std::str::from_utf8(payload)
            .map_err(|_| Missing)?
            .trim_ascii_start(),
    );
    for token in before {
        let inner = member(&at, token)?.as_raw_str().to_owned();
        at = Cow::Owned(inner);
    }
    let value = member(&at, last)?;
    if let Some(text) = value.as_str() {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    if value.is_number() || value.is_boolean() {
        out.extend_from_slice(value.as_raw_str().as_bytes());
        return Ok(());
    }
    Err(Missing)
}

/// A token is an index where it is a number and stands before an array, else a name (RFC 6901).
fn member<'a>(json: &'a str, token: &str) -> Result<LazyValue<'a>, Missing> {
    let node = match token.parse() {
        Ok(index) if json.starts_with('[') => PointerNode::Index(index),
        _ => PointerNode::Key(token.to_owned().into()),
    };
    sonic_rs::get(json, [&node]).map_err(|_| Missing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::route::tests::record;
    use proptest::prelude::*;

    fn rendered(template: &str, payload: &str) -> Result<String, Missing> {
        let template = Template::parse(template, &["device_id"]).unwrap();
        let mut record = record("devices/d7/x", payload.as_bytes());
        record.username = None;
        let mut out = Vec::new();
        template.render(&record, &["d7"], &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_variable_stands_for_its_part() {
        let cases = [
            ("plain", "plain"),
            ("{device_id}", "d7"),
            ("t-{device_id}-{qos}", "t-d7-1"),
            ("{client_id}", "client"),
            ("{topic}", "devices/d7/x"),
            ("{topic[0]}.{topic[2]}", "devices.x"),
        ];
        for (template, expected) in cases {
            assert_eq!(rendered(template, "").as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_json_member_is_found_by_its_pointer() {
        let payload = r#" {"id":"a\"b","n":-1.50,"list":[{"x":true},7],"o":{"0":"zero","a/b":"slash"}} "#;
        let cases = [
            ("{json:/id}", Ok("a\"b")),
            ("{json:/n}", Ok("-1.50")),
            ("{json:/list/0/x}", Ok("true")),
            ("{json:/list/1}", Ok("7")),
            ("{json:/o/0}", Ok("zero")),
            ("{json:/o/a~1b}", Ok("slash")),
            ("{json:/o}", Err(Missing)),
            ("{json:/none}", Err(Missing)),
            ("{json:/list/9}", Err(Missing)),
        ];
        for (template, expected) in cases {
            assert_eq!(
                rendered(template, payload),
                expected.map(str::to_owned),
                "{template}"
            );
        }
        assert_eq!(rendered("{json:/id}", "not json"), Err(Missing));
    }

    #[test]
    fn a_variable_that_is_missing_is_said() {
        assert_eq!(rendered("{username}", ""), Err(Missing));
        assert_eq!(rendered("{topic[9]}", ""), Err(Missing));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "{",
            "}",
            "{x",
            "x}",
            "{nobody}",
            "{topic[x]}",
            "{json:id}",
            "{cert_cn}",
        ] {
            assert!(Template::parse(text, &["device_id"]).is_err(), "{text}");
        }
    }

    #[test]
    fn topic_names_are_kafkas() {
        for name in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert!(is_topic_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "\u{e9}", &"x".repeat(250)] {
            assert!(!is_topic_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_template_and_payload_are_read_without_a_panic(text in "\\PC{0,30}", payload in "\\PC{0,60}") {
            if let Ok(template) = Template::parse(&text, &["device_id"]) {
                let mut out = Vec::new();
                let _ = template.render(&record("a/b", payload.as_bytes()), &["d"], &mut out);
            }
            let _ = rendered("{json:/a/0/b}", &payload);
        }
    }
}
