//! Bytes to packets (section 3 of each specification), strict.

use super::packet::*;
use super::primitive::Cursor;
use super::property::{Place, Properties};
use super::reason::{DecodeError, Reason};
use super::topic;

type Decoded<T> = Result<T, DecodeError>;

/// Reads one whole frame, of the length that [`super::frame_len`] gave. CONNECT brings its own version; `version` is
/// that of the connection for all others.
#[inline]
pub fn decode<'a>(version: Version, frame: &'a [u8]) -> Decoded<Packet<'a>> {
    let mut cursor = Cursor::new(frame);
    let first = cursor.u8()?;
    let remaining = cursor.var_int()?;
    let body = cursor.rest();
    if body.len() != remaining as usize {
        return Err(DecodeError::malformed(
            "the remaining length is not the length of the rest",
        ));
    }
    if first >> 4 == 3 {
        return publish(version, first, body);
    }
    let flags = match first >> 4 {
        6 | 8 | 10 => 0x02,
        _ => 0,
    };
    if first & 0x0F != flags {
        return Err(DecodeError::malformed(
            "reserved bits of the fixed header are wrong [MQTT-2.1.3-1]",
        ));
    }
    let mut cursor = Cursor::new(body);
    let packet = control(version, first >> 4, &mut cursor)?;
    match cursor.is_empty() {
        true => Ok(packet),
        false => Err(DecodeError::malformed(
            "bytes follow the last field of the packet",
        )),
    }
}

fn control<'a>(version: Version, kind: u8, cursor: &mut Cursor<'a>) -> Decoded<Packet<'a>> {
    Ok(match kind {
        1 => Packet::Connect(connect(cursor)?),
        2 => Packet::Connack(connack(version, cursor)?),
        4 => Packet::Puback(ack(version, cursor, ACK_REASONS)?),
        5 => Packet::Pubrec(ack(version, cursor, ACK_REASONS)?),
        6 => Packet::Pubrel(ack(version, cursor, RELEASE_REASONS)?),
        7 => Packet::Pubcomp(ack(version, cursor, RELEASE_REASONS)?),
        8 => Packet::Subscribe(subscribe(version, cursor)?),
        9 => Packet::Suback(suback(version, cursor)?),
        10 => Packet::Unsubscribe(unsubscribe(version, cursor)?),
        11 => Packet::Unsuback(unsuback(version, cursor)?),
        12 => Packet::Pingreq,
        13 => Packet::Pingresp,
        14 => Packet::Disconnect(disconnect(version, cursor)?),
        15 if version == Version::V5 => Packet::Auth(auth(cursor)?),
        _ => {
            return Err(DecodeError::malformed(
                "the packet type is reserved (section 2.1.2)",
            ));
        }
    })
}

/// The properties that a 5.0 packet has at this place; none in 3.x.
fn properties<'a>(version: Version, cursor: &mut Cursor<'a>, place: Place) -> Decoded<Properties<'a>> {
    if version != Version::V5 {
        return Ok(Properties::EMPTY);
    }
    let len = cursor.var_int()?;
    Properties::check(cursor.take(len as usize)?, place)
}

#[inline]
fn publish<'a>(version: Version, first: u8, body: &'a [u8]) -> Decoded<Packet<'a>> {
    let mut cursor = Cursor::new(body);
    let qos =
        QoS::try_from((first >> 1) & 0x03).map_err(|_| DecodeError::malformed("QoS 3 [MQTT-3.3.1-4]"))?;
    let dup = first & 0x08 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("DUP is set at QoS 0 [MQTT-3.3.1-2]"));
    }
    let topic = cursor.string()?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        _ => Some(cursor.packet_id()?),
    };
    let properties = properties(version, &mut cursor, Place::Publish)?;
    if !topic.is_empty() {
        topic::check_name(topic)?;
    } else if properties.topic_alias().is_none() {
        return Err(DecodeError::protocol(
            "a PUBLISH has neither topic nor alias [MQTT-4.7.3-1]",
        ));
    }
    if properties.topic_alias() == Some(0) {
        return Err(DecodeError {
            reason: Reason::TopicAliasInvalid,
            text: "the topic alias is 0 [MQTT-3.3.2-8]",
        });
    }
    if let Some(response) = properties.response_topic() {
        topic::check_name(response)?;
    }
    Ok(Packet::Publish(Publish {
        dup,
        qos,
        retain: first & 0x01 != 0,
        topic,
        packet_id,
        payload: cursor.rest(),
        properties,
    }))
}

