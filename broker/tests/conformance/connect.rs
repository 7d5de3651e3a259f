//! Section 3.1: CONNECT, what becomes of sessions, client identifiers. (Wills have their own file.)

use std::time::{Duration, Instant};

use forebay_broker::classify::Level;
use forebay_broker::codec::{Connect, Packet, Property, Reason, Version};

use crate::broker;
use crate::peer::{ALL, Peer, SINCE_311, V3, hello, properties, publication};
use crate::support::TestBroker;

#[test]
fn the_first_packet_is_connect_or_nothing_is_answered() {
    let broker = broker();
    let firsts: [&[u8]; 6] = [
        b"\xC0\x00",
        b"\x30\x05\x00\x01axy",
        b"\x82\x06\x00\x01\x00\x01a\x00",
        b"\xE0\x00",
        b"\xF0\x00",
        b"\x20\x02\x00\x00",
    ];
    for first in firsts {
        let mut peer = Peer::open(&broker, Version::V5);
        peer.send_raw(first);
        peer.closed();
    }
    broker.stop();
}

#[test]
fn a_second_connect_ends_the_connection() {
    let broker = broker();
    for version in ALL {
        for again in ALL {
            let mut peer = Peer::connect(&broker, version, "twice");
            let mut bytes = Vec::new();
            let connect = Packet::Connect(hello(again, "other"));
            forebay_broker::codec::encode(again, &connect, &mut bytes).unwrap();
            peer.send_raw(&bytes);
            peer.turned_out(Reason::ProtocolError);
        }
        // Whatever it says: it is the second.
        let mut peer = Peer::connect(&broker, version, "twice");
        peer.send_raw(b"\x10\x0D\x00\x05MQTTX\x09\x02\x00\x3C\x00\x00");
        peer.turned_out(Reason::ProtocolError);
    }
    broker.stop();
}

#[test]
fn another_protocol_name_or_level_is_refused_with_code_1() {
    let broker = broker();
    for head in [
        &b"\x00\x04MQTT\x06"[..],
        b"\x00\x04MQTX\x04",
        b"\x00\x06MQIsdp\x04",
        b"\x00\x04MQTT\x00",
    ] {
        let mut peer = Peer::open(&broker, Version::V311);
        let rest = b"\x02\x00\x3C\x00\x02d7";
        let mut bytes = vec![0x10, (head.len() + rest.len()) as u8];
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(rest);
        peer.send_raw(&bytes);
        peer.expect(b"\x20\x02\x00\x01");
        peer.closed();
    }
    broker.stop();
}

#[test]
fn a_session_is_resumed_unless_the_start_is_clean() {
    let broker = broker();
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    for version in ALL {
        let (mut peer, present) = Peer::connect_kept(&broker, version, "kept");
        assert!(!present, "there was none: a new one");
        peer.listen("kept", 1);
        peer.leave();
        sender.publish(&publication("kept", b"while away", 1));
        // A session is not there with it: Session Present is no part of 3.1.
        let (mut peer, present) = Peer::connect_kept(&broker, version, "kept");
        assert_eq!(present, version != Version::V31);
        peer.take_payload(b"while away");
        sender.publish(&publication("kept", b"subscribed still", 1));
        peer.take_payload(b"subscribed still");
        peer.leave();
        sender.publish(&publication("kept", b"to be forgotten", 1));
        let (mut peer, welcome) = Peer::join(&broker, &hello(version, "kept"));
        assert!(!welcome.session_present);
        peer.ping(); // nothing of it comes
        peer.listen("mark", 0);
        sender.publish(&publication("kept", b"not subscribed", 1));
        sender.publish(&publication("mark", b"mark", 0));
        peer.take_payload(b"mark");
        peer.leave();
        // What began clean in 3.x, or with no expiry in 5.0, is over with its connection.
        let (_, present) = Peer::connect_kept(&broker, version, "kept");
        assert!(!present);
        drop(Peer::connect(&broker, version, "kept"));
    }
    broker.stop();
}

#[test]
fn sessions_are_told_apart_by_client_id_alone() {
    let broker = broker();
    let (mut first, _) = Peer::connect_kept(&broker, Version::V311, "one");
    first.listen("one", 1);
    first.leave();
    let (_, present) = Peer::connect_kept(&broker, Version::V311, "One");
    assert!(!present, "another id is another session");
    // The same id over another version is the same.
    let (mut again, present) = Peer::connect_kept(&broker, Version::V5, "one");
    assert!(present);
    again.publish(&publication("one", b"x", 1));
    again.take_payload(b"x");
    broker.stop();
}

