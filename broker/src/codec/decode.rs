//! Frames to packets: fixed header, then one function a packet (MQTT 5.0 sections 2.1 and 3).

use super::connect::decode_connect;
use super::cursor::{Cursor, var_int};
use super::packet::{
    Ack, Auth, Connack, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling, Suback, Subscribe,
    Subscription, Unsubscribe, Version,
};
use super::property::{Place, Properties};
use super::reason::{DecodeError, Reason};
use super::topic;

/// The packet type of PUBLISH.
const PUBLISH: u8 = 3;

/// Size of the frame at the start of `bytes`, `None` when its fixed header is not complete. A frame above
/// `max_packet_bytes` is refused (0x95) before anything of it is buffered.
#[inline]
pub fn frame_len(bytes: &[u8], max_packet_bytes: usize) -> Result<Option<usize>, DecodeError> {
    let Some((_, length)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((remaining, used, _)) = var_int(length)? else {
        return Ok(None);
    };
    let whole = 1 + used + remaining as usize;
    if whole > max_packet_bytes {
        return Err(DecodeError {
            reason: Reason::PacketTooLarge,
            text: "the packet is larger than the limit (section 3.1.2.11.4)",
        });
    }
    Ok(Some(whole))
}

/// Bytes of the payload in the frame of a PUBLISH, without a look at the rest: for frames of our own. `None` for what is
/// none.
pub fn payload_len(version: Version, frame: &[u8]) -> Option<usize> {
    let (first, rest) = frame.split_first()?;
    let (_, used, _) = var_int(rest).ok()??;
    let (topic, rest) = rest.get(used..)?.split_first_chunk()?;
    let packet_id = if first & 0x06 == 0 { 0 } else { 2 };
    let rest = rest.get(usize::from(u16::from_be_bytes(*topic)) + packet_id..)?;
    let properties = match version {
        Version::V5 => {
            let (len, used, _) = var_int(rest).ok()??;
            len as usize + used
        }
        Version::V31 | Version::V311 => 0,
    };
    (first >> 4 == 3).then(|| rest.len().saturating_sub(properties))
}

/// A frame taken apart.
pub(super) struct Header<'a> {
    /// Packet type, 0 to 15.
    pub(super) kind: u8,
    flags: u8,
    /// The remaining length is written in as few bytes as possible.
    minimal: bool,
    pub(super) body: &'a [u8],
}

#[inline]
pub(super) fn header(frame: &[u8]) -> Result<Header<'_>, DecodeError> {
    const CUT_OFF: DecodeError = DecodeError::malformed("the frame is cut off");
    let (first, rest) = frame.split_first().ok_or(CUT_OFF)?;
    let (remaining, used, minimal) = var_int(rest)?.ok_or(CUT_OFF)?;
    let body = rest.get(used..).ok_or(CUT_OFF)?;
    if body.len() != remaining as usize {
        return Err(DecodeError::malformed(
            "the frame is not as long as its header says (section 2.1.4)",
        ));
    }
    Ok(Header {
        kind: first >> 4,
        flags: first & 0x0F,
        minimal,
        body,
    })
}

/// Reads one whole frame. For CONNECT the version is taken from the packet and `version` plays no part.
pub fn decode<'a>(version: Version, frame: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
    let header = header(frame)?;
    if header.kind == PUBLISH {
        return publish(version, &header, "").map(Packet::Publish);
    }
    let mut body = Cursor::new(header.body);
    check_flags(version, &header)?;
    let packet = other(version, header.kind, &mut body)?;
    if !body.is_empty() {
        return Err(DecodeError::malformed("bytes follow the end of the packet"));
    }
    let version = match &packet {
        Packet::Connect(connect) => {
            check_connect_flags(connect.version, &header)?;
            connect.version
        }
        _ => version,
    };
    check_length(version, &header)?;
    Ok(packet)
}

