//! CONNECT (section 3.1).

use super::{Table, V3, V5, V31, V311, frame, leak, props};
use crate::codec::{Connect, Packet, Properties, QoS, Reason, Version, Will};

const HEAD_31: &[u8] = b"\x00\x06MQIsdp\x03";
const HEAD_311: &[u8] = b"\x00\x04MQTT\x04";
const HEAD_5: &[u8] = b"\x00\x04MQTT\x05";

/// Keep alive of 60 s and, in 5.0, no properties: what stands between flags and client id.
fn middle(version: Version) -> &'static [u8] {
    match version {
        Version::V5 => b"\x00\x3C\x00",
        _ => b"\x00\x3C",
    }
}

fn head(version: Version) -> &'static [u8] {
    match version {
        Version::V31 => HEAD_31,
        Version::V311 => HEAD_311,
        Version::V5 => HEAD_5,
    }
}

/// A CONNECT with these flags and payload.
fn bytes(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x10, &[head(version), &[flags], middle(version), payload])
}

fn plain(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "d7",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn will() -> Will<'static> {
    Will {
        topic: "w",
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::EMPTY,
    }
}

pub(super) fn add(table: &mut Table) {
    for version in super::ALL {
        good(table, version);
        wills(table, version);
        texts(table, version);
        client_ids(table, version);
    }
    versions(table);
    flags(table);
    properties(table);
}

fn good(table: &mut Table, version: Version) {
    let mut good = |name: &str, flags, payload: &[u8], connect: Connect<'static>| {
        table.good(
            name,
            version,
            bytes(version, flags, payload),
            Packet::Connect(connect),
        );
    };
    let plain = plain(version);
    good("connect", 0x02, b"\x00\x02d7", plain.clone());
    let kept = Connect {
        clean_start: false,
        ..plain.clone()
    };
    good("connect to a kept session", 0x00, b"\x00\x02d7", kept.clone());
    let nameless = Connect {
        client_id: "",
        ..plain.clone()
    };
    good("connect without a client id", 0x02, b"\x00\x00", nameless);
    let nameless = Connect {
        client_id: "",
        ..kept
    };
    good(
        "connect without a client id to a kept session",
        0x00,
        b"\x00\x00",
        nameless,
    );
    let user = Connect {
        username: Some("u"),
        ..plain.clone()
    };
    good(
        "connect with a user name",
        0x82,
        b"\x00\x02d7\x00\x01u",
        user.clone(),
    );
    let both = Connect {
        password: Some(b"p\x00\xFF"),
        ..user
    };
    good(
        "connect with a password of any bytes",
        0xC2,
        b"\x00\x02d7\x00\x01u\x00\x03p\x00\xFF",
        both,
    );
    let empty = Connect {
        username: Some(""),
        password: Some(b""),
        ..plain.clone()
    };
    good(
        "connect with an empty user name and password",
        0xC2,
        b"\x00\x02d7\x00\x00\x00\x00",
        empty,
    );
    let umlaut = Connect {
        client_id: "\u{FEFF}gerät-𝄞",
        ..plain.clone()
    };
    good(
        "connect with a client id beyond ASCII",
        0x02,
        b"\x00\x0E\xEF\xBB\xBFger\xC3\xA4t-\xF0\x9D\x84\x9E",
        umlaut,
    );
    let long = std::str::from_utf8(leak(vec![b'c'; 65_535])).unwrap_or_default();
    let longest = Connect {
        client_id: long,
        ..plain.clone()
    };
    good(
        "connect with the longest client id",
        0x02,
        &[b"\xFF\xFF", long.as_bytes()].concat(),
        longest,
    );
    let all = Connect {
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            ..will()
        }),
        username: Some("u"),
        password: Some(b"p"),
        ..plain
    };
    let payload: &[u8] = match version {
        Version::V5 => b"\x00\x02d7\x00\x00\x01w\x00\x04gone\x00\x01u\x00\x01p",
        _ => b"\x00\x02d7\x00\x01w\x00\x04gone\x00\x01u\x00\x01p",
    };
    good("connect with all fields", 0xF6, payload, all);
}

