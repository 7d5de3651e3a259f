//! Sections 3.4 to 3.7, 4.3 and 4.4: acknowledgements, QoS 1 and 2 both ways, what is sent again.

use forebay_broker::bus::Outcome;
use forebay_broker::classify::Level;
use forebay_broker::codec::{Packet, PacketId, Property, Publish, Reason, Version};

use crate::broker;
use crate::peer::{ALL, Peer, properties, publication};
use crate::support::TestBroker;

fn numbered<'a>(payload: &'a [u8], qos: u8, id: u16, dup: bool) -> Packet<'a> {
    Packet::Publish(Publish {
        dup,
        packet_id: PacketId::new(id),
        ..publication("acks", payload, qos)
    })
}

#[test]
fn behind_puback_the_same_id_is_a_new_message() {
    let broker = broker();
    for version in ALL {
        let mut listener = Peer::connect(&broker, version, "listener");
        listener.listen("acks", 2);
        let mut peer = Peer::connect(&broker, version, "qos1");
        for (payload, dup) in [(b"1", false), (b"2", true), (b"2", true)] {
            peer.send(&numbered(payload, 1, 5, dup));
            peer.expect_ack(0x40, 5, Reason::Success);
            listener.take_payload(payload);
        }
    }
    broker.stop();
}

#[test]
fn qos_2_from_a_client_is_passed_on_once_until_it_is_released() {
    let broker = broker();
    for version in ALL {
        let mut listener = Peer::connect(&broker, version, "listener");
        listener.listen("acks", 2);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "qos2");
        for dup in [false, true, true, false] {
            peer.send(&numbered(b"once", 2, 5, dup));
            peer.expect_ack(0x50, 5, Reason::Success);
        }
        // Over another connection too.
        drop(peer);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "qos2");
        peer.send(&numbered(b"once", 2, 5, true));
        peer.expect_ack(0x50, 5, Reason::Success);
        peer.send_ack(0x62, 5);
        peer.expect_ack(0x70, 5, Reason::Success);
        // Released: new, whatever DUP says.
        peer.send(&numbered(b"next", 2, 5, true));
        peer.expect_ack(0x50, 5, Reason::Success);
        listener.take_payload(b"once");
        listener.take_payload(b"next");
        drop(Peer::connect(&broker, version, "qos2"));
    }
    broker.stop();
}

#[test]
fn a_release_of_an_id_that_is_not_known_is_answered() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "unknown");
        peer.send_ack(0x62, 9);
        peer.expect_ack(0x70, 9, Reason::PacketIdentifierNotFound);
        peer.send_ack(0x50, 10);
        peer.expect_ack(0x62, 10, Reason::PacketIdentifierNotFound);
        peer.send_ack(0x40, 11);
        peer.send_ack(0x70, 12);
        peer.ping(); // these are taken in silence
    }
    broker.stop();
}

#[test]
fn qos_2_to_a_client_is_released_under_its_id_and_then_not_sent_again() {
    let broker = broker();
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "to");
        peer.listen("acks", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        sender.publish(&publication("acks", b"a", 2));
        let message = peer.message();
        assert_eq!((message.qos, message.dup), (2, false));
        drop(peer);
        // No PUBREC came: it is sent again.
        let (mut peer, _) = Peer::connect_kept(&broker, version, "to");
        let again = peer.message();
        assert_eq!((again.id, again.dup), (message.id, true));
        peer.send_ack(0x50, message.id);
        peer.expect_ack(0x62, message.id, Reason::Success);
        drop(peer);
        // No PUBCOMP came: PUBREL is sent again, PUBLISH is not.
        let (mut peer, _) = Peer::connect_kept(&broker, version, "to");
        peer.expect_ack(0x62, message.id, Reason::Success);
        peer.send_ack(0x70, message.id);
        peer.ping();
        drop(peer);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "to");
        peer.ping(); // done
        drop(Peer::connect(&broker, version, "to"));
    }
    broker.stop();
}

#[test]
fn a_refusal_by_the_client_counts_as_an_acknowledgement() {
    let broker = broker();
    let (mut peer, _) = Peer::connect_kept(&broker, Version::V5, "refuses");
    peer.listen("acks", 2);
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for (qos, first, code) in [(1, 0x40, 0x80), (1, 0x40, 0x97), (2, 0x50, 0x80), (2, 0x50, 0x99)] {
        sender.publish(&publication("acks", b"a", qos));
        let [high, low] = peer.message().id.to_be_bytes();
        peer.send_raw(&[first, 3, high, low, code]);
        peer.ping(); // and no PUBREL
    }
    drop(peer);
    let (mut peer, present) = Peer::connect_kept(&broker, Version::V5, "refuses");
    assert!(present);
    peer.ping(); // nothing is sent again
    broker.stop();
}

#[test]
fn what_was_left_is_sent_again_in_its_order() {
    let broker = broker();
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "order");
        peer.listen("acks", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        for number in 0..10u8 {
            sender.publish(&publication("acks", &[number], 1 + number % 2));
        }
        let sent: Vec<_> = (0..10).map(|_| peer.message()).collect();
        peer.send_ack(0x40, sent[4].id);
        peer.ping();
        drop(peer);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "order");
        for sent in sent.iter().filter(|message| message.payload != [4]) {
            let again = peer.message();
            assert_eq!((again.id, again.dup), (sent.id, true));
            assert_eq!(again.payload, sent.payload);
        }
        // Then what is new.
        sender.publish(&publication("acks", b"new", 1));
        let new = peer.message();
        assert_eq!((new.payload.as_slice(), new.dup), (&b"new"[..], false));
        drop(peer);
        drop(Peer::connect(&broker, version, "order"));
    }
    broker.stop();
}

#[test]
fn a_message_that_expired_is_acknowledged_to_the_end() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V5, "expired");
    let now = properties(&[Property::MessageExpiryInterval(0)]);
    peer.send(&Packet::Publish(Publish {
        packet_id: PacketId::new(3),
        properties: now.as_properties(),
        ..publication("acks", b"x", 2)
    }));
    let pubrec = peer.frame().unwrap();
    assert_eq!((pubrec[0], &pubrec[2..4]), (0x50, &b"\x00\x03"[..]));
    peer.send_ack(0x62, 3);
    peer.expect_ack(0x70, 3, Reason::Success);
    broker.stop();
}

#[test]
fn behind_a_refused_qos_2_publish_its_id_is_free() {
    let broker = TestBroker::start(|_| {}, Level::Kafka);
    let mut peer = Peer::connect(&broker, Version::V5, "refused");
    for payload in [b"first", b"again", b"third"] {
        peer.send(&numbered(payload, 2, 4, false));
        let record = broker.records(1);
        assert_eq!(record[0].payload, payload, "a new message each time");
        broker.report(&record[0], Outcome::Refused);
        peer.expect(b"\x50\x03\x00\x04\x97");
    }
    broker.stop();
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    let broker = broker();
    for version in ALL {
        for (qos, first) in [(1, 0x50), (1, 0x70), (2, 0x40), (2, 0x70)] {
            let mut peer = Peer::connect(&broker, version, "wrong");
            peer.listen("acks", 2);
            let mut sender = Peer::connect(&broker, version, "sender");
            sender.publish(&publication("acks", b"a", qos));
            let id = peer.message().id;
            peer.send_ack(first, id);
            peer.turned_out(Reason::ProtocolError);
        }
    }
    broker.stop();
}
