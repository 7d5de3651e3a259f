//! Section 3.3.2.3.4: topic aliases, both ways.

use forebay_broker::classify::Level;
use forebay_broker::codec::{Connect, Packet, Property, Publish, Reason, Version};

use crate::peer::{ALL, Peer, hello, properties, publication};
use crate::support::TestBroker;

fn with_alias(peer: &mut Peer, topic: &str, alias: u16, payload: &[u8]) {
    let number = properties(&[Property::TopicAlias(alias)]);
    peer.send(&Packet::Publish(Publish {
        properties: number.as_properties(),
        ..publication(topic, payload, 0)
    }));
}

#[test]
fn each_number_up_to_the_maximum_is_taken_and_none_above() {
    for most in [0, 1, 3, u16::MAX] {
        let broker = TestBroker::start(|config| config.limits.topic_alias_maximum = most, Level::Received);
        let mut listener = Peer::connect(&broker, Version::V311, "listener");
        listener.listen("#", 0);
        let (mut peer, welcome) = Peer::join(&broker, &hello(Version::V5, "numbers"));
        let told = welcome.properties().topic_alias_maximum().unwrap_or(0);
        assert_eq!(told, most);
        let numbers: Vec<u16> = (1..=most).filter(|n| *n < 4 || *n == u16::MAX).collect();
        for number in &numbers {
            with_alias(&mut peer, &format!("t/{number}"), *number, b"named");
            assert_eq!(listener.take_payload(b"named").topic, format!("t/{number}"));
        }
        for number in &numbers {
            with_alias(&mut peer, "", *number, b"by number");
            assert_eq!(listener.take_payload(b"by number").topic, format!("t/{number}"));
        }
        if most < u16::MAX {
            with_alias(&mut peer, "t", most + 1, b"x");
            peer.turned_out(Reason::TopicAliasInvalid);
        }
        broker.stop();
    }
}

#[test]
fn numbers_end_with_their_connection() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let (mut peer, _) = Peer::connect_kept(&broker, Version::V5, "numbers");
    with_alias(&mut peer, "t", 1, b"named");
    with_alias(&mut peer, "", 1, b"by number");
    peer.ping();
    drop(peer);
    let (mut peer, present) = Peer::connect_kept(&broker, Version::V5, "numbers");
    assert!(present);
    with_alias(&mut peer, "", 1, b"by number");
    peer.turned_out(Reason::ProtocolError);
    broker.stop();
}

#[test]
fn the_server_uses_no_more_numbers_than_the_client_takes() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    for version in ALL {
        for most in [None, Some(0), Some(2)] {
            let list: Vec<_> = most.map(Property::TopicAliasMaximum).into_iter().collect();
            let buf = properties(&list);
            let mut connect = Connect {
                ..hello(version, "takes")
            };
            if version == Version::V5 {
                connect.properties = buf.as_properties();
            }
            let (mut peer, _) = Peer::join(&broker, &connect);
            peer.listen("#", 0);
            for topic in ["a", "b", "c", "a", "b", "c"] {
                sender.publish(&publication(topic, topic.as_bytes(), 0));
                let message = peer.take_payload(topic.as_bytes());
                let number = message.properties().topic_alias();
                let allowed = if version == Version::V5 {
                    most.unwrap_or(0)
                } else {
                    0
                };
                assert!(
                    number.is_none_or(|number| (1..=allowed).contains(&number)),
                    "{message:?}"
                );
                assert!(number.is_some() || message.topic == topic, "{message:?}");
            }
        }
    }
    broker.stop();
}
