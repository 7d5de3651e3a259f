//! Records as bytes: what is written is read, what is cut off or spoilt is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use proptest::prelude::*;

use super::*;
use crate::classify::{Class, Level, RouteIds};
use crate::codec::{PacketId, Properties, Publish, QoS};
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

/// What a stem writes is what a record writes that says the same.
#[test]
fn a_stem_begins_a_record_as_the_record_begins() {
    let properties = [0x03, 0, 1, b'x'];
    let level = |number| Level::try_from(number).unwrap();
    for (case, routes) in (0u8..96).zip([&[][..], &[7], &[0, 9, 1, 2, 3, 4]].into_iter().cycle()) {
        let username = (case & 1 != 0).then_some("meter");
        let publish = Publish {
            dup: case & 2 != 0,
            qos: QoS::try_from(case % 3).unwrap(),
            retain: case & 4 != 0,
            topic: "devices/d7/telemetry",
            packet_id: (case % 3 != 0).then(|| PacketId::new(0xA1B2).unwrap()),
            payload: &b"21.5 degrees"[..usize::from(case % 12)],
            properties: Properties::from_checked(if case & 8 != 0 { &properties } else { &[] }),
        };
        let class = Class {
            generation: 0x0102_0304,
            level: level(case / 32),
            routes: RouteIds::from_slice(routes),
        };
        let accepted = Accepted {
            arrival_ms: 1_763_722_800_000,
            matched: (case & 16 != 0).then_some(1 << 60),
        };
        let stem = Stem::new("d7", username, publish.topic, class.clone());
        let mut bytes = b"before".to_vec();
        stem.write(&publish, accepted, &mut bytes);
        let record = PublishRecord {
            qos: publish.qos,
            retain: publish.retain,
            level: class.level,
            packet_id: publish.packet_id.map_or(0, u16::from),
            arrival_ms: accepted.arrival_ms,
            generation: class.generation,
            routes: class.routes,
            matched: accepted.matched,
            client_id: "d7",
            username,
            topic: publish.topic,
            properties: (case & 8 != 0).then_some(&properties),
            payload: publish.payload,
        };
        let mut whole = b"before".to_vec();
        record.write(&mut whole);
        assert_eq!(bytes, whole, "{record:?}");
        let len = whole.len() - 6;
        assert!(stem.record_bytes(&publish) >= len && stem.record_bytes(&publish) <= len + MATCHED_BYTES);
        assert_eq!(stem.hurries(&publish), record.hurries());
        assert_eq!(stem.concerns_store(&publish, accepted), record.concerns_store());
        assert_eq!(stem.topic(), publish.topic);
    }
}

#[test]
fn texts_that_are_cut_inside_a_character_are_refused() {
    let record = Record::Publish(PublishRecord {
        client_id: "dé",
        topic: "ß/t",
        ..publish()
    });
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    assert_eq!(Record::read(&bytes).unwrap().0, record);
    // The lengths of client id, user name and topic add up as before.
    for [client_id, username, topic] in [[2, 6, 4], [3, 6, 3]] {
        let mut bytes = bytes.clone();
        (bytes[20], bytes[22], bytes[24]) = (client_id, username, topic);
        assert_eq!(Record::read(&bytes), Err(RecordError::Invalid("UTF-8")));
    }
    let client_id_at = HEAD_BYTES + MATCHED_BYTES + 4;
    bytes[client_id_at] = 0xFF;
    assert_eq!(Record::read(&bytes), Err(RecordError::Invalid("UTF-8")));
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
