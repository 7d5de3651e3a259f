//! Section 3.3.1.3: retained messages.

use forebay_broker::classify::Level;
use forebay_broker::codec::{
    Connect, Packet, PropertiesBuf, Property, Publish, Reason, RetainHandling, Subscription, Version, Will,
};

use crate::broker;
use crate::peer::{ALL, Peer, filter, hello, publication};
use crate::support::TestBroker;
use crate::wills::will;

fn retained<'a>(topic: &'a str, payload: &'a [u8], qos: u8) -> Publish<'a> {
    Publish {
        retain: true,
        ..publication(topic, payload, qos)
    }
}

/// Payloads and QoS that a new subscriber is sent at once.
fn kept(broker: &TestBroker, version: Version, text: &str) -> Vec<(Vec<u8>, u8)> {
    let mut late = Peer::connect(broker, version, "late");
    late.listen(text, 2);
    late.listen("mark", 0);
    late.publish(&publication("mark", b"mark", 0));
    let mut all = Vec::new();
    loop {
        let message = late.take();
        if message.topic == "mark" {
            return all;
        }
        assert!(message.retain, "{message:?}");
        all.push((message.payload, message.qos));
    }
}

#[test]
fn what_is_retained_is_kept_replaced_and_cleared() {
    let broker = broker();
    for version in ALL {
        let mut sender = Peer::connect(&broker, version, "sender");
        let mut now = Peer::connect(&broker, version, "now");
        now.listen("r/#", 2);
        for qos in 0..3 {
            sender.publish(&retained("r/a", b"first", qos));
            assert_eq!(kept(&broker, version, "r/a"), [(b"first".to_vec(), qos)]);
            sender.publish(&retained("r/a", b"second", 2 - qos));
            assert_eq!(kept(&broker, version, "r/+"), [(b"second".to_vec(), 2 - qos)]);
            // Without the flag nothing is stored, replaced or removed, an empty payload included.
            sender.publish(&publication("r/a", b"passing", qos));
            sender.publish(&publication("r/a", b"", qos));
            sender.publish(&publication("r/b", b"passing", qos));
            assert_eq!(kept(&broker, version, "#"), [(b"second".to_vec(), 2 - qos)]);
            sender.publish(&retained("r/a", b"", qos));
            assert_eq!(kept(&broker, version, "r/#"), []);
            sender.publish(&retained("r/none", b"", qos));
            assert_eq!(kept(&broker, version, "r/#"), [], "an empty one is not stored");
            // To who is subscribed all of them are messages like others.
            let passed = [&b"first"[..], b"second", b"passing", b"", b"passing", b"", b""];
            for payload in passed {
                assert!(!now.take_payload(payload).retain);
            }
        }
    }
    broker.stop();
}

#[test]
fn what_is_retained_outlives_the_session_it_came_from() {
    let broker = broker();
    for version in ALL {
        let mut sender = Peer::connect(&broker, version, "brief");
        sender.publish(&retained("brief", b"stays", 1));
        sender.leave();
        drop(Peer::connect(&broker, version, "brief"));
        assert_eq!(kept(&broker, version, "brief"), [(b"stays".to_vec(), 1)]);
    }
    broker.stop();
}

#[test]
fn retain_is_forwarded_as_published_where_that_is_asked_for() {
    let broker = broker();
    let mut plain = Peer::connect(&broker, Version::V5, "plain");
    let mut exact = Peer::connect(&broker, Version::V5, "exact");
    plain.listen("p", 1);
    let as_published = Subscription {
        retain_as_published: true,
        ..filter("p", 1)
    };
    exact.subscribe(&[as_published], &PropertiesBuf::new());
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for retain in [true, false, true] {
        sender.publish(&Publish {
            retain,
            ..publication("p", b"x", 1)
        });
        assert!(!plain.take_payload(b"x").retain);
        assert_eq!(exact.take_payload(b"x").retain, retain);
    }
    broker.stop();
}

#[test]
fn retain_handling_says_when_they_are_sent() {
    let broker = broker();
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    sender.publish(&retained("h/1", b"one", 1));
    sender.publish(&retained("h/2", b"two", 1));
    let mut peer = Peer::connect(&broker, Version::V5, "handling");
    peer.listen("mark", 0);
    let mut sent = |retain_handling| {
        let subscription = Subscription {
            retain_handling,
            ..filter("h/+", 1)
        };
        peer.subscribe(&[subscription], &PropertiesBuf::new());
        sender.publish(&publication("mark", b"mark", 0));
        let mut all = Vec::new();
        loop {
            let message = peer.take();
            if message.topic == "mark" {
                all.sort();
                return all;
            }
            all.push(message.payload);
        }
    };
    let both = [b"one".to_vec(), b"two".to_vec()];
    let none: [Vec<u8>; 0] = [];
    assert_eq!(
        sent(RetainHandling::DoNotSend),
        none,
        "2: never, though it is new"
    );
    assert_eq!(sent(RetainHandling::SendIfNew), none, "1: it was there");
    assert_eq!(sent(RetainHandling::Send), both, "0: always");
    assert_eq!(sent(RetainHandling::Send), both, "0: always");
    peer.unsubscribe(&["h/+"]);
    let mut peer = Peer::connect(&broker, Version::V5, "handling");
    let new = Subscription {
        retain_handling: RetainHandling::SendIfNew,
        ..filter("h/+", 1)
    };
    peer.subscribe(&[new], &PropertiesBuf::new());
    let mut all = vec![peer.take().payload, peer.take().payload];
    all.sort();
    assert_eq!(all, both, "1: it is new");
    broker.stop();
}

#[test]
fn where_nothing_is_retained_clients_are_told_and_held_to_it() {
    for in_bytes in [false, true] {
        let broker = TestBroker::start(
            |config| match in_bytes {
                true => config.limits.max_retained_bytes = 0,
                false => config.limits.max_retained_messages = 0,
            },
            Level::Received,
        );
        let (mut watcher, welcome) = Peer::join(&broker, &hello(Version::V5, "watcher"));
        let told = welcome.properties().iter();
        let told: Vec<_> = told
            .filter(|property| matches!(property, Property::RetainAvailable(_)))
            .collect();
        assert_eq!(told, [Property::RetainAvailable(false)]);
        watcher.listen("r/#", 2);
        for qos in 0..3 {
            for payload in [&b"x"[..], b""] {
                let mut sender = Peer::connect(&broker, Version::V5, "sender");
                sender.send(&Packet::Publish(retained("r/five", payload, qos)));
                sender.turned_out(Reason::RetainNotSupported);
            }
        }
        // 3.x has no way to say it: what is published is passed on.
        for version in [Version::V31, Version::V311] {
            let mut sender = Peer::connect(&broker, version, "sender");
            sender.publish(&retained("r/three", b"three", 1));
            assert!(!watcher.take_payload(b"three").retain);
            assert_eq!(kept(&broker, version, "r/#"), []);
        }
        for version in ALL {
            let connect = Connect {
                will: Some(Will {
                    retain: true,
                    ..will("r/will", b"gone", 1)
                }),
                ..hello(version, "mortal")
            };
            if version == Version::V5 {
                let mut refused = Peer::open(&broker, version);
                refused.send(&Packet::Connect(connect));
                let connack = refused.frame().unwrap();
                assert_eq!((connack[0], connack[3]), (0x20, 0x9A));
                refused.closed();
                continue;
            }
            drop(Peer::join(&broker, &connect));
            watcher.take_payload(b"gone");
            assert_eq!(kept(&broker, version, "r/#"), []);
        }
        broker.stop();
    }
}
