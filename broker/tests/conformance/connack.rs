//! Section 3.2: CONNACK.

use forebay_broker::codec::{self, Connect, Packet, PropertiesBuf, Property, Reason, Version};

use crate::broker;
use crate::peer::{ALL, Peer, filter, hello, properties, publication};

fn encoded(version: Version, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        codec::encode(version, packet, &mut bytes).unwrap();
    }
    bytes
}

#[test]
fn connack_comes_first_and_once() {
    let broker = broker();
    let mut sender = Peer::connect(&broker, Version::V311, "sender");
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "first");
        peer.listen("first", 1);
        peer.leave();
        sender.publish(&publication("first", b"waits", 1));
        // CONNECT and more in one write: neither what waited nor an answer overtakes CONNACK.
        let expiry = properties(&[Property::SessionExpiryInterval(600)]);
        let mut connect = Connect {
            clean_start: false,
            ..hello(version, "first")
        };
        if version == Version::V5 {
            connect.properties = expiry.as_properties();
        }
        let mut peer = Peer::open(&broker, version);
        let own = publication("first", b"own", 1);
        peer.send_raw(&encoded(
            version,
            &[Packet::Connect(connect), Packet::Pingreq, Packet::Publish(own)],
        ));
        peer.welcome();
        let mut firsts: Vec<u8> = (0..4).map(|_| peer.frame().unwrap()[0] & 0xF0).collect();
        firsts.sort_unstable();
        assert_eq!(
            firsts,
            [0x30, 0x30, 0x40, 0xD0],
            "{version:?}: and no second CONNACK"
        );
        peer.leave();
        drop(Peer::connect(&broker, version, "first"));
    }
    broker.stop();
}

#[test]
fn connack_has_session_present_only_with_success_and_no_other_flag() {
    let broker = broker();
    for version in ALL {
        let (mut peer, _) = Peer::connect_kept(&broker, version, "flags");
        peer.leave();
        // A session is there, and the CONNECT is refused: no Session Present.
        let mut refused = Peer::open(&broker, version);
        let mut bytes = encoded(version, &[Packet::Connect(hello(version, "flags"))]);
        bytes[9] |= 0x80; // a user name that does not follow; in 3.1 behind a longer protocol name
        if version == Version::V5 {
            refused.send_raw(&bytes);
            refused.expect(b"\x20\x03\x00\x81\x00");
        } else {
            refused.send(&Packet::Connect(Connect {
                clean_start: false,
                ..hello(Version::V31, "")
            }));
            refused.expect(b"\x20\x02\x00\x02");
        }
        refused.closed();
        for (clean_start, present) in [(false, version != Version::V31), (true, false), (false, false)] {
            let connect = Connect {
                clean_start,
                ..hello(version, "flags")
            };
            let (_, welcome) = Peer::join(&broker, &connect);
            let at = 2; // the remaining length is one byte
            assert_eq!(welcome.raw[at], u8::from(present), "{version:?} {clean_start}");
            assert_eq!(welcome.raw[at + 1], 0);
            drop(Peer::connect(&broker, version, "flags"));
        }
    }
    broker.stop();
}

#[test]
fn all_that_a_server_may_leave_out_is_there() {
    let broker = broker();
    let (mut peer, welcome) = Peer::join(&broker, &hello(Version::V5, "all"));
    for property in welcome.properties().iter() {
        match property {
            Property::MaximumQoS(_) => panic!("all QoS are taken"),
            Property::RetainAvailable(available)
            | Property::WildcardSubscriptionAvailable(available)
            | Property::SubscriptionIdentifierAvailable(available) => assert!(available, "{property:?}"),
            _ => {}
        }
    }
    let id = properties(&[Property::SubscriptionIdentifier(7)]);
    for qos in 0..3 {
        let granted = peer.subscribe(&[filter("all/+", qos)], &id);
        assert_eq!(granted[0] as u8, qos);
        let mut sender = Peer::connect(&broker, Version::V5, "sender");
        sender.publish(&codec::Publish {
            retain: true,
            ..publication("all/a", b"x", qos)
        });
        assert_eq!(peer.take_payload(b"x").qos, qos);
        sender.publish(&codec::Publish {
            retain: true,
            ..publication("all/a", b"", qos)
        });
        peer.take_payload(b"");
    }
    broker.stop();
}

#[test]
fn keep_alive_is_the_clients_unless_connack_says_another() {
    let broker = crate::TestBroker::start(
        |config| config.limits.max_keep_alive_s = 60,
        forebay_broker::classify::Level::Received,
    );
    for (asked, told) in [
        (30, None),
        (60, None),
        (61, Some(60)),
        (0, Some(60)),
        (u16::MAX, Some(60)),
    ] {
        let connect = Connect {
            keep_alive_s: asked,
            ..hello(Version::V5, "alive")
        };
        let (_, welcome) = Peer::join(&broker, &connect);
        assert_eq!(
            welcome.properties().server_keep_alive_s(),
            told,
            "asked for {asked}"
        );
        // 3.x can't be told and is let in all the same.
        let connect = Connect {
            keep_alive_s: asked,
            ..hello(Version::V311, "three")
        };
        Peer::join(&broker, &connect).0.ping();
    }
    broker.stop();
}

#[test]
fn connack_is_no_larger_than_the_client_takes() {
    let broker = broker();
    for most in [20, 25, 30, 40, 60, 100] {
        let small = properties(&[Property::MaximumPacketSize(most)]);
        let connect = Connect {
            properties: small.as_properties(),
            ..hello(Version::V5, "small")
        };
        let (mut peer, welcome) = Peer::join(&broker, &connect);
        assert!(
            welcome.raw.len() <= most as usize,
            "{} of {most}",
            welcome.raw.len()
        );
        peer.ping();
    }
    // Not even CONNACK fits: it can't be told that it is in, so it is not, and no will is published for it.
    let mut watcher = Peer::connect(&broker, Version::V5, "watcher");
    watcher.listen("tiny", 0);
    for most in [1, 2, 5] {
        let tiny = properties(&[Property::MaximumPacketSize(most)]);
        let mut peer = Peer::open(&broker, Version::V5);
        peer.send(&Packet::Connect(Connect {
            properties: tiny.as_properties(),
            will: Some(crate::wills::will("tiny", b"will", 0)),
            ..hello(Version::V5, "tiny")
        }));
        peer.closed();
    }
    watcher.publish(&publication("tiny", b"mark", 0));
    watcher.take_payload(b"mark");
    broker.stop();
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_taken_over() {
    let broker = broker();
    for version in ALL {
        let mut old = Peer::connect(&broker, version, "short");
        old.listen("short", 1);
        let (mut new, present) = Peer::connect_kept(&broker, version, "short");
        assert!(
            !present,
            "{version:?}: its session ended when its connection was closed"
        );
        old.turned_out(Reason::SessionTakenOver);
        let granted = new.subscribe(&[filter("mark", 0)], &PropertiesBuf::new());
        assert_eq!(granted, [Reason::Success]);
        new.publish(&publication("short", b"x", 1));
        new.publish(&publication("mark", b"mark", 0));
        new.take_payload(b"mark");
        new.leave();
        drop(Peer::connect(&broker, version, "short"));
    }
    broker.stop();
}
