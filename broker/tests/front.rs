//! The front end as a client sees it: a whole broker on loopback, raw packets, and a reader of the log that reports
//! when the test says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "front/acl.rs"]
mod acl;
#[path = "front/aliases.rs"]
mod aliases;
#[path = "front/auth.rs"]
mod auth;
#[path = "front/enhanced.rs"]
mod enhanced;
#[path = "front/full.rs"]
mod full;
#[path = "front/goodbye.rs"]
mod goodbye;
#[path = "front/kept.rs"]
mod kept;
#[path = "front/limits.rs"]
mod limits;
#[path = "front/messages.rs"]
mod messages;
#[path = "front/mount.rs"]
mod mount;
#[path = "front/parked.rs"]
mod parked;
#[path = "front/queue.rs"]
mod queue;
#[path = "front/rate.rs"]
mod rate;
#[path = "front/retained.rs"]
mod retained;
#[path = "front/shared.rs"]
mod shared;
#[path = "front/storm.rs"]
mod storm;
#[path = "front/support.rs"]
mod support;
#[path = "front/sys.rs"]
mod sys;
#[path = "front/told.rs"]
mod told;
#[path = "front/will.rs"]
mod will;

use std::time::Duration;

use forebay_broker::bus::Outcome;
use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};
use support::{Client, Received, TestBroker, small_log};

#[test]
fn at_level_kafka_an_acknowledgement_waits_for_the_report_and_comes_in_order() {
    let broker = TestBroker::start(|_| {}, Level::Kafka);
    let mut client = Client::connect(&broker, "d1", Version::V311);
    for id in 1..=3 {
        client.publish("devices/d1/t", &[id as u8], QoS::AtLeastOnce, id);
    }
    let records = broker.records(3);
    client.expect_silence(Duration::from_millis(100));
    // Kafka confirms the last first: MQTT still wants the first first [MQTT-4.6.0-2].
    for record in records.iter().rev() {
        broker.report(record, Outcome::InKafka);
    }
    for id in 1..=3 {
        assert_eq!(client.receive(), Received::Puback(id, Reason::Success));
    }
    broker.stop();
}

#[test]
fn what_kafka_refuses_is_told_to_5_0_and_acknowledged_to_3_1_1() {
    let broker = TestBroker::start(|_| {}, Level::Kafka);
    let mut five = Client::connect(&broker, "five", Version::V5);
    five.publish("t", b"x", QoS::AtLeastOnce, 1);
    broker.report(&broker.records(1)[0], Outcome::Refused);
    assert_eq!(five.receive(), Received::Puback(1, Reason::QuotaExceeded));
    let mut three = Client::connect(&broker, "three", Version::V311);
    three.publish("t", b"x", QoS::AtLeastOnce, 1);
    broker.report(&broker.records(1)[0], Outcome::Refused);
    assert_eq!(three.receive(), Received::Puback(1, Reason::Success));
    broker.stop();
}

#[test]
fn at_level_received_the_acknowledgement_does_not_wait() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut client = Client::connect(&broker, "d1", Version::V5);
    client.publish("t", b"x", QoS::AtLeastOnce, 9);
    assert_eq!(client.receive(), Received::Puback(9, Reason::Success));
    client.publish("t", b"y", QoS::ExactlyOnce, 10);
    assert_eq!(client.receive(), Received::Pubrec(10, Reason::Success));
    client.pubrel(10);
    assert_eq!(client.receive(), Received::Pubcomp(10, Reason::Success));
    assert_eq!(broker.records(2).len(), 2);
    broker.stop();
}

