//! PUBLISH (section 3.3).

use super::{ALL, Table, V3, V5, frame, id, leak, props};
use crate::codec::{Packet, Properties, Publish, QoS, Reason, Version};

fn publish(topic: &'static str, payload: &'static [u8]) -> Publish<'static> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        payload,
        properties: Properties::EMPTY,
    }
}

fn pad(version: Version) -> &'static [u8] {
    match version {
        Version::V5 => b"\x00",
        _ => b"",
    }
}

pub(super) fn add(table: &mut Table) {
    for version in ALL {
        headers(table, version);
        topics(table, version);
        cuts(table, version);
    }
    properties(table);
    aliases(table);
}

fn headers(table: &mut Table, version: Version) {
    for (bits, qos) in [
        (0x00, QoS::AtMostOnce),
        (0x02, QoS::AtLeastOnce),
        (0x04, QoS::ExactlyOnce),
    ] {
        for retain in [false, true] {
            for dup in [false, true] {
                let first = 0x30 | bits | u8::from(retain) | u8::from(dup) << 3;
                let packet_id = (qos != QoS::AtMostOnce).then(|| id(0x1234));
                let written: &[u8] = if packet_id.is_some() { b"\x12\x34" } else { b"" };
                let bytes = frame(first, &[b"\x00\x03a/b", written, pad(version), b"21.5"]);
                let name = format!("publish with first byte {first:#x}");
                if dup && packet_id.is_none() {
                    table.malformed(&name, &[version], &bytes);
                    continue;
                }
                let packet = Publish {
                    dup,
                    qos,
                    retain,
                    packet_id,
                    ..publish("a/b", b"21.5")
                };
                table.good(&name, version, bytes, Packet::Publish(packet));
            }
        }
    }
    for first in [0x36, 0x37, 0x3E, 0x3F] {
        let bytes = frame(first, &[b"\x00\x01a\x00\x01", pad(version)]);
        table.malformed(
            &format!("publish at QoS 3, first byte {first:#x}"),
            &[version],
            &bytes,
        );
    }
    for first in [0x32, 0x34, 0x3A] {
        let bytes = frame(first, &[b"\x00\x01a\x00\x00", pad(version), b"x"]);
        table.forbidden(
            &format!("publish with packet id 0, first byte {first:#x}"),
            &[version],
            &bytes,
        );
    }
    for number in [1u16, 255, 256, 65_535] {
        let packet = Publish {
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(number)),
            ..publish("a", b"")
        };
        let bytes = frame(0x32, &[b"\x00\x01a", &number.to_be_bytes(), pad(version)]);
        table.good(
            &format!("publish with packet id {number}"),
            version,
            bytes,
            Packet::Publish(packet),
        );
    }
}

fn topics(table: &mut Table, version: Version) {
    let long = leak(vec![b't'; 65_535]);
    let names = [
        "a",
        "/",
        "//",
        "/a/",
        " ",
        "$SYS/broker",
        "$share/g/a",
        "devices/d7/telemetry",
        "gerät/größe",
        "温度/𝄞",
        "\u{A0}no control",
        "\u{FEFF}bom",
        "eight by8",
        "sixteen/bytes/ab",
        std::str::from_utf8(long).unwrap_or_default(),
    ];
    for (index, name) in names.into_iter().enumerate() {
        let len = (name.len() as u16).to_be_bytes();
        let bytes = frame(0x30, &[&len, name.as_bytes(), pad(version), b"x"]);
        table.good(
            &format!("publish to good topic {index}"),
            version,
            bytes,
            Packet::Publish(publish(name, b"x")),
        );
    }
    let invalid = [
        "+",
        "#",
        "a/+",
        "a/#",
        "a+",
        "#a",
        "+/a",
        "1234567+",
        "12345678#",
        "1234567812345678+",
        "a#b",
        "ä/+",
    ];
    for name in invalid {
        let len = (name.len() as u16).to_be_bytes();
        let bytes = frame(0x30, &[&len, name.as_bytes(), pad(version), b"x"]);
        table.bad(
            &format!("publish to {name}"),
            &[version],
            &bytes,
            Reason::MalformedPacket,
        );
    }
    let broken: [(&str, &[u8]); 17] = [
        ("U+0001", b"to\x01p"),
        ("U+001F", b"12345678\x1F"),
        ("U+007F", b"to\x7Fp"),
        ("U+0085", b"a\xC2\x85"),
        ("U+009F", b"to\xC2\x9F"),
        ("U+FDD0", b"\xEF\xB7\x90"),
        ("U+FFFF", b"to\xEF\xBF\xBF"),
        ("U+0000", b"\x00"),
        ("U+0000 at the end", b"12345678\x00"),
        ("U+0000 in the eighth place", b"1234567\x00"),
        ("U+0000 at the start", b"\x0012345678"),
        ("a lone continuation byte", b"a\x80"),
        ("a surrogate", b"\xED\xA0\x80"),
        ("an overlong NUL", b"\xC0\x80"),
        ("an overlong slash", b"\xE0\x80\xAF"),
        ("a byte that UTF-8 never has", b"12345678\xFE"),
        ("half a character", b"1234567\xE6\xB8"),
    ];
    for (name, topic) in broken {
        let len = (topic.len() as u16).to_be_bytes();
        let bytes = frame(0x30, &[&len, topic, pad(version), b"x"]);
        table.malformed(&format!("publish to a topic with {name}"), &[version], &bytes);
    }
}

