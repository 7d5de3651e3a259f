//! A client that sends more than it may is slowed, not dropped, and alone.

use std::time::{Duration, Instant};

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};
use forebay_broker::config::Limits;

use super::support::{Client, Received, TestBroker};

fn start(limit: impl Fn(&mut Limits)) -> TestBroker {
    TestBroker::start(
        |config| {
            config.workers = 1;
            limit(&mut config.limits);
        },
        Level::Received,
    )
}

/// Publishes all at once and waits for every acknowledgement: how long that took, and how many were there within half a
/// second.
fn publish_all(client: &mut Client, count: u16, bytes: usize) -> (Duration, u16) {
    let start = Instant::now();
    for id in 1..=count {
        client.publish("t", &vec![7; bytes], QoS::AtLeastOnce, id);
    }
    let mut soon = 0;
    for id in 1..=count {
        assert_eq!(client.receive(), Received::Puback(id, Reason::Success));
        soon += u16::from(start.elapsed() < Duration::from_millis(500));
    }
    (start.elapsed(), soon)
}

#[test]
fn beyond_its_message_rate_a_client_is_slowed_and_nothing_is_lost() {
    let broker = start(|limits| limits.max_message_rate = 20);
    let mut client = Client::connect(&broker, "fast", Version::V311);
    let (took, soon) = publish_all(&mut client, 60, 10);
    assert!(soon >= 20, "a second's worth comes at once: {soon}");
    // 40 beyond that at 20 a second.
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(broker.records(60).len(), 60);
    broker.stop();
}

#[test]
fn beyond_its_byte_rate_a_client_is_slowed() {
    let broker = start(|limits| limits.max_bytes_rate = 10_000);
    let mut client = Client::connect(&broker, "fat", Version::V5);
    let (took, soon) = publish_all(&mut client, 30, 1_000);
    assert!((9..=16).contains(&soon), "{soon}");
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    broker.stop();
}

#[test]
fn others_notice_nothing_and_a_ping_behind_waits_no_longer_than_the_pause() {
    let broker = start(|limits| limits.max_message_rate = 5);
    let mut fast = Client::connect(&broker, "fast", Version::V311);
    for id in 1..=10 {
        fast.publish("t", b"x", QoS::AtLeastOnce, id);
    }
    let start = Instant::now();
    fast.ping();
    let mut slow = Client::connect(&broker, "slow", Version::V311);
    for id in 1..=5 {
        slow.publish("t", b"x", QoS::AtLeastOnce, id);
        assert_eq!(slow.receive(), Received::Puback(id, Reason::Success));
    }
    let others = start.elapsed();
    assert!(others < Duration::from_millis(700), "{others:?}");
    let mut acknowledged = 0;
    loop {
        match fast.receive() {
            Received::Puback(_, Reason::Success) => acknowledged += 1,
            Received::Pingresp => break,
            other => panic!("{other:?}"),
        }
    }
    let waited = start.elapsed();
    assert!(acknowledged >= 9, "it stands behind them: {acknowledged}");
    assert!(
        waited >= Duration::from_millis(900) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    broker.stop();
}

#[test]
fn keep_alive_does_not_run_against_a_client_that_is_not_read() {
    let broker = start(|limits| {
        limits.max_message_rate = 1;
        limits.max_keep_alive_s = 1;
    });
    let mut client = Client::connect(&broker, "patient", Version::V5);
    let (took, _) = publish_all(&mut client, 5, 1);
    assert!(
        took >= Duration::from_millis(3_900),
        "far beyond one and a half keep-alives: {took:?}"
    );
    let since = Instant::now();
    assert_eq!(client.receive(), Received::Disconnect(Reason::KeepAliveTimeout));
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "it is read again, and so it runs"
    );
    broker.stop();
}

#[test]
fn one_that_is_slowed_can_be_taken_over() {
    let broker = start(|limits| limits.max_message_rate = 1);
    let mut old = Client::connect(&broker, "same", Version::V5);
    for id in 1..=30 {
        old.publish("t", b"x", QoS::AtLeastOnce, id);
    }
    assert_eq!(old.receive(), Received::Puback(1, Reason::Success));
    let start = Instant::now();
    let mut new = Client::connect(&broker, "same", Version::V5);
    new.publish("t", b"new", QoS::AtLeastOnce, 1);
    assert_eq!(new.receive(), Received::Puback(1, Reason::Success));
    assert!(start.elapsed() < Duration::from_secs(2));
    loop {
        match old.receive() {
            Received::Puback(..) => {}
            Received::Disconnect(Reason::SessionTakenOver) => break,
            other => panic!("{other:?}"),
        }
    }
    broker.stop();
}

#[test]
fn what_a_slowed_client_sent_before_disconnect_counts_though_it_resets() {
    let broker = start(|limits| limits.max_message_rate = 2);
    let mut watcher = Client::connect(&broker, "watcher", Version::V311);
    watcher.subscribe("will", QoS::AtMostOnce, 1);
    assert!(matches!(watcher.receive(), Received::Suback(..)));
    let mut client = Client::connect_with_will(&broker, "slowed", "will", b"gone", b"");
    let publish = |payload: u8| [0x30, 4, 0, 1, b't', payload];
    let mut sent = [publish(1), publish(2), publish(3), publish(4)].concat();
    sent.extend([0xE0, 0]);
    client.send_raw(&sent);
    assert_eq!(
        broker.records(2).len(),
        2,
        "all is read, and two wait for their time"
    );
    client.socket().set_linger(Some(Duration::ZERO)).unwrap();
    drop(client); // RST
    let payloads: Vec<_> = broker.records(2).into_iter().map(|seen| seen.payload).collect();
    assert_eq!(payloads, [vec![3], vec![4]]);
    watcher.ping();
    assert_eq!(watcher.receive(), Received::Pingresp, "no will");
    broker.stop();
}
