//! Retained messages: however many there are, a new subscriber gets all, and nobody else waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forebay_broker::classify::Level;
use forebay_broker::codec::{self, Packet, Properties, PropertiesBuf, Property, Publish, QoS, Version};

use super::support::{Client, Received, TestBroker, until};

fn retain(topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Vec<u8> {
    let mut properties = PropertiesBuf::default();
    if let Some(expiry_s) = expiry_s {
        properties.push(Property::MessageExpiryInterval(expiry_s));
    }
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic,
        packet_id: None,
        payload,
        properties: match expiry_s {
            Some(_) => properties.as_properties(),
            None => Properties::EMPTY,
        },
    };
    let mut out = Vec::new();
    codec::encode(Version::V5, &Packet::Publish(publish), &mut out).unwrap();
    out
}

fn synced(client: &mut Client) {
    client.ping();
    assert_eq!(client.receive(), Received::Pingresp);
}

#[test]
fn all_of_a_hundred_thousand_come_to_a_slow_reader_and_pings_are_answered_in_between() {
    const COUNT: usize = 100_000;
    let broker = TestBroker::start(
        |config| {
            config.workers = 1; // all on the one that walks
            config.limits.max_queued_messages = 100;
            config.sys_interval_s = 0;
        },
        Level::Received,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let drained = broker.drain_until(stop.clone());
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    for numbers in (0..COUNT).collect::<Vec<_>>().chunks(500) {
        let mut frames = Vec::new();
        for number in numbers {
            let topic = format!("bulk/{}/{number}", number % 100);
            frames.extend(retain(&topic, &(*number as u32).to_be_bytes(), None));
        }
        publisher.send_raw(&frames);
    }
    synced(&mut publisher);
    let mut slow = Client::connect(&broker, "slow", Version::V5);
    slow.subscribe("#", QoS::AtMostOnce, 1);
    assert!(matches!(slow.receive(), Received::Suback(..)));
    // Nothing is read until the socket takes no more: others are served all the same.
    for _ in 0..20 {
        synced(&mut publisher);
    }
    let (answered, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut longest = Duration::ZERO;
    let begin = Instant::now();
    let mut numbers = BTreeSet::new();
    std::thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !ended.load(Ordering::Acquire) {
                let start = Instant::now();
                synced(&mut publisher);
                longest = longest.max(start.elapsed());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        while numbers.len() < COUNT {
            let Received::Publish(payload, 0) = slow.receive() else {
                panic!()
            };
            let new = numbers.insert(u32::from_be_bytes(payload.try_into().unwrap()));
            assert!(new, "each comes once");
        }
        ended.store(true, Ordering::Release);
        longest = longest.max(pinging.join().unwrap());
    });
    let (took, answered) = (begin.elapsed(), answered.into_inner());
    assert!(answered >= 20, "{answered} pings in {took:?}");
    assert!(longest < took / 2, "a ping waited {longest:?} of {took:?}");
    stop.store(true, Ordering::Release);
    drained.join().unwrap();
    broker.stop();
}

#[test]
fn a_retained_publish_beside_a_subscribe_comes_in_one_of_the_two_ways() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let stop = Arc::new(AtomicBool::new(false));
    let drained = broker.drain_until(stop.clone());
    // Their ids put some pairs on two workers.
    for pair in 0..6 {
        let mut publisher = Client::connect(&broker, &format!("p{pair}"), Version::V5);
        let mut subscriber = Client::connect(&broker, &format!("s{pair}"), Version::V5);
        for round in 0..150u32 {
            let topic = format!("race/{pair}/{round}");
            publisher.send_raw(&retain(&topic, &round.to_be_bytes(), None));
            subscriber.subscribe(&topic, QoS::AtMostOnce, 1);
            let (mut answered, mut came) = (false, false);
            while !(answered && came) {
                match subscriber.receive() {
                    Received::Suback(..) => answered = true,
                    // The one before may have come in both ways.
                    Received::Publish(payload, 0) => came |= payload == round.to_be_bytes(),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    stop.store(true, Ordering::Release);
    drained.join().unwrap();
    broker.stop();
}

#[test]
fn a_retained_message_goes_when_its_time_has_passed() {
    let broker = TestBroker::start(|config| config.limits.max_retained_messages = 2, Level::Received);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publisher.send_raw(&retain("t/short", b"1", Some(1)));
    publisher.send_raw(&retain("t/long", b"2", Some(1_000)));
    publisher.send_raw(&retain("t/none", b"3", None));
    synced(&mut publisher);
    // Its place is free once it is gone, whether anybody looked at it or not.
    let mut number = 0;
    until("the place of the expired message is free", || {
        number += 1;
        publisher.send_raw(&retain("t/new", b"4", None));
        synced(&mut publisher);
        let mut subscriber = Client::connect(&broker, &format!("s{number}"), Version::V5);
        subscriber.subscribe("t/+", QoS::AtMostOnce, 1);
        assert!(matches!(subscriber.receive(), Received::Suback(..)));
        synced_with(&mut subscriber) == BTreeSet::from([b"2".to_vec(), b"4".to_vec()])
    });
    let mut late = Client::connect(&broker, "late", Version::V5);
    late.subscribe("t/long", QoS::AtMostOnce, 1);
    assert!(matches!(late.receive(), Received::Suback(..)));
    let frame = late.frame().unwrap();
    let Packet::Publish(publish) = codec::decode(Version::V5, &frame).unwrap() else {
        panic!()
    };
    let left = publish.properties.message_expiry_s().unwrap();
    assert!(left < 1_000, "{left} s: counted down [MQTT-3.3.2-6]");
    broker.stop();
}

/// The payloads that come before the answer to a ping.
fn synced_with(client: &mut Client) -> BTreeSet<Vec<u8>> {
    client.ping();
    let mut payloads = BTreeSet::new();
    let mut answered = false;
    // The ping's answer may overtake messages: those are on their way then.
    while let Some(received) = client.try_receive(Duration::from_millis(if answered { 100 } else { 5_000 })) {
        match received {
            Received::Publish(payload, _) => drop(payloads.insert(payload)),
            Received::Pingresp => answered = true,
            other => panic!("{other:?}"),
        }
    }
    payloads
}
