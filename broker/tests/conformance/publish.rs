//! Section 3.3: PUBLISH, all but what is retained.

use forebay_broker::codec::{
    self, Connect, Packet, PacketId, PropertiesBuf, Property, Publish, Reason, Version,
};

use crate::broker;
use crate::peer::{ALL, Peer, filter, hello, properties, publication};

#[test]
fn dup_says_that_it_is_sent_again_and_nothing_else() {
    let broker = broker();
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "dup");
        peer.listen("dup", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        // DUP of what came in says nothing of what goes out.
        for qos in [1, 2] {
            sender.publish(&Publish {
                dup: true,
                ..publication("dup", &[qos], qos)
            });
        }
        sender.publish(&publication("dup", &[0], 0));
        let mut first: Vec<_> = (0..3).map(|_| peer.message()).collect();
        assert!(first.iter().all(|message| !message.dup), "{first:?}");
        first.retain(|message| message.qos > 0);
        drop(peer);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "dup");
        for sent in first {
            let again = peer.message();
            assert!(again.dup, "{version:?}: {again:?}");
            assert_eq!(
                (again.id, &again.payload, again.qos),
                (sent.id, &sent.payload, sent.qos)
            );
        }
        peer.ping(); // QoS 0 is not sent again
        drop(peer);
        drop(Peer::connect(&broker, version, "dup"));
    }
    broker.stop();
}

#[test]
fn what_is_unanswered_is_not_sent_again_on_the_same_connection() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V311, "patient");
    peer.listen("t", 1);
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    sender.publish(&publication("t", b"1", 1));
    let first = peer.message();
    for _ in 0..3 {
        peer.ping(); // only answers
    }
    sender.publish(&publication("t", b"2", 1));
    let second = peer.message();
    assert_eq!((second.payload, second.dup), (b"2".to_vec(), false));
    peer.send_ack(0x40, first.id);
    peer.ping();
    broker.stop();
}

#[test]
fn a_message_has_the_topic_it_was_published_to() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "topics");
        for (filter, topic) in [
            ("a/+/c", "a/b/c"),
            ("d/#", "d/e/f"),
            ("d/#", "d"),
            ("/g", "/g"),
            ("h h", "h h"),
        ] {
            peer.listen(filter, 0);
            peer.publish(&publication(topic, b"x", 0));
            assert_eq!(peer.take().topic, topic);
            peer.unsubscribe(&[filter]);
        }
    }
    broker.stop();
}

#[test]
fn properties_go_through_unaltered_and_in_order() {
    let broker = broker();
    let list = [
        Property::PayloadFormatIndicator(true),
        Property::ContentType("application/json; x=\u{E4}"),
        Property::ResponseTopic("answers/to me"),
        Property::CorrelationData(b"\x00\x01\xFF"),
        Property::UserProperty("z", "1"),
        Property::UserProperty("a", ""),
        Property::UserProperty("z", "1"),
        Property::UserProperty("", "nameless"),
        Property::UserProperty("z", "0"),
    ];
    let buf = properties(&list);
    let mut peer = Peer::connect(&broker, Version::V5, "through");
    let mut old = Peer::connect(&broker, Version::V311, "old");
    peer.listen("through", 2);
    old.listen("through", 2);
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for qos in 0..3 {
        let publish = Publish {
            properties: buf.as_properties(),
            ..publication("through", b"{}", qos)
        };
        sender.publish(&publish);
        let message = peer.take_payload(b"{}");
        assert_eq!(message.properties().iter().collect::<Vec<_>>(), list);
        old.take_payload(b"{}");
    }
    broker.stop();
}

#[test]
fn the_answer_is_that_of_its_qos() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "answers");
        let mut listener = Peer::connect(&broker, version, "listener");
        listener.listen("q", 0); // somebody is there, so that the reason is Success
        let publish = |qos, id| {
            Packet::Publish(Publish {
                packet_id: PacketId::new(id),
                ..publication("q", b"x", qos)
            })
        };
        peer.send(&publish(0, 0));
        peer.ping(); // no answer
        peer.send(&publish(1, 7));
        peer.expect_ack(0x40, 7, Reason::Success);
        peer.send(&publish(2, 8));
        peer.expect_ack(0x50, 8, Reason::Success);
        peer.send_ack(0x62, 8);
        peer.expect_ack(0x70, 8, Reason::Success);
    }
    broker.stop();
}

