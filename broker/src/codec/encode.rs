//! Packets to bytes. What a 3.x packet can't say (properties, most reasons) is left out.

use super::packet::*;
use super::primitive::MAX_REMAINING;
use super::property::Properties;
use super::reason::Reason;

/// Why a packet can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text or binary field is longer than 65,535 bytes.
    #[error("a field is longer than 65,535 bytes")]
    FieldTooLong,
    /// The packet is longer than 268,435,455 bytes.
    #[error("the packet is longer than 268,435,455 bytes")]
    PacketTooLong,
    /// The packet type, or the QoS without its packet identifier, does not exist in this version.
    #[error("the packet does not exist in this version of MQTT")]
    NotInThisVersion,
}

type Encoded = Result<(), EncodeError>;

/// Appends `packet` as a client or server of `version` writes it. On an error `out` is as it was.
pub fn encode(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) -> Encoded {
    let start = out.len();
    let result = match packet {
        Packet::Publish(publish) => encode_publish(version, publish, out),
        other => control(version, other, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends a variable byte integer.
pub(super) fn var_int(mut value: u32, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn var_int_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

fn header(first: u8, remaining: usize, out: &mut Vec<u8>) -> Encoded {
    if remaining > MAX_REMAINING {
        return Err(EncodeError::PacketTooLong);
    }
    out.reserve(5 + remaining);
    out.push(first);
    var_int(remaining as u32, out);
    Ok(())
}

fn binary(bytes: &[u8], out: &mut Vec<u8>) -> Encoded {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) -> Encoded {
    binary(text.as_bytes(), out)
}

/// Bytes that properties take, their length included; none in 3.x.
fn properties_len(version: Version, properties: &Properties<'_>) -> usize {
    let len = properties.as_bytes().len();
    if version == Version::V5 {
        var_int_len(len) + len
    } else {
        0
    }
}

fn properties(version: Version, properties: &Properties<'_>, out: &mut Vec<u8>) {
    if version == Version::V5 {
        var_int(properties.as_bytes().len() as u32, out);
        out.extend_from_slice(properties.as_bytes());
    }
}

fn encode_publish(version: Version, publish: &Publish<'_>, out: &mut Vec<u8>) -> Encoded {
    let id = match (publish.qos, publish.packet_id) {
        (QoS::AtMostOnce, _) => None,
        (_, Some(id)) => Some(id),
        (_, None) => return Err(EncodeError::NotInThisVersion),
    };
    let remaining = 2
        + publish.topic.len()
        + id.map_or(0, |_| 2)
        + properties_len(version, &publish.properties)
        + publish.payload.len();
    let first = 0x30 | u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    header(first, remaining, out)?;
    string(publish.topic, out)?;
    if let Some(id) = id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    properties(version, &publish.properties, out);
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// All packets but PUBLISH: small, so the body is put together first and its length is then known.
fn control(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) -> Encoded {
    let mut body = Vec::new();
    let first = match packet {
        Packet::Connect(connect) => encode_connect(connect, &mut body)?,
        Packet::Connack(connack) => {
            body.push(u8::from(connack.session_present && version != Version::V31));
            body.push(match version {
                Version::V5 => connack.reason as u8,
                _ => connack.reason.return_code(),
            });
            properties(version, &connack.properties, &mut body);
            0x20
        }
        Packet::Puback(ack) => return encode_ack(0x40, version, ack, out),
        Packet::Pubrec(ack) => return encode_ack(0x50, version, ack, out),
        Packet::Pubrel(ack) => return encode_ack(0x62, version, ack, out),
        Packet::Pubcomp(ack) => return encode_ack(0x70, version, ack, out),
        Packet::Subscribe(subscribe) => encode_subscribe(version, subscribe, &mut body)?,
        Packet::Suback(suback) => encode_suback(0x90, version, suback, &mut body),
        Packet::Unsubscribe(unsubscribe) => {
            body.extend_from_slice(&unsubscribe.packet_id.get().to_be_bytes());
            properties(version, &unsubscribe.properties, &mut body);
            for filter in &unsubscribe.filters {
                string(filter, &mut body)?;
            }
            0xA2
        }
        Packet::Unsuback(unsuback) => encode_suback(0xB0, version, unsuback, &mut body),
        Packet::Pingreq => 0xC0,
        Packet::Pingresp => 0xD0,
        Packet::Disconnect(disconnect) => {
            reason_and_properties(version, disconnect.reason, &disconnect.properties, &mut body);
            0xE0
        }
        Packet::Auth(auth) if version == Version::V5 => {
            if auth.reason != Reason::Success || !auth.properties.is_empty() {
                body.push(auth.reason as u8);
                properties(version, &auth.properties, &mut body);
            }
            0xF0
        }
        Packet::Auth(_) | Packet::Publish(_) => return Err(EncodeError::NotInThisVersion),
    };
    header(first, body.len(), out)?;
    out.extend_from_slice(&body);
    Ok(())
}

/// Reason and properties, each left out where nothing is lost by it (section 3.4.2.1, 3.14.2.1).
fn reason_and_properties(version: Version, reason: Reason, found: &Properties<'_>, out: &mut Vec<u8>) {
    if version == Version::V5 && (reason != Reason::Success || !found.is_empty()) {
        out.push(reason as u8);
        if !found.is_empty() {
            properties(version, found, out);
        }
    }
}

/// The acknowledgements are the most frequent packets that a broker writes: no body of their own.
fn encode_ack(first: u8, version: Version, ack: &Ack<'_>, out: &mut Vec<u8>) -> Encoded {
    let id = ack.packet_id.get().to_be_bytes();
    if version != Version::V5 || (ack.reason == Reason::Success && ack.properties.is_empty()) {
        out.extend_from_slice(&[first, 2, id[0], id[1]]);
        return Ok(());
    }
    let with_properties = match ack.properties.is_empty() {
        true => 0,
        false => properties_len(version, &ack.properties),
    };
    header(first, 3 + with_properties, out)?;
    out.extend_from_slice(&id);
    reason_and_properties(version, ack.reason, &ack.properties, out);
    Ok(())
}

fn encode_connect(connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<u8, EncodeError> {
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    string(name, out)?;
    out.push(level | u8::from(connect.bridge) << 7);
    let mut flags = u8::from(connect.clean_start) << 1
        | u8::from(connect.username.is_some()) << 7
        | u8::from(connect.password.is_some()) << 6;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    out.push(flags);
    out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    properties(connect.version, &connect.properties, out);
    string(connect.client_id, out)?;
    if let Some(will) = &connect.will {
        properties(connect.version, &will.properties, out);
        string(will.topic, out)?;
        binary(will.payload, out)?;
    }
    if let Some(username) = connect.username {
        string(username, out)?;
    }
    if let Some(password) = connect.password {
        binary(password, out)?;
    }
    Ok(0x10)
}

fn encode_subscribe(
    version: Version,
    subscribe: &Subscribe<'_>,
    out: &mut Vec<u8>,
) -> Result<u8, EncodeError> {
    out.extend_from_slice(&subscribe.packet_id.get().to_be_bytes());
    properties(version, &subscribe.properties, out);
    for asked in &subscribe.filters {
        string(asked.filter, out)?;
        let mut bits = asked.qos as u8;
        if version == Version::V5 {
            bits |= u8::from(asked.no_local) << 2
                | u8::from(asked.retain_as_published) << 3
                | (asked.retain_handling as u8) << 4;
        }
        out.push(bits);
    }
    Ok(0x82)
}

fn encode_suback(first: u8, version: Version, suback: &Suback<'_>, out: &mut Vec<u8>) -> u8 {
    out.extend_from_slice(&suback.packet_id.get().to_be_bytes());
    properties(version, &suback.properties, out);
    match (version, first) {
        (Version::V5, _) => out.extend(suback.reasons.iter().map(|reason| *reason as u8)),
        (_, 0xB0) => {} // a 3.x UNSUBACK has no payload
        _ => out.extend(suback.reasons.iter().map(|reason| (*reason as u8).min(0x80))),
    }
    first
}