/// Reads one whole frame whose first byte says PUBLISH: by far the most frequent, on a way of its own. `usual`: a topic
/// name that was read before; the same one again is not looked through again.
#[inline]
pub(crate) fn decode_publish<'a>(
    version: Version,
    frame: &'a [u8],
    usual: &'a str,
) -> Result<Publish<'a>, DecodeError> {
    publish(version, &header(frame)?, usual)
}

/// 5.0 wants the remaining length in as few bytes as possible.
#[inline]
fn check_length(version: Version, header: &Header<'_>) -> Result<(), DecodeError> {
    if header.minimal || version != Version::V5 {
        return Ok(());
    }
    Err(DecodeError::malformed(
        "the remaining length is longer than needed [MQTT-1.5.5-1]",
    ))
}

const RESERVED: DecodeError = DecodeError::malformed("reserved bits of the fixed header [MQTT-2.1.3-1]");

/// CONNECT names its version itself; 3.1 does not use these bits there, and some of its clients send QoS 1.
fn check_connect_flags(version: Version, header: &Header<'_>) -> Result<(), DecodeError> {
    match header.flags {
        0 => Ok(()),
        _ if version == Version::V31 => Ok(()),
        _ => Err(RESERVED),
    }
}

/// The reserved bits of the fixed header [MQTT-2.1.3-1]. PUBREL, SUBSCRIBE and UNSUBSCRIBE have 0b0010; in 3.1 they
/// are sent at QoS 1 and may carry DUP.
fn check_flags(version: Version, header: &Header<'_>) -> Result<(), DecodeError> {
    let right = match header.kind {
        1 => true,
        6 | 8 | 10 if version == Version::V31 => header.flags & 0x07 == 0x02,
        6 | 8 | 10 => header.flags == 0x02,
        _ => header.flags == 0,
    };
    if right {
        return Ok(());
    }
    Err(RESERVED)
}

fn other<'a>(version: Version, kind: u8, body: &mut Cursor<'a>) -> Result<Packet<'a>, DecodeError> {
    use Place as P;
    Ok(match kind {
        1 => Packet::Connect(decode_connect(body)?),
        2 => Packet::Connack(connack(version, body)?),
        4 => Packet::Puback(ack(version, body, P::Puback)?),
        5 => Packet::Pubrec(ack(version, body, P::Pubrec)?),
        6 => Packet::Pubrel(ack(version, body, P::Pubrel)?),
        7 => Packet::Pubcomp(ack(version, body, P::Pubcomp)?),
        8 => Packet::Subscribe(subscribe(version, body)?),
        9 => Packet::Suback(suback(version, body)?),
        10 => Packet::Unsubscribe(unsubscribe(version, body)?),
        11 => Packet::Unsuback(unsuback(version, body)?),
        12 => Packet::Pingreq,
        13 => Packet::Pingresp,
        14 => Packet::Disconnect(disconnect(version, body)?),
        15 if version == Version::V5 => Packet::Auth(auth(body)?),
        15 => {
            return Err(DecodeError::malformed(
                "AUTH is a packet of 5.0 only (section 2.1.2)",
            ));
        }
        _ => {
            return Err(DecodeError::malformed(
                "packet type 0 is reserved (section 2.1.2)",
            ));
        }
    })
}

/// The properties at this place: none in 3.x.
#[inline]
pub(super) fn properties<'a>(
    version: Version,
    body: &mut Cursor<'a>,
    place: Place,
) -> Result<Properties<'a>, DecodeError> {
    if version != Version::V5 {
        return Ok(Properties::EMPTY);
    }
    let len = body.var_int()?;
    if len == 0 {
        return Ok(Properties::EMPTY);
    }
    Properties::check(body.take(len as usize)?, place)
}

const NO_ID: &str = "the packet identifier is 0 [MQTT-2.2.1-3]";

/// Of a PUBLISH and its answers. No rule says with which reason 0 is refused; both are Mosquitto's.
#[inline]
fn packet_id(body: &mut Cursor<'_>) -> Result<PacketId, DecodeError> {
    PacketId::new(body.u16()?).ok_or(DecodeError::protocol(NO_ID))
}

