//! Receive Maximum and the queues of sessions from outside.

use forebay_broker::bus::Outcome;
use forebay_broker::classify::Level;
use forebay_broker::codec::{self, Connect, Packet, PropertiesBuf, Property, QoS, Reason, Version};
use forebay_broker::config::Config;

use super::support::{Client, Received, TestBroker, plain_connect};

fn twenty(config: &mut Config) {
    config.limits.receive_maximum = 20;
}

fn connect(id: &str) -> Connect<'_> {
    plain_connect(id, Version::V5)
}

/// One of QoS 1 and 2, in turn.
fn mixed(id: u16) -> QoS {
    match id % 2 {
        0 => QoS::ExactlyOnce,
        _ => QoS::AtLeastOnce,
    }
}

#[test]
fn the_21st_publish_under_way_is_answered_0x93_and_the_client_gets_to_read_it() {
    let broker = TestBroker::start(twenty, Level::Kafka);
    for round in 0..3 {
        let (mut client, connack) = Client::connect_as(broker.address, &connect("d"));
        let Ok(Packet::Connack(connack)) = codec::decode(Version::V5, &connack) else {
            panic!()
        };
        assert_eq!(connack.properties.receive_maximum(), Some(20));
        for id in 1..=20 {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce, mixed(id)][round];
            client.publish("t", b"x", qos, id);
        }
        client.ping();
        assert_eq!(client.receive(), Received::Pingresp, "20 are allowed");
        // It goes on sending, as a client does that has not read yet: the close must not take the answer with it.
        let mut burst = Vec::new();
        for id in 21..2_000 {
            burst.extend(Client::publish_frame(
                Version::V5,
                "t",
                &[0; 100],
                mixed(id),
                id,
                false,
            ));
        }
        client.send_raw(&burst);
        assert_eq!(
            client.receive(),
            Received::Disconnect(Reason::ReceiveMaximumExceeded)
        );
        assert_eq!(client.receive(), Received::Closed);
        assert_eq!(broker.records(20).len(), 20, "what came before is taken");
    }
    broker.stop();
}

#[test]
fn what_is_complete_counts_no_more_and_a_received_qos_2_does_until_pubcomp() {
    let broker = TestBroker::start(twenty, Level::Received);
    let (mut client, _) = Client::connect_as(broker.address, &connect("d"));
    for id in 1..=20 {
        client.publish("t", b"x", mixed(id), id);
    }
    for id in 1..=20 {
        match mixed(id) {
            QoS::ExactlyOnce => assert_eq!(client.receive(), Received::Pubrec(id, Reason::Success)),
            _ => assert_eq!(client.receive(), Received::Puback(id, Reason::Success)),
        }
    }
    // Ten of QoS 2 are under way: there is room for ten.
    for id in 21..=30 {
        client.publish("t", b"x", QoS::ExactlyOnce, id);
        assert_eq!(client.receive(), Received::Pubrec(id, Reason::Success));
    }
    client.pubrel(2);
    assert_eq!(client.receive(), Received::Pubcomp(2, Reason::Success));
    client.publish("t", b"x", QoS::AtLeastOnce, 31);
    assert_eq!(client.receive(), Received::Puback(31, Reason::Success));
    client.publish("t", b"x", QoS::ExactlyOnce, 32);
    assert_eq!(client.receive(), Received::Pubrec(32, Reason::Success));
    client.publish("t", b"x", QoS::AtMostOnce, 0); // counts never
    client.publish("t", b"x", QoS::AtLeastOnce, 33);
    assert_eq!(
        client.receive(),
        Received::Disconnect(Reason::ReceiveMaximumExceeded)
    );
    broker.stop();
}

#[test]
fn what_is_refused_counts_no_more() {
    let broker = TestBroker::start(|config| config.limits.receive_maximum = 2, Level::Kafka);
    let (mut client, _) = Client::connect_as(broker.address, &connect("d"));
    for id in [1, 2] {
        client.publish("t", b"x", mixed(id), id);
    }
    for record in broker.records(2) {
        broker.report(&record, Outcome::Refused);
    }
    assert_eq!(client.receive(), Received::Puback(1, Reason::QuotaExceeded));
    assert_eq!(client.receive(), Received::Pubrec(2, Reason::QuotaExceeded));
    for id in [1, 2] {
        client.publish("t", b"x", mixed(id), id);
    }
    client.ping();
    assert_eq!(client.receive(), Received::Pingresp);
    broker.stop();
}

#[test]
fn a_full_queue_keeps_the_newest_where_that_is_configured() {
    for (drop_old, expected) in [(false, [1, 2, 3]), (true, [8, 9, 10])] {
        let broker = TestBroker::start(
            |config| {
                config.limits.max_queued_messages = 3;
                config.limits.drop_old = drop_old;
            },
            Level::Received,
        );
        let mut away = Client::connect_kept(&broker, "away", Version::V311);
        away.subscribe("t", QoS::AtLeastOnce, 1);
        assert!(matches!(away.receive(), Received::Suback(..)));
        away.disconnect(None);
        let mut publisher = Client::connect(&broker, "pub", Version::V311);
        for number in 1..=10u8 {
            publisher.publish("t", &[number], QoS::AtLeastOnce, number.into());
            assert!(matches!(publisher.receive(), Received::Puback(..)));
        }
        let mut back = Client::connect_kept(&broker, "away", Version::V311);
        for number in expected {
            let Received::Publish(payload, _) = back.receive() else {
                panic!()
            };
            assert_eq!(payload, [number]);
        }
        broker.stop();
    }
}

#[test]
fn a_message_that_waits_expires_and_one_that_is_too_large_is_left_out() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(60));
    properties.push(Property::MaximumPacketSize(40));
    let small = Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect("away")
    };
    let (mut away, _) = Client::connect_as(broker.address, &small);
    away.subscribe("t", QoS::AtLeastOnce, 1);
    assert!(matches!(away.receive(), Received::Suback(..)));
    away.disconnect(None);
    let mut publisher = Client::connect(&broker, "pub", Version::V5);
    let start = std::time::Instant::now();
    for (payload, expiry_s) in [(&[1; 5][..], 1), (&[2; 100], 100), (&[3; 5], 100)] {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::MessageExpiryInterval(expiry_s));
        publisher.send(&Packet::Publish(codec::Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id: codec::PacketId::new(u16::from(payload[0])),
            payload,
            properties: properties.as_properties(),
        }));
        assert!(matches!(publisher.receive(), Received::Puback(..)));
    }
    super::support::until("the first has expired", || start.elapsed().as_millis() > 1_500);
    let (mut back, _) = Client::connect_as(broker.address, &small);
    let frame = back.frame().unwrap();
    let Ok(Packet::Publish(publish)) = codec::decode(Version::V5, &frame) else {
        panic!("{frame:?}")
    };
    assert_eq!(publish.payload, [3; 5]);
    let left_s = publish.properties.message_expiry_s().unwrap();
    assert!((95..100).contains(&left_s), "{left_s} s are left of 100");
    broker.stop();
}
