//! `$SYS` as an exporter that was made for Mosquitto reads it: the names, what they say, when they come; and that it is
//! the broker's alone.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};

use super::support::{Client, Received, TestBroker};

/// All that Mosquitto 2 says, and what its manual names beside it.
const NAMES: [&str; 28] = [
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "connections/socket/count",
    "heap/current",
    "heap/maximum",
    "messages/inflight",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
];

const LOADS: [&str; 9] = [
    "bytes/received",
    "bytes/sent",
    "connections",
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "sockets",
];

fn start(interval_s: u32) -> TestBroker {
    TestBroker::start(|config| config.sys_interval_s = interval_s, Level::Received)
}

fn subscribed(broker: &TestBroker, id: &str, filter: &str) -> Client {
    let mut client = Client::connect(broker, id, Version::V311);
    client.subscribe(filter, QoS::ExactlyOnce, 1);
    assert!(matches!(client.receive(), Received::Suback(1, _)));
    client
}

fn below(topic: &str) -> String {
    topic.strip_prefix("$SYS/broker/").unwrap_or(topic).to_owned()
}

/// The numbers as they come, until they are as `wanted` says, within ten updates.
fn until_said(client: &mut Client, wanted: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let mut said = BTreeMap::new();
    let mut updates = 0;
    loop {
        let (topic, text, _) = client.message();
        updates += usize::from(text.ends_with(" seconds"));
        if let Ok(number) = text.parse::<f64>() {
            said.insert(below(&topic), number);
        }
        if wanted
            .iter()
            .all(|(name, number)| said.get(*name) == Some(number))
        {
            return said;
        }
        assert!(updates < 10, "{wanted:?} in {said:#?}");
    }
}

