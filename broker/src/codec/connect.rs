//! CONNECT (section 3.1): the packet that names the version, with rules that differ in each.

use super::cursor::{self, Cursor};
use super::packet::{Connect, QoS, Version, Will};
use super::property::Place;
use super::reason::{DecodeError, Reason};
use super::{decode, topic};

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;
const BRIDGE: u8 = 0x80;

/// Protocol name and level: the version and whether the level has Mosquitto's bridge bit.
fn version(body: &mut Cursor<'_>) -> Result<(Version, bool), DecodeError> {
    let name = body.binary()?;
    let level = body.u8()?;
    match (name, level) {
        (b"MQIsdp", 3) => Ok((Version::V31, false)),
        (b"MQTT", 4) => Ok((Version::V311, false)),
        (b"MQTT", 5) => Ok((Version::V5, false)),
        // Mosquitto's bridges mark themselves so that the other side sends nothing back that came from them.
        (b"MQIsdp", level) if level == 3 | BRIDGE => Ok((Version::V31, true)),
        (b"MQTT", level) if level == 4 | BRIDGE => Ok((Version::V311, true)),
        _ => Err(DecodeError {
            reason: Reason::UnsupportedProtocolVersion,
            text: "protocol name and level are none of 3.1, 3.1.1 and 5.0 [MQTT-3.1.2-1] [MQTT-3.1.2-2]",
        }),
    }
}

/// The version that a CONNECT frame names, whatever is wrong behind it: so that a fault can be answered with a CONNACK
/// that the client understands.
pub fn peek_version(frame: &[u8]) -> Result<Version, DecodeError> {
    let header = decode::header(frame)?;
    if header.kind != 1 {
        return Err(DecodeError::protocol(
            "the first packet is not CONNECT [MQTT-3.1.0-1]",
        ));
    }
    Ok(version(&mut Cursor::new(header.body))?.0)
}

/// The body of a CONNECT.
pub(super) fn decode_connect<'a>(body: &mut Cursor<'a>) -> Result<Connect<'a>, DecodeError> {
    let (version, bridge) = version(body)?;
    let flags = check_flags(version, body.u8()?)?;
    let keep_alive_s = body.u16()?;
    let properties = decode::properties(version, body, Place::Connect)?;
    let client_id = cursor::name(body.binary()?).map_err(|fault| match version {
        // What is no string can be no client identifier [MQTT-3.1.3-4] [MQTT-3.1.3-8].
        Version::V5 => DecodeError {
            reason: Reason::ClientIdentifierNotValid,
            ..fault
        },
        _ => fault,
    })?;
    let will = if flags & WILL == 0 {
        None
    } else {
        Some(will(version, flags, body)?)
    };
    // 3.1 (section 3.1): the remaining length goes before the flags, for clients of the time before user names.
    let ended = |body: &Cursor<'_>| version == Version::V31 && body.is_empty();
    let username = if flags & USERNAME == 0 || ended(body) {
        None
    } else {
        Some(body.name()?)
    };
    let password = if flags & PASSWORD == 0 || ended(body) {
        None
    } else {
        Some(body.binary()?)
    };
    Ok(Connect {
        version,
        bridge,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_s,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn check_flags(version: Version, flags: u8) -> Result<u8, DecodeError> {
    // 3.1 has no rule on the reserved bit and disregards the will's bits where there is no will.
    if version != Version::V31 {
        if flags & RESERVED != 0 {
            return Err(DecodeError::malformed(
                "the reserved connect flag is set [MQTT-3.1.2-3]",
            ));
        }
        if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
            return Err(DecodeError::malformed(
                "will QoS or will retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]",
            ));
        }
    }
    if version != Version::V5 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::malformed(
            "a password without a user name (3.1.1) [MQTT-3.1.2-22]",
        ));
    }
    Ok(flags)
}

fn will<'a>(version: Version, flags: u8, body: &mut Cursor<'a>) -> Result<Will<'a>, DecodeError> {
    let qos = QoS::try_from((flags & WILL_QOS) >> 3)
        .map_err(|_| DecodeError::malformed("the will's QoS is 3 [MQTT-3.1.2-12]"))?;
    let properties = decode::properties(version, body, Place::Will)?;
    let topic = body.text()?;
    topic::check_name(topic)?;
    Ok(Will {
        topic,
        payload: body.binary()?,
        qos,
        retain: flags & WILL_RETAIN != 0,
        properties,
    })
}

impl Connect<'_> {
    /// Whether the server may take this client identifier. An empty one, for which the server chooses, is refused in
    /// 3.1 and, without Clean Session, in 3.1.1 [MQTT-3.1.3-8]. (3.1's limit of 23 characters is not held against
    /// clients: nobody does.)
    pub fn check_client_id(&self) -> Result<(), DecodeError> {
        let allowed = match self.version {
            Version::V31 => !self.client_id.is_empty(),
            Version::V311 => self.clean_start || !self.client_id.is_empty(),
            Version::V5 => true,
        };
        if allowed {
            return Ok(());
        }
        Err(DecodeError {
            reason: Reason::ClientIdentifierNotValid,
            text: "the client identifier is empty [MQTT-3.1.3-8]",
        })
    }
}
