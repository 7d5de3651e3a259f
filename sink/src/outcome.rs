//! What an error code of Kafka asks for (pure). The default is to try again: nothing accepted is given up for an error
//! that is not known.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What is to be done about a failed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// It passes: try again.
    Retry,
    /// The topic can't take records: park it, the others go on.
    Topic,
    /// The record itself is refused for good: find it and set it aside.
    Poison,
    /// Its timestamp is refused: send it without ours.
    Timestamp,
    /// The client's configuration or rights: only an operator can mend it. Tried again all the same, with an alarm.
    Config,
}

impl Class {
    pub(crate) const ALL: [Class; 5] = [
        Class::Retry,
        Class::Topic,
        Class::Poison,
        Class::Timestamp,
        Class::Config,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Retry => "retry",
            Class::Topic => "topic",
            Class::Poison => "poison",
            Class::Timestamp => "timestamp",
            Class::Config => "config",
        }
    }
}

/// The class of an error code.
pub(crate) fn classify(code: Code) -> Class {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord => Class::Poison,
        Code::InvalidTimestamp => Class::Timestamp,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::TopicAuthorizationFailed
        | Code::InvalidTopic => Class::Topic,
        Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::InvalidRequiredAcks
        | Code::UnsupportedFeature
        | Code::PolicyViolation
        | Code::SSL => Class::Config,
        _ => Class::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_code_has_its_class() {
        let cases = [
            (
                Class::Poison,
                &[
                    Code::MessageSizeTooLarge,
                    Code::InvalidMessage,
                    Code::InvalidMessageSize,
                    Code::MessageBatchTooLarge,
                    Code::InvalidRecord,
                ][..],
            ),
            (Class::Timestamp, &[Code::InvalidTimestamp]),
            (
                Class::Topic,
                &[
                    Code::UnknownTopicOrPartition,
                    Code::UnknownTopic,
                    Code::UnknownPartition,
                    Code::TopicAuthorizationFailed,
                    Code::InvalidTopic,
                ],
            ),
            (
                Class::Config,
                &[
                    Code::ClusterAuthorizationFailed,
                    Code::SaslAuthenticationFailed,
                    Code::Authentication,
                    Code::UnsupportedSASLMechanism,
                    Code::UnsupportedVersion,
                    Code::UnsupportedCompressionType,
                    Code::InvalidRequiredAcks,
                    Code::PolicyViolation,
                    Code::SSL,
                ],
            ),
            (
                Class::Retry,
                &[
                    Code::MessageTimedOut,
                    Code::PurgeQueue,
                    Code::PurgeInflight,
                    Code::Fatal,
                    Code::GaplessGuarantee,
                    Code::NotEnoughReplicas,
                    Code::NotEnoughReplicasAfterAppend,
                    Code::NotLeaderForPartition,
                    Code::LeaderNotAvailable,
                    Code::OutOfOrderSequenceNumber,
                    Code::DuplicateSequenceNumber,
                    Code::UnknownProducerId,
                    Code::InvalidProducerEpoch,
                    Code::KafkaStorageError,
                    Code::RequestTimedOut,
                    Code::BrokerTransportFailure,
                    Code::AllBrokersDown,
                    Code::QueueFull,
                    Code::Unknown,
                ],
            ),
        ];
        for (class, codes) in cases {
            for code in codes {
                assert_eq!(classify(*code), class, "{code:?}");
            }
        }
    }
}
