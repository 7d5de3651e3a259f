//! Kept sessions over a restart and over a crash, with a whole broker on disk. A crash is a copy of the data folder that is
//! taken while the broker runs: what a kill leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "kept/shared.rs"]
mod shared;
#[path = "kept/support.rs"]
mod support;

use std::time::{Duration, Instant};

use forebay_broker::codec::QoS;
use support::{Client, Connecting, Data, Node, Received};

const QUIET: Duration = Duration::from_millis(300);

/// A subscriber of `t/#` that is away.
fn subscriber_away(node: &Node) {
    let mut subscriber = Client::connect(node, Connecting::kept("sub"));
    subscriber.subscribe("t/#", QoS::ExactlyOnce);
    subscriber.disconnect();
}

fn publisher(node: &Node) -> Client {
    Client::connect(node, Connecting::clean("pub"))
}

#[test]
fn what_was_acknowledged_for_a_session_that_is_away_survives_a_crash_in_order() {
    let data = Data::new();
    let node = Node::start(data.path());
    subscriber_away(&node);
    let mut publisher = publisher(&node);
    for number in 0..500u16 {
        publisher.publish("t/x", number.to_string().as_bytes(), QoS::AtLeastOnce, false);
    }
    publisher.pubacks(500);
    let crashed = data.crash_image();
    drop(publisher);
    node.abandon();

    for run in 0..2 {
        let node = Node::start(crashed.path());
        let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
        assert!(subscriber.session_present, "run {run}");
        let got: Vec<String> = subscriber.messages(500);
        let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        match run {
            0 => assert_eq!(got, expected),
            _ => assert!(got.is_empty(), "they were acknowledged before the stop: {got:?}"),
        }
        subscriber.disconnect();
        node.stop();
        if run == 1 {
            break;
        }
    }
}

#[test]
fn a_clean_stop_loses_nothing_and_repeats_nothing() {
    let data = Data::new();
    let node = Node::start(data.path());
    subscriber_away(&node);
    let mut publisher = publisher(&node);
    for number in 0..20u16 {
        publisher.publish("t/x", number.to_string().as_bytes(), QoS::AtLeastOnce, false);
    }
    publisher.pubacks(20);
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert_eq!(subscriber.messages(10).len(), 10);
    subscriber.disconnect();
    node.stop();

    let node = Node::start(data.path());
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert!(subscriber.session_present);
    let got = subscriber.messages(20);
    assert!(got.contains(&"19".to_owned()), "{got:?}");
    assert!(got.len() <= 10, "what was acknowledged comes no more: {got:?}");
    node.stop();
}

#[test]
fn retained_messages_survive_and_cleared_ones_stay_away() {
    let data = Data::new();
    let node = Node::start(data.path());
    let mut publisher = publisher(&node);
    publisher.publish("r/stays", b"first", QoS::AtLeastOnce, true);
    publisher.publish("r/stays", b"second", QoS::AtLeastOnce, true);
    publisher.publish("r/goes", b"x", QoS::AtLeastOnce, true);
    publisher.publish("r/goes", b"", QoS::AtLeastOnce, true);
    publisher.pubacks(4);
    let crashed = data.crash_image();
    node.abandon();

    let node = Node::start(crashed.path());
    let mut subscriber = Client::connect(&node, Connecting::clean("sub"));
    subscriber.subscribe("r/#", QoS::AtLeastOnce);
    assert_eq!(subscriber.messages(2), ["second"]);
    node.stop();
}

