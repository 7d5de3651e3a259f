//! Connections behind a load balancer that speaks the PROXY protocol.

use std::time::Duration;

use crate::support::{CONNACK, Node, connect};

const V1: &str = "PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883\r\n";
const V1_FROM_HERE: &str = "PROXY TCP4 127.0.0.9 10.0.0.1 12345 1883\r\n";
/// Not authorized, to a client of 3.1.1.
const REFUSED: [u8; 4] = [0x20, 2, 0, 5];

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&(body.len() as u16).to_be_bytes());
    header.extend_from_slice(body);
    header
}

fn v2_from(address: [u8; 4]) -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[&address[..], &[10, 0, 0, 1, 0x30, 0x39, 7, 0x5B]].concat(),
    )
}

/// For clients on this machine only, so that the answer shows whose address counts.
fn node() -> Node {
    Node::start(|listener| listener.proxy_protocol = true)
}

fn answer(node: &Node, header: &[u8]) -> Option<Vec<u8>> {
    let mut stream = node.stream();
    stream.write(&[header, &connect("id")].concat());
    stream.packet()
}

#[test]
fn the_stated_address_counts_as_the_clients() {
    let node = node();
    assert_eq!(answer(&node, V1_FROM_HERE.as_bytes()).unwrap(), CONNACK);
    assert_eq!(answer(&node, &v2_from([127, 0, 0, 9])).unwrap(), CONNACK);
    assert_eq!(answer(&node, V1.as_bytes()).unwrap(), REFUSED);
    assert_eq!(answer(&node, &v2_from([203, 0, 113, 7])).unwrap(), REFUSED);
    let v6 = "PROXY TCP6 2001:db8::7 ::1 12345 1883\r\n";
    assert_eq!(answer(&node, v6.as_bytes()).unwrap(), REFUSED);
    // Health checks of the balancer itself: it is on this machine here.
    assert_eq!(answer(&node, b"PROXY UNKNOWN\r\n").unwrap(), CONNACK);
    assert_eq!(answer(&node, &v2(0x20, 0, &[])).unwrap(), CONNACK);
}

#[test]
fn a_header_in_single_bytes_is_a_header() {
    let node = node();
    for header in [V1_FROM_HERE.as_bytes().to_vec(), v2_from([127, 0, 0, 9])] {
        let mut stream = node.stream();
        for byte in [header, connect("slow")].concat() {
            stream.write(&[byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(stream.packet().unwrap(), CONNACK);
    }
}

#[test]
fn without_a_header_and_with_a_bad_one_it_is_closed_at_once() {
    let node = node();
    let long = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    let garbage: [&[u8]; 7] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 99999\r\n",
        &long,
        &v2(0x21, 0x11, &[1, 2, 3]),
        &v2(0x21, 0x11, &[0; 60_000]),
    ];
    for header in garbage {
        assert_eq!(answer(&node, header), None, "{header:?}");
    }
    assert_eq!(
        answer(&node, V1_FROM_HERE.as_bytes()).unwrap(),
        CONNACK,
        "others go on"
    );
}

#[test]
fn a_header_that_is_cut_or_slow_ends_by_the_deadline() {
    let node = Node::start_all(
        |listeners| listeners[0].proxy_protocol = true,
        |limits| limits.connect_timeout_s = 1,
    );
    let mut streams = Vec::new();
    for header in [V1.as_bytes().to_vec(), v2_from([127, 0, 0, 9])] {
        for len in [1, 5, header.len() - 1] {
            let mut stream = node.stream();
            stream.write(&header[..len]);
            streams.push(stream);
        }
    }
    for stream in &mut streams {
        assert!(stream.is_closed_within(Duration::from_secs(5)));
    }
    // The header takes from the time that CONNECT has.
    let mut stream = node.stream();
    std::thread::sleep(Duration::from_millis(600));
    stream.write(V1_FROM_HERE.as_bytes());
    assert!(stream.is_closed_within(Duration::from_millis(900)));
}

#[test]
fn a_listener_that_expects_no_header_takes_none() {
    let node = Node::start(|_| {});
    assert_eq!(answer(&node, V1_FROM_HERE.as_bytes()), None);
    assert_eq!(answer(&node, &v2_from([127, 0, 0, 9])), None);
    assert_eq!(answer(&node, b"").unwrap(), CONNACK);
}

#[test]
fn the_stated_addresses_are_counted_each_for_itself() {
    let node = Node::start(|listener| {
        listener.proxy_protocol = true;
        listener.max_connect_rate_per_address = 2;
        listener.loopback_only = false;
    });
    let from = |last| v2_from([203, 0, 113, last]);
    let taken = |last| (0..8).filter(|_| answer(&node, &from(last)).is_some()).count();
    for last in 1..4 {
        // A second may begin in between.
        assert!((2..=4).contains(&taken(last)));
    }
}

#[test]
fn websocket_stands_behind_the_header() {
    let node = Node::start(|listener| {
        listener.proxy_protocol = true;
        listener.transport = crate::support::websocket();
    });
    let mut stream = node.stream();
    stream.write(V1_FROM_HERE.as_bytes());
    let mut client =
        crate::websocket::Client::upgrade(stream, &[("sec-websocket-protocol", "mqtt")]).unwrap();
    client.send(&connect("id"));
    assert_eq!(client.packet(), CONNACK);
    // All in one: nothing of what follows the header is lost.
    let mut stream = node.stream();
    let request = crate::websocket::request("mqtt");
    stream.write(&[V1_FROM_HERE, &request].concat().into_bytes());
    assert!(stream.text_until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
}
