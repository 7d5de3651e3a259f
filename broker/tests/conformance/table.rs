//! docs/conformance.md is held to what it says: each statement of both specifications stands there once, and each test
//! that it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands under one `## MQTT ...` heading.
#[derive(Default)]
struct Section {
    /// Statement, and the tests or the reason for none.
    rows: Vec<(String, String)>,
    clients: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> BTreeMap<String, Section> {
    let text = std::fs::read_to_string(repository().join("docs/conformance.md")).unwrap();
    let mut sections = BTreeMap::<String, Section>::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            current = Some(sections.entry(heading.to_owned()).or_default());
            continue;
        }
        let Some(section) = &mut current else { continue };
        if let Some(ids) = line.strip_prefix("Clients only: ") {
            let ids = ids.trim_end_matches('.').split(", ").map(str::to_owned);
            section.clients.extend(ids);
        }
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if line.starts_with("| MQTT-") {
            assert_eq!(cells.len(), 3, "{line}");
            section.rows.push((cells[0].to_owned(), cells[2].to_owned()));
        }
    }
    sections
}

/// All statements, by the heading they belong under.
fn statements() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    let mut heading = String::new();
    let lines = include_str!("statements.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            heading = name.trim_end_matches(']').to_owned();
            continue;
        }
        let parts: Vec<_> = line.split(' ').collect();
        let [section, first, last] = parts[..] else {
            panic!("{line}");
        };
        let numbers = first.parse::<u32>().unwrap()..=last.parse().unwrap();
        let ids = numbers.map(|number| format!("MQTT-{section}-{number}"));
        all.entry(heading.clone()).or_default().extend(ids);
    }
    all
}

/// Rust files of the repository, by their path in it.
fn sources() -> Vec<(String, String)> {
    let root = repository();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["broker/src", "broker/tests", "bin/tests", "bin/src"]
        .map(|folder| root.join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// Whether `text` has a test of this name: an attribute says so in the lines above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let declared = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        let above = &lines[at.saturating_sub(4)..at];
        line.contains(&declared)
            && above
                .iter()
                .any(|line| line.contains("test]") || line.contains("test("))
    })
}

#[test]
fn each_statement_stands_in_the_table_once() {
    let table = table();
    for (heading, expected) in statements() {
        let section = table.get(&heading).unwrap_or_else(|| panic!("no {heading:?}"));
        let mut seen = BTreeSet::new();
        let rows = section.rows.iter().map(|(id, _)| id);
        for id in rows.chain(&section.clients) {
            assert!(seen.insert(id.clone()), "{heading}: {id} stands there twice");
        }
        let missing: Vec<_> = expected.difference(&seen).collect();
        let unknown: Vec<_> = seen.difference(&expected).collect();
        assert!(missing.is_empty(), "{heading} lacks {missing:?}");
        assert!(
            unknown.is_empty(),
            "{heading} has {unknown:?}, which do not exist"
        );
    }
}

#[test]
fn each_test_that_the_table_names_exists() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (id, shown_by) in table().into_values().flat_map(|section| section.rows) {
        if let Some(reason) = shown_by.strip_prefix("no test: ") {
            assert!(reason.len() > 20, "{id}: why not?");
            continue;
        }
        for name in shown_by.split(", ") {
            let name = name.trim_matches('`');
            let Some((file, test)) = name.split_once("::") else {
                wrong.push(format!("{id}: {name:?} names no test"));
                continue;
            };
            let ending = format!("/{file}");
            let files: Vec<_> = sources
                .iter()
                .filter(|(path, _)| path.ends_with(&ending))
                .collect();
            match files[..] {
                [(_, text)] if has_test(text, test) => {}
                [_] => wrong.push(format!("{id}: {file} has no test {test}")),
                _ => wrong.push(format!("{id}: {} files end with {ending}", files.len())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
