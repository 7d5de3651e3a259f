//! Sections 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH.

use forebay_broker::classify::Level;
use forebay_broker::codec::{self, Connect, Packet, Property, Reason, Version};

use crate::broker;
use crate::peer::{ALL, Peer, hello, properties, publication};
use crate::support::TestBroker;

#[test]
fn each_ping_is_answered() {
    let broker = broker();
    for version in ALL {
        let mut peer = Peer::connect(&broker, version, "pings");
        peer.send_raw(&b"\xC0\x00".repeat(100));
        for _ in 0..100 {
            peer.expect(b"\xD0\x00");
        }
        peer.ping();
    }
    broker.stop();
}

#[test]
fn behind_disconnect_nothing_is_handled_and_nothing_sent() {
    let broker = broker();
    for version in ALL {
        let mut listener = Peer::connect(&broker, version, "listener");
        listener.listen("late", 1);
        let mut peer = Peer::connect(&broker, version, "leaves");
        peer.listen("late", 1);
        let mut bytes = b"\xE0\x00".to_vec();
        codec::encode(
            version,
            &Packet::Publish(publication("late", b"late", 1)),
            &mut bytes,
        )
        .unwrap();
        bytes.extend_from_slice(b"\xC0\x00");
        peer.send_raw(&bytes);
        peer.closed();
        let mut sender = Peer::connect(&broker, version, "sender");
        sender.publish(&publication("late", b"mark", 1));
        listener.take_payload(b"mark");
    }
    broker.stop();
}

#[test]
fn the_brokers_disconnect_is_the_last_it_sends_and_says_why() {
    let broker = broker();
    let mut peer = Peer::connect(&broker, Version::V5, "told");
    let mut new = Peer::connect(&broker, Version::V5, "told");
    // Byte by byte: a reason of table 3-10 and no Session Expiry Interval, which is for clients only.
    peer.expect(b"\xE0\x01\x8E");
    peer.closed();
    new.send_raw(b"\xF0\x00");
    new.expect(b"\xE0\x01\x82");
    new.closed();
    let mut last = Peer::connect(&broker, Version::V5, "last");
    let mut three = Peer::connect(&broker, Version::V311, "three");
    broker.stop();
    last.expect(b"\xE0\x01\x8B");
    last.closed();
    three.closed(); // 3.x has no DISCONNECT from the server
}

#[test]
fn before_connack_there_is_no_disconnect() {
    let broker = TestBroker::start(|config| config.limits.connect_timeout_s = 1, Level::Received);
    // Nothing, half a CONNECT, a packet that is too large, one that is not CONNECT.
    for bytes in [
        &b""[..],
        b"\x10\x0D\x00",
        b"\x10\xFF\xFF\xFF\x7F",
        b"\x10\xFF\xFF\xFF\xFF\x01",
        b"\xE0\x00",
    ] {
        let mut peer = Peer::open(&broker, Version::V5);
        peer.send_raw(bytes);
        peer.closed();
    }
    // A refusal is CONNACK and the end.
    let mut peer = Peer::open(&broker, Version::V5);
    peer.send_raw(b"\x10\x0F\x00\x04MQTT\x05\x03\x00\x3C\x00\x00\x02d7");
    peer.expect(b"\x20\x03\x00\x81\x00");
    peer.closed();
    broker.stop();
}

#[test]
fn disconnect_may_change_the_expiry_but_not_begin_one() {
    let broker = broker();
    let with = |expiry_s| Property::SessionExpiryInterval(expiry_s);
    let connect = |expiry_s| {
        let buf = properties(&[with(expiry_s)]);
        let connect = Connect {
            clean_start: false,
            properties: buf.as_properties(),
            ..hello(Version::V5, "expiry")
        };
        let (peer, welcome) = Peer::join(&broker, &connect);
        (peer, welcome.session_present)
    };
    let (mut peer, _) = connect(600);
    peer.send_raw(b"\xE0\x07\x00\x05\x11\x00\x00\x00\x00"); // 0: it ends here
    peer.closed();
    let (mut peer, present) = connect(0);
    assert!(!present);
    peer.send_raw(b"\xE0\x07\x00\x05\x11\x00\x00\x00\x05");
    peer.turned_out(Reason::ProtocolError);
    broker.stop();
}

#[test]
fn auth_without_a_method_in_connect_is_an_error_and_none_is_ever_sent() {
    let broker = broker();
    let (mut peer, welcome) = Peer::join(&broker, &hello(Version::V5, "plain"));
    assert_eq!(welcome.properties().authentication_method(), None);
    peer.send_raw(b"\xF0\x06\x19\x04\x15\x00\x01m");
    peer.turned_out(Reason::ProtocolError);
    for version in crate::peer::V3 {
        let mut peer = Peer::connect(&broker, version, "three");
        peer.send_raw(b"\xF0\x00");
        peer.closed();
    }
    broker.stop();
}