const UNSUPPORTED: DecodeError = DecodeError {
    reason: Reason::UnsupportedProtocolVersion,
    text: "the protocol name or level is not one of 3.1, 3.1.1 and 5.0 [MQTT-3.1.2-1, MQTT-3.1.2-2]",
};

fn version_of(name: &[u8], level: u8) -> Decoded<(Version, bool)> {
    let bridge = level & 0x80 != 0;
    match (name, level & 0x7F) {
        (b"MQIsdp", 3) => Ok((Version::V31, bridge)),
        (b"MQTT", 4) => Ok((Version::V311, bridge)),
        (b"MQTT", 5) if !bridge => Ok((Version::V5, false)),
        _ => Err(UNSUPPORTED),
    }
}

fn connect<'a>(cursor: &mut Cursor<'a>) -> Decoded<Connect<'a>> {
    let name = cursor.binary()?;
    let (version, bridge) = version_of(name, cursor.u8()?)?;
    let flags = cursor.u8()?;
    let keep_alive_s = cursor.u16()?;
    if flags & 0x01 != 0 {
        return Err(DecodeError::malformed(
            "the reserved flag of CONNECT is set [MQTT-3.1.2-3]",
        ));
    }
    if flags & 0x04 == 0 && flags & 0x38 != 0 {
        return Err(DecodeError::malformed(
            "will flags without a will [MQTT-3.1.2-11, MQTT-3.1.2-13]",
        ));
    }
    if version != Version::V5 && flags & 0xC0 == 0x40 {
        return Err(DecodeError::malformed(
            "a password without a user name [MQTT-3.1.2-22]",
        ));
    }
    let properties = properties(version, cursor, Place::Connect)?;
    if properties.iter().any(|p| p.id() == 0x16) && properties.authentication_method().is_none() {
        return Err(DecodeError::protocol(
            "authentication data without a method (section 3.1.2.11.10)",
        ));
    }
    let client_id = cursor.string()?;
    let will = match flags & 0x04 {
        0 => None,
        _ => Some(will(version, flags, cursor)?),
    };
    Ok(Connect {
        version,
        bridge,
        clean_start: flags & 0x02 != 0,
        keep_alive_s,
        client_id,
        will,
        username: (flags & 0x80 != 0).then(|| cursor.string()).transpose()?,
        password: (flags & 0x40 != 0).then(|| cursor.binary()).transpose()?,
        properties,
    })
}

fn will<'a>(version: Version, flags: u8, cursor: &mut Cursor<'a>) -> Decoded<Will<'a>> {
    let qos = QoS::try_from((flags >> 3) & 0x03)
        .map_err(|_| DecodeError::malformed("will QoS 3 [MQTT-3.1.2-12]"))?;
    let properties = properties(version, cursor, Place::Will)?;
    let topic = cursor.string()?;
    topic::check_name(topic)?;
    Ok(Will {
        topic,
        payload: cursor.binary()?,
        qos,
        retain: flags & 0x20 != 0,
        properties,
    })
}

fn reason(cursor: &mut Cursor<'_>, allowed: &[Reason]) -> Decoded<Reason> {
    let reason = Reason::try_from(cursor.u8()?)?;
    match allowed.contains(&reason) {
        true => Ok(reason),
        false => Err(DecodeError::malformed(
            "a reason code stands where it is not allowed (section 2.4)",
        )),
    }
}

fn connack<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Connack<'a>> {
    let flags = cursor.u8()?;
    if flags & 0xFE != 0 {
        return Err(DecodeError::malformed(
            "reserved CONNACK flags are set [MQTT-3.2.2-1]",
        ));
    }
    let code = cursor.u8()?;
    let reason = match version {
        Version::V5 => Reason::try_from(code)?,
        _ => Reason::from_return_code(code)?,
    };
    Ok(Connack {
        session_present: flags & 0x01 != 0,
        reason,
        properties: properties(version, cursor, Place::Connack)?,
    })
}

const ACK_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::NoMatchingSubscribers,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicNameInvalid,
    Reason::PacketIdentifierInUse,
    Reason::QuotaExceeded,
    Reason::PayloadFormatInvalid,
];
const RELEASE_REASONS: &[Reason] = &[Reason::Success, Reason::PacketIdentifierNotFound];

fn ack<'a>(version: Version, cursor: &mut Cursor<'a>, reasons: &[Reason]) -> Decoded<Ack<'a>> {
    let packet_id = cursor.packet_id()?;
    let short = version != Version::V5 || cursor.is_empty();
    let reason = if short {
        Reason::Success
    } else {
        reason(cursor, reasons)?
    };
    let properties = match short || cursor.is_empty() {
        true => Properties::EMPTY,
        false => properties(version, cursor, Place::Ack)?,
    };
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

