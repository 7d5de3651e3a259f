//! Groups against the plain meaning of shared subscriptions: of each group exactly one member gets a message.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::shared::{Load, Share, SharedStrategy};
use super::tests::{options, who};
use super::*;
use crate::codec::topic;

const FILTERS: [&str; 5] = ["a/b", "a/+", "a/#", "#", "$SYS/x"];
const TOPICS: [&str; 4] = ["a/b", "a/c", "a", "$SYS/x"];
const NAMES: [&str; 2] = ["g", "h"];

#[derive(Debug, Clone)]
enum Op {
    /// Of a group, or without one.
    Subscribe(u32, usize, usize, u8),
    Unsubscribe(u32, usize, usize),
    Gone(u32),
    /// How much waits for it, whether it is connected, and whether its queue is full.
    Load(u32, usize, bool, bool),
    Publish(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0u32..12;
    let (name, filter) = (0..=NAMES.len(), 0..FILTERS.len());
    prop_oneof![
        6 => (slot.clone(), name.clone(), filter.clone(), 0u8..3).prop_map(|(s, n, f, q)| Op::Subscribe(s, n, f, q)),
        2 => (slot.clone(), name, filter).prop_map(|(s, n, f)| Op::Unsubscribe(s, n, f)),
        1 => slot.clone().prop_map(Op::Gone),
        3 => (slot, 0usize..30, any::<bool>(), 0u8..4).prop_map(|(s, w, c, f)| Op::Load(s, w, c, f == 0)),
        6 => (0..TOPICS.len()).prop_map(Op::Publish),
    ]
}

fn whole(name: usize, filter: usize) -> String {
    match NAMES.get(name) {
        Some(name) => format!("$share/{name}/{}", FILTERS[filter]),
        None => FILTERS[filter].to_owned(),
    }
}

struct Model {
    hub: Hub,
    reader: HubReader,
    held: BTreeMap<(String, u32), SubscriptionOptions>,
    loads: Vec<(Arc<Load>, usize, bool)>,
    full: BTreeSet<u32>,
}

const WINDOW: u16 = 10;

impl Model {
    fn new(strategy: SharedStrategy) -> Self {
        let hub = Hub::new(
            &Limits {
                shared_strategy: strategy,
                ..Limits::default()
            },
            1,
        );
        let loads = (0..12)
            .map(|_| {
                let load = Arc::new(Load::default());
                load.set(0, Some(WINDOW));
                (load, 0, true)
            })
            .collect();
        Self {
            reader: hub.reader(),
            hub,
            held: BTreeMap::new(),
            loads,
            full: BTreeSet::new(),
        }
    }

    fn step(&mut self, op: Op, strategy: SharedStrategy) {
        match op {
            Op::Subscribe(slot, name, filter, qos) => {
                let filter = whole(name, filter);
                let mut options = options(QoS::try_from(qos).unwrap(), Some(slot + 1));
                options.kept = slot % 2 == 0;
                let load = &self.loads[slot as usize].0;
                let (is_new, _) = self.hub.subscribe(&filter, who(slot), options, Some(load));
                assert_eq!(is_new, self.held.insert((filter, slot), options).is_none());
            }
            Op::Unsubscribe(slot, name, filter) => {
                let filter = whole(name, filter);
                let was = self.hub.unsubscribe(&filter, who(slot)).is_some();
                assert_eq!(was, self.held.remove(&(filter, slot)).is_some());
            }
            Op::Gone(slot) => {
                let all: Vec<_> = self.held.keys().filter(|key| key.1 == slot).cloned().collect();
                self.hub.remove_all(all.iter().map(|key| &*key.0), who(slot));
                self.held.retain(|key, _| key.1 != slot);
            }
            Op::Load(slot, waiting, connected, full) => {
                let load = &mut self.loads[slot as usize];
                load.0.set(waiting, connected.then_some(WINDOW));
                load.0.set_most(if full { waiting } else { usize::MAX });
                (load.1, load.2) = (waiting, connected);
                match full {
                    true => self.full.insert(slot),
                    false => self.full.remove(&slot),
                };
                let all = self.held.keys().filter(|key| key.1 == slot);
                self.hub.moved(all.map(|key| &*key.0), who(slot));
            }
            Op::Publish(topic) => self.publish(TOPICS[topic], strategy),
        }
        assert_eq!(self.hub.subscriptions(), self.held.len());
        let shared = self
            .held
            .keys()
            .filter(|key| topic::split_share(&key.0).is_some());
        assert_eq!(self.hub.shared_subscriptions(), shared.count());
    }