#[test]
fn at_level_spooled_only_what_the_log_has_is_acknowledged() {
    let broker = TestBroker::start(small_log, Level::Spooled);
    let mut client = Client::connect(&broker, "d1", Version::V311);
    client.publish("t", b"x", QoS::ExactlyOnce, 1);
    assert_eq!(client.receive(), Received::Pubrec(1, Reason::Success));
    assert_eq!(broker.records(1).len(), 1);
    // The log takes no more than its bound, while the window of the bus has room for all of them.
    let count = 100;
    for id in 2..2 + count {
        client.publish("t", &[7; 1024], QoS::AtLeastOnce, id);
    }
    let before = client.drain_pubacks(Duration::from_millis(300));
    assert!(
        before > 0 && before < 16,
        "{before} acknowledged, the log has room for 16"
    );
    broker.commit_all(count);
    let after = client.drain_pubacks_until(count - before, Duration::from_secs(5));
    assert_eq!(before + after, count);
    broker.stop();
}

#[test]
fn a_client_that_mixes_levels_is_acknowledged_in_its_order() {
    let broker = TestBroker::start(|_| {}, Level::Spooled);
    let mut client = Client::connect(&broker, "d1", Version::V311);
    for (id, topic) in (1..).zip(["kafka/a", "spooled/a", "received/a", "kafka/b", "spooled/b"]) {
        client.publish(topic, &[id as u8], QoS::AtLeastOnce, id);
    }
    let records = broker.records(5);
    client.expect_silence(Duration::from_millis(100));
    broker.report(&records[0], Outcome::InKafka);
    for id in 1..=3 {
        assert_eq!(client.receive(), Received::Puback(id, Reason::Success));
    }
    client.expect_silence(Duration::from_millis(100));
    broker.report(&records[3], Outcome::InKafka);
    for id in 4..=5 {
        assert_eq!(client.receive(), Received::Puback(id, Reason::Success));
    }
    broker.stop();
}

#[test]
fn a_route_that_is_closed_holds_its_publishers_only_and_pings_are_answered_behind_it() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    broker.set_open(false); // closes what is published under `stuck/`
    let mut stuck = Client::connect(&broker, "stuck", Version::V311);
    let mut free = Client::connect(&broker, "free", Version::V311);
    stuck.publish("stuck/a", b"1", QoS::AtLeastOnce, 1);
    stuck.publish("stuck/a", b"2", QoS::AtLeastOnce, 2);
    stuck.ping();
    assert_eq!(stuck.receive(), Received::Pingresp);
    free.publish("free/a", b"1", QoS::AtLeastOnce, 1);
    assert_eq!(free.receive(), Received::Puback(1, Reason::Success));
    broker.set_open(true);
    assert_eq!(stuck.receive(), Received::Puback(1, Reason::Success));
    assert_eq!(stuck.receive(), Received::Puback(2, Reason::Success));
    let payloads: Vec<_> = broker.records(3).into_iter().map(|r| r.payload).collect();
    assert_eq!(payloads, [b"1".to_vec(), b"1".to_vec(), b"2".to_vec()]);
    broker.stop();
}

#[test]
fn when_the_log_is_full_publishers_wait_nothing_is_lost_and_memory_is_bounded() {
    let broker = TestBroker::start(
        |config| {
            small_log(config);
            config.bus.window_chunks = 2;
        },
        Level::Received,
    );
    let mut client = Client::connect(&broker, "d1", Version::V311);
    let mut sent = 0u16;
    // Far more than log, window and parked packets hold: at some point no acknowledgement comes any more.
    let count = 400u16;
    let payload = [7u8; 1024];
    client.set_write_timeout(Duration::from_millis(300));
    for id in 1..=count {
        if !client.try_publish("t", &payload, QoS::AtLeastOnce, id) {
            break;
        }
        sent = id;
    }
    assert_eq!(sent, count, "the socket's buffers take this much");
    let before = client.drain_pubacks(Duration::from_millis(500));
    assert!(
        before < count,
        "{before} of {count} acknowledged with nobody reading the log"
    );
    broker.commit_all(count);
    let after = client.drain_pubacks_until(count - before, Duration::from_secs(5));
    assert_eq!(before + after, count);
    broker.stop();
}

