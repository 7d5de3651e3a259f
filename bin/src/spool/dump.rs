//! `forebay spool dump`: the records as JSON lines.

use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forebay_broker::classify::Level;
use forebay_broker::record::{Change, PublishRecord, Record, SessionRecord};
use forebay_broker::spool::{self, Entry};
use serde_json::{Map, Value, json};

use super::{closed, folder};
use crate::exit;

/// Prints at most `limit` records from the sequence `from` on.
pub fn dump(dir: &Path, from: u64, limit: Option<u64>) -> anyhow::Result<u8> {
    let dir = folder(dir)?;
    let mut entries = spool::open_read_only(&dir, from).map_err(|error| closed(&error))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut left = limit.unwrap_or(u64::MAX);
    for entry in entries.by_ref() {
        match print(&entry?, from, &mut left, &mut out) {
            // Whoever reads has seen enough (`| head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(exit::OK),
            result => result?,
        }
        if left == 0 {
            break;
        }
    }
    match out.flush() {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(exit::OK),
        result => result?,
    }
    let damage = entries.damage();
    for lost in &damage {
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "damage: records {} to {} can't be read (segment {}, byte {})",
            lost.first,
            lost.end.saturating_sub(1),
            lost.segment,
            lost.offset
        )?;
    }
    Ok(if damage.is_empty() { exit::OK } else { exit::FAILED })
}

/// Prints the records of one chunk.
fn print(entry: &Entry, from: u64, left: &mut u64, out: &mut impl Write) -> std::io::Result<()> {
    for (sequence, record) in (entry.first.sequence..).zip(entry.chunk.records()) {
        if sequence < from {
            continue;
        }
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        let mut line = match record {
            Ok(Record::Publish(publish)) => publish_line(&publish),
            Ok(Record::Session(session)) => session_line(&session),
            Err(error) => Map::from_iter([("fault".to_owned(), error.to_string().into())]),
        };
        line.insert("epoch".to_owned(), entry.first.epoch.into());
        line.insert("sequence".to_owned(), sequence.into());
        writeln!(out, "{}", Value::Object(line))?;
    }
    Ok(())
}

fn publish_line(publish: &PublishRecord<'_>) -> Map<String, Value> {
    let level = match publish.level {
        Level::Received => "received",
        Level::Spooled => "spooled",
        Level::Kafka => "kafka",
    };
    let mut line = fields(json!({
        "kind": "publish",
        "client": publish.client_id,
        "topic": publish.topic,
        "qos": publish.qos as u8,
        "retain": publish.retain,
        "level": level,
        "packet_id": publish.packet_id,
        "arrival_ms": publish.arrival_ms,
        "routes": publish.routes.as_slice(),
    }));
    if let Some(username) = publish.username {
        line.insert("username".to_owned(), username.into());
    }
    if let Some(properties) = publish.properties {
        line.insert("properties_base64".to_owned(), STANDARD.encode(properties).into());
    }
    bytes(&mut line, publish.payload);
    line
}

fn session_line(session: &SessionRecord<'_>) -> Map<String, Value> {
    let mut line = fields(json!({
        "kind": "session",
        "client": session.client_id,
        "at_ms": session.at_ms,
    }));
    line.extend(match &session.change {
        Change::Release(id) => fields(json!({ "change": "release", "packet_id": id })),
        Change::Reset => fields(json!({ "change": "reset" })),
        Change::Open(open) => {
            let mut more = fields(json!({
                "change": "open", "expiry_s": open.expiry_s, "mqtt": open.level, "username": open.username,
            }));
            if let Some(will) = &open.will {
                let mut said = fields(json!({
                    "topic": will.topic, "qos": will.qos as u8, "retain": will.retain, "delay_s": will.delay_s,
                }));
                bytes(&mut said, will.payload);
                more.insert("will".to_owned(), said.into());
            }
            more
        }
        Change::Left { expiry_s } => fields(json!({ "change": "left", "expiry_s": expiry_s })),
        Change::Closed { expiry_s } => fields(json!({ "change": "closed", "expiry_s": expiry_s })),
        Change::Subscribe { filter, options, generation, .. } => fields(json!({
            "change": "subscribe", "filter": filter, "qos": options.qos as u8, "generation": generation,
        })),
        Change::Unsubscribe { filter, generation } => fields(json!({
            "change": "unsubscribe", "filter": filter, "generation": generation,
        })),
    });
    line
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A payload as text, or as base64 where it is none.
fn bytes(line: &mut Map<String, Value>, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) => line.insert("payload".to_owned(), text.into()),
        Err(_) => line.insert("payload_base64".to_owned(), STANDARD.encode(payload).into()),
    };
}