fn wills(table: &mut Table, version: Version) {
    let pad: &[u8] = match version {
        Version::V5 => b"\x00",
        _ => b"",
    };
    let payload = [b"\x00\x02d7", pad, b"\x00\x01w\x00\x04gone"].concat();
    for (flags, qos, retain) in [
        (0x06, QoS::AtMostOnce, false),
        (0x0E, QoS::AtLeastOnce, false),
        (0x16, QoS::ExactlyOnce, false),
        (0x26, QoS::AtMostOnce, true),
        (0x2E, QoS::AtLeastOnce, true),
        (0x36, QoS::ExactlyOnce, true),
    ] {
        let connect = Connect {
            will: Some(Will {
                qos,
                retain,
                ..will()
            }),
            ..plain(version)
        };
        let name = format!("connect with a will, flags {flags:#x}");
        table.good(
            &name,
            version,
            bytes(version, flags, &payload),
            Packet::Connect(connect),
        );
    }
    let empty = Connect {
        will: Some(Will {
            payload: b"",
            ..will()
        }),
        ..plain(version)
    };
    let payload_empty = [b"\x00\x02d7", pad, b"\x00\x01w\x00\x00"].concat();
    table.good(
        "connect with an empty will",
        version,
        bytes(version, 0x06, &payload_empty),
        Packet::Connect(empty),
    );
    let mut bad = |name: &str, flags, payload: &[&[u8]], reason| {
        let payload = [b"\x00\x02d7", pad, &payload.concat()].concat();
        table.bad(name, &[version], &bytes(version, flags, &payload), reason);
    };
    let name_invalid = Reason::MalformedPacket;
    let malformed = Reason::MalformedPacket;
    bad(
        "connect with a will at QoS 3",
        0x1E,
        &[b"\x00\x01w\x00\x00"],
        malformed,
    );
    bad(
        "connect with a will topic with +",
        0x06,
        &[b"\x00\x03w/+\x00\x00"],
        name_invalid,
    );
    bad(
        "connect with a will topic with #",
        0x06,
        &[b"\x00\x01#\x00\x00"],
        name_invalid,
    );
    bad(
        "connect with an empty will topic",
        0x06,
        &[b"\x00\x00\x00\x00"],
        name_invalid,
    );
    bad(
        "connect with U+0000 in the will topic",
        0x06,
        &[b"\x00\x02w\x00\x00\x00"],
        malformed,
    );
    bad(
        "connect with U+001F in the will topic",
        0x06,
        &[b"\x00\x02w\x1F\x00\x00"],
        malformed,
    );
    bad(
        "connect with a will topic that is not UTF-8",
        0x06,
        &[b"\x00\x02w\xC0\x00\x00"],
        malformed,
    );
    bad("connect whose will is missing", 0x06, &[b""], malformed);
    bad(
        "connect whose will payload is missing",
        0x06,
        &[b"\x00\x01w"],
        malformed,
    );
    bad(
        "connect whose will payload is cut off",
        0x06,
        &[b"\x00\x01w\x00\x05gone"],
        malformed,
    );
}

