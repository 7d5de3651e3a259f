//! Topic aliases both ways and mount points: what a topic is called on one connection, and only there.

use std::sync::Arc;

use crate::codec::*;
use crate::session::{Detach, Message, Request, Violation, Whole};
use crate::testing::pair::*;
use QoS::*;
use Version::*;

fn aliased(topic: &'static str, alias: u16, qos: QoS, packet_id: u16) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id),
        payload: b"x",
        properties: properties(&[
            Property::ContentType("text"),
            Property::TopicAlias(alias),
            Property::UserProperty("a", "b"),
        ]),
    }
}

/// The topic that the broker would see, and then the packet is handled.
fn send(pair: &mut Pair, publish: Publish<'static>) -> Result<String, Violation> {
    let mut room = Whole::default();
    let whole = pair.session.resolve(publish.clone(), &mut room)?;
    assert_eq!(
        whole.properties.topic_alias(),
        None,
        "numbers are the connection's own"
    );
    let topic = whole.topic.to_owned();
    pair.send(Packet::Publish(publish))?;
    Ok(topic)
}

/// Why a publish is not taken.
fn refusal(pair: &Pair, publish: Publish<'static>) -> Reason {
    let mut room = Whole::default();
    let resolved = pair.session.resolve(publish, &mut room);
    resolved.map(|_| ()).unwrap_err().reason
}

fn on(topic: &str, payload: &str) -> Arc<Message> {
    let mut message = Message::clone(&message(payload, AtLeastOnce));
    message.topic = topic.into();
    Arc::new(message)
}

fn deliver(pair: &mut Pair, topic: &str, payload: &str) {
    let to = to(AtLeastOnce, &[]);
    pair.session.deliver(pair.now_ms, &on(topic, payload), &to, false);
}

/// A client that takes so many aliases, and packets of so many bytes.
fn taking(aliases: u16, most_bytes: u32) -> Connect<'static> {
    Connect {
        properties: properties(&[
            Property::SessionExpiryInterval(100),
            Property::TopicAliasMaximum(aliases),
            Property::MaximumPacketSize(most_bytes),
        ]),
        ..connect(V5)
    }
}

#[test]
fn a_number_stands_for_the_topic_it_was_sent_with_last() {
    let mut pair = Pair::connected(V5);
    assert_eq!(send(&mut pair, aliased("a/b", 1, AtMostOnce, 0)).unwrap(), "a/b");
    assert_eq!(send(&mut pair, aliased("", 1, AtLeastOnce, 1)).unwrap(), "a/b");
    assert_eq!(send(&mut pair, aliased("c", 10, AtMostOnce, 0)).unwrap(), "c");
    assert_eq!(send(&mut pair, aliased("d", 1, AtMostOnce, 0)).unwrap(), "d");
    assert_eq!(send(&mut pair, aliased("", 1, ExactlyOnce, 2)).unwrap(), "d");
    assert_eq!(send(&mut pair, aliased("", 10, AtMostOnce, 0)).unwrap(), "c");
}

#[test]
fn the_other_properties_of_a_publish_with_a_number_stay() {
    let pair = Pair::connected(V5);
    let mut room = Whole::default();
    let whole = pair
        .session
        .resolve(aliased("a", 1, AtMostOnce, 0), &mut room)
        .unwrap();
    let kept: Vec<_> = whole.properties.iter().collect();
    assert_eq!(
        kept,
        [Property::ContentType("text"), Property::UserProperty("a", "b")]
    );
}

#[test]
fn numbers_that_stand_for_nothing_and_those_above_the_bound_are_refused() {
    let reason = |publish| {
        let mut pair = Pair::new(V5, |limits| limits.topic_alias_maximum = 3);
        pair.connect(connect(V5), false);
        refusal(&pair, publish)
    };
    assert_eq!(reason(aliased("", 1, AtMostOnce, 0)), Reason::ProtocolError);
    assert_eq!(reason(aliased("", 3, AtMostOnce, 0)), Reason::ProtocolError);
    assert_eq!(reason(aliased("", 4, AtMostOnce, 0)), Reason::TopicAliasInvalid);
    assert_eq!(reason(aliased("a", 4, AtMostOnce, 0)), Reason::TopicAliasInvalid);
    let Packet::Publish(nameless) = publish("", AtMostOnce, 0, false) else {
        unreachable!()
    };
    assert_eq!(reason(nameless), Reason::ProtocolError);
}

