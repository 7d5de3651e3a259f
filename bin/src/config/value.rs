//! The configuration as it was written: values, each with the place it was written at.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, Place};

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it was written.
    pub place: Place,
    /// What was written.
    pub value: Value,
}

/// What was written.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// A boolean.
    Bool(bool),
    /// `[a, b]` or `[[a]]`.
    List(Vec<Node>),
    /// `[a]` or `{ ... }`.
    Table(Table),
    /// From the environment: its type is that of the key.
    Env(String),
    /// A float, a date, an integer too great: no key takes one.
    Other(&'static str),
}

impl Value {
    /// What it is called in a fault.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Env(_) => "a text",
            Value::Integer(_) => "an integer",
            Value::Bool(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

/// Keys with their values, in the order in which they were written.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The keys.
    pub entries: Vec<Entry>,
}

/// One key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Where the key was written.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

impl Table {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// The section at `index` of `[[key]]`.
    pub fn list_item(&self, key: &str, index: usize) -> Option<&Table> {
        match &self.get(key)?.value {
            Value::List(items) => match &items.get(index)?.value {
                Value::Table(table) => Some(table),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where `path`, such as `limits.max_packet_bytes` or `route[0].topic`, was written, or else the nearest section
    /// around it.
    pub fn place_of(&self, path: &str) -> Place {
        self.find(path).unwrap_or(Place::Whole)
    }

    fn find(&self, path: &str) -> Option<Place> {
        // A property of librdkafka has dots of its own, and is one key in quotes or a table in a table.
        if let Some(node) = self.get(path) {
            return Some(node.place.clone());
        }
        let (step, rest) = path.split_once('.').unwrap_or((path, ""));
        let (key, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let node = self.get(key)?;
        let node = match (&node.value, index) {
            (Value::List(items), Some(index)) => items.get(index)?,
            _ => node,
        };
        match &node.value {
            Value::Table(table) => table.find(rest).or_else(|| Some(node.place.clone())),
            _ => Some(node.place.clone()),
        }
    }

    /// The value of `key`, made by `make` where there is none yet.
    pub fn get_or_insert(
        &mut self,
        key: &str,
        place: &Place,
        make: impl FnOnce() -> Value,
    ) -> Option<&mut Node> {
        if self.get(key).is_none() {
            self.entries.push(Entry {
                key: key.to_owned(),
                place: place.clone(),
                node: Node {
                    place: place.clone(),
                    value: make(),
                },
            });
        }
        self.entries
            .iter_mut()
            .find(|entry| entry.key == key)
            .map(|entry| &mut entry.node)
    }
}

/// Reads TOML. What is not TOML is noted in `faults`.
pub fn parse(text: &str, faults: &Faults) -> Table {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().map_or(Place::Whole, |span| lines.place(span.start));
        faults.add(&place, format!("not TOML: {}", error.message().trim()), "");
    }
    table_of(table.get_ref(), &lines)
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    fn place(&self, offset: usize) -> Place {
        Place::Line(self.0.partition_point(|start| *start <= offset))
    }
}

fn table_of(table: &DeTable<'_>, lines: &Lines) -> Table {
    let entries = table.iter().map(|(key, value)| Entry {
        key: key.get_ref().to_string(),
        place: lines.place(key.span().start),
        node: node_of(value, lines),
    });
    Table {
        entries: entries.collect(),
    }
}

fn node_of(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let inner = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an integer beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node_of(item, lines)).collect()),
        DeValue::Table(table) => Value::Table(table_of(table, lines)),
    };
    Node {
        place: lines.place(value.span().start),
        value: inner,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let faults = Faults::default();
        let table = parse(
            "[node]\nid = \"a\"\n\n[[route]]\ntopic = 3\n[[route]]\n  topic = true\n",
            &faults,
        );
        assert!(faults.is_empty());
        let Value::Table(node) = &table.get("node").unwrap().value else {
            panic!()
        };
        assert_eq!(node.get("id").unwrap().place, Place::Line(2));
        let Value::List(routes) = &table.get("route").unwrap().value else {
            panic!()
        };
        let Value::Table(second) = &routes.get(1).unwrap().value else {
            panic!()
        };
        assert_eq!(second.get("topic").unwrap().place, Place::Line(7));
        assert_eq!(routes.get(1).unwrap().place, Place::Line(6));
    }

    #[test]
    fn a_path_has_the_place_of_its_key_or_of_what_is_around_it() {
        let text = "[kafka.properties]\n\"a.b\" = 1\nc.d = 2\n[[route]]\ntopic = 3\n[[route]]\n";
        let table = parse(text, &Faults::default());
        for (path, line) in [
            ("kafka.properties.a.b", 2),
            ("kafka.properties.c.d", 3),
            ("kafka.properties.e.f", 1),
            ("route[0].topic", 5),
            ("route[1].topic", 6),
        ] {
            assert_eq!(table.place_of(path), Place::Line(line), "{path}");
        }
        assert_eq!(table.place_of("limits.x"), Place::Whole);
    }

    #[test]
    fn all_syntax_faults_are_found() {
        let faults = Faults::default();
        parse("a = \nb = 1\nc = [1,\nb = 2\n", &faults);
        let faults = faults.into_sorted();
        assert!(faults.len() >= 2, "{faults:?}");
        assert_eq!(faults.first().unwrap().place, Place::Line(1));
    }
}
