//! Groups of shared subscriptions over a crash: what was acknowledged for a group is there for one of its members.

use forebay_broker::codec::QoS;

use super::publisher;
use super::support::{Client, Connecting, Data, Node};

const GROUP: &str = "$share/g/t/#";

fn member_away(node: &Node, name: &str) {
    let mut client = Client::connect(node, Connecting::kept(name));
    client.subscribe(GROUP, QoS::AtLeastOnce);
    client.disconnect();
}

fn publish(node: &Node, range: std::ops::Range<u16>) {
    let mut publisher = publisher(node);
    let count = range.len();
    for number in range {
        publisher.publish("t/x", number.to_string().as_bytes(), QoS::AtLeastOnce, false);
    }
    publisher.pubacks(count);
}

fn numbers(range: std::ops::Range<u16>) -> Vec<String> {
    let mut numbers: Vec<String> = range.map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

#[test]
fn what_waits_for_members_that_are_away_comes_to_one_of_them_after_a_crash() {
    let data = Data::new();
    let node = Node::start(data.path());
    for name in ["one", "two", "three"] {
        member_away(&node, name);
    }
    publish(&node, 0..300);
    let crashed = data.crash_image();
    node.abandon();

    let node = Node::start(crashed.path());
    assert_eq!(node.store().sessions, 3);
    let mut all = Vec::new();
    for name in ["one", "two", "three"] {
        let mut member = Client::connect(&node, Connecting::kept(name));
        assert!(member.session_present);
        let got = member.messages(300);
        assert!(!got.is_empty(), "{name} has its part");
        all.extend(got);
        member.disconnect();
    }
    assert_eq!(sorted(all), numbers(0..300), "each once");
    node.stop();

    let node = Node::start(crashed.path());
    let mut member = Client::connect(&node, Connecting::kept("one"));
    assert!(
        member.messages(1).is_empty(),
        "what was acknowledged is nobody's any more"
    );
    node.stop();
}

#[test]
fn what_a_member_without_a_session_of_its_own_had_comes_to_a_kept_one_after_a_crash() {
    let data = Data::new();
    let node = Node::start(data.path());
    member_away(&node, "away");
    let mut here = Client::connect(&node, Connecting::clean("here"));
    here.subscribe(GROUP, QoS::AtLeastOnce);
    publish(&node, 0..10);
    assert_eq!(here.exactly(10), sorted_by_number(0..10));
    here.ping(); // they are acknowledged
    let mut deaf = Client::connect(&node, Connecting::clean("deaf"));
    deaf.subscribe(GROUP, QoS::AtLeastOnce);
    here.disconnect();
    publish(&node, 10..20); // to `deaf`, which reads nothing
    until_done(&node, 10);
    let crashed = data.crash_image();
    drop(deaf);
    node.abandon();

    let node = Node::start(crashed.path());
    let mut away = Client::connect(&node, Connecting::kept("away"));
    assert_eq!(sorted(away.messages(20)), numbers(10..20));
    node.stop();
}

fn sorted_by_number(range: std::ops::Range<u16>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Until the store has what was done.
fn until_done(node: &Node, queued: u64) {
    let start = std::time::Instant::now();
    while node.store().queued != queued || node.store().pending > 0 {
        assert!(start.elapsed().as_secs() < 20, "{:?}", node.store());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_was_under_way_to_a_member_stays_its_own_and_goes_on_when_its_session_ends() {
    let data = Data::new();
    let node = Node::start(data.path());
    let mut one = Client::connect(&node, Connecting::kept("one"));
    one.subscribe(GROUP, QoS::AtLeastOnce);
    publish(&node, 0..5);
    one.read_without_acknowledging(5);
    member_away(&node, "two");
    until_done(&node, 5);
    let crashed = data.crash_image();
    drop(one);
    node.abandon();

    let node = Node::start(crashed.path());
    let mut two = Client::connect(&node, Connecting::kept("two"));
    assert!(two.messages(1).is_empty(), "they are under way to the other");
    let fresh = Client::connect(&node, Connecting::clean("one"));
    assert!(!fresh.session_present);
    assert_eq!(sorted(two.messages(5)), numbers(0..5));
    two.ping();
    until_done(&node, 0);
    let ended = crashed.crash_image();
    node.abandon();

    let node = Node::start(ended.path());
    assert_eq!((node.store().sessions, node.store().queued), (1, 0));
    node.stop();
}

#[test]
fn a_group_that_nobody_keeps_leaves_nothing() {
    let data = Data::new();
    let node = Node::start(data.path());
    member_away(&node, "one");
    publish(&node, 0..5);
    until_done(&node, 5);
    let clean = Client::connect(&node, Connecting::clean("one"));
    assert!(!clean.session_present);
    until_done(&node, 0);
    assert_eq!(node.store().sessions, 0);
    node.stop();
}
