//! `forebay spool forget`: a consumer that is gone for good keeps the spool from being released no longer.

use std::io::Write;
use std::path::Path;

use forebay_broker::spool;

use super::inspect::consumer;
use super::{closed, folder};
use crate::exit::{self, Coded};

/// Says what the consumer `name` holds back; deletes its cursor if `yes`.
pub fn forget(dir: &Path, name: &str, yes: bool) -> anyhow::Result<u8> {
    let dir = folder(dir)?;
    let seen = spool::inspect(&dir).map_err(|error| closed(&error))?;
    let Some(cursor) = seen.cursors.iter().find(|cursor| cursor.name == name) else {
        let names: Vec<&str> = seen.cursors.iter().map(|cursor| &*cursor.name).collect();
        let there = match names.as_slice() {
            [] => "there is none".to_owned(),
            names => format!("there is {}", names.join(", ")),
        };
        return Err(Coded {
            text: format!("the spool has no consumer \"{name}\"\n    hint: {there}"),
            code: exit::FAILED,
        }
        .into());
    };
    let mut out = std::io::stdout().lock();
    consumer(cursor, &mut out)?;
    if !yes {
        writeln!(
            out,
            "nothing was changed. With --yes this consumer is forgotten: what waits for it alone is released at the next \
             start and never reaches it"
        )?;
        return Ok(exit::OK);
    }
    spool::forget(&dir, name).map_err(|error| closed(&error))?;
    writeln!(
        out,
        "forgotten: what waited for {name} alone is released at the next start"
    )?;
    Ok(exit::OK)
}
