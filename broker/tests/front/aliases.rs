//! Topic aliases from outside: both ways, while the log has no room, and what is refused.

use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{
    self, Connect, Packet, PacketId, PropertiesBuf, Property, Publish, QoS, Reason, Version,
};

use super::support::{Client, Received, TestBroker, plain_connect, small_log};

fn connect(id: &str) -> Connect<'_> {
    plain_connect(id, Version::V5)
}

fn publish(client: &mut Client, topic: &str, alias: u16, payload: &[u8], packet_id: u16) {
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAlias(alias));
    client.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id),
        payload,
        properties: properties.as_properties(),
    }));
}

#[test]
fn a_client_is_told_how_many_it_may_use_and_uses_them() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let (mut client, connack) = Client::connect_as(broker.address, &connect("d1"));
    let Packet::Connack(connack) = codec::decode(Version::V5, &connack).unwrap() else {
        panic!()
    };
    assert_eq!(connack.properties.topic_alias_maximum(), Some(10));
    publish(&mut client, "devices/d1/t", 10, b"1", 1);
    publish(&mut client, "", 10, b"2", 2);
    for id in 1..=2 {
        assert_eq!(client.receive(), Received::Puback(id, Reason::Success));
    }
    for record in broker.records(2) {
        assert_eq!(record.topic, "devices/d1/t");
        assert!(record.properties.is_empty(), "the number is the connection's own");
    }
    broker.stop();
}

#[test]
fn what_is_wrong_with_an_alias_is_told() {
    let broker = TestBroker::start(|config| config.limits.topic_alias_maximum = 3, Level::Received);
    for (topic, alias, reason) in [
        ("t", 0, Reason::TopicAliasInvalid),
        ("t", 4, Reason::TopicAliasInvalid),
        ("", 4, Reason::TopicAliasInvalid),
        ("", 3, Reason::ProtocolError),
    ] {
        let (mut client, _) = Client::connect_as(broker.address, &connect("d1"));
        publish(&mut client, topic, alias, b"x", 1);
        assert_eq!(client.receive(), Received::Disconnect(reason), "{topic} {alias}");
        assert_eq!(client.receive(), Received::Closed);
    }
    broker.stop();
}

#[test]
fn a_publish_that_waits_for_room_numbers_its_topic_when_its_turn_comes() {
    let broker = TestBroker::start(small_log, Level::Received);
    let (mut client, _) = Client::connect_as(broker.address, &connect("d1"));
    let count = 60u16;
    // Two topics take turns with one number; far more than the log has room for.
    for id in (1..=count).step_by(2) {
        let topic = format!("t/{id}");
        publish(&mut client, &topic, 1, &[7; 1024], id);
        publish(&mut client, "", 1, &[7; 1024], id + 1);
    }
    let mut topics = Vec::new();
    while topics.len() < usize::from(count) {
        topics.extend(
            broker
                .read(Duration::from_millis(50))
                .into_iter()
                .map(|record| record.topic),
        );
    }
    for (index, topic) in topics.iter().enumerate() {
        assert_eq!(*topic, format!("t/{}", index / 2 * 2 + 1));
    }
    broker.stop();
}

#[test]
fn a_subscriber_that_takes_numbers_gets_them_from_the_first_message_on() {
    let broker = TestBroker::start(
        |config| config.limits.topic_alias_maximum_out = 2,
        Level::Received,
    );
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAliasMaximum(5));
    let with_numbers = Connect {
        properties: properties.as_properties(),
        ..connect("sub")
    };
    let (mut subscriber, _) = Client::connect_as(broker.address, &with_numbers);
    subscriber.subscribe("#", QoS::AtMostOnce, 1);
    assert!(matches!(subscriber.receive(), Received::Suback(..)));
    let mut publisher = Client::connect(&broker, "pub", Version::V311);
    for topic in ["a", "b", "a", "c", "b"] {
        publisher.publish(topic, topic.as_bytes(), QoS::AtMostOnce, 0);
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        let frame = subscriber.frame().unwrap();
        let Ok(Packet::Publish(publish)) = codec::decode(Version::V5, &frame) else {
            panic!("{frame:?}")
        };
        seen.push((publish.topic.to_owned(), publish.properties.topic_alias()));
    }
    let expected = [
        ("a", Some(1)),
        ("b", Some(2)),
        ("", Some(1)),
        ("c", None),
        ("", Some(2)),
    ];
    assert_eq!(seen, expected.map(|(topic, alias)| (topic.to_owned(), alias)));
    broker.stop();
}
