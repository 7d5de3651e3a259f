//! CONNACK (section 3.2).

use super::{ALL, SINCE_311, Table, V3, V5, V31, V311, frame, props};
use crate::codec::{Connack, Packet, Properties, Reason};

fn connack(session_present: bool, reason: Reason) -> Packet<'static> {
    Packet::Connack(Connack {
        session_present,
        reason,
        properties: Properties::EMPTY,
    })
}

/// Table 3-1, on its own account.
const REASONS: [(u8, Reason); 22] = [
    (0x00, Reason::Success),
    (0x80, Reason::UnspecifiedError),
    (0x81, Reason::MalformedPacket),
    (0x82, Reason::ProtocolError),
    (0x83, Reason::ImplementationSpecificError),
    (0x84, Reason::UnsupportedProtocolVersion),
    (0x85, Reason::ClientIdentifierNotValid),
    (0x86, Reason::BadUserNameOrPassword),
    (0x87, Reason::NotAuthorized),
    (0x88, Reason::ServerUnavailable),
    (0x89, Reason::ServerBusy),
    (0x8A, Reason::Banned),
    (0x8C, Reason::BadAuthenticationMethod),
    (0x90, Reason::TopicNameInvalid),
    (0x95, Reason::PacketTooLarge),
    (0x97, Reason::QuotaExceeded),
    (0x99, Reason::PayloadFormatInvalid),
    (0x9A, Reason::RetainNotSupported),
    (0x9B, Reason::QoSNotSupported),
    (0x9C, Reason::UseAnotherServer),
    (0x9D, Reason::ServerMoved),
    (0x9F, Reason::ConnectionRateExceeded),
];

pub(super) fn add(table: &mut Table) {
    for version in V3 {
        for (code, reason) in [
            (0, Reason::Success),
            (1, Reason::UnsupportedProtocolVersion),
            (2, Reason::ClientIdentifierNotValid),
            (3, Reason::ServerUnavailable),
            (4, Reason::BadUserNameOrPassword),
            (5, Reason::NotAuthorized),
        ] {
            let name = format!("connack with return code {code}");
            table.good(&name, version, vec![0x20, 2, 0, code], connack(false, reason));
        }
        table.malformed("connack with return code 6", &[version], b"\x20\x02\x00\x06");
        table.malformed("connack with return code 0x80", &[version], b"\x20\x02\x00\x80");
        table.malformed(
            "connack with a byte too much",
            &[version],
            b"\x20\x03\x00\x00\x00",
        );
    }
    table.good(
        "connack to a kept session",
        V311,
        vec![0x20, 2, 1, 0],
        connack(true, Reason::Success),
    );
    table.read(
        "connack with a byte that 3.1 does not use",
        V31,
        vec![0x20, 2, 1, 0],
        connack(false, Reason::Success),
    );
    table.read(
        "connack with a byte of 0xff that 3.1 does not use",
        V31,
        vec![0x20, 2, 0xFF, 0],
        connack(false, Reason::Success),
    );
    table.good(
        "connack to a kept session",
        V5,
        vec![0x20, 3, 1, 0, 0],
        connack(true, Reason::Success),
    );
    table.forbidden(
        "connack that refuses a kept session",
        &[V311],
        b"\x20\x02\x01\x05",
    );
    table.forbidden(
        "connack that refuses a kept session",
        &[V5],
        b"\x20\x03\x01\x87\x00",
    );
    table.malformed("connack without a code", &ALL, b"\x20\x01\x00");
    table.malformed("connack without a body", &ALL, b"\x20\x00");
    table.malformed("connack without properties", &[V5], b"\x20\x02\x00\x00");
    for flags in [0x02, 0x80, 0xFF] {
        let name = format!("connack with flags {flags:#x}");
        for version in SINCE_311 {
            let properties: &[u8] = if version == V5 { b"\x00" } else { b"" };
            table.malformed(&name, &[version], &frame(0x20, &[&[flags, 0], properties]));
        }
    }
    for code in 0..=u8::MAX {
        let bytes = vec![0x20, 3, 0, code, 0];
        let name = format!("connack with reason {code:#04x}");
        match REASONS.iter().find(|(listed, _)| *listed == code) {
            Some((_, reason)) => table.good(&name, V5, bytes, connack(false, *reason)),
            None => table.forbidden(&name, &[V5], &bytes),
        }
    }
    const EVERY: &[u8] = b"\x11\x00\x00\x0E\x10\x21\x00\x0A\x24\x01\x25\x01\x27\x00\x01\x00\x00\x12\x00\x01c\
        \x22\x00\x05\x1F\x00\x01r\x28\x01\x29\x00\x2A\x00\x13\x00\x1E\x1A\x00\x01i\x1C\x00\x01s\x15\x00\x01m\
        \x16\x00\x01d\x26\x00\x01a\x00\x01b";
    table.good(
        "connack with every property",
        V5,
        frame(0x20, &[b"\x00\x00", &[EVERY.len() as u8], EVERY]),
        Packet::Connack(Connack {
            session_present: false,
            reason: Reason::Success,
            properties: props(EVERY),
        }),
    );
    table.forbidden(
        "connack with maximum QoS 2",
        &[V5],
        b"\x20\x05\x00\x00\x02\x24\x02",
    );
    table.forbidden(
        "connack with retain available 2",
        &[V5],
        b"\x20\x05\x00\x00\x02\x25\x02",
    );
    table.forbidden(
        "connack with receive maximum 0",
        &[V5],
        b"\x20\x06\x00\x00\x03\x21\x00\x00",
    );
    table.malformed(
        "connack with bytes behind its properties",
        &[V5],
        b"\x20\x04\x00\x00\x00\x00",
    );
}
