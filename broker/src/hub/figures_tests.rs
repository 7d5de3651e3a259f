//! Figures of the hub: `cargo test --release -p forebay-broker --lib hub::figures_tests -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use super::retained::Retained;
use super::subscriptions::Subscriptions;
use super::tests::{options, who};
use super::*;

const MILLION: usize = 1_000_000;

/// CPU time of this thread so far: other work on the machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Memory of this process, in MiB.
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096.0 / (1 << 20) as f64
}

fn retained(number: usize) -> Message {
    Message {
        topic: format!("site/{:03}/device-{number:07}/state", number % 1_000).into(),
        payload: vec![b'x'; 100].into(),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: true,
        publisher: Some(who(1)),
        expires_at_ms: None,
        origin: Some(crate::record::Origin {
            epoch: 1,
            worker: 0,
            number: number as u64,
            index: 0,
        }),
    }
}

/// A million retained messages of 100 bytes.
#[test]
#[ignore = "a figure, for a release build"]
fn a_million_retained_messages() {
    let before = resident_mib();
    let begin = cpu();
    let mut tree = Retained::new(usize::MAX, usize::MAX);
    for number in 0..MILLION {
        tree.set(&retained(number)).unwrap();
    }
    let each = (cpu() - begin) / MILLION as u32;
    let mib = resident_mib() - before;
    println!("a million retained messages: {mib:.0} MiB, {each:?} to set one");
    let (mut after, mut slices, mut found) = (None, 0, Vec::new());
    let begin = cpu();
    loop {
        after = tree.slice("#", after.as_deref(), 64, LOOKS, &mut found);
        slices += 1;
        if after.is_none() {
            break;
        }
        found.clear();
    }
    println!("`#`: {slices} slices of 64, {:?} each", (cpu() - begin) / slices);
    assert!(mib <= 400.0);
}

/// `filter` and `topic` of a device.
type Shape = (&'static str, fn(usize) -> String, fn(usize) -> String);

const SHAPES: [Shape; 3] = [
    (
        "exact",
        |n| format!("devices/device-{n:07}/command"),
        |n| format!("devices/device-{n:07}/command"),
    ),
    (
        "+",
        |n| format!("devices/device-{n:07}/+/set"),
        |n| format!("devices/device-{n:07}/lamp/set"),
    ),
    (
        "#",
        |n| format!("+/device-{n:07}/#"),
        |n| format!("devices/device-{n:07}/lamp/set"),
    ),
];

fn tree(count: usize, filter: fn(usize) -> String) -> Subscriptions {
    let mut tree = Subscriptions::default();
    for number in 0..count {
        // Spread over the names, so that the thousand topics below are among them.
        let number = number * (MILLION / count);
        tree.insert(
            &filter(number),
            who(number as u32),
            options(QoS::AtLeastOnce, None),
            None,
        );
    }
    tree
}

/// Matches of one look at the clock, which the kernel moves on every few milliseconds only.
const MATCHES: usize = 100_000;

/// Time to match one of the topics, which all have a subscriber.
fn match_ns(tree: &Subscriptions, topics: &[String]) -> f64 {
    let mut found = Vec::new();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begin = cpu();
        for topic in topics.iter().cycle().take(MATCHES) {
            found.clear();
            tree.matches(topic, &mut found, |_| {});
            assert_eq!(found.len(), 1);
        }
        best = best.min((cpu() - begin).as_nanos() as f64 / MATCHES as f64);
    }
    best
}

/// The cost of matching a publish, from a thousand to a million subscriptions.
#[test]
#[ignore = "a figure, for a release build"]
fn a_million_subscriptions() {
    for (name, filter, topic) in SHAPES {
        let few = tree(1_000, filter);
        let before = resident_mib();
        let many = tree(MILLION, filter);
        let bytes = (resident_mib() - before) * (1 << 20) as f64 / MILLION as f64;
        let same: Vec<String> = (0..1_000).map(|n| topic(n * 1_000)).collect();
        let spread: Vec<String> = (0..100_000).map(|n| topic(n * 7_919 % MILLION)).collect();
        let (least, most) = (match_ns(&few, &same), match_ns(&many, &same));
        println!(
            "{name}: {bytes:.0} bytes a subscription; the same 1,000 topics among 1,000: {least:.0} ns, among 1,000,000: {most:.0} ns, \
             ratio {:.2}; 100,000 topics spread over all: {:.0} ns",
            most / least,
            match_ns(&many, &spread)
        );
    }
}
