//! SUBSCRIBE (section 3.8).

use super::{ALL, Table, V3, V5, V31, V311, frame, id, props};
use crate::codec::{Packet, Properties, QoS, Reason, RetainHandling, Subscribe, Subscription, Version};

fn subscription(filter: &'static str, qos: QoS) -> Subscription<'static> {
    Subscription {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

fn packet(filters: Vec<Subscription<'static>>) -> Packet<'static> {
    Packet::Subscribe(Subscribe {
        packet_id: id(10),
        filters,
        properties: Properties::EMPTY,
    })
}

/// A SUBSCRIBE with packet id 10 and this payload.
fn bytes(version: Version, payload: &[u8]) -> Vec<u8> {
    let pad: &[u8] = if version == V5 { b"\x00" } else { b"" };
    frame(0x82, &[b"\x00\x0A", pad, payload])
}

fn one(version: Version, filter: &str, options: u8) -> Vec<u8> {
    let len = (filter.len() as u16).to_be_bytes();
    bytes(version, &[&len, filter.as_bytes(), &[options]].concat())
}

const GOOD: [&str; 16] = [
    "a",
    "/",
    "#",
    "+",
    "a/#",
    "/#",
    "+/+",
    "+/#",
    "a/+/b",
    "a/+/#",
    "$SYS/#",
    "$share/g/a",
    "$share/g/#",
    "$share/g//",
    "$share",
    "gerät/+",
];

pub(super) const BAD: [&str; 25] = [
    "",
    "a#",
    "#a",
    "#/a",
    "a/#/b",
    "##",
    "a+",
    "+a",
    "a/b+/c",
    "++",
    "$share/",
    "$share/g",
    "$share/g/",
    "$share//a",
    "$share/+/a",
    "$share/#/a",
    "$share/g#/a",
    "$share/g+/a",
    "$share/g/a#",
    "$share/g/#/a",
    "$share/g/a+/b",
    "a/+b",
    "+#",
    "#+",
    "a/##",
];

/// What is wrong with one of [`BAD`]: its form, or only that it is no share.
pub(super) fn fault(filter: &str) -> Reason {
    match filter {
        "$share/" | "$share/g" | "$share/g/" | "$share//a" | "$share/+/a" => Reason::ProtocolError,
        _ => Reason::MalformedPacket,
    }
}

pub(super) fn add(table: &mut Table) {
    for version in ALL {
        filters(table, version);
        texts(table, version);
    }
    options(table);
    properties(table);
}

fn filters(table: &mut Table, version: Version) {
    for filter in GOOD {
        let expected = packet(vec![subscription(filter, QoS::AtLeastOnce)]);
        table.good(
            &format!("subscribe to {filter}"),
            version,
            one(version, filter, 1),
            expected,
        );
    }
    for filter in BAD {
        let name = format!("subscribe to {filter:?}");
        table.bad(&name, &[version], &one(version, filter, 1), fault(filter));
    }
    let three = packet(vec![
        subscription("a", QoS::AtMostOnce),
        subscription("b/+", QoS::AtLeastOnce),
        subscription("c/#", QoS::ExactlyOnce),
    ]);
    let written = bytes(version, b"\x00\x01a\x00\x00\x03b/+\x01\x00\x03c/#\x02");
    table.good("subscribe to three filters", version, written, three);
    let twice = packet(vec![
        subscription("a", QoS::AtMostOnce),
        subscription("a", QoS::AtLeastOnce),
    ]);
    table.good(
        "subscribe twice to one filter",
        version,
        bytes(version, b"\x00\x01a\x00\x00\x01a\x01"),
        twice,
    );
    let many = packet(vec![subscription("a", QoS::AtMostOnce); 5_000]);
    table.good(
        "subscribe to 5,000 filters",
        version,
        bytes(version, &b"\x00\x01a\x00".repeat(5_000)),
        many,
    );
    let second = bytes(version, b"\x00\x01a\x00\x00\x02b#\x01");
    table.malformed("subscribe whose second filter is wrong", &[version], &second);
}

fn texts(table: &mut Table, version: Version) {
    table.forbidden("subscribe to nothing", &[version], &bytes(version, b""));
    let mut bad = |name: &str, payload: &[u8]| table.malformed(name, &[version], &bytes(version, payload));
    bad("subscribe without options", b"\x00\x01a");
    bad(
        "subscribe whose second options are missing",
        b"\x00\x01a\x00\x00\x01b",
    );
    bad("subscribe with a filter that is cut off", b"\x00\x05a\x00");
    bad("subscribe with half a filter length", b"\x00");
    bad("subscribe with U+0000 in the filter", b"\x00\x02a\x00\x01");
    bad("subscribe with a filter that is not UTF-8", b"\x00\x02a\xFF\x01");
    bad("subscribe with U+0001 in the filter", b"\x00\x02a\x01\x01");
    bad("subscribe with U+009F in the filter", b"\x00\x03a\xC2\x9F\x01");
    bad("subscribe with U+FFFF in the filter", b"\x00\x03\xEF\xBF\xBF\x01");
    bad(
        "subscribe with a surrogate in the filter",
        b"\x00\x03\xED\xBF\xBF\x01",
    );
    table.malformed("subscribe without a body", &[version], b"\x82\x00");
    table.malformed("subscribe with half an id", &[version], b"\x82\x01\x00");
    let zero = frame(
        0x82,
        &[
            b"\x00\x00",
            if version == V5 { b"\x00" } else { b"" },
            b"\x00\x01a\x00",
        ],
    );
    table.malformed("subscribe with id 0", &[version], &zero);
}

fn options(table: &mut Table) {
    table.malformed("subscribe at QoS 3", &V3, &one(V311, "a", 3));
    table.forbidden("subscribe at QoS 3", &[V5], &one(V5, "a", 3));
    for bit in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        table.malformed(
            &format!("subscribe with option bit {bit:#x}"),
            &[V311],
            &one(V311, "a", bit),
        );
        // 3.1 does not use these bits.
        let expected = packet(vec![subscription("a", QoS::AtMostOnce)]);
        table.read(
            &format!("subscribe with option bit {bit:#x}"),
            V31,
            one(V31, "a", bit),
            expected,
        );
    }
    for options in [0x40, 0x80, 0xC0, 0xC1] {
        table.malformed(
            &format!("subscribe with options {options:#x}"),
            &[V5],
            &one(V5, "a", options),
        );
    }
    for options in [0x30, 0x31, 0x3C] {
        table.forbidden(
            &format!("subscribe with retain handling 3, {options:#x}"),
            &[V5],
            &one(V5, "a", options),
        );
    }
    for options in 0..0x30u8 {
        let Ok(qos) = QoS::try_from(options & 3) else {
            continue;
        };
        let expected = Subscription {
            no_local: options & 0x04 != 0,
            retain_as_published: options & 0x08 != 0,
            retain_handling: match options >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
            ..subscription("a", qos)
        };
        let name = format!("subscribe with good options {options:#04x}");
        table.good(&name, V5, one(V5, "a", options), packet(vec![expected]));
    }
    table.forbidden(
        "subscribe with no local to a share",
        &[V5],
        &one(V5, "$share/g/a", 0x05),
    );
}

fn properties(table: &mut Table) {
    const RAW: &[u8] = b"\x0B\xFF\xFF\xFF\x7F\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b";
    table.good(
        "subscribe with properties",
        V5,
        frame(0x82, &[b"\x00\x0A", &[RAW.len() as u8], RAW, b"\x00\x01a\x01"]),
        Packet::Subscribe(Subscribe {
            packet_id: id(10),
            filters: vec![subscription("a", QoS::AtLeastOnce)],
            properties: props(RAW),
        }),
    );
    let with = |raw: &[u8]| frame(0x82, &[b"\x00\x0A", &[raw.len() as u8], raw, b"\x00\x01a\x01"]);
    table.forbidden("subscribe with identifier 0", &[V5], &with(b"\x0B\x00"));
    table.forbidden(
        "subscribe with two identifiers",
        &[V5],
        &with(b"\x0B\x01\x0B\x02"),
    );
    table.malformed(
        "subscribe with an identifier of five bytes",
        &[V5],
        &with(b"\x0B\xFF\xFF\xFF\xFF\x01"),
    );
    table.malformed(
        "subscribe whose properties are cut off",
        &[V5],
        b"\x82\x05\x00\x0A\x03\x0B\x01",
    );
    table.malformed("subscribe without properties", &[V5], b"\x82\x02\x00\x0A");
    table.forbidden(
        "subscribe with properties and no filter",
        &[V5],
        b"\x82\x05\x00\x0A\x02\x0B\x01",
    );
}