/// SUBACK says that they come: what its client had not been sent when the process ended comes after the restart.
#[test]
fn what_is_retained_for_a_new_subscription_comes_though_a_crash_cuts_it_short() {
    const COUNT: usize = 300;
    let data = Data::new();
    let node = Node::start(data.path());
    let mut publisher = publisher(&node);
    for number in 0..COUNT {
        publisher.publish(
            &format!("t/{number:03}"),
            number.to_string().as_bytes(),
            QoS::AtLeastOnce,
            true,
        );
    }
    publisher.pubacks(COUNT);
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    subscriber.read_without_acknowledging(5);
    let crashed = data.crash_image();
    drop(subscriber);
    node.abandon();

    let node = Node::start(crashed.path());
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert!(subscriber.session_present);
    let mut got = subscriber.exactly(COUNT);
    got.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(
        got,
        (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>()
    );
    node.stop();
}

#[test]
fn a_qos_2_publish_sent_again_after_a_crash_is_not_taken_twice() {
    let data = Data::new();
    let node = Node::start(data.path());
    subscriber_away(&node);
    let mut publisher = Client::connect(&node, Connecting::kept("pub2"));
    for id in 1..=3u16 {
        publisher.publish_as(id, "t/2", id.to_string().as_bytes(), QoS::ExactlyOnce, false);
        assert_eq!(publisher.receive(), Received::Pubrec(id));
    }
    publisher.pubrel(1);
    assert_eq!(publisher.receive(), Received::Pubcomp(1));
    let crashed = data.crash_image();
    node.abandon();

    let node = Node::start(crashed.path());
    let mut publisher = Client::connect(&node, Connecting::kept("pub2"));
    assert!(publisher.session_present);
    publisher.publish_as(2, "t/2", b"2", QoS::ExactlyOnce, true);
    publisher.publish_as(3, "t/2", b"3", QoS::ExactlyOnce, true);
    publisher.publish_as(1, "t/2", b"another under the same id", QoS::ExactlyOnce, false);
    for id in [2, 3, 1] {
        assert_eq!(publisher.receive(), Received::Pubrec(id));
    }
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert_eq!(
        subscriber.messages(5),
        ["1", "2", "3", "another under the same id"]
    );
    node.stop();
}

#[test]
fn what_was_for_kafka_before_a_restart_is_acknowledged_though_there_is_no_sink() {
    let data = Data::new();
    let node = Node::start_without_sink(data.path());
    let mut publisher = Client::connect(&node, Connecting::kept("pub2"));
    publisher.publish_as(1, "t/2", b"1", QoS::ExactlyOnce, false);
    let start = Instant::now();
    while node.store().committed < 2 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    let crashed = data.crash_image();
    drop(publisher);
    drop(node);

    let node = Node::start_without_sink(crashed.path());
    let mut publisher = Client::connect(&node, Connecting::kept("pub2"));
    publisher.publish_as(1, "t/2", b"1", QoS::ExactlyOnce, true);
    assert_eq!(publisher.receive(), Received::Pubrec(1));
    node.stop();
}

#[test]
fn the_will_of_a_session_that_was_connected_is_published_after_a_crash() {
    let data = Data::new();
    let node = Node::start(data.path());
    subscriber_away(&node);
    let with_will = Connecting {
        will: Some(("t/will", b"gone")),
        ..Connecting::kept("device")
    };
    let _device = Client::connect(&node, with_will);
    let mut publisher = publisher(&node);
    publisher.publish("t/x", b"after", QoS::AtLeastOnce, false);
    publisher.pubacks(1);
    let crashed = data.crash_image();
    node.abandon();

    let node = Node::start(crashed.path());
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert_eq!(subscriber.exactly(2), ["after", "gone"]);
    node.stop();
}

#[test]
fn a_will_that_waits_for_its_delay_outlives_a_crash() {
    let data = Data::new();
    let node = Node::start(data.path());
    subscriber_away(&node);
    let with_will = |id, topic| Connecting {
        will: Some((topic, b"gone")),
        will_delay_s: 3,
        ..Connecting::kept(id)
    };
    for (id, topic) in [("stays", "t/stays"), ("returns", "t/returns")] {
        drop(Client::connect(&node, with_will(id, topic)));
    }
    let mut publisher = publisher(&node);
    publisher.publish("t/x", b"after", QoS::AtLeastOnce, false);
    publisher.pubacks(1);
    let crashed = data.crash_image();
    node.abandon();

    let start = Instant::now();
    let node = Node::start(crashed.path());
    let _back = Client::connect(&node, Connecting::kept("returns"));
    let mut subscriber = Client::connect(&node, Connecting::kept("sub"));
    assert_eq!(subscriber.exactly(2), ["after", "gone"], "one of them");
    assert!(start.elapsed() > Duration::from_secs(1), "not at once");
    assert!(subscriber.messages(1).is_empty());
    node.stop();
}

#[test]
fn a_session_whose_time_passed_while_the_broker_was_down_is_gone() {
    let data = Data::new();
    let node = Node::start(data.path());
    let short = Connecting {
        expiry_s: 1,
        ..Connecting::kept("short")
    };
    for connecting in [short, Connecting::kept("long")] {
        let mut client = Client::connect(&node, connecting);
        client.subscribe("t/#", QoS::AtLeastOnce);
        client.disconnect();
    }
    std::thread::sleep(QUIET);
    node.stop();
    std::thread::sleep(Duration::from_millis(1_000));
    let node = Node::start(data.path());
    assert_eq!(node.store().sessions, 1);
    assert!(!Client::connect(&node, short).session_present);
    assert!(Client::connect(&node, Connecting::kept("long")).session_present);
    node.stop();
}

#[test]
fn thousands_of_kept_sessions_each_get_what_was_acknowledged_for_them() {
    let sessions: usize = match std::env::var("FOREBAY_KEPT_SESSIONS") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => 2_000,
    };
    let data = Data::new();
    let node = Node::start(data.path());
    let names: Vec<String> = (0..sessions).map(|number| format!("session-{number}")).collect();
    for batch in names.chunks(100) {
        let clients: Vec<Client> = batch
            .iter()
            .map(|name| Client::connect(&node, Connecting::kept(name)))
            .collect();
        for (mut client, name) in clients.into_iter().zip(batch) {
            client.subscribe(&format!("to/{name}"), QoS::AtLeastOnce);
            client.disconnect();
        }
    }
    let mut publisher = publisher(&node);
    for batch in names.chunks(100) {
        for part in ["a", "b"] {
            for name in batch {
                let payload = format!("{part} {name}");
                publisher.publish(&format!("to/{name}"), payload.as_bytes(), QoS::AtLeastOnce, false);
            }
        }
        publisher.pubacks(2 * batch.len());
    }
    let crashed = data.crash_image();
    node.abandon();

    let start = Instant::now();
    let node = Node::start(crashed.path());
    eprintln!("started with {sessions} sessions in {:?}", start.elapsed());
    for name in &names {
        let mut client = Client::connect(&node, Connecting::kept(name));
        assert!(client.session_present, "{name}");
        let got = client.exactly(2);
        assert_eq!(got, [format!("a {name}"), format!("b {name}")]);
        client.disconnect();
    }
    node.stop();
}

