//! The configuration while it is written: blocks of lines, each with the place that it comes from. What `check` refuses
//! is taken out again and stays as a comment, so that the result can be started; when a later version takes it, it is
//! carried over without a change here.

use std::path::Path;

use super::{Note, Origin};
use crate::config::{self, Place};

/// Rounds of checking: what is refused only after something else was taken out.
const ROUNDS: usize = 10;

/// A section with its lines.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its lines, header first.
    lines: Vec<Line>,
    /// A comment above it.
    comments: Vec<String>,
    /// It stays as a comment alone.
    off: bool,
}

#[derive(Debug, Clone)]
struct Line {
    text: String,
    origin: Option<Origin>,
    /// Without this line, the section would let in more than it did: then none of it stays.
    bound: bool,
    off: Option<String>,
}

/// The whole of it.
#[derive(Debug, Clone, Default)]
pub struct Document {
    blocks: Vec<Block>,
}

impl Block {
    /// A section with its header, such as `[limits]`.
    pub fn new(header: &str, origin: Option<&Origin>) -> Self {
        let mut block = Self {
            lines: Vec::new(),
            comments: Vec::new(),
            off: false,
        };
        block.line(header.to_owned(), origin, true);
        block
    }

    /// Adds `key = value`. When it is refused, the rest of the section stays.
    pub fn set(&mut self, key: &str, value: &str, origin: Option<&Origin>) {
        self.line(format!("{key} = {value}"), origin, false);
    }

    /// Adds `key = value`. When it is refused, the whole section goes with it.
    pub fn bind(&mut self, key: &str, value: &str, origin: Option<&Origin>) {
        self.line(format!("{key} = {value}"), origin, true);
    }

    /// Adds a header within the section; without it nothing of the section stays.
    pub fn header(&mut self, header: &str, origin: Option<&Origin>) {
        self.line(header.to_owned(), origin, true);
    }

    fn line(&mut self, text: String, origin: Option<&Origin>, bound: bool) {
        self.lines.push(Line {
            text,
            origin: origin.cloned(),
            bound,
            off: None,
        });
    }

    /// Puts a comment above the section.
    pub fn comment(&mut self, text: &str) {
        self.comments.push(text.to_owned());
    }

    /// The section stays as a comment alone, with the reason above it.
    pub fn take_out(&mut self, why: &str) {
        self.comment(why);
        self.off = true;
    }

    fn header_text(&self) -> &str {
        self.lines.first().map_or("", |line| line.text.as_str())
    }

    /// Whether nothing but the header is in it.
    pub fn is_empty(&self) -> bool {
        self.lines.len() < 2
    }
}

impl Document {
    /// Adds a section.
    pub fn push(&mut self, block: Block) {
        self.blocks.push(block);
    }

    /// Asks `check`, takes out what it refuses, and again until nothing is refused.
    pub fn take_out_what_is_refused(&mut self, notes: &mut Vec<Note>) {
        for _ in 0..ROUNDS {
            let (text, places) = self.body();
            let Err(faults) = config::from_text(&text, []) else {
                return;
            };
            let at = |fault: &config::Fault| match fault.place {
                Place::Line(number) => places.get(number.checked_sub(1)?).copied().flatten(),
                _ => None,
            };
            let placed: Vec<_> = faults
                .iter()
                .filter_map(|fault| Some((at(fault)?, fault)))
                .collect();
            // What listeners are refused for may follow from [auth]: that goes first, and then they are asked again.
            let auth = self
                .blocks
                .iter()
                .position(|block| block.header_text() == "[auth]");
            let first = placed.iter().any(|((block, _), _)| Some(*block) == auth);
            for ((block, line), fault) in placed {
                if !first || Some(block) == auth {
                    self.refuse(block, line, fault, notes);
                }
            }
        }
    }

    fn refuse(&mut self, block: usize, line: usize, fault: &config::Fault, notes: &mut Vec<Note>) {
        let Some(block) = self.blocks.get_mut(block) else {
            return;
        };
        let Some(line) = block.lines.get_mut(line) else {
            return;
        };
        let bound = line.bound;
        let why = if fault.hint.is_empty() {
            fault.text.clone()
        } else {
            format!("{}; {}", fault.text, fault.hint)
        };
        line.off = Some(why.clone());
        let origin = line.origin.clone();
        let text = if bound {
            block.off = true;
            format!(
                "{}: {} is left out, so that nothing is more open than it was",
                fault.text,
                block.header_text()
            )
        } else {
            format!("{}: left out", fault.text)
        };
        notes.push(Note {
            origin,
            text,
            hint: fault.hint.clone(),
        });
    }

    /// The text, and for each of its lines the block and line that it is.
    fn body(&self) -> (String, Vec<Option<(usize, usize)>>) {
        let mut text = String::new();
        let mut places = Vec::new();
        let mut put = |line: &str, place| {
            text.push_str(line);
            text.push('\n');
            places.push(place);
        };
        for (number, block) in self.blocks.iter().enumerate() {
            for comment in &block.comments {
                put(&format!("# {comment}"), None);
            }
            for (index, line) in block.lines.iter().enumerate() {
                if let Some(why) = &line.off {
                    put(&format!("# {why}"), None);
                }
                if block.off || line.off.is_some() {
                    put(&format!("#{}", line.text), None);
                } else {
                    put(&line.text, Some((number, index)));
                }
            }
            put("", None);
        }
        (text, places)
    }

    /// The finished text, made from `file`.
    pub fn to_toml(&self, file: &Path) -> String {
        let (body, _) = self.body();
        let name = file.display().to_string().replace(char::is_control, "?");
        format!(
            "# Made by `forebay migrate` from {name}. Each key is explained in configs/reference.toml.\n\
             # A line that begins with `#` and a key could not be carried over; the reason stands above it.\n\n{}\n",
            body.trim_end()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_goes_alone_or_with_its_section() {
        let origin = |line| Origin {
            file: "m.conf".into(),
            line,
        };
        let mut document = Document::default();
        let mut limits = Block::new("[limits]", None);
        limits.set("max_inflight_messages", "0", Some(&origin(3)));
        limits.set("max_queued_messages", "5", Some(&origin(4)));
        document.push(limits);
        let mut listener = Block::new("[[listener]]", Some(&origin(5)));
        listener.bind("bind", "\"127.0.0.1:1\"", Some(&origin(5)));
        listener.bind("no_such_key", "true", Some(&origin(6)));
        document.push(listener);
        let mut notes = Vec::new();
        document.take_out_what_is_refused(&mut notes);
        let toml = document.to_toml(Path::new("m.conf"));
        assert!(
            toml.contains("\n#max_inflight_messages = 0\nmax_queued_messages = 5\n"),
            "{toml}"
        );
        assert!(
            toml.contains("\n#[[listener]]\n#bind = \"127.0.0.1:1\"\n"),
            "{toml}"
        );
        assert!(config::from_text(&toml, []).is_ok(), "{toml}");
        let lines: Vec<usize> = notes
            .iter()
            .filter_map(|note| Some(note.origin.as_ref()?.line))
            .collect();
        assert_eq!(lines, [3, 6]);
    }
}
