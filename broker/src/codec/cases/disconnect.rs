//! DISCONNECT and AUTH (sections 3.14 and 3.15).

use super::{ALL, Table, V3, V5, frame, props};
use crate::codec::{Auth, Disconnect, Packet, Properties, Reason};

const DISCONNECT_REASONS: [u8; 29] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

fn disconnect(reason: Reason, properties: Properties<'static>) -> Packet<'static> {
    Packet::Disconnect(Disconnect { reason, properties })
}

fn auth(reason: Reason, properties: Properties<'static>) -> Packet<'static> {
    Packet::Auth(Auth { reason, properties })
}

pub(super) fn add(table: &mut Table) {
    disconnects(table);
    auths(table);
}

fn disconnects(table: &mut Table) {
    let normal = disconnect(Reason::Success, Properties::EMPTY);
    for version in ALL {
        table.good("disconnect", version, vec![0xE0, 0], normal.clone());
    }
    table.malformed("disconnect with a body in 3.x", &V3, b"\xE0\x01\x00");
    table.malformed(
        "disconnect with a reason and properties in 3.x",
        &V3,
        b"\xE0\x02\x04\x00",
    );
    table.read(
        "disconnect with success left in",
        V5,
        vec![0xE0, 1, 0],
        normal.clone(),
    );
    table.read("disconnect with all left in", V5, vec![0xE0, 2, 0, 0], normal);
    for code in 1..=u8::MAX {
        let bytes = vec![0xE0, 1, code];
        let name = format!("disconnect with reason {code:#04x}");
        match (Reason::try_from(code), DISCONNECT_REASONS.contains(&code)) {
            (Ok(reason), true) => table.good(&name, V5, bytes, disconnect(reason, Properties::EMPTY)),
            _ => table.forbidden(&name, &[V5], &bytes),
        }
    }
    const RAW: &[u8] = b"\x11\x00\x00\x00\x3C\x1F\x00\x01r\x1C\x00\x01s\x26\x00\x01a\x00\x01b";
    table.good(
        "disconnect with every property",
        V5,
        frame(0xE0, &[b"\x04", &[RAW.len() as u8], RAW]),
        disconnect(Reason::DisconnectWithWill, props(RAW)),
    );
    table.malformed(
        "disconnect with bytes behind its properties",
        &[V5],
        b"\xE0\x03\x00\x00\x00",
    );
    table.malformed(
        "disconnect whose properties are cut off",
        &[V5],
        b"\xE0\x04\x00\x05\x11\x00",
    );
}

fn auths(table: &mut Table) {
    const METHOD: &[u8] = b"\x15\x00\x01m";
    const EVERY: &[u8] = b"\x15\x00\x05SCRAM\x16\x00\x02\x00\x01\x1F\x00\x01r\x26\x00\x01a\x00\x01b";
    table.good(
        "auth of success",
        V5,
        vec![0xF0, 0],
        auth(Reason::Success, Properties::EMPTY),
    );
    table.read(
        "auth of success with all left in",
        V5,
        vec![0xF0, 2, 0, 0],
        auth(Reason::Success, Properties::EMPTY),
    );
    for (code, reason) in [
        (0x00, Reason::Success),
        (0x18, Reason::ContinueAuthentication),
        (0x19, Reason::ReAuthenticate),
    ] {
        let bytes = frame(0xF0, &[&[code, METHOD.len() as u8], METHOD]);
        table.good(
            &format!("auth with reason {code:#04x}"),
            V5,
            bytes,
            auth(reason, props(METHOD)),
        );
    }
    let bytes = frame(0xF0, &[&[0x18, EVERY.len() as u8], EVERY]);
    table.good(
        "auth with every property",
        V5,
        bytes,
        auth(Reason::ContinueAuthentication, props(EVERY)),
    );
    for code in (0..=u8::MAX).filter(|code| ![0x00, 0x18, 0x19].contains(code)) {
        let bytes = frame(0xF0, &[&[code, METHOD.len() as u8], METHOD]);
        table.forbidden(&format!("auth with reason {code:#04x}"), &[V5], &bytes);
    }
    table.malformed("auth with a reason alone", &[V5], b"\xF0\x01\x18");
    table.forbidden("auth without a method", &[V5], b"\xF0\x02\x18\x00");
    table.forbidden(
        "auth with data and no method",
        &[V5],
        b"\xF0\x06\x18\x04\x16\x00\x01d",
    );
    table.malformed(
        "auth with bytes behind its properties",
        &[V5],
        &frame(0xF0, &[b"\x18\x04", METHOD, b"\x00"]),
    );
}
