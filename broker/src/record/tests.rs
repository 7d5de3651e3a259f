//! Records as bytes: what is written is read, what is cut off or spoilt is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use proptest::prelude::*;

use super::*;
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::hub::SubscriptionOptions;

fn publish() -> PublishRecord<'static> {
    PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: true,
        level: Level::Kafka,
        packet_id: 7,
        arrival_ms: 1_763_722_800_000,
        generation: 3,
        routes: RouteIds::from_slice(&[0, 9]),
        matched: Some(1 << 60),
        client_id: "d7",
        username: Some("meter"),
        topic: "devices/d7/telemetry",
        properties: Some(&[0x03, 0, 1, b'x']),
        payload: b"21.5",
    }
}

fn session(change: Change<'_>) -> Record<'_> {
    Record::Session(SessionRecord {
        client_id: "d7",
        at_ms: 1_763_722_800_000,
        change,
    })
}

fn samples() -> Vec<Record<'static>> {
    let will = WillRecord {
        qos: QoS::ExactlyOnce,
        retain: true,
        delay_s: 9,
        topic: "gone",
        properties: &[1, 0],
        payload: b"bye",
    };
    let open = |username, will| {
        session(Change::Open(Open {
            expiry_s: 60,
            level: 5,
            username,
            will,
        }))
    };
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        subscription_id: Some(5),
        kept: true,
    };
    vec![
        Record::Publish(publish()),
        Record::Publish(PublishRecord {
            matched: None,
            username: None,
            properties: None,
            ..publish()
        }),
        session(Change::Release(8)),
        session(Change::Reset),
        open(None, None),
        open(Some("meter"), None),
        open(Some("meter"), Some(will)),
        session(Change::Closed { expiry_s: u32::MAX }),
        session(Change::Left { expiry_s: 9 }),
        session(Change::Subscribe {
            filter: "a/+/#",
            options,
            generation: 77,
            send_retained: true,
        }),
        session(Change::Unsubscribe {
            filter: "a/+/#",
            generation: 78,
        }),
    ]
}

#[test]
fn what_is_written_is_read_back_with_its_rest() {
    for sample in samples() {
        let mut bytes = Vec::new();
        sample.write(&mut bytes);
        assert_eq!(bytes.len(), sample.encoded_len(), "{sample:?}");
        bytes.extend_from_slice(b"rest");
        let (record, rest) = Record::read(&bytes).unwrap();
        assert_eq!(record, sample);
        assert_eq!(rest, b"rest");
    }
}

#[test]
fn every_cut_is_an_error() {
    for sample in samples() {
        let mut bytes = Vec::new();
        sample.write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Record::read(&bytes[..end]), Err(RecordError::Truncated));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 5..200), kind in 0u8..4) {
        let len = (bytes.len() as u32).to_le_bytes();
        bytes[..4].copy_from_slice(&len);
        bytes[4] = kind;
        let _ = Record::read(&bytes);
    }
}
