//! What carries MQTT besides plain TCP: TLS, WebSocket, unix sockets, the PROXY protocol; and what each listener may bound.
//! A whole broker on real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "transports/certificates.rs"]
mod certificates;
#[path = "transports/goodbye.rs"]
mod goodbye;
#[path = "transports/limits.rs"]
mod limits;
#[path = "transports/proxy.rs"]
mod proxy;
#[path = "transports/support.rs"]
mod support;
#[path = "transports/tls.rs"]
mod tls;
#[path = "transports/unix.rs"]
mod unix;
#[path = "transports/websocket.rs"]
mod websocket;

use std::time::{Duration, Instant};

use forebay_broker::config::Versions;
use support::{CONNACK, Node, Stream, connect, connect_as, until};

#[test]
fn a_listener_takes_as_many_connections_as_it_says_and_no_more() {
    let node = Node::start(|listener| listener.max_connections = 2);
    let first = node.joined("one");
    let _second = node.joined("two");
    assert!(node.stream().is_closed(), "the third is closed at once");
    drop(first);
    until("there is room again", || node.try_join("three").is_some());
}

#[test]
fn the_bound_of_one_listener_is_not_that_of_another() {
    let node = Node::start_all(
        |listeners| {
            let mut second = listeners[0].clone();
            second.name = "second".to_owned();
            listeners[0].max_connections = 1;
            listeners.push(second);
        },
        |_| {},
    );
    let _first = node.joined("one");
    assert!(node.stream().is_closed());
    let mut other = Stream::tcp(node.addresses[1].tcp().unwrap());
    other.write(&connect("two"));
    assert_eq!(other.packet().unwrap(), CONNACK);
}

#[test]
fn one_address_may_connect_so_often_and_then_again_in_the_next_second() {
    let node = Node::start(|listener| listener.max_connect_rate_per_address = 3);
    // A second may begin in between: six at most are let in by two of them, of twelve.
    let taken = (0..12)
        .filter(|_| !node.stream().is_closed_within(Duration::from_millis(30)))
        .count();
    assert!((3..=9).contains(&taken), "{taken}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(node.try_join("again").is_some());
}

#[test]
fn a_version_that_is_not_taken_is_refused_in_its_own_words() {
    let none = Versions::NONE;
    let cases = [
        (Versions { v31: true, ..none }, [true, false, false]),
        (Versions { v311: true, ..none }, [false, true, false]),
        (Versions { v5: true, ..none }, [false, false, true]),
        (
            Versions {
                v31: false,
                ..Versions::ALL
            },
            [false, true, true],
        ),
    ];
    for (versions, expected) in cases {
        let node = Node::start(|listener| listener.versions = versions);
        for (level, taken) in [3, 4, 5].into_iter().zip(expected) {
            let mut stream = node.stream();
            stream.write(&connect_as(level, "id"));
            let connack = stream.packet().unwrap();
            let reason = connack[3];
            match (taken, level) {
                (true, _) => assert_eq!(reason, 0, "{versions:?} {level}"),
                (false, 5) => assert_eq!((connack[0], connack[3]), (0x20, 0x84), "{versions:?}"),
                (false, _) => assert_eq!(connack, [0x20, 2, 0, 1], "{versions:?} {level}"),
            }
            assert_eq!(stream.is_closed_within(Duration::from_millis(300)), !taken);
        }
    }
}

#[test]
fn who_sends_nothing_is_closed_after_the_connect_timeout_on_every_transport() {
    for (name, proxied, websocket) in [
        ("plain", false, false),
        ("behind a balancer", true, false),
        ("WebSocket", false, true),
    ] {
        let node = Node::start_all(
            |listeners| {
                listeners[0].proxy_protocol = proxied;
                if websocket {
                    listeners[0].transport = support::websocket();
                }
            },
            |limits| limits.connect_timeout_s = 1,
        );
        let start = Instant::now();
        let mut silent = node.stream();
        assert!(silent.is_closed_within(Duration::from_secs(5)), "{name}");
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(900) && waited < Duration::from_secs(4),
            "{name}: {waited:?}"
        );
    }
}

#[test]
fn who_is_turned_out_gets_to_read_why_though_it_still_sends() {
    let node = Node::start(|_| {});
    for _ in 0..20 {
        let mut client = node.stream();
        client.write(&connect_as(5, "flood"));
        assert_eq!(client.packet().unwrap()[3], 0);
        // Reserved flags in PINGREQ: malformed. Much follows that the broker never reads.
        let mut bytes = vec![0xC1, 0];
        bytes.resize(200_000, 0xC0);
        client.write(&bytes);
        let disconnect = client.packet().unwrap();
        assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x81));
        assert!(client.is_closed_within(Duration::from_secs(1)));
    }
}
