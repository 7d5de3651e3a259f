//! What is denied, and what becomes of it: publishes, subscriptions, single messages, wills.

use std::time::Duration;

use forebay_broker::auth::{DenyAction, Pattern, Rule};
use forebay_broker::classify::Level;
use forebay_broker::codec::{Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason};
use forebay_broker::codec::{Version, Will};
use forebay_broker::config::Config;
use forebay_broker::hub::SharedStrategy;
use tempfile::NamedTempFile;

use super::auth::{by_files, connect, file, join, reloadable};
use super::support::{Client, Received, TestBroker};

/// No message comes in this time: whoever would send one has answered behind it by then.
const QUIET: Duration = Duration::from_millis(100);

fn rule(publish: bool, subscribe: bool, on: &str, allow: bool) -> Rule {
    Rule {
        who: Vec::new(),
        publish,
        subscribe,
        on: Pattern::of_rule(on).unwrap(),
        allow,
    }
}

/// Publishing on `no/...` and reading `secret/...` is denied, and one filter.
fn rules(config: &mut Config) {
    config.acl = vec![
        rule(true, false, "no/#", false),
        rule(false, true, "secret/#", false),
        rule(false, true, "test/nosubscribe", false),
        rule(true, true, "#", true),
    ];
}

#[test]
fn a_denied_publish_goes_nowhere_and_is_told_in_order_where_it_can_be() {
    let broker = TestBroker::start_with(rules, Level::Received, by_files);
    for version in [Version::V31, Version::V311, Version::V5] {
        let told = match version {
            Version::V5 => Reason::NotAuthorized,
            _ => Reason::Success,
        };
        let mut client = Client::connect(&broker, "c", version);
        client.publish("no/0", b"0", QoS::AtMostOnce, 0);
        client.publish("yes/1", b"1", QoS::AtLeastOnce, 1);
        client.publish("no/2", b"2", QoS::AtLeastOnce, 2);
        client.publish("no/3", b"3", QoS::ExactlyOnce, 3);
        client.publish("yes/4", b"4", QoS::ExactlyOnce, 4);
        let answers = [
            Received::Puback(1, Reason::Success),
            Received::Puback(2, told),
            Received::Pubrec(3, told),
            Received::Pubrec(4, Reason::Success),
        ];
        for answer in answers {
            assert_eq!(client.receive(), answer, "{version:?}");
        }
        if version != Version::V5 {
            client.pubrel(3);
            assert_eq!(client.receive(), Received::Pubcomp(3, Reason::Success));
        }
        client.pubrel(4);
        assert_eq!(client.receive(), Received::Pubcomp(4, Reason::Success));
        // Its packet id is free again.
        client.publish("yes/3", b"5", QoS::ExactlyOnce, 3);
        assert_eq!(client.receive(), Received::Pubrec(3, Reason::Success));
        let payloads: Vec<_> = broker.records(3).into_iter().map(|seen| seen.payload).collect();
        assert_eq!(payloads, [b"1", b"4", b"5"], "{version:?}");
    }
    broker.stop();
}

#[test]
fn deny_action_disconnect_closes_and_says_why() {
    let deny = |config: &mut Config| {
        rules(config);
        config.deny_action = DenyAction::Disconnect;
    };
    let broker = TestBroker::start_with(deny, Level::Received, by_files);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut five = Client::connect(&broker, "c", Version::V5);
        five.publish("no/x", b"x", qos, u16::from(qos as u8));
        assert_eq!(five.receive(), Received::Disconnect(Reason::NotAuthorized));
        assert_eq!(five.receive(), Received::Closed);
        let mut three = Client::connect(&broker, "c", Version::V311);
        three.publish("no/x", b"x", qos, u16::from(qos as u8));
        assert_eq!(three.receive(), Received::Closed);
    }
    let mut five = Client::connect(&broker, "c", Version::V5);
    five.subscribe("test/nosubscribe", QoS::AtMostOnce, 1);
    let mut last = five.receive();
    if last == Received::Suback(1, vec![Reason::UnspecifiedError]) {
        last = five.receive();
    }
    assert_eq!(last, Received::Disconnect(Reason::NotAuthorized));
    assert_eq!(broker.stop().records, 0);
}

