//! The hub's structures against the plain meaning of filters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::registry::Registry;
use super::retained::{Full, Retained};
use super::subscriptions::Subscriptions;
use super::*;
use crate::codec::topic;

pub fn who(slot: u32) -> SubscriberId {
    SubscriberId {
        worker: 0,
        slot,
        generation: 0,
    }
}

pub fn options(qos: QoS, id: Option<u32>) -> SubscriptionOptions {
    SubscriptionOptions {
        kept: false,
        qos,
        no_local: false,
        retain_as_published: false,
        subscription_id: id,
    }
}

fn message(topic: &str, payload: &str) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.into(),
        payload: payload.as_bytes().into(),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: true,
        publisher: None,
        expires_at_ms: None,
        origin: None,
    })
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("$SYS"), Just("c")]
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |name| !name.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 1 => Just("+")];
    (proptest::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            levels.extend(multi.then_some("#"));
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |filter| !filter.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn subscriptions_match_as_their_filters_say(
        changes in proptest::collection::vec((filter(), 0u32..30, any::<bool>()), 0..120),
        names in proptest::collection::vec(name(), 1..20),
    ) {
        let mut tree = Subscriptions::default();
        let mut plain = BTreeSet::new();
        for (filter, slot, add) in changes {
            if add {
                prop_assert_eq!(tree.insert(&filter, who(slot), options(QoS::AtMostOnce, None), None), plain.insert((filter, slot)));
            } else {
                prop_assert_eq!(tree.remove(&filter, who(slot)), plain.remove(&(filter, slot)));
            }
            prop_assert_eq!(tree.len(), plain.len());
        }
        for name in names {
            let mut found = Vec::new();
            tree.matches(&name, &mut found);
            let mut found: Vec<u32> = found.iter().map(|found| found.who.slot).collect();
            found.sort_unstable();
            let expected: BTreeSet<u32> =
                plain.iter().filter(|(filter, _)| topic::matches(filter, &name)).map(|(_, slot)| *slot).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{}", name);
        }
        for (filter, slot) in plain {
            prop_assert!(tree.remove(&filter, who(slot)));
        }
        prop_assert!(tree.is_pruned(), "empty nodes are left behind");
    }

    #[test]
    fn retained_messages_are_found_by_filter(
        changes in proptest::collection::vec((name(), any::<bool>()), 0..80),
        filters in proptest::collection::vec(filter(), 1..20),
    ) {
        let mut tree = Retained::new(1_000, 1 << 20);
        let mut plain = BTreeMap::new();
        for (number, (name, set)) in changes.into_iter().enumerate() {
            let payload = if set { number.to_string() } else { String::new() };
            tree.set(&message(&name, &payload)).unwrap();
            match set {
                true => drop(plain.insert(name, payload)),
                false => drop(plain.remove(&name)),
            }
        }
        prop_assert_eq!(tree.len(), plain.len());
        let cost: usize = plain.iter().map(|(name, payload)| message(name, payload).cost()).sum();
        prop_assert_eq!(tree.bytes(), cost);
        for filter in filters {
            let expected: BTreeSet<String> = plain.keys().filter(|name| topic::matches(&filter, name)).cloned().collect();
            for (most, looks) in [(usize::MAX, usize::MAX), (1, usize::MAX), (3, 2), (usize::MAX, 1)] {
                let found = walk(&tree, &filter, most, looks);
                prop_assert_eq!(found.len(), expected.len(), "{}: each once", filter);
                prop_assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), &expected, "{}", filter);
            }
        }
    }
}

/// All that `filter` takes, in slices.
fn walk(tree: &Retained, filter: &str, most: usize, looks: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let before = found.len();
        after = tree.slice(filter, after.as_deref(), most, looks, &mut found);
        assert!(found.len() - before <= most);
        if after.is_none() {
            return found.iter().map(|message| message.topic.to_string()).collect();
        }
    }
}

#[test]
fn a_filter_looks_at_little_more_than_what_it_takes() {
    let mut tree = Retained::new(usize::MAX, usize::MAX);
    for device in 0..1_000 {
        for part in 0..20 {
            tree.set(&message(&format!("site/d{device:04}/part{part:02}/value"), "1"))
                .unwrap();
        }
    }
    let mut found = Vec::new();
    // Two looks for each device: where its wanted part is, and behind that.
    assert_eq!(
        tree.slice("site/+/part07/value", None, usize::MAX, 3_010, &mut found),
        None
    );
    assert_eq!(found.len(), 1_000);
    found.clear();
    assert_eq!(tree.slice("+/none/#", None, usize::MAX, 5, &mut found), None);
    assert_eq!(tree.slice("site/d0500/#", None, usize::MAX, 25, &mut found), None);
    assert_eq!(found.len(), 20);
}

