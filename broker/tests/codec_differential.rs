//! Every good wire case is the same packet to two codecs that others wrote. Where they differ, the reason stands here.
//!
//! The other codec reads the bytes and writes what it read; Forebay's codec reads that. So each field is compared without
//! a translation of types. Properties are compared without their order, which rmqtt-codec does not keep.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;
use forebay_broker::codec::{self, Packet, Properties, Version, decode, encode};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use rmqtt_codec::{MqttCodec, MqttPacket, v3, v5};
use tokio_util::codec::{Decoder, Encoder};

// The table has no use for the codec here but its types; it names them from the crate's root.
#[allow(dead_code)]
#[path = "../src/codec/cases/mod.rs"]
mod cases;

use cases::{Case, Expect};

/// What another codec writes after it read `bytes`; `Err`: it refuses them.
type Other = fn(Version, &[u8]) -> Result<Vec<u8>, String>;

fn rmqtt(version: Version, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut input = BytesMut::from(bytes);
    let mut codec = match version {
        Version::V5 => MqttCodec::V5(v5::Codec::new(0, 0)),
        _ => MqttCodec::V3(v3::Codec::new(0)),
    };
    let read = codec.decode(&mut input).map_err(|fault| format!("{fault:?}"))?;
    let (packet, _) = read.ok_or("it waits for more")?;
    assert!(!matches!(packet, MqttPacket::Version(_)));
    if !input.is_empty() {
        return Err("it leaves bytes over".to_owned());
    }
    let mut output = BytesMut::new();
    codec
        .encode(packet, &mut output)
        .map_err(|fault| format!("{fault:?}"))?;
    let mut written = output.to_vec();
    // It reads level 3 but writes level 4 with the name of 3.1.
    if version == Version::V31
        && let Some(at) = written.windows(7).position(|seven| seven == b"MQIsdp\x04")
    {
        written[at + 6] = 3;
    }
    Ok(written)
}

/// Reads with one of mqtt-protocol-core's types and writes it again.
macro_rules! reads {
    ($type:ty, $body:expr) => {{
        let (packet, used) = <$type>::parse($body).map_err(|fault| format!("{fault:?}"))?;
        if used != $body.len() {
            return Err("it leaves bytes over".to_owned());
        }
        Ok(packet.to_continuous_buffer())
    }};
    ($type:ty, $flags:expr, $body:expr) => {{
        let (packet, used) = <$type>::parse($flags, $body.into()).map_err(|fault| format!("{fault:?}"))?;
        if used != $body.len() {
            return Err("it leaves bytes over".to_owned());
        }
        Ok(packet.to_continuous_buffer())
    }};
}

fn protocol_core(version: Version, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let length_bytes = 1 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    let (first, body) = (bytes[0], &bytes[1 + length_bytes..]);
    match (version, first >> 4) {
        (Version::V31, _) => Err("it has no 3.1".to_owned()),
        (Version::V311, 1) => reads!(v3_1_1::Connect, body),
        (Version::V311, 2) => reads!(v3_1_1::Connack, body),
        (Version::V311, 3) => reads!(v3_1_1::Publish, first & 0x0F, body),
        (Version::V311, 4) => reads!(v3_1_1::Puback, body),
        (Version::V311, 5) => reads!(v3_1_1::Pubrec, body),
        (Version::V311, 6) => reads!(v3_1_1::Pubrel, body),
        (Version::V311, 7) => reads!(v3_1_1::Pubcomp, body),
        (Version::V311, 8) => reads!(v3_1_1::Subscribe, body),
        (Version::V311, 9) => reads!(v3_1_1::Suback, body),
        (Version::V311, 10) => reads!(v3_1_1::Unsubscribe, body),
        (Version::V311, 11) => reads!(v3_1_1::Unsuback, body),
        (Version::V311, 12) => reads!(v3_1_1::Pingreq, body),
        (Version::V311, 13) => reads!(v3_1_1::Pingresp, body),
        (Version::V311, 14) => reads!(v3_1_1::Disconnect, body),
        (Version::V5, 1) => reads!(v5_0::Connect, body),
        (Version::V5, 2) => reads!(v5_0::Connack, body),
        (Version::V5, 3) => reads!(v5_0::Publish, first & 0x0F, body),
        (Version::V5, 4) => reads!(v5_0::Puback, body),
        (Version::V5, 5) => reads!(v5_0::Pubrec, body),
        (Version::V5, 6) => reads!(v5_0::Pubrel, body),
        (Version::V5, 7) => reads!(v5_0::Pubcomp, body),
        (Version::V5, 8) => reads!(v5_0::Subscribe, body),
        (Version::V5, 9) => reads!(v5_0::Suback, body),
        (Version::V5, 10) => reads!(v5_0::Unsubscribe, body),
        (Version::V5, 11) => reads!(v5_0::Unsuback, body),
        (Version::V5, 12) => reads!(v5_0::Pingreq, body),
        (Version::V5, 13) => reads!(v5_0::Pingresp, body),
        (Version::V5, 14) => reads!(v5_0::Disconnect, body),
        (Version::V5, 15) => reads!(v5_0::Auth, body),
        (_, kind) => Err(format!("it has no packet type {kind}")),
    }
}

