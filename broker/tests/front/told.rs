//! What a 5.0 client is told from outside: why it is refused or turned out, where to go, how to begin response topics.

use forebay_broker::bus::Outcome;
use forebay_broker::classify::Level;
use forebay_broker::codec::{
    self, Connect, Packet, Properties, PropertiesBuf, Property, QoS, Reason, Subscribe, Version,
};

use super::support::{Client, TestBroker, plain_connect};

fn connect<'a>(id: &'a str, properties: &'a PropertiesBuf) -> Connect<'a> {
    Connect {
        properties: properties.as_properties(),
        ..plain_connect(id, Version::V5)
    }
}

fn asking(all: &[Property<'_>]) -> PropertiesBuf {
    let mut buf = PropertiesBuf::default();
    for property in all {
        buf.push(*property);
    }
    buf
}

/// Reason, Reason String and Server Reference of the next packet.
fn next(client: &mut Client) -> (Reason, Option<String>, Option<String>) {
    let frame = client.frame().expect("a packet");
    let (reason, properties) = match codec::decode(Version::V5, &frame).unwrap() {
        Packet::Disconnect(packet) => (packet.reason, packet.properties),
        Packet::Connack(packet) => (packet.reason, packet.properties),
        Packet::Puback(packet) => (packet.reason, packet.properties),
        Packet::Suback(packet) => (packet.reasons[0], packet.properties),
        other => panic!("{other:?}"),
    };
    let own = |text: Option<&str>| text.map(str::to_owned);
    (
        reason,
        own(properties.reason_string()),
        own(properties.server_reference()),
    )
}

#[test]
fn response_information_is_for_who_asks() {
    let broker = TestBroker::start(
        |config| config.told.response_information = Some("answers/{client_id}/".into()),
        Level::Received,
    );
    for (asks, told) in [
        (Some(true), Some("answers/d1/")),
        (Some(false), None),
        (None, None),
    ] {
        let asking = asking(asks.map(Property::RequestResponseInformation).as_slice());
        let (_client, connack) = Client::connect_as(broker.address, &connect("d1", &asking));
        let Packet::Connack(connack) = codec::decode(Version::V5, &connack).unwrap() else {
            panic!()
        };
        let found = connack.properties.iter().find_map(|property| match property {
            Property::ResponseInformation(text) => Some(text),
            _ => None,
        });
        assert_eq!(found, told);
    }
    broker.stop();
}

#[test]
fn refusals_say_why_unless_nobody_wants_to_know() {
    let broker = TestBroker::start(|config| config.limits.max_topic_levels = 2, Level::Kafka);
    for wants in [true, false] {
        let asking = asking(&[Property::RequestProblemInformation(wants)]);
        let (mut client, _) = Client::connect_as(broker.address, &connect("d1", &asking));
        client.publish("t", b"x", QoS::AtLeastOnce, 1);
        broker.report(&broker.records(1)[0], Outcome::Refused);
        let (reason, text, _) = next(&mut client);
        assert_eq!((reason, text.is_some()), (Reason::QuotaExceeded, wants));
        client.subscribe("a/b/c", QoS::AtLeastOnce, 2);
        let (reason, text, _) = next(&mut client);
        assert_eq!((reason, text.is_some()), (Reason::TopicFilterInvalid, wants));
        // The end of a connection is told to everyone [MQTT-3.1.2-29].
        client.publish("a/b/c", b"x", QoS::AtLeastOnce, 3);
        let (reason, text, _) = next(&mut client);
        assert_eq!((reason, text.is_some()), (Reason::TopicNameInvalid, true));
    }
    broker.stop();
}

#[test]
fn no_text_makes_a_packet_larger_than_the_client_takes() {
    let broker = TestBroker::start(|config| config.limits.max_topic_levels = 2, Level::Received);
    let asking = asking(&[Property::MaximumPacketSize(30)]);
    let (mut client, connack) = Client::connect_as(broker.address, &connect("d1", &asking));
    assert!(connack.len() <= 30);
    client.subscribe("a/b/c", QoS::AtLeastOnce, 1);
    assert_eq!(next(&mut client), (Reason::TopicFilterInvalid, None, None));
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: codec::PacketId::MIN,
        filters: Vec::new(),
        properties: Properties::EMPTY,
    }));
    assert_eq!(next(&mut client), (Reason::ProtocolError, None, None));
    broker.stop();
}

#[test]
fn a_refused_connect_says_why() {
    let broker = TestBroker::start(|config| config.listeners[0].versions.v5 = false, Level::Received);
    let (_client, connack) = Client::connect_as(broker.address, &connect("d1", &asking(&[])));
    let Packet::Connack(connack) = codec::decode(Version::V5, &connack).unwrap() else {
        panic!()
    };
    assert_eq!(connack.reason, Reason::UnsupportedProtocolVersion);
    assert!(connack.properties.reason_string().unwrap().contains("version"));
    broker.stop();
}

#[test]
fn where_there_are_too_many_5_0_is_told_of_another_server() {
    let broker = TestBroker::start(
        |config| {
            config.limits.max_connections = 1;
            config.told.server_reference = Some("b.example.com:1883".into());
        },
        Level::Received,
    );
    let _first = Client::connect(&broker, "first", Version::V311);
    let (mut five, connack) = Client::connect_as(broker.address, &connect("five", &asking(&[])));
    let Packet::Connack(connack) = codec::decode(Version::V5, &connack).unwrap() else {
        panic!()
    };
    assert_eq!(connack.reason, Reason::UseAnotherServer);
    assert_eq!(connack.properties.server_reference(), Some("b.example.com:1883"));
    assert_eq!(five.frame(), None);
    let nothing = asking(&[]);
    let three = Connect {
        version: Version::V311,
        ..connect("three", &nothing)
    };
    let (_three, connack) = Client::connect_as(broker.address, &three);
    assert_eq!(connack, [0x20, 2, 0, 3]);
    broker.stop();
}

#[test]
fn a_broker_that_stops_says_where_to_go() {
    for (reference, reason) in [
        (None, Reason::ServerShuttingDown),
        (Some("b.example.com:1883"), Reason::UseAnotherServer),
    ] {
        let broker = TestBroker::start(
            |config| config.told.server_reference = reference.map(Into::into),
            Level::Received,
        );
        let (mut client, _) = Client::connect_as(broker.address, &connect("d1", &asking(&[])));
        broker.stop();
        let (told, text, to) = next(&mut client);
        assert_eq!((told, to.as_deref()), (reason, reference));
        assert!(text.is_some());
    }
}