#[test]
fn a_retained_message_is_read_as_it_was_set_and_goes_when_its_time_has_passed() {
    let mut tree = Retained::new(10, 10_000);
    let whole = Message {
        topic: "a/b".into(),
        payload: (*b"payload").into(),
        properties: Some((*b"\x01\x01").into()),
        qos: QoS::ExactlyOnce,
        retain: true,
        publisher: Some(who(7)),
        expires_at_ms: Some(5_000),
        origin: Some(crate::record::Origin {
            epoch: 1 << 40,
            worker: 3,
            number: 1 << 33,
            index: 9,
        }),
    };
    tree.set(&whole).unwrap();
    assert_eq!(tree.get("a/b"), Some(whole.clone()));
    let plain = message("a", "x");
    tree.set(&plain).unwrap();
    assert_eq!(tree.get("a").as_ref(), Some(&*plain));
    tree.set(&Message {
        expires_at_ms: Some(9_000),
        ..whole.clone()
    })
    .unwrap();
    tree.set(&Message {
        topic: "c".into(),
        ..whole.clone()
    })
    .unwrap();
    assert_eq!(tree.expire(4_999, 10), 0);
    assert_eq!(tree.expire(5_000, 10), 1);
    assert!(
        tree.get("c").is_none() && tree.get("a/b").is_some(),
        "it was set anew"
    );
    assert_eq!(tree.expire(u64::MAX, 10), 1);
    assert_eq!((tree.len(), tree.bytes()), (1, plain.cost()));
}

#[test]
fn overlapping_filters_give_one_message_with_the_greatest_qos_and_all_identifiers() {
    let hub = Hub::new(&Limits::default(), 100);
    let mut reader = hub.reader();
    let subscribe = |filter, slot, qos, id| hub.subscribe(filter, who(slot), options(qos, id), None);
    assert_eq!(subscribe("a/+", 1, QoS::AtMostOnce, Some(5)), (true, 101));
    assert_eq!(subscribe("a/#", 1, QoS::ExactlyOnce, Some(6)), (true, 102));
    assert_eq!(subscribe("a/b", 2, QoS::AtLeastOnce, None), (true, 103));
    assert_eq!(
        subscribe("a/b", 2, QoS::AtMostOnce, None),
        (false, 104),
        "replaced"
    );
    let mut found = Vec::new();
    assert_eq!(reader.matches("a/b", &mut found), 104);
    assert_eq!(found.len(), 2);
    let (first, second) = (&found[0], &found[1]);
    assert_eq!((first.who, first.qos), (who(1), QoS::ExactlyOnce));
    let ids: BTreeSet<u32> = first.ids.iter().copied().collect();
    assert_eq!(ids, BTreeSet::from([5, 6]));
    assert_eq!((second.who, second.qos), (who(2), QoS::AtMostOnce));

    hub.remove_all(["a/+", "a/#"].into_iter(), who(1));
    assert_eq!(hub.unsubscribe("a/b", who(2)), Some(107));
    assert_eq!(hub.unsubscribe("a/b", who(2)), None);
    found.clear();
    assert_eq!(reader.matches("a/b", &mut found), 107);
    assert!(found.is_empty() && hub.subscriptions() == 0);
}

#[test]
fn no_local_holds_only_when_all_filters_say_so() {
    let mut tree = Subscriptions::default();
    let mut local = options(QoS::AtMostOnce, None);
    local.no_local = true;
    tree.insert("a", who(1), local, None);
    let mut found = Vec::new();
    tree.matches("a", &mut found);
    assert!(found[0].no_local);
    tree.insert("#", who(1), options(QoS::AtMostOnce, None), None);
    found.clear();
    tree.matches("a", &mut found);
    assert!(found.len() == 1 && !found[0].no_local);
}

#[test]
fn many_subscribers_of_one_filter() {
    let mut tree = Subscriptions::default();
    for slot in 0..1_000 {
        assert!(tree.insert("a/#", who(slot), options(QoS::AtMostOnce, None), None));
    }
    let count = |tree: &Subscriptions| {
        let mut found = Vec::new();
        tree.matches("a/b/c", &mut found);
        found.len()
    };
    assert_eq!(count(&tree), 1_000);
    for slot in 0..999 {
        assert!(tree.remove("a/#", who(slot)));
        assert_eq!(count(&tree), 999 - slot as usize);
    }
}

