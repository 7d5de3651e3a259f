//! Publishes of the client: acknowledged in order, once, over broken connections too.

use crate::codec::*;
use crate::session::{Detach, Request, Violation};
use crate::testing::pair::*;
use QoS::*;
use Version::*;

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes() {
    let mut pair = Pair::connected(V311);
    let first = pair.publish(AtLeastOnce, 1);
    let second = pair.publish(ExactlyOnce, 2);
    let third = pair.publish(AtLeastOnce, 3);
    pair.session.settle(third, Ok(()));
    pair.session.settle(second, Ok(()));
    assert!(!pair.session.wants_transmit());
    assert_eq!(pair.read(), Vec::<String>::new());
    pair.session.settle(first, Ok(()));
    assert_eq!(pair.read(), ["PUBACK 1", "PUBREC 2", "PUBACK 3"]);
    assert_eq!(pair.session.pending_acks(), 0);
}

#[test]
fn a_run_is_settled_as_its_publishes_one_by_one() {
    let mut pair = Pair::connected(V311);
    let first = pair.publish(AtLeastOnce, 1);
    pair.publish(ExactlyOnce, 2);
    pair.publish(AtLeastOnce, 3);
    let fourth = pair.publish(AtLeastOnce, 4);
    pair.publish(AtLeastOnce, 5);
    pair.session.settle_run(fourth, 2);
    assert_eq!(pair.read(), Vec::<String>::new());
    pair.session.settle_run(first, 3);
    let all = ["PUBACK 1", "PUBREC 2", "PUBACK 3", "PUBACK 4", "PUBACK 5"];
    assert_eq!(pair.read(), all);
    let sixth = pair.publish(AtLeastOnce, 6);
    let seventh = pair.publish(AtLeastOnce, 7);
    pair.publish(AtLeastOnce, 8);
    pair.session.settle_run(sixth, 1);
    assert_eq!(pair.read(), ["PUBACK 6"], "the next is not part of it");
    pair.resume();
    pair.publish_again(AtLeastOnce, 8);
    pair.publish_again(AtLeastOnce, 7); // in another order than before
    pair.session.settle_run(seventh, 2);
    assert_eq!(pair.read(), ["PUBACK 8", "PUBACK 7"]);
}

#[test]
fn a_qos_2_id_is_published_once_until_it_is_released() {
    for version in [V31, V311, V5] {
        let mut pair = Pair::connected(version);
        let ticket = pair.publish(ExactlyOnce, 7);
        pair.publish_again(ExactlyOnce, 7);
        pair.session.settle(ticket, Ok(()));
        assert_eq!(pair.read(), ["PUBREC 7"]);
        pair.publish_again(ExactlyOnce, 7);
        assert_eq!(pair.read(), ["PUBREC 7"]);
        assert_eq!(
            pair.resume(),
            ["CONNACK Success present"].map(|s| if version == V31 { "CONNACK Success" } else { s })
        );
        pair.publish_again(ExactlyOnce, 7);
        assert_eq!(pair.read(), ["PUBREC 7"]);
        pair.send(Packet::Pubrel(ack(7, Reason::Success))).unwrap();
        assert_eq!(pair.read(), ["PUBCOMP 7"]);
        pair.publish(ExactlyOnce, 7);
    }
}

