//! Files of users and rules: read whole, within a bound, and what is wrong with them named by file and line.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file at most: a million users fit.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Faults of one file that are told.
const MOST_FAULTS: usize = 20;

/// Something is wrong with a file of users or rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileFault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {} ({})", self.text, self.hint)
    }
}

/// Gathers the faults of one file.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    file: &'a Path,
    found: Vec<FileFault>,
}

impl<'a> Faults<'a> {
    pub fn of(file: &'a Path) -> Self {
        Self {
            file,
            found: Vec::new(),
        }
    }

    /// Notes one; with very many the first are enough.
    pub fn add(&mut self, line: usize, text: impl Into<String>, hint: &str) {
        if self.found.len() < MOST_FAULTS {
            self.found.push(FileFault {
                file: self.file.to_owned(),
                line: Some(line),
                text: text.into(),
                hint: hint.to_owned(),
            });
        }
    }

    /// `value`, unless there were any.
    pub fn none_or<T>(self, value: T) -> Result<T, Vec<FileFault>> {
        if self.found.is_empty() {
            Ok(value)
        } else {
            Err(self.found)
        }
    }
}

/// The text of a file.
pub fn read(file: &Path) -> Result<String, Vec<FileFault>> {
    let whole = |text: String, hint: &str| {
        vec![FileFault {
            file: file.to_owned(),
            line: None,
            text,
            hint: hint.to_owned(),
        }]
    };
    let mut text = String::new();
    let read = File::open(file).and_then(|opened| opened.take(MOST_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(whole(
            format!("can't be read: {error}"),
            "it must be text in UTF-8, and the user that runs Forebay must be allowed to read it",
        )),
        Ok(bytes) if bytes as u64 > MOST_BYTES => Err(whole(
            "is longer than 256 MiB".to_owned(),
            "is it the right file?",
        )),
        Ok(_) => Ok(text),
    }
}
