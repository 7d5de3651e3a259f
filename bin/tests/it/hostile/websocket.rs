//! The same over WebSocket: requests that are none, frames that may not be, floods of those that may.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::pair::{GROWTH_KIB, undisturbed};
use super::raw::{ends, flood, open};
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::free_port;
use crate::support::wire::connect;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A broker with a listener for TCP, where the healthy pair is, and one for WebSocket; with its port.
fn start() -> (Forebay, u16) {
    let port = free_port();
    let listener = format!("[[listener]]\nbind = \"127.0.0.1:{port}\"\ntransport = \"ws\"\n[auth]");
    let config = PLAIN.replace("[auth]", &listener) + "[limits]\nconnect_timeout_s = 3\n";
    (Forebay::start(&config), port)
}

/// A frame with its mask of zeros, so that the payload stands as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn upgraded(port: u16) -> TcpStream {
    let mut stream = open(port);
    stream.write_all(REQUEST.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// Upgraded, and let in by MQTT.
fn joined(port: u16, client_id: &str) -> TcpStream {
    let mut stream = upgraded(port);
    stream.write_all(&frame(0x82, &connect(client_id, true))).unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x82, 4, 0x20, 2, 0, 0]);
    stream
}

#[test]
fn requests_that_are_no_websocket() {
    let (forebay, port) = start();
    let requests = [
        REQUEST.replace("GET", "PUT"),
        REQUEST.replace("/mqtt", "/"),
        REQUEST.replace("HTTP/1.1", "HTTP/0.9"),
        REQUEST.replace("Protocol: mqtt", "Protocol: soap"),
        REQUEST.replace("Version: 13", "Version: 99"),
        REQUEST.replace("Sec-WebSocket-Key", "Sec-WebSocket-Keys"),
        REQUEST.replace("\r\n\r\n", "\r\n\u{0}\r\n\r\n"),
        REQUEST.replace("Host:", "Host"),
        format!("GET /mqtt HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1_000)),
        format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\r\n\r\n".to_owned(),
    ];
    undisturbed(&forebay, GROWTH_KIB, || {
        for _ in 0..20 {
            for request in &requests {
                let mut stream = open(port);
                let _ = stream.write_all(request.as_bytes()); // it may be closed meanwhile
                let answer = ends(&mut stream, request);
                assert!(!answer.starts_with(b"HTTP/1.1 101"), "{request}");
            }
            // MQTT itself.
            let mut stream = open(port);
            stream.write_all(&connect("plain", true)).unwrap();
            ends(&mut stream, "CONNECT instead of a request");
        }
        // Half of one, and half of a handshake of MQTT.
        let mut waiting: Vec<TcpStream> = (0..50)
            .flat_map(|number| {
                let mut half = open(port);
                half.write_all(&REQUEST.as_bytes()[..number]).unwrap();
                let mut silent = upgraded(port);
                silent.write_all(&[0x82, 0x8c, 0, 0, 0, 0, 0x10]).unwrap();
                [half, silent]
            })
            .collect();
        for stream in &mut waiting {
            ends(stream, "half a handshake");
        }
    });
}

#[test]
fn frames_that_may_not_be() {
    let (forebay, port) = start();
    let length = |first: u8, bytes: [u8; 8]| [&[first, 0xff][..], &bytes, &[0; 4]].concat();
    let cases = [
        ("text", frame(0x81, b"hello")),
        ("text that is none", frame(0x81, &[0xff; 9])),
        ("not masked", vec![0x82, 2, 0xc0, 0]),
        ("reserved bits", frame(0xf2, b"\xc0\0")),
        ("a reserved kind", frame(0x83, b"\xc0\0")),
        ("a reserved kind of control", frame(0x8b, b"")),
        (
            "2^63 - 1 bytes",
            length(0x82, [0x7f, 255, 255, 255, 255, 255, 255, 255]),
        ),
        ("2^64 - 1 bytes", length(0x82, [0xff; 8])),
        ("4 GiB", length(0x82, [0, 0, 0, 1, 0, 0, 0, 0])),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126])),
        ("a ping in parts", frame(0x09, b"x")),
        ("a close in parts", frame(0x08, &[3, 0xe8])),
        ("a close of one byte", frame(0x88, &[3])),
        ("a close with a reserved code", frame(0x88, &[0, 1])),
        (
            "a close with a text that is none",
            frame(0x88, &[3, 0xe8, 0xff, 0xff]),
        ),
        ("goes on with nothing", frame(0x80, b"\xc0\0")),
        (
            "begins anew in the middle",
            [frame(0x02, b"\xc0"), frame(0x82, b"\0")].concat(),
        ),
        (
            "too large in parts",
            [frame(0x02, &[0x30]), frame(0x00, &[0xff; 60_000]).repeat(30)].concat(),
        ),
        ("MQTT that is none", frame(0x82, &[0xff; 40])),
    ];
    undisturbed(&forebay, GROWTH_KIB, || {
        for round in 0..20 {
            for (name, bytes) in &cases {
                let mut stream = joined(port, &format!("frames-{round}"));
                let _ = stream.write_all(bytes); // it may be closed meanwhile
                ends(&mut stream, name);
            }
        }
    });
}

#[test]
fn great_frames_of_which_only_the_head_comes_take_no_memory() {
    let (forebay, port) = start();
    // 500 MB are announced within the bound.
    undisturbed(&forebay, 32 * 1024, || {
        let mut waiting = Vec::new();
        for number in 0..500 {
            let mut stream = joined(port, &format!("great-{number}"));
            let mut head = vec![0x82, 0xff];
            head.extend_from_slice(&1_000_000u64.to_be_bytes());
            head.extend_from_slice(&[0, 0, 0, 0, 0x30]);
            stream.write_all(&head).unwrap();
            waiting.push(stream);
        }
    });
}

#[test]
fn floods_of_frames_that_are_allowed_by_a_client_that_reads_nothing() {
    let (forebay, port) = start();
    for (name, bytes) in [
        ("pings", frame(0x89, &[b'x'; 125])),
        ("empty pings", frame(0x89, b"")),
        ("pongs", frame(0x8a, &[b'x'; 125])),
        ("empty messages", frame(0x82, b"")),
        (
            "empty parts of one message",
            [frame(0x02, b""), frame(0x00, b"").repeat(1_000), frame(0x80, b"")].concat(),
        ),
        ("MQTT's pings", frame(0x82, &[0xc0, 0])),
        ("MQTT's pings, many in one", frame(0x82, &[0xc0, 0].repeat(500))),
    ] {
        undisturbed(&forebay, GROWTH_KIB, || {
            let mut stream = joined(port, "flood");
            let sent = flood(&mut stream, &bytes, 4 * 1024 * 1024);
            println!("{name}: {sent} bytes taken");
        });
    }
}