#[test]
fn take_over_closes_the_old_connection_and_keeps_what_was_accepted() {
    let broker = TestBroker::start(|_| {}, Level::Kafka);
    let mut old = Client::connect_kept(&broker, "d1", Version::V5);
    old.publish("t", b"1", QoS::AtLeastOnce, 1);
    let first = broker.records(1);
    let mut new = Client::connect_kept(&broker, "d1", Version::V5);
    assert!(new.session_present);
    assert_eq!(old.receive(), Received::Disconnect(Reason::SessionTakenOver));
    assert_eq!(old.receive(), Received::Closed);
    // It never got its PUBACK, so it sends again: attached to what waits, not appended a second time.
    new.publish_dup("t", b"1", QoS::AtLeastOnce, 1);
    new.publish("t", b"2", QoS::AtLeastOnce, 2);
    let second = broker.records(1);
    assert_eq!(second[0].payload, b"2");
    broker.report(&first[0], Outcome::InKafka);
    broker.report(&second[0], Outcome::InKafka);
    assert_eq!(new.receive(), Received::Puback(1, Reason::Success));
    assert_eq!(new.receive(), Received::Puback(2, Reason::Success));
    broker.stop();
}

#[test]
fn a_storm_of_one_client_id_leaves_one_connection() {
    let broker = TestBroker::start(|config| config.workers = 2, Level::Received);
    let mut clients: Vec<_> = (0..40)
        .map(|_| Client::connect(&broker, "same", Version::V311))
        .collect();
    let mut last = clients.pop().unwrap();
    for mut client in clients {
        assert_eq!(client.receive(), Received::Closed);
    }
    last.publish("t", b"x", QoS::AtLeastOnce, 1);
    assert_eq!(last.receive(), Received::Puback(1, Reason::Success));
    broker.stop();
}

#[test]
fn connections_above_the_limit_are_refused_and_come_in_once_one_leaves() {
    let broker = TestBroker::start(|config| config.limits.max_connections = 2, Level::Received);
    let first = Client::connect(&broker, "a", Version::V311);
    let _second = Client::connect(&broker, "b", Version::V311);
    assert!(Client::try_connect(&broker, "c", Version::V311).is_none());
    drop(first);
    support::until("a place is free", || {
        Client::try_connect(&broker, "c", Version::V311).is_some()
    });
    broker.stop();
}

#[test]
fn a_socket_that_sends_no_connect_is_closed() {
    let broker = TestBroker::start(|config| config.limits.connect_timeout_s = 1, Level::Received);
    let mut silent = Client::open(&broker);
    let mut half = Client::open(&broker);
    half.send_raw(&[0x10, 0x20, 0x00]);
    let mut not_mqtt = Client::open(&broker);
    not_mqtt.send_raw(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(not_mqtt.receive(), Received::Closed);
    assert_eq!(silent.receive(), Received::Closed);
    assert_eq!(half.receive(), Received::Closed);
    broker.stop();
}

#[test]
fn a_frame_split_at_every_byte_is_read() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut client = Client::connect(&broker, "slow", Version::V311);
    let mut frame = Client::publish_frame(Version::V311, "t", b"payload", QoS::AtLeastOnce, 3, false);
    frame.extend(Client::publish_frame(
        Version::V311,
        "t",
        &[1; 20_000],
        QoS::AtLeastOnce,
        4,
        false,
    ));
    for piece in frame[..40].chunks(1) {
        client.send_raw(piece);
    }
    for piece in frame[40..].chunks(3_000) {
        client.send_raw(piece);
    }
    assert_eq!(client.receive(), Received::Puback(3, Reason::Success));
    assert_eq!(client.receive(), Received::Puback(4, Reason::Success));
    let records = broker.records(2);
    assert_eq!(records[0].payload, b"payload");
    assert_eq!(records[1].payload, vec![1; 20_000]);
    broker.stop();
}

