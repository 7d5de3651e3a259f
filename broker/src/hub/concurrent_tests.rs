//! Readers of the subscriptions while others change them: what a reader is told is what there was in the generation that
//! it is told, no matter which change it came into.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::tests::options;
use super::*;
use crate::codec::topic;

/// Exact ones, some of few shapes, and more shapes than the table takes.
fn filters() -> Vec<String> {
    let mut filters = vec!["a/b/c/d/e".to_owned(), "#".to_owned(), "a/#".to_owned()];
    filters.extend((0..300).map(|n| format!("a/b/c/d/{n}")));
    for plus in 1..32_u32 {
        let levels = ["a", "b", "c", "d", "e"].iter().enumerate();
        let levels: Vec<&str> = levels
            .map(|(at, level)| if plus >> at & 1 == 1 { "+" } else { level })
            .collect();
        filters.push(levels.join("/"));
    }
    filters
}

const TOPIC: &str = "a/b/c/d/e";

fn who(worker: u16, slot: usize) -> SubscriberId {
    SubscriberId {
        worker,
        slot: slot as u32,
        generation: 0,
    }
}

/// A change: its generation, and whether the subscriber of this place came or went.
type Changes = Vec<(u64, bool, SubscriberId)>;

/// Subscribes and unsubscribes, one after the other as the numbers say.
fn change(hub: &Hub, worker: u16, filters: &[String]) -> Changes {
    let mut changes = Changes::new();
    let mut held = BTreeSet::new();
    let mut random = u64::from(worker) + 1;
    for _ in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (random >> 33) as usize % filters.len();
        let who = who(worker, at);
        if held.insert(at) {
            let (is_new, generation) = hub.subscribe(&filters[at], who, options(QoS::AtMostOnce, None), None);
            assert!(is_new);
            changes.push((generation, true, who));
        } else {
            held.remove(&at);
            let generation = hub.unsubscribe(&filters[at], who).unwrap();
            changes.push((generation, false, who));
        }
    }
    changes
}

#[test]
fn what_a_reader_is_told_is_what_there_was_in_its_generation() {
    let filters = filters();
    let takes: Vec<bool> = filters
        .iter()
        .map(|filter| topic::matches(filter, TOPIC))
        .collect();
    let hub = Hub::new(&Limits::default(), 1);
    let done = AtomicBool::new(false);
    let (changes, seen) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reader = hub.reader();
                    let mut seen = BTreeMap::new();
                    while !done.load(Ordering::Relaxed) {
                        let mut found = Vec::new();
                        let generation = reader.matches(TOPIC, &mut found);
                        let found: BTreeSet<SubscriberId> = found.iter().map(|found| found.who).collect();
                        if let Some(before) = seen.insert(generation, found.clone()) {
                            assert_eq!(before, found, "one generation is one thing");
                        }
                    }
                    seen
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|worker| {
                let (hub, filters) = (&hub, &filters);
                scope.spawn(move || change(hub, worker, filters))
            })
            .collect();
        let mut changes: Changes = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        changes.sort_unstable();
        done.store(true, Ordering::Relaxed);
        let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (changes, seen)
    });
    assert!(
        changes.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0),
        "each change is a generation"
    );
    let mut seen: Vec<_> = seen.into_iter().flatten().collect();
    seen.sort_unstable_by_key(|(generation, _)| *generation);
    let (mut now, mut changes) = (BTreeSet::new(), changes.into_iter().peekable());
    for (generation, found) in seen {
        while let Some((_, came, who)) = changes.next_if(|(change, ..)| *change <= generation) {
            match came {
                true => assert!(now.insert(who)),
                false => assert!(now.remove(&who)),
            }
        }
        let expected: BTreeSet<_> = now
            .iter()
            .copied()
            .filter(|who| takes[who.slot as usize])
            .collect();
        assert_eq!(found, expected, "in generation {generation}");
    }
}
