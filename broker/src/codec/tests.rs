//! First checks of the codec: what is written is read back.
use super::*;

#[test]
fn a_publish_is_read_back_in_every_version() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut properties = PropertiesBuf::default();
        if version == Version::V5 {
            properties.push(Property::UserProperty("a", "b"));
        }
        let packet = Packet::Publish(Publish {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "devices/d7/telemetry",
            packet_id: PacketId::new(7),
            payload: b"21.5",
            properties: properties.as_properties(),
        });
        let mut out = Vec::new();
        encode(version, &packet, &mut out).unwrap();
        assert_eq!(frame_len(&out, 1000).unwrap(), Some(out.len()));
        assert_eq!(decode(version, &out).unwrap(), packet);
    }
}

#[test]
fn a_connect_is_read_back_in_every_version() {
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
        let mut out = Vec::new();
        encode(version, &packet, &mut out).unwrap();
        assert_eq!(decode(Version::V5, &out).unwrap(), packet);
    }
}
