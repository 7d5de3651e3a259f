//! What a 5.0 client is told beside codes: reason strings that fit, unless it does not want them.

use crate::codec::*;
use crate::session::{put_disconnect, put_refusal};
use crate::testing::pair::*;
use Version::*;

fn connected(all: &[Property<'_>]) -> Pair {
    let mut pair = Pair::new(V5, |_| {});
    let mut connect = connect(V5);
    connect.properties = properties(all);
    pair.connect(connect, false);
    pair.read();
    pair
}

/// The bytes that are sent now.
fn sent(pair: &mut Pair) -> Vec<u8> {
    let mut out = Vec::new();
    pair.session.poll_transmit(pair.now_ms, &mut out, usize::MAX);
    out
}

/// The Reason String of a packet.
fn text(frame: &[u8]) -> Option<String> {
    let properties = match decode(V5, frame).unwrap() {
        Packet::Puback(ack) | Packet::Pubrec(ack) => ack.properties,
        Packet::Suback(suback) => suback.properties,
        Packet::Connack(connack) => connack.properties,
        Packet::Disconnect(disconnect) => disconnect.properties,
        other => panic!("{other:?}"),
    };
    properties.reason_string().map(str::to_owned)
}

fn refused_publish(pair: &mut Pair, qos: QoS) -> Vec<u8> {
    let ticket = pair.publish(qos, 1);
    pair.session.settle(ticket, Err(Reason::QuotaExceeded));
    sent(pair)
}

fn refused_subscription(pair: &mut Pair) -> Vec<u8> {
    let reasons = vec![Reason::Success, Reason::TopicFilterInvalid];
    pair.session.subscribed(id(1), reasons, false);
    sent(pair)
}

#[test]
fn refusals_say_why_and_what_is_granted_says_nothing() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let frame = refused_publish(&mut connected(&[]), qos);
        assert!(text(&frame).unwrap().contains("no room"));
    }
    let frame = refused_subscription(&mut connected(&[]));
    assert!(text(&frame).unwrap().contains("filter"));
    let mut pair = connected(&[]);
    let ticket = pair.publish(QoS::AtLeastOnce, 1);
    pair.session.settle(ticket, Ok(()));
    assert_eq!(sent(&mut pair), [0x40, 2, 0, 1]);
    pair.session.subscribed(id(1), vec![Reason::GrantedQoS1], false);
    assert_eq!(sent(&mut pair), [0x90, 4, 0, 1, 0, 1]);
}

#[test]
fn a_client_that_does_not_want_to_know_gets_the_code_alone() {
    let silent = || connected(&[Property::RequestProblemInformation(false)]);
    assert_eq!(
        refused_publish(&mut silent(), QoS::AtLeastOnce),
        [0x40, 3, 0, 1, 0x97]
    );
    assert_eq!(refused_subscription(&mut silent()), [0x90, 5, 0, 1, 0, 0, 0x8F]);
}

#[test]
fn nothing_is_said_that_would_make_the_packet_too_large() {
    for most in 1..60 {
        let small = || connected(&[Property::MaximumPacketSize(most)]);
        for frame in [
            refused_publish(&mut small(), QoS::ExactlyOnce),
            refused_subscription(&mut small()),
        ] {
            assert!(frame.len() <= most as usize, "{frame:?} of {most}");
            assert!(!frame.is_empty() || most < 7);
        }
        let mut frame = Vec::new();
        put_disconnect(most, Reason::ProtocolError, "a text", None, &mut frame);
        assert!(frame.len() <= most as usize && (!frame.is_empty() || most < 3));
    }
}

#[test]
fn where_to_go_is_said_before_why() {
    let disconnect = |most| {
        let mut frame = Vec::new();
        put_disconnect(most, Reason::UseAnotherServer, "why", Some("b:1883"), &mut frame);
        let Packet::Disconnect(disconnect) = decode(V5, &frame).unwrap() else {
            panic!()
        };
        assert_eq!(disconnect.reason, Reason::UseAnotherServer);
        let reference = disconnect.properties.server_reference().map(str::to_owned);
        (reference, text(&frame))
    };
    assert_eq!(
        disconnect(100),
        (Some("b:1883".to_owned()), Some("why".to_owned()))
    );
    assert_eq!(disconnect(13), (Some("b:1883".to_owned()), None));
    assert_eq!(disconnect(12), (None, None));
}

#[test]
fn a_refused_connect_says_why_to_5_0_alone() {
    let refusal = |version| {
        let mut frame = Vec::new();
        put_refusal(version, 100, Reason::NotAuthorized, "why", None, &mut frame);
        frame
    };
    assert_eq!(text(&refusal(V5)), Some("why".to_owned()));
    assert_eq!(refusal(V311), [0x20, 2, 0, 5]);
}