/// Of SUBSCRIBE, UNSUBSCRIBE and their answers.
fn request_id(body: &mut Cursor<'_>) -> Result<PacketId, DecodeError> {
    PacketId::new(body.u16()?).ok_or(DecodeError::malformed(NO_ID))
}

#[inline]
fn publish<'a>(version: Version, header: &Header<'a>, usual: &'a str) -> Result<Publish<'a>, DecodeError> {
    check_length(version, header)?;
    let flags = header.flags;
    let mut body = Cursor::new(header.body);
    let qos = QoS::try_from((flags >> 1) & 0x03)
        .map_err(|_| DecodeError::malformed("PUBLISH has QoS 3 [MQTT-3.3.1-4]"))?;
    let dup = flags & 0x08 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("PUBLISH has DUP at QoS 0 [MQTT-3.3.1-2]"));
    }
    let topic = match body.binary()? {
        name if name == usual.as_bytes() => usual,
        name => topic::name_or_empty(name)?,
    };
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        _ => Some(packet_id(&mut body)?),
    };
    let properties = properties(version, &mut body, Place::Publish)?;
    if topic.is_empty() {
        if version != Version::V5 {
            topic::check_name(topic)?;
        } else if properties.topic_alias().is_none() {
            return Err(DecodeError::protocol(
                "PUBLISH has neither a topic name nor a topic alias (section 3.3.2.1)",
            ));
        }
    }
    Ok(Publish {
        dup,
        qos,
        retain: flags & 0x01 != 0,
        topic,
        packet_id,
        payload: body.rest(), // which leaves nothing over
        properties,
    })
}

/// A reason code that this packet may carry.
fn reason(code: u8, allowed: &[Reason]) -> Result<Reason, DecodeError> {
    match Reason::try_from(code) {
        Ok(reason) if allowed.contains(&reason) => Ok(reason),
        _ => Err(DecodeError::protocol(
            "a reason code is not one of this packet's (section 2.4)",
        )),
    }
}

fn connack<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Connack<'a>, DecodeError> {
    let flags = body.u8()?;
    let code = body.u8()?;
    let reason = match version {
        Version::V5 => reason(code, CONNACK_REASONS)?,
        _ => Reason::from_return_code(code)?,
    };
    // In 3.1 the first byte is reserved and not used.
    if version != Version::V31 && flags > 1 {
        return Err(DecodeError::malformed(
            "reserved CONNACK flags are set [MQTT-3.2.2-1]",
        ));
    }
    let session_present = version != Version::V31 && flags == 1;
    if session_present && reason != Reason::Success {
        return Err(DecodeError::protocol(
            "CONNACK refuses and has Session Present [MQTT-3.2.2-6]",
        ));
    }
    Ok(Connack {
        session_present,
        reason,
        properties: properties(version, body, Place::Connack)?,
    })
}

fn ack<'a>(version: Version, body: &mut Cursor<'a>, place: Place) -> Result<Ack<'a>, DecodeError> {
    let packet_id = packet_id(body)?;
    let allowed = match place {
        Place::Puback | Place::Pubrec => PUBACK_REASONS,
        _ => PUBREL_REASONS,
    };
    let (reason, properties) = match version {
        Version::V5 => reason_and_properties(body, place, allowed)?,
        _ => (Reason::Success, Properties::EMPTY),
    };
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

/// Reason code and properties where 5.0 lets both be left out from the end (sections 3.4.2.1, 3.14.2.1).
fn reason_and_properties<'a>(
    body: &mut Cursor<'a>,
    place: Place,
    allowed: &[Reason],
) -> Result<(Reason, Properties<'a>), DecodeError> {
    if body.is_empty() {
        return Ok((Reason::Success, Properties::EMPTY));
    }
    let reason = reason(body.u8()?, allowed)?;
    if body.is_empty() {
        return Ok((reason, Properties::EMPTY));
    }
    Ok((reason, properties(Version::V5, body, place)?))
}