    fn publish(&mut self, name: &str, strategy: SharedStrategy) {
        let mut found = Vec::new();
        self.reader.matches(name, &mut found);
        let plain: BTreeSet<u32> = self.takers(name).into_iter().collect();
        let alone: Vec<u32> = found
            .iter()
            .filter(|m| m.share.is_none())
            .map(|m| m.who.slot)
            .collect();
        assert_eq!(
            alone.iter().copied().collect::<BTreeSet<_>>(),
            plain,
            "{name}: a copy of its own"
        );
        assert_eq!(alone.len(), plain.len());
        let mut groups: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (filter, slot) in self.held.keys() {
            let taken = topic::split_share(filter).filter(|(_, plain)| topic::matches(plain, name));
            if taken.is_some() {
                groups.entry(filter).or_default().push(*slot);
            }
        }
        let shared: Vec<_> = found.iter().filter(|m| m.share.is_some()).collect();
        assert_eq!(shared.len(), groups.len(), "{name}: one for each group");
        for to in shared {
            let share = to.share.as_ref().unwrap();
            let members = groups.remove(share.filter()).expect("once for each group");
            self.check(to, share, &members, strategy);
        }
        for (load, waiting, connected) in &self.loads {
            load.set(*waiting, connected.then_some(WINDOW)); // as the worker says again and again
        }
    }

    fn check(&self, to: &Match, share: &Share, members: &[u32], strategy: SharedStrategy) {
        let slot = to.who.slot;
        assert!(
            members.contains(&slot),
            "{slot} is no member of {}",
            share.filter()
        );
        let options = self.held[&(share.filter().to_owned(), slot)];
        assert_eq!(to.qos, options.qos);
        assert_eq!(to.ids.to_vec(), vec![slot + 1]);
        let keeper = |slot: &u32| {
            let options = self.held[&(share.filter().to_owned(), *slot)];
            options.kept && options.qos > QoS::AtMostOnce
        };
        assert_eq!(share.owed, members.iter().any(keeper));
        // Connected and with room, then without a connection and with room, then without room.
        let class = |slot: &u32| match (self.loads[*slot as usize].2, self.full.contains(slot)) {
            (false, _) if !keeper(slot) => 3,
            (_, true) => 2,
            (connected, false) => u8::from(!connected),
        };
        let best = members.iter().map(class).min().unwrap();
        assert_eq!(class(&slot), best, "one that has room goes first");
        if strategy == SharedStrategy::LeastInflight && best < 3 {
            let alike = members.iter().filter(|member| class(member) == best);
            let least = alike.map(|member| self.loads[*member as usize].1).min().unwrap();
            let has = self.loads[slot as usize].1;
            // One that is in several groups may have been chosen for another a moment ago.
            assert!(has <= least + groups_at_most(), "the least busy");
        }
    }

