//! Chapter 4: order, topic names and filters.

use forebay_broker::classify::Level;
use forebay_broker::codec::{Packet, PacketId, PropertiesBuf, Publish, Reason, Version};

use crate::broker;
use crate::peer::{ALL, Peer, filter, publication};
use crate::support::TestBroker;

#[test]
fn messages_of_one_topic_and_qos_keep_their_order() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "order");
        peer.listen("order/#", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        for number in 0..120u8 {
            sender.publish(&publication("order/t", &[number], number % 3));
        }
        let mut last = [None; 3];
        for _ in 0..120 {
            let message = peer.take();
            let qos = usize::from(message.qos);
            let number = message.payload[0];
            assert!(last[qos] < Some(number), "{version:?}: {number} behind {last:?}");
            last[qos] = Some(number);
        }
        assert_eq!(last, [Some(117), Some(118), Some(119)]);
    }
    broker.stop();
}

#[test]
fn acknowledgements_come_in_the_order_of_what_they_acknowledge() {
    let broker = TestBroker::start(|_| {}, Level::Spooled);
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "acks");
        for id in 1..=60u16 {
            peer.send(&Packet::Publish(Publish {
                packet_id: PacketId::new(id),
                ..publication("acks", b"x", 1 + (id % 2) as u8)
            }));
        }
        let ids = |peer: &mut Peer, count: usize| -> Vec<(u8, u16)> {
            (0..count)
                .map(|_| peer.frame().unwrap())
                .map(|frame| (frame[0], u16::from_be_bytes([frame[2], frame[3]])))
                .collect()
        };
        let expected: Vec<_> = (1..=60)
            .map(|id| (if id % 2 == 0 { 0x40 } else { 0x50 }, id))
            .collect();
        assert_eq!(ids(&mut peer, 60), expected, "{version:?}");
        for id in (1..=60).step_by(2) {
            peer.send_ack(0x62, id);
        }
        let expected: Vec<_> = (1..=60).step_by(2).map(|id| (0x70, id)).collect();
        assert_eq!(ids(&mut peer, 30), expected);
    }
    broker.stop();
}

#[test]
fn releases_come_in_the_order_of_the_receipts() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "releases");
        peer.listen("rel", 2);
        let mut sender = Peer::connect(&broker, version, "sender");
        for number in 0..10u8 {
            sender.publish(&publication("rel", &[number], 2));
        }
        let mut ids: Vec<_> = (0..10).map(|_| peer.message().id).collect();
        ids.rotate_left(3);
        for id in &ids {
            peer.send_ack(0x50, *id);
        }
        for id in ids {
            peer.expect_ack(0x62, id, Reason::Success);
        }
    }
    broker.stop();
}

/// Filter, topics that it matches, topics that it does not.
const MATCHES: [(&str, &[&str], &[&str]); 12] = [
    ("a/b", &["a/b"], &["a/B", "A/b", "a/b/", "/a/b", "a"]),
    ("a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b/a", "/a"]),
    ("#", &["a", "/", "a/b/c"], &["$a", "$SYS/x", "$a/b"]),
    ("+", &["a", "b c"], &["/a", "a/b", "a/", "$a"]),
    ("/+", &["/a", "/"], &["a", "a/b"]),
    ("+/+", &["a/b", "/a", "a/"], &["a", "$a/b"]),
    ("+/#", &["a", "a/b", "/b"], &["$a/b", "$a"]),
    ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]),
    ("+/b/#", &["a/b", "a/b/c", "/b"], &["$a/b", "b"]),
    ("$a/#", &["$a", "$a/b"], &["a", "a/b"]),
    ("$a/+", &["$a/b"], &["$a", "$b/b"]),
    (
        "\u{E9}/\u{1F600}",
        &["\u{E9}/\u{1F600}"],
        &["e\u{301}/\u{1F600}", "\u{C9}/\u{1F600}"],
    ),
];

#[test]
fn wildcards_match_whole_levels_and_no_dollar_at_the_start() {
    let broker = broker();
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "matches");
        peer.listen("the mark", 0);
        for (text, yes, no) in MATCHES {
            if text != "the mark" {
                peer.listen(text, 0);
            }
            for topic in yes {
                sender.publish(&publication(topic, b"x", 0));
                assert_eq!(peer.take().topic, **topic, "{text}");
            }
            for topic in no {
                sender.publish(&publication(topic, b"x", 0));
            }
            sender.publish(&publication("the mark", b"mark", 0));
            let next = peer.take();
            assert_eq!(next.topic, "the mark", "{text} does not match");
            peer.unsubscribe(&[text]);
        }
    }
    broker.stop();
}

#[test]
fn what_is_retained_matches_as_what_is_published() {
    let broker = broker();
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    for topic in ["$a", "$a/b", "a", "a/b", "/b"] {
        sender.publish(&Publish {
            retain: true,
            ..publication(topic, topic.as_bytes(), 1)
        });
    }
    let expected: [(&str, &[&str]); 6] = [
        ("#", &["/b", "a", "a/b"]),
        ("+", &["a"]),
        ("+/b", &["/b", "a/b"]),
        ("+/#", &["/b", "a", "a/b"]),
        ("$a/#", &["$a", "$a/b"]),
        ("a/+", &["a/b"]),
    ];
    for version in ALL {
        for (text, topics) in expected {
            let mut peer = Peer::connect(&broker, version, "late");
            peer.listen("mark", 0);
            peer.listen(text, 0);
            let mut came: Vec<_> = topics.iter().map(|_| peer.take().topic).collect();
            came.sort();
            assert_eq!(came, topics, "{text}");
            sender.publish(&publication("mark", b"mark", 0));
            // "mark" matches "#" and "+" too: one copy.
            assert_eq!(peer.take().topic, "mark", "{text} matches more than {topics:?}");
        }
    }
    broker.stop();
}

#[test]
fn what_is_accepted_is_kept_for_all_sessions_that_want_it() {
    let broker = broker();
    let mut away = Vec::new();
    for version in ALL {
        for id in ["one", "two"] {
            let id = format!("{id}-{version:?}");
            let (mut peer, _) = Peer::connect_kept(&broker, version, &id);
            peer.listen("all/#", 1);
            peer.leave();
            away.push((version, id));
        }
    }
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for number in 0..20u8 {
        sender.publish(&publication("all/t", &[number], 1 + number % 2));
    }
    for (version, id) in away {
        let (mut peer, _) = Peer::connect_kept(&broker, version, &id);
        for number in 0..20u8 {
            assert_eq!(peer.take().payload, [number], "{id}");
        }
    }
    broker.stop();
}

#[test]
fn what_can_not_be_done_is_refused_and_the_connection_goes_on() {
    let broker = TestBroker::start(|config| config.limits.max_subscriptions = 2, Level::Received);
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "bounded");
        let three = [filter("1", 0), filter("2", 0), filter("3", 0)];
        let reasons = peer.subscribe(&three, &PropertiesBuf::new());
        let refused = if version == Version::V5 {
            Reason::QuotaExceeded
        } else {
            Reason::UnspecifiedError
        };
        assert_eq!(reasons, [Reason::Success, Reason::Success, refused]);
        peer.ping();
    }
    broker.stop();
}
