//! How connections begin and end: CONNACK, keep-alive, expiry, the last DISCONNECT.

use crate::codec::*;
use crate::session::{Attach, Detach, Request, TimeoutKind};
use crate::testing::pair::*;
use Version::*;

fn disconnect(reason: Reason, all: &[Property<'_>]) -> Packet<'static> {
    Packet::Disconnect(Disconnect {
        reason,
        properties: properties(all),
    })
}

#[test]
fn disconnect_says_what_becomes_of_the_will() {
    for (reason, with_will) in [(Reason::Success, false), (Reason::DisconnectWithWill, true)] {
        let mut pair = Pair::connected(V5);
        let request = pair.send(disconnect(reason, &[])).unwrap();
        assert_eq!(request, Request::Disconnect { with_will });
        assert!(
            pair.send(Packet::Pingreq).is_err(),
            "nothing comes after DISCONNECT"
        );
    }
}

#[test]
fn disconnect_may_change_the_expiry_but_not_raise_it_from_0() {
    let mut pair = Pair::connected(V5);
    pair.send(disconnect(Reason::Success, &[Property::SessionExpiryInterval(7)]))
        .unwrap();
    assert_eq!(pair.session.expiry_s(), 7);

    let mut pair = Pair::new(V5, |_| {});
    let mut ends = connect(V5);
    ends.properties = Properties::EMPTY;
    pair.connect(ends, false);
    assert!(!pair.session.is_persistent());
    let raised = disconnect(Reason::Success, &[Property::SessionExpiryInterval(7)]);
    assert_eq!(pair.send(raised).unwrap_err().reason, Reason::ProtocolError);
}

#[test]
fn how_long_a_session_is_kept() {
    let kept = |change: &dyn Fn(&mut Connect<'static>), version| {
        let mut pair = Pair::new(version, |_| {});
        let mut connect = connect(version);
        change(&mut connect);
        pair.connect(connect, false);
        pair.session.expiry_s()
    };
    assert_eq!(kept(&|c| c.clean_start = true, V311), 0);
    assert_eq!(kept(&|_| {}, V31), 3_600, "the greatest that is granted");
    assert_eq!(
        kept(&|c| c.clean_start = true, V5),
        100,
        "clean start is about the past"
    );
    let for_ever =
        |c: &mut Connect<'static>| c.properties = properties(&[Property::SessionExpiryInterval(u32::MAX)]);
    assert_eq!(kept(&for_ever, V5), 3_600);
}

#[test]
fn keep_alive_is_one_and_a_half_and_restarts_with_every_byte() {
    let mut pair = Pair::connected(V311);
    assert_eq!(pair.session.poll_timeout(), Some(pair.now_ms + 90_000));
    pair.now_ms += 50_000;
    pair.session.touch(pair.now_ms);
    assert_eq!(pair.session.handle_timeout(91_000), None);
    assert_eq!(
        pair.session.handle_timeout(pair.now_ms + 90_000),
        Some(TimeoutKind::KeepAlive)
    );
    let mut silent = connect(V311);
    silent.keep_alive_s = 0;
    pair.connect(silent, true);
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn a_kept_session_expires() {
    let mut pair = Pair::connected(V5);
    pair.lose(Detach::Lost);
    let due = pair.now_ms + 100_000;
    assert_eq!(pair.session.poll_timeout(), Some(due));
    assert_eq!(pair.session.handle_timeout(due - 1), None);
    assert_eq!(pair.session.handle_timeout(due), Some(TimeoutKind::Expired));
    pair.connect(connect(V5), true);
    assert_eq!(
        pair.session.poll_timeout(),
        Some(pair.now_ms + 90_000),
        "only keep-alive runs now"
    );
}

#[test]
fn connack_tells_what_was_granted() {
    let mut pair = Pair::new(V5, |limits| limits.receive_maximum = 33);
    let granted = Attach {
        session_present: false,
        keep_alive_s: 30,
        assigned_client_id: Some("made-up".into()),
        max_session_expiry_s: 50,
        authentication_data: None,
        response_information: Some("answers/dev".into()),
        mount: None,
    };
    pair.session.attach(0, &connect(V5), granted);
    let mut out = Vec::new();
    pair.session.poll_transmit(0, &mut out, 1_000);
    let Packet::Connack(connack) = decode(V5, &out).unwrap() else {
        panic!()
    };
    let told = connack.properties;
    assert_eq!(told.session_expiry_s(), Some(50));
    assert_eq!(told.receive_maximum(), Some(33));
    assert_eq!(told.maximum_packet_size(), Some(1_000 * 1_024));
    assert!(
        told.iter()
            .any(|p| p == Property::ResponseInformation("answers/dev"))
    );
    assert!(
        told.iter()
            .any(|p| p == Property::AssignedClientIdentifier("made-up"))
    );
    assert!(told.iter().any(|p| p == Property::ServerKeepAlive(30)));
    assert!(
        told.iter()
            .all(|p| !matches!(p, Property::SharedSubscriptionAvailable(_)))
    );
}

#[test]
fn close_sends_what_waits_then_disconnect_then_nothing() {
    let mut pair = Pair::connected(V5);
    let ticket = pair.publish(QoS::AtLeastOnce, 1);
    pair.session.settle(ticket, Ok(()));
    pair.deliver("a", QoS::AtLeastOnce);
    pair.session.close(Reason::ServerShuttingDown);
    assert_eq!(pair.read(), ["PUBACK 1", "DISCONNECT ServerShuttingDown"]);
    pair.deliver("b", QoS::AtLeastOnce);
    assert!(pair.read().is_empty());
    let mut pair = Pair::connected(V311);
    pair.session.close(Reason::ServerShuttingDown);
    assert!(pair.read().is_empty());
}

#[test]
fn subscriptions_are_admitted_within_bounds() {
    for (version, deep, many) in [
        (V5, Reason::TopicFilterInvalid, Reason::QuotaExceeded),
        (V311, Reason::UnspecifiedError, Reason::UnspecifiedError),
    ] {
        let mut pair = Pair::new(version, |limits| {
            limits.max_subscriptions = 2;
            limits.max_topic_levels = 3;
        });
        pair.connect(connect(version), false);
        fn admit(pair: &mut Pair, filter: &str) -> Reason {
            pair.session.admit_subscription(&Subscription {
                filter,
                qos: QoS::ExactlyOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Send,
            })
        }
        assert_eq!(admit(&mut pair, "$share/g/a/b/c/#"), deep);
        assert_eq!(admit(&mut pair, "a/b/c/#"), deep);
        assert_eq!(
            admit(&mut pair, "$share/evil/$share/g"),
            deep,
            "a group in a group"
        );
        let longest = format!("$share/{}/a", "g".repeat(65_534 - 9));
        assert_eq!(
            admit(&mut pair, &format!("{longest}a")),
            deep,
            "longer than a name in the store"
        );
        assert_eq!(admit(&mut pair, &longest), Reason::GrantedQoS2);
        assert!(pair.session.forget_subscription(&longest));
        assert_eq!(
            admit(&mut pair, "$share/g/a/b/c"),
            Reason::GrantedQoS2,
            "three levels"
        );
        assert!(pair.session.forget_subscription("$share/g/a/b/c"));
        assert_eq!(admit(&mut pair, "a"), Reason::GrantedQoS2);
        assert_eq!(admit(&mut pair, "b/#"), Reason::GrantedQoS2);
        assert_eq!(admit(&mut pair, "c"), many);
        assert_eq!(admit(&mut pair, "a"), Reason::GrantedQoS2, "replaced");
        assert!(pair.session.forget_subscription("a"));
        assert!(!pair.session.forget_subscription("a"));
        assert_eq!(pair.session.filters().collect::<Vec<_>>(), ["b/#"]);
        let mut pair = Pair::new(version, |limits| limits.max_topic_bytes = 12);
        pair.connect(connect(version), false);
        assert_eq!(
            admit(&mut pair, "$share/group/a"),
            deep,
            "the name of the group counts"
        );
        assert_eq!(admit(&mut pair, "$share/gro/a"), Reason::GrantedQoS2);
    }
}
