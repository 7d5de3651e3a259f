//! Reason codes (MQTT 5.0 section 2.4) and their 3.x return codes: each protocol error is one of these and a static
//! text.

/// A reason code. `Success` is also "normal disconnection" and "granted QoS 0".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the specification's
pub enum Reason {
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl Reason {
    /// Whether it says that something failed (section 2.4).
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The return code of a 3.1 or 3.1.1 CONNACK (3.1.1 section 3.2.2.3) for this reason.
    pub fn return_code(self) -> u8 {
        match self {
            Reason::UnsupportedProtocolVersion => 1,
            Reason::ClientIdentifierNotValid => 2,
            Reason::BadUserNameOrPassword | Reason::BadAuthenticationMethod => 4,
            Reason::NotAuthorized | Reason::Banned => 5,
            reason if reason.is_error() => 3,
            _ => 0,
        }
    }

    /// The reason that a 3.1 or 3.1.1 CONNACK return code stands for.
    pub(super) fn from_return_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Reason::Success),
            1 => Ok(Reason::UnsupportedProtocolVersion),
            2 => Ok(Reason::ClientIdentifierNotValid),
            3 => Ok(Reason::ServerUnavailable),
            4 => Ok(Reason::BadUserNameOrPassword),
            5 => Ok(Reason::NotAuthorized),
            _ => Err(DecodeError::malformed(
                "a CONNACK return code is reserved (3.1.1 section 3.2.2.3)",
            )),
        }
    }
}

/// Every reason, in the order of its code.
const ALL: [Reason; 43] = [
    Reason::Success,
    Reason::GrantedQoS1,
    Reason::GrantedQoS2,
    Reason::DisconnectWithWill,
    Reason::NoMatchingSubscribers,
    Reason::NoSubscriptionExisted,
    Reason::ContinueAuthentication,
    Reason::ReAuthenticate,
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
    Reason::ServerShuttingDown,
    Reason::BadAuthenticationMethod,
    Reason::KeepAliveTimeout,
    Reason::SessionTakenOver,
    Reason::TopicFilterInvalid,
    Reason::TopicNameInvalid,
    Reason::PacketIdentifierInUse,
    Reason::PacketIdentifierNotFound,
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

impl TryFrom<u8> for Reason {
    type Error = DecodeError;

    fn try_from(code: u8) -> Result<Self, DecodeError> {
        ALL.iter()
            .find(|reason| **reason as u8 == code)
            .copied()
            .ok_or(DecodeError::malformed(
                "a reason code is not in the specification's table (section 2.4)",
            ))
    }
}

/// Why bytes are not a packet: the reason to answer with and a text for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text} (reason 0x{:02X})", *reason as u8)]
pub struct DecodeError {
    /// The reason code a 5.0 client is told.
    pub reason: Reason,
    /// What is wrong, with the specification's number where there is one.
    pub text: &'static str,
}

impl DecodeError {
    /// A malformed packet (0x81).
    pub const fn malformed(text: &'static str) -> Self {
        Self {
            reason: Reason::MalformedPacket,
            text,
        }
    }

    /// A protocol error (0x82).
    pub const fn protocol(text: &'static str) -> Self {
        Self {
            reason: Reason::ProtocolError,
            text,
        }
    }
}

/// Why a packet can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text or binary field is over 65,535 bytes.
    #[error("a field is longer than 65,535 bytes")]
    FieldTooLong,
    /// The packet is over 268,435,455 bytes.
    #[error("the packet is longer than 268,435,455 bytes")]
    PacketTooLong,
    /// The packet's fields contradict each other, or its version has no such packet.
    #[error("the packet can't be written: {0}")]
    Contradiction(&'static str),
}