#[test]
fn overlapping_subscriptions_give_the_greatest_qos_and_all_identifiers() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "overlap");
        let mut sender = Peer::connect(&broker, version, "sender");
        for (number, (text, qos)) in [("o/#", 0), ("o/+", 2), ("o/a", 1), ("x/#", 2)]
            .into_iter()
            .enumerate()
        {
            let mut id = PropertiesBuf::new();
            if version == Version::V5 && number != 1 {
                id = properties(&[Property::SubscriptionIdentifier(number as u32 + 1)]);
            }
            let granted = peer.subscribe(&[filter(text, qos)], &id);
            assert_eq!(granted[0] as u8, qos);
        }
        sender.publish(&publication("o/a", b"x", 2));
        let message = peer.take_payload(b"x");
        assert_eq!(message.qos, 2);
        let mut ids: Vec<_> = message.properties().subscription_ids().collect();
        ids.sort_unstable();
        let expected: &[u32] = if version == Version::V5 { &[1, 3] } else { &[] };
        assert_eq!(ids, expected);
        peer.ping(); // one copy
    }
    broker.stop();
}

#[test]
fn a_client_may_not_send_a_subscription_identifier() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V5, "numbers");
    peer.send_raw(b"\x30\x07\x00\x01a\x02\x0B\x01x");
    peer.turned_out(Reason::ProtocolError);
    broker.stop();
}

#[test]
fn no_more_are_under_way_than_receive_maximum_and_other_packets_go_on() {
    let broker = broker();
    let two = properties(&[Property::ReceiveMaximum(2)]);
    let connect = Connect {
        properties: two.as_properties(),
        ..hello(Version::V5, "window")
    };
    let (mut peer, _) = Peer::join(&broker, &connect);
    peer.listen("w", 2);
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for number in 0..6u8 {
        sender.publish(&publication("w", &[number], 1 + number % 2));
    }
    let first = peer.message();
    let second = peer.message();
    assert_eq!((first.qos, second.qos), (1, 2));
    // The quota is used up: pings, answers and QoS 2 releases go on, in both directions.
    peer.ping();
    peer.listen("other", 0);
    assert_eq!(peer.unsubscribe(&["other"]), [Reason::Success]);
    peer.publish(&publication("nobody", b"x", 2));
    // PUBREC of success frees nothing, PUBCOMP does.
    peer.send_ack(0x50, second.id);
    peer.expect_ack(0x62, second.id, Reason::Success);
    peer.ping();
    peer.send_ack(0x70, second.id);
    let third = peer.message();
    assert_eq!(third.payload, [2]);
    peer.ping();
    peer.send_ack(0x40, first.id);
    let fourth = peer.message();
    assert_eq!((fourth.payload.as_slice(), fourth.qos), (&[3][..], 2));
    // So does PUBREC with an error, which ends the message.
    let [high, low] = fourth.id.to_be_bytes();
    peer.send_raw(&[0x50, 3, high, low, 0x80]);
    assert_eq!(peer.message().payload, [4]);
    peer.ping();
    broker.stop();
}

#[test]
fn more_than_receive_maximum_from_a_client_ends_its_connection() {
    let broker = crate::TestBroker::start(
        |config| config.limits.receive_maximum = 3,
        forebay_broker::classify::Level::Received,
    );
    let (mut peer, welcome) = Peer::join(&broker, &hello(Version::V5, "greedy"));
    assert_eq!(welcome.properties().receive_maximum(), Some(3));
    // QoS 2 stays under way until PUBCOMP: PUBREC does not free its place.
    for id in 1..=4 {
        peer.send(&Packet::Publish(Publish {
            packet_id: PacketId::new(id),
            ..publication("g", b"x", 2)
        }));
        if id < 4 {
            let frame = peer.frame().unwrap();
            assert_eq!(codec::frame_len(&frame, 100), Ok(Some(frame.len())));
            assert_eq!(frame[0], 0x50);
        }
    }
    peer.turned_out(Reason::ReceiveMaximumExceeded);
    broker.stop();
}

#[test]
fn a_packet_larger_than_was_allowed_ends_the_connection() {
    let broker = crate::TestBroker::start(
        |config| config.limits.max_packet_bytes = 2_000,
        forebay_broker::classify::Level::Received,
    );
    for version in ALL {
        let (mut peer, welcome) = Peer::join(&broker, &hello(version, "large"));
        if version == Version::V5 {
            assert_eq!(welcome.properties().maximum_packet_size(), Some(2_000));
        }
        let overhead = if version == Version::V5 { 7 } else { 6 };
        peer.publish(&publication("t", &vec![b'x'; 2_000 - overhead], 0));
        peer.ping(); // just not too large
        peer.send(&Packet::Publish(publication(
            "t",
            &vec![b'x'; 2_001 - overhead],
            0,
        )));
        peer.turned_out(Reason::PacketTooLarge);
        // The header says enough: nothing of the body need come.
        let mut peer = Peer::connect(&broker, version, "large");
        peer.send_raw(b"\x30\xFF\xFF\xFF\x7F");
        peer.turned_out(Reason::PacketTooLarge);
    }
    broker.stop();
}
