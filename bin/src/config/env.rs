//! Overrides from the environment: `FOREBAY__SECTION__KEY=value`.
//!
//! `__` parts the steps of the path, letters are upper case. An element of a list of sections is named by its index
//! from 0 (`FOREBAY__ROUTE__0__TOPIC`); the index after the last one makes a new element. Below
//! `FOREBAY__KAFKA__PROPERTIES__` the rest of the name is one property of librdkafka with `_` for each dot:
//! `FOREBAY__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS` is `bootstrap.servers`.

use super::fault::{Faults, Place};
use super::value::{Node, Table, Value};

/// What every override begins with.
pub const PREFIX: &str = "FOREBAY__";

/// Lists of sections, whose elements are named by their index.
const LISTS: [&str; 3] = ["listener", "route", "acl"];

/// Puts the overrides among `vars` into `table`.
pub fn apply(table: &mut Table, vars: impl IntoIterator<Item = (String, String)>, faults: &Faults) {
    let mut overrides: Vec<(Vec<String>, String, String)> = vars
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| (path_of(&name), name, value))
        .collect();
    // New elements come in the order of their index, 10 after 9.
    overrides.sort_by_key(|(path, name, _)| {
        (
            path.get(1)
                .and_then(|step| step.parse::<usize>().ok())
                .unwrap_or_default(),
            name.clone(),
        )
    });
    for (path, name, value) in overrides {
        let place = Place::Env(name);
        if let Err((text, hint)) = set(table, &path, &place, value) {
            faults.add(&place, text, hint);
        }
    }
}

fn path_of(name: &str) -> Vec<String> {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
    if let Some(property) = rest.strip_prefix("kafka__properties__") {
        return vec![
            "kafka".to_owned(),
            "properties".to_owned(),
            property.replace('_', "."),
        ];
    }
    rest.split("__").map(str::to_owned).collect()
}

type Wrong = (String, String);

fn set(table: &mut Table, path: &[String], place: &Place, value: String) -> Result<(), Wrong> {
    let shape = || {
        (
            "this names no key".to_owned(),
            "the form is FOREBAY__SECTION__KEY, for instance FOREBAY__LOG__LEVEL or FOREBAY__ROUTE__0__TOPIC"
                .to_owned(),
        )
    };
    let (key, sections) = path.split_last().ok_or_else(shape)?;
    if sections.is_empty() || path.iter().any(String::is_empty) {
        return Err(shape());
    }
    let mut here = table;
    let mut steps = sections.iter();
    while let Some(step) = steps.next() {
        let list = LISTS.contains(&step.as_str());
        let empty = || {
            if list {
                Value::List(Vec::new())
            } else {
                Value::Table(Table::default())
            }
        };
        let node = here.get_or_insert(step, place, empty).ok_or_else(shape)?;
        let kind = node.value.kind();
        here = match &mut node.value {
            Value::Table(inner) if !list => inner,
            Value::List(items) if list => element(items, step, steps.next(), place)?,
            _ => return Err((format!("`{step}` is {kind} in the file"), String::new())),
        };
    }
    let node = here
        .get_or_insert(key, place, || Value::Env(String::new()))
        .ok_or_else(shape)?;
    *node = Node {
        place: place.clone(),
        value: Value::Env(value),
    };
    Ok(())
}

fn element<'a>(
    items: &'a mut Vec<Node>,
    list: &str,
    index: Option<&String>,
    place: &Place,
) -> Result<&'a mut Table, Wrong> {
    let count = items.len();
    let at = index
        .and_then(|index| index.parse::<usize>().ok())
        .ok_or_else(|| {
            let hint = format!(
                "write its index after it, as in FOREBAY__{}__0__...",
                list.to_uppercase()
            );
            (format!("`{list}` is a list of sections"), hint)
        })?;
    if at == count {
        items.push(Node {
            place: place.clone(),
            value: Value::Table(Table::default()),
        });
    }
    match items.get_mut(at).map(|node| &mut node.value) {
        Some(Value::Table(table)) => Ok(table),
        Some(other) => Err((
            format!("`{list}` {at} is {} in the file", other.kind()),
            String::new(),
        )),
        None => Err((
            format!("there is no {list} {at}"),
            format!("the file has {count}; the next new one has the index {count}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::value::parse;

    fn applied(text: &str, vars: &[(&str, &str)]) -> (Table, Vec<String>) {
        let faults = Faults::default();
        let mut table = parse(text, &faults);
        apply(
            &mut table,
            vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
            &faults,
        );
        (
            table,
            faults.into_sorted().into_iter().map(|fault| fault.text).collect(),
        )
    }

    fn text_at(table: &Table, path: &[&str]) -> String {
        let (first, rest) = path.split_first().unwrap();
        match &table.get(first).unwrap().value {
            Value::Table(inner) => text_at(inner, rest),
            Value::List(items) => {
                let (index, rest) = rest.split_first().unwrap();
                match &items.get(index.parse::<usize>().unwrap()).unwrap().value {
                    Value::Table(inner) => text_at(inner, rest),
                    other => panic!("{other:?}"),
                }
            }
            Value::Env(text) | Value::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_elements_and_properties_are_set() {
        let (table, faults) = applied(
            "[log]\nlevel = \"info\"\n[[route]]\ntopic = \"a\"\n",
            &[
                ("FOREBAY__LOG__LEVEL", "debug"),
                ("FOREBAY__ROUTE__0__TOPIC", "b"),
                ("FOREBAY__ROUTE__1__TOPIC", "c"),
                ("FOREBAY__KAFKA__PROPERTIES__SSL_CA_LOCATION", "/ca.pem"),
                ("FOREBAY_LOG", "not an override"),
                ("FOREBAY_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
            ],
        );
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(text_at(&table, &["log", "level"]), "debug");
        assert_eq!(text_at(&table, &["route", "0", "topic"]), "b");
        assert_eq!(text_at(&table, &["route", "1", "topic"]), "c");
        assert_eq!(
            text_at(&table, &["kafka", "properties", "ssl.ca.location"]),
            "/ca.pem"
        );
    }

    #[test]
    fn a_tenth_element_comes_after_the_ninth() {
        let vars: Vec<(String, String)> = (0..11)
            .map(|i| (format!("FOREBAY__ROUTE__{i}__TOPIC"), i.to_string()))
            .collect();
        let vars: Vec<(&str, &str)> = vars.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let (table, faults) = applied("", &vars);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(text_at(&table, &["route", "10", "topic"]), "10");
    }

    #[test]
    fn what_names_no_key_is_a_fault() {
        let (_, faults) = applied(
            "",
            &[
                ("FOREBAY__LOG", "x"),
                ("FOREBAY__LOG__", "x"),
                ("FOREBAY__ROUTE__TOPIC", "x"),
                ("FOREBAY__ROUTE__3__TOPIC", "x"),
            ],
        );
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
