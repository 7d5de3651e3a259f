//! Reason strings: what a person at the client is told beside a code, where it says more than the code does and something
//! can be done about it. Never so long that the packet is larger than the client takes [MQTT-3.2.2-19, MQTT-3.4.2-2,
//! MQTT-3.5.2-2, MQTT-3.9.2-1, MQTT-3.14.2-3].

use crate::codec::{
    Connack, Disconnect, Packet, Properties, PropertiesBuf, Property, Reason, Version, encode,
};

/// How a packet was put into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    TooLarge,
    /// Its topic lies outside the client's mount point.
    Outside,
}

/// Appends `packet` unless it is larger than the client takes [MQTT-3.1.2-24].
pub(super) fn put(version: Version, most: u32, packet: &Packet<'_>, out: &mut Vec<u8>) -> Put {
    let start = out.len();
    if encode(version, packet, out).is_ok() && out.len() - start <= most as usize {
        return Put::Done;
    }
    out.truncate(start);
    Put::TooLarge
}

/// What is told beside a code, and less of it where that does not fit.
#[derive(Debug, Default)]
pub(super) struct Told([PropertiesBuf; 3]);

impl Told {
    /// A Server Reference and a Reason String.
    pub fn new(reference: Option<&str>, text: &str) -> Self {
        let mut all = PropertiesBuf::new();
        if let Some(reference) = reference {
            all.push(Property::ServerReference(reference));
        }
        let short = all.clone();
        if !text.is_empty() {
            all.push(Property::ReasonString(text));
        }
        Self([all, short, PropertiesBuf::new()])
    }

    /// Appends the packet that `with` makes of as much as fits.
    pub fn put<'a>(
        &'a self,
        version: Version,
        most: u32,
        with: impl Fn(Properties<'a>) -> Packet<'a>,
        out: &mut Vec<u8>,
    ) {
        for properties in &self.0 {
            if put(version, most, &with(properties.as_properties()), out) == Put::Done {
                return;
            }
        }
    }
}

/// Appends the CONNACK that refuses a client; `reference`: where it finds another server.
pub fn put_refusal(
    version: Version,
    most: u32,
    reason: Reason,
    text: &str,
    reference: Option<&str>,
    out: &mut Vec<u8>,
) {
    let told = Told::new(reference, text);
    let connack = |properties| {
        Packet::Connack(Connack {
            session_present: false,
            reason,
            properties,
        })
    };
    told.put(version, most, connack, out);
}

/// Appends the DISCONNECT that tells a 5.0 client why its connection ends; `reference`: where it finds another server.
pub fn put_disconnect(most: u32, reason: Reason, text: &str, reference: Option<&str>, out: &mut Vec<u8>) {
    let told = Told::new(reference, text);
    let disconnect = |properties| Packet::Disconnect(Disconnect { reason, properties });
    told.put(Version::V5, most, disconnect, out);
}

/// Why a CONNECT is refused.
pub fn of_connect(reason: Reason) -> &'static str {
    match reason {
        Reason::UnsupportedProtocolVersion => "this listener does not take this version of MQTT",
        Reason::BadUserNameOrPassword => "user name or password is wrong",
        Reason::NotAuthorized => "this client may not connect here",
        Reason::BadAuthenticationMethod => "this authentication method is not known here",
        Reason::TopicNameInvalid => "the will's topic is too long or has too many levels",
        Reason::ServerBusy => "no room for this session now, try again later",
        Reason::UseAnotherServer => "no room for further connections",
        Reason::ServerShuttingDown => "the broker is stopping",
        _ => "",
    }
}

/// Why the broker ends a connection.
pub fn of_end(reason: Reason) -> &'static str {
    match reason {
        Reason::KeepAliveTimeout => "nothing came for one and a half times the keep-alive",
        Reason::ServerShuttingDown | Reason::UseAnotherServer => "the broker is stopping",
        _ => "",
    }
}

/// Why a publish is refused.
pub(super) fn of_publish(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAuthorized => "this client may not publish on this topic",
        Reason::QuotaExceeded => "there is no room for it, or it was refused for good behind the broker",
        _ => "",
    }
}

/// Why a filter is refused.
pub(super) fn of_filter(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAuthorized => "this client may not subscribe to this filter",
        Reason::QuotaExceeded => "this client holds as many subscriptions as it may",
        Reason::TopicFilterInvalid => "the filter is too long or has too many levels",
        _ => "",
    }
}