#[test]
fn looking_at_a_publish_that_must_wait_changes_nothing() {
    let mut pair = Pair::connected(V5);
    send(&mut pair, aliased("a", 1, AtMostOnce, 0)).unwrap();
    let mut room = Whole::default();
    let waits = pair
        .session
        .resolve(aliased("b", 1, AtMostOnce, 0), &mut room)
        .unwrap();
    assert_eq!(waits.topic, "b");
    assert_eq!(send(&mut pair, aliased("", 1, AtMostOnce, 0)).unwrap(), "a");
}

#[test]
fn numbers_end_with_their_connection_both_ways() {
    let mut pair = Pair::new(V5, |_| {});
    pair.connect(taking(5, 1_000), false);
    pair.read();
    send(&mut pair, aliased("a", 1, AtMostOnce, 0)).unwrap();
    deliver(&mut pair, "b", "1");
    assert_eq!(pair.read(), ["PUBLISH 1 1 @b #1 alias=1"]);
    pair.lose(Detach::Lost);
    pair.connect(taking(5, 1_000), true);
    deliver(&mut pair, "b", "2");
    // What is sent again is sent as if for the first time.
    assert_eq!(
        pair.read()[1..],
        ["PUBLISH 1 1 @b #1 dup alias=1", "PUBLISH 1 2 @ #2 alias=1"]
    );
    assert_eq!(
        refusal(&pair, aliased("", 1, AtMostOnce, 0)),
        Reason::ProtocolError
    );
    pair.resume(); // without a word on aliases: none
    deliver(&mut pair, "b", "3");
    let lines = pair.read();
    assert!(
        lines
            .iter()
            .all(|line| line.contains("@b") && !line.contains("alias")),
        "{lines:?}"
    );
}

#[test]
fn a_number_that_is_longer_than_its_topic_costs_no_message() {
    let mut pair = Pair::new(V5, |_| {});
    pair.connect(taking(5, 40), false);
    pair.read();
    deliver(&mut pair, "b", "1");
    assert_eq!(pair.read(), ["PUBLISH 1 1 @b #1 alias=1"]);
    let fits_by_name = "x".repeat(32);
    deliver(&mut pair, "b", &fits_by_name);
    assert_eq!(pair.read(), [format!("PUBLISH 1 {fits_by_name} @b #2")]);
}

#[test]
fn a_publish_sent_again_by_its_number_is_known_by_its_topic() {
    let mut pair = Pair::connected(V5);
    send(&mut pair, aliased("a", 1, AtLeastOnce, 1)).unwrap();
    pair.resume();
    send(&mut pair, aliased("a", 7, AtMostOnce, 0)).unwrap();
    let again = Publish {
        dup: true,
        ..aliased("", 7, AtLeastOnce, 1)
    };
    assert_eq!(pair.send(Packet::Publish(again)), Ok(Request::None));
}

#[test]
fn topics_are_numbered_from_the_first_message_on_until_the_numbers_are_used() {
    let mut pair = Pair::new(V5, |limits| limits.topic_alias_maximum_out = 2);
    pair.connect(taking(7, 1_000), false);
    pair.read();
    for topic in ["a", "a", "b", "c", "b", "a", "c"] {
        deliver(&mut pair, topic, "x");
    }
    let lines = pair.read();
    let sent: Vec<_> = lines
        .iter()
        .map(|line| line.trim_start_matches("PUBLISH 1 x "))
        .collect();
    let expected = [
        "@a #1 alias=1",
        "@ #2 alias=1",
        "@b #3 alias=2",
        "@c #4",
        "@ #5 alias=2",
        "@ #6 alias=1",
        "@c #7",
    ];
    assert_eq!(sent, expected);
}