fn subscribe<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Subscribe<'a>, DecodeError> {
    let packet_id = request_id(body)?;
    let properties = properties(version, body, Place::Subscribe)?;
    if body.is_empty() {
        return Err(DecodeError::protocol(
            "SUBSCRIBE without a topic filter [MQTT-3.8.3-2]",
        ));
    }
    // Grows with the bytes that are there: no number that the client states is believed.
    let mut filters = Vec::with_capacity(1);
    while !body.is_empty() {
        filters.push(subscription(version, body)?);
    }
    Ok(Subscribe {
        packet_id,
        filters,
        properties,
    })
}

fn subscription<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Subscription<'a>, DecodeError> {
    let filter = body.text()?;
    topic::check_filter(filter)?;
    let options = body.u8()?;
    let reserved = match version {
        Version::V31 => 0, // not used, and no rule says that they are 0
        Version::V311 => 0xFC,
        Version::V5 => 0xC0,
    };
    if options & reserved != 0 {
        return Err(DecodeError::malformed(
            "reserved bits of the subscription options [MQTT-3.8.3-5]",
        ));
    }
    let five = version == Version::V5;
    let qos = QoS::try_from(options & 0x03).map_err(|_| match five {
        true => DecodeError::protocol("a subscription asks for QoS 3 (section 3.8.3.1)"),
        false => DecodeError::malformed("a subscription asks for QoS 3 (3.1.1) [MQTT-3-8.3-4]"),
    })?;
    let retain_handling = match (options >> 4) & 0x03 {
        _ if !five => RetainHandling::Send,
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(DecodeError::protocol("Retain Handling is 3 (section 3.8.3.1)")),
    };
    let no_local = five && options & 0x04 != 0;
    if no_local && topic::split_share(filter).is_some() {
        return Err(DecodeError::protocol(
            "No Local on a shared subscription [MQTT-3.8.3-4]",
        ));
    }
    Ok(Subscription {
        filter,
        qos,
        no_local,
        retain_as_published: five && options & 0x08 != 0,
        retain_handling,
    })
}

fn suback<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Suback<'a>, DecodeError> {
    let packet_id = request_id(body)?;
    let properties = properties(version, body, Place::Suback)?;
    let allowed = match version {
        Version::V5 => SUBACK_REASONS,
        _ => SUBACK_RETURN_CODES,
    };
    Ok(Suback {
        packet_id,
        reasons: reasons(body, allowed)?,
        properties,
    })
}

fn unsuback<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Suback<'a>, DecodeError> {
    let packet_id = request_id(body)?;
    let properties = properties(version, body, Place::Unsuback)?;
    let reasons = match version {
        Version::V5 => reasons(body, UNSUBACK_REASONS)?,
        _ => Vec::new(),
    };
    Ok(Suback {
        packet_id,
        reasons,
        properties,
    })
}

/// The reasons that fill the rest of a SUBACK or UNSUBACK: at least one.
fn reasons(body: &mut Cursor<'_>, allowed: &[Reason]) -> Result<Vec<Reason>, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::protocol(
            "an acknowledgement without a reason code [MQTT-3.9.3-1]",
        ));
    }
    let codes = body.take(body.rest().len())?;
    codes.iter().map(|code| reason(*code, allowed)).collect()
}

fn unsubscribe<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Unsubscribe<'a>, DecodeError> {
    let packet_id = request_id(body)?;
    let properties = properties(version, body, Place::Unsubscribe)?;
    if body.is_empty() {
        return Err(DecodeError::protocol(
            "UNSUBSCRIBE without a topic filter [MQTT-3.10.3-2]",
        ));
    }
    let mut filters = Vec::with_capacity(1);
    while !body.is_empty() {
        let filter = body.text()?;
        topic::check_filter(filter)?;
        filters.push(filter);
    }
    Ok(Unsubscribe {
        packet_id,
        filters,
        properties,
    })
}

fn disconnect<'a>(version: Version, body: &mut Cursor<'a>) -> Result<Disconnect<'a>, DecodeError> {
    let (reason, properties) = match version {
        Version::V5 => reason_and_properties(body, Place::Disconnect, DISCONNECT_REASONS)?,
        _ => (Reason::Success, Properties::EMPTY),
    };
    Ok(Disconnect { reason, properties })
}

