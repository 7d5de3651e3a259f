//! Why a client ends without having done its work: texts and exit codes as the Mosquitto clients have them, so that
//! scripts go on working.

use std::io;
use std::time::Duration;

use forebay_broker::codec::{DecodeError, EncodeError, Reason, Version};

use super::tls;

/// Exit code of what breaks the protocol (libmosquitto's MOSQ_ERR_PROTOCOL).
const PROTOCOL: u8 = 2;
/// Exit code of a lost connection (libmosquitto's MOSQ_ERR_CONN_LOST).
const LOST: u8 = 7;
/// Exit code of a failure of TLS (libmosquitto's MOSQ_ERR_TLS).
const TLS: u8 = 8;
/// Exit code of a packet that is over the broker's limit (libmosquitto's MOSQ_ERR_OVERSIZE_PACKET).
const TOO_LARGE: u8 = 25;
/// Exit code of a wait that took too long (libmosquitto's MOSQ_ERR_TIMEOUT).
const TIMEOUT: u8 = 27;

/// Why a client ends.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The options contradict each other or ask for what is not there.
    #[error("Error: {0}")]
    Usage(String),
    /// No connection could be made.
    #[error("Error: {}", unreachable(.0))]
    Unreachable(io::Error),
    /// The host has no address.
    #[error("Unable to connect (Lookup error): {0}")]
    Lookup(io::Error),
    /// The broker does not let the client in: the answer's reason and the reason text, if it gave one.
    #[error("Connection error: {}", refusal(*.0, *.1, .2))]
    Refused(Version, Reason, String),
    /// The broker asks for the end of the connection (MQTT 5).
    #[error("Error: the broker ended the connection: {}", with_text(text(*.0), .1))]
    Ended(Reason, String),
    /// There is no TLS with the broker, or no longer.
    #[error("Error: A TLS error occurred: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("Error: The connection was lost.")]
    Lost,
    /// What the broker sent is no MQTT.
    #[error("Error: the broker broke the protocol: {0}")]
    Protocol(String),
    /// A packet of so many bytes is over the broker's limit.
    #[error("Error: the message makes a packet of {0} bytes; the broker takes {1}")]
    TooLarge(usize, usize),
    /// A wait took too long: what was waited for.
    #[error("Timed out{}", .0.map_or_else(String::new, |wait| format!(": no answer within {} s", wait.as_secs_f64())))]
    Timeout(Option<Duration>),
    /// A file or standard input can't be read.
    #[error("Error: {0}: {1}")]
    Input(String, io::Error),
    /// Standard output can't be written to.
    #[error("Error: standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => crate::exit::USAGE,
            Failure::Unreachable(_) | Failure::Lookup(_) | Failure::Input(..) | Failure::Output(_) => {
                crate::exit::FAILED
            }
            Failure::Refused(Version::V5, reason, _) => *reason as u8,
            Failure::Refused(_, reason, _) => reason.return_code(),
            Failure::Ended(..) | Failure::Lost => LOST,
            Failure::Tls(_) => TLS,
            Failure::Protocol(_) => PROTOCOL,
            Failure::TooLarge(..) => TOO_LARGE,
            Failure::Timeout(_) => TIMEOUT,
        }
    }
}

impl Failure {
    /// What an error of the connection's stream stands for.
    pub fn of_stream(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        inner.map_or(Failure::Lost, |error| Failure::Tls(tls::explained(error)))
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Failure::Protocol(error.to_string())
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Failure::Usage(error.to_string())
    }
}

fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
        io::ErrorKind::TimedOut => "Connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

fn refusal(version: Version, reason: Reason, detail: &str) -> String {
    if version == Version::V5 {
        return with_text(text(reason), detail);
    }
    let why = match reason.return_code() {
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "broker unavailable",
        4 => "bad user name or password",
        _ => "not authorised",
    };
    format!("Connection Refused: {why}.")
}

