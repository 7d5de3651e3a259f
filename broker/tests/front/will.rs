//! Will delay from outside (5.0 section 3.1.3.2.2): sent at the earlier of the delay and the session's end, called off by
//! a client that comes back.

use std::time::{Duration, Instant};

use forebay_broker::classify::Level;
use forebay_broker::codec::{
    self, Connect, Disconnect, Packet, Properties, PropertiesBuf, Property, QoS, Reason, Version, Will,
};

use super::support::{Client, Received, TestBroker};

/// Connects `id`, whose will says its name on `wills`.
fn join(broker: &TestBroker, id: &str, clean_start: bool, delay_s: u32, expiry_s: u32) -> Client {
    let mut of_will = PropertiesBuf::default();
    of_will.push(Property::WillDelayInterval(delay_s));
    of_will.push(Property::ResponseTopic("answer"));
    of_will.push(Property::UserProperty("a", "b"));
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(expiry_s));
    let connect = Connect {
        version: Version::V5,
        bridge: false,
        clean_start,
        keep_alive_s: 60,
        client_id: id,
        will: Some(Will {
            topic: "wills",
            payload: id.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: of_will.as_properties(),
        }),
        username: None,
        password: None,
        properties: properties.as_properties(),
    };
    Client::connect_as(broker.address, &connect).0
}

fn watch(broker: &TestBroker) -> Client {
    let mut watcher = Client::connect(broker, "watcher", Version::V5);
    watcher.subscribe("wills", QoS::AtMostOnce, 1);
    assert!(matches!(watcher.receive(), Received::Suback(..)));
    watcher
}

/// Whose will comes next.
fn next(watcher: &mut Client) -> String {
    match watcher.receive() {
        Received::Publish(payload, _) => String::from_utf8(payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_will_waits_for_its_delay_or_for_the_end_of_its_session() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut watcher = watch(&broker);
    for (delay_s, expiry_s) in [(1, 60), (60, 1)] {
        let device = join(&broker, "device", true, delay_s, expiry_s);
        let start = Instant::now();
        drop(device);
        let frame = watcher.frame().unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(900), "after {took:?}");
        let Ok(Packet::Publish(will)) = codec::decode(Version::V5, &frame) else {
            panic!("{frame:?}")
        };
        assert_eq!(will.payload, b"device");
        assert_eq!(will.properties.response_topic(), Some("answer"));
        assert_eq!(will.properties.user_properties().next(), Some(("a", "b")));
    }
    broker.stop();
}

#[test]
fn without_a_session_to_come_back_to_it_does_not_wait() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut watcher = watch(&broker);
    drop(join(&broker, "not kept", true, 600, 0));
    assert_eq!(next(&mut watcher), "not kept");
    let mut leaves = join(&broker, "leaves", true, 600, 600);
    let mut properties = PropertiesBuf::default();
    properties.push(Property::SessionExpiryInterval(0));
    leaves.send(&Packet::Disconnect(Disconnect {
        reason: Reason::DisconnectWithWill,
        properties: properties.as_properties(),
    }));
    assert_eq!(next(&mut watcher), "leaves");
    // Taken over by a clean start, which ends the session.
    let mut old = join(&broker, "cleaned", true, 600, 600);
    let _new = join(&broker, "cleaned", true, 600, 600);
    assert_eq!(old.receive(), Received::Disconnect(Reason::SessionTakenOver));
    assert_eq!(next(&mut watcher), "cleaned");
    broker.stop();
}

#[test]
fn a_client_that_is_back_in_time_or_takes_over_calls_it_off() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut watcher = watch(&broker);
    let mut gone = join(&broker, "gone", false, 1, 600);
    gone.send(&Packet::Disconnect(Disconnect {
        reason: Reason::DisconnectWithWill,
        properties: Properties::EMPTY,
    }));
    assert_eq!(gone.receive(), Received::Closed);
    let _back = Client::connect_kept(&broker, "gone", Version::V5);
    let _old = join(&broker, "taken over", false, 1, 600);
    let _new = join(&broker, "taken over", false, 1, 600);
    // Both would have been published before this one.
    drop(join(&broker, "later", false, 2, 600));
    assert_eq!(next(&mut watcher), "later");
    broker.stop();
}
