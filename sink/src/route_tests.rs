//! Tests of the routes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::*;

/// A publish of client `client` that came at a known time.
pub(crate) fn record<'a>(topic: &'a str, payload: &'a [u8]) -> PublishRecord<'a> {
    PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        level: Level::Kafka,
        packet_id: 1,
        arrival_ms: 1_763_722_800_000,
        generation: 1,
        routes: RouteIds::new(),
        client_id: "client",
        username: Some("meter"),
        matched: None,
        topic,
        properties: None,
        payload,
    }
}

/// A configuration with these routes.
pub(crate) fn config(routes: Vec<RouteConfig>) -> SinkConfig {
    SinkConfig {
        properties: BTreeMap::from([("bootstrap.servers".into(), "127.0.0.1:9092".into())]),
        routes,
        default_ack: Level::Kafka,
        ..SinkConfig::default()
    }
}

/// A route from `filter` to `topic`.
pub(crate) fn route(filter: &str, topic: &str) -> RouteConfig {
    RouteConfig {
        filter: filter.into(),
        topic: topic.into(),
        ack: Level::Kafka,
        ..RouteConfig::default()
    }
}

fn class(routes: &Routes, topic: &str) -> Class {
    let publisher = Publisher {
        client_id: "client",
        username: None,
    };
    routes.classify(publisher, topic)
}

#[test]
fn several_routes_take_one_publish_and_the_strictest_level_counts() {
    let mut received = route("devices/+/alarm", "alarms");
    received.ack = Level::Received;
    let routes = compile(&config(vec![received, route("devices/{device_id}/#", "all")])).unwrap();
    let both = class(&routes, "devices/d7/alarm");
    assert_eq!((&both.routes[..], both.level), (&[0, 1][..], Level::Kafka));
    assert_eq!(class(&routes, "devices/d7/x").routes[..], [1]);
}

#[test]
fn what_no_route_takes_goes_to_the_default_topic_by_client() {
    let routes = compile(&config(vec![route("devices/{device_id}/#", "t")])).unwrap();
    let none = class(&routes, "other/x");
    assert!(none.routes.is_empty());
    assert_eq!(none.level, Level::Kafka);
    let default = routes.get(DEFAULT).unwrap();
    let mut out = Rendered::default();
    routes.target(default, &record("other/x", b""), &mut out).unwrap();
    assert_eq!(
        (default.literal_topic(), &out.key[..]),
        (Some("mqtt"), &b"client"[..])
    );
}

#[test]
fn a_route_that_does_not_sink_keeps_a_publish_from_the_default_topic_only() {
    let mut quiet = route("debug/#", "");
    quiet.sink = false;
    let mut fast = route("fast/#", "");
    (fast.sink, fast.ack) = (false, Level::Received);
    let mut kept = route("debug/keep", "kept");
    kept.ack = Level::Received;
    let routes = compile(&config(vec![quiet, kept, fast])).unwrap();
    assert_eq!(class(&routes, "debug/x").routes[..], [NOWHERE]);
    // Sessions and retained messages have it, and must have it over a crash.
    assert_eq!(class(&routes, "debug/x").level, Level::Spooled);
    assert_eq!(class(&routes, "fast/x").level, Level::Received);
    assert_eq!(class(&routes, "debug/keep").level, Level::Received);
    assert_eq!(class(&routes, "debug/keep").routes[..], [1]);
    assert_eq!(class(&routes, "$SYS/broker").routes[..], [NOWHERE]);
}

#[test]
fn the_key_is_the_device_where_it_is_captured_else_the_client() {
    let mut keyed = route("k/#", "t");
    keyed.key = Some("{topic[1]}-{qos}".into());
    let routes = compile(&config(vec![
        route("devices/{device_id}/#", "t"),
        route("c/#", "t"),
        keyed,
    ]))
    .unwrap();
    let mut out = Rendered::default();
    for (id, topic, key) in [(0, "devices/d7/x", "d7"), (1, "c/x", "client"), (2, "k/b", "b-1")] {
        routes
            .target(routes.get(id).unwrap(), &record(topic, b""), &mut out)
            .unwrap();
        assert_eq!(out.key, key.as_bytes(), "{topic}");
    }
}

#[test]
fn a_templated_topic_must_be_a_topic_name() {
    let routes = compile(&config(vec![
        route("{site}/#", "data-{site}"),
        route("u/#", "{username}"),
    ]))
    .unwrap();
    let mut out = Rendered::default();
    let site = routes.get(0).unwrap();
    routes.target(site, &record("north/x", b""), &mut out).unwrap();
    assert_eq!(out.topic, b"data-north");
    assert_eq!(
        routes.target(site, &record("no rth/x", b""), &mut out),
        Err(Reject::TopicName)
    );
    let mut nameless = record("u/x", b"");
    nameless.username = None;
    assert_eq!(
        routes.target(routes.get(1).unwrap(), &nameless, &mut out),
        Err(Reject::MissingVariable)
    );
}