fn texts(table: &mut Table, version: Version) {
    let mut bad = |name: &str, flags, payload: &[u8]| {
        table.malformed(name, &[version], &bytes(version, flags, payload));
    };
    bad("connect without a client id's length", 0x02, b"");
    bad("connect with half a client id's length", 0x02, b"\x00");
    bad("connect with a client id that is cut off", 0x02, b"\x00\x03d7");
    bad("connect with a byte behind its end", 0x02, b"\x00\x02d7\x00");
    bad(
        "connect with a user name that is not announced",
        0x02,
        b"\x00\x02d7\x00\x01u",
    );
    bad(
        "connect with U+0000 in the user name",
        0x82,
        b"\x00\x02d7\x00\x01\x00",
    );
    bad(
        "connect with a user name that is not UTF-8",
        0x82,
        b"\x00\x02d7\x00\x01\xFF",
    );
    bad(
        "connect with U+0001 in the user name",
        0x82,
        b"\x00\x02d7\x00\x02u\x01",
    );
    bad(
        "connect with U+007F in the user name",
        0x82,
        b"\x00\x02d7\x00\x02\x7Fu",
    );
    bad(
        "connect with a user name that is cut off",
        0x82,
        b"\x00\x02d7\x00\x02u",
    );
    bad(
        "connect with a password that is cut off",
        0xC2,
        b"\x00\x02d7\x00\x01u\x00\x02p",
    );
}

/// Client identifiers that are none: 5.0 has a reason of its own for them.
fn client_ids(table: &mut Table, version: Version) {
    let reason = match version {
        Version::V5 => Reason::ClientIdentifierNotValid,
        _ => Reason::MalformedPacket,
    };
    let ids: [(&str, &[u8]); 12] = [
        ("U+0000", b"d\x00"),
        ("U+0001", b"d\x01"),
        ("U+001F", b"\x1Fd"),
        ("U+007F", b"d\x7F"),
        ("U+009F", b"d\xC2\x9F"),
        ("U+FFFF", b"d\xEF\xBF\xBF"),
        ("a surrogate", b"\xED\xA0\x80"),
        ("a lone continuation byte", b"\x80"),
        ("an overlong form of '/'", b"\xC0\xAF"),
        ("a character beyond U+10FFFF", b"\xF4\x90\x80\x80"),
        ("half a character", b"\xC3"),
        ("bytes that are not UTF-8", b"d7\xFE\xFF"),
    ];
    for (name, id) in ids {
        let payload = [&(id.len() as u16).to_be_bytes() as &[u8], id].concat();
        let name = format!("connect with {name} in the client id");
        table.bad(&name, &[version], &bytes(version, 0x02, &payload), reason);
    }
}

