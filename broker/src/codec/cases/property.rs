//! Every property in every place, once and twice (table 2-4), and identifiers that do not exist.

use super::{Table, V5, frame};
use crate::codec::{Place, Reason};

/// Each property with a right value, and where table 2-4 allows it. The user property, allowed everywhere, has its own
/// cases.
const PROPERTIES: [(&str, &[u8], &[Place]); 26] = [
    ("payload format indicator", b"\x01\x01", MESSAGE),
    ("message expiry interval", b"\x02\x00\x00\x00\x01", MESSAGE),
    ("content type", b"\x03\x00\x01t", MESSAGE),
    ("response topic", b"\x08\x00\x01t", MESSAGE),
    ("correlation data", b"\x09\x00\x01t", MESSAGE),
    (
        "subscription identifier",
        b"\x0B\x01",
        &[Place::Publish, Place::Subscribe],
    ),
    (
        "session expiry interval",
        b"\x11\x00\x00\x00\x01",
        &[Place::Connect, Place::Connack, Place::Disconnect],
    ),
    ("assigned client identifier", b"\x12\x00\x01c", &[Place::Connack]),
    ("server keep alive", b"\x13\x00\x01", &[Place::Connack]),
    (
        "authentication method",
        b"\x15\x00\x01m",
        &[Place::Connect, Place::Connack, Place::Auth],
    ),
    (
        "authentication method and data",
        b"\x15\x00\x01m\x16\x00\x01d",
        &[Place::Connect, Place::Connack, Place::Auth],
    ),
    ("request problem information", b"\x17\x01", &[Place::Connect]),
    ("will delay interval", b"\x18\x00\x00\x00\x01", &[Place::Will]),
    ("request response information", b"\x19\x01", &[Place::Connect]),
    ("response information", b"\x1A\x00\x01r", &[Place::Connack]),
    (
        "server reference",
        b"\x1C\x00\x01s",
        &[Place::Connack, Place::Disconnect],
    ),
    (
        "reason string",
        b"\x1F\x00\x01r",
        &[
            Place::Connack,
            Place::Puback,
            Place::Pubrec,
            Place::Pubrel,
            Place::Pubcomp,
            Place::Suback,
            Place::Unsuback,
            Place::Disconnect,
            Place::Auth,
        ],
    ),
    (
        "receive maximum",
        b"\x21\x00\x01",
        &[Place::Connect, Place::Connack],
    ),
    (
        "topic alias maximum",
        b"\x22\x00\x01",
        &[Place::Connect, Place::Connack],
    ),
    ("topic alias", b"\x23\x00\x01", &[Place::Publish]),
    ("maximum QoS", b"\x24\x01", &[Place::Connack]),
    ("retain available", b"\x25\x01", &[Place::Connack]),
    (
        "maximum packet size",
        b"\x27\x00\x00\x00\x01",
        &[Place::Connect, Place::Connack],
    ),
    ("wildcard subscription available", b"\x28\x01", &[Place::Connack]),
    (
        "subscription identifier available",
        b"\x29\x01",
        &[Place::Connack],
    ),
    ("shared subscription available", b"\x2A\x01", &[Place::Connack]),
];

const MESSAGE: &[Place] = &[Place::Publish, Place::Will];

/// Each place with its packet: first byte, what stands before the properties, what behind.
const PLACES: [(Place, u8, &[u8], &[u8]); 14] = [
    (
        Place::Connect,
        0x10,
        b"\x00\x04MQTT\x05\x02\x00\x3C",
        b"\x00\x02d7",
    ),
    (
        Place::Will,
        0x10,
        b"\x00\x04MQTT\x05\x06\x00\x3C\x00\x00\x02d7",
        b"\x00\x01w\x00\x00",
    ),
    (Place::Connack, 0x20, b"\x00\x00", b""),
    (Place::Publish, 0x30, b"\x00\x01a", b"x"),
    (Place::Puback, 0x40, b"\x00\x01\x00", b""),
    (Place::Pubrec, 0x50, b"\x00\x01\x00", b""),
    (Place::Pubrel, 0x62, b"\x00\x01\x00", b""),
    (Place::Pubcomp, 0x70, b"\x00\x01\x00", b""),
    (Place::Subscribe, 0x82, b"\x00\x01", b"\x00\x01a\x00"),
    (Place::Suback, 0x90, b"\x00\x01", b"\x00"),
    (Place::Unsubscribe, 0xA2, b"\x00\x01", b"\x00\x01a"),
    (Place::Unsuback, 0xB0, b"\x00\x01", b"\x00"),
    (Place::Disconnect, 0xE0, b"\x00", b""),
    (Place::Auth, 0xF0, b"\x18", b""),
];

