//! Packets of every type that are wrong, over and over, while others go on.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::pair::{GROWTH_KIB, undisturbed};
use super::raw::{PATIENCE, connect_with, ends, open, packet, publish};
use crate::support::forebay::{Forebay, PLAIN};

/// Bodies that hardly any type takes, and some that are right for one type.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies = vec![
        vec![],
        vec![0],
        vec![0, 0],
        vec![0, 1],
        vec![0xff; 2],
        vec![0xff; 40],
        // Text and lengths that point behind the end.
        b"\x00\x04MQTT\x04".to_vec(),
        vec![0, 1, 0xff, 0xff, b'a'],
        // A packet id, an empty property list, a filter that may not be.
        b"\x00\x01\x00\x00\x03a#b\x00".to_vec(),
        // Properties that are longer than the packet; that are not known; that come twice.
        vec![0, 1, b'a', 0xff, 0xff, 0xff, 0x7f],
        vec![0, 1, b'a', 2, 0x7f, 0],
        b"\x00\x01a\x0a\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01".to_vec(),
    ];
    // U+0000, a surrogate, an overlong text, half a character.
    for text in [&b"\0"[..], b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x82"] {
        let mut body = vec![0, text.len() as u8];
        body.extend_from_slice(text);
        bodies.push(body);
    }
    bodies
}

/// Each type with no flags, the flags that it wants, and all flags.
fn firsts() -> Vec<u8> {
    let wanted = |kind: u8| if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
    let all = (0..16u8).flat_map(|kind| [0, wanted(kind), 1, 15].map(|flags| kind << 4 | flags));
    let mut all: Vec<u8> = all.collect();
    all.dedup();
    all
}

/// Sends `bytes` and closes. Whatever the broker says is read first, as far as it closes by itself.
fn send(port: u16, version: u8, connected: bool, bytes: &[u8]) {
    let mut stream = open(port);
    if connected {
        stream.write_all(&connect_with(version, "", 0)).unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [0x20], "{version}");
    }
    // It may be closed while this is being written.
    let _ = stream.write_all(bytes);
}

#[test]
fn every_type_of_packet_in_every_wrong_shape() {
    let forebay = Forebay::start(PLAIN);
    let port = forebay.mqtt;
    undisturbed(&forebay, GROWTH_KIB, || {
        std::thread::scope(|scope| {
            for version in [4, 5] {
                scope.spawn(move || {
                    for first in firsts() {
                        for body in bodies() {
                            send(port, version, true, &packet(first, &body));
                        }
                        // A body that does not come.
                        send(port, version, true, &[first, 0x80 | 20, 1, 0]);
                        // A length that never ends.
                        send(port, version, true, &[first, 0xff, 0xff, 0xff, 0xff, 0xff]);
                        send(port, version, false, &packet(first, &bodies()[5]));
                    }
                });
            }
        });
    });
}

/// Lets each byte of good packets be any of some others: what is read of it may be right or wrong.
#[test]
fn good_packets_with_one_byte_changed() {
    let forebay = Forebay::start(PLAIN);
    let port = forebay.mqtt;
    let good = [
        connect_with(5, "changed", 30),
        publish(0x3d, "changed/topic", Some(7), b"\0payload"),
        packet(0x82, b"\x00\x09\x02\x0b\x05\x00\x09changed/#\x01"),
        packet(0xa2, b"\x00\x0a\x00\x00\x09changed/#"),
        packet(0x62, b"\x00\x07\x00\x00"),
        packet(0x40, b"\x00\x07\x10\x00"),
        packet(0xe0, b"\x04\x05\x11\x00\x00\x00\x01"),
    ];
    undisturbed(&forebay, GROWTH_KIB, || {
        std::thread::scope(|scope| {
            for part in 0..4 {
                let good = &good;
                scope.spawn(move || {
                    let all = good.concat();
                    for at in (part..all.len()).step_by(4) {
                        for change in [0x01, 0x80, 0xff] {
                            let mut bytes = all.clone();
                            bytes[at] ^= change;
                            send(port, 5, false, &bytes);
                        }
                    }
                });
            }
        });
    });
}

/// A whole conversation, byte by byte, and its answers, read byte by byte.
#[test]
fn one_byte_at_a_time() {
    let forebay = Forebay::start(PLAIN);
    for version in [4, 5] {
        let none: &[u8] = if version == 5 { b"\0" } else { b"" };
        let with = |before: &[u8], after: &[u8]| [before, none, after].concat();
        let zero = packet(0x30, &with(b"\x00\x03s/0", b"zero"));
        let conversation = [
            (
                packet(0x82, &with(b"\x00\x01", b"\x00\x03s/#\x02")),
                packet(0x90, &with(b"\x00\x01", b"\x02")),
            ),
            (zero.clone(), zero),
            (
                packet(0x32, &with(b"\x00\x03t/1\x00\x02", b"one")),
                packet(0x40, b"\x00\x02"),
            ),
            (
                packet(0x34, &with(b"\x00\x03t/2\x00\x03", b"two")),
                packet(0x50, b"\x00\x03"),
            ),
            (packet(0x62, b"\x00\x03"), packet(0x70, b"\x00\x03")),
            (
                packet(0xa2, &with(b"\x00\x04", b"\x00\x03s/#")),
                packet(0xb0, &[b"\x00\x04", none, none].concat()),
            ),
            (vec![0xc0, 0], vec![0xd0, 0]),
            (vec![0xe0, 0], vec![]),
        ];
        let mut stream = open(forebay.mqtt);
        let send = |stream: &mut TcpStream, bytes: &[u8]| {
            bytes.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        };
        send(&mut stream, &connect_with(version, "slow", 30));
        assert_eq!(read_packet(&mut stream)[0], 0x20);
        for (bytes, answer) in conversation {
            send(&mut stream, &bytes);
            if answer.is_empty() {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end");
                continue;
            }
            let mut got = read_packet(&mut stream);
            // With nobody subscribed a 5.0 client is told so.
            if got.len() == 5 && got[4] == 0x10 {
                got.truncate(4);
                got[1] = 2;
            }
            assert_eq!(got, answer, "{version}: to {bytes:02x?}");
        }
    }
}

/// The next packet, of less than 128 bytes, byte by byte.
fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let (mut packet, mut byte) = (Vec::new(), [0]);
    while packet.len() < 2 || packet.len() < 2 + usize::from(packet[1]) {
        stream.read_exact(&mut byte).unwrap();
        packet.push(byte[0]);
    }
    packet
}

/// 5.0 clients are told why before the connection ends.
#[test]
fn who_is_turned_out_reads_the_reason() {
    let forebay = Forebay::start(PLAIN);
    for (name, bytes, reason) in [
        ("a second CONNECT", connect_with(5, "twice", 0), 0x82),
        ("a wrong length", vec![0xc0, 1, 0], 0x81),
        (
            "a packet that is too large",
            vec![0x30, 0xff, 0xff, 0xff, 0x7f],
            0x95,
        ),
        ("QoS 3", packet(0x36, b"\x00\x01a\x00\x01\x00x"), 0x81),
        ("no topic", packet(0x30, b"\x00\x00\x00x"), 0x82),
    ] {
        let mut stream = open(forebay.mqtt);
        stream.write_all(&connect_with(5, "told", 0)).unwrap();
        stream.write_all(&bytes).unwrap();
        let rest = ends(&mut stream, name);
        let told = rest
            .windows(3)
            .any(|window| window[0] == 0xe0 && window[1] >= 1 && window[2] == reason);
        assert!(told, "{name}: {rest:02x?}, within {PATIENCE:?}");
    }
}
