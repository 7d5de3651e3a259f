//! Figures of the hub: `cargo test --release -p forebay-broker --lib hub::figures_tests -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// Filters of devices, and a topic that each takes.
type Shape = (&'static str, fn(usize) -> String, fn(usize) -> String);

const SHAPES: [Shape; 4] = [
    (
        "device/command",
        |n| format!("devices/device-{n:07}/command"),
        |n| format!("devices/device-{n:07}/command"),
    ),
    (
        "device/+/set",
        |n| format!("devices/device-{n:07}/+/set"),
        |n| format!("devices/device-{n:07}/lamp/set"),
    ),
    (
        "+/device/#",
        |n| format!("+/device-{n:07}/#"),
        |n| format!("devices/device-{n:07}/lamp/set"),
    ),
    (
        "these three mixed, and some for all",
        |n| match n {
            0 => "devices/+/lamp/get".into(),
            1_000 => "devices/#".into(),
            _ => SHAPES[n % 3].1(n),
        },
        |n| match n % 3 {
            0 => format!("devices/device-{n:07}/command"),
            _ => format!("devices/device-{n:07}/lamp/set"),
        },
    ),
];

fn subscriptions(count: usize, filter: fn(usize) -> String) -> Subscriptions {
    let mut all = Subscriptions::default();
    for number in 0..count {
        // Spread over the names, so that the thousand topics below are among them.
        let number = number * (MILLION / count);
        all.insert(
            &filter(number),
            who(number as u32),
            options(QoS::AtLeastOnce, None),
            None,
        );
    }
    all
}

/// Looks of one look at the clock, which the kernel moves on every few milliseconds only.
const LOOKS_AT_ONCE: usize = 1_000_000;

/// Time for one topic: the best of some runs over them all.
fn each_ns(topics: &[String], mut look: impl FnMut(&str)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..4 {
        let begin = cpu();
        for topic in topics.iter().cycle().take(LOOKS_AT_ONCE) {
            look(topic);
        }
        best = best.min((cpu() - begin).as_nanos() as f64 / LOOKS_AT_ONCE as f64);
    }
    best
}

fn match_ns(view: &mut subscriptions::View, topics: &[String]) -> f64 {
    let mut found = Vec::new();
    each_ns(topics, |topic| {
        found.clear();
        view.matches(topic, &mut found, |_| None).unwrap();
        assert!(!found.is_empty());
    })
}

/// Topics and a number of each.
type Plain = HashMap<String, u32, ahash::RandomState>;

/// What a plain hash table of as many topics costs to look at, one look after the other: a locked instruction between two of
/// them, as there is one in each look at the subscriptions, keeps the processor from beginning the next one early.
fn plain_ns(plain: &Plain, topics: &[String]) -> f64 {
    let between = AtomicU64::new(0);
    each_ns(topics, |topic| {
        assert!(black_box(plain.get(topic)).is_some());
        between.fetch_add(1, Ordering::SeqCst);
    })
}

/// The cost of matching a publish, from a thousand to a million subscriptions: of the same thousand topics, and of topics
/// that are spread over all; beside what a plain hash table makes of the same. Then what a change costs.
#[test]
#[ignore = "a figure, for a release build"]
fn a_million_subscriptions() {
    for (name, filter, topic) in SHAPES {
        let few = subscriptions(1_000, filter);
        let before = resident_mib();
        let mut many = subscriptions(MILLION, filter);
        let bytes = (resident_mib() - before) * (1 << 20) as f64 / MILLION as f64;
        let same: Vec<String> = (0..1_000).map(|n| topic(n * 1_000)).collect();
        let spread: Vec<String> = (0..100_000).map(|n| topic(n * 7_919 % MILLION)).collect();
        let [least, most, most_spread] = [(&few, &same), (&many, &same), (&many, &spread)]
            .map(|(of, topics)| match_ns(&mut of.view(), topics));
        println!("{name}: {bytes:.0} bytes a subscription");
        println!(
            "  matching: the same 1,000 topics among 1,000 subscriptions {least:.0} ns, among 1,000,000 {most:.0} ns, ratio {:.2}; \
             100,000 topics spread over 1,000,000 {most_spread:.0} ns, ratio {:.2}",
            most / least,
            most_spread / least,
        );
        let of = |count: usize| -> Plain {
            let numbers = (0..count).map(|n| n * (MILLION / count));
            numbers.map(|n| (topic(n), n as u32)).collect()
        };
        let (few_plain, many_plain) = (of(1_000), of(MILLION));
        let [plain, plain_many, plain_spread] = [
            plain_ns(&few_plain, &same),
            plain_ns(&many_plain, &same),
            plain_ns(&many_plain, &spread),
        ];
        println!(
            "  a plain hash table: {plain:.0} ns, {plain_many:.0} ns, ratio {:.2}; spread {plain_spread:.0} ns, ratio {:.2}",
            plain_many / plain,
            plain_spread / plain,
        );
        let mut few = few;
        println!(
            "  subscribing and unsubscribing: {:.0} ns among 1,000, {:.0} ns among 1,000,000",
            change_ns(&mut few, filter),
            change_ns(&mut many, filter),
        );
    }
}

/// Time to subscribe and unsubscribe again, one after the other.
fn change_ns(all: &mut Subscriptions, filter: fn(usize) -> String) -> f64 {
    const CHANGES: usize = 50_000;
    let filters: Vec<String> = (0..CHANGES).map(|n| filter(MILLION + n)).collect();
    let begin = cpu();
    for filter in &filters {
        assert!(all.insert(filter, who(u32::MAX), options(QoS::AtMostOnce, None), None));
    }
    for filter in &filters {
        assert!(all.remove(filter, who(u32::MAX)));
    }
    (cpu() - begin).as_nanos() as f64 / CHANGES as f64
}

/// How long a publisher's look takes while another thread changes a million subscriptions without a pause.
#[test]
#[ignore = "a figure, for a release build"]
fn a_look_while_others_change() {
    let hub = Hub::new(&Limits::default(), 1);
    let (_, filter, topic) = SHAPES[3];
    for number in 0..MILLION {
        hub.subscribe(
            &filter(number),
            who(number as u32),
            options(QoS::AtMostOnce, None),
            None,
        );
    }
    let stop = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut changes = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let filter = filter(MILLION + changes as usize % 10_000);
                hub.subscribe(&filter, who(u32::MAX), options(QoS::AtMostOnce, None), None);
                hub.unsubscribe(&filter, who(u32::MAX));
                changes += 2;
            }
            changes
        });
        let mut reader = hub.reader();
        let mut found = Vec::new();
        let mut took: Vec<u64> = (0..2 * MILLION)
            .map(|n| {
                let topic = topic(n * 7_919 % MILLION);
                found.clear();
                let begin = Instant::now();
                reader.matches(&topic, &mut found);
                begin.elapsed().as_nanos() as u64
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        took.sort_unstable();
        let at = |share: f64| took[(took.len() as f64 * share) as usize];
        println!(
            "a look beside a writer that never rests: p50 {} ns, p99 {} ns, p99.9 {} ns, p99.99 {} ns, max {} ns",
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            took[took.len() - 1]
        );
        writer.join().unwrap()
    });
    println!("{changes} changes meanwhile");
}