fn auth<'a>(body: &mut Cursor<'a>) -> Result<Auth<'a>, DecodeError> {
    let success = Auth {
        reason: Reason::Success,
        properties: Properties::EMPTY,
    };
    if body.is_empty() {
        return Ok(success);
    }
    let auth = Auth {
        reason: reason(body.u8()?, AUTH_REASONS)?,
        properties: properties(Version::V5, body, Place::Auth)?,
    };
    // Success alone means the same whether it is left out or not (section 3.15.2.1).
    if auth != success && auth.properties.authentication_method().is_none() {
        return Err(DecodeError::protocol(
            "AUTH without an Authentication Method (section 3.15.2.2.2)",
        ));
    }
    Ok(auth)
}

/// 3.1.1 section 3.9.3.
const SUBACK_RETURN_CODES: &[Reason] = &[
    Reason::Success,
    Reason::GrantedQoS1,
    Reason::GrantedQoS2,
    Reason::UnspecifiedError,
];

/// Table 3-1.
const CONNACK_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::UnspecifiedError,
    Reason::MalformedPacket,
    Reason::ProtocolError,
    Reason::ImplementationSpecificError,
    Reason::UnsupportedProtocolVersion,
    Reason::ClientIdentifierNotValid,
    Reason::BadUserNameOrPassword,
    Reason::NotAuthorized,
    Reason::ServerUnavailable,
    Reason::ServerBusy,
    Reason::Banned,
    Reason::BadAuthenticationMethod,
    Reason::TopicNameInvalid,
    Reason::PacketTooLarge,
    Reason::QuotaExceeded,
    Reason::PayloadFormatInvalid,
    Reason::RetainNotSupported,
    Reason::QoSNotSupported,
    Reason::UseAnotherServer,
    Reason::ServerMoved,
    Reason::ConnectionRateExceeded,
];

/// Tables 3-4 and 3-5.
const PUBACK_REASONS: &[Reason] = &[
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

/// Tables 3-6 and 3-7.
const PUBREL_REASONS: &[Reason] = &[Reason::Success, Reason::PacketIdentifierNotFound];

/// Table 3-8.
const SUBACK_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::GrantedQoS1,
    Reason::GrantedQoS2,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdentifierInUse,
    Reason::QuotaExceeded,
    Reason::SharedSubscriptionsNotSupported,
    Reason::SubscriptionIdentifiersNotSupported,
    Reason::WildcardSubscriptionsNotSupported,
];

/// Table 3-9.
const UNSUBACK_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::NoSubscriptionExisted,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdentifierInUse,
];

/// Table 3-10.
const DISCONNECT_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::DisconnectWithWill,
    Reason::UnspecifiedError,
    Reason::MalformedPacket,
    Reason::ProtocolError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::ServerBusy,
    Reason::ServerShuttingDown,
    Reason::KeepAliveTimeout,
    Reason::SessionTakenOver,
    Reason::TopicFilterInvalid,
    Reason::TopicNameInvalid,
    Reason::ReceiveMaximumExceeded,
    Reason::TopicAliasInvalid,
    Reason::PacketTooLarge,
    Reason::MessageRateTooHigh,
    Reason::QuotaExceeded,
    Reason::AdministrativeAction,
    Reason::PayloadFormatInvalid,
    Reason::RetainNotSupported,
    Reason::QoSNotSupported,
    Reason::UseAnotherServer,
    Reason::ServerMoved,
    Reason::SharedSubscriptionsNotSupported,
    Reason::ConnectionRateExceeded,
    Reason::MaximumConnectTime,
    Reason::SubscriptionIdentifiersNotSupported,
    Reason::WildcardSubscriptionsNotSupported,
];

/// Table 3-11.
const AUTH_REASONS: &[Reason] = &[
    Reason::Success,
    Reason::ContinueAuthentication,
    Reason::ReAuthenticate,
];
