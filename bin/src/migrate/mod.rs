//! From mosquitto.conf to Forebay's configuration.
//!
//! [`read`] turns the file and what it includes into settings with their places, [`keys`] knows every key and what
//! becomes of it, [`map`] writes blocks of TOML, and [`document`] takes out again what `check` refuses. The rule where
//! something can't be carried over: never more open than it was.

mod access;
mod bridge;
mod document;
mod keys;
mod listener;
mod map;
mod read;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};

pub use read::Unreadable;

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named or found.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// Something to know about the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The setting that it is about; without one it is about what was not set.
    pub origin: Option<Origin>,
    /// What was not carried over, or differs.
    pub text: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{}:{}: ", origin.file.display(), origin.line)?;
        }
        write!(f, "{}", self.text)?;
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// A configuration that was carried over.
#[derive(Debug)]
pub struct Migrated {
    /// Forebay's configuration; it passes the check.
    pub toml: String,
    /// What could not be carried over, or differs, in the order of the file.
    pub notes: Vec<Note>,
}

/// Reads `file` and carries it over.
pub fn migrate(file: &Path) -> Result<Migrated, Unreadable> {
    let conf = read::read(file)?;
    let mut notes = Vec::new();
    let mut document = map::map(&conf, &mut notes);
    document.take_out_what_is_refused(&mut notes);
    notes.extend(map::differing_defaults(&conf));
    let order: Vec<&Path> = conf.files.iter().map(PathBuf::as_path).collect();
    notes.sort_by_key(|note| {
        note.origin.as_ref().map_or((usize::MAX, 0), |origin| {
            let file = order.iter().position(|file| *file == origin.file);
            (file.unwrap_or(usize::MAX - 1), origin.line)
        })
    });
    notes.dedup();
    Ok(Migrated {
        toml: document.to_toml(file),
        notes,
    })
}

#[cfg(test)]
mod tests;