/// A reason with the broker's own words behind it.
pub fn with_text(reason: &str, detail: &str) -> String {
    if detail.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason} ({detail})")
    }
}

/// A reason code in words (MQTT 5.0 section 2.4).
pub fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::Success => "Success",
        Reason::GrantedQoS1 => "Granted QoS 1",
        Reason::GrantedQoS2 => "Granted QoS 2",
        Reason::DisconnectWithWill => "Disconnect with Will Message",
        Reason::NoMatchingSubscribers => "No matching subscribers",
        Reason::NoSubscriptionExisted => "No subscription existed",
        Reason::ContinueAuthentication => "Continue authentication",
        Reason::ReAuthenticate => "Re-authenticate",
        Reason::UnspecifiedError => "Unspecified error",
        Reason::MalformedPacket => "Malformed Packet",
        Reason::ProtocolError => "Protocol Error",
        Reason::ImplementationSpecificError => "Implementation specific error",
        Reason::UnsupportedProtocolVersion => "Unsupported Protocol Version",
        Reason::ClientIdentifierNotValid => "Client Identifier not valid",
        Reason::BadUserNameOrPassword => "Bad User Name or Password",
        Reason::NotAuthorized => "Not authorized",
        Reason::ServerUnavailable => "Server unavailable",
        Reason::ServerBusy => "Server busy",
        Reason::Banned => "Banned",
        Reason::ServerShuttingDown => "Server shutting down",
        Reason::BadAuthenticationMethod => "Bad authentication method",
        Reason::KeepAliveTimeout => "Keep Alive timeout",
        Reason::SessionTakenOver => "Session taken over",
        Reason::TopicFilterInvalid => "Topic Filter invalid",
        Reason::TopicNameInvalid => "Topic Name invalid",
        Reason::PacketIdentifierInUse => "Packet Identifier in use",
        Reason::PacketIdentifierNotFound => "Packet Identifier not found",
        Reason::ReceiveMaximumExceeded => "Receive Maximum exceeded",
        Reason::TopicAliasInvalid => "Topic Alias invalid",
        Reason::PacketTooLarge => "Packet too large",
        Reason::MessageRateTooHigh => "Message rate too high",
        Reason::QuotaExceeded => "Quota exceeded",
        Reason::AdministrativeAction => "Administrative action",
        Reason::PayloadFormatInvalid => "Payload format invalid",
        Reason::RetainNotSupported => "Retain not supported",
        Reason::QoSNotSupported => "QoS not supported",
        Reason::UseAnotherServer => "Use another server",
        Reason::ServerMoved => "Server moved",
        Reason::SharedSubscriptionsNotSupported => "Shared Subscriptions not supported",
        Reason::ConnectionRateExceeded => "Connection rate exceeded",
        Reason::MaximumConnectTime => "Maximum connect time",
        Reason::SubscriptionIdentifiersNotSupported => "Subscription identifiers not supported",
        Reason::WildcardSubscriptionsNotSupported => "Wildcard Subscriptions not supported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_has_mosquittos_text_and_code() {
        let old = Failure::Refused(Version::V311, Reason::NotAuthorized, String::new());
        assert_eq!(
            old.to_string(),
            "Connection error: Connection Refused: not authorised."
        );
        assert_eq!(old.code(), 5);
        let new = Failure::Refused(Version::V5, Reason::NotAuthorized, "no such user".to_owned());
        assert_eq!(new.to_string(), "Connection error: Not authorized (no such user)");
        assert_eq!(new.code(), 135);
    }

    #[test]
    fn waits_and_losses_have_libmosquittos_codes() {
        assert_eq!(Failure::Timeout(None).to_string(), "Timed out");
        assert_eq!(Failure::Timeout(None).code(), 27);
        assert_eq!(Failure::Lost.code(), 7);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            Failure::Unreachable(refused).to_string(),
            "Error: Connection refused"
        );
    }
}
