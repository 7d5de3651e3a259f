//! Each bound on what clients may do, as a client meets it. docs/limits.md names these tests.

use std::time::{Duration, Instant};

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};
use forebay_broker::config::Limits;

use super::support::{Client, Received, TestBroker};

fn start(limit: impl Fn(&mut Limits)) -> TestBroker {
    TestBroker::start(|config| limit(&mut config.limits), Level::Received)
}

#[test]
fn a_packet_above_max_packet_bytes_ends_its_connection() {
    let broker = start(|limits| limits.max_packet_bytes = 100);
    let mut five = Client::connect(&broker, "five", Version::V5);
    five.publish("t", &[7; 92], QoS::AtLeastOnce, 1); // 100 with 5.0's empty properties
    assert_eq!(five.receive(), Received::Puback(1, Reason::Success));
    five.publish("t", &[7; 93], QoS::AtLeastOnce, 2);
    assert_eq!(five.receive(), Received::Disconnect(Reason::PacketTooLarge));
    assert_eq!(five.receive(), Received::Closed);
    let mut three = Client::connect(&broker, "three", Version::V311);
    three.send_raw(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]); // it need not come whole
    assert_eq!(three.receive(), Received::Closed);
    let long = "i".repeat(120);
    assert!(Client::try_connect(&broker, &long, Version::V311).is_none());
    broker.stop();
}

#[test]
fn topics_beyond_max_topic_bytes_and_max_topic_levels_are_refused() {
    let broker = start(|limits| {
        limits.max_topic_bytes = 20;
        limits.max_topic_levels = 3;
    });
    for (fine, beyond) in [("a/b/c", "a/b/c/d"), (&*"x".repeat(20), &*"x".repeat(21))] {
        let mut five = Client::connect(&broker, "five", Version::V5);
        five.subscribe(fine, QoS::AtMostOnce, 1);
        five.subscribe(beyond, QoS::AtMostOnce, 2);
        assert_eq!(five.receive(), Received::Suback(1, vec![Reason::Success]));
        assert_eq!(
            five.receive(),
            Received::Suback(2, vec![Reason::TopicFilterInvalid])
        );
        five.publish(fine, b"x", QoS::AtMostOnce, 0);
        assert_eq!(five.receive(), Received::Publish(b"x".to_vec(), 0));
        five.publish(beyond, b"x", QoS::AtMostOnce, 0);
        assert_eq!(five.receive(), Received::Disconnect(Reason::TopicNameInvalid));
        let mut three = Client::connect(&broker, "three", Version::V311);
        three.subscribe(beyond, QoS::AtMostOnce, 2);
        assert_eq!(
            three.receive(),
            Received::Suback(2, vec![Reason::UnspecifiedError])
        );
        three.publish(beyond, b"x", QoS::AtMostOnce, 0);
        assert_eq!(three.receive(), Received::Closed);
        // A will is published one day: it is refused with its CONNECT.
        assert!(Client::try_connect_with_will(&broker, "will", fine).is_some());
        assert!(Client::try_connect_with_will(&broker, "will", beyond).is_none());
    }
    broker.stop();
}

#[test]
fn a_will_as_deep_as_a_packet_can_hold_is_refused() {
    let broker = start(|_| {});
    let deep = "/".repeat(60_000);
    assert!(Client::try_connect_with_will(&broker, "deep", &deep).is_none());
    broker.stop();
}

#[test]
fn subscriptions_above_max_subscriptions_are_refused_one_by_one() {
    let broker = start(|limits| limits.max_subscriptions = 2);
    for (version, refused) in [
        (Version::V5, Reason::QuotaExceeded),
        (Version::V311, Reason::UnspecifiedError),
    ] {
        let mut client = Client::connect(&broker, "c", version);
        for (id, filter) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            client.subscribe(filter, QoS::AtMostOnce, id);
            let expected = if filter == "c" { refused } else { Reason::Success };
            assert_eq!(client.receive(), Received::Suback(id, vec![expected]), "{filter}");
        }
        client.unsubscribe("a", 5);
        assert_eq!(client.receive(), Received::Unsuback(5));
        client.subscribe("c", QoS::AtMostOnce, 6);
        assert_eq!(client.receive(), Received::Suback(6, vec![Reason::Success]));
    }
    broker.stop();
}

#[test]
fn no_more_than_max_inflight_messages_are_on_their_way() {
    let broker = start(|limits| limits.max_inflight_messages = 3);
    let mut client = Client::connect(&broker, "slow", Version::V311);
    client.subscribe("t", QoS::AtLeastOnce, 1);
    assert!(matches!(client.receive(), Received::Suback(..)));
    let mut publisher = Client::connect(&broker, "p", Version::V311);
    for id in 1..=5 {
        publisher.publish("t", &[id as u8], QoS::AtLeastOnce, id);
    }
    let mut ids = Vec::new();
    for number in 1..=3 {
        let Received::Publish(payload, id) = client.receive() else {
            panic!("no message")
        };
        assert_eq!(payload, [number]);
        ids.push(id);
    }
    client.expect_silence(Duration::from_millis(200));
    client.send_raw(&[0x40, 2, 0, ids[0] as u8]);
    assert!(matches!(client.receive(), Received::Publish(payload, _) if payload == [4]));
    client.expect_silence(Duration::from_millis(100));
    broker.stop();
}

