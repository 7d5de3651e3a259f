//! Chapters 1 and 2: texts, packet identifiers, property length.

use forebay_broker::codec::{Packet, PropertiesBuf, Version};

use crate::broker;
use crate::peer::{ALL, Peer, filter, publication};

#[test]
fn a_byte_order_mark_is_a_character_like_others() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "bom");
        peer.listen("\u{FEFF}a", 0);
        peer.publish(&publication("a", b"without", 0));
        peer.publish(&publication("\u{FEFF}a", b"with", 0));
        assert_eq!(peer.take_payload(b"with").topic, "\u{FEFF}a");
    }
    broker.stop();
}

#[test]
fn what_is_sent_to_a_client_has_ids_that_are_not_zero_and_not_in_use() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "ids");
        peer.listen("ids", 2);
        let mut ids = Vec::new();
        let mut unanswered = Vec::new();
        for round in 0..3 {
            for qos in [1, 2, 1, 2, 0] {
                let mut sender = Peer::connect(&broker, version, "sender");
                sender.publish(&publication("ids", b"x", qos));
                let message = peer.message();
                assert_eq!(message.qos, qos);
                if qos == 0 {
                    assert_eq!(message.id, 0, "QoS 0 has none");
                    continue;
                }
                assert_ne!(message.id, 0);
                assert!(!ids.contains(&message.id), "{} is in use: {ids:?}", message.id);
                ids.push(message.id);
                if qos == 1 {
                    unanswered.push(message.id);
                }
            }
            // Some become free in between.
            if round == 1 {
                let free = unanswered.remove(0);
                peer.send_ack(0x40, free);
                ids.retain(|id| *id != free);
            }
        }
    }
    broker.stop();
}

#[test]
fn an_answer_has_the_id_of_what_it_answers() {
    let broker = broker();
    for version in ALL {
        let five = version == Version::V5;
        let mut peer = Peer::connect(&broker, version, "answers");
        peer.listen("answers", 2);
        // One after the other with ids of their own, so that none can be taken for another.
        for (id, qos) in [(0x0102u16, 1u8), (0xFFFF, 1), (1, 2), (0x8000, 2)] {
            peer.send(&Packet::Publish(codec_publish(id, qos)));
            let mut frames = [peer.frame().unwrap(), peer.frame().unwrap()];
            frames.sort_by_key(|frame| frame[0] & 0xF0); // PUBLISH and its acknowledgement
            let [high, low] = id.to_be_bytes();
            let first = if qos == 1 { 0x40 } else { 0x50 };
            assert_eq!(frames[1][0], first);
            assert_eq!(frames[1][2..4], [high, low], "{version:?}");
            if qos == 2 {
                peer.send_ack(0x62, id);
                peer.expect(&[0x70, 2, high, low]);
            }
        }
        let rest: &[u8] = if five { b"\x00\x00\x01a" } else { b"\x00\x01a" };
        let mut unsubscribe = vec![0xA2, 4 + rest.len() as u8 - 2, 0x12, 0x34];
        unsubscribe.extend_from_slice(rest);
        peer.send_raw(&unsubscribe);
        let unsuback = peer.frame().unwrap();
        assert_eq!((unsuback[0], &unsuback[2..4]), (0xB0, &b"\x12\x34"[..]));
    }
    broker.stop();
}

fn codec_publish(id: u16, qos: u8) -> forebay_broker::codec::Publish<'static> {
    forebay_broker::codec::Publish {
        packet_id: forebay_broker::codec::PacketId::new(id),
        ..publication("answers", b"x", qos)
    }
}

#[test]
fn packets_without_properties_have_a_length_of_zero() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V5, "empty");
    peer.send_raw(b"\x82\x07\x00\x01\x00\x00\x01a\x00");
    peer.expect(b"\x90\x04\x00\x01\x00\x00");
    peer.publish(&publication("a", b"x", 0));
    peer.expect(b"\x30\x05\x00\x01a\x00x");
    peer.send_raw(b"\xA2\x06\x00\x02\x00\x00\x01a");
    peer.expect(b"\xB0\x04\x00\x02\x00\x00");
    broker.stop();
}

#[test]
fn names_may_be_as_long_as_a_string_can_be() {
    let broker = broker();
    let long = "t".repeat(65_535);
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "long");
        let granted = peer.subscribe(&[filter(&long, 1)], &PropertiesBuf::new());
        assert_eq!(granted.len(), 1);
        peer.publish(&publication(&long, b"x", 0));
        assert_eq!(peer.take_payload(b"x").topic, long);
    }
    broker.stop();
}
