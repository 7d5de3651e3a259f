//! Sections 3.1.2.5 to 3.1.2.7 and 3.14.4: wills.

use forebay_broker::codec::{Connect, Packet, Properties, Property, QoS, Version, Will};

use crate::broker;
use crate::peer::{ALL, Message, Peer, hello, properties, publication};
use crate::support::TestBroker;

pub fn will<'a>(topic: &'a str, payload: &'a [u8], qos: u8) -> Will<'a> {
    Will {
        topic,
        payload,
        qos: QoS::try_from(qos).unwrap(),
        retain: false,
        properties: Properties::EMPTY,
    }
}

fn join_with<'a>(broker: &TestBroker, version: Version, will: Option<Will<'a>>) -> Peer {
    let connect = Connect {
        will,
        ..hello(version, "mortal")
    };
    Peer::join(broker, &connect).0
}

fn watcher(broker: &TestBroker, filter: &str) -> Peer {
    let mut watcher = Peer::connect(broker, Version::V5, "watcher");
    watcher.listen(filter, 2);
    watcher
}

/// The next thing that the watcher gets is the mark: nothing came before it.
fn nothing_before_the_mark(broker: &TestBroker, watcher: &mut Peer) {
    let mut sender = Peer::connect(broker, Version::V311, "sender");
    sender.publish(&publication("will/mark", b"mark", 0));
    watcher.take_payload(b"mark");
}

#[test]
fn a_will_is_published_once_when_the_connection_is_lost() {
    let broker = broker();
    let mut watcher = watcher(&broker, "will/#");
    for version in ALL {
        for qos in 0..3 {
            drop(join_with(&broker, version, Some(will("will/a", b"lost", qos))));
            let message = watcher.take_payload(b"lost");
            assert_eq!((message.topic.as_str(), message.qos), ("will/a", qos));
            // Once: neither its next connection nor that one's end says it again.
            join_with(&broker, version, None).leave();
            drop(join_with(&broker, version, None));
            nothing_before_the_mark(&broker, &mut watcher);
        }
    }
    broker.stop();
}

#[test]
fn a_will_is_published_when_its_client_breaks_the_protocol_or_is_taken_over() {
    let broker = broker();
    let mut watcher = watcher(&broker, "will/#");
    for version in ALL {
        let mut peer = join_with(&broker, version, Some(will("will/a", b"broken", 1)));
        peer.send_raw(b"\x00\x00");
        watcher.take_payload(b"broken");
        let _old = join_with(&broker, version, Some(will("will/a", b"taken over", 1)));
        let _new = join_with(&broker, version, None);
        watcher.take_payload(b"taken over");
    }
    broker.stop();
}

#[test]
fn a_client_that_leaves_in_order_leaves_no_will() {
    let broker = broker();
    let mut watcher = watcher(&broker, "will/#");
    for version in ALL {
        join_with(&broker, version, Some(will("will/a", b"deleted", 1))).leave();
        nothing_before_the_mark(&broker, &mut watcher);
        drop(join_with(&broker, version, None)); // and none that it did not ask for
        nothing_before_the_mark(&broker, &mut watcher);
    }
    // 0x04: with its will [section 3.14.2.1].
    let mut peer = join_with(&broker, Version::V5, Some(will("will/a", b"wanted", 1)));
    peer.send_raw(b"\xE0\x01\x04");
    watcher.take_payload(b"wanted");
    broker.stop();
}

fn retained_at(broker: &TestBroker, filter: &str) -> Option<Message> {
    let mut late = Peer::connect(broker, Version::V311, "late");
    late.listen(filter, 2);
    late.listen("will/mark", 0);
    let mut sender = Peer::connect(broker, Version::V311, "sender");
    sender.publish(&publication("will/mark", b"mark", 0));
    let message = late.take();
    (message.topic != "will/mark").then_some(message)
}

#[test]
fn a_will_is_retained_when_it_says_so() {
    let broker = broker();
    let mut watcher = watcher(&broker, "will/#");
    for version in ALL {
        for retain in [false, true] {
            let will = Will {
                retain,
                ..will("will/r", b"bye", 1)
            };
            drop(join_with(&broker, version, Some(will)));
            let now = watcher.take_payload(b"bye");
            assert!(!now.retain, "to who is subscribed it is a message like others");
            let later = retained_at(&broker, "will/r");
            assert_eq!(later.is_some(), retain, "{version:?}");
            assert!(later.is_none_or(|message| message.retain && message.payload == b"bye"));
            watcher.take_payload(b"mark");
            let mut sender = Peer::connect(&broker, Version::V311, "sender");
            sender.publish(&forebay_broker::codec::Publish {
                retain: true,
                ..publication("will/r", b"", 0)
            });
            watcher.take_payload(b"");
        }
    }
    broker.stop();
}

#[test]
fn a_will_goes_out_with_its_properties_in_their_order() {
    let broker = broker();
    let mut watcher = watcher(&broker, "will/#");
    let list = [
        Property::UserProperty("b", "2"),
        Property::PayloadFormatIndicator(true),
        Property::UserProperty("a", "1"),
        Property::ContentType("text/plain"),
        Property::UserProperty("b", "1"),
        Property::ResponseTopic("answer/here"),
        Property::CorrelationData(b"\x00\xFF"),
        Property::UserProperty("a", "1"),
    ];
    let buf = properties(&list);
    let with = Will {
        properties: buf.as_properties(),
        ..will("will/p", b"bye", 1)
    };
    drop(join_with(&broker, Version::V5, Some(with)));
    let message = watcher.take_payload(b"bye");
    let got = message.properties();
    let users: Vec<_> = got.user_properties().collect();
    assert_eq!(users, [("b", "2"), ("a", "1"), ("b", "1"), ("a", "1")]);
    assert_eq!(got.content_type(), Some("text/plain"));
    assert_eq!(got.response_topic(), Some("answer/here"));
    assert_eq!(got.correlation_data(), Some(&b"\x00\xFF"[..]));
    assert!(got.iter().any(|p| p == Property::PayloadFormatIndicator(true)));
    broker.stop();
}

#[test]
fn a_connect_with_will_is_answered_like_others() {
    let broker = broker();
    for version in ALL {
        let connect = Connect {
            will: Some(will("will/a", b"", 2)),
            ..hello(version, "mortal")
        };
        let mut peer = Peer::open(&broker, version);
        peer.send(&Packet::Connect(connect));
        assert!(!peer.welcome().session_present);
        peer.leave();
    }
    broker.stop();
}
