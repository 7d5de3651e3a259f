//! The queue of a session: what happens when it is full, and what waits for a client that is away.

use crate::codec::*;
use crate::session::{Delivered, Detach, SessionLimits};
use crate::testing::pair::*;
use QoS::*;
use Version::*;

fn kept(change: impl FnOnce(&mut SessionLimits)) -> Pair {
    let mut pair = Pair::new(V5, |limits| {
        limits.max_queued_messages = 3;
        limits.tells_store = true;
        change(limits);
    });
    pair.connect(connect(V5), false);
    pair.read();
    pair.lose(Detach::Lost);
    pair
}

/// What a client that is back reads, without the CONNACK.
fn back(pair: &mut Pair) -> Vec<String> {
    pair.connect(connect(V5), true);
    pair.read().split_off(1)
}

#[test]
fn a_full_queue_drops_what_comes() {
    let mut pair = kept(|_| {});
    for number in 1..=3 {
        assert_eq!(pair.deliver_from(number, AtLeastOnce), Delivered::Queued);
    }
    assert_eq!(pair.deliver_from(4, AtLeastOnce), Delivered::DroppedFull);
    assert_eq!(pair.told(), ["done 4"]);
    let lines = back(&mut pair);
    assert_eq!(lines, ["PUBLISH 1 1 #1", "PUBLISH 1 2 #2", "PUBLISH 1 3 #3"]);
}

#[test]
fn or_the_oldest_gives_way_in_order_and_is_counted() {
    let mut pair = kept(|limits| limits.drop_old = true);
    for number in 1..=5 {
        assert_eq!(pair.deliver_from(number, AtLeastOnce), Delivered::Queued);
    }
    assert_eq!(pair.told(), ["done 1", "done 2"]);
    assert_eq!(pair.session.take_drops().full, 2);
    let lines = back(&mut pair);
    assert_eq!(lines, ["PUBLISH 1 3 #1", "PUBLISH 1 4 #2", "PUBLISH 1 5 #3"]);
}

#[test]
fn as_many_of_the_oldest_give_way_as_it_takes_but_not_for_what_could_never_fit() {
    let mut pair = kept(|limits| {
        limits.drop_old = true;
        limits.max_queued_bytes = 300;
    });
    pair.deliver("1", AtLeastOnce);
    pair.deliver("2", AtLeastOnce);
    assert_eq!(
        pair.deliver(&"x".repeat(300), AtLeastOnce),
        Delivered::DroppedFull
    );
    assert_eq!(pair.session.queued(), 2);
    let large = "x".repeat(200);
    assert_eq!(pair.deliver(&large, AtLeastOnce), Delivered::Queued);
    assert_eq!(back(&mut pair), [format!("PUBLISH 1 {large} #1")]);
}

#[test]
fn what_stands_behind_a_suback_stays_behind_it_when_the_oldest_give_way() {
    let mut pair = Pair::new(V5, |limits| {
        limits.max_queued_messages = 3;
        limits.max_inflight_messages = 1;
        limits.drop_old = true;
    });
    pair.connect(connect(V5), false);
    pair.deliver("fills the window", AtLeastOnce);
    pair.read();
    pair.deliver("before 1", AtLeastOnce);
    pair.deliver("before 2", AtLeastOnce);
    let suback = pair.session.subscribed(id(9), vec![Reason::GrantedQoS1], true);
    for payload in ["behind 1", "behind 2"] {
        pair.deliver(payload, AtLeastOnce);
    }
    let puback = |pair: &mut Pair, number| pair.send(Packet::Puback(ack(number, Reason::Success))).unwrap();
    puback(&mut pair, 1);
    assert_eq!(pair.read(), ["PUBLISH 1 before 2 #2"]);
    puback(&mut pair, 2);
    assert!(pair.read().is_empty());
    pair.answers.extend(suback);
    pair.sync();
    assert_eq!(pair.read(), ["SUBACK 9 [GrantedQoS1]", "PUBLISH 1 behind 1 #3"]);
}

#[test]
fn qos_0_waits_for_a_kept_session_only_where_that_is_configured() {
    for queue_qos0 in [false, true] {
        let mut pair = Pair::new(V5, |limits| limits.queue_qos0 = queue_qos0);
        pair.connect(connect(V5), false);
        pair.read();
        pair.deliver("queued while connected", AtMostOnce);
        pair.lose(Detach::Lost);
        let expected = match queue_qos0 {
            true => Delivered::Queued,
            false => Delivered::DroppedQoS0,
        };
        assert_eq!(pair.deliver("queued while away", AtMostOnce), expected);
        pair.deliver("1", AtLeastOnce);
        let lines = back(&mut pair);
        match queue_qos0 {
            true => assert_eq!(
                lines,
                [
                    "PUBLISH 0 queued while connected",
                    "PUBLISH 0 queued while away",
                    "PUBLISH 1 1 #1"
                ]
            ),
            false => assert_eq!(lines, ["PUBLISH 1 1 #1"]),
        }
    }
    // Nobody comes back for a session that ends with its connection.
    let mut pair = Pair::new(V311, |limits| limits.queue_qos0 = true);
    let mut clean = connect(V311);
    clean.clean_start = true;
    pair.connect(clean, false);
    pair.deliver("x", AtMostOnce);
    pair.lose(Detach::Lost);
    assert_eq!(pair.session.queued(), 0);
}