#[test]
fn one_filter_is_refused_while_all_stays_allowed_but_for_what_may_not_be_read() {
    let broker = TestBroker::start_with(rules, Level::Received, by_files);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    for (topic, payload) in [("secret/r", b"sr"), ("open/r", b"or")] {
        let retained = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic,
            packet_id: None,
            payload,
            properties: Properties::EMPTY,
        };
        publisher.send(&Packet::Publish(retained));
    }
    publisher.ping();
    assert_eq!(publisher.receive(), Received::Pingresp);
    for (version, refused) in [
        (Version::V31, Reason::UnspecifiedError),
        (Version::V311, Reason::UnspecifiedError),
        (Version::V5, Reason::NotAuthorized),
    ] {
        let mut client = Client::connect(&broker, "c", version);
        for (id, filter, reason) in [
            (1, "test/nosubscribe", Reason::UnspecifiedError), // a rule has it by name
            (2, "secret/#", refused),
            (3, "secret/+/x", refused),
            (5, "secret", refused),
        ] {
            client.subscribe(filter, QoS::AtLeastOnce, id);
            assert_eq!(client.receive(), Received::Suback(id, vec![reason]), "{filter}");
        }
        client.subscribe("#", QoS::AtLeastOnce, 4);
        assert_eq!(client.receive(), Received::Suback(4, vec![Reason::GrantedQoS1]));
        assert_eq!(client.receive(), Received::Publish(b"or".to_vec(), 0));
        for topic in ["secret/a", "secret", "open/a"] {
            publisher.publish(topic, topic.as_bytes(), QoS::AtMostOnce, 0);
        }
        assert_eq!(client.receive(), Received::Publish(b"open/a".to_vec(), 0));
        client.expect_silence(QUIET);
    }
    broker.stop();
}

#[test]
fn a_will_that_may_not_be_published_is_not() {
    let broker = TestBroker::start_with(rules, Level::Received, by_files);
    let mut watcher = Client::connect(&broker, "w", Version::V311);
    watcher.subscribe("#", QoS::AtMostOnce, 1);
    assert_eq!(watcher.receive(), Received::Suback(1, vec![Reason::Success]));
    for (topic, id) in [("no/will", "a"), ("yes/will", "b")] {
        let mut connect = connect(id, Version::V311, None, None);
        connect.will = Some(Will {
            topic,
            payload: topic.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::EMPTY,
        });
        // The end of a connection without DISCONNECT.
        drop(join(&broker, &connect).expect("CONNACK").ok().unwrap());
    }
    assert_eq!(watcher.receive(), Received::Publish(b"yes/will".to_vec(), 0));
    watcher.expect_silence(QUIET);
    broker.stop();
}

#[test]
fn a_will_goes_by_the_rules_of_its_own_listener() {
    let acl = file("topic read #\n");
    let broker = TestBroker::start_with(
        |config| {
            config.listeners.push(config.listeners[0].clone());
            config.listeners[1].files.acl_file = Some(acl.path().to_owned());
        },
        Level::Received,
        by_files,
    );
    let mut watcher = Client::connect(&broker, "w", Version::V311);
    watcher.subscribe("#", QoS::AtMostOnce, 1);
    assert_eq!(watcher.receive(), Received::Suback(1, vec![Reason::Success]));
    for (listener, topic) in [(1, "guarded"), (0, "free")] {
        let mut connect = connect("c", Version::V311, None, None);
        connect.will = Some(Will {
            topic,
            payload: topic.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::EMPTY,
        });
        drop(Client::connect_as(broker.address_of(listener), &connect));
    }
    assert_eq!(watcher.receive(), Received::Publish(b"free".to_vec(), 0));
    watcher.expect_silence(QUIET);
    broker.stop();
}

