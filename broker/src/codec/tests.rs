//! The wire cases, and packets that go there and back.

use std::collections::HashSet;

use super::cases::Expect;
use super::*;

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(version, packet, &mut out).unwrap();
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// What is written is read back equal, its length is found from its first bytes, and no prefix of it is a packet.
pub(super) fn check_round_trip(version: Version, packet: &Packet<'_>) {
    let bytes = encoded(version, packet);
    assert_eq!(frame_len(&bytes, bytes.len()), Ok(Some(bytes.len())));
    assert_eq!(
        frame_len(&bytes, bytes.len() - 1).map_err(|fault| fault.reason),
        Err(Reason::PacketTooLarge)
    );
    assert_eq!(decode(version, &bytes).as_ref(), Ok(packet));
    for end in 0..bytes.len().min(64) {
        assert!(decode(version, &bytes[..end]).is_err());
    }
}

#[test]
fn every_wire_case_is_what_the_table_says() {
    let mut names = HashSet::new();
    let mut wrong = Vec::new();
    for case in cases::all() {
        assert!(
            names.insert(case.name.clone()),
            "two cases are named {:?}",
            case.name
        );
        let read = decode(case.version, &case.bytes).map_err(|fault| fault.reason);
        let expected = match &case.expect {
            Expect::Packet(packet) | Expect::Read(packet) => Ok(packet.clone()),
            Expect::Fault(reason) => Err(*reason),
        };
        if read != expected {
            wrong.push(format!("{}: {read:?} instead of {expected:?}", case.name));
        }
        if let Expect::Packet(packet) = &case.expect {
            let written = encoded(case.version, packet);
            if written != case.bytes {
                wrong.push(format!("{}: written as {written:x?}", case.name));
            }
        }
        if let Expect::Read(packet) = &case.expect {
            check_round_trip(case.version, packet);
            assert_ne!(encoded(case.version, packet), case.bytes, "{}", case.name);
        }
    }
    assert!(names.len() > 500, "only {} cases", names.len());
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), names.len());
}

#[test]
fn a_publish_of_each_version_is_written_and_read() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let packet = Packet::Publish(Publish {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "devices/d7/telemetry",
            packet_id: PacketId::new(7),
            payload: b"21.5",
            properties: Properties::EMPTY,
        });
        check_round_trip(version, &packet);
    }
}

#[test]
fn a_connect_of_each_version_is_written_and_read() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let packet = Packet::Connect(Connect {
            version,
            bridge: version == Version::V311,
            clean_start: true,
            keep_alive_s: 60,
            client_id: "d7",
            will: Some(Will {
                topic: "gone",
                payload: b"x",
                qos: QoS::ExactlyOnce,
                retain: true,
                properties: Properties::EMPTY,
            }),
            username: Some("u"),
            password: Some(b"p"),
            properties: Properties::EMPTY,
        });
        check_round_trip(version, &packet);
    }
}

#[test]
fn what_can_not_be_written_leaves_the_buffer_as_it_was() {
    let long = "t".repeat(65_536);
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: &long,
        packet_id: None,
        payload: b"",
        properties: Properties::EMPTY,
    };
    let unnumbered = Publish {
        topic: "a",
        qos: QoS::AtLeastOnce,
        ..publish.clone()
    };
    let huge = vec![0; 268_435_455];
    let huge = Publish {
        topic: "a",
        payload: &huge,
        ..publish.clone()
    };
    let connect = Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: &long,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    for (packet, fault) in [
        (Packet::Publish(publish), EncodeError::FieldTooLong),
        (Packet::Publish(huge), EncodeError::PacketTooLong),
        (
            Packet::Publish(unnumbered),
            EncodeError::Contradiction("PUBLISH above QoS 0 without a packet identifier"),
        ),
        (Packet::Connect(connect), EncodeError::FieldTooLong),
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(encode(Version::V5, &packet, &mut out), Err(fault));
        assert_eq!(out, b"before");
    }
    let mut properties = PropertiesBuf::new();
    assert!(!properties.push(Property::UserProperty("a", &long)));
    assert!(properties.as_properties().is_empty());
}

#[test]
fn a_frame_is_measured_before_it_is_there() {
    let too_large = Err(Reason::PacketTooLarge);
    let malformed = Err(Reason::MalformedPacket);
    for (bytes, limit, expected) in [
        (b"".as_slice(), 100, Ok(None)),
        (b"\x30", 100, Ok(None)),
        (b"\x30\x80", 100, Ok(None)),
        (b"\x30\x80\x80\x80", 100, Ok(None)),
        (b"\xC0\x00", 2, Ok(Some(2))),
        (b"\xC0\x00", 1, too_large),
        (b"\x30\x7F", 129, Ok(Some(129))),
        (b"\x30\x7F", 128, too_large),
        (b"\x30\x80\x01", 131, Ok(Some(131))),
        (b"\x30\xFF\xFF\xFF\x7F", usize::MAX, Ok(Some(268_435_460))),
        (b"\x30\xFF\xFF\xFF\x7F", 1 << 20, too_large),
        (b"\x30\xFF\xFF\xFF\xFF", usize::MAX, malformed),
    ] {
        assert_eq!(
            frame_len(bytes, limit).map_err(|fault| fault.reason),
            expected,
            "{bytes:x?}"
        );
    }
}