#[test]
fn many_filters_without_wildcards_come_and_go() {
    const COUNT: u32 = 20_000;
    let filter = |n: u32| format!("devices/{n}/command");
    let mut tree = Subscriptions::default();
    for n in 0..COUNT {
        assert!(tree.insert(&filter(n), who(n), options(QoS::AtMostOnce, None), None));
        assert!(!tree.insert(&filter(n), who(n), options(QoS::AtLeastOnce, None), None));
    }
    tree.insert(
        "devices/+/command",
        who(COUNT),
        options(QoS::AtMostOnce, None),
        None,
    );
    for n in (0..COUNT).step_by(2) {
        assert!(tree.remove(&filter(n), who(n)));
        assert!(!tree.remove(&filter(n), who(n)));
    }
    let found = |tree: &Subscriptions, n: u32| {
        let mut found = Vec::new();
        tree.matches(&filter(n), &mut found);
        let mut slots: Vec<u32> = found.iter().map(|found| found.who.slot).collect();
        slots.sort_unstable();
        slots
    };
    for n in 0..COUNT {
        assert_eq!(found(&tree, n).len(), 1 + n as usize % 2);
        assert_eq!(tree.contains(&filter(n), who(n)), n % 2 == 1);
    }
    assert_eq!(found(&tree, COUNT), [COUNT]);
    for n in (1..COUNT).step_by(2) {
        assert!(tree.remove(&filter(n), who(n)));
    }
    assert!(tree.remove("devices/+/command", who(COUNT)));
    assert!(tree.is_pruned() && tree.is_empty());
}

#[test]
fn retained_messages_are_bounded() {
    let mut tree = Retained::new(2, 1_000);
    tree.set(&message("a", "1")).unwrap();
    tree.set(&message("b", "1")).unwrap();
    assert_eq!(tree.set(&message("c", "1")), Err(Full));
    tree.set(&message("a", "2")).unwrap();
    assert_eq!(tree.get("a").unwrap().payload[..], *b"2");
    assert_eq!(tree.set(&message("a", &"x".repeat(2_000))), Err(Full));
    assert!(
        tree.get("a").is_none(),
        "what is not current any more is not kept"
    );
    tree.set(&message("b", "")).unwrap();
    assert_eq!((tree.len(), tree.bytes()), (0, 0));
}

#[test]
fn the_session_left_longest_ago_goes_first() {
    let mut registry = Registry::new(2);
    for slot in 0..4 {
        registry.insert(&format!("c{slot}"), slot);
    }
    assert_eq!(registry.detached(0), None);
    assert_eq!(registry.detached(1), None);
    registry.attached(0);
    assert_eq!(registry.detached(0), None, "left again, and so later than 1");
    assert_eq!(registry.detached(2), Some(1));
    registry.remove("c1", 1);
    assert_eq!(registry.find("c1", |_| true), None);
    assert_eq!(registry.find("c2", |slot| slot == 2), Some(2));
    assert_eq!(
        registry.find("c2", |_| false),
        None,
        "another client id with the same hash"
    );
    registry.remove("c0", 0);
    assert_eq!(registry.detached(3), None, "a removed session takes no place");
    assert_eq!((registry.len(), registry.kept()), (2, 2));
}

#[test]
fn each_of_many_sessions_is_found_by_its_client_id() {
    const COUNT: u32 = 100_000;
    let mut registry = Registry::new(0);
    let name = |slot: u32| format!("device-{slot}");
    for slot in 0..COUNT {
        registry.insert(&name(slot), slot);
    }
    for slot in (0..COUNT).step_by(2) {
        registry.remove(&name(slot), slot);
    }
    for slot in 0..COUNT {
        let found = registry.find(&name(slot), |other| other == slot);
        assert_eq!(found, (slot % 2 == 1).then_some(slot));
    }
    assert_eq!(registry.len(), COUNT as usize / 2);
}

#[test]
fn a_reader_sees_what_was_entered_before() {
    let hub = Hub::new(&Limits::default(), 100);
    let mut readers: Vec<_> = (0..4).map(|_| hub.reader()).collect();
    let writers: Vec<_> = (0..4)
        .map(|worker| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for slot in 0..200 {
                    let who = SubscriberId {
                        worker,
                        slot,
                        generation: 1,
                    };
                    assert!(hub.subscribe("a/b", who, options(QoS::AtMostOnce, None), None).0);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    for reader in &mut readers {
        let mut found = Vec::new();
        reader.matches("a/b", &mut found);
        assert_eq!(found.len(), 800);
    }
}