#[test]
fn a_client_id_that_is_connected_is_taken_over() {
    let broker = broker();
    for version in ALL {
        let mut old = Peer::connect(&broker, version, "same");
        let mut new = Peer::connect(&broker, version, "same");
        old.turned_out(Reason::SessionTakenOver);
        new.ping();
    }
    broker.stop();
}

#[test]
fn a_silent_client_is_lost_after_one_and_a_half_keep_alives() {
    let broker = broker();
    let mut watcher = Peer::connect(&broker, Version::V5, "watcher");
    watcher.listen("gone", 0);
    for version in ALL {
        let connect = Connect {
            keep_alive_s: 1,
            will: Some(crate::wills::will("gone", b"lost", 0)),
            ..hello(version, "silent")
        };
        let (mut peer, _) = Peer::join(&broker, &connect);
        let start = Instant::now();
        peer.turned_out(Reason::KeepAliveTimeout);
        let after = start.elapsed();
        assert!(after >= Duration::from_millis(1_400), "{after:?}: too early");
        assert!(after < Duration::from_secs(4), "{after:?}: too late");
        watcher.take_payload(b"lost");
    }
    broker.stop();
}

#[test]
fn any_packet_keeps_a_client_and_zero_asks_for_no_watch() {
    let broker = broker();
    let connect = |keep_alive_s| Connect {
        keep_alive_s,
        ..hello(Version::V311, if keep_alive_s == 0 { "never" } else { "talks" })
    };
    let (mut never, _) = Peer::join(&broker, &connect(0));
    let (mut talks, _) = Peer::join(&broker, &connect(1));
    let start = Instant::now();
    // Packets other than PINGREQ count as well; the pace is that of the answers.
    while start.elapsed() < Duration::from_millis(2_500) {
        talks.publish(&publication("t", b"x", 1));
        std::thread::sleep(Duration::from_millis(300));
    }
    talks.ping();
    never.ping();
    broker.stop();
}

#[test]
fn bytes_that_make_no_packet_keep_no_client_and_a_large_packet_may_take_its_time() {
    let broker = broker();
    let connect = |id| Connect {
        keep_alive_s: 1,
        ..hello(Version::V311, id)
    };
    let (mut drips, _) = Peer::join(&broker, &connect("drips"));
    let (mut slow, _) = Peer::join(&broker, &connect("slow"));
    let payload = vec![b'x'; 20_000];
    let mut packet = Vec::new();
    crate::codec::encode(
        Version::V311,
        &Packet::Publish(publication("t", &payload, 1)),
        &mut packet,
    )
    .unwrap();
    let start = Instant::now();
    for (number, piece) in packet.chunks(2_000).enumerate() {
        slow.send_raw(piece);
        std::thread::sleep(Duration::from_millis(300));
        drips.try_send_raw(&packet[number..=number]);
    }
    // It is closed already, not for want of a byte since the last.
    let last = Instant::now();
    drips.closed();
    assert!(last.elapsed() < Duration::from_secs(1));
    assert!(start.elapsed() > Duration::from_millis(2_500));
    assert_eq!(slow.frame().unwrap()[0], 0x40);
    broker.stop();
}

#[test]
fn client_ids_of_all_lengths_and_letters_are_taken() {
    let broker = broker();
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in ALL {
        for len in 1..=23 {
            Peer::connect(&broker, version, &letters[len..len + len]).ping();
        }
        for id in [
            letters,
            "ümläut",
            "with space",
            "a/b",
            "$x",
            "#",
            &"long".repeat(1000),
        ] {
            Peer::connect(&broker, version, id).ping();
        }
    }
    broker.stop();
}

