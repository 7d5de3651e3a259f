//! The JSON envelope of a route with `value = "json"` (pure).
//!
//! ```json
//! {"device_id":"d7","timestamp":1763722800000,"topic":"devices/d7/telemetry","qos":1,"data":{"t":21.5}}
//! ```
//!
//! `timestamp` is the time of arrival in milliseconds since 1970. `data` is the payload where that is JSON itself;
//! any other payload is a string of base64, and a member `"encoding":"base64"` before it says so. An empty payload is
//! `null`. `device_id` is the level that the filter captures under that name, else the client id.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forebay_broker::record::PublishRecord;
use serde::de::IgnoredAny;

/// Appends the envelope of `record`.
pub(crate) fn write(record: &PublishRecord<'_>, device_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"device_id\":");
    string(device_id, out);
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(record.arrival_ms.to_string().as_bytes());
    out.extend_from_slice(b",\"topic\":");
    string(record.topic, out);
    out.extend_from_slice(b",\"qos\":");
    out.push(b'0' + record.qos as u8);
    if record.payload.is_empty() {
        out.extend_from_slice(b",\"data\":null}");
    } else if serde_json::from_slice::<IgnoredAny>(record.payload).is_ok() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(record.payload);
        out.push(b'}');
    } else {
        out.extend_from_slice(b",\"encoding\":\"base64\",\"data\":\"");
        let start = out.len();
        let room = base64::encoded_len(record.payload.len(), true).unwrap_or_default();
        out.resize(start + room, 0);
        if let Some(place) = out.get_mut(start..) {
            // The room was computed for just this input: it fits.
            let _ = STANDARD.encode_slice(record.payload, place);
        }
        out.extend_from_slice(b"\"}");
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Writing a str to a Vec can't fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::route::tests::record;
    use proptest::prelude::*;

    fn envelope(payload: &[u8]) -> String {
        let mut out = Vec::new();
        write(&record("devices/d7/x", payload), "d7", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_stands_as_it_came() {
        assert_eq!(
            envelope(br#"{"t":21.50}"#),
            r#"{"device_id":"d7","timestamp":1763722800000,"topic":"devices/d7/x","qos":1,"data":{"t":21.50}}"#
        );
        assert!(envelope(b"21.5").ends_with(r#""data":21.5}"#));
        assert!(envelope(b"").ends_with(r#""data":null}"#));
    }

    #[test]
    fn other_bytes_are_base64_and_say_so() {
        assert!(envelope(&[0xff, 0]).ends_with(r#""encoding":"base64","data":"/wA="}"#));
        assert!(envelope(b"{\"cut\":").contains("base64"));
    }

    proptest! {
        #[test]
        fn an_envelope_is_always_json(payload in proptest::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,20}", id in "\\PC{0,10}") {
            for payload in [payload.as_slice(), text.as_bytes()] {
                let mut out = Vec::new();
                write(&record("a/b", payload), &id, &mut out);
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                prop_assert_eq!(value["device_id"].as_str().unwrap(), id.as_str());
                if value["encoding"] == "base64" {
                    prop_assert_eq!(STANDARD.decode(value["data"].as_str().unwrap()).unwrap(), payload);
                }
            }
        }
    }
}
