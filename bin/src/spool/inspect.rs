//! `forebay spool inspect`: segments, positions, consumers, backlog, damage.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use forebay_broker::spool::{self, CursorView, Damage, Inspection, Position, SegmentView};
use serde_json::{Value, json};

use super::{closed, folder};
use crate::exit;

/// Prints what is in the spool; 1 when some of it is damaged.
pub fn inspect(dir: &Path, as_json: bool) -> anyhow::Result<u8> {
    let dir = folder(dir)?;
    let seen = spool::inspect(&dir).map_err(|error| closed(&error))?;
    let damaged = !seen.damage.is_empty() || seen.cursors.iter().any(|cursor| cursor.damaged);
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", object(&seen))?;
    } else {
        text(&dir, &seen, &mut out)?;
    }
    Ok(if damaged { exit::FAILED } else { exit::OK })
}

fn text(dir: &Path, seen: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    let used = seen.segments.iter().map(|segment| segment.used_bytes).sum();
    writeln!(out, "spool       {}", dir.display())?;
    writeln!(
        out,
        "files       {} in {} segments and {} made ahead; {} of records",
        size(seen.file_bytes),
        seen.segments.len(),
        seen.spare,
        size(used)
    )?;
    let position = |position: Option<Position>| {
        position.map_or_else(
            || "none".to_owned(),
            |p| format!("{}/{:020}", p.epoch, p.sequence),
        )
    };
    writeln!(out, "oldest      {}", position(seen.oldest))?;
    writeln!(out, "newest      {}", position(seen.newest))?;
    for cursor in &seen.cursors {
        consumer(cursor, out)?;
    }
    writeln!(
        out,
        "{:>10} {:>14} {:>20} {:>20} {:>8}  used",
        "segment", "epoch", "first", "end", "groups"
    )?;
    for segment in &seen.segments {
        writeln!(
            out,
            "{:>10} {:>14} {:>20} {:>20} {:>8}  {} of {}",
            segment.number,
            segment.epoch,
            segment.first,
            segment.end,
            segment.groups,
            size(segment.used_bytes),
            size(segment.file_bytes)
        )?;
    }
    for damage in &seen.damage {
        let lost = damage.end.saturating_sub(damage.first);
        writeln!(
            out,
            "DAMAGE      segment {} at byte {}, {} bytes: {lost} records from {} are lost",
            damage.segment, damage.offset, damage.bytes, damage.first
        )?;
    }
    for name in &seen.set_aside {
        writeln!(out, "set aside   {name}: damaged bytes, kept for a look")?;
    }
    Ok(())
}

/// One line about a consumer.
pub(super) fn consumer(cursor: &CursorView, out: &mut impl Write) -> std::io::Result<()> {
    let CursorView {
        name,
        sequence,
        backlog_records,
        ..
    } = cursor;
    if cursor.damaged {
        writeln!(
            out,
            "consumer    {name}: its cursor is DAMAGED, it would get everything again"
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "consumer    {name} at {}/{sequence:020}: {backlog_records} records, {} wait for it, the oldest for {}",
        cursor.epoch,
        size(cursor.backlog_bytes),
        humantime::format_duration(Duration::from_secs(cursor.backlog_age_ms / 1000))
    )
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

fn object(seen: &Inspection) -> Value {
    let position = |p: Position| json!({ "epoch": p.epoch, "sequence": p.sequence });
    let segment = |s: &SegmentView| {
        json!({
            "number": s.number, "epoch": s.epoch, "first": s.first, "end": s.end, "groups": s.groups,
            "file_bytes": s.file_bytes, "used_bytes": s.used_bytes,
            "written_ms": [s.written_ms.0, s.written_ms.1],
        })
    };
    let consumer = |c: &CursorView| {
        json!({
            "name": c.name, "damaged": c.damaged, "epoch": c.epoch, "sequence": c.sequence,
            "state_bytes": c.state_bytes, "backlog_records": c.backlog_records,
            "backlog_bytes": c.backlog_bytes, "backlog_age_ms": c.backlog_age_ms,
        })
    };
    let damage = |d: &Damage| {
        json!({
            "segment": d.segment, "offset": d.offset, "bytes": d.bytes, "first": d.first, "end": d.end,
        })
    };
    json!({
        "segments": seen.segments.iter().map(segment).collect::<Vec<_>>(),
        "spare_files": seen.spare,
        "file_bytes": seen.file_bytes,
        "oldest": seen.oldest.map(position),
        "newest": seen.newest.map(position),
        "next_sequence": seen.next_sequence,
        "consumers": seen.cursors.iter().map(consumer).collect::<Vec<_>>(),
        "damage": seen.damage.iter().map(damage).collect::<Vec<_>>(),
        "set_aside": seen.set_aside,
    })
}
