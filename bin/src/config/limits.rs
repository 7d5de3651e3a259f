//! `[limits]`, and `[listener.limits]`, which stands in its place for the clients of one listener.

use forebay_broker::config::Limits;
use forebay_broker::hub::SharedStrategy;

use super::reader::Section;

/// Greatest value of a number that has no bound of its own.
const ANY: i64 = u32::MAX as i64;

/// Which member of a group of shared subscriptions gets a message.
const SHARED_STRATEGIES: &[(&str, SharedStrategy)] = &[
    ("least_inflight", SharedStrategy::LeastInflight),
    ("round_robin", SharedStrategy::RoundRobin),
    ("sticky", SharedStrategy::Sticky),
];

/// The bounds for all; what is about sessions stands in `[session]`, which is read elsewhere too.
pub fn read(root: &Section<'_>, session: &Section<'_>) -> Limits {
    let limits = root.section("limits");
    Limits {
        max_connections: limits.integer("max_connections", 1..=ANY),
        max_connect_rate_per_address: limits.integer("max_connect_rate_per_address", 0..=ANY),
        max_retained_messages: limits.integer("max_retained_messages", 0..=ANY),
        max_retained_bytes: limits.bytes("max_retained_bytes"),
        max_kept_sessions: session.integer("max_kept", 0..=ANY),
        max_session_expiry_s: session.integer("max_expiry_s", 0..=ANY),
        will_grace_s: session.integer("will_grace_s", 0..=86_400),
        drop_old: session.choice("when_queue_full", &[("drop_new", false), ("drop_old", true)]),
        queue_qos0: session.flag("queue_qos0"),
        shared_strategy: session.choice("shared_strategy", SHARED_STRATEGIES),
        max_write_wait_ms: session.integer("max_write_wait_ms", 0..=1000),
        ..of_clients(&limits, None)
    }
}

/// The bounds of a listener's clients where it has some of its own; the others are those of `all`.
pub fn of_listener(listener: &Section<'_>, all: &Limits) -> Option<Box<Limits>> {
    let own = listener.section("limits");
    own.is_given().then(|| Box::new(of_clients(&own, Some(all))))
}

/// What is about one client, or comes before its session. A key that is missing says what `base` says.
fn of_clients(section: &Section<'_>, base: Option<&Limits>) -> Limits {
    let base_of = |key| base.filter(|_| !section.has(key));
    let short = |key, least, of: fn(&Limits) -> u16| match base_of(key) {
        Some(base) => of(base),
        None => section.integer(key, least..=i64::from(u16::MAX)),
    };
    let count = |key, least, most, of: fn(&Limits) -> usize| match base_of(key) {
        Some(base) => of(base),
        None => section.integer(key, least..=most),
    };
    let bytes = |key, of: fn(&Limits) -> usize| match base_of(key) {
        Some(base) => of(base),
        None => section.bytes(key),
    };
    Limits {
        max_packet_bytes: bytes("max_packet_bytes", |l| l.max_packet_bytes),
        receive_maximum: short("receive_maximum", 1, |l| l.receive_maximum),
        topic_alias_maximum: short("topic_alias_maximum", 0, |l| l.topic_alias_maximum),
        topic_alias_maximum_out: short("topic_alias_maximum_out", 0, |l| l.topic_alias_maximum_out),
        connect_timeout_s: match base_of("connect_timeout_s") {
            Some(base) => base.connect_timeout_s,
            None => section.integer("connect_timeout_s", 1..=3600),
        },
        max_handshakes: count("max_handshakes", 1, ANY, |l| l.max_handshakes),
        max_keep_alive_s: short("max_keep_alive_s", 0, |l| l.max_keep_alive_s),
        max_topic_levels: count("max_topic_levels", 1, 1000, |l| l.max_topic_levels),
        max_topic_bytes: count("max_topic_bytes", 1, 65_535, |l| l.max_topic_bytes),
        max_message_rate: match base_of("max_message_rate") {
            Some(base) => base.max_message_rate,
            None => section.integer("max_message_rate", 0..=ANY),
        },
        max_bytes_rate: bytes("max_bytes_rate", |l| l.max_bytes_rate),
        max_subscriptions: count("max_subscriptions", 0, ANY, |l| l.max_subscriptions),
        max_shared_subscriptions: count("max_shared_subscriptions", 0, ANY, |l| l.max_shared_subscriptions),
        max_inflight_messages: short("max_inflight_messages", 1, |l| l.max_inflight_messages),
        max_queued_messages: count("max_queued_messages", 1, ANY, |l| l.max_queued_messages),
        max_queued_bytes: bytes("max_queued_bytes", |l| l.max_queued_bytes),
        ..base.cloned().unwrap_or_default()
    }
}
