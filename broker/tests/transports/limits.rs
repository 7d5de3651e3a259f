//! What each listener bounds for itself, and what stands half open.

use std::time::{Duration, Instant};

use forebay_broker::config::{ClientCert, Limits, ListenerConfig, TlsConfig, Versions};

use crate::certificates::Files;
use crate::support::{CONNACK, Node, Stream, connect, connect_as, publish, until, websocket};

/// A second listener beside the first, with bounds of its own.
fn beside(listeners: &mut Vec<ListenerConfig>, change: impl FnOnce(&mut ListenerConfig, &mut Limits)) {
    let mut limits = Limits::default();
    let mut listener = ListenerConfig {
        name: format!("listener {}", listeners.len()),
        ..ListenerConfig::default()
    };
    change(&mut listener, &mut limits);
    listener.limits = Some(Box::new(limits));
    listeners.push(listener);
}

fn stream(node: &Node, listener: usize) -> Stream {
    Stream::tcp(node.addresses[listener].tcp().unwrap())
}

fn joined(node: &Node, listener: usize, id: &str) -> Stream {
    let mut stream = stream(node, listener);
    stream.write(&connect(id));
    assert_eq!(stream.packet().unwrap(), CONNACK);
    stream
}

#[test]
fn each_listener_has_its_own_bounds_versions_and_who_may_come() {
    let node = Node::start_all(
        |listeners| {
            beside(listeners, |listener, limits| {
                listener.versions = Versions {
                    v5: true,
                    ..Versions::NONE
                };
                limits.max_packet_bytes = 100;
                limits.receive_maximum = 7;
            });
            beside(listeners, |listener, limits| {
                listener.allow_anonymous = false;
                limits.max_topic_levels = 2;
            });
            beside(listeners, |listener, limits| {
                listener.max_connections = 1;
                limits.max_message_rate = 2;
                limits.max_subscriptions = 1;
            });
        },
        |_| {},
    );
    // The first is as [limits] says.
    let mut open = joined(&node, 0, "open");
    open.write(&publish("a/b/c", 1, &[7; 200]));
    assert_eq!(open.packet().unwrap(), [0x40, 2, 0, 1]);
    // The second takes 5.0 alone and small packets, and says so.
    let mut small = stream(&node, 1);
    small.write(&connect_as(5, "small"));
    let connack = small.packet().unwrap();
    assert!(
        connack.windows(5).any(|part| part == [0x27, 0, 0, 0, 100]),
        "{connack:?}"
    );
    assert!(connack.windows(3).any(|part| part == [0x21, 0, 7]), "{connack:?}");
    small.write(&[0x30, 0x7F]);
    let disconnect = small.packet().unwrap();
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x95));
    let mut old = stream(&node, 1);
    old.write(&connect("old"));
    assert_eq!(old.packet().unwrap(), [0x20, 2, 0, 1]);
    // The third lets nobody in without a name.
    let mut nameless = stream(&node, 2);
    nameless.write(&connect("nameless"));
    assert_eq!(nameless.packet().unwrap()[3], 5);
    // The fourth takes one, at two messages a second and with one subscription.
    let mut slow = joined(&node, 3, "slow");
    assert!(stream(&node, 3).is_closed());
    slow.write(&crate::support::subscribe("a"));
    assert_eq!(slow.packet().unwrap(), crate::support::SUBACK);
    slow.write(&crate::support::subscribe("b"));
    assert_eq!(slow.packet().unwrap(), [0x90, 3, 0, 1, 0x80]);
    let start = Instant::now();
    for id in 1..=5 {
        slow.write(&publish("a/b/c", id, b"x"));
    }
    for id in 1..=5 {
        assert_eq!(slow.packet().unwrap(), [0x40, 2, 0, id]);
    }
    assert!(
        start.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn the_bounds_are_those_of_the_listener_that_a_session_came_to_last() {
    let node = Node::start_all(
        |listeners| beside(listeners, |_, limits| limits.max_topic_levels = 2),
        |_| {},
    );
    for listener in [1, 0, 1] {
        let mut client = stream(&node, listener);
        let mut kept = connect("wanderer");
        kept[9] = 0; // not clean
        client.write(&kept);
        assert_eq!(client.packet().unwrap()[3], 0);
        client.write(&publish("a/b/c", 1, b"x"));
        match listener {
            0 => assert_eq!(client.packet().unwrap(), [0x40, 2, 0, 1]),
            _ => assert_eq!(client.packet(), None),
        }
    }
}

#[test]
fn the_connect_rate_of_an_address_counts_over_all_listeners() {
    let node = Node::start_all(
        |listeners| beside(listeners, |_, _| {}),
        |limits| limits.max_connect_rate_per_address = 3,
    );
    // A second may begin in between: six at most are let in by two of them, of twelve.
    let taken = (0..12)
        .filter(|number| !stream(&node, number % 2).is_closed_within(Duration::from_millis(30)))
        .count();
    assert!((3..=9).contains(&taken), "{taken}");
    until("the next second", || node.try_join("again").is_some());
}

/// The head of a WebSocket's request, but for its last line.
const HALF: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n";

/// The beginning of a ClientHello.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];

#[test]
fn half_open_handshakes_are_bounded_in_number_and_time() {
    let files = Files::new();
    for (name, first_bytes) in [
        ("nothing", &b""[..]),
        ("half a CONNECT", &[0x10, 0x20, 0]),
        ("half a request", HALF),
        ("half a handshake of TLS", HALF_HELLO),
    ] {
        let node = Node::start_all(
            |listeners| {
                if first_bytes == HALF {
                    listeners[0].transport = websocket();
                }
                if first_bytes == HALF_HELLO {
                    listeners[0].tls = Some(files.tls());
                }
                beside(listeners, |_, _| {});
            },
            |limits| {
                limits.connect_timeout_s = 1;
                limits.max_handshakes = 2;
            },
        );
        let start = Instant::now();
        let mut half: Vec<Stream> = (0..2)
            .map(|_| {
                let mut stream = node.stream();
                stream.write(first_bytes);
                stream
            })
            .collect();
        // A third is not closed and not served: it waits until the time of the first two is up.
        let mut third = node.stream();
        third.write(b"\xC0\0"); // no beginning of anything: refused as soon as it is looked at
        let _ = third.is_closed();
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(900) && waited < Duration::from_secs(5),
            "{name}: {waited:?}"
        );
        assert!(half.iter_mut().all(|stream| stream.is_closed()), "{name}");
        // Another listener's clients notice nothing of it.
        let (_one, _two) = (node.stream(), node.stream());
        let start = Instant::now();
        joined(&node, 1, "other");
        assert!(start.elapsed() < Duration::from_millis(800), "{name}");
    }
}