#[test]
fn pubrel_for_an_unknown_id() {
    let mut pair = Pair::connected(V5);
    pair.send(Packet::Pubrel(ack(9, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBCOMP 9 PacketIdentifierNotFound"]);
    let mut pair = Pair::connected(V311);
    pair.send(Packet::Pubrel(ack(9, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBCOMP 9"]);
}

#[test]
fn pubrel_before_pubrec_is_a_violation() {
    let mut pair = Pair::connected(V5);
    pair.publish(ExactlyOnce, 9);
    let violation = pair.send(Packet::Pubrel(ack(9, Reason::Success))).unwrap_err();
    assert_eq!(violation.reason, Reason::ProtocolError);
}

#[test]
fn a_publish_sent_again_on_a_resumed_session_joins_the_one_that_waits() {
    for qos in [AtLeastOnce, ExactlyOnce] {
        let answer = if qos == AtLeastOnce { "PUBACK" } else { "PUBREC" };
        let mut pair = Pair::connected(V311);
        let first = pair.publish(qos, 1);
        let second = pair.publish(qos, 2);
        pair.resume();
        pair.session.settle(first, Ok(())); // before it comes again
        assert!(
            pair.read().is_empty(),
            "nothing is acknowledged that was not sent on this connection"
        );
        pair.publish_again(qos, 1);
        assert_eq!(pair.read(), [format!("{answer} 1")]);
        pair.publish_again(qos, 2);
        assert!(pair.read().is_empty());
        pair.resume();
        pair.publish_again(qos, 2);
        pair.session.settle(second, Ok(())); // the ticket is still good, two connections later
        assert_eq!(pair.read(), [format!("{answer} 2")]);
    }
}

#[test]
fn an_id_that_is_used_anew_is_a_new_publish() {
    let mut pair = Pair::connected(V311);
    let old = pair.publish(AtLeastOnce, 1);
    pair.resume();
    let new = pair.publish(AtLeastOnce, 1); // no DUP
    pair.session.settle(old, Ok(()));
    assert!(pair.read().is_empty());
    pair.session.settle(new, Ok(()));
    assert_eq!(pair.read(), ["PUBACK 1"]);
}

#[test]
fn a_refusal_is_told_in_5_0_and_acknowledged_in_3_x() {
    let mut pair = Pair::connected(V5);
    let one = pair.publish(AtLeastOnce, 1);
    let two = pair.publish(ExactlyOnce, 2);
    pair.session.settle(one, Err(Reason::QuotaExceeded));
    pair.session.settle(two, Err(Reason::QuotaExceeded));
    assert_eq!(pair.read(), ["PUBACK 1 QuotaExceeded", "PUBREC 2 QuotaExceeded"]);
    pair.publish(ExactlyOnce, 2); // its id is free

    let mut pair = Pair::connected(V311);
    let two = pair.publish(ExactlyOnce, 2);
    pair.session.settle(two, Err(Reason::QuotaExceeded));
    assert_eq!(pair.read(), ["PUBREC 2"]);
}

#[test]
fn a_refusal_while_away_is_forgotten() {
    let mut pair = Pair::connected(V5);
    let ticket = pair.publish(ExactlyOnce, 2);
    pair.lose(Detach::Lost);
    pair.session.settle(ticket, Err(Reason::QuotaExceeded));
    pair.connect(connect(V5), true);
    pair.publish(ExactlyOnce, 2);
}

#[test]
fn receive_maximum_holds_3_x_back_and_is_a_violation_in_5_0() {
    let mut pair = Pair::new(V5, |limits| limits.receive_maximum = 2);
    pair.connect(connect(V5), false);
    let first = pair.publish(AtLeastOnce, 1);
    pair.publish(ExactlyOnce, 2);
    assert!(pair.session.can_take_publish());
    pair.session.settle(first, Ok(()));
    pair.read();
    pair.publish(AtLeastOnce, 3);
    let violation = pair.send(publish("t", AtLeastOnce, 4, false)).unwrap_err();
    assert_eq!(violation.reason, Reason::ReceiveMaximumExceeded);

    let mut pair = Pair::new(V311, |limits| limits.receive_maximum = 1);
    pair.connect(connect(V311), false);
    let first = pair.publish(AtLeastOnce, 1);
    assert!(!pair.session.can_take_publish());
    pair.session.settle(first, Ok(()));
    pair.read();
    assert!(pair.session.can_take_publish());
}

#[test]
fn a_qos_2_publish_counts_until_pubcomp() {
    let mut pair = Pair::new(V5, |limits| limits.receive_maximum = 1);
    pair.connect(connect(V5), false);
    let ticket = pair.publish(ExactlyOnce, 1);
    pair.session.settle(ticket, Ok(()));
    pair.read();
    pair.send(Packet::Pubrel(ack(1, Reason::Success))).unwrap();
    pair.publish(ExactlyOnce, 2);
}

#[test]
fn packets_that_a_client_may_not_send() {
    let suback = || Suback {
        packet_id: id(1),
        reasons: vec![Reason::Success],
        properties: Properties::EMPTY,
    };
    let connack = Connack {
        session_present: false,
        reason: Reason::Success,
        properties: Properties::EMPTY,
    };
    for packet in [
        Packet::Connect(connect(V5)),
        Packet::Connack(connack),
        Packet::Suback(suback()),
        Packet::Unsuback(suback()),
        Packet::Pingresp,
    ] {
        let mut pair = Pair::connected(V5);
        let violation = pair.session.handle_packet(0, packet).unwrap_err();
        assert_eq!(violation.reason, Reason::ProtocolError);
    }
}

#[test]
fn too_great_aliases_and_identifiers_of_subscriptions_and_deep_topics_are_refused() {
    let refused = |property: Option<Property<'_>>, topic| {
        let mut pair = Pair::new(V5, |limits| limits.max_topic_levels = 3);
        pair.connect(connect(V5), false);
        let Packet::Publish(mut publish) = publish(topic, AtMostOnce, 0, false) else {
            unreachable!()
        };
        publish.properties = properties(property.as_slice());
        pair.session
            .handle_packet(0, Packet::Publish(publish))
            .err()
            .map(|v: Violation| v.reason)
    };
    assert_eq!(
        refused(Some(Property::TopicAlias(11)), "t"),
        Some(Reason::TopicAliasInvalid)
    );
    assert_eq!(
        refused(Some(Property::SubscriptionIdentifier(1)), "t"),
        Some(Reason::ProtocolError)
    );
    assert_eq!(refused(None, "a/b/c/d"), Some(Reason::TopicNameInvalid));
    assert_eq!(refused(None, "a/b/c"), None);
}

#[test]
fn qos_0_has_no_ticket_and_ping_is_answered() {
    let mut pair = Pair::connected(V311);
    let request = pair.send(publish("t", AtMostOnce, 0, false)).unwrap();
    assert!(matches!(request, Request::Publish { ticket: None, .. }));
    pair.send(Packet::Pingreq).unwrap();
    assert_eq!(pair.read(), ["PINGRESP"]);
}

#[test]
fn pubcomp_of_a_kept_session_waits_for_its_record_and_other_answers_overtake_it() {
    let mut pair = Pair::connected(V311);
    pair.slow_log = true;
    let ticket = pair.publish(ExactlyOnce, 1);
    pair.session.settle(ticket, Ok(()));
    pair.read();
    let request = pair.send(Packet::Pubrel(ack(1, Reason::Success))).unwrap();
    assert!(matches!(request, Request::Released { packet_id, .. } if packet_id == id(1)));
    pair.send(Packet::Pingreq).unwrap();
    assert_eq!(pair.read(), ["PINGRESP"]);
    // Sent again, because no PUBCOMP came: the id may not be free before the record of the first one is durable.
    let request = pair.send(Packet::Pubrel(ack(1, Reason::Success))).unwrap();
    assert!(matches!(request, Request::Released { .. }));
    assert!(pair.read().is_empty());
    pair.sync();
    assert_eq!(pair.read(), ["PUBCOMP 1", "PUBCOMP 1"]);
}

#[test]
fn answers_that_waited_are_not_for_the_next_connection() {
    let mut pair = Pair::connected(V5);
    pair.slow_log = true;
    let suback = pair.session.subscribed(id(7), vec![Reason::GrantedQoS1], true);
    pair.answers.extend(suback);
    pair.send(Packet::Pubrel(ack(9, Reason::Success))).unwrap();
    assert_eq!(pair.resume(), ["CONNACK Success present"]);
    let unsuback = pair.session.unsubscribed(id(8), vec![Reason::Success], true);
    pair.sync();
    assert!(pair.read().is_empty());
    pair.answers.extend(unsuback);
    pair.sync();
    assert_eq!(pair.read(), ["UNSUBACK 8 [Success]"]);
}

#[test]
fn a_session_that_is_not_kept_is_answered_at_once() {
    let mut pair = Pair::new(V311, |_| {});
    let mut clean = connect(V311);
    clean.clean_start = true;
    pair.connect(clean, false);
    pair.read();
    let request = pair.send(Packet::Pubrel(ack(1, Reason::Success))).unwrap();
    assert_eq!(request, Request::None);
    assert_eq!(pair.read(), ["PUBCOMP 1"]);
}