fn cuts(table: &mut Table, version: Version) {
    table.malformed("publish without a body", &[version], b"\x30\x00");
    table.malformed("publish with half a topic length", &[version], b"\x30\x01\x00");
    table.malformed(
        "publish with a topic that is cut off",
        &[version],
        b"\x30\x03\x00\x02a",
    );
    table.malformed("publish without a packet id", &[version], b"\x32\x03\x00\x01a");
    table.malformed(
        "publish with half a packet id",
        &[version],
        b"\x32\x04\x00\x01a\x00",
    );
    let bytes = frame(0x30, &[b"\x00\x01a", pad(version)]);
    table.good(
        "publish without a payload",
        version,
        bytes,
        Packet::Publish(publish("a", b"")),
    );
    let bytes = frame(0x30, &[b"\x00\x01a", pad(version), b"\x00\xFF\x80"]);
    table.good(
        "publish with a payload of any bytes",
        version,
        bytes,
        Packet::Publish(publish("a", b"\x00\xFF\x80")),
    );
}

fn with(raw: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(0x32, &[b"\x00\x01a\x00\x07", &[raw.len() as u8], raw, payload])
}

fn properties(table: &mut Table) {
    let mut good = |name: &str, raw: &'static [u8]| {
        let packet = Publish {
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(7)),
            properties: props(raw),
            ..publish("a", b"x")
        };
        table.good(name, V5, with(raw, b"x"), Packet::Publish(packet));
    };
    good(
        "publish with every property",
        b"\x01\x01\x02\x00\x00\x00\x3C\x23\x00\x05\x08\x00\x01r\x09\x00\x03\x00\x01\x02\x26\x00\x01a\x00\x01b\
          \x0B\x01\x0B\xFF\xFF\xFF\x7F\x03\x00\x10application/json",
    );
    good(
        "publish with user properties of one name",
        b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01c",
    );
    good("publish with an empty user property", b"\x26\x00\x00\x00\x00");
    good("publish with empty correlation data", b"\x09\x00\x00");
    good("publish with an empty content type", b"\x03\x00\x00");
    good("publish with message expiry 0", b"\x02\x00\x00\x00\x00");
    good("publish of bytes", b"\x01\x00");
    good(
        "publish with two subscription identifiers",
        b"\x0B\x80\x01\x0B\x02",
    );
    let mut bad = |name: &str, raw: &[u8], reason| table.bad(name, &[V5], &with(raw, b""), reason);
    let malformed = Reason::MalformedPacket;
    let forbidden = Reason::ProtocolError;
    bad("publish with payload format 2", b"\x01\x02", forbidden);
    bad("publish with subscription identifier 0", b"\x0B\x00", forbidden);
    bad(
        "publish with topic alias 0",
        b"\x23\x00\x00",
        Reason::TopicAliasInvalid,
    );
    bad(
        "publish with + in the response topic",
        b"\x08\x00\x01+",
        Reason::MalformedPacket,
    );
    bad(
        "publish with # in the response topic",
        b"\x08\x00\x03a/#",
        Reason::MalformedPacket,
    );
    bad(
        "publish with an empty response topic",
        b"\x08\x00\x00",
        Reason::MalformedPacket,
    );
    bad(
        "publish with a subscription identifier of five bytes",
        b"\x0B\x80\x80\x80\x80\x01",
        malformed,
    );
    bad(
        "publish with an overlong subscription identifier",
        b"\x0B\x81\x00",
        malformed,
    );
    bad(
        "publish with a subscription identifier that is cut off",
        b"\x0B\x81",
        malformed,
    );
    bad(
        "publish with a message expiry that is cut off",
        b"\x02\x00\x00\x00",
        malformed,
    );
    bad(
        "publish with a content type that is cut off",
        b"\x03\x00\x05text",
        malformed,
    );
    bad(
        "publish with a content type that is not UTF-8",
        b"\x03\x00\x01\xFF",
        malformed,
    );
    bad(
        "publish with U+0000 in the content type",
        b"\x03\x00\x01\x00",
        malformed,
    );
    bad(
        "publish with a user property without a value",
        b"\x26\x00\x01a",
        malformed,
    );
    bad(
        "publish with a user property that is not UTF-8",
        b"\x26\x00\x01a\x00\x01\xFF",
        malformed,
    );
    bad(
        "publish with U+0000 in a user property's name",
        b"\x26\x00\x01\x00\x00\x01b",
        malformed,
    );
    bad("publish with a property's id and no value", b"\x01", malformed);
    table.malformed("publish without properties", &[V5], b"\x30\x03\x00\x01a");
    table.malformed(
        "publish whose property length is too great",
        &[V5],
        b"\x30\x05\x00\x01a\x02x",
    );
    table.malformed(
        "publish with an overlong property length",
        &[V5],
        b"\x30\x05\x00\x01a\x80\x00",
    );
    table.malformed(
        "publish with a property length of five bytes",
        &[V5],
        b"\x30\x08\x00\x01a\x80\x80\x80\x80\x01",
    );
}

fn aliases(table: &mut Table) {
    let packet = Publish {
        properties: props(b"\x23\x00\x01"),
        ..publish("", b"x")
    };
    table.good(
        "publish to a topic alias",
        V5,
        frame(0x30, &[b"\x00\x00\x03\x23\x00\x01x"]),
        Packet::Publish(packet),
    );
    table.forbidden(
        "publish to no topic and no alias",
        &[V5],
        b"\x30\x04\x00\x00\x00x",
    );
    table.forbidden(
        "publish to no topic and other properties",
        &[V5],
        b"\x30\x06\x00\x00\x02\x01\x00x",
    );
    table.bad(
        "publish to no topic",
        &V3,
        b"\x30\x03\x00\x00x",
        Reason::MalformedPacket,
    );
    table.bad(
        "publish at QoS 1 to no topic",
        &V3,
        b"\x32\x05\x00\x00\x00\x01x",
        Reason::MalformedPacket,
    );
}
