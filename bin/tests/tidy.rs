//! The house rules as a test: which room may name what, sizes of files and functions, what may stand at the top, and
//! nothing in the text that only works on one machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file above which it is two files.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function above which it is two functions.
const FUNCTION_LINES_MAX: usize = 70;

/// All that may stand at the top of the repository, but for files that begin with a dot.
const TOP: [&str; 17] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "bin",
    "broker",
    "clippy.toml",
    "configs",
    "deny.toml",
    "deploy",
    "docs",
    "rustfmt.toml",
    "sink",
];

/// A name that only some places may use: the name, and the beginnings of paths that may.
const ONLY_IN: [(&str, &[&str]); 16] = [
    (
        "rumqttd",
        &["broker/src/bus/", "benches/src/bin/stock-rumqttd.rs"],
    ),
    (
        "rdkafka",
        &[
            "sink/src/producer",
            "sink/src/outcome.rs",
            "sink/src/properties.rs",
            "sink/tests/",
            "bin/src/demo",
            "bin/src/fleet",
            "bin/tests/",
            "benches/",
        ],
    ),
    ("redb", &["broker/src/store/"]),
    ("kafka", &["sink/", "bin/", "benches/", "broker/src/classify.rs"]),
    ("axum", &["bin/src/admin"]),
    ("clap", &["bin/src/", "benches/"]),
    ("anyhow", &["bin/", "benches/"]),
    ("toml", &["bin/"]),
    ("forebay_sink", &["sink/", "bin/", "benches/"]),
    ("sonic_rs", &["sink/src/"]),
    ("imbl", &["broker/src/hub"]),
    (
        "tungstenite",
        &["broker/src/listener/", "broker/tests/transports/"],
    ),
    (
        "rustls",
        &[
            "broker/src/listener/tls/",
            "broker/tests/transports",
            "benches/src/client/stream.rs",
            "bin/src/client/tls.rs",
        ],
    ),
    ("tokio_rustls", &["bin/src/client/tls.rs"]),
    ("x509_parser", &["broker/src/listener/tls/"]),
    ("proxy_header", &["broker/src/listener/proxy.rs"]),
];

/// A room, and names that it may not use: design's table, turned round.
const NEVER_IN: [(&str, &[&str]); 8] = [
    (
        "broker/src/codec/",
        &[
            "tokio",
            "std::net",
            "std::fs",
            "std::time",
            "std::sync::Mutex",
            "crate::session",
        ],
    ),
    (
        "broker/src/session/",
        &[
            "tokio",
            "std::net",
            "std::fs",
            "std::time::Instant",
            "SystemTime",
            "Mutex",
            "mpsc",
            // Its plain types are fine: who a subscriber is, what matched.
            "Hub",
            "HubReader",
            "crate::bus",
        ],
    ),
    (
        "broker/src/hub/",
        &[
            "tokio",
            "std::net",
            "std::fs",
            "std::time::Instant",
            "SystemTime",
            "crate::bus",
        ],
    ),
    (
        "broker/src/bus/",
        &[
            "std::net",
            "std::fs",
            "crate::session",
            "crate::hub",
            "crate::listener",
        ],
    ),
    (
        "broker/src/spool/",
        &["std::net", "crate::session", "crate::hub", "crate::listener"],
    ),
    (
        "broker/src/store/",
        &[
            "tokio",
            "std::net",
            "SystemTime",
            "crate::listener",
            "crate::worker",
            "crate::connection",
        ],
    ),
    (
        "sink/src/route",
        &["tokio", "std::net", "std::fs", "std::time::Instant"],
    ),
    (
        "sink/src/window",
        &["tokio", "std::net", "std::fs", "std::time::Instant", "rdkafka"],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file that git knows or would add.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let text = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<String> = text
        .lines()
        .filter(|file| root().join(file).is_file())
        .map(str::to_owned)
        .collect();
    assert!(files.len() > 20, "these cannot be all files: {files:?}");
    files
}

/// Name and text of each file of Rust.
fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|file| file.ends_with(".rs"));
    rust.map(|file| (file.clone(), read(&root().join(&file))))
        .collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `name` stands in `code` as a whole word that is the beginning of a path: `name::`, `use name`.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let starts =
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '"' && c != '-' && c != '.');
        starts
            && (after.starts_with("::")
                || (code.trim_start().starts_with("use ") && after.starts_with([';', ' '])))
    })
}

