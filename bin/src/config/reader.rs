//! Reads typed values out of a section, with the reference's value where none was given. Every fault is noted and
//! reading goes on, so that all of them are found at once.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use super::fault::{Faults, Place, did_you_mean};
use super::value::{Node, Table, Value};

/// A section while it is read. What was given and never asked for is an unknown key: [`Drop`] notes it, so that no
/// section can forget to.
pub struct Section<'a> {
    path: String,
    place: Place,
    given: Option<&'a Table>,
    defaults: Option<&'a Table>,
    asked: RefCell<Vec<&'static str>>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(given: &'a Table, defaults: &'a Table, faults: &'a Faults) -> Self {
        Section {
            path: String::new(),
            place: Place::Whole,
            given: Some(given),
            defaults: Some(defaults),
            asked: RefCell::default(),
            faults,
        }
    }

    /// Whether it was written at all.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Whether `key` was written.
    pub fn has(&self, key: &str) -> bool {
        self.given.is_some_and(|table| table.get(key).is_some())
    }

    /// Where `key` was written, or else the section.
    pub fn place(&self, key: &str) -> Place {
        self.given
            .and_then(|table| table.get(key))
            .map_or_else(|| self.place.clone(), |node| node.place.clone())
    }

    /// `key` with the path of its section, as it is named in faults.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Notes a fault of `key`.
    pub fn fault(&self, key: &str, text: impl Into<String>, hint: impl Into<String>) {
        self.faults.add(&self.place(key), text, hint);
    }

    fn given(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        self.given.and_then(|table| table.get(key))
    }

    fn default(&self, key: &str) -> Option<&'a Node> {
        self.defaults.and_then(|table| table.get(key))
    }

    /// Reads `key` by `read`, which says what it expected when it can't. An unusable value is a fault and leaves the
    /// reference's value.
    fn read<T: Default>(&self, key: &'static str, read: impl Fn(&Value) -> Result<T, String>) -> T {
        let fallback = || {
            self.default(key)
                .and_then(|node| read(&node.value).ok())
                .unwrap_or_default()
        };
        let Some(node) = self.given(key) else {
            return fallback();
        };
        read(&node.value).unwrap_or_else(|expected| {
            let got = match &node.value {
                Value::Text(text) | Value::Env(text) => format!("\"{text}\""),
                Value::Integer(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                other => other.kind().to_owned(),
            };
            self.faults.add(
                &node.place,
                format!("`{}` must be {expected}, not {got}", self.name(key)),
                "",
            );
            fallback()
        })
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> String {
        self.read(key, text)
    }

    /// A text that must be given: the reference shows an example only.
    pub fn required_text(&self, key: &'static str, hint: &str) -> String {
        match self.given(key) {
            Some(_) => self.text(key),
            None => {
                self.faults
                    .add(&self.place, format!("`{}` is missing", self.name(key)), hint);
                String::new()
            }
        }
    }

    /// A text that may be left out: the reference shows an example only.
    pub fn optional_text(&self, key: &'static str) -> Option<String> {
        self.given(key)
            .map(|_| self.text(key))
            .filter(|text| !text.is_empty())
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &'static str) -> bool {
        self.read(key, flag)
    }

    /// `true` or `false`, or nothing where it may be left out.
    pub fn optional_flag(&self, key: &'static str) -> Option<bool> {
        self.given(key).map(|_| self.flag(key))
    }

    /// An integer within `range`.
    pub fn integer<T>(&self, key: &'static str, range: RangeInclusive<i64>) -> T
    where
        T: TryFrom<i64> + Default,
    {
        self.read(key, |value| {
            let expected = || format!("an integer from {} to {}", range.start(), range.end());
            let number = match value {
                Value::Integer(number) => *number,
                Value::Env(text) => text.trim().parse().map_err(|_| expected())?,
                _ => return Err(expected()),
            };
            Some(number)
                .filter(|n| range.contains(n))
                .and_then(|n| T::try_from(n).ok())
                .ok_or_else(expected)
        })
    }

    /// A size: bytes as an integer, or a text such as "64MiB".
    pub fn bytes(&self, key: &'static str) -> usize {
        self.read(key, |value| {
            size(value)
                .and_then(|bytes| usize::try_from(bytes).ok())
                .ok_or_else(|| SIZE.to_owned())
        })
    }

    /// A size within `range`, in bytes.
    pub fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        self.read(key, |value| {
            let show = |bytes: u64| bytesize::ByteSize(bytes).display().iec();
            size(value)
                .filter(|bytes| range.contains(bytes))
                .ok_or_else(|| format!("{SIZE}, from {} to {}", show(*range.start()), show(*range.end())))
        })
    }

    /// A size that may be left out.
    pub fn optional_size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.given(key).map(|_| self.size(key, range))
    }

    /// A text, or a list of texts.
    pub fn text_or_list(&self, key: &'static str) -> Vec<String> {
        self.read(key, |value| {
            texts(value)
                .or_else(|| text(value).ok().map(|text| vec![text]))
                .ok_or_else(|| "a text or a list of texts".to_owned())
        })
    }

    /// One of the words in `choices`.
    pub fn choice<T: Copy + Default>(&self, key: &'static str, choices: &[(&'static str, T)]) -> T {
        let words = || {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("one of {}", words.join(", "))
        };
        self.read(key, |value| {
            let text = text(value).map_err(|_| words())?;
            choices
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, choice)| *choice)
                .ok_or_else(words)
        })
    }

    /// A list of texts; from the environment with commas between.
    pub fn texts(&self, key: &'static str) -> Vec<String> {
        self.read(key, |value| {
            texts(value).ok_or_else(|| "a list of texts such as [\"a\", \"b\"]".to_owned())
        })
    }

    /// A list of texts that `parse` understands; `expected` says which do.
    pub fn parsed_list<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&[String]) -> Option<T>,
    ) -> Option<T> {
        self.read(key, |value| {
            let parsed = texts(value).and_then(|texts| parse(&texts));
            parsed.map(Some).ok_or_else(|| expected.to_owned())
        })
    }

    /// A list of texts that may be left out.
    pub fn optional_texts(&self, key: &'static str) -> Option<Vec<String>> {
        self.given(key).map(|_| self.texts(key))
    }

    /// A text that `parse` understands; `expected` says which do.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.read(key, |value| {
            let text = text(value).map_err(|_| expected.to_owned())?;
            parse(&text).map(Some).ok_or_else(|| expected.to_owned())
        })
    }

    /// A key whose work is not built yet: anything but the reference's value is refused by name.
    pub fn not_built(&self, key: &'static str, hint: &str) {
        let Some(node) = self.given(key) else { return };
        let off = self
            .default(key)
            .is_some_and(|default| same(&node.value, &default.value));
        if !off {
            self.faults.add(
                &node.place,
                format!("`{}` is not built yet", self.name(key)),
                hint,
            );
        }
    }

    /// A key of an earlier version: refused, with what takes its place.
    pub fn removed(&self, key: &'static str, why: &str, hint: &str) {
        if self.has(key) {
            self.asked.borrow_mut().push(key);
            self.fault(key, format!("`{}` was removed: {why}", self.name(key)), hint);
        }
    }

    /// A section `[key]` within this one.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let given = self.given(key);
        let table = given.and_then(|node| match &node.value {
            Value::Table(table) => Some(table),
            other => {
                let name = self.name(key);
                self.faults.add(
                    &node.place,
                    format!("`{name}` must be a section, not {}", other.kind()),
                    format!("write [{name}] on a line of its own, its keys below"),
                );
                None
            }
        });
        Section {
            path: self.name(key),
            place: given.map_or_else(|| self.place.clone(), |node| node.place.clone()),
            given: table,
            defaults: self.default(key).and_then(|node| as_table(&node.value)),
            asked: RefCell::default(),
            faults: self.faults,
        }
    }

    /// The sections `[[key]]`. Each one's defaults are those of the first `[[key]]` in the reference.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(node) = self.given(key) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            let name = self.name(key);
            self.faults.add(
                &node.place,
                format!("`{name}` must be a list of sections, not {}", node.value.kind()),
                format!("write [[{name}]], with two brackets"),
            );
            return Vec::new();
        };
        let defaults = self.default_element(key);
        let section = |(index, item): (usize, &'a Node)| Section {
            path: format!("{}[{index}]", self.name(key)),
            place: item.place.clone(),
            given: as_table(&item.value),
            defaults,
            asked: RefCell::default(),
            faults: self.faults,
        };
        items.iter().enumerate().map(section).collect()
    }

    /// The section that stands for `[[key]]` when none is given: all of it from the reference.
    pub fn default_section(&self, key: &'static str) -> Section<'a> {
        Section {
            path: self.name(key),
            place: Place::Whole,
            given: None,
            defaults: self.default_element(key),
            asked: RefCell::default(),
            faults: self.faults,
        }
    }

    fn default_element(&self, key: &str) -> Option<&'a Table> {
        match self.default(key).map(|node| &node.value) {
            Some(Value::List(items)) => items.first().and_then(|item| as_table(&item.value)),
            _ => None,
        }
    }

    /// All keys of a section whose names are free, as texts.
    pub fn free_texts(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in self.given.iter().flat_map(|table| &table.entries) {
            self.flatten(entry.key.clone(), &entry.node, &mut found);
        }
        found
    }

    /// `bootstrap.servers = "x"` without quotes is a table in a table to TOML: it is meant as the dotted name.
    fn flatten(&self, key: String, node: &Node, found: &mut Vec<(String, String)>) {
        let text = match &node.value {
            Value::Text(text) | Value::Env(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Table(table) => {
                for entry in &table.entries {
                    self.flatten(format!("{key}.{}", entry.key), &entry.node, found);
                }
                return;
            }
            Value::List(_) | Value::Other(_) => {
                let text = format!("`{}` must be a text, an integer or a boolean", self.name(&key));
                self.faults.add(
                    &node.place,
                    text,
                    "write the value in quotes as librdkafka would read it",
                );
                return;
            }
        };
        // An override stands behind what it overrides, when the file wrote the name without quotes.
        found.retain(|(name, _)| *name != key);
        found.push((key, text));
    }

    /// Takes every key as known: the names are free ([`Section::free_texts`]), or the section is refused whole.
    pub fn any_key(&self) {
        self.asked.borrow_mut().push(ANY);
    }
}

