//! What is set for the broker as a whole: limits, sessions, access, log, and the notes on what has no counterpart.

use super::document::{Block, Document};
use super::keys::{self, Fate};
use super::listener;
use super::read::{Conf, Setting};
use super::value::{flag, quoted, span_s};
use super::{Note, access, bridge};
use crate::config;

/// Where Mosquitto has "no bound" and Forebay needs one: the greatest.
const MOST: u64 = u32::MAX as u64;
/// A payload's packet is longer by topic and header, at most.
const TOPIC_AND_HEADER: u64 = 65_535 + 16;
/// No packet of MQTT is longer.
const PACKET_MAX: u64 = 268_435_455;

/// Writes all of it.
pub fn map(conf: &Conf, notes: &mut Vec<Note>) -> Document {
    let mut document = Document::default();
    let mut push = |block: Block| {
        if !block.is_empty() {
            document.push(block);
        }
    };
    push(node(conf, notes));
    for one in listener::active(conf) {
        push(listener::write(one, conf, notes));
    }
    if !access::has_own_rules(conf) {
        push(access::auth(conf, notes));
    }
    access::file_notes(conf, notes);
    push(limits(conf, notes));
    push(session(conf, notes));
    push(sys(conf, notes));
    push(log(conf, notes));
    for one in &conf.bridges {
        for route in bridge::routes(one, notes) {
            push(route);
        }
    }
    left(conf, notes);
    document
}

fn note(setting: &Setting, text: impl Into<String>, hint: &str) -> Note {
    Note {
        origin: Some(setting.origin.clone()),
        text: text.into(),
        hint: hint.to_owned(),
    }
}

fn unreadable(setting: &Setting, expected: &str) -> Note {
    note(
        setting,
        format!(
            "{} \"{}\" is not {expected}: left out",
            setting.key, setting.value
        ),
        "",
    )
}

fn node(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let mut block = Block::new("[node]", None);
    if let Some(setting) = conf.get("persistence_location") {
        block.set("data_dir", &quoted(&setting.value), Some(&setting.origin));
        notes.push(note(
            setting,
            "mosquitto.db is not read: sessions and retained messages begin empty",
            "let clients that keep sessions connect again, and publish retained messages again",
        ));
    }
    if let Some(setting) = conf
        .get("persistence")
        .filter(|setting| flag(&setting.value) == Some(false))
    {
        let text = "persistence false: Forebay always keeps what it acknowledged on disk, in node.data_dir";
        notes.push(note(setting, text, "make room there (spool.max_bytes)"));
    }
    block
}

/// A number that is at least 0; what is none is noted.
fn number<'a>(conf: &'a Conf, key: &str, notes: &mut Vec<Note>) -> Option<(&'a Setting, u64)> {
    let setting = conf.get(key)?;
    match setting.value.parse() {
        Ok(number) => Some((setting, number)),
        Err(_) => {
            notes.push(unreadable(setting, "a number"));
            None
        }
    }
}

fn limits(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let mut block = Block::new("[limits]", None);
    packet_size(conf, &mut block, notes);
    for (key, to, most) in [
        (
            "max_inflight_messages",
            "max_inflight_messages",
            u64::from(u16::MAX),
        ),
        ("max_queued_messages", "max_queued_messages", MOST),
        ("max_queued_bytes", "max_queued_bytes", 1 << 40),
    ] {
        if let Some((setting, value)) = number(conf, key, notes) {
            if value == 0 {
                notes.push(note(
                    setting,
                    format!("{key} 0 is no bound in Mosquitto; here it is {most}"),
                    "",
                ));
            }
            let value = if value == 0 { most } else { value };
            block.set(to, &value.to_string(), Some(&setting.origin));
        }
    }
    if let Some((setting, value)) = number(conf, "max_keepalive", notes) {
        // The greatest is what a client can ask for: no bound.
        let value = if value >= u64::from(u16::MAX) { 0 } else { value };
        block.set("max_keep_alive_s", &value.to_string(), Some(&setting.origin));
    }
    let listeners = listener::active(conf);
    let alone = match listeners.as_slice() {
        [one] => one.get("max_connections"),
        _ => None,
    };
    let of_all = conf.get("global_max_connections").or(alone);
    // -1 is no bound.
    if let Some(setting) = of_all.filter(|setting| setting.value.parse::<u32>().is_ok_and(|count| count > 0))
    {
        block.set("max_connections", &setting.value, Some(&setting.origin));
    }
    for (key, to) in [
        ("max_topic_alias", "topic_alias_maximum"),
        ("max_topic_alias_broker", "topic_alias_maximum_out"),
    ] {
        if let Some(setting) = listeners.iter().find_map(|one| one.get(key)) {
            block.set(to, &setting.value, Some(&setting.origin));
        }
    }
    if let Some(setting) = conf
        .get("retain_available")
        .filter(|setting| flag(&setting.value) == Some(false))
    {
        block.set("max_retained_messages", "0", Some(&setting.origin));
        notes.push(note(
            setting,
            "who publishes with RETAIN by MQTT 3 is not disconnected: its message is passed on and not kept",
            "",
        ));
    }
    block
}