fn versions(table: &mut Table) {
    for (version, head) in [
        (V31, b"\x00\x06MQIsdp\x83".as_slice()),
        (V311, b"\x00\x04MQTT\x84"),
    ] {
        let bridge = Connect {
            bridge: true,
            ..plain(version)
        };
        let bytes = frame(0x10, &[head, b"\x02\x00\x3C\x00\x02d7"]);
        table.good("connect of a bridge", version, bytes, Packet::Connect(bridge));
    }
    let heads: [(&str, &[u8]); 16] = [
        ("MQTT level 0", b"\x00\x04MQTT\x00"),
        ("MQTT level 3", b"\x00\x04MQTT\x03"),
        ("MQTT level 6", b"\x00\x04MQTT\x06"),
        ("MQTT level 255", b"\x00\x04MQTT\xFF"),
        ("MQTT level 0x83", b"\x00\x04MQTT\x83"),
        ("a bridge of 5.0", b"\x00\x04MQTT\x85"),
        ("MQIsdp level 4", b"\x00\x06MQIsdp\x04"),
        ("MQIsdp level 5", b"\x00\x06MQIsdp\x05"),
        ("MQIsdp level 2", b"\x00\x06MQIsdp\x02"),
        ("mqtt in small letters", b"\x00\x04mqtt\x04"),
        ("an empty name", b"\x00\x00\x04"),
        ("a longer name", b"\x00\x05MQTTX\x04"),
        ("a name that is not UTF-8", b"\x00\x04MQT\xFF\x04"),
        ("MQTT-SN's name", b"\x00\x07MQTT-SN\x01"),
        ("U+0000 behind the name", b"\x00\x05MQTT\x00\x04"),
        ("a name of 3.1 in capitals", b"\x00\x06MQISDP\x03"),
    ];
    for (name, head) in heads {
        let bytes = frame(0x10, &[head, b"\x02\x00\x3C\x00\x02d7"]);
        table.bad(
            &format!("connect with {name}"),
            &[V311],
            &bytes,
            Reason::UnsupportedProtocolVersion,
        );
    }
    table.malformed("connect without a body", &[V311], b"\x10\x00");
    table.malformed("connect with half a name", &[V311], b"\x10\x04\x00\x04MQ");
    table.malformed("connect without a level", &[V311], b"\x10\x06\x00\x04MQTT");
    table.malformed("connect without flags", &[V311], b"\x10\x07\x00\x04MQTT\x04");
    table.malformed(
        "connect without a keep alive",
        &[V311],
        b"\x10\x08\x00\x04MQTT\x04\x02",
    );
    table.malformed(
        "connect with half a keep alive",
        &[V311],
        b"\x10\x09\x00\x04MQTT\x04\x02\x00",
    );
    table.malformed(
        "connect without properties",
        &[V5],
        b"\x10\x0A\x00\x04MQTT\x05\x02\x00\x3C",
    );
    for bits in [0x01, 0x02, 0x04, 0x08] {
        let name = format!("connect with header flag {bits:#x}");
        for version in [V311, V5] {
            let mut flagged = bytes(version, 0x02, b"\x00\x02d7");
            flagged[0] |= bits;
            table.malformed(&name, &[version], &flagged);
        }
        // 3.1 does not use them in CONNECT.
        let mut flagged = bytes(V31, 0x02, b"\x00\x02d7");
        flagged[0] |= bits;
        table.read(&name, V31, flagged, Packet::Connect(plain(V31)));
    }
    let mut overlong = bytes(V5, 0x02, b"\x00\x02d7");
    overlong.splice(1..2, [overlong[1] | 0x80, 0x00]);
    table.malformed("connect with an overlong remaining length", &[V5], &overlong);
}

fn flags(table: &mut Table) {
    for version in [V311, V5] {
        let mut bad = |name: &str, flags| {
            table.malformed(name, &[version], &bytes(version, flags, b"\x00\x02d7"));
        };
        bad("connect with the reserved flag", 0x03);
        bad("connect with will QoS 1 and no will", 0x0A);
        bad("connect with will QoS 2 and no will", 0x12);
        bad("connect with will QoS 3 and no will", 0x1A);
        bad("connect with will retain and no will", 0x22);
    }
    for flags in [0x03, 0x0A, 0x1A, 0x22] {
        // 3.1 disregards these bits.
        table.read(
            &format!("connect with flags {flags:#x}"),
            V31,
            bytes(V31, flags, b"\x00\x02d7"),
            Packet::Connect(plain(V31)),
        );
    }
    for version in V3 {
        let bytes = bytes(version, 0x42, b"\x00\x02d7\x00\x01p");
        table.malformed("connect with a password and no user name", &[version], &bytes);
    }
    let token = Connect {
        password: Some(b"p"),
        ..plain(V5)
    };
    table.good(
        "connect with a password and no user name",
        V5,
        bytes(V5, 0x42, b"\x00\x02d7\x00\x01p"),
        Packet::Connect(token),
    );
    // 3.1: the remaining length goes before the flags of user name and password.
    table.read(
        "connect whose user name is missing",
        V31,
        bytes(V31, 0x82, b"\x00\x02d7"),
        Packet::Connect(plain(V31)),
    );
    let user = Connect {
        username: Some("u"),
        ..plain(V31)
    };
    table.read(
        "connect whose password is missing",
        V31,
        bytes(V31, 0xC2, b"\x00\x02d7\x00\x01u"),
        Packet::Connect(user),
    );
    for version in [V311, V5] {
        table.malformed(
            "connect whose user name is missing",
            &[version],
            &bytes(version, 0x82, b"\x00\x02d7"),
        );
        let cut = bytes(version, 0xC2, b"\x00\x02d7\x00\x01u");
        table.malformed("connect whose password is missing", &[version], &cut);
    }
}