#[test]
fn rules_that_are_read_again_hold_at_once_for_who_is_connected() {
    let acl = file("topic readwrite #\n");
    let path = acl.path().to_owned();
    let (broker, auth) = reloadable(|config| config.listeners[0].files.acl_file = Some(path.clone()));
    let mut client = Client::connect(&broker, "c", Version::V5);
    client.subscribe("a/#", QoS::AtMostOnce, 1);
    assert_eq!(client.receive(), Received::Suback(1, vec![Reason::Success]));
    let mut try_it = |may_publish: bool, may_read: bool| {
        client.publish("a/b", b"m", QoS::AtLeastOnce, 7);
        let mut answers = vec![client.receive()];
        if may_publish && may_read {
            answers.push(client.receive());
        }
        let puback = match may_publish {
            true => Reason::Success,
            false => Reason::NotAuthorized,
        };
        assert!(answers.contains(&Received::Puback(7, puback)), "{answers:?}");
        let came = answers.contains(&Received::Publish(b"m".to_vec(), 0));
        assert_eq!(came, may_publish && may_read, "{answers:?}");
        client.ping();
        assert_eq!(client.receive(), Received::Pingresp);
    };
    try_it(true, true);
    std::fs::write(&path, "topic deny a/b\ntopic readwrite #\n").unwrap();
    assert_eq!(auth.reload(None), []);
    try_it(false, false);
    std::fs::write(&path, "topic write a/b\ntopic read c\n").unwrap();
    assert_eq!(auth.reload(None), []);
    try_it(true, false);
    std::fs::write(&path, "topic wrote a/b\n").unwrap();
    assert_eq!(auth.reload(None).len(), 1);
    try_it(true, false);
    // New rules of the configuration hold though the file is faulty, and with what the file said before.
    assert_eq!(auth.reload(Some(&[rule(true, false, "a/b", false)])).len(), 1);
    try_it(false, false);
    assert_eq!(auth.reload(Some(&[rule(true, false, "a/c", false)])).len(), 1);
    try_it(true, false);
    std::fs::write(&path, "topic a/b\n").unwrap();
    assert_eq!(auth.reload(None), []);
    try_it(true, true);
    broker.stop();
}

#[test]
fn the_first_rules_of_a_reload_hold_for_who_connects_then_and_the_last_ones_that_go_free_all() {
    let (broker, auth) = reloadable(|_| {});
    let rule = rule(true, true, "own/{client_id}", true);
    let answer = |client: &mut Client, topic: &str| {
        client.publish(topic, b"m", QoS::AtLeastOnce, 7);
        client.receive()
    };
    let mut early = Client::connect(&broker, "early", Version::V5);
    assert!(auth.has_open_listeners());
    assert_eq!(auth.reload(Some(std::slice::from_ref(&rule))), []);
    assert!(!auth.has_open_listeners());
    let mut late = Client::connect(&broker, "late", Version::V5);
    assert_eq!(
        answer(&mut late, "own/late"),
        Received::Puback(7, Reason::Success)
    );
    assert_eq!(answer(&mut late, "x"), Received::Puback(7, Reason::NotAuthorized));
    assert_eq!(answer(&mut early, "x"), Received::Puback(7, Reason::Success));
    let mut early = Client::connect(&broker, "early", Version::V5);
    assert_eq!(
        answer(&mut early, "x"),
        Received::Puback(7, Reason::NotAuthorized)
    );
    assert_eq!(auth.reload(Some(&[])), []);
    for client in [&mut early, &mut late] {
        assert_eq!(answer(client, "x"), Received::Puback(7, Reason::Success));
    }
    broker.stop();
}