#[test]
fn an_empty_client_id_becomes_a_new_one_or_is_refused() {
    let broker = broker();
    let mut first = Peer::connect(&broker, Version::V311, "");
    let mut second = Peer::connect(&broker, Version::V311, "");
    first.ping();
    second.ping();
    // With a session that is to be kept there is nobody to keep it for, and 3.1 has no empty ids.
    for (version, clean_start) in [
        (Version::V311, false),
        (Version::V31, true),
        (Version::V31, false),
    ] {
        let mut peer = Peer::open(&broker, version);
        peer.send(&Packet::Connect(Connect {
            clean_start,
            ..hello(version, "")
        }));
        peer.expect(b"\x20\x02\x00\x02");
        peer.closed();
    }
    let mut ids = Vec::new();
    for clean_start in [true, false, true] {
        let expiry = properties(&[Property::SessionExpiryInterval(600)]);
        let connect = Connect {
            clean_start,
            properties: expiry.as_properties(),
            ..hello(Version::V5, "")
        };
        let (mut peer, welcome) = Peer::join(&broker, &connect);
        assert!(!welcome.session_present);
        let id = welcome
            .properties()
            .assigned_client_id()
            .expect("an id")
            .to_owned();
        assert!(!id.is_empty() && !ids.contains(&id), "{id} of {ids:?}");
        // It is its id from then on.
        peer.leave();
        let (_, present) = Peer::connect_kept(&broker, Version::V5, &id);
        assert!(present);
        ids.push(id);
    }
    broker.stop();
}

#[test]
fn who_may_not_come_in_is_told_and_nothing_behind_connect_is_done() {
    let broker = TestBroker::start(
        |config| {
            config.listeners[0].allow_anonymous = false;
        },
        Level::Received,
    );
    for (version, answer) in [
        (Version::V31, &b"\x20\x02\x00\x05"[..]),
        (Version::V311, b"\x20\x02\x00\x05"),
        (Version::V5, b"\x20\x03\x00\x87\x00"),
    ] {
        let mut bytes = Vec::new();
        let connect = Packet::Connect(hello(version, "nobody"));
        forebay_broker::codec::encode(version, &connect, &mut bytes).unwrap();
        let publish = Packet::Publish(publication("t", b"x", 1));
        forebay_broker::codec::encode(version, &publish, &mut bytes).unwrap();
        let mut peer = Peer::open(&broker, version);
        peer.send_raw(&bytes);
        peer.expect(answer);
        peer.closed();
    }
    assert_eq!(
        broker.stop().records,
        0,
        "a publish behind a refused CONNECT was taken"
    );
}

#[test]
fn what_is_larger_than_the_client_takes_is_left_out_and_counts_as_sent() {
    let broker = broker();
    let small = properties(&[Property::MaximumPacketSize(60), Property::ReceiveMaximum(1)]);
    let connect = Connect {
        properties: small.as_properties(),
        ..hello(Version::V5, "small")
    };
    let (mut peer, welcome) = Peer::join(&broker, &connect);
    assert!(welcome.raw.len() <= 60);
    peer.listen("size", 2);
    let mut sender = Peer::connect(&broker, Version::V5, "sender");
    for qos in [1, 2, 0] {
        sender.publish(&publication("size", &[b'x'; 100], qos));
        sender.publish(&publication("size", b"fits", qos));
        // Its place in the window is free: with Receive Maximum 1 the next one would wait for ever.
        assert_eq!(peer.take_payload(b"fits").qos, qos);
    }
    broker.stop();
}

#[test]
fn reason_strings_and_user_properties_only_where_they_are_asked_for() {
    let broker = broker();
    let quiet = properties(&[Property::RequestProblemInformation(false)]);
    let connect = Connect {
        properties: quiet.as_properties(),
        ..hello(Version::V5, "quiet")
    };
    let (mut peer, _) = Peer::join(&broker, &connect);
    // Things that a reason could be given for: an unknown id, a filter that was not there, too many levels.
    peer.send_ack(0x62, 77);
    peer.expect(b"\x70\x03\x00\x4D\x92");
    peer.send_ack(0x50, 78);
    peer.expect(b"\x62\x03\x00\x4E\x92");
    peer.send_raw(b"\xA2\x06\x00\x02\x00\x00\x01a");
    peer.expect(b"\xB0\x04\x00\x02\x00\x11");
    let deep = "/".repeat(250);
    let subscribe = [&b"\x82\x80\x02\x00\x03\x00\x00\xFA"[..], deep.as_bytes(), b"\x00"].concat();
    peer.send_raw(&subscribe);
    peer.expect(b"\x90\x04\x00\x03\x00\x8F");
    broker.stop();
}

#[test]
fn clients_of_all_versions_are_let_in() {
    let broker = broker();
    for version in V3 {
        let mut peer = Peer::open(&broker, version);
        peer.send(&Packet::Connect(hello(version, "three")));
        peer.expect(b"\x20\x02\x00\x00");
        peer.ping();
    }
    for version in SINCE_311 {
        Peer::connect(&broker, version, "since").ping();
    }
    broker.stop();
}