#[test]
fn every_name_is_there_for_who_comes() {
    let broker = start(3600);
    let mut client = subscribed(&broker, "exporter", "$SYS/#");
    let mut expected: Vec<String> = NAMES.map(str::to_owned).to_vec();
    for load in LOADS {
        expected.extend(["1min", "5min", "15min"].map(|span| format!("load/{load}/{span}")));
    }
    let mut said = BTreeMap::new();
    for _ in 0..expected.len() {
        let (topic, text, retain) = client.message();
        assert!(retain, "{topic}");
        said.insert(below(&topic), text);
    }
    client.expect_silence(Duration::from_millis(100));
    expected.sort();
    assert_eq!(said.keys().cloned().collect::<Vec<_>>(), expected);
    let version = format!("forebay version {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(said["version"], version);
    assert_eq!(said["uptime"], "0 seconds");
    assert_eq!(said["load/connections/5min"], "0.00");
    assert!(said["heap/current"].parse::<u64>().unwrap() > 1_000_000);
    let mut one = subscribed(&broker, "one", "$SYS/broker/version");
    assert_eq!(one.message(), ("$SYS/broker/version".to_owned(), version, true));
    let mut plus = subscribed(&broker, "plus", "$SYS/broker/clients/+");
    (0..7).for_each(|_| assert!(plus.message().0.starts_with("$SYS/broker/clients/")));
    for (id, filter) in [("all", "#"), ("first", "+/broker/version")] {
        subscribed(&broker, id, filter).expect_silence(Duration::from_millis(50));
    }
    broker.stop();
}

#[test]
fn the_numbers_are_what_happened() {
    let broker = start(1);
    let mut client = subscribed(&broker, "exporter", "$SYS/#");
    let mut device = Client::connect_kept(&broker, "device", Version::V5);
    device.subscribe("none", QoS::AtLeastOnce, 1);
    device.subscribe("$share/g/none", QoS::AtLeastOnce, 2);
    for _ in 0..2 {
        assert!(matches!(device.receive(), Received::Suback(..)));
    }
    for id in 1..=5 {
        device.publish("t", &[7; 20], QoS::AtLeastOnce, id);
        assert_eq!(device.receive(), Received::Puback(id, Reason::Success));
    }
    drop(device);
    let mut watcher = subscribed(&broker, "watcher", "w");
    watcher.publish("w", &[7; 11], QoS::AtMostOnce, 0);
    assert_eq!(watcher.receive(), Received::Publish(vec![7; 11], 0));
    let wanted = [
        ("clients/total", 3.0),
        ("clients/maximum", 3.0),
        ("clients/connected", 2.0),
        ("clients/active", 2.0),
        ("clients/disconnected", 1.0),
        ("clients/inactive", 1.0),
        ("connections/socket/count", 3.0),
        ("publish/messages/received", 6.0),
        ("publish/messages/dropped", 0.0),
        ("publish/bytes/received", 111.0),
        ("messages/received", 13.0), // three CONNECTs, four SUBSCRIBEs, six PUBLISHes
        ("subscriptions/count", 3.0),
        ("shared_subscriptions/count", 1.0),
    ];
    let said = until_said(&mut client, &wanted);
    assert!(said["load/connections/1min"] > 0.0);
    assert!(said["bytes/received"] > 200.0 && said["bytes/sent"] > 1_000.0);
    assert!(said["publish/messages/sent"] > 50.0 && said["messages/sent"] > said["publish/messages/sent"]);
    broker.stop();
}

#[test]
fn what_did_not_change_is_not_told_again() {
    let broker = start(1);
    let mut client = subscribed(&broker, "exporter", "$SYS/broker/clients/#");
    // The first updates have come for all of them by then.
    while client.try_receive(Duration::from_millis(1500)).is_some() {}
    client.expect_silence(Duration::from_millis(1200));
    let _second = Client::connect(&broker, "second", Version::V311);
    let mut told: Vec<String> = (0..4).map(|_| below(&client.message().0)).collect();
    told.sort();
    let expected = [
        "clients/active",
        "clients/connected",
        "clients/maximum",
        "clients/total",
    ];
    assert_eq!(told, expected);
    broker.stop();
}

#[test]
fn an_interval_of_0_is_none_at_all() {
    let broker = start(0);
    let mut client = subscribed(&broker, "exporter", "$SYS/#");
    client.expect_silence(Duration::from_millis(200));
    broker.stop();
}

#[test]
fn clients_publish_nothing_there_and_nothing_of_it_is_written_down() {
    let broker = start(1);
    let mut watcher = subscribed(&broker, "watcher", "$SYS/broker/fake/#");
    let mut five = Client::connect(&broker, "five", Version::V5);
    five.publish("$SYS/broker/fake/a", b"x", QoS::AtLeastOnce, 1);
    assert_eq!(five.receive(), Received::Puback(1, Reason::NotAuthorized));
    five.publish("$SYS/broker/fake/a", b"x", QoS::ExactlyOnce, 2);
    assert_eq!(five.receive(), Received::Pubrec(2, Reason::NotAuthorized));
    five.publish("$SYS/broker/fake/a", b"x", QoS::AtMostOnce, 0);
    let mut three = Client::connect(&broker, "three", Version::V311);
    three.publish("$SYS/broker/fake/a", b"x", QoS::AtLeastOnce, 1);
    assert_eq!(three.receive(), Received::Puback(1, Reason::Success));
    three.publish("$SYS/broker/fake/a", b"x", QoS::ExactlyOnce, 2);
    assert_eq!(three.receive(), Received::Pubrec(2, Reason::Success));
    three.pubrel(2);
    assert_eq!(three.receive(), Received::Pubcomp(2, Reason::Success));
    drop(Client::connect_with_will(
        &broker,
        "will",
        "$SYS/broker/fake/will",
        b"x",
        &[],
    ));
    watcher.expect_silence(Duration::from_millis(1500));
    // Who waits for its acknowledgement in order gets it in order.
    five.publish("t", b"only", QoS::AtLeastOnce, 3);
    assert_eq!(five.receive(), Received::Puback(3, Reason::Success));
    let records = broker.records(1);
    assert_eq!(records[0].payload, b"only");
    let ended = broker.stop();
    assert_eq!(ended.records, 0, "no update of $SYS stands in the log");
}

#[test]
fn a_bridge_tells_there_whether_it_stands() {
    let broker = start(3600);
    let topic = "$SYS/broker/connection/edge-7/state";
    let frame = Client::publish_frame(Version::V311, topic, b"1", QoS::AtLeastOnce, 1, false);
    let retained: Vec<u8> = std::iter::once(frame[0] | 1).chain(frame[1..].to_vec()).collect();
    let mut bridge = Client::connect_with_will(&broker, "edge-7", topic, b"0", &retained);
    assert_eq!(bridge.receive(), Received::Puback(1, Reason::Success));
    let mut watcher = subscribed(&broker, "watcher", "$SYS/broker/connection/+/state");
    assert_eq!(watcher.message(), (topic.to_owned(), "1".to_owned(), true));
    drop(bridge);
    assert_eq!(watcher.message(), (topic.to_owned(), "0".to_owned(), false));
    broker.stop();
}

#[test]
fn of_a_group_one_member_gets_what_changes() {
    let broker = start(1);
    let mut one = Client::connect(&broker, "one", Version::V5);
    one.subscribe("$share/g/$SYS/broker/uptime", QoS::AtMostOnce, 1);
    assert!(matches!(one.receive(), Received::Suback(..)));
    assert!(matches!(one.receive(), Received::Publish(text, 0) if text.ends_with(b" seconds")));
    broker.stop();
}

#[test]
fn it_takes_no_room_from_what_clients_retain() {
    let broker = TestBroker::start(|config| config.limits.max_retained_messages = 0, Level::Received);
    let mut client = subscribed(&broker, "exporter", "$SYS/broker/version");
    assert!(client.message().2);
    broker.stop();
}
