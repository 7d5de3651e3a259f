//! Wills over a restart, and those that wait.

use super::*;

#[test]
fn wills_of_those_that_do_not_come_back_are_published_after_the_grace() {
    let mut bench = Bench::new(|config| config.limits.will_grace_s = 2);
    let with_will = |id: &str, delay_s| {
        let mut kept = kept(id);
        kept.will = Some(will(id, delay_s));
        kept
    };
    let mut expires = with_will("expires", 60);
    expires.expiry_s = 5;
    bench.state.restore(vec![
        with_will("away", 0),
        with_will("late", 9),
        with_will("back", 0),
        with_will("clean", 0),
        expires,
        kept("without"),
    ]);
    bench.tick(1_999);
    assert_eq!(
        bench.written(),
        [
            "away left",
            "late left",
            "back left",
            "clean left",
            "expires left",
            "without closed"
        ],
        "their times run from now, over the next restart too"
    );
    bench.connect("back", false);
    bench.connect("clean", true);
    assert_eq!(bench.written(), ["back open", "clean reset"]);
    bench.tick(2_000);
    assert_eq!(bench.written(), ["away publishes away", "away closed"]);
    bench.tick(5_000);
    assert_eq!(
        bench.written(),
        ["expires publishes expires", "expires closed", "expires reset"]
    );
    bench.tick(9_000);
    assert_eq!(bench.written(), ["late publishes late", "late closed"]);
    bench.tick(100_000);
    assert!(bench.written().is_empty());
}

#[test]
fn a_will_that_waited_before_a_restart_has_its_rest_of_the_delay_or_the_grace() {
    let mut bench = Bench::new(|config| config.limits.will_grace_s = 2);
    let waits = |id: &str, delay_s, expiry_s, left_ms_ago: u64| {
        let mut kept = kept(id);
        kept.will = Some(will(id, delay_s));
        kept.expiry_s = expiry_s;
        kept.left_ms = Some(1_000_000_000 - left_ms_ago);
        kept
    };
    bench.state.restore(vec![
        waits("rest", 10, 1_000, 4_000),
        waits("overdue", 10, 1_000, 400_000),
        waits("expired", 10, 20, 30_000),
    ]);
    bench.tick(1);
    assert_eq!(
        bench.written(),
        ["expired publishes expired", "expired closed", "expired reset"]
    );
    bench.tick(1_999);
    assert!(bench.written().is_empty());
    bench.tick(2_000);
    assert_eq!(bench.written(), ["overdue publishes overdue", "overdue closed"]);
    bench.tick(5_999);
    assert!(bench.written().is_empty());
    bench.tick(6_000);
    assert_eq!(bench.written(), ["rest publishes rest", "rest closed"]);
}

#[test]
fn a_will_with_a_delay_is_written_down_and_goes_with_its_session() {
    let mut bench = Bench::new(|_| {});
    let of_will = {
        let mut buf = PropertiesBuf::default();
        buf.push(Property::WillDelayInterval(10));
        buf
    };
    let of_connect = {
        let mut buf = PropertiesBuf::default();
        buf.push(Property::SessionExpiryInterval(60));
        buf
    };
    let connect = |bench: &mut Bench, clean_start| {
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start,
            keep_alive_s: 0,
            client_id: "k",
            will: Some(crate::codec::Will {
                topic: "gone",
                payload: b"x",
                qos: QoS::AtMostOnce,
                retain: false,
                properties: of_will.as_properties(),
            }),
            username: None,
            password: None,
            properties: of_connect.as_properties(),
        };
        let principal = Principal::default();
        bench.state.attach(&connect, "k", principal, false, 0).at
    };
    let at = connect(&mut bench, false);
    bench.state.detach(at, Detach::Lost);
    assert_eq!(bench.written(), ["k open", "k left"]);
    bench.tick(9_999);
    connect(&mut bench, false); // back in time
    assert_eq!(bench.written(), ["k open"]);
    bench.tick(50_000);
    assert!(bench.written().is_empty());
    connect(&mut bench, false); // takes over, and goes on with the session
    assert_eq!(bench.written(), ["k left", "k open"]);
    let at = connect(&mut bench, true); // takes over, and ends the session
    assert_eq!(
        bench.written(),
        ["k left", "k publishes gone", "k closed", "k reset", "k open"]
    );
    bench.state.detach(at, Detach::Lost);
    bench.tick(59_999);
    assert!(bench.written() == ["k left"]);
    bench.tick(60_000);
    assert_eq!(bench.written(), ["k publishes gone", "k closed"]);
    bench.tick(110_000);
    assert_eq!(bench.written(), ["k reset"]);
}
