//! Fixed header (section 2.1): packet types, reserved bits, remaining length.

use super::{ALL, SINCE_311, Table, V3, V5, V31, V311, frame};
use crate::codec::{Ack, Packet, Properties, Publish, QoS, Reason};

pub(super) fn add(table: &mut Table) {
    types(table);
    flags(table);
    length(table);
}

fn types(table: &mut Table) {
    for version in ALL {
        table.good("pingreq", version, vec![0xC0, 0], Packet::Pingreq);
        table.good("pingresp", version, vec![0xD0, 0], Packet::Pingresp);
    }
    table.malformed("no bytes", &ALL, b"");
    table.malformed("type 0", &ALL, b"\x00\x00");
    table.malformed("type 0 with a body", &ALL, b"\x00\x02\x00\x01");
    table.malformed("auth in 3.x", &V3, b"\xF0\x00");
    table.malformed("auth with a reason in 3.x", &V3, b"\xF0\x02\x18\x00");
    table.malformed("pingreq with a body", &ALL, b"\xC0\x01\x00");
    table.malformed("pingresp with a body", &ALL, b"\xD0\x01\x00");
}

fn flags(table: &mut Table) {
    // Every packet but PUBLISH has one value of the flags [MQTT-2.1.3-1].
    let bodies: [(u8, &str, &[u8]); 9] = [
        (0x20, "connack", b"\x00\x00"),
        (0x40, "puback", b"\x00\x01"),
        (0x50, "pubrec", b"\x00\x01"),
        (0x70, "pubcomp", b"\x00\x01"),
        (0x90, "suback", b"\x00\x01\x00"),
        (0xB0, "unsuback", b"\x00\x01"),
        (0xC0, "pingreq", b""),
        (0xD0, "pingresp", b""),
        (0xE0, "disconnect", b""),
    ];
    for (first, name, body) in bodies {
        for bit in [0x01, 0x02, 0x04, 0x08] {
            let name = format!("{name} with reserved bit {bit:#x}");
            table.malformed(&name, &ALL, &frame(first | bit, &[body]));
        }
    }
    let twos: [(u8, &str, &[u8]); 3] = [
        (0x60, "pubrel", b"\x00\x01"),
        (0x80, "subscribe", b"\x00\x01\x00\x01a\x00"),
        (0xA0, "unsubscribe", b"\x00\x01\x00\x01a"),
    ];
    for (first, name, body) in twos {
        for bits in [0x00, 0x01, 0x03, 0x04, 0x06, 0x0F] {
            let name = format!("{name} with flags {bits:#x}");
            table.malformed(&name, &ALL, &frame(first | bits, &[body]));
        }
        let name = format!("{name} with DUP");
        table.malformed(&name, &SINCE_311, &frame(first | 0x0A, &[body]));
    }
    table.malformed("auth with flags", &[V5], b"\xF1\x00");
    table.read(
        "pubrel with DUP, as 3.1 sends it again",
        V31,
        b"\x6A\x02\x00\x01".to_vec(),
        Packet::Pubrel(Ack {
            packet_id: super::id(1),
            reason: Reason::Success,
            properties: Properties::EMPTY,
        }),
    );
}

fn length(table: &mut Table) {
    table.malformed("remaining length is missing", &ALL, b"\xC0");
    table.malformed("remaining length is cut off", &ALL, b"\x30\x80");
    table.malformed(
        "remaining length of five bytes",
        &ALL,
        b"\x30\x80\x80\x80\x80\x01",
    );
    table.malformed(
        "remaining length of four bytes that goes on",
        &ALL,
        b"\x30\xFF\xFF\xFF\xFF",
    );
    table.malformed(
        "body is shorter than the remaining length",
        &ALL,
        b"\x30\x06\x00\x01a12",
    );
    table.malformed(
        "body is longer than the remaining length",
        &ALL,
        b"\x40\x02\x00\x01\x00",
    );
    table.malformed("pingreq with an overlong length", &[V5], b"\xC0\x80\x00");
    table.malformed(
        "publish with an overlong length",
        &[V5],
        b"\x30\x84\x00\x00\x01a\x00",
    );
    for version in V3 {
        // 3.1 and 3.1.1 do not ask for the shortest form.
        table.read(
            "pingreq with an overlong length",
            version,
            vec![0xC0, 0x80, 0x00],
            Packet::Pingreq,
        );
    }
    for payload_len in [
        0usize, 122, 123, 124, 127, 128, 16_377, 16_380, 16_381, 70_000, 2_097_148, 2_097_149,
    ] {
        let payload = super::leak(vec![b'x'; payload_len]);
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a",
            packet_id: None,
            payload,
            properties: Properties::EMPTY,
        });
        let name = format!("publish with {payload_len} bytes of payload");
        table.good(&name, V311, frame(0x30, &[b"\x00\x01a", payload]), packet.clone());
        table.good(&name, V5, frame(0x30, &[b"\x00\x01a\x00", payload]), packet);
    }
}
