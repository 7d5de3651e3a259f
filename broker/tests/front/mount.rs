//! Mount points from outside: clients of two listeners that see their own part of the topics, and one that sees all.

use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{self, Connect, Packet, Properties, QoS, Reason, Version, Will};
use forebay_broker::config::{Config, ListenerConfig};

use super::support::{Client, Received, TestBroker, plain_connect};

/// Listeners: all topics, `one/`, `two/`.
fn three(config: &mut Config) {
    config.listeners = [("all", None), ("one", Some("one/")), ("two", Some("two/"))]
        .map(|(name, mount)| ListenerConfig {
            name: name.into(),
            mount_point: mount.map(Into::into),
            ..ListenerConfig::default()
        })
        .into();
}

fn connect(id: &str, version: Version, clean_start: bool) -> Connect<'_> {
    Connect {
        clean_start,
        ..plain_connect(id, version)
    }
}

fn join(broker: &TestBroker, listener: usize, id: &str, clean_start: bool) -> Client {
    let connect = connect(id, Version::V311, clean_start);
    Client::connect_as(broker.address_of(listener), &connect).0
}

fn subscribe(client: &mut Client, filter: &str) {
    client.subscribe(filter, QoS::AtLeastOnce, 1);
    assert_eq!(client.receive(), Received::Suback(1, vec![Reason::GrantedQoS1]));
}

/// Topic and payload of the next message.
fn next(client: &mut Client) -> (String, Vec<u8>) {
    let frame = client.frame().expect("a message");
    let Ok(Packet::Publish(publish)) = codec::decode(Version::V311, &frame) else {
        panic!("{frame:?}")
    };
    (publish.topic.to_owned(), publish.payload.to_vec())
}

fn pair(topic: &str, payload: &str) -> (String, Vec<u8>) {
    (topic.to_owned(), payload.as_bytes().to_vec())
}

#[test]
fn clients_see_the_topics_behind_their_mount_point_alone() {
    let broker = TestBroker::start(three, Level::Received);
    let mut all = join(&broker, 0, "all", true);
    let mut one = join(&broker, 1, "one", true);
    let mut two = join(&broker, 2, "two", true);
    for client in [&mut all, &mut one, &mut two] {
        subscribe(client, "#");
    }
    one.publish("t", b"from one", QoS::AtMostOnce, 0);
    assert_eq!(next(&mut all), pair("one/t", "from one"));
    assert_eq!(next(&mut one), pair("t", "from one"));
    all.publish("two/t", b"from all", QoS::AtMostOnce, 0);
    assert_eq!(next(&mut all), pair("two/t", "from all"));
    assert_eq!(next(&mut two), pair("t", "from all"));
    one.expect_silence(Duration::from_millis(50));
    let topics: Vec<_> = broker.records(2).into_iter().map(|record| record.topic).collect();
    assert_eq!(topics, ["one/t", "two/t"], "routes see whole topics");
    one.unsubscribe("#", 2);
    assert_eq!(one.receive(), Received::Unsuback(2));
    all.publish("one/t", b"gone", QoS::AtMostOnce, 0);
    assert_eq!(next(&mut all), pair("one/t", "gone"));
    one.expect_silence(Duration::from_millis(50));
    broker.stop();
}

#[test]
fn wills_and_retained_messages_are_behind_the_mount_point_too() {
    let broker = TestBroker::start(three, Level::Received);
    let mut all = join(&broker, 0, "all", true);
    subscribe(&mut all, "one/will");
    let with_will = Connect {
        will: Some(Will {
            topic: "will",
            payload: b"gone",
            qos: QoS::AtMostOnce,
            retain: true,
            properties: Properties::EMPTY,
        }),
        ..connect("dies", Version::V311, true)
    };
    drop(Client::connect_as(broker.address_of(1), &with_will));
    assert_eq!(next(&mut all), pair("one/will", "gone"));
    let mut late = join(&broker, 1, "late", true);
    subscribe(&mut late, "will");
    assert_eq!(next(&mut late), pair("will", "gone"));
    broker.stop();
}

/// As with Mosquitto: for the broker it begins with the mount point.
#[test]
fn a_topic_that_begins_with_a_dollar_behind_a_mount_point_is_taken_by_a_wildcard_there() {
    let broker = TestBroker::start(three, Level::Received);
    let mut one = join(&broker, 1, "one", true);
    let mut all = join(&broker, 0, "all", true);
    for client in [&mut one, &mut all] {
        subscribe(client, "+/x");
    }
    all.publish("$d/x", b"at the top", QoS::AtMostOnce, 0);
    all.publish("one/$d/x", b"behind", QoS::AtMostOnce, 0);
    assert_eq!(next(&mut one), pair("$d/x", "behind"));
    all.expect_silence(Duration::from_millis(50));
    broker.stop();
}

#[test]
fn a_kept_session_that_comes_back_elsewhere_gets_nothing_from_outside() {
    let broker = TestBroker::start(three, Level::Received);
    let mut kept = join(&broker, 1, "kept", false);
    subscribe(&mut kept, "t");
    drop(kept);
    let mut all = join(&broker, 0, "all", true);
    all.publish("one/t", b"1", QoS::AtLeastOnce, 1);
    assert_eq!(all.receive(), Received::Puback(1, Reason::Success));
    let mut elsewhere = join(&broker, 2, "kept", false);
    assert!(elsewhere.session_present);
    subscribe(&mut elsewhere, "t");
    all.publish("one/t", b"2", QoS::AtLeastOnce, 2);
    all.publish("two/t", b"3", QoS::AtLeastOnce, 3);
    assert_eq!(next(&mut elsewhere), pair("t", "3"));
    broker.stop();
}