pub(super) fn add(table: &mut Table) {
    for (place, first, before, behind) in PLACES {
        let with = |raw: &[u8]| frame(first, &[before, &[raw.len() as u8], raw, behind]);
        for (name, raw, allowed) in PROPERTIES {
            if !allowed.contains(&place) {
                let name = format!("{name} in {place:?}");
                table.malformed(&name, &[V5], &with(raw));
                continue;
            }
            // Right ones stand in the packet's own file; here: not twice, and not cut off.
            let many = name == "subscription identifier" && place == Place::Publish;
            if !many {
                let name = format!("{name} twice in {place:?}");
                table.forbidden(&name, &[V5], &with(&[raw, raw].concat()));
            }
            let short = raw.get(..raw.len() - 1).unwrap_or_default();
            table.malformed(&format!("{name} cut off in {place:?}"), &[V5], &with(short));
        }
        texts(table, place, &with);
        lengths(table, place, first, before, behind);
        for unknown in [
            0x00, 0x04, 0x0A, 0x10, 0x14, 0x1B, 0x1D, 0x20, 0x2B, 0x7F, 0x80, 0xFF,
        ] {
            let name = format!("unknown property {unknown:#04x} in {place:?}");
            table.bad(
                &name,
                &[V5],
                &with(&[unknown, 0x00, 0x00]),
                Reason::MalformedPacket,
            );
        }
    }
}

/// Properties whose value is text, and of the user property both; binary data may be anything.
const TEXTS: [(&str, u8, &[Place]); 8] = [
    ("content type", 0x03, MESSAGE),
    ("response topic", 0x08, MESSAGE),
    (
        "authentication method",
        0x15,
        &[Place::Connect, Place::Connack, Place::Auth],
    ),
    ("assigned client identifier", 0x12, &[Place::Connack]),
    ("response information", 0x1A, &[Place::Connack]),
    ("server reference", 0x1C, &[Place::Connack, Place::Disconnect]),
    (
        "reason string",
        0x1F,
        &[
            Place::Connack,
            Place::Puback,
            Place::Pubrec,
            Place::Pubrel,
            Place::Pubcomp,
            Place::Suback,
            Place::Unsuback,
            Place::Disconnect,
            Place::Auth,
        ],
    ),
    ("user property", 0x26, &[]),
];

/// Text with what no string may hold [MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-1.5.7-1].
fn texts(table: &mut Table, place: Place, with: &dyn Fn(&[u8]) -> Vec<u8>) {
    let broken: [(&str, &[u8]); 4] = [
        ("U+0000", b"\x00\x02a\x00"),
        ("a surrogate", b"\x00\x03\xED\xA0\x80"),
        ("bytes that are not UTF-8", b"\x00\x02a\xFF"),
        ("a length behind its end", b"\x00\x09ab"),
    ];
    for (name, id, places) in TEXTS {
        if id == 0x26 {
            for (fault, text) in broken {
                let value = [&[id] as &[u8], b"\x00\x01n", text].concat();
                let first = [&[id] as &[u8], text, b"\x00\x01v"].concat();
                table.malformed(
                    &format!("{fault} in the value of a {name} in {place:?}"),
                    &[V5],
                    &with(&value),
                );
                table.malformed(
                    &format!("{fault} in the name of a {name} in {place:?}"),
                    &[V5],
                    &with(&first),
                );
            }
            table.malformed(
                &format!("{name} without a value in {place:?}"),
                &[V5],
                &with(b"\x26\x00\x01n"),
            );
        } else if places.contains(&place) {
            for (fault, text) in broken {
                let raw = [&[id] as &[u8], text].concat();
                table.malformed(&format!("{fault} in the {name} in {place:?}"), &[V5], &with(&raw));
            }
        }
    }
}

/// A property length that is not the length of the properties.
fn lengths(table: &mut Table, place: Place, first: u8, before: &[u8], behind: &[u8]) {
    const ONE: &[u8] = b"\x26\x00\x01a\x00\x01b";
    let mut bad = |name: &str, length: &[u8]| {
        let bytes = frame(first, &[before, length, ONE, behind]);
        table.malformed(&format!("property length {name} in {place:?}"), &[V5], &bytes);
    };
    bad("that is overlong", b"\x87\x00");
    bad("of five bytes", b"\x87\x80\x80\x80\x00");
    bad("that goes on", b"\xFF\xFF\xFF\xFF");
    bad("behind the packet's end", b"\x7F");
    bad("inside a property", b"\x05");
}