#[test]
fn a_client_that_takes_none_and_one_of_3_1_1_get_none() {
    let mut none = Pair::new(V5, |_| {});
    none.connect(taking(0, 1_000), false);
    for pair in [&mut none, &mut Pair::connected(V5), &mut Pair::connected(V311)] {
        deliver(pair, "a", "x");
        deliver(pair, "a", "x");
        let lines = pair.read();
        let of_a = lines
            .iter()
            .filter(|line| line.contains("@a") && !line.contains("alias"));
        assert_eq!(of_a.count(), 2, "{lines:?}");
    }
}

#[test]
fn a_packet_that_was_too_large_has_numbered_nothing() {
    let mut pair = Pair::new(V5, |_| {});
    pair.connect(taking(5, 30), false);
    pair.read();
    deliver(&mut pair, "topic", &"x".repeat(40)); // too large in any form
    deliver(&mut pair, "topic", &"x".repeat(18)); // 30 bytes, and 33 with a number
    deliver(&mut pair, "topic", "y");
    deliver(&mut pair, "topic", &"z".repeat(20)); // 30 bytes by its number alone
    let lines = pair.read();
    assert_eq!(
        lines,
        [
            format!("PUBLISH 1 {} @topic #2", "x".repeat(18)),
            "PUBLISH 1 y @topic #3 alias=1".to_owned(),
            format!("PUBLISH 1 {} @ #4 alias=1", "z".repeat(20)),
        ]
    );
    assert_eq!(pair.session.take_drops().too_large, 1);
}

#[test]
fn a_client_behind_a_mount_point_sees_its_own_topics_alone() {
    let mut pair = Pair::new(V5, |_| {});
    pair.mount = Some("site/".into());
    pair.connect(taking(5, 1_000), false);
    pair.read();
    assert_eq!(send(&mut pair, aliased("a", 1, AtMostOnce, 0)).unwrap(), "site/a");
    assert_eq!(send(&mut pair, aliased("", 1, AtMostOnce, 0)).unwrap(), "site/a");
    assert_eq!(pair.session.mounted("#"), "site/#");
    assert_eq!(pair.session.mounted("$share/g/a/+"), "$share/g/site/a/+");
    for topic in ["site/a", "other/a", "site", "site/", "sit", "site/a"] {
        deliver(&mut pair, topic, "x");
    }
    assert_eq!(
        pair.read(),
        ["PUBLISH 1 x @a #1 alias=1", "PUBLISH 1 x @ #6 alias=1"]
    );
    assert_eq!(pair.session.take_drops().outside, 4);
}

#[test]
fn what_waited_behind_another_mount_point_is_given_up() {
    let mut pair = Pair::new(V311, |_| {});
    pair.mount = Some("one/".into());
    pair.connect(connect(V311), false);
    deliver(&mut pair, "one/a", "1");
    assert_eq!(pair.read()[1..], ["PUBLISH 1 1 @a #1"]);
    pair.lose(Detach::Lost);
    deliver(&mut pair, "one/a", "2");
    deliver(&mut pair, "two/a", "3");
    pair.mount = Some("two/".into());
    pair.connect(connect(V311), true);
    assert_eq!(pair.read()[1..], ["PUBLISH 1 3 @a #3"]);
    assert_eq!(pair.session.take_drops().outside, 2);
    assert_eq!(pair.session.inflight(), 1);
}

#[test]
fn a_topic_that_is_too_long_behind_the_mount_point_is_refused() {
    let mut pair = Pair::new(V311, |_| {});
    pair.mount = Some("site/".into());
    pair.connect(connect(V311), false);
    let long = |len: usize| Publish {
        properties: Properties::EMPTY,
        topic: Vec::leak(vec![b'a'; len]).utf8_chunks().next().unwrap().valid(),
        ..aliased("", 1, AtMostOnce, 0)
    };
    let mut room = Whole::default();
    assert!(pair.session.resolve(long(65_530), &mut room).is_ok());
    assert_eq!(refusal(&pair, long(65_531)), Reason::TopicNameInvalid);
}

#[test]
fn a_session_without_names_has_none() {
    let mut pair = Pair::connected(V5);
    deliver(&mut pair, "a", "x");
    pair.read();
    assert!(!pair.session.has_aside());
}