fn properties(table: &mut Table) {
    let with =
        |raw: &[u8], rest: &[u8]| frame(0x10, &[HEAD_5, b"\x02\x00\x3C", &[raw.len() as u8], raw, rest]);
    const EVERY: &[u8] = b"\x11\x00\x00\x0E\x10\x21\x00\x0A\x27\x00\x01\x00\x00\x22\x00\x05\x19\x01\x17\x00\
        \x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b\x15\x00\x01m\x16\x00\x02\x00\x01";
    let connect = Connect {
        properties: props(EVERY),
        ..plain(V5)
    };
    table.good(
        "connect with every property",
        V5,
        with(EVERY, b"\x00\x02d7"),
        Packet::Connect(connect),
    );
    const WILL: &[u8] = b"\x18\x00\x00\x00\x0A\x01\x01\x02\x00\x00\x00\x3C\x03\x00\x04text\x08\x00\x01r\
        \x09\x00\x02\x00\x01\x26\x00\x01a\x00\x01b";
    let connect = Connect {
        will: Some(Will {
            properties: props(WILL),
            ..will()
        }),
        ..plain(V5)
    };
    let payload = [
        b"\x00\x02d7",
        &[WILL.len() as u8] as &[u8],
        WILL,
        b"\x00\x01w\x00\x04gone",
    ]
    .concat();
    table.good(
        "connect with every will property",
        V5,
        bytes(V5, 0x06, &payload),
        Packet::Connect(connect),
    );
    let mut bad = |name: &str, raw: &[u8]| table.forbidden(name, &[V5], &with(raw, b"\x00\x02d7"));
    bad("connect with receive maximum 0", b"\x21\x00\x00");
    bad("connect with maximum packet size 0", b"\x27\x00\x00\x00\x00");
    bad("connect with request problem information 2", b"\x17\x02");
    bad("connect with request response information 2", b"\x19\x02");
    bad("connect with authentication data and no method", b"\x16\x00\x01x");
    let will = |raw: &[u8]| {
        let payload = [
            b"\x00\x02d7",
            &[raw.len() as u8] as &[u8],
            raw,
            b"\x00\x01w\x00\x00",
        ]
        .concat();
        bytes(V5, 0x06, &payload)
    };
    table.forbidden(
        "connect with payload format 2 in the will",
        &[V5],
        &will(b"\x01\x02"),
    );
    for name in [&b"\x08\x00\x03a/#"[..], b"\x08\x00\x01+", b"\x08\x00\x00"] {
        let text = format!("connect with response topic {name:x?} in the will");
        table.malformed(&text, &[V5], &will(name));
    }
    for value in [0x02, 0x80, 0xFF] {
        for (id, name) in [(0x17, "problem"), (0x19, "response")] {
            let text = format!("connect with request {name} information {value:#x}");
            if value != 0x02 {
                table.forbidden(&text, &[V5], &with(&[id, value], b"\x00\x02d7"));
            }
        }
    }
    table.malformed(
        "connect whose properties are cut off",
        &[V5],
        &with(b"\x21\x00", b""),
    );
    let lies = frame(0x10, &[HEAD_5, b"\x02\x00\x3C\x20\x00\x02d7"]);
    table.malformed("connect whose property length is too great", &[V5], &lies);
    let overlong = frame(0x10, &[HEAD_5, b"\x02\x00\x3C\x80\x00\x00\x02d7"]);
    table.malformed("connect with an overlong property length", &[V5], &overlong);
    let five = frame(0x10, &[HEAD_5, b"\x02\x00\x3C\x80\x80\x80\x80\x01\x00\x02d7"]);
    table.malformed("connect with a property length of five bytes", &[V5], &five);
}
