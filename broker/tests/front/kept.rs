//! Kept sessions: what is written down of them, and what waits until it is durable.

use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};

use super::support::{Client, Received, TestBroker, small_log};

#[test]
fn the_log_tells_what_happens_to_a_kept_session_in_order() {
    let broker = TestBroker::start(|_| {}, Level::Spooled);
    let mut kept = Client::connect_kept(&broker, "k", Version::V5);
    kept.subscribe("a/#", QoS::ExactlyOnce, 1);
    assert_eq!(kept.receive(), Received::Suback(1, vec![Reason::GrantedQoS2]));
    kept.publish("x", b"1", QoS::ExactlyOnce, 2);
    assert_eq!(kept.receive(), Received::Pubrec(2, Reason::Success));
    kept.pubrel(2);
    assert_eq!(kept.receive(), Received::Pubcomp(2, Reason::Success));
    kept.unsubscribe("a/#", 3);
    assert_eq!(kept.receive(), Received::Unsuback(3));
    kept.disconnect(None);
    let mut again = Client::connect_kept(&broker, "k", Version::V5);
    assert!(again.session_present);
    again.pubrel(9); // of a publish that it does not know, or not any more
    assert_eq!(
        again.receive(),
        Received::Pubcomp(9, Reason::PacketIdentifierNotFound)
    );
    again.disconnect(Some(0));
    let clean = Client::connect(&broker, "k", Version::V311);
    assert!(!clean.session_present);
    drop(clean);
    assert_eq!(
        broker.changes(8),
        [
            "k open 5 60",
            "k subscribe a/# 2",
            "k release 2",
            "k unsubscribe a/#",
            "k closed 60",
            "k open 5 60",
            "k release 9",
            "k reset",
        ]
    );
    broker.stop();
}

#[test]
fn a_clean_start_resets_what_was_kept_before_it_does_anything() {
    let broker = TestBroker::start(|_| {}, Level::Spooled);
    drop(Client::connect_kept(&broker, "k", Version::V311));
    assert_eq!(broker.changes(2), ["k open 4 604800", "k closed 604800"]);
    let clean = Client::connect(&broker, "k", Version::V311);
    assert!(!clean.session_present);
    assert_eq!(broker.changes(1), ["k reset"]);
    let kept = Client::connect_kept(&broker, "k", Version::V311);
    assert!(!kept.session_present);
    assert_eq!(broker.changes(1), ["k open 4 604800"]);
    broker.stop();
}

#[test]
fn a_publish_for_a_kept_session_says_so_and_one_for_others_does_not() {
    let broker = TestBroker::start(|_| {}, Level::Spooled);
    let mut kept = Client::connect_kept(&broker, "k", Version::V311);
    let mut other = Client::connect(&broker, "o", Version::V311);
    kept.subscribe("kept", QoS::AtLeastOnce, 1);
    kept.subscribe("zero", QoS::AtMostOnce, 2);
    other.subscribe("other", QoS::AtLeastOnce, 1);
    for id in 1..=2 {
        assert!(matches!(kept.receive(), Received::Suback(got, _) if got == id));
    }
    assert!(matches!(other.receive(), Received::Suback(1, _)));
    let mut publisher = Client::connect(&broker, "p", Version::V311);
    for (topic, id) in [("kept", 1), ("zero", 2), ("other", 3)] {
        publisher.publish(topic, topic.as_bytes(), QoS::AtLeastOnce, id);
    }
    publisher.publish("kept", b"kept at 0", QoS::AtMostOnce, 0);
    // What is retained may be for a kept session that subscribes at the same moment.
    for (topic, qos, id) in [("r", QoS::AtLeastOnce, 5), ("r", QoS::AtMostOnce, 0)] {
        let mut frame = Client::publish_frame(Version::V311, topic, b"retained", qos, id, false);
        frame[0] |= 0x01; // RETAIN
        publisher.send_raw(&frame);
    }
    let matched: Vec<bool> = broker.records(6).iter().map(|r| r.matched.is_some()).collect();
    assert_eq!(matched, [true, false, false, false, true, false]);
    assert_eq!(kept.receive(), Received::Publish(b"kept".to_vec(), 1));
    broker.stop();
}

#[test]
fn answers_of_a_kept_session_wait_until_they_are_durable() {
    let broker = TestBroker::start(small_log, Level::Received);
    let mut kept = Client::connect_kept(&broker, "k", Version::V5);
    let mut plain = Client::connect(&broker, "p", Version::V5);
    kept.publish("t", b"x", QoS::ExactlyOnce, 1);
    assert_eq!(kept.receive(), Received::Pubrec(1, Reason::Success));
    // Nobody reads the log: it is full at some point, while the bus still takes chunks.
    for id in 1..=30 {
        plain.publish("t", &[7; 1024], QoS::AtLeastOnce, id);
        assert_eq!(plain.receive(), Received::Puback(id, Reason::Success));
    }
    kept.pubrel(1);
    kept.subscribe("t", QoS::AtLeastOnce, 2);
    kept.ping();
    assert_eq!(kept.receive(), Received::Pingresp);
    kept.expect_silence(Duration::from_millis(100));
    plain.subscribe("t", QoS::AtLeastOnce, 2);
    assert!(matches!(plain.receive(), Received::Suback(2, _)));
    assert_eq!(broker.records(31).len(), 31);
    assert_eq!(kept.receive(), Received::Pubcomp(1, Reason::Success));
    assert!(matches!(kept.receive(), Received::Suback(2, _)));
    broker.stop();
}