#[test]
fn who_has_joined_does_not_count_as_half_open() {
    let node = Node::start_all(|_| {}, |limits| limits.max_handshakes = 1);
    let clients: Vec<Stream> = (0..5).map(|number| node.joined(&format!("c{number}"))).collect();
    assert_eq!(clients.len(), 5);
    // One that leaves before its CONNECT frees its place at once.
    drop(node.stream());
    until("there is room", || node.try_join("again").is_some());
}

/// Joins over WebSocket by hand, without a client's buffers.
pub fn join_by_hand(mut stream: Stream, id: &str) -> Stream {
    stream.write(
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
    );
    stream.text_until("\r\n\r\n");
    let packet = connect(id);
    stream.write(&[&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0], &packet[..]].concat());
    stream.text_until("\u{20}\u{2}\0\0");
    stream
}

fn join_on(mut stream: Stream, id: &str) -> Stream {
    stream.write(&connect(id));
    assert_eq!(stream.packet().unwrap(), CONNACK);
    stream
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// `cargo test --release -p forebay-broker --test transports idle_memory -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn idle_memory_of_a_connection() {
    const COUNT: usize = 400;
    let files = Files::new();
    let keys = files.authority.leaf("localhost", 9, files.far());
    for (name, is_websocket) in [
        ("warm", false),
        ("TCP", false),
        ("WebSocket", true),
        ("TLS", false),
        ("TLS 1.2", false),
        ("TLS with client certificates", false),
        ("WebSocket over TLS", true),
    ] {
        let versions: &[_] = match name {
            "TLS 1.2" => &[&rustls::version::TLS12],
            _ => &[&rustls::version::TLS13],
        };
        let is_tls = name.contains("TLS");
        let with_certificates = name.contains("certificates");
        let node = Node::start(|listener| {
            if is_websocket {
                listener.transport = websocket();
            }
            if is_tls {
                listener.tls = Some(TlsConfig {
                    client_cert: if with_certificates {
                        ClientCert::Required
                    } else {
                        ClientCert::None
                    },
                    ..files.tls()
                });
            }
        });
        let config = files.client(versions, with_certificates.then_some(&keys));
        let join = |number: usize| {
            let mut stream = node.stream();
            if is_tls {
                let name = "localhost".try_into().unwrap();
                stream = stream.over_tls(rustls::ClientConnection::new(config.clone(), name).unwrap());
            }
            let id = format!("c{number}");
            match is_websocket {
                true => join_by_hand(stream, &id),
                false => join_on(stream, &id),
            }
            .without_tls()
        };
        let _warm: Vec<Stream> = (0..20).map(join).collect();
        let before = resident();
        let clients: Vec<Stream> = (20..20 + COUNT).map(join).collect();
        let bytes = resident().saturating_sub(before) / clients.len();
        println!("{name}: {bytes} bytes a connection that only stands, both ends but the client's TLS");
        assert!(bytes < if is_tls { 16 * 1024 } else { 4 * 1024 });
    }
}
