//! Much of what is allowed, and connections that go nowhere: memory stays bounded, and the others are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::pair::{GROWTH_KIB, undisturbed};
use super::raw::{PATIENCE, connect_with, ends, flood, joined, kept, open, packet, publish};
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::wait_for;
use crate::support::wire::connect;

/// What one flooder sends at most.
const FLOOD_BYTES: usize = 48 * 1024 * 1024;

fn with(limits: &str) -> String {
    format!("{PLAIN}[limits]\n{limits}\n")
}

/// Only the given connections are left.
fn only(forebay: &Forebay, left: f64) {
    wait_for("the others are gone", PATIENCE, || {
        (forebay.metric("forebay_connections", "") == left).then_some(())
    });
}

/// Packets that are fine and cost an answer or a place, by name; nobody reads the answers.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let filters = |first: u8, end: &[u8]| {
        let each = (0..1_500u16).map(|number| {
            let filter = format!("flood/{number}/+/#");
            let mut body = vec![1, 1];
            body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
            body.extend_from_slice(filter.as_bytes());
            body.extend_from_slice(end);
            packet(first, &body)
        });
        each.collect::<Vec<_>>().concat()
    };
    let publishes = |first: u8, size: usize| {
        let each = (1..=500u16).map(|id| {
            let id = (first & 6 > 0).then_some(id);
            publish(first, "flood/topic", id, &vec![b'x'; size])
        });
        each.collect::<Vec<_>>().concat()
    };
    vec![
        ("PINGREQ", vec![0xc0, 0]),
        ("SUBSCRIBE", filters(0x82, &[1])),
        ("UNSUBSCRIBE", filters(0xa2, &[])),
        ("QoS 0", publishes(0x30, 1_000)),
        ("QoS 0, empty", publishes(0x30, 0)),
        ("QoS 1", publishes(0x32, 100)),
        ("QoS 2 without PUBREL", publishes(0x34, 100)),
        ("retained", publishes(0x31, 1_000)),
        ("PUBREL of nothing", packet(0x62, &[0, 9])),
        ("PUBACK of nothing", packet(0x40, &[0, 9])),
        ("PUBREC of nothing", packet(0x50, &[0, 9])),
        ("PUBCOMP of nothing", packet(0x70, &[0, 9])),
    ]
}

#[test]
fn floods_of_good_packets_by_a_client_that_reads_nothing() {
    let forebay = Forebay::start(PLAIN);
    for (name, bytes) in floods() {
        undisturbed(&forebay, GROWTH_KIB, || {
            // Its session is kept: each subscription and each PUBREL has a record to wait for.
            let mut stream = kept(forebay.mqtt, "flood");
            let sent = flood(&mut stream, &bytes, FLOOD_BYTES / 4);
            println!("{name}: {sent} bytes taken");
        });
        only(&forebay, 0.0);
    }
}

#[test]
fn a_subscriber_that_never_reads_costs_its_queue_and_no_more() {
    let forebay = Forebay::start(PLAIN);
    undisturbed(&forebay, GROWTH_KIB, || {
        let mut deaf: Vec<TcpStream> = (0..3)
            .map(|n| joined(forebay.mqtt, &format!("deaf-{n}")))
            .collect();
        for (qos, stream) in (0u8..).zip(&mut deaf) {
            stream
                .write_all(&packet(0x82, &[&b"\x00\x01\x00\x04loud"[..], &[qos]].concat()))
                .unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
        }
        let mut loud = joined(forebay.mqtt, "loud");
        let message = publish(0x30, "loud", None, &[b'x'; 2_000]);
        flood(&mut loud, &message, FLOOD_BYTES);
    });
}

#[test]
fn lengths_that_are_announced_and_never_come_take_no_memory() {
    let forebay = Forebay::start(&with("connect_timeout_s = 5"));
    // 1 GB is announced within the bound of a packet alone.
    undisturbed(&forebay, 24 * 1024, || {
        let announced = [
            // 1,000,000 bytes, which is within the bound.
            [0x30, 0xc0, 0x84, 0x3d],
            [0x82, 0xc0, 0x84, 0x3d],
        ];
        let mut waiting = Vec::new();
        for number in 0..500 {
            let mut stream = joined(forebay.mqtt, &format!("wild-{number}"));
            stream.write_all(&announced[number % 2]).unwrap();
            stream.write_all(b"\x00\x04wild").unwrap();
            waiting.push(stream);
            let mut stream = open(forebay.mqtt);
            stream.write_all(&[0x10, 0xc0, 0x84, 0x3d, 0, 4, b'M']).unwrap();
            waiting.push(stream);
        }
        // The greatest there is: 268,435,455.
        for number in 0..200 {
            let mut stream = joined(forebay.mqtt, &format!("wilder-{number}"));
            stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]).unwrap();
            ends(&mut stream, "268,435,455 bytes announced");
        }
    });
}

#[test]
fn connections_by_the_thousand() {
    let forebay = Forebay::start(&with("connect_timeout_s = 3"));
    let port = forebay.mqtt;
    undisturbed(&forebay, GROWTH_KIB, || {
        // Some stay open and say nothing, some close at once, some in the middle, some are one id again and again.
        let mut silent = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..400 {
                        drop(open(port));
                        let mut half = open(port);
                        let whole = connect(&format!("c-{thread}-{number}"), true);
                        half.write_all(&whole[..number % whole.len()]).unwrap();
                        drop(half);
                        let mut same = open(port);
                        same.write_all(&connect("same", number % 2 == 0)).unwrap();
                        let mut answer = [0; 4];
                        // Another may have taken it over before it was answered.
                        let _ = same.read_exact(&mut answer);
                    }
                });
            }
            for _ in 0..400 {
                silent.push(open(port));
            }
        });
        for stream in &mut silent {
            ends(stream, "it never said CONNECT");
        }
    });
    only(&forebay, 0.0);
}

#[test]
fn a_connect_that_comes_drop_by_drop_ends_by_the_deadline() {
    let forebay = Forebay::start(&with("connect_timeout_s = 2"));
    undisturbed(&forebay, GROWTH_KIB, || {
        let mut slow: Vec<TcpStream> = (0..100).map(|_| open(forebay.mqtt)).collect();
        // A CONNECT of 200 bytes, and a byte of each on every round: it would take a minute.
        let whole = connect_with(4, &"x".repeat(186), 0);
        let mut open = slow.len();
        for byte in whole.iter().take(whole.len() - 1) {
            open = slow
                .iter_mut()
                .map(|stream| stream.write_all(&[*byte]))
                .filter(Result::is_ok)
                .count();
            if open == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(open, 0, "they are closed before they are done");
    });
    only(&forebay, 0.0);
}

#[test]
fn half_open_connections_end_by_their_keep_alive() {
    let forebay = Forebay::start(PLAIN);
    undisturbed(&forebay, GROWTH_KIB, || {
        let mut gone: Vec<TcpStream> = Vec::new();
        for number in 0..200 {
            let mut stream = open(forebay.mqtt);
            stream
                .write_all(&connect_with(
                    4 + (number % 2) as u8,
                    &format!("gone-{number}"),
                    1,
                ))
                .unwrap();
            // Half of them end in the middle of a packet.
            if number % 4 > 1 {
                stream.write_all(&[0x32, 100, 0, 1]).unwrap();
            }
            gone.push(stream);
        }
        for stream in &mut gone {
            ends(stream, "nothing was heard for one and a half keep-alives");
        }
    });
    only(&forebay, 0.0);
}