fn packet_size(conf: &Conf, block: &mut Block, notes: &mut Vec<Note>) {
    let packet = number(conf, "max_packet_size", notes).filter(|(_, bytes)| *bytes > 0);
    let payload = number(conf, "message_size_limit", notes).filter(|(_, bytes)| *bytes > 0);
    if let Some((setting, bytes)) = payload {
        let text = format!(
            "message_size_limit {bytes} bounds the payload; limits.max_packet_bytes bounds the whole packet, so it gets {TOPIC_AND_HEADER} bytes more for topic and header, and who is over it is disconnected"
        );
        notes.push(note(setting, text, ""));
    }
    let payload = payload.map(|(setting, bytes)| (setting, bytes.saturating_add(TOPIC_AND_HEADER)));
    if let Some((setting, bytes)) = packet.into_iter().chain(payload).min_by_key(|(_, bytes)| *bytes) {
        block.set(
            "max_packet_bytes",
            &bytes.min(PACKET_MAX).to_string(),
            Some(&setting.origin),
        );
    }
}

fn session(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let mut block = Block::new("[session]", None);
    if let Some(setting) = conf.get("persistent_client_expiration") {
        match span_s(&setting.value) {
            Some(seconds) => block.set(
                "max_expiry_s",
                &seconds.min(MOST).to_string(),
                Some(&setting.origin),
            ),
            None => notes.push(unreadable(setting, "a number with h, d, w, m or y behind it")),
        }
    }
    if let Some((setting, count)) = number(conf, "global_max_clients", notes) {
        block.set("max_kept", &count.min(MOST).to_string(), Some(&setting.origin));
    }
    if let Some(setting) = conf.get("queue_qos0_messages")
        && flag(&setting.value) == Some(true)
    {
        block.set("queue_qos0", "true", Some(&setting.origin));
    }
    block
}

fn sys(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let mut block = Block::new("[sys]", None);
    if let Some((setting, seconds)) = number(conf, "sys_interval", notes) {
        let seconds = seconds.min(86_400);
        block.set("interval_s", &seconds.to_string(), Some(&setting.origin));
    }
    block
}

fn log(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let mut block = Block::new("[log]", None);
    let types = conf.global.iter().filter(|setting| setting.key == "log_type");
    let level = |setting: &Setting| match setting.value.as_str() {
        "none" | "error" => Some((0, "error")),
        "warning" => Some((1, "warn")),
        "notice" | "information" | "subscribe" | "unsubscribe" | "websockets" => Some((2, "info")),
        "debug" | "all" => Some((3, "debug")),
        _ => None,
    };
    if let Some(((_, level), setting)) = types
        .filter_map(|setting| Some((level(setting)?, setting)))
        .max_by_key(|((rank, _), _)| *rank)
    {
        block.set("level", &quoted(level), Some(&setting.origin));
    }
    for setting in conf.global.iter().filter(|setting| setting.key == "log_dest") {
        if !matches!(setting.value.as_str(), "stdout" | "stderr") {
            notes.push(note(
                setting,
                format!("log_dest {}: the log goes to standard error", setting.value),
                "redirect it, or let the service manager keep it (journald, Docker)",
            ));
        }
    }
    block
}

/// Notes on what has no counterpart, and on what is no key.
fn left(conf: &Conf, notes: &mut Vec<Note>) {
    let listeners = std::iter::once(&conf.default_listener).chain(&conf.listeners);
    let all = conf
        .global
        .iter()
        .chain(listeners.flat_map(|listener| &listener.settings));
    for setting in all.filter(|setting| !is_default(setting)) {
        if let Some(Fate::Left(why, hint)) = keys::find(&setting.key).map(|key| key.fate) {
            notes.push(note(
                setting,
                format!("{} is not carried over: {why}", setting.key),
                hint,
            ));
        }
    }
    for setting in &conf.unknown {
        let hint = match config::did_you_mean(&setting.key, keys::KEYS.iter().map(|key| key.name)) {
            Some(near) => format!("did you mean {near}?"),
            None => "Mosquitto 2 would refuse it too, or a newer one made it".to_owned(),
        };
        notes.push(note(
            setting,
            format!("{} is no key of mosquitto.conf", setting.key),
            &hint,
        ));
    }
}

/// Whether it says what Forebay does anyway.
fn is_default(setting: &Setting) -> bool {
    match setting.key.as_str() {
        "allow_zero_length_clientid" | "connection_messages" => flag(&setting.value) == Some(true),
        "allow_duplicate_messages"
        | "upgrade_outgoing_qos"
        | "use_identity_as_username"
        | "use_subject_as_username"
        | "use_username_as_clientid" => flag(&setting.value) == Some(false),
        "max_qos" => setting.value == "2",
        "max_inflight_bytes" | "memory_limit" => setting.value == "0",
        _ => false,
    }
}

/// What was not set and is not the same without being set.
pub fn differing_defaults(conf: &Conf) -> Vec<Note> {
    let unset = |keys: &[&str]| keys.iter().all(|key| conf.get(key).is_none());
    let mut notes = Vec::new();
    let mut differs = |text: &str, hint: &str| {
        notes.push(Note {
            origin: None,
            text: text.to_owned(),
            hint: hint.to_owned(),
        });
    };
    if unset(&["max_packet_size", "message_size_limit"]) {
        differs(
            "Mosquitto takes packets of up to 256 MiB where nothing is said, Forebay of 1000 KiB",
            "set `limits.max_packet_bytes` when yours are larger, and Kafka's message.max.bytes with it",
        );
    }
    if unset(&["persistent_client_expiration"]) {
        differs(
            "Mosquitto keeps sessions for ever where nothing is said, Forebay for 7 days",
            "set `session.max_expiry_s` when devices stay away longer",
        );
    }
    notes
}
