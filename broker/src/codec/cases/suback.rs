//! SUBACK and UNSUBACK (sections 3.9 and 3.11).

use super::{ALL, Table, V3, V5, frame, id, props};
use crate::codec::{Packet, Properties, Reason, Suback};

fn ack(reasons: Vec<Reason>, properties: Properties<'static>) -> Suback<'static> {
    Suback {
        packet_id: id(10),
        reasons,
        properties,
    }
}

pub(super) fn add(table: &mut Table) {
    three(table);
    five(
        table,
        0x90,
        "suback",
        Packet::Suback,
        &[
            0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
        ],
    );
    five(
        table,
        0xB0,
        "unsuback",
        Packet::Unsuback,
        &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
    );
}

fn three(table: &mut Table) {
    for version in V3 {
        for (code, reason) in [
            (0x00, Reason::Success),
            (0x01, Reason::GrantedQoS1),
            (0x02, Reason::GrantedQoS2),
            (0x80, Reason::UnspecifiedError),
        ] {
            let expected = Packet::Suback(ack(vec![reason], Properties::EMPTY));
            let bytes = frame(0x90, &[b"\x00\x0A", &[code]]);
            table.good(&format!("suback with code {code:#04x}"), version, bytes, expected);
        }
        let reasons = vec![Reason::Success, Reason::UnspecifiedError, Reason::GrantedQoS2];
        let bytes = frame(0x90, &[b"\x00\x0A\x00\x80\x02"]);
        table.good(
            "suback of three",
            version,
            bytes,
            Packet::Suback(ack(reasons, Properties::EMPTY)),
        );
        for code in [0x10, 0x11, 0x87, 0x8F] {
            let bytes = frame(0x90, &[b"\x00\x0A", &[code]]);
            table.forbidden(&format!("suback with code {code:#04x}"), &[version], &bytes);
        }
        table.forbidden(
            "suback with code 0x03",
            &[version],
            &frame(0x90, &[b"\x00\x0A\x03"]),
        );
        table.forbidden("suback of nothing", &[version], &frame(0x90, &[b"\x00\x0A"]));
        let expected = Packet::Unsuback(ack(Vec::new(), Properties::EMPTY));
        table.good("unsuback", version, frame(0xB0, &[b"\x00\x0A"]), expected);
        table.malformed(
            "unsuback with a code",
            &[version],
            &frame(0xB0, &[b"\x00\x0A\x00"]),
        );
    }
    for (first, kind) in [(0x90, "suback"), (0xB0, "unsuback")] {
        table.malformed(&format!("{kind} without a body"), &ALL, &frame(first, &[]));
        table.malformed(
            &format!("{kind} with half an id"),
            &ALL,
            &frame(first, &[b"\x00"]),
        );
        table.malformed(
            &format!("{kind} with id 0"),
            &ALL,
            &frame(first, &[b"\x00\x00\x00\x00"]),
        );
    }
}

fn five(
    table: &mut Table,
    first: u8,
    kind: &str,
    make: fn(Suback<'static>) -> Packet<'static>,
    allowed: &[u8],
) {
    for code in 0..=u8::MAX {
        let bytes = frame(first, &[b"\x00\x0A\x00", &[code]]);
        let name = format!("{kind} with reason {code:#04x}");
        match (Reason::try_from(code), allowed.contains(&code)) {
            (Ok(reason), true) => table.good(&name, V5, bytes, make(ack(vec![reason], Properties::EMPTY))),
            _ => table.forbidden(&name, &[V5], &bytes),
        }
    }
    const RAW: &[u8] = b"\x1F\x00\x02no\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b";
    let bytes = frame(first, &[b"\x00\x0A", &[RAW.len() as u8], RAW, b"\x00\x87"]);
    let reasons = vec![Reason::Success, Reason::NotAuthorized];
    table.good(
        &format!("{kind} with properties"),
        V5,
        bytes,
        make(ack(reasons, props(RAW))),
    );
    table.forbidden(
        &format!("{kind} of nothing"),
        &[V5],
        &frame(first, &[b"\x00\x0A\x00"]),
    );
    table.malformed(
        &format!("{kind} without properties"),
        &[V5],
        &frame(first, &[b"\x00\x0A"]),
    );
    let cut = frame(first, &[b"\x00\x0A\x09\x1F\x00\x02no"]);
    table.malformed(&format!("{kind} whose properties are cut off"), &[V5], &cut);
}
