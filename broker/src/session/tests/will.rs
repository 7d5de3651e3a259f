//! Wills: when they are published, when they are not, and as what (sections 3.1.2.5 and 3.1.3.2).

use crate::codec::*;
use crate::session::{Detach, TimeoutKind};
use crate::testing::pair::*;
use Version::*;

/// A client with a will, which is delayed, and a session that outlives it for so long.
fn with_will(version: Version, delay_s: u32, expiry_s: u32) -> Connect<'static> {
    Connect {
        will: Some(Will {
            topic: "gone",
            payload: b"dev",
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: match version {
                V5 => properties(&[
                    Property::WillDelayInterval(delay_s),
                    Property::ContentType("text"),
                    Property::MessageExpiryInterval(5),
                    Property::UserProperty("a", "b"),
                ]),
                _ => Properties::EMPTY,
            },
        }),
        properties: match version {
            V5 => properties(&[Property::SessionExpiryInterval(expiry_s)]),
            _ => Properties::EMPTY,
        },
        ..connect(version)
    }
}

fn connected(delay_s: u32, expiry_s: u32) -> Pair {
    let mut pair = Pair::new(V5, |_| {});
    pair.connect(with_will(V5, delay_s, expiry_s), false);
    pair
}

const ALL: [Detach; 3] = [Detach::WithWill, Detach::Lost, Detach::TakenOver];

#[test]
fn without_a_delay_it_goes_out_at_once_unless_the_client_left_in_order() {
    for version in [V31, V311, V5] {
        for how in ALL.into_iter().chain([Detach::Clean]) {
            let mut pair = Pair::new(version, |_| {});
            pair.connect(with_will(version, 0, 100), false);
            assert_eq!(pair.lose(how).is_some(), how != Detach::Clean, "{how:?}");
            assert!(pair.lose(Detach::Lost).is_none(), "only once");
            assert!(!pair.session.has_late_will());
        }
    }
}

#[test]
fn it_is_published_as_it_was_given() {
    let will = connected(0, 100).lose(Detach::Lost).unwrap();
    let publish = will.as_publish();
    assert_eq!(
        (publish.topic, publish.payload, publish.qos, publish.retain),
        ("gone", &b"dev"[..], QoS::ExactlyOnce, true)
    );
    let kept = [
        Property::ContentType("text"),
        Property::MessageExpiryInterval(5),
        Property::UserProperty("a", "b"),
    ];
    assert_eq!(publish.properties, properties(&kept), "all but the delay");
}

#[test]
fn it_waits_for_its_delay_and_goes_out_once() {
    for how in ALL {
        let mut pair = connected(3, 100);
        assert!(pair.lose(how).is_none(), "{how:?}");
        let due = pair.now_ms + 3_000;
        assert_eq!(pair.session.poll_timeout(), Some(due));
        assert_eq!(pair.session.handle_timeout(due - 1), None);
        assert_eq!(pair.session.handle_timeout(due), Some(TimeoutKind::WillDelay));
        assert!(pair.session.take_late_will().is_some());
        assert_eq!(pair.session.handle_timeout(due), None);
        assert_eq!(
            pair.session.poll_timeout(),
            Some(pair.now_ms + 100_000),
            "the session lives on"
        );
    }
}

#[test]
fn it_goes_out_with_the_session_if_that_ends_first() {
    let mut pair = connected(50, 20);
    assert!(pair.lose(Detach::Lost).is_none());
    let due = pair.now_ms + 20_000;
    assert_eq!(pair.session.poll_timeout(), Some(due));
    assert_eq!(pair.session.handle_timeout(due), Some(TimeoutKind::Expired));
    assert!(pair.session.take_late_will().is_some());
    let mut pair = connected(50, 0);
    assert!(
        pair.lose(Detach::Lost).is_some(),
        "the session ends with its connection"
    );
}

#[test]
fn disconnect_may_bring_the_end_of_the_session_and_its_will_nearer() {
    let leave = |expiry_s| {
        let mut pair = connected(50, 100);
        let disconnect = Disconnect {
            reason: Reason::DisconnectWithWill,
            properties: properties(&[Property::SessionExpiryInterval(expiry_s)]),
        };
        pair.send(Packet::Disconnect(disconnect)).unwrap();
        let at_once = pair.lose(Detach::WithWill).is_some();
        (at_once, pair.session.poll_timeout().map(|at| at - pair.now_ms))
    };
    assert!(leave(0).0);
    assert_eq!(leave(7), (false, Some(7_000)));
    assert_eq!(leave(70), (false, Some(50_000)));
}

#[test]
fn a_client_that_comes_back_in_time_calls_it_off() {
    let mut pair = connected(50, 100);
    pair.lose(Detach::Lost);
    pair.session.return_will(false);
    assert!(!pair.session.has_late_will());
    pair.connect(connect(V5), true);
    assert!(pair.lose(Detach::Lost).is_none());
    // With a clean start the session ends, and the will is to be taken before it is removed.
    let mut pair = connected(50, 100);
    pair.lose(Detach::TakenOver);
    pair.session.return_will(true);
    assert!(pair.session.take_late_will().is_some());
}
