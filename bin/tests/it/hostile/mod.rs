//! Clients that break the rules are turned away, and those that keep them do not notice.

mod floods;
mod pair;
mod raw;
mod storms;
mod websocket;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::block_on;
use crate::support::device::{Load, acknowledged};
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::kafka::Kafka;
use crate::support::records::{Verdict, judge};
use crate::support::wire::connect;

/// What is sent, by name; `true`: after a good CONNECT.
fn faults() -> Vec<(&'static str, bool, Vec<u8>)> {
    let mut many = connect("greedy", true);
    many.extend_from_slice(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    vec![
        ("not MQTT", false, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("nothing but zeros", false, vec![0; 64]),
        (
            "PUBLISH before CONNECT",
            false,
            vec![0x30, 5, 0, 1, b'a', b'x', b'y'],
        ),
        (
            "a length of five bytes",
            false,
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        (
            "an unknown protocol",
            false,
            vec![0x10, 12, 0, 4, b'M', b'Q', b'T', b'X', 4, 2, 0, 0, 0, 0],
        ),
        (
            "a reserved CONNECT flag",
            false,
            vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 1, b'r'],
        ),
        ("a packet of 256 MiB", false, many),
        ("CONNECT twice", true, connect("twice", true)),
        ("packet type 0", true, vec![0x00, 0]),
        ("QoS 3", true, vec![0x36, 7, 0, 1, b'a', 0, 1, b'x', b'y']),
        ("packet id 0", true, vec![0x32, 6, 0, 1, b'a', 0, 0, b'x']),
        (
            "a wildcard in a topic",
            true,
            vec![0x30, 5, 0, 3, b'a', b'/', b'#'],
        ),
        ("a topic that is not UTF-8", true, vec![0x30, 4, 0, 2, 0xc3, 0x28]),
        ("U+0000 in a topic", true, vec![0x30, 4, 0, 2, b'a', 0]),
        (
            "a topic longer than its packet",
            true,
            vec![0x30, 4, 0xff, 0xff, b'a', b'b'],
        ),
        ("SUBSCRIBE without a filter", true, vec![0x82, 2, 0, 1]),
        (
            "SUBSCRIBE with wrong flags",
            true,
            vec![0x80, 6, 0, 1, 0, 1, b'a', 0],
        ),
        (
            "a filter with # in the middle",
            true,
            vec![0x82, 8, 0, 1, 0, 3, b'#', b'/', b'a', 0],
        ),
        ("PUBREL with wrong flags", true, vec![0x60, 2, 0, 1]),
        ("a packet for clients only", true, vec![0x20, 2, 0, 0]),
    ]
}

/// Sends the fault and waits for the broker to end the connection.
fn is_turned_away(port: u16, name: &str, connected: bool, bytes: &[u8]) {
    let mut stream = match connected {
        true => raw::joined(port, "hostile"),
        false => raw::open(port),
    };
    // It may be closed while this is being written.
    let _ = stream.write_all(bytes);
    raw::ends(&mut stream, name);
}

#[test]
fn each_fault_ends_its_own_connection() {
    let forebay = Forebay::start(PLAIN);
    for (name, connected, bytes) in faults() {
        is_turned_away(forebay.mqtt, name, connected, &bytes);
    }
    let log = forebay.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn malformed_and_stalled_clients_do_not_disturb_healthy_ones() {
    let kafka = Kafka::shared();
    kafka.create_topic("undisturbed", 6, &[]);
    let forebay = Forebay::with_route(&kafka.bootstrap(), "undisturbed");
    let port = forebay.mqtt;
    let load = Load {
        prefix: "h".to_owned(),
        devices: 20,
        messages: 120,
        every: Duration::from_millis(50),
        ..Load::default()
    };
    let outcomes = std::thread::scope(|scope| {
        let healthy =
            scope.spawn(|| block_on(Duration::from_secs(90), load.run(port, Duration::from_secs(80))));
        // Half a packet, then silence; a reader that never reads; a close in the middle.
        let mut stalled = Vec::new();
        for _ in 0..50 {
            let mut half = TcpStream::connect(("127.0.0.1", port)).unwrap();
            half.write_all(&connect("half", true)[..5]).unwrap();
            stalled.push(half);
            let mut gone = TcpStream::connect(("127.0.0.1", port)).unwrap();
            gone.write_all(&connect("gone", true)).unwrap();
            gone.write_all(&[0x32, 100, 0, 1, b'a']).unwrap();
            gone.shutdown(Shutdown::Both).unwrap();
        }
        while !healthy.is_finished() {
            for (name, connected, bytes) in faults() {
                is_turned_away(port, name, connected, &bytes);
            }
        }
        healthy.join().unwrap()
    });
    let disturbed = outcomes
        .iter()
        .find(|outcome| outcome.acknowledged < load.messages || outcome.connections != 1);
    assert!(disturbed.is_none(), "{disturbed:?}");
    assert_eq!(
        judge(
            &kafka.read_at_least("undisturbed", 2400, Duration::from_secs(30)),
            acknowledged(&outcomes)
        ),
        Verdict::default()
    );
    let log = forebay.log();
    assert!(!log.contains("panicked"), "{log}");
}