#[test]
fn stop_acknowledges_what_was_accepted_and_says_good_bye() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut client = Client::connect(&broker, "d1", Version::V5);
    for id in 1..=100 {
        client.publish("t", b"x", QoS::AtLeastOnce, id);
    }
    let stopped = broker.stop();
    assert_eq!(stopped.undecided, 0);
    let mut acknowledged = 0;
    loop {
        match client.receive() {
            Received::Puback(_, Reason::Success) => acknowledged += 1,
            Received::Disconnect(Reason::ServerShuttingDown) => {}
            Received::Closed => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        stopped.records, acknowledged,
        "acknowledged is what stands in the log, and the other way round"
    );
}

#[test]
fn a_device_that_forgot_its_ids_is_not_taken_for_the_one_that_sends_again() {
    let broker = TestBroker::start(|_| {}, Level::Kafka);
    let mut before = Client::connect_kept(&broker, "d1", Version::V311);
    before.publish("t", b"old", QoS::AtLeastOnce, 1);
    let old = broker.records(1);
    let mut after = Client::connect_kept(&broker, "d1", Version::V311);
    // Sent first on a connection in between that broke: a new message, under an id that the old one still waits with.
    after.publish_dup("t", b"new", QoS::AtLeastOnce, 1);
    let new = broker.records(1);
    assert_eq!(new[0].payload, b"new");
    broker.report(&old[0], Outcome::InKafka);
    after.expect_silence(Duration::from_millis(100));
    broker.report(&new[0], Outcome::InKafka);
    assert_eq!(after.receive(), Received::Puback(1, Reason::Success));
    broker.stop();
}

#[test]
fn a_will_stands_before_what_its_client_publishes_next() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let _gone = Client::connect_with_will(&broker, "d1", "t", b"offline", &[]);
    let online = Client::publish_frame(Version::V311, "t", b"online", QoS::AtLeastOnce, 1, false);
    let mut back = Client::connect_with_will(&broker, "d1", "t", b"offline", &online);
    assert_eq!(back.receive(), Received::Puback(1, Reason::Success));
    let payloads: Vec<_> = broker.records(2).into_iter().map(|r| r.payload).collect();
    assert_eq!(payloads, [b"offline".to_vec(), b"online".to_vec()]);
    broker.stop();
}

#[test]
fn a_will_does_not_wait_for_its_route() {
    let broker = TestBroker::start(|config| config.workers = 1, Level::Received);
    broker.set_open(false);
    let will = |id, topic| Client::connect_with_will(&broker, id, topic, b"offline", &[]);
    drop(will("d1", "stuck/d1"));
    assert_eq!(broker.records(1)[0].payload, b"offline");
    let mut back = Client::connect(&broker, "d1", Version::V311);
    back.publish("free/d1", b"online", QoS::AtLeastOnce, 1);
    assert_eq!(back.receive(), Received::Puback(1, Reason::Success));
    assert_eq!(broker.records(1)[0].payload, b"online");
    broker.stop();
}

#[test]
fn one_that_never_pauses_does_not_keep_the_others_waiting() {
    let broker = TestBroker::start(|config| config.workers = 1, Level::Received);
    let mut flood = Client::connect(&broker, "flood", Version::V311);
    let frames: Vec<u8> = (0..2_000)
        .flat_map(|_| Client::publish_frame(Version::V311, "f", &[0; 16], QoS::AtMostOnce, 1, false))
        .collect();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = stop.clone();
    let flooding = std::thread::spawn(move || {
        while !until.load(std::sync::atomic::Ordering::Acquire) {
            flood.send_raw(&frames);
        }
    });
    let draining = broker.drain_until(stop.clone());
    let mut quiet = Client::connect(&broker, "quiet", Version::V311);
    for id in 1..=50 {
        quiet.publish("q", b"x", QoS::AtLeastOnce, id);
        assert_eq!(quiet.receive(), Received::Puback(id, Reason::Success));
    }
    stop.store(true, std::sync::atomic::Ordering::Release);
    flooding.join().unwrap();
    draining.join().unwrap();
    broker.stop();
}