fn subscribe<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Subscribe<'a>> {
    let packet_id = cursor.packet_id()?;
    let properties = properties(version, cursor, Place::Subscribe)?;
    let mut filters = Vec::new();
    while !cursor.is_empty() {
        let filter = cursor.string()?;
        topic::check_filter(filter)?;
        filters.push(options(version, filter, cursor.u8()?)?);
    }
    match filters.is_empty() {
        true => Err(DecodeError::protocol(
            "a SUBSCRIBE without a filter [MQTT-3.8.3-2]",
        )),
        false => Ok(Subscribe {
            packet_id,
            filters,
            properties,
        }),
    }
}

fn options<'a>(version: Version, filter: &'a str, bits: u8) -> Decoded<Subscription<'a>> {
    let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
    if bits & reserved != 0 {
        return Err(DecodeError::malformed(
            "reserved bits of subscription options are set [MQTT-3.8.3-5]",
        ));
    }
    let no_local = bits & 0x04 != 0;
    if no_local && topic::split_share(filter).is_some() {
        return Err(DecodeError::protocol(
            "no local on a shared subscription [MQTT-3.8.3-4]",
        ));
    }
    Ok(Subscription {
        filter,
        qos: QoS::try_from(bits & 0x03)
            .map_err(|_| DecodeError::malformed("QoS 3 in a subscription (section 3.8.3.1)"))?,
        no_local,
        retain_as_published: bits & 0x08 != 0,
        retain_handling: match (bits >> 4) & 0x03 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("retain handling 3 (section 3.8.3.1)")),
        },
    })
}

fn suback<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Suback<'a>> {
    let packet_id = cursor.packet_id()?;
    let properties = properties(version, cursor, Place::Ack)?;
    let mut reasons = Vec::new();
    for code in cursor.rest() {
        match (version, *code) {
            (Version::V5, code) => reasons.push(Reason::try_from(code)?),
            (_, code @ (0..=2 | 0x80)) => reasons.push(Reason::try_from(code)?),
            _ => {
                return Err(DecodeError::malformed(
                    "a SUBACK return code is reserved [MQTT-3.9.3-2]",
                ));
            }
        }
    }
    Ok(Suback {
        packet_id,
        reasons,
        properties,
    })
}

fn unsubscribe<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Unsubscribe<'a>> {
    let packet_id = cursor.packet_id()?;
    let properties = properties(version, cursor, Place::Unsubscribe)?;
    let mut filters = Vec::new();
    while !cursor.is_empty() {
        let filter = cursor.string()?;
        topic::check_filter(filter)?;
        filters.push(filter);
    }
    match filters.is_empty() {
        true => Err(DecodeError::protocol(
            "an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]",
        )),
        false => Ok(Unsubscribe {
            packet_id,
            filters,
            properties,
        }),
    }
}

fn unsuback<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Suback<'a>> {
    let packet_id = cursor.packet_id()?;
    let properties = properties(version, cursor, Place::Ack)?;
    let reasons = match version {
        Version::V5 => cursor
            .rest()
            .iter()
            .map(|code| Reason::try_from(*code))
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    Ok(Suback {
        packet_id,
        reasons,
        properties,
    })
}

fn disconnect<'a>(version: Version, cursor: &mut Cursor<'a>) -> Decoded<Disconnect<'a>> {
    if version != Version::V5 || cursor.is_empty() {
        return Ok(Disconnect {
            reason: Reason::Success,
            properties: Properties::EMPTY,
        });
    }
    let reason = Reason::try_from(cursor.u8()?)?;
    let properties = match cursor.is_empty() {
        true => Properties::EMPTY,
        false => properties(version, cursor, Place::Disconnect)?,
    };
    Ok(Disconnect { reason, properties })
}

fn auth<'a>(cursor: &mut Cursor<'a>) -> Decoded<Auth<'a>> {
    let mut reason_code = Reason::Success;
    let mut found = Properties::EMPTY;
    if !cursor.is_empty() {
        let allowed = [
            Reason::Success,
            Reason::ContinueAuthentication,
            Reason::ReAuthenticate,
        ];
        reason_code = reason(cursor, &allowed)?;
        found = properties(Version::V5, cursor, Place::Auth)?;
    }
    Ok(Auth {
        reason: reason_code,
        properties: found,
    })
}
