//! Sections 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use forebay_broker::codec::{
    Connect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, Reason, Subscribe, Subscription,
    Unsubscribe, Version,
};

use crate::broker;
use crate::peer::{ALL, Peer, filter, hello, properties, publication};

fn codes(reasons: &[Reason]) -> Vec<u8> {
    reasons.iter().map(|reason| *reason as u8).collect()
}

#[test]
fn suback_answers_each_filter_in_order_with_what_is_granted() {
    let broker = broker();
    let deep = "/".repeat(250);
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "suback");
        let filters = [
            filter("a", 2),
            filter("b/#", 0),
            filter(&deep, 1),
            filter("+/c", 1),
            filter("b/#", 2),
        ];
        let granted = peer.subscribe(&filters, &PropertiesBuf::new());
        let refused = if version == Version::V5 { 0x8F } else { 0x80 };
        assert_eq!(codes(&granted), [2, 0, refused, 1, 2], "{version:?}");
        peer.ping(); // one SUBACK
        // Each works as if it had come alone, the last of two equal ones counts.
        let mut sender = Peer::connect(&broker, version, "sender");
        for (topic, qos) in [("a", 2), ("b/x", 2), ("x/c", 1)] {
            sender.publish(&publication(topic, topic.as_bytes(), 2));
            assert_eq!(peer.take_payload(topic.as_bytes()).qos, qos);
        }
        sender.publish(&publication(&"/".repeat(150), b"deep", 1));
        peer.ping();
    }
    broker.stop();
}

#[test]
fn a_message_comes_with_the_smaller_qos() {
    let broker = broker();
    for version in ALL {
        let mut sender = Peer::connect(&broker, version, "sender");
        for granted in 0..3 {
            let mut peer = Peer::connect(&broker, version, "lower");
            peer.listen("q", granted);
            for published in 0..3 {
                sender.publish(&publication("q", b"x", published));
                assert_eq!(peer.take_payload(b"x").qos, granted.min(published));
            }
        }
    }
    broker.stop();
}

#[test]
fn a_filter_subscribed_again_takes_the_place_of_the_first() {
    let broker = broker();
    for version in ALL {
        let mut sender = Peer::connect(&broker, version, "sender");
        sender.publish(&Publish {
            retain: true,
            ..publication("again", b"kept", 1)
        });
        let mut peer = Peer::connect(&broker, version, "again");
        for qos in [1, 0, 1] {
            peer.listen("again", qos);
            let kept = peer.take_payload(b"kept");
            assert_eq!(
                (kept.qos, kept.retain),
                (qos, true),
                "what is retained comes again"
            );
            sender.publish(&publication("again", b"new", 2));
            assert_eq!(peer.take_payload(b"new").qos, qos);
            peer.ping(); // one copy
        }
        assert_eq!(
            peer.unsubscribe(&["again"]).len(),
            usize::from(version == Version::V5)
        );
        sender.publish(&publication("again", b"gone", 1));
        peer.ping();
    }
    broker.stop();
}

#[test]
fn nothing_is_lost_while_a_subscription_is_replaced() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "replace");
        peer.listen("flow", 1);
        let mut sender = Peer::connect(&broker, version, "sender");
        let sending = std::thread::spawn(move || {
            for number in 0..200u8 {
                sender.publish(&publication("flow", &[number], 1));
            }
        });
        let mut next = 0u8;
        let (mut asked, mut answered) = (0u16, 0u16);
        while next < 200 || answered < asked {
            if asked == answered && asked < 50 {
                asked += 1;
                let [high, low] = asked.to_be_bytes();
                let options: &[u8] = if version == Version::V5 {
                    b"\x00\x00\x04flow\x01"
                } else {
                    b"\x00\x04flow\x01"
                };
                peer.send_raw(&[&[0x82, 2 + options.len() as u8, high, low], options].concat());
            }
            let frame = peer.frame().unwrap();
            if frame[0] == 0x90 {
                answered += 1;
                continue;
            }
            assert_eq!(frame.last(), Some(&next), "{version:?}: {frame:x?}");
            let at = 8; // behind the topic
            peer.send_raw(&[0x40, 2, frame[at], frame[at + 1]]);
            next += 1;
        }
        sending.join().unwrap();
    }
    broker.stop();
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V5, "local");
    let mut other = Peer::connect(&broker, Version::V5, "other");
    let not_mine = Subscription {
        no_local: true,
        ..filter("n/#", 1)
    };
    assert_eq!(codes(&peer.subscribe(&[not_mine], &PropertiesBuf::new())), [1]);
    peer.publish(&publication("n/a", b"mine", 1));
    other.publish(&publication("n/a", b"yours", 1));
    peer.take_payload(b"yours");
    // It is the client identifier that counts, not the connection.
    let mut again = Peer::connect_kept(&broker, Version::V5, "kept").0;
    again.subscribe(&[not_mine], &PropertiesBuf::new());
    drop(again);
    let mut again = Peer::connect_kept(&broker, Version::V5, "kept").0;
    again.publish(&publication("n/a", b"mine", 1));
    other.publish(&publication("n/a", b"yours", 1));
    again.take_payload(b"yours");
    broker.stop();
}