#[test]
fn headers_are_the_default_set_or_what_the_route_asks_for() {
    let mut asked = route("b/#", "t");
    asked.headers = Some(vec![
        "mqtt.qos".into(),
        "mqtt.username".into(),
        "mqtt.client_id".into(),
    ]);
    let mut none = route("c/#", "t");
    none.headers = Some(Vec::new());
    let routes = compile(&config(vec![route("a/#", "t"), asked, none])).unwrap();
    let place = Place {
        prefix: b"node/7/",
        sequence: 42,
        several: false,
    };
    let mut out = Rendered::default();
    let record = record("a/x", b"");
    let mut headers = |id: u16| -> Vec<(String, String)> {
        let route = routes.get(id).unwrap();
        routes.body(route, &record, &place, &mut out);
        let headers = routes.headers(route, &record, &out);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)))
            .collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        headers(0),
        [
            pair("mqtt.topic", "a/x"),
            pair("forebay.position", "node/7/00000000000000000042")
        ]
    );
    assert_eq!(
        headers(1),
        [
            pair("mqtt.qos", "1"),
            pair("mqtt.client_id", "client"),
            pair("mqtt.username", "meter")
        ]
    );
    assert!(headers(2).is_empty());
}

#[test]
fn what_an_mqtt_5_publish_carries_are_headers() {
    use forebay_broker::codec::property::PropertiesBuf;
    let mut properties = PropertiesBuf::new();
    for property in [
        Property::ContentType("text/plain"),
        Property::MessageExpiryInterval(7),
        Property::UserProperty("site", "north"),
        Property::UserProperty("forebay.position", "forged"),
        Property::UserProperty("site", "south"),
        Property::CorrelationData(&[0, 255]),
        Property::ResponseTopic("answers/7"),
    ] {
        assert!(properties.push(property));
    }
    let mut few = route("b", "t");
    few.headers = Some(vec!["content-type".into()]);
    let routes = compile(&config(vec![route("a", "t"), few])).unwrap();
    let mut record = record("a", b"");
    record.properties = Some(properties.as_properties().as_bytes());
    let place = Place {
        prefix: b"n/1/",
        sequence: 0,
        several: false,
    };
    let mut out = Rendered::default();
    routes.body(routes.get(0).unwrap(), &record, &place, &mut out);
    let headers = routes.headers(routes.get(0).unwrap(), &record, &out);
    let expected: [Header<'_>; 6] = [
        ("content-type", b"text/plain"),
        ("site", b"north"),
        ("user.forebay.position", b"forged"),
        ("site", b"south"),
        ("correlation-data", &[0, 255]),
        ("response-topic", b"answers/7"),
    ];
    assert_eq!(headers[2..], expected);
    drop(headers);
    routes.body(routes.get(1).unwrap(), &record, &place, &mut out);
    let headers = routes.headers(routes.get(1).unwrap(), &record, &out);
    assert_eq!(headers[..], expected[..1]);
}

#[test]
fn the_position_names_the_route_where_several_took_it() {
    let mut named = route("a/#", "t");
    named.name = "alarms".into();
    let routes = compile(&config(vec![named])).unwrap();
    let mut out = Rendered::default();
    let place = Place {
        prefix: b"n/1/",
        sequence: u64::MAX,
        several: true,
    };
    routes.body(routes.get(0).unwrap(), &record("a", b""), &place, &mut out);
    assert_eq!(out.position, b"n/1/18446744073709551615/alarms");
}

#[test]
fn an_empty_payload_is_an_empty_value_or_a_tombstone() {
    let mut null = route("b", "t");
    null.empty = Empty::Null;
    let routes = compile(&config(vec![route("a", "t"), null])).unwrap();
    let place = Place {
        prefix: b"",
        sequence: 0,
        several: false,
    };
    let mut out = Rendered::default();
    for (id, payload, expected) in [
        (0, &b""[..], Some(&b""[..])),
        (1, b"", None),
        (1, b"x", Some(b"x")),
    ] {
        let record = record("a", payload);
        routes.body(routes.get(id).unwrap(), &record, &place, &mut out);
        assert_eq!(out.value(&record), expected);
    }
}

#[test]
fn a_closed_route_holds_back_its_own_publishers_only() {
    let routes = compile(&config(vec![route("a/#", "t"), route("b/#", "u")])).unwrap();
    assert!(routes.set_closed(0, true));
    assert!(!routes.set_closed(0, true), "no change");
    assert!(!routes.is_open(&class(&routes, "a/x")));
    assert!(routes.is_open(&class(&routes, "b/x")));
    assert!(routes.is_open(&class(&routes, "c")));
    routes.set_closed(DEFAULT, true);
    assert!(!routes.is_open(&class(&routes, "c")));
    assert!(routes.set_closed(0, false));
    assert!(routes.is_open(&class(&routes, "a/x")));
}

#[test]
fn a_record_of_another_table_is_matched_again() {
    let routes = compile(&config(vec![route("a/#", "t")])).unwrap();
    let mut old = record("a/x", b"");
    old.generation = 9;
    old.routes = RouteIds::from_slice(&[7]);
    assert_eq!(routes.matched(&old)[..], [0]);
}
