//! PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7).

use super::{ALL, Table, V3, V5, frame, id, props};
use crate::codec::{Ack, Packet, Properties, Reason};

type Make = fn(Ack<'static>) -> Packet<'static>;

/// First byte, name, how it becomes a packet, the reasons it may carry.
const KINDS: [(u8, &str, Make, &[u8]); 4] = [
    (
        0x40,
        "puback",
        Packet::Puback,
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (
        0x50,
        "pubrec",
        Packet::Pubrec,
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (0x62, "pubrel", Packet::Pubrel, &[0x00, 0x92]),
    (0x70, "pubcomp", Packet::Pubcomp, &[0x00, 0x92]),
];

fn ack(number: u16, reason: Reason, properties: Properties<'static>) -> Ack<'static> {
    Ack {
        packet_id: id(number),
        reason,
        properties,
    }
}

pub(super) fn add(table: &mut Table) {
    for (first, kind, make, allowed) in KINDS {
        let success = make(ack(0x1234, Reason::Success, Properties::EMPTY));
        for version in ALL {
            table.good(kind, version, frame(first, &[b"\x12\x34"]), success.clone());
        }
        table.malformed(&format!("{kind} without a body"), &ALL, &frame(first, &[]));
        table.malformed(
            &format!("{kind} with half an id"),
            &ALL,
            &frame(first, &[b"\x12"]),
        );
        table.forbidden(&format!("{kind} with id 0"), &ALL, &frame(first, &[b"\x00\x00"]));
        table.malformed(
            &format!("{kind} with a reason in 3.x"),
            &V3,
            &frame(first, &[b"\x12\x34\x00"]),
        );
        let name = format!("{kind} with reason and properties left in");
        table.read(&name, V5, frame(first, &[b"\x12\x34\x00\x00"]), success.clone());
        let name = format!("{kind} with success left in");
        table.read(&name, V5, frame(first, &[b"\x12\x34\x00"]), success);
        reasons(table, first, kind, make, allowed);
        properties(table, first, kind, make);
    }
}

fn reasons(table: &mut Table, first: u8, kind: &str, make: Make, allowed: &[u8]) {
    for code in 1..=u8::MAX {
        let bytes = frame(first, &[b"\x12\x34", &[code]]);
        let name = format!("{kind} with reason {code:#04x}");
        match (Reason::try_from(code), allowed.contains(&code)) {
            (Ok(reason), true) => {
                let packet = make(ack(0x1234, reason, Properties::EMPTY));
                table.good(&name, V5, bytes, packet);
            }
            _ => table.forbidden(&name, &[V5], &bytes),
        }
    }
}

fn properties(table: &mut Table, first: u8, kind: &str, make: Make) {
    const RAW: &[u8] = b"\x1F\x00\x02no\x26\x00\x01a\x00\x01b";
    let name = format!("{kind} with properties");
    table.good(
        &name,
        V5,
        frame(first, &[b"\x12\x34\x00", &[RAW.len() as u8], RAW]),
        make(ack(0x1234, Reason::Success, props(RAW))),
    );
    let mut bad = |name: &str, rest: &[u8]| {
        let bytes = frame(first, &[b"\x12\x34\x00", rest]);
        table.malformed(&format!("{kind} {name}"), &[V5], &bytes);
    };
    bad("with properties that are cut off", b"\x06\x1F\x00\x02no");
    bad("with bytes behind its properties", b"\x00\x00");
    bad("with half a property length", b"\x80");
    bad("with an overlong property length", b"\x80\x00");
    bad("with a property length of five bytes", b"\x80\x80\x80\x80\x01");
}
