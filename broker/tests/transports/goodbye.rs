//! What a client that sends nothing more reads to the last byte, though its socket is full when it is turned out.

use std::sync::Arc;

use forebay_broker::classify::{Class, Classify, Level, Publisher, RouteIds};
use forebay_broker::config::ListenerConfig;
use rustls::ClientConnection;
use rustls::version::TLS13;

use crate::certificates::Files;
use crate::support::{Node, Stream, connect_as, publish};

/// Holds back who publishes on `shut`.
struct Shut;

impl Classify for Shut {
    fn generation(&self) -> u32 {
        0
    }

    fn classify(&self, _publisher: Publisher<'_>, topic: &str) -> Class {
        let routes = (topic == "shut").then_some(0);
        Class {
            generation: 0,
            level: Level::Received,
            routes: routes.into_iter().collect::<RouteIds>(),
        }
    }

    fn is_open(&self, class: &Class) -> bool {
        class.routes.is_empty()
    }
}

/// So many, of this size, fill every buffer between the broker and a client that does not read.
const MESSAGES: u16 = 50;
const BYTES: usize = 300_000;

/// SUBSCRIBE to `large` at QoS 0, and PUBLISH at QoS 0 to `shut`.
const SUBSCRIBE: &[u8] = b"\x82\x0b\0\x01\0\0\x05large\0";
const TO_SHUT: &[u8] = b"\x30\x08\0\x04shut\0x";

fn join(mut stream: Stream, id: &str) -> Stream {
    stream.write(&connect_as(5, id));
    let connack = stream.packet().expect("CONNACK");
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    stream
}

#[test]
fn what_was_begun_and_the_reason_are_read_to_the_end() {
    let files = Files::new();
    let listeners = |listeners: &mut Vec<ListenerConfig>| {
        listeners.push(ListenerConfig {
            tls: Some(files.tls()),
            ..listeners[0].clone()
        });
    };
    let node = Node::try_start_by(Arc::new(Shut), listeners, |_| {}).unwrap();
    let plain = || Stream::tcp(node.addresses[0].tcp().unwrap());
    let over_tls = || {
        let config = files.client(&[&TLS13], None);
        let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        Stream::tcp(node.addresses[1].tcp().unwrap()).over_tls(connection)
    };
    for stream in [plain(), over_tls()] {
        // It waits for room to publish, says that it sends nothing more, and does not read.
        let mut deaf = join(stream, "deaf");
        deaf.write(SUBSCRIBE);
        assert_eq!(deaf.packet().unwrap()[0], 0x90);
        deaf.write(TO_SHUT);
        deaf.end();
        let mut sender = join(plain(), "sender");
        let large = publish("large", 1, &vec![0; BYTES]); // of 3.1.1: no properties, and a payload that begins with 0
        for _ in 0..MESSAGES {
            sender.write(&large);
            assert_eq!(sender.packet().unwrap()[0], 0x40);
        }
        drop(join(plain(), "deaf"));
        let last = std::iter::from_fn(|| deaf.packet()).last().unwrap();
        assert_eq!((last[0], last[2]), (0xE0, 0x8E), "taken over");
    }
}
