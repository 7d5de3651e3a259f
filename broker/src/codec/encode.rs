//! Packets to bytes (MQTT 5.0 section 3). What 3.x has no place for, properties and most reasons, is left out there.

use super::packet::{
    Ack, Connack, Connect, Packet, PacketId, Publish, QoS, Suback, Subscribe, Unsubscribe, Version, Will,
};
use super::property::Properties;
use super::reason::{EncodeError, Reason};

/// The greatest value of a variable byte integer (section 1.5.5).
const VAR_INT_MAX: usize = 268_435_455;
/// Longest fixed header: type and four bytes of remaining length.
const HEADER_BYTES: usize = 5;

type Written = Result<(), EncodeError>;

/// Appends the packet to `out`. CONNECT is written in its own version. On an error `out` is as it was.
pub fn encode(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) -> Written {
    let start = out.len();
    let written = write(version, packet, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) -> Written {
    match packet {
        Packet::Publish(publish) => write_publish(version, publish, out),
        Packet::Puback(ack) => write_ack(version, 0x40, ack, out),
        Packet::Pubrec(ack) => write_ack(version, 0x50, ack, out),
        Packet::Pubrel(ack) => write_ack(version, 0x62, ack, out),
        Packet::Pubcomp(ack) => write_ack(version, 0x70, ack, out),
        Packet::Pingreq => {
            out.extend_from_slice(&[0xC0, 0]);
            Ok(())
        }
        Packet::Pingresp => {
            out.extend_from_slice(&[0xD0, 0]);
            Ok(())
        }
        Packet::Connect(connect) => framed(0x10, out, |out| write_connect(connect, out)),
        Packet::Connack(connack) => framed(0x20, out, |out| write_connack(version, connack, out)),
        Packet::Subscribe(subscribe) => framed(0x82, out, |out| write_subscribe(version, subscribe, out)),
        Packet::Suback(suback) => framed(0x90, out, |out| write_suback(version, suback, out)),
        Packet::Unsubscribe(unsubscribe) => {
            framed(0xA2, out, |out| write_unsubscribe(version, unsubscribe, out))
        }
        Packet::Unsuback(unsuback) => framed(0xB0, out, |out| write_unsuback(version, unsuback, out)),
        Packet::Disconnect(disconnect) => framed(0xE0, out, |out| match version {
            Version::V5 => put_reason(disconnect.reason, disconnect.properties, out),
            _ => Ok(()),
        }),
        Packet::Auth(_) if version != Version::V5 => {
            Err(EncodeError::Contradiction("AUTH is a packet of 5.0 only"))
        }
        Packet::Auth(auth) => framed(0xF0, out, |out| {
            if auth.reason == Reason::Success && auth.properties.is_empty() {
                return Ok(());
            }
            out.push(auth.reason as u8);
            put_properties(Version::V5, auth.properties, out)
        }),
    }
}

/// Writes the body behind room for the longest header, then the header, then closes the gap between them.
fn framed(first: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    let start = out.len();
    out.extend_from_slice(&[first, 0, 0, 0, 0]);
    body(out)?;
    let remaining = out.len() - start - HEADER_BYTES;
    if remaining > VAR_INT_MAX {
        return Err(EncodeError::PacketTooLong);
    }
    let (length, used) = var_int_bytes(remaining);
    let gap = HEADER_BYTES - 1 - used;
    if let Some(place) = out.get_mut(start + 1 + gap..start + HEADER_BYTES) {
        place.copy_from_slice(length.get(..used).unwrap_or_default());
    }
    if let Some(place) = out.get_mut(start + gap) {
        *place = first;
    }
    out.drain(start..start + gap);
    Ok(())
}

/// A value up to [`VAR_INT_MAX`] as a variable byte integer, and its bytes in use.
fn var_int_bytes(mut value: usize) -> ([u8; 4], usize) {
    let mut bytes = [0; 4];
    let mut used = 0;
    for byte in &mut bytes {
        *byte = (value & 0x7F) as u8;
        value >>= 7;
        used += 1;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, used)
}

pub(super) fn put_var_int(value: usize, out: &mut Vec<u8>) -> Written {
    if value > VAR_INT_MAX {
        return Err(EncodeError::PacketTooLong);
    }
    let (bytes, used) = var_int_bytes(value);
    out.extend_from_slice(bytes.get(..used).unwrap_or_default());
    Ok(())
}

/// Two bytes of length and the bytes: binary data and texts.
#[inline]
pub(super) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) -> Written {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_properties(version: Version, properties: Properties<'_>, out: &mut Vec<u8>) -> Written {
    if version == Version::V5 {
        put_var_int(properties.as_bytes().len(), out)?;
        out.extend_from_slice(properties.as_bytes());
    }
    Ok(())
}

/// Reason and properties, each left out from the end where 5.0 allows it.
fn put_reason(reason: Reason, properties: Properties<'_>, out: &mut Vec<u8>) -> Written {
    if reason == Reason::Success && properties.is_empty() {
        return Ok(());
    }
    out.push(reason as u8);
    if properties.is_empty() {
        return Ok(());
    }
    put_properties(Version::V5, properties, out)
}

fn write_publish(version: Version, publish: &Publish<'_>, out: &mut Vec<u8>) -> Written {
    let mut remaining = 2 + publish.topic.len() + publish.payload.len();
    let packet_id = match (publish.qos, publish.packet_id) {
        (QoS::AtMostOnce, _) => None,
        (_, Some(id)) => Some(id),
        (_, None) => {
            return Err(EncodeError::Contradiction(
                "PUBLISH above QoS 0 without a packet identifier",
            ));
        }
    };
    if packet_id.is_some() {
        remaining += 2;
    }
    if version == Version::V5 {
        let len = publish.properties.as_bytes().len();
        remaining += var_int_bytes(len.min(VAR_INT_MAX)).1 + len;
    }
    if remaining > VAR_INT_MAX {
        return Err(EncodeError::PacketTooLong);
    }
    out.reserve(HEADER_BYTES + remaining);
    let dup = publish.dup && packet_id.is_some();
    out.push(0x30 | u8::from(dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain));
    put_var_int(remaining, out)?;
    put_binary(publish.topic.as_bytes(), out)?;
    if let Some(id) = packet_id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    put_properties(version, publish.properties, out)?;
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Bytes of a PUBACK that says nothing but that its publish was accepted.
pub(crate) const PUBACK_BYTES: usize = 4;

/// Appends such a PUBACK: in all versions the same (section 3.4.2.1).
#[inline]
pub(crate) fn put_puback(packet_id: PacketId, out: &mut Vec<u8>) {
    let [high, low] = packet_id.get().to_be_bytes();
    let puback: [u8; PUBACK_BYTES] = [0x40, 2, high, low];
    out.extend_from_slice(&puback);
}

fn write_ack(version: Version, first: u8, ack: &Ack<'_>, out: &mut Vec<u8>) -> Written {
    let [high, low] = ack.packet_id.get().to_be_bytes();
    if version != Version::V5 || (ack.reason == Reason::Success && ack.properties.is_empty()) {
        out.extend_from_slice(&[first, 2, high, low]);
        return Ok(());
    }
    framed(first, out, |out| {
        out.extend_from_slice(&[high, low]);
        put_reason(ack.reason, ack.properties, out)
    })
}

fn write_connect(connect: &Connect<'_>, out: &mut Vec<u8>) -> Written {
    let version = connect.version;
    let (name, level): (&[u8], u8) = match version {
        Version::V31 => (b"MQIsdp", 3),
        Version::V311 => (b"MQTT", 4),
        Version::V5 => (b"MQTT", 5),
    };
    if connect.bridge && version == Version::V5 {
        return Err(EncodeError::Contradiction("5.0 has no level for bridges"));
    }
    if version != Version::V5 && connect.password.is_some() && connect.username.is_none() {
        return Err(EncodeError::Contradiction(
            "a password without a user name in 3.x",
        ));
    }
    put_binary(name, out)?;
    out.push(level | u8::from(connect.bridge) << 7);
    let mut flags = u8::from(connect.username.is_some()) << 7
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    out.push(flags);
    out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    put_properties(version, connect.properties, out)?;
    put_binary(connect.client_id.as_bytes(), out)?;
    if let Some(will) = &connect.will {
        write_will(version, will, out)?;
    }
    if let Some(username) = connect.username {
        put_binary(username.as_bytes(), out)?;
    }
    if let Some(password) = connect.password {
        put_binary(password, out)?;
    }
    Ok(())
}

fn write_will(version: Version, will: &Will<'_>, out: &mut Vec<u8>) -> Written {
    put_properties(version, will.properties, out)?;
    put_binary(will.topic.as_bytes(), out)?;
    put_binary(will.payload, out)
}

fn write_connack(version: Version, connack: &Connack<'_>, out: &mut Vec<u8>) -> Written {
    // 3.1 has no Session Present, and a refusal never has it [MQTT-3.2.2-6].
    let present = connack.session_present && version != Version::V31 && !connack.reason.is_error();
    out.push(u8::from(present));
    out.push(match version {
        Version::V5 => connack.reason as u8,
        _ => connack.reason.return_code(),
    });
    put_properties(version, connack.properties, out)
}

fn write_subscribe(version: Version, subscribe: &Subscribe<'_>, out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(&subscribe.packet_id.get().to_be_bytes());
    put_properties(version, subscribe.properties, out)?;
    for subscription in &subscribe.filters {
        put_binary(subscription.filter.as_bytes(), out)?;
        let mut options = subscription.qos as u8;
        if version == Version::V5 {
            options |= u8::from(subscription.no_local) << 2
                | u8::from(subscription.retain_as_published) << 3
                | (subscription.retain_handling as u8) << 4;
        }
        out.push(options);
    }
    Ok(())
}

fn write_suback(version: Version, suback: &Suback<'_>, out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(&suback.packet_id.get().to_be_bytes());
    put_properties(version, suback.properties, out)?;
    out.extend(suback.reasons.iter().map(|reason| match version {
        // 3.1.1 knows one failure (section 3.9.3); 3.1 none, but a silent one would be worse.
        Version::V31 | Version::V311 if reason.is_error() => Reason::UnspecifiedError as u8,
        _ => *reason as u8,
    }));
    Ok(())
}

fn write_unsubscribe(version: Version, unsubscribe: &Unsubscribe<'_>, out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(&unsubscribe.packet_id.get().to_be_bytes());
    put_properties(version, unsubscribe.properties, out)?;
    for filter in &unsubscribe.filters {
        put_binary(filter.as_bytes(), out)?;
    }
    Ok(())
}

fn write_unsuback(version: Version, unsuback: &Suback<'_>, out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(&unsuback.packet_id.get().to_be_bytes());
    put_properties(version, unsuback.properties, out)?;
    if version == Version::V5 {
        out.extend(unsuback.reasons.iter().map(|reason| *reason as u8));
    }
    Ok(())
}
