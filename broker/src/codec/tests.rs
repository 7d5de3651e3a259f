//! Round trips of generated packets in each version, and hostile bytes.

use proptest::prelude::*;

use super::*;

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(version, packet, &mut out).unwrap();
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// What is written is read back equal, its length is found from its first bytes, and no prefix of it is a packet.
fn check_round_trip(version: Version, packet: &Packet<'_>) {
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

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        first in any::<u8>(),
        body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut frame = vec![first, body.len() as u8];
        frame.extend_from_slice(&body);
        for version in [Version::V31, Version::V311, Version::V5] {
            let _ = decode(version, &frame);
            let _ = decode(version, &body);
            let _ = frame_len(&body, 100);
        }
    }
}