/// As `names`, but for a type that is used by its own name.
fn mentions(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

/// The lines of a file up to its inline test module.
fn untested(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_dependency_stays_in_its_room() {
    let mut faults = Vec::new();
    // This file names them all, as examples.
    for (file, text) in sources()
        .into_iter()
        .filter(|(file, _)| file != "bin/tests/tidy.rs")
    {
        for (number, line) in text.lines().enumerate() {
            for (name, places) in ONLY_IN {
                if names(code(line), name) && !places.iter().any(|place| file.starts_with(place)) {
                    faults.push(format!(
                        "{file}:{}: {name} is only for {places:?}: {line}",
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn each_room_uses_only_what_it_may() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (room, banned) in NEVER_IN {
            if is_test(&file)
                || !file.starts_with(room) && file != format!("{}.rs", room.trim_end_matches('/'))
            {
                continue;
            }
            for (number, line) in untested(&text) {
                for name in banned.iter().filter(|name| mentions(code(line), name)) {
                    faults.push(format!(
                        "{file}:{}: {room} may not use {name}: {line}",
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn files_and_functions_have_a_size_that_is_read_at_once() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{file}: {lines} lines"));
        }
        for (name, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX && !is_test(&file) {
                faults.push(format!("{file}: fn {name} has {length} lines"));
            }
        }
    }
    assert_none(&faults);
}

/// Files of tests alone: long tables, and any tool will do.
fn is_test(file: &str) -> bool {
    file.contains("/cases/") || file.contains("/tests/") || file.ends_with("tests.rs")
}

/// Name and length of each function, by indentation: the code is formatted.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let head = words.split_once("fn ").filter(|(before, _)| {
            before
                .split_whitespace()
                .all(|word| word.starts_with("pub") || ["async", "const", "unsafe"].contains(&word))
        });
        if let Some((_, rest)) = head {
            let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
            if !words.ends_with(';') && !words.ends_with('}') {
                open.push((name, indent, number));
            }
        } else if words == "}" && open.last().is_some_and(|(_, at, _)| *at == indent) {
            let (name, _, start) = open.pop().unwrap();
            found.push((name, number - start + 1));
        } else if words.ends_with(';') && open.last().is_some_and(|(_, at, _)| *at == indent) {
            // A declaration in a trait, over several lines.
            open.pop();
        }
    }
    found
}

#[test]
fn each_module_says_first_what_it_is_for() {
    let silent = |text: &str| !text.lines().next().is_some_and(|first| first.starts_with("//! "));
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| silent(text))
        .map(|(file, _)| format!("{file}: no //! line"))
        .collect();
    assert_none(&faults);
}

#[test]
fn the_top_of_the_repository_stays_as_it_is() {
    let stray: Vec<String> = files()
        .into_iter()
        .filter(|file| {
            let first = file.split('/').next().unwrap_or_default();
            !first.starts_with('.') && !TOP.contains(&first)
        })
        .collect();
    assert_none(&stray);
}

#[test]
fn nothing_works_on_one_machine_only() {
    // In pieces, so that this file does not name what it forbids.
    let hosts = [
        ["crates", ".io"],
        ["pypi", ".org"],
        ["repo.maven", ".apache"],
        ["proxy.golang", ".org"],
    ];
    let places = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/opt/", "wheels"],
    ];
    let mut faults = Vec::new();
    for file in files()
        .into_iter()
        .filter(|file| file != "Cargo.lock" && !file.ends_with(".lock"))
    {
        let text = read(&root().join(&file));
        for (number, line) in text.lines().enumerate() {
            for words in hosts
                .iter()
                .chain(&places)
                .map(|pieces| pieces.concat())
                .filter(|words| line.contains(words))
            {
                faults.push(format!("{file}:{}: {words}: {line}", number + 1));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn no_work_is_left_as_a_note() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|pieces| pieces.concat());
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| mentions(line, word)) {
                faults.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_sum_of_the_runners_counts_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let sum = |text: &str| {
        let file = dir.path().join("out");
        std::fs::write(&file, text).unwrap();
        let done = Command::new(root().join(".ci/sum")).arg(&file).output().unwrap();
        (String::from_utf8(done.stdout).unwrap(), done.status.success())
    };
    let fine = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: ok. 3 passed; 0 failed;\n";
    assert_eq!(sum(fine), ("15 passed, 0 failed\n".to_owned(), true));
    let failed = format!("{fine}noise test result: FAILED. 1 passed; 2 failed; 0 ignored\n");
    assert_eq!(sum(&failed), ("16 passed, 2 failed\n".to_owned(), false));
    assert_eq!(
        sum("nothing ran"),
        ("0 passed, 0 failed\n".to_owned(), false),
        "no test is not a pass"
    );
}

/// What cargo deny would say of licences, for machines that do not have it.
#[test]
fn each_dependency_has_a_licence_that_deny_toml_allows() {
    let deny: toml::Table = read(&root().join("deny.toml")).parse().unwrap();
    let names = |value: &toml::Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let allowed = names(&deny["licenses"]["allow"]);
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap();
    // Only what this machine builds: the rest may not be there to look at.
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap()
        .to_owned();
    let listed = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            &host,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let mut faults = Vec::new();
    for package in listed["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"]
            .as_str()
            .unwrap_or_default()
            .replace('/', " OR ");
        let mut allowed = allowed.clone();
        if let Some(exception) = exceptions
            .iter()
            .find(|exception| exception["crate"].as_str() == Some(name))
        {
            allowed.extend(names(&exception["allow"]));
        }
        // One side of each OR must do; AND binds its sides together.
        let fine = |terms: &str| {
            let terms = terms
                .replace(['(', ')'], "")
                .replace(" OR ", "\n")
                .replace(" AND ", "\n");
            terms.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let one = |term: &String| allowed.contains(&term.trim().trim_end_matches('+').to_owned());
        let passes = if licence.contains(" AND ") {
            licence.split(" AND ").all(|side| fine(side).iter().any(one))
        } else {
            fine(&licence).iter().any(one)
        };
        if !passes {
            faults.push(format!("{name}: {licence}"));
        }
    }
    assert_none(&faults);
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert!(names("use rumqttd::Router;", "rumqttd"));
    assert!(names(
        "    let x = rdkafka::config::ClientConfig::new();",
        "rdkafka"
    ));
    assert!(!names("let rumqttd_like = 1; \"rumqttd::x\"", "rumqttd"));
    assert!(mentions("fn f(x: Mutex<u8>)", "Mutex"));
    assert!(!mentions("fn f(x: MutexLike)", "Mutex"));
    let text = "impl A {\n    fn long(\n        &self,\n    ) {\n        x;\n    }\n}\nfn short() {\n}\n";
    assert_eq!(functions(text), [("long".to_owned(), 5), ("short".to_owned(), 2)]);
}