/// The file lives as long as the broker.
fn alice_reads_all_and_bob_what_is_open() -> (TestBroker, NamedTempFile) {
    let acl = file("user alice\ntopic #\nuser bob\ntopic read open/#\n");
    let broker = TestBroker::start_with(
        |config| config.listeners[0].files.acl_file = Some(acl.path().to_owned()),
        Level::Received,
        by_files,
    );
    (broker, acl)
}

/// Takes up the session `kept` as this user.
fn come_kept(broker: &TestBroker, username: &str) -> Client {
    let mut connect = connect("kept", Version::V311, Some(username), None);
    connect.clean_start = false;
    join(broker, &connect).expect("CONNACK").ok().unwrap()
}

#[test]
fn what_waits_for_a_session_goes_by_the_rules_of_who_comes_back() {
    let (broker, _acl) = alice_reads_all_and_bob_what_is_open();
    let come = |username| come_kept(&broker, username);
    let mut alice = come("alice");
    alice.subscribe("#", QoS::AtLeastOnce, 1);
    assert_eq!(alice.receive(), Received::Suback(1, vec![Reason::GrantedQoS1]));
    alice.disconnect(None);
    let publisher = connect("p", Version::V311, Some("alice"), None);
    let mut publisher = join(&broker, &publisher).expect("CONNACK").ok().unwrap();
    for (id, topic) in [(1, "closed/a"), (2, "open/a"), (3, "closed/b")] {
        publisher.publish(topic, topic.as_bytes(), QoS::AtLeastOnce, id);
        assert_eq!(publisher.receive(), Received::Puback(id, Reason::Success));
    }
    let mut bob = come("bob");
    assert!(bob.session_present);
    assert!(matches!(bob.receive(), Received::Publish(payload, _) if payload == b"open/a"));
    bob.expect_silence(QUIET);
    broker.stop();
}

#[test]
fn rules_are_about_the_whole_topic_whatever_stands_for_it() {
    let broker = TestBroker::start_with(
        |config| {
            config.acl = vec![rule(true, true, "site/ok/#", true)];
            config.listeners[0].mount_point = Some("site/".into());
        },
        Level::Received,
        by_files,
    );
    let mut client = Client::connect(&broker, "c", Version::V5);
    for (id, topic, reason) in [
        (1, "ok/x", Reason::Success),
        (2, "site/ok/x", Reason::NotAuthorized),
        (3, "no/x", Reason::NotAuthorized),
    ] {
        client.publish(topic, b"x", QoS::AtLeastOnce, id);
        assert_eq!(client.receive(), Received::Puback(id, reason), "{topic}");
    }
    // An alias is taken though what it came with is denied, and does not open what its topic closes.
    for (id, topic) in [(4, "no/x"), (5, "")] {
        let mut alias = PropertiesBuf::default();
        alias.push(Property::TopicAlias(1));
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: PacketId::new(id),
            payload: b"x",
            properties: alias.as_properties(),
        };
        client.send(&Packet::Publish(publish));
        assert_eq!(client.receive(), Received::Puback(id, Reason::NotAuthorized));
    }
    for (id, filter, reason) in [
        (6, "ok/#", Reason::GrantedQoS1),
        (7, "site/ok/#", Reason::NotAuthorized),
        (8, "#", Reason::NotAuthorized),
        (9, "$share/g/ok/+", Reason::GrantedQoS1),
        (10, "$share/g/#", Reason::NotAuthorized),
    ] {
        client.subscribe(filter, QoS::AtLeastOnce, id);
        assert_eq!(client.receive(), Received::Suback(id, vec![reason]), "{filter}");
    }
    broker.stop();
}