#[test]
fn unsubscribe_compares_letter_by_letter_and_answers_each_filter() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "unsub");
        let mut sender = Peer::connect(&broker, version, "sender");
        peer.listen("u/+", 1);
        peer.listen("u/b", 1);
        // None of these is the one that is there, though they would match it or look like it.
        let reasons = peer.unsubscribe(&["u/#", "U/+", "u/a", "u/+/", "u/+"]);
        let expected: &[u8] = if version == Version::V5 {
            &[0x11, 0x11, 0x11, 0x11, 0]
        } else {
            &[]
        };
        assert_eq!(codes(&reasons), expected);
        sender.publish(&publication("u/a", b"gone", 1));
        sender.publish(&publication("u/b", b"still", 1));
        peer.take_payload(b"still");
        assert_eq!(peer.unsubscribe(&["u/b", "u/b"]).len(), expected.len().min(2));
        sender.publish(&publication("u/b", b"gone", 1));
        peer.listen("mark", 0);
        sender.publish(&publication("mark", b"mark", 0));
        peer.take_payload(b"mark");
        // Answered though nothing was there.
        peer.unsubscribe(&["never"]);
    }
    broker.stop();
}

#[test]
fn what_was_sent_before_unsubscribe_is_delivered_to_the_end() {
    let broker = broker();
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "finish");
        peer.listen("f", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        sender.publish(&publication("f", b"one", 1));
        sender.publish(&publication("f", b"two", 2));
        let (one, two) = (peer.message(), peer.message());
        peer.unsubscribe(&["f"]);
        peer.send_ack(0x50, two.id);
        peer.expect_ack(0x62, two.id, Reason::Success);
        drop(peer);
        let (mut peer, _) = Peer::connect_kept(&broker, version, "finish");
        peer.expect_ack(0x62, two.id, Reason::Success);
        let again = peer.message();
        assert_eq!((again.id, again.payload.as_slice()), (one.id, &b"one"[..]));
        peer.send_ack(0x40, one.id);
        peer.send_ack(0x70, two.id);
        peer.ping();
        drop(Peer::connect(&broker, version, "finish"));
    }
    broker.stop();
}

#[test]
fn suback_and_unsuback_are_no_larger_than_the_client_takes() {
    let broker = broker();
    let small = crate::peer::properties(&[forebay_broker::codec::Property::MaximumPacketSize(30)]);
    let connect = forebay_broker::codec::Connect {
        properties: small.as_properties(),
        ..crate::peer::hello(Version::V5, "tiny")
    };
    let (mut peer, _) = Peer::join(&broker, &connect);
    let deep = "/".repeat(250);
    assert_eq!(
        codes(&peer.subscribe(&[filter(&deep, 1)], &PropertiesBuf::new())),
        [0x8F]
    );
    assert_eq!(codes(&peer.unsubscribe(&["never", &deep])), [0x11, 0x11]);
    peer.ping();
    broker.stop();
}

#[test]
fn a_member_of_a_group_is_sent_at_the_qos_granted_to_it() {
    let broker = broker();
    for version in ALL {
        let mut sender = Peer::connect(&broker, version, "sender");
        for granted in 0..3 {
            let mut member = Peer::connect(&broker, version, "member");
            member.listen("$share/group/q/+", granted);
            // Its own subscription beside it is another one: a copy for each.
            member.listen("q/other", 0);
            for published in 0..3 {
                sender.publish(&publication("q/t", b"x", published));
                assert_eq!(member.take_payload(b"x").qos, granted.min(published));
            }
            member.leave();
        }
    }
    broker.stop();
}

#[test]
fn who_asks_for_an_answer_that_it_does_not_take_is_told_so() {
    let broker = broker();
    let most = properties(&[Property::MaximumPacketSize(20)]);
    let connect = Connect {
        properties: most.as_properties(),
        ..hello(Version::V5, "small")
    };
    let filters: Vec<String> = (0..16).map(|number| format!("f/{number}")).collect();
    let names: Vec<&str> = filters.iter().map(String::as_str).collect();
    // Of 20 bytes 5 are no reason code.
    for count in [15, 16] {
        let (mut peer, _) = Peer::join(&broker, &connect);
        let asked: Vec<_> = names[..count].iter().map(|name| filter(name, 0)).collect();
        if count == 15 {
            assert_eq!(peer.subscribe(&asked, &properties(&[])).len(), 15);
            assert_eq!(peer.unsubscribe(&names[..15]).len(), 15);
            peer.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id: PacketId::new(9).unwrap(),
                filters: names.clone(),
                properties: Properties::EMPTY,
            }));
        } else {
            peer.send(&Packet::Subscribe(Subscribe {
                packet_id: PacketId::new(9).unwrap(),
                filters: asked,
                properties: Properties::EMPTY,
            }));
        }
        peer.turned_out(Reason::PacketTooLarge);
    }
    broker.stop();
}
