//! Mosquitto's acl_file, and how Mosquitto decides by it: the user's own lines, then the patterns; in each of both the
//! denials first; what no line allows is denied.

use std::collections::HashMap;
use std::path::Path;

use super::super::file::{self, Faults, FileFault};
use super::filter::{covers, overlaps};
use super::pattern::{Pattern, Resolved};
use super::{Granted, Who};
use crate::codec::topic;

/// What a line allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    /// Nothing: it denies. Before all others.
    Deny,
    Read,
    Write,
    ReadWrite,
}

/// What a client is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Get a message, or subscribe.
    Read,
    /// Publish.
    Write,
}

impl Access {
    fn allows(self, act: Act) -> bool {
        match act {
            Act::Read => matches!(self, Access::Read | Access::ReadWrite),
            Act::Write => matches!(self, Access::Write | Access::ReadWrite),
        }
    }
}

/// A line.
#[derive(Debug, Clone)]
struct Line {
    access: Access,
    on: Pattern,
}

/// The rules of a file.
#[derive(Debug, Clone, Default)]
pub struct FileRules {
    users: HashMap<Box<str>, Vec<Line>>,
    /// Of clients without a user name: what stands above the first `user`.
    anonymous: Vec<Line>,
    patterns: Vec<Line>,
}

impl FileRules {
    /// Reads `file`.
    pub fn load(path: &Path) -> Result<Self, Vec<FileFault>> {
        Self::parse(path, &file::read(path)?)
    }

    /// Whether its answers hang on user names.
    pub fn names_users(&self) -> bool {
        !self.users.is_empty() || self.patterns.iter().any(|line| line.on.names_user())
    }

    /// Reads the text of `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<FileFault>> {
        let mut faults = Faults::of(file);
        let mut rules = Self::default();
        let mut user: Option<Box<str>> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "user" if rest.is_empty() => {
                    faults.add(index + 1, "`user` without a name", "write: user NAME");
                }
                "user" => user = Some(rest.into()),
                "topic" | "pattern" => match parse_line(word, rest) {
                    Ok(parsed) if word == "pattern" => rules.patterns.push(parsed),
                    Ok(parsed) => rules.of_user(user.clone()).push(parsed),
                    Err(text) => faults.add(index + 1, text, FORM),
                },
                _ => faults.add(index + 1, format!("`{word}` begins no line here"), FORM),
            }
        }
        let lists = rules.users.values_mut();
        for lines in lists.chain([&mut rules.anonymous, &mut rules.patterns]) {
            lines.sort_by_key(|line| line.access != Access::Deny); // stable: the denials first
        }
        faults.none_or(rules)
    }

    fn of_user(&mut self, user: Option<Box<str>>) -> &mut Vec<Line> {
        match user {
            Some(user) => self.users.entry(user).or_default(),
            None => &mut self.anonymous,
        }
    }

    /// The lines that are about `who`, in the order in which they decide, as filters.
    fn lines(&self, who: Who<'_>) -> impl Iterator<Item = (Access, Resolved<'_>)> {
        let own = match who.username {
            Some(username) => self.users.get(username).map_or(&[][..], Vec::as_slice),
            None => &self.anonymous,
        };
        // As Mosquitto: with such a name no pattern is for it.
        let wild = |name: &str| name.contains(['+', '#']);
        let patterns = match wild(who.client_id) || who.username.is_some_and(wild) {
            true => &[][..],
            false => self.patterns.as_slice(),
        };
        own.iter()
            .chain(patterns)
            .map(move |line| (line.access, line.resolve(who)))
    }

    /// Whether `who` may do this on `topic`.
    pub fn may(&self, act: Act, who: Who<'_>, topic: &str) -> bool {
        let mut decided = self.lines(who).filter_map(|(access, on)| match on {
            Resolved::Filter(filter) if topic::matches(&filter, topic) => match access {
                Access::Deny => Some(false),
                access => access.allows(act).then_some(true),
            },
            _ => None,
        });
        decided.next().unwrap_or(false)
    }

    /// Whether `who` may subscribe to `asked`: when something that it takes may be read.
    pub fn subscription(&self, who: Who<'_>, asked: &str) -> Granted {
        let mut denied = Vec::new();
        let mut partly = false;
        for (access, on) in self.lines(who) {
            let Resolved::Filter(filter) = on else { continue };
            if !overlaps(&filter, asked) {
                continue;
            }
            if access == Access::Deny {
                denied.push(filter);
                continue;
            }
            let closed = |by: &std::borrow::Cow<'_, str>| covers(by, asked) || covers(by, &filter);
            if access.allows(Act::Read) && !denied.iter().any(closed) {
                if denied.is_empty() && covers(&filter, asked) {
                    return Granted::Whole;
                }
                partly = true;
            }
        }
        match partly {
            true => Granted::Checked,
            false => Granted::Refused,
        }
    }

    /// Whether a `deny` is about the filter `asked` and nothing else.
    pub fn denies_by_name(&self, who: Who<'_>, asked: &str) -> bool {
        self.lines(who)
            .any(|(access, on)| matches!(on, Resolved::Filter(on) if access == Access::Deny && *on == *asked))
    }
}

impl Line {
    /// Its filter for `who`. A denial holds for a dangerous name as for every name.
    fn resolve(&self, who: Who<'_>) -> Resolved<'_> {
        match self.on.resolve(who) {
            Resolved::Dangerous if self.access == Access::Deny => Resolved::Filter(self.on.widest().into()),
            resolved => resolved,
        }
    }
}

const FORM: &str = "a line is: user NAME, topic [read|write|readwrite|deny] FILTER, or pattern [read|write|readwrite|deny] FILTER with %c and %u";

fn parse_line(word: &str, rest: &str) -> Result<Line, String> {
    let (first, filter) = match rest.split_once([' ', '\t']) {
        Some((access, filter)) => (Some(access), filter.trim()),
        None => (None, rest),
    };
    let access = match first {
        None | Some("readwrite") => Access::ReadWrite,
        Some("read") => Access::Read,
        Some("write") => Access::Write,
        Some("deny") => Access::Deny,
        Some(other) => return Err(format!("`{other}` is none of read, write, readwrite and deny")),
    };
    if filter.is_empty() {
        return Err(format!("`{word}` without a filter"));
    }
    let pattern = match word {
        "pattern" => Pattern::of_file(filter),
        _ => Pattern::plain(filter),
    };
    let on = pattern.map_err(|error| error.to_string())?;
    Ok(Line { access, on })
}
