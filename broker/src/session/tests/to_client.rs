//! Messages to the client: in order, inside its window, again after a break, within bounds.

use std::sync::Arc;

use crate::codec::*;
use crate::session::{Delivered, Detach, Message, Session};
use crate::testing::pair::*;
use QoS::*;
use Version::*;

#[test]
fn the_window_is_the_smaller_of_the_two() {
    let mut pair = Pair::new(V5, |limits| limits.max_inflight_messages = 3);
    let mut connect = connect(V5);
    connect.properties = properties(&[Property::ReceiveMaximum(2), Property::SessionExpiryInterval(9)]);
    pair.connect(connect, false);
    pair.read();
    for payload in ["a", "b", "c"] {
        assert_eq!(pair.deliver(payload, AtLeastOnce), Delivered::Queued);
    }
    assert_eq!(pair.read(), ["PUBLISH 1 a #1", "PUBLISH 1 b #2"]);
    assert!(!pair.session.wants_transmit());
    pair.send(Packet::Puback(ack(2, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBLISH 1 c #3"]);
    assert_eq!(pair.session.inflight(), 2);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_in_its_order() {
    let mut pair = Pair::connected(V311);
    for (payload, qos) in [
        ("a", AtLeastOnce),
        ("b", ExactlyOnce),
        ("c", AtLeastOnce),
        ("d", ExactlyOnce),
    ] {
        pair.deliver(payload, qos);
    }
    pair.read();
    pair.send(Packet::Puback(ack(1, Reason::Success))).unwrap();
    pair.send(Packet::Pubrec(ack(4, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBREL 4"]);
    pair.deliver("e", AtLeastOnce);
    pair.lose(Detach::Lost);
    pair.deliver("f", AtLeastOnce);
    assert_eq!(
        pair.resume(),
        [
            "CONNACK Success present",
            "PUBREL 4",
            "PUBLISH 2 b #2 dup",
            "PUBLISH 1 c #3 dup",
            "PUBLISH 1 e #5",
            "PUBLISH 1 f #6"
        ]
    );
    pair.send(Packet::Pubcomp(ack(4, Reason::Success))).unwrap();
    pair.send(Packet::Pubrec(ack(2, Reason::Success))).unwrap();
    pair.send(Packet::Pubrec(ack(2, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBREL 2", "PUBREL 2"]);
    pair.send(Packet::Pubcomp(ack(2, Reason::Success))).unwrap();
    assert_eq!(pair.session.inflight(), 3);
}

#[test]
fn a_smaller_window_after_resume_holds_what_is_sent_again() {
    let mut pair = Pair::connected(V5);
    for payload in ["a", "b", "c"] {
        pair.deliver(payload, AtLeastOnce);
    }
    pair.read();
    pair.lose(Detach::Lost);
    let mut again = connect(V5);
    again.properties = properties(&[Property::ReceiveMaximum(1), Property::SessionExpiryInterval(9)]);
    pair.connect(again, true);
    assert_eq!(pair.read(), ["CONNACK Success present", "PUBLISH 1 a #1 dup"]);
    pair.send(Packet::Puback(ack(1, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBLISH 1 b #2 dup"]);
}

#[test]
fn pubrec_with_an_error_ends_the_flow() {
    let mut pair = Pair::connected(V5);
    pair.deliver("a", ExactlyOnce);
    pair.read();
    pair.send(Packet::Pubrec(ack(1, Reason::QuotaExceeded))).unwrap();
    assert!(pair.read().is_empty());
    assert_eq!(pair.session.inflight(), 0);
}

#[test]
fn unknown_acknowledgements_are_ignored() {
    let mut pair = Pair::connected(V5);
    pair.deliver("a", ExactlyOnce);
    pair.read();
    pair.send(Packet::Puback(ack(5, Reason::Success))).unwrap();
    pair.send(Packet::Pubcomp(ack(5, Reason::Success))).unwrap();
    assert_eq!(pair.session.inflight(), 1);
    pair.send(Packet::Pubrec(ack(5, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBREL 5 PacketIdentifierNotFound"]);
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_violation() {
    let wrong = |packet: fn(Ack<'static>) -> Packet<'static>, qos, releasing: bool| {
        let mut pair = Pair::connected(V311);
        pair.deliver("a", qos);
        pair.read();
        if releasing {
            pair.send(Packet::Pubrec(ack(1, Reason::Success))).unwrap();
        }
        pair.send(packet(ack(1, Reason::Success))).err().map(|v| v.reason)
    };
    let error = Some(Reason::ProtocolError);
    assert_eq!(wrong(Packet::Pubrec, AtLeastOnce, false), error);
    assert_eq!(wrong(Packet::Pubcomp, AtLeastOnce, false), error);
    assert_eq!(wrong(Packet::Puback, ExactlyOnce, false), error);
    assert_eq!(wrong(Packet::Pubcomp, ExactlyOnce, false), error);
    assert_eq!(wrong(Packet::Puback, ExactlyOnce, true), error);
    assert_eq!(wrong(Packet::Pubrec, ExactlyOnce, true), None, "the same again");
    assert_eq!(wrong(Packet::Pubcomp, ExactlyOnce, true), None);
}

#[test]
fn the_queue_is_bounded_and_qos_0_does_not_wait_for_the_absent() {
    let mut pair = Pair::new(V311, |limits| {
        limits.max_queued_messages = 2;
        limits.max_queued_bytes = 1_000;
    });
    pair.connect(connect(V311), false);
    assert_eq!(
        pair.deliver(&"x".repeat(1_000), AtLeastOnce),
        Delivered::DroppedFull
    );
    pair.deliver("a", AtMostOnce);
    pair.deliver("b", AtLeastOnce);
    assert_eq!(pair.deliver("c", AtMostOnce), Delivered::DroppedQoS0);
    assert_eq!(pair.deliver("c", AtLeastOnce), Delivered::DroppedFull);
    pair.lose(Detach::Lost);
    assert_eq!(pair.session.take_drops().qos0, 1);
    assert_eq!(pair.deliver("d", AtMostOnce), Delivered::DroppedQoS0);
    assert_eq!(pair.deliver("d", AtLeastOnce), Delivered::Queued);
    assert_eq!(
        pair.resume(),
        ["CONNACK Success present", "PUBLISH 1 b #1", "PUBLISH 1 d #2"]
    );
}

#[test]
fn messages_expire_and_their_time_counts_down() {
    let mut pair = Pair::connected(V5);
    pair.lose(Detach::Lost);
    let expiring = |seconds, now_ms| {
        let Packet::Publish(mut publish) = publish("t", AtLeastOnce, 1, false) else {
            unreachable!()
        };
        publish.properties = properties(&[
            Property::MessageExpiryInterval(seconds),
            Property::UserProperty("k", "v"),
        ]);
        Arc::new(Message::from_publish(&publish, None, None, now_ms))
    };
    let (short, long) = (expiring(5, pair.now_ms), expiring(60, pair.now_ms));
    let who = to(AtLeastOnce, &[4, 9]);
    for message in [&short, &long] {
        pair.session.deliver(pair.now_ms, message, &who, false);
    }
    pair.now_ms += 10_000;
    assert_eq!(
        pair.session.deliver(pair.now_ms, &short, &who, false),
        Delivered::Expired
    );
    assert_eq!(
        pair.resume(),
        ["CONNACK Success present", "PUBLISH 1 x #1 expiry=50 sub=4 sub=9"]
    );
    assert_eq!(pair.session.take_drops().expired, 1);
}

#[test]
fn what_is_larger_than_the_client_takes_is_dropped() {
    let mut pair = Pair::new(V5, |_| {});
    let mut small = connect(V5);
    small.properties = properties(&[
        Property::MaximumPacketSize(40),
        Property::SessionExpiryInterval(100),
    ]);
    pair.connect(small, false);
    pair.read();
    pair.deliver(&"x".repeat(41), AtLeastOnce);
    pair.deliver("a", AtLeastOnce);
    assert_eq!(pair.read(), ["PUBLISH 1 a #2"]);
    assert_eq!(pair.session.take_drops().too_large, 1);
    assert_eq!(pair.session.inflight(), 1);
}

#[test]
fn retain_is_forwarded_only_where_it_is_asked_for() {
    let mut pair = Pair::connected(V5);
    let mut retained = Message::clone(&message("a", AtMostOnce));
    retained.retain = true;
    let retained = Arc::new(retained);
    let plain = to(AtLeastOnce, &[]);
    let mut as_published = to(AtLeastOnce, &[]);
    as_published.retain_as_published = true;
    pair.session.deliver(0, &retained, &plain, false);
    pair.session.deliver(0, &retained, &as_published, false);
    pair.session.deliver(0, &retained, &plain, true);
    assert_eq!(
        pair.read(),
        ["PUBLISH 0 a", "PUBLISH 0 a retain", "PUBLISH 0 a retain"]
    );
}

#[test]
fn qos_is_the_smaller_of_the_two() {
    let mut pair = Pair::connected(V311);
    pair.session
        .deliver(0, &message("a", ExactlyOnce), &to(AtMostOnce, &[]), false);
    pair.session
        .deliver(0, &message("b", AtMostOnce), &to(ExactlyOnce, &[]), false);
    assert_eq!(pair.read(), ["PUBLISH 0 a", "PUBLISH 0 b"]);
}

#[test]
fn packet_ids_in_use_are_passed_over() {
    let mut pair = Pair::new(V311, |limits| limits.max_inflight_messages = 2);
    pair.connect(connect(V311), false);
    pair.deliver("stays", AtLeastOnce);
    pair.read();
    for round in 2..=65_536u32 {
        pair.deliver("a", AtLeastOnce);
        pair.read();
        let expected = if round == 65_536 { 2 } else { round as u16 };
        assert_eq!(pair.session.inflight(), 2);
        pair.send(Packet::Puback(ack(expected, Reason::Success))).unwrap();
        assert_eq!(pair.session.inflight(), 1, "{round}");
    }
}

#[test]
fn what_is_retained_comes_behind_a_suback_that_waits_and_what_was_queued_before_it_does_not() {
    let mut pair = Pair::connected(V311);
    for number in [1, 3] {
        pair.deliver("before", AtLeastOnce);
        let suback = pair.session.subscribed(id(7), vec![Reason::GrantedQoS1], true);
        pair.deliver("a", AtLeastOnce);
        let second = pair.session.subscribed(id(8), vec![Reason::GrantedQoS1], true);
        pair.deliver("b", AtMostOnce);
        assert_eq!(pair.read(), [format!("PUBLISH 1 before #{number}")]);
        assert!(!pair.session.wants_transmit());
        pair.session.answered(suback.unwrap());
        let a = format!("PUBLISH 1 a #{}", number + 1);
        assert_eq!(pair.read(), ["SUBACK 7 [GrantedQoS1]", &a]);
        pair.session.answered(second.unwrap());
        assert_eq!(pair.read(), ["SUBACK 8 [GrantedQoS1]", "PUBLISH 0 b"]);
    }
}

#[test]
fn the_store_is_told_each_step_of_a_message() {
    let mut pair = Pair::new(V5, |limits| {
        limits.tells_store = true;
        limits.max_queued_messages = 3;
    });
    pair.connect(connect(V5), false);
    pair.read();
    for (number, qos) in [(0, ExactlyOnce), (1, AtLeastOnce), (2, AtMostOnce)] {
        pair.deliver_from(number, qos);
    }
    assert_eq!(pair.told(), Vec::<String>::new());
    pair.read();
    assert_eq!(pair.told(), ["sent 0 #1", "sent 1 #2"]);
    pair.send(Packet::Pubrec(ack(1, Reason::Success))).unwrap();
    pair.send(Packet::Pubrec(ack(1, Reason::Success))).unwrap();
    pair.send(Packet::Puback(ack(2, Reason::Success))).unwrap();
    pair.send(Packet::Pubcomp(ack(1, Reason::Success))).unwrap();
    pair.send(Packet::Pubcomp(ack(1, Reason::Success))).unwrap();
    assert_eq!(pair.told(), ["received 0 #1", "done 1 #2", "completed #1"]);
    for number in 3..8 {
        pair.deliver_from(number, AtLeastOnce);
    }
    assert_eq!(
        pair.told(),
        ["done 6", "done 7"],
        "dropped, since the queue is full"
    );
    pair.lose(Detach::Lost);
    assert!(pair.told().is_empty());
}

#[test]
fn the_store_is_told_nothing_of_a_session_that_is_not_kept() {
    let mut pair = Pair::new(V311, |limits| limits.tells_store = true);
    let mut clean = connect(V311);
    clean.clean_start = true;
    pair.connect(clean, false);
    pair.deliver_from(0, AtLeastOnce);
    pair.read();
    assert!(pair.told().is_empty());
}

#[test]
fn a_soft_limit_is_kept_to() {
    let mut pair = Pair::connected(V311);
    for _ in 0..10 {
        pair.deliver(&"x".repeat(100), AtMostOnce);
    }
    let mut out = Vec::new();
    assert!(pair.session.poll_transmit(0, &mut out, 250));
    assert!((250..360).contains(&out.len()));
}

#[test]
fn an_idle_session_is_small() {
    let bytes = std::mem::size_of::<Session>();
    assert!(bytes <= 232, "a session takes {bytes} bytes");
}