/// The packet without its properties, written, and its properties in one order.
fn ordered(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut packet = packet.clone();
    let mut found = Vec::new();
    let mut take = |properties: &mut Properties<'_>| {
        let mut all: Vec<_> = std::mem::take(properties)
            .iter()
            .map(|p| format!("{p:?}"))
            .collect();
        all.sort();
        found.push(all.join(" "));
    };
    match &mut packet {
        Packet::Connect(p) => {
            take(&mut p.properties);
            if let Some(will) = &mut p.will {
                take(&mut will.properties);
            }
        }
        Packet::Connack(p) => take(&mut p.properties),
        Packet::Publish(p) => take(&mut p.properties),
        Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
            take(&mut p.properties)
        }
        Packet::Subscribe(p) => take(&mut p.properties),
        Packet::Suback(p) | Packet::Unsuback(p) => take(&mut p.properties),
        Packet::Unsubscribe(p) => take(&mut p.properties),
        Packet::Disconnect(p) => take(&mut p.properties),
        Packet::Auth(p) => take(&mut p.properties),
        Packet::Pingreq | Packet::Pingresp => {}
    }
    let mut bytes = Vec::new();
    encode(version, &packet, &mut bytes).unwrap();
    [bytes, found.join("|").into_bytes()].concat()
}

/// What the other codec makes of a case: `None` when it is the same packet, else what is different.
fn difference(case: &Case, packet: &Packet<'_>, other: Other) -> Option<String> {
    let written = match other(case.version, &case.bytes) {
        Ok(written) => written,
        Err(fault) => return Some(format!("refused: {fault}")),
    };
    let read = match decode(case.version, &written) {
        Ok(read) => read,
        Err(fault) => return Some(format!("written as {written:x?}: {fault}")),
    };
    let same = ordered(case.version, &read) == ordered(case.version, packet);
    (!same).then(|| format!("read as {read:?}"))
}

/// A difference that is not ours: part of the case's name, and why.
type Known = (&'static str, &'static str);

fn compare(other: Other, known: &[Known], leave_out: fn(&Case) -> bool) {
    let mut unused: Vec<&str> = known.iter().map(|(part, _)| *part).collect();
    let mut wrong = Vec::new();
    let mut same = 0;
    for case in cases::all() {
        let (Expect::Packet(packet) | Expect::Read(packet)) = &case.expect else {
            continue;
        };
        if leave_out(&case) {
            continue;
        }
        let explained = known.iter().find(|(part, _)| case.name.contains(part));
        match (difference(&case, packet, other), explained) {
            (None, _) => same += 1,
            (Some(_), Some((part, _))) => unused.retain(|other| other != part),
            (Some(what), None) => {
                let what: String = what.chars().take(300).collect();
                wrong.push(format!("{}: {what}", case.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} same, {} differ: {wrong:#?}",
        same,
        wrong.len()
    );
    assert!(unused.is_empty(), "no case differs any more: {unused:?}");
    assert!(same > 200, "only {same} cases compared");
}

#[test]
fn rmqtt_codec_reads_the_same_packets() {
    let known: [Known; 11] = [
        (
            "V31 connack with a byte of 0xff",
            "3.1 section 3.2 does not use the first byte",
        ),
        (
            "without a client id to a kept session",
            "session: 3.x is answered with a return code, 5.0 allows it",
        ),
        (
            "connect of a bridge",
            "Mosquitto's bit 0x80 of the level is no part of the specifications",
        ),
        ("V31 pubrel with DUP", "3.1 section 3.6 has DUP in PUBREL"),
        (
            "V31 connect with header flag",
            "3.1 section 3.1 does not use these bits",
        ),
        ("V31 connect with flags", "3.1 section 3.1 disregards these bits"),
        (
            "V31 connect whose user name is missing",
            "3.1 section 3.1: the remaining length goes before the flag",
        ),
        (
            "V31 connect whose password is missing",
            "3.1 section 3.1: the remaining length goes before the flag",
        ),
        (
            "V5 connack with every property",
            "it leaves out what has its default value: the meaning is the same",
        ),
        (
            "V5 publish of bytes",
            "it leaves out what has its default value: the meaning is the same",
        ),
        (
            "V5 publish with message expiry 0",
            "section 3.3.2.3.3 sets no least value",
        ),
    ];
    compare(rmqtt, &known, |_| false);
}

#[test]
fn mqtt_protocol_core_reads_the_same_packets() {
    let known: [Known; 2] = [
        (
            "connect of a bridge",
            "Mosquitto's bit 0x80 of the level is no part of the specifications",
        ),
        (
            "V5 connect with a password and no user name",
            "5.0 section 3.1.2.9 allows it",
        ),
    ];
    compare(protocol_core, &known, |case| case.version == Version::V31);
}
