//! The part of the configuration that sessions and the hub ask for. A bound that they ask for and that is missing here
//! does not compile.

use crate::{MAX_INFLIGHT, MAX_PACKET_BYTES, MAX_QUEUED, MAX_SUBSCRIPTIONS, RECEIVE_MAXIMUM, TOPIC_ALIASES};

#[derive(Debug, Clone)]
pub struct Limits {
    pub max_packet_bytes: usize,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub topic_alias_maximum_out: u16,
    pub max_topic_levels: usize,
    pub max_topic_bytes: usize,
    pub max_subscriptions: usize,
    pub max_inflight_messages: u16,
    pub max_queued_messages: usize,
    pub max_queued_bytes: usize,
    pub max_retained_messages: usize,
    pub max_retained_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_bytes: MAX_PACKET_BYTES,
            receive_maximum: RECEIVE_MAXIMUM,
            topic_alias_maximum: TOPIC_ALIASES,
            topic_alias_maximum_out: TOPIC_ALIASES,
            max_topic_levels: 10,
            max_topic_bytes: 1_000,
            max_subscriptions: MAX_SUBSCRIPTIONS,
            max_inflight_messages: MAX_INFLIGHT,
            max_queued_messages: MAX_QUEUED,
            max_queued_bytes: 4_096,
            max_retained_messages: 10,
            max_retained_bytes: 4_096,
        }
    }
}