#[test]
fn what_waits_for_a_client_is_bounded_in_number_and_in_bytes() {
    // A message counts for its topic, its payload, and 64 bytes.
    for (number, bytes, expected) in [(3, usize::MAX, 3), (1000, 4 * (64 + 1 + 100), 4)] {
        let broker = start(|limits| {
            limits.max_queued_messages = number;
            limits.max_queued_bytes = bytes;
        });
        let mut away = Client::connect_kept(&broker, "away", Version::V311);
        away.subscribe("t", QoS::AtLeastOnce, 1);
        assert!(matches!(away.receive(), Received::Suback(..)));
        away.disconnect(None);
        let mut publisher = Client::connect(&broker, "p", Version::V311);
        for id in 1..=10 {
            publisher.publish("t", &[id as u8; 100], QoS::AtLeastOnce, id);
            assert_eq!(publisher.receive(), Received::Puback(id, Reason::Success));
        }
        let mut back = Client::connect_kept(&broker, "away", Version::V311);
        assert!(back.session_present);
        for number in 1..=expected {
            assert!(matches!(back.receive(), Received::Publish(payload, _) if payload == [number; 100]));
        }
        back.expect_silence(Duration::from_millis(100));
        broker.stop();
    }
}

#[test]
fn retained_messages_are_bounded_in_number_and_in_bytes() {
    for (number, bytes, expected) in [(2, usize::MAX, 2), (1000, 3 * (64 + 1 + 100), 3)] {
        let broker = start(|limits| {
            limits.max_retained_messages = number;
            limits.max_retained_bytes = bytes;
        });
        let mut publisher = Client::connect(&broker, "p", Version::V311);
        for (id, topic) in (1..).zip(["a", "b", "c", "d"]) {
            let mut frame = Client::publish_frame(
                Version::V311,
                topic,
                &[id as u8; 100],
                QoS::AtLeastOnce,
                id,
                false,
            );
            frame[0] |= 1;
            publisher.send_raw(&frame);
            assert_eq!(publisher.receive(), Received::Puback(id, Reason::Success));
        }
        let mut client = Client::connect(&broker, "c", Version::V311);
        client.subscribe("#", QoS::AtMostOnce, 1);
        assert!(matches!(client.receive(), Received::Suback(..)));
        let mut topics: Vec<String> = (0..expected).map(|_| client.message().0).collect();
        topics.sort();
        assert_eq!(topics, ["a", "b", "c", "d"][..expected]);
        client.expect_silence(Duration::from_millis(100));
        broker.stop();
    }
}

#[test]
fn who_falls_silent_is_closed_after_one_and_a_half_keep_alives_granted() {
    let broker = start(|limits| limits.max_keep_alive_s = 1);
    // It asks for a minute. Of a connection whose other end is gone the broker sees just this: nothing.
    let mut five = Client::connect(&broker, "five", Version::V5);
    // It cannot be told of less than it asks for: one asks for a second, with a will of "gone" to "will", one for a minute.
    let mut three = Client::open(&broker);
    three.send_raw(b"\x10\x1B\x00\x04MQTT\x04\x0E\x00\x01\x00\x03abc\x00\x04will\x00\x04gone");
    assert_eq!(three.frame().unwrap(), [0x20, 2, 0, 0]);
    let mut minute = Client::connect(&broker, "minute", Version::V311);
    let start = Instant::now();
    assert_eq!(five.receive(), Received::Disconnect(Reason::KeepAliveTimeout));
    assert_eq!(three.receive(), Received::Closed);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(1_300) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(broker.records(1)[0].payload, b"gone");
    minute.publish("t", b"x", QoS::AtLeastOnce, 1);
    assert_eq!(minute.receive(), Received::Puback(1, Reason::Success));
    broker.stop();
}

#[test]
fn receive_maximum_is_held_against_5_0_and_holds_back_3_x() {
    let broker = TestBroker::start(|config| config.limits.receive_maximum = 2, Level::Kafka);
    let mut five = Client::connect(&broker, "five", Version::V5);
    for id in 1..=3 {
        five.publish("t", b"x", QoS::AtLeastOnce, id);
    }
    assert_eq!(
        five.receive(),
        Received::Disconnect(Reason::ReceiveMaximumExceeded)
    );
    broker.records(2);
    let mut three = Client::connect(&broker, "three", Version::V311);
    for id in 1..=3 {
        three.publish("t", &[id as u8], QoS::AtLeastOnce, id);
    }
    let records = broker.records(2);
    three.expect_silence(Duration::from_millis(100));
    broker.report(&records[0], forebay_broker::bus::Outcome::InKafka);
    assert_eq!(three.receive(), Received::Puback(1, Reason::Success));
    assert_eq!(broker.records(1)[0].payload, [3]);
    broker.stop();
}

#[test]
fn the_deepest_topic_that_can_be_allowed_is_kept_found_and_cleared() {
    let broker = start(|limits| limits.max_topic_levels = 1000);
    let deep = "/".repeat(999);
    let plus = vec!["+"; 1000].join("/");
    let mut client = Client::connect(&broker, "deep", Version::V311);
    let mut retained = Client::publish_frame(Version::V311, &deep, b"x", QoS::AtMostOnce, 0, false);
    retained[0] |= 1;
    client.send_raw(&retained);
    for (id, filter) in (1..).zip([&*deep, "#", &*plus]) {
        client.subscribe(filter, QoS::AtMostOnce, id);
        assert!(matches!(client.receive(), Received::Suback(..)));
        assert_eq!(client.message(), (deep.clone(), "x".to_owned(), true));
        client.unsubscribe(filter, id);
        assert_eq!(client.receive(), Received::Unsuback(id));
    }
    let mut cleared = Client::publish_frame(Version::V311, &deep, b"", QoS::AtMostOnce, 0, false);
    cleared[0] |= 1;
    client.send_raw(&cleared);
    client.subscribe("#", QoS::AtMostOnce, 9);
    assert!(matches!(client.receive(), Received::Suback(..)));
    client.expect_silence(Duration::from_millis(100));
    broker.stop();
}