/// Waits until the store's file has `queued` messages for its sessions.
fn until_queued(node: &Node, queued: u64) {
    let start = Instant::now();
    while node.store().queued != queued || node.store().pending > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{} messages are in the store's queues, not {queued}",
            node.store().queued
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_store_forgets_what_is_done_and_what_had_no_room() {
    let data = Data::new();
    let node = Node::start_with(data.path(), |config| config.limits.max_queued_messages = 50);
    let mut live = Client::connect(&node, Connecting::kept("live"));
    live.subscribe("t/#", QoS::ExactlyOnce);
    subscriber_away(&node);
    let mut publisher = publisher(&node);
    for round in 0..10u16 {
        for number in 1..=20u16 {
            let (id, qos) = match number % 2 {
                0 => (number, QoS::AtLeastOnce),
                _ => (number, QoS::ExactlyOnce),
            };
            publisher.publish_as(id, "t/x", round.to_string().as_bytes(), qos, false);
        }
        for _ in 0..30 {
            if let Received::Pubrec(id) = publisher.receive() {
                publisher.pubrel(id);
            }
        }
        assert_eq!(live.exactly(20).len(), 20);
    }
    live.ping(); // what came before is handled
    until_queued(&node, 50);
    let crashed = data.crash_image();
    node.abandon();

    let node = Node::start(crashed.path());
    assert_eq!(node.store().queued, 50);
    let mut away = Client::connect(&node, Connecting::kept("sub"));
    assert_eq!(away.messages(51).len(), 50);
    away.ping();
    until_queued(&node, 0);
    assert!(
        Client::connect(&node, Connecting::kept("live"))
            .messages(1)
            .is_empty()
    );
    let mut fresh = Connecting::kept("sub");
    fresh.clean = true;
    assert!(!Client::connect(&node, fresh).session_present);
    node.stop();
}
