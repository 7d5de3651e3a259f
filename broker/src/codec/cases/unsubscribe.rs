//! UNSUBSCRIBE (section 3.10).

use super::{ALL, Table, V5, frame, id, props};
use crate::codec::{Packet, Properties, Unsubscribe, Version};

fn packet(filters: Vec<&'static str>) -> Packet<'static> {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id(10),
        filters,
        properties: Properties::EMPTY,
    })
}

fn bytes(version: Version, payload: &[u8]) -> Vec<u8> {
    let pad: &[u8] = if version == V5 { b"\x00" } else { b"" };
    frame(0xA2, &[b"\x00\x0A", pad, payload])
}

fn one(version: Version, filter: &str) -> Vec<u8> {
    let len = (filter.len() as u16).to_be_bytes();
    bytes(version, &[&len as &[u8], filter.as_bytes()].concat())
}

pub(super) fn add(table: &mut Table) {
    for version in ALL {
        for filter in ["a", "/", "#", "+", "a/+/#", "$share/g/a", "$SYS/#", "gerät"] {
            let name = format!("unsubscribe from {filter}");
            table.good(&name, version, one(version, filter), packet(vec![filter]));
        }
        for filter in super::subscribe::BAD {
            let name = format!("unsubscribe from {filter:?}");
            table.bad(
                &name,
                &[version],
                &one(version, filter),
                super::subscribe::fault(filter),
            );
        }
        let three = bytes(version, b"\x00\x01a\x00\x03b/+\x00\x03c/#");
        table.good(
            "unsubscribe from three",
            version,
            three,
            packet(vec!["a", "b/+", "c/#"]),
        );
        let many = bytes(version, &b"\x00\x01a".repeat(5_000));
        table.good("unsubscribe from 5,000", version, many, packet(vec!["a"; 5_000]));
        table.forbidden("unsubscribe from nothing", &[version], &bytes(version, b""));
        let mut bad =
            |name: &str, payload: &[u8]| table.malformed(name, &[version], &bytes(version, payload));
        bad("unsubscribe with a filter that is cut off", b"\x00\x05a");
        bad("unsubscribe with half a filter length", b"\x00\x01a\x00");
        bad("unsubscribe with U+0000 in the filter", b"\x00\x02a\x00");
        bad("unsubscribe with a filter that is not UTF-8", b"\x00\x01\xFF");
        bad(
            "unsubscribe with a surrogate in the filter",
            b"\x00\x03\xED\xA0\x80",
        );
        bad(
            "unsubscribe whose second filter is not UTF-8",
            b"\x00\x01a\x00\x01\x80",
        );
        bad("unsubscribe with options as of SUBSCRIBE", b"\x00\x01a\x01");
        table.malformed("unsubscribe without a body", &[version], b"\xA2\x00");
        table.malformed("unsubscribe with half an id", &[version], b"\xA2\x01\x00");
        let zero = frame(
            0xA2,
            &[
                b"\x00\x00",
                if version == V5 { b"\x00" } else { b"" },
                b"\x00\x01a",
            ],
        );
        table.malformed("unsubscribe with id 0", &[version], &zero);
    }
    const RAW: &[u8] = b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b";
    table.good(
        "unsubscribe with properties",
        V5,
        frame(0xA2, &[b"\x00\x0A", &[RAW.len() as u8], RAW, b"\x00\x01a"]),
        Packet::Unsubscribe(Unsubscribe {
            packet_id: id(10),
            filters: vec!["a"],
            properties: props(RAW),
        }),
    );
    table.malformed("unsubscribe without properties", &[V5], b"\xA2\x02\x00\x0A");
    table.malformed(
        "unsubscribe whose properties are cut off",
        &[V5],
        b"\xA2\x05\x00\x0A\x07\x26\x00",
    );
}
