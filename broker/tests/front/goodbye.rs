//! What a client gets to read of a connection that ends at once, on whichever worker it lands.

use forebay_broker::classify::Level;

use super::support::{Client, TestBroker};

/// A CONNECT of 5.0 or 3.1.1.
fn connect(id: &str, five: bool) -> Vec<u8> {
    let mut packet = vec![0x10, (12 + usize::from(five) + id.len()) as u8];
    packet.extend_from_slice(b"\0\x04MQTT");
    packet.extend_from_slice(&[if five { 5 } else { 4 }, 2, 0, 0]);
    packet.extend(five.then_some(0));
    packet.extend_from_slice(&[0, id.len() as u8]);
    packet.extend_from_slice(id.as_bytes());
    packet
}

/// The first bytes of all packets that come before the end.
fn first_bytes(client: &mut Client) -> Vec<u8> {
    std::iter::from_fn(|| client.frame())
        .map(|frame| frame[0])
        .collect()
}

#[test]
fn a_fault_right_behind_connect_is_told_like_any_other() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    // Of two workers half of these sockets are handed over to the other, with what was read of them.
    for number in 0..20 {
        let id = format!("faulty-{number}");
        let mut client = Client::open(&broker);
        client.send_raw(&[connect(&id, true), vec![0xc0, 1, 0]].concat());
        let connack = client.frame().unwrap_or_else(|| panic!("{id}: no CONNACK"));
        assert_eq!(connack[0], 0x20);
        let frame = client.frame().expect("DISCONNECT");
        assert_eq!((frame[0], frame[2]), (0xe0, 0x81), "{id}");
        assert_eq!(client.frame(), None);
    }
    broker.stop();
}

#[test]
fn what_came_before_disconnect_is_answered() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    for number in 0..20 {
        for five in [false, true] {
            let mut all = connect(&format!("brief-{number}"), five);
            let none: &[u8] = if five { b"\0" } else { b"" };
            all.extend([&[0x82, 6 + none.len() as u8, 0, 1][..], none, b"\0\x01a\x00"].concat());
            all.extend([0xc0, 0, 0xe0, 0]);
            let mut client = Client::open(&broker);
            client.send_raw(&all);
            assert_eq!(first_bytes(&mut client), [0x20, 0x90, 0xd0], "{number} {five}");
        }
    }
    broker.stop();
}