#[test]
fn a_connect_that_can_not_be_read_still_names_its_version() {
    let cases = cases::all();
    let broken = cases
        .iter()
        .filter(|case| case.name.contains(" connect ") && case.bytes.len() > 9);
    for case in broken {
        let Expect::Fault(reason) = case.expect else {
            continue;
        };
        let expected = match reason {
            Reason::UnsupportedProtocolVersion => Err(reason),
            _ => Ok(case.version),
        };
        let named = peek_version(&case.bytes).map_err(|fault| fault.reason);
        assert_eq!(named, expected, "{}", case.name);
    }
    assert!(peek_version(b"\xC0\x00").is_err());
}

#[test]
fn reasons_have_their_return_codes() {
    for code in 0..=u8::MAX {
        if let Ok(reason) = Reason::try_from(code) {
            assert_eq!(reason as u8, code);
            assert_eq!(reason.return_code() == 0, !reason.is_error());
        }
    }
    let named = [
        (Reason::UnsupportedProtocolVersion, 1),
        (Reason::ClientIdentifierNotValid, 2),
        (Reason::ServerBusy, 3),
        (Reason::BadUserNameOrPassword, 4),
        (Reason::NotAuthorized, 5),
    ];
    for (reason, code) in named {
        assert_eq!(reason.return_code(), code);
    }
}

#[test]
fn a_packet_is_written_as_its_version_can_say_it() {
    let mut properties = PropertiesBuf::new();
    assert!(properties.push(Property::ReasonString("no")));
    let properties = properties.as_properties();
    let packet_id = PacketId::MIN;
    let refusal = Packet::Connack(Connack {
        session_present: true,
        reason: Reason::Banned,
        properties: Properties::EMPTY,
    });
    let kept = Packet::Connack(Connack {
        session_present: true,
        reason: Reason::Success,
        properties,
    });
    let puback = Packet::Puback(Ack {
        packet_id,
        reason: Reason::NotAuthorized,
        properties,
    });
    let suback = Packet::Suback(Suback {
        packet_id,
        reasons: vec![Reason::GrantedQoS1, Reason::TopicFilterInvalid],
        properties,
    });
    let unsuback = Packet::Unsuback(Suback {
        packet_id,
        reasons: vec![Reason::NoSubscriptionExisted],
        properties,
    });
    let disconnect = Packet::Disconnect(Disconnect {
        reason: Reason::ServerShuttingDown,
        properties,
    });
    let cases: [(&Packet<'_>, [&[u8]; 3]); 6] = [
        (
            &refusal,
            [b"\x20\x02\x00\x05", b"\x20\x02\x00\x05", b"\x20\x03\x00\x8A\x00"],
        ),
        (
            &kept,
            [
                b"\x20\x02\x00\x00",
                b"\x20\x02\x01\x00",
                b"\x20\x08\x01\x00\x05\x1F\x00\x02no",
            ],
        ),
        (
            &puback,
            [
                b"\x40\x02\x00\x01",
                b"\x40\x02\x00\x01",
                b"\x40\x09\x00\x01\x87\x05\x1F\x00\x02no",
            ],
        ),
        (
            &suback,
            [
                b"\x90\x04\x00\x01\x01\x80",
                b"\x90\x04\x00\x01\x01\x80",
                b"\x90\x0A\x00\x01\x05\x1F\x00\x02no\x01\x8F",
            ],
        ),
        (
            &unsuback,
            [
                b"\xB0\x02\x00\x01",
                b"\xB0\x02\x00\x01",
                b"\xB0\x09\x00\x01\x05\x1F\x00\x02no\x11",
            ],
        ),
        (
            &disconnect,
            [b"\xE0\x00", b"\xE0\x00", b"\xE0\x07\x8B\x05\x1F\x00\x02no"],
        ),
    ];
    for (packet, expected) in cases {
        let written = [Version::V31, Version::V311, Version::V5].map(|version| encoded(version, packet));
        assert_eq!(written, expected, "{packet:?}");
    }
}

#[test]
fn an_empty_client_id_is_for_the_version_to_allow() {
    for (version, clean_start, allowed) in [
        (Version::V31, true, false),
        (Version::V311, true, true),
        (Version::V311, false, false),
        (Version::V5, false, true),
    ] {
        let mut connect = Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive_s: 0,
            client_id: "",
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        };
        let reason = connect.check_client_id().map_err(|fault| fault.reason);
        let expected = if allowed {
            Ok(())
        } else {
            Err(Reason::ClientIdentifierNotValid)
        };
        assert_eq!(reason, expected, "{version:?} {clean_start}");
        connect.client_id = "d7";
        assert_eq!(connect.check_client_id(), Ok(()));
    }
}

/// What is known of the topic read last changes nothing.
#[test]
fn a_publish_is_read_the_same_whatever_topic_is_usual() {
    let frames = [
        &[0x32, 9, 0, 3, b'a', b'/', b'b', 0, 7, 1, 2][..],
        &[0x30, 5, 0, 3, b'a', b'/', b'#'],
        &[0x30, 5, 0, 3, b'a', b'/', 0xFF],
        &[0x30, 2, 0, 0],
        &[0x36, 9, 0, 3, b'a', b'/', b'b', 0, 7, 1, 2],
    ];
    for frame in frames {
        let plain = decode(Version::V311, frame);
        for usual in ["", "a", "a/b", "a/bc", "b/a"] {
            let known = decode_publish(Version::V311, frame, usual).map(Packet::Publish);
            assert_eq!(known, plain, "{frame:?} after {usual:?}");
        }
    }
}
