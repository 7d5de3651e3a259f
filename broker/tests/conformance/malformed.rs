//! Malformed packets and protocol errors, all of the codec's table: each ends its own connection, a 5.0 client is told
//! the reason, and a healthy pair of clients on the same broker goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_broker::codec::{Reason, Version, frame_len};

use crate::broker;
use crate::cases::{self, Case, Expect};
use crate::peer::{Peer, publication};
use crate::support::TestBroker;

const CONNECT: u8 = 1;

/// The faults of the table that are whole to a reader of a stream, or that it need not read to the end.
fn faults() -> Vec<(Case, Reason)> {
    let whole = |case: &Case| match frame_len(&case.bytes, 1_000_000) {
        Ok(Some(len)) => len == case.bytes.len(),
        Ok(None) => false,
        Err(_) => true,
    };
    cases::all()
        .into_iter()
        .filter(whole)
        .filter_map(|case| match case.expect {
            Expect::Fault(reason) => Some((case, reason)),
            _ => None,
        })
        .collect()
}

fn kind(case: &Case) -> u8 {
    case.bytes[0] >> 4
}

/// Sends each fault on a good connection of its own, while a publisher and a subscriber at QoS 1 go on.
fn each_ends_its_own_connection(at_least: usize, wanted: impl Fn(&Case) -> bool) {
    let broker = broker();
    let stop = Arc::new(AtomicBool::new(false));
    let draining = broker.drain_until(stop.clone());
    let healthy = undisturbed(&broker, stop.clone());
    let mut count = 0;
    for (case, reason) in faults() {
        if kind(&case) == CONNECT || !wanted(&case) {
            continue;
        }
        let mut peer = Peer::connect(&broker, case.version, "hostile");
        peer.try_send_raw(&case.bytes);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| peer.turned_out(reason)));
        assert!(end.is_ok(), "{}: {:x?}", case.name, case.bytes);
        count += 1;
    }
    assert!(count >= at_least, "only {count} cases");
    stop.store(true, Ordering::Release);
    let (messages, own) = healthy.join().expect("the healthy pair was disturbed");
    assert!(messages > 0 && messages == own);
    draining.join().unwrap();
    broker.stop();
}

/// One message after the other from one client to another; how many were sent and how many came.
fn undisturbed(broker: &TestBroker, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, u64)> {
    let mut to = Peer::connect(broker, Version::V5, "healthy-to");
    to.listen("healthy", 1);
    let mut from = Peer::connect(broker, Version::V311, "healthy-from");
    std::thread::spawn(move || {
        let (mut sent, mut came) = (0u64, 0);
        while !stop.load(Ordering::Acquire) || sent == 0 {
            sent += 1;
            from.publish(&publication("healthy", &sent.to_be_bytes(), 1));
            to.take_payload(&sent.to_be_bytes());
            came += 1;
        }
        (sent, came)
    })
}

#[test]
fn malformed_publishes() {
    each_ends_its_own_connection(150, |case| kind(case) == 3);
}

#[test]
fn malformed_acknowledgements() {
    each_ends_its_own_connection(300, |case| (4..=7).contains(&kind(case)));
}

#[test]
fn malformed_subscribes_and_unsubscribes() {
    each_ends_its_own_connection(100, |case| matches!(kind(case), 8 | 10));
}

#[test]
fn malformed_pings_disconnects_and_auths_and_types_that_do_not_exist() {
    each_ends_its_own_connection(300, |case| matches!(kind(case), 0 | 12 | 14 | 15));
}

#[test]
fn malformed_packets_that_only_a_server_sends() {
    each_ends_its_own_connection(300, |case| matches!(kind(case), 2 | 9 | 11 | 13));
}

#[test]
fn packets_that_only_a_server_sends_are_refused_though_they_are_well_formed() {
    let broker = broker();
    for case in cases::all() {
        if matches!(kind_or(&case, 0), 2 | 9 | 11 | 13) && !matches!(case.expect, Expect::Fault(_)) {
            let mut peer = Peer::connect(&broker, case.version, "server");
            peer.try_send_raw(&case.bytes);
            peer.turned_out(Reason::ProtocolError);
        }
    }
    broker.stop();
}

fn kind_or(case: &Case, none: u8) -> u8 {
    case.bytes.first().map_or(none, |first| first >> 4)
}

#[test]
fn malformed_connects() {
    let broker = broker();
    let mut count = 0;
    for (case, reason) in faults() {
        if kind(&case) != CONNECT {
            continue;
        }
        let mut peer = Peer::open(&broker, case.version);
        peer.try_send_raw(&case.bytes);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            match (case.version, reason) {
                (_, Reason::UnsupportedProtocolVersion) => peer.expect(b"\x20\x02\x00\x01"),
                (Version::V5, reason) => peer.expect(&[0x20, 3, 0, reason as u8, 0]),
                _ => {}
            }
            peer.closed();
        }));
        assert!(end.is_ok(), "{}: {:x?}", case.name, case.bytes);
        count += 1;
    }
    assert!(count > 150, "only {count} cases");
    broker.stop();
}

/// The cases of these words, on a connection each: what the rules on texts and lengths are shown by.
fn named(at_least: usize, words: &[&str]) {
    each_ends_its_own_connection(at_least, |case| words.iter().any(|word| case.name.contains(word)));
}

#[test]
fn texts_that_are_not_utf_8_or_hold_null() {
    named(
        60,
        &[
            "UTF-8",
            "U+0000",
            "surrogate",
            "overlong NUL",
            "continuation",
            "half a character",
        ],
    );
}

#[test]
fn variable_byte_integers_that_are_too_long() {
    named(20, &["overlong", "five bytes"]);
}

#[test]
fn reserved_bits_and_flags() {
    named(60, &["reserved bit", "with flags", "option bit"]);
}

#[test]
fn packet_ids_of_zero() {
    named(9, &["id 0"]);
}

#[test]
fn topic_names_and_filters_that_are_not_allowed() {
    named(60, &["subscribe to", "unsubscribe from", "publish to"]);
}