    /// Who subscribed alone.
    fn takers(&self, name: &str) -> Vec<u32> {
        self.held
            .keys()
            .filter(|(filter, _)| topic::split_share(filter).is_none() && topic::matches(filter, name))
            .map(|(_, slot)| *slot)
            .collect()
    }
}

fn groups_at_most() -> usize {
    NAMES.len() * FILTERS.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_group_gets_a_message_once(ops in proptest::collection::vec(op(), 1..150)) {
        for strategy in [SharedStrategy::LeastInflight, SharedStrategy::RoundRobin, SharedStrategy::Sticky] {
            let mut model = Model::new(strategy);
            ops.iter().for_each(|op| model.step(op.clone(), strategy));
        }
    }
}

fn chosen(reader: &mut HubReader) -> u32 {
    let mut found = Vec::new();
    reader.matches("a/b", &mut found);
    assert_eq!(found.len(), 1);
    found[0].who.slot
}

fn three(strategy: SharedStrategy) -> Model {
    let model = Model::new(strategy);
    for slot in 0..3 {
        let load = &model.loads[slot as usize].0;
        model.hub.subscribe(
            "$share/g/a/b",
            who(slot),
            options(QoS::AtLeastOnce, None),
            Some(load),
        );
    }
    model
}

#[test]
fn the_least_busy_member_is_chosen_and_what_publishers_chose_counts() {
    let mut model = three(SharedStrategy::LeastInflight);
    model.loads[0].0.set(4, Some(WINDOW));
    model.loads[1].0.set(2, Some(WINDOW));
    model.loads[2].0.set(0, Some(1));
    assert_eq!(chosen(&mut model.reader), 2);
    // Its window of one is full: the others have room. Until the workers say otherwise, each choice counts.
    let next: Vec<u32> = (0..6).map(|_| chosen(&mut model.reader)).collect();
    assert_eq!((next[0], next[1]), (1, 1));
    assert_eq!(next.iter().filter(|slot| **slot == 2).count(), 0);
    let between: BTreeSet<u32> = next.into_iter().collect();
    assert_eq!(between, BTreeSet::from([0, 1]));
}

#[test]
fn round_robin_takes_turns_and_leaves_out_who_is_away() {
    let mut model = three(SharedStrategy::RoundRobin);
    let mut turns: Vec<u32> = (0..6).map(|_| chosen(&mut model.reader)).collect();
    turns.sort_unstable();
    assert_eq!(turns, [0, 0, 1, 1, 2, 2]);
    model.loads[1].0.set(0, None);
    assert!((0..6).all(|_| chosen(&mut model.reader) != 1));
}

#[test]
fn sticky_stays_until_the_member_is_away() {
    let mut model = three(SharedStrategy::Sticky);
    let first = chosen(&mut model.reader);
    assert!((0..50).all(|_| chosen(&mut model.reader) == first));
    model.loads[first as usize].0.set(0, None);
    let second = chosen(&mut model.reader);
    assert_ne!(second, first);
    model.loads[first as usize].0.set(0, Some(WINDOW));
    assert!((0..50).all(|_| chosen(&mut model.reader) == second));
}

#[test]
fn a_large_group_finds_the_one_member_that_is_connected() {
    let hub = Hub::new(&Limits::default(), 1);
    for slot in 0..1_000 {
        let load = Arc::new(Load::default());
        load.set(0, (slot == 777).then_some(WINDOW));
        hub.subscribe(
            "$share/g/a/b",
            who(slot),
            options(QoS::AtLeastOnce, None),
            Some(&load),
        );
    }
    let mut reader = hub.reader();
    assert!((0..10).all(|_| chosen(&mut reader) == 777));
}

#[test]
fn the_same_filter_in_two_groups_and_the_same_name_with_two_filters_are_groups_of_their_own() {
    let mut model = Model::new(SharedStrategy::LeastInflight);
    for (filter, slot) in [
        ("$share/g/a/b", 0),
        ("$share/h/a/b", 1),
        ("$share/g/a/+", 2),
        ("$share/g/a/#", 3),
        ("a/b", 3),
    ] {
        let load = &model.loads[slot as usize].0;
        model
            .hub
            .subscribe(filter, who(slot), options(QoS::AtLeastOnce, None), Some(load));
    }
    let mut found = Vec::new();
    model.reader.matches("a/b", &mut found);
    let mut slots: Vec<u32> = found.iter().map(|m| m.who.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2, 3, 3]);
    found.clear();
    model.reader.matches("$share/g/a/b", &mut found);
    assert!(found.is_empty(), "the whole filter is no topic");
}

#[test]
fn of_members_that_are_away_one_for_which_messages_wait_is_chosen() {
    for strategy in [
        SharedStrategy::LeastInflight,
        SharedStrategy::RoundRobin,
        SharedStrategy::Sticky,
    ] {
        let mut model = Model::new(strategy);
        for (slot, qos) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::AtMostOnce)] {
            let load = &model.loads[slot as usize].0;
            load.set(0, None);
            let mut options = options(qos, None);
            options.kept = true;
            model
                .hub
                .subscribe("$share/g/a/b", who(slot), options, Some(load));
        }
        assert!((0..20).all(|_| chosen(&mut model.reader) == 1), "{strategy:?}");
    }
}

#[test]
fn choosing_costs_no_more_in_a_very_large_group_whose_members_are_away() {
    let nanos = |members: u32| {
        let hub = Hub::new(&Limits::default(), 1);
        let loads: Vec<_> = (0..members).map(|_| Arc::new(Load::default())).collect();
        let mut options = options(QoS::AtLeastOnce, None);
        options.kept = true;
        let all = loads.iter().zip(0..);
        hub.subscribe_all(all.map(|(load, slot)| ("$share/g/a/b", who(slot), options, Some(load))));
        let mut reader = hub.reader();
        let round = |_| {
            let begin = std::time::Instant::now();
            assert!((0..100).all(|_| chosen(&mut reader) < members));
            begin.elapsed().as_nanos()
        };
        (0..10).map(round).min().unwrap()
    };
    let (small, large) = (nanos(400), nanos(40_000));
    assert!(large < 20 * small, "{large} ns, and in a small group {small} ns");
}
