//! What a device of `verify` sends, and how it is found again in whatever a bridge made of it.
//!
//! The payload is a JSON object, `{"verify":"fbv:RUN:DEVICE:NUMBER;","fill":"..."}`: some bridges take nothing else. The
//! mark within has no character that JSON escapes, so it stands in an envelope as it was sent.

use crate::fleet::Messages;

const MARK: &str = "fbv:";

/// The messages of one run.
#[derive(Debug, Clone)]
pub struct Numbered {
    run: String,
    topic_template: String,
    bytes: usize,
}

impl Numbered {
    /// `run` tells this run's messages from those of others: letters and digits.
    pub fn new(run: String, topic_template: String, bytes: usize) -> Self {
        Self {
            run,
            topic_template,
            bytes,
        }
    }

    /// The device and the number of a message, from the value of a record; `None` when it is not of this run.
    pub fn parse(&self, value: &[u8]) -> Option<(u32, u64)> {
        let mark = format!("{MARK}{}:", self.run).into_bytes();
        let at = value.windows(mark.len()).position(|window| window == mark)?;
        let rest = value.get(at + mark.len()..)?;
        let end = rest.iter().position(|byte| *byte == b';')?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        let (device, number) = text.split_once(':')?;
        Some((device.parse().ok()?, number.parse().ok()?))
    }
}

impl Messages for Numbered {
    fn name(&self, device: u32) -> String {
        format!("verify-{}-{device}", self.run)
    }

    fn topic(&self, device: u32) -> String {
        self.topic_template.replace("{device_id}", &self.name(device))
    }

    fn payload(&self, device: u32, number: u64) -> Vec<u8> {
        let head = format!("{{\"verify\":\"{MARK}{}:{device}:{number};\"", self.run);
        // The rest of an object with a filling: `,"fill":""}`.
        let fill = self.bytes.saturating_sub(head.len() + 11);
        match fill {
            0 => format!("{head}}}").into_bytes(),
            fill => format!("{head},\"fill\":\"{}\"}}", "x".repeat(fill)).into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered() -> Numbered {
        Numbered::new("r1".to_owned(), "a/{device_id}/b".to_owned(), 100)
    }

    #[test]
    fn a_message_is_found_alone_and_in_an_envelope() {
        let messages = numbered();
        let payload = messages.payload(7, 42);
        assert_eq!(payload.len(), 100);
        assert_eq!(messages.parse(&payload), Some((7, 42)));
        let text = String::from_utf8(payload).unwrap();
        let nested = format!("{{\"topic\":\"a/x/b\",\"data\":{text}}}");
        let escaped = serde_json::json!({ "topic": "a/x/b", "payload": text }).to_string();
        for value in [nested, escaped] {
            assert_eq!(messages.parse(value.as_bytes()), Some((7, 42)), "{value}");
        }
    }

    #[test]
    fn each_payload_is_json() {
        let mut messages = numbered();
        for bytes in [0, 40, 60, 1000] {
            messages.bytes = bytes;
            serde_json::from_slice::<serde_json::Value>(&messages.payload(1, 2)).unwrap();
        }
    }

    #[test]
    fn what_others_sent_is_not_of_this_run() {
        let messages = numbered();
        let other = Numbered::new("r2".to_owned(), String::new(), 0).payload(7, 42);
        for value in [
            &other[..],
            b"",
            b"hello",
            b"fbv:r1:7",
            b"fbv:r1:7:x;",
            b"fbv:r1:7;",
        ] {
            assert_eq!(messages.parse(value), None, "{value:?}");
        }
        assert_eq!(messages.topic(3), "a/verify-r1-3/b");
    }
}