/// Stands in `asked` for every key.
const ANY: &str = "*";

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        let unknown = |key: &str| !asked.contains(&key) && !asked.contains(&ANY);
        for entry in self
            .given
            .iter()
            .flat_map(|table| &table.entries)
            .filter(|entry| unknown(&entry.key))
        {
            let hint = match did_you_mean(&entry.key, asked.iter().copied()) {
                Some(near) => format!("did you mean `{}`?", self.name(near)),
                None => {
                    let mut names = asked.clone();
                    names.sort_unstable();
                    names.dedup();
                    format!("here may stand: {}", names.join(", "))
                }
            };
            self.faults.add(
                &entry.place,
                format!("unknown key `{}`", self.name(&entry.key)),
                hint,
            );
        }
    }
}

/// What a size looks like.
const SIZE: &str = "a size such as 65536 or \"64MiB\"";

fn size(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) | Value::Env(text) => Some(text.parse::<bytesize::ByteSize>().ok()?.as_u64()),
        _ => None,
    }
}

fn as_table(value: &Value) -> Option<&Table> {
    match value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Env(text) => Ok(text.clone()),
        _ => Err("a text in quotes".to_owned()),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::List(items) => items.iter().map(|item| text(&item.value).ok()).collect(),
        Value::Env(text) => Some(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
        _ => None,
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Env(text) => text.trim().parse().map_err(|_| "true or false".to_owned()),
        _ => Err("true or false".to_owned()),
    }
}

/// Whether `given` says the same as the reference's `default`.
fn same(given: &Value, default: &Value) -> bool {
    match (given, default) {
        (Value::Text(a) | Value::Env(a), Value::Text(b)) => a == b,
        (Value::Integer(a), Value::Integer(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Env(a), Value::Integer(b)) => *a == b.to_string(),
        (Value::Env(a), Value::Bool(b)) => *a == b.to_string(),
        (Value::List(a), Value::List(b)) => a.is_empty() && b.is_empty(),
        (Value::Env(a), Value::List(b)) => a.is_empty() && b.is_empty(),
        _ => false,
    }
}