#[test]
fn what_came_by_a_subscription_that_is_gone_goes_by_the_rules_of_who_comes_back() {
    let (broker, _acl) = alice_reads_all_and_bob_what_is_open();
    let come = |username| come_kept(&broker, username);
    let mut alice = come("alice");
    alice.subscribe("#", QoS::AtLeastOnce, 1);
    assert_eq!(alice.receive(), Received::Suback(1, vec![Reason::GrantedQoS1]));
    for (id, topic) in [(2, "closed/a"), (3, "open/a")] {
        alice.publish(topic, topic.as_bytes(), QoS::AtLeastOnce, id);
        let answers = [alice.receive(), alice.receive()]; // PUBACK, and the message that stays unacknowledged
        assert!(
            answers.contains(&Received::Puback(id, Reason::Success)),
            "{answers:?}"
        );
    }
    alice.unsubscribe("#", 4);
    assert_eq!(alice.receive(), Received::Unsuback(4));
    alice.disconnect(None);
    let mut bob = come("bob");
    assert!(bob.session_present);
    assert!(matches!(bob.receive(), Received::Publish(payload, _) if payload == b"open/a"));
    bob.expect_silence(QUIET);
    broker.stop();
}

#[test]
fn a_message_of_a_group_goes_to_a_member_that_may_read_it() {
    const ALL: &str = "user alice\ntopic #\nuser bob\ntopic #\n";
    const LESS: &str = "user alice\ntopic #\nuser bob\ntopic read open/#\n";
    let acl = file(ALL);
    let path = acl.path().to_owned();
    let (broker, auth) = reloadable(|config| {
        config.listeners[0].files.acl_file = Some(path.clone());
        config.limits.shared_strategy = SharedStrategy::RoundRobin;
    });
    let come = |id, username, clean_start| {
        let mut connect = connect(id, Version::V311, Some(username), None);
        connect.clean_start = clean_start;
        join(&broker, &connect).expect("CONNACK").ok().unwrap()
    };
    let subscribe = |client: &mut Client, reason| {
        client.subscribe("$share/g/#", QoS::AtLeastOnce, 1);
        assert_eq!(client.receive(), Received::Suback(1, vec![reason]));
    };
    let mut publisher = come("p", "alice", true);
    let mut publish = |ids: std::ops::Range<u16>, topic: &str| {
        for id in ids {
            publisher.publish(topic, topic.as_bytes(), QoS::AtLeastOnce, id);
            assert_eq!(publisher.receive(), Received::Puback(id, Reason::Success));
        }
    };
    let mut kept = come("kept", "alice", false);
    subscribe(&mut kept, Reason::GrantedQoS1);
    publish(1..2, "closed/sent");
    assert!(matches!(kept.receive(), Received::Publish(payload, _) if payload == b"closed/sent"));
    kept.disconnect(None);
    publish(2..4, "closed/waits");
    let mut bobs: Vec<_> = ["b1", "b2", "b3", "b4"].map(|id| come(id, "bob", true)).into();
    for bob in &mut bobs {
        subscribe(bob, Reason::GrantedQoS1);
    }
    std::fs::write(&path, LESS).unwrap();
    assert_eq!(auth.reload(None), []);
    let mut alice = come("alice", "alice", true);
    subscribe(&mut alice, Reason::GrantedQoS1);
    // What was sent to the member or waits for it is for one that may read it when another user takes its session.
    let mut other = come("kept", "bob", false);
    // Each was offered to others before, to more or fewer of them: in what order they come is chance.
    let mut came: Vec<_> = (0..3).map(|_| payload(alice.receive())).collect();
    came.sort();
    assert_eq!(came, [&b"closed/sent"[..], b"closed/waits", b"closed/waits"]);
    // What is given to members that may not read it any more finds its way too.
    publish(4..16, "closed/new");
    for _ in 4..16 {
        assert_eq!(payload(alice.receive()), b"closed/new");
    }
    // Nobody joins who may read a part only.
    subscribe(&mut other, Reason::UnspecifiedError);
    for client in bobs.iter_mut().chain([&mut other, &mut alice]) {
        client.expect_silence(QUIET);
    }
    broker.stop();
}

fn payload(received: Received) -> Vec<u8> {
    match received {
        Received::Publish(payload, _) => payload,
        other => panic!("{other:?}"),
    }
}
