//! docs/limits.md against the reference and the tests: each bound has its row, with its default, and a test that exists.

use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The parts of a text that stand between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Keys of a section of the reference with their values, as `section.key`.
fn keys(reference: &str, section: &str) -> Vec<(String, String)> {
    reference
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim_matches(['[', ']']) != section)
        .skip(1)
        .take_while(|line| !line.trim_start_matches('#').starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .filter(|(key, _)| !key.starts_with("# "))
        .map(|(key, value)| {
            (
                format!("{section}.{}", key.trim_start_matches('#')),
                value.to_owned(),
            )
        })
        .collect()
}

#[test]
fn each_bound_has_a_row_with_its_default_and_a_test_that_exists() {
    let page = read("docs/limits.md");
    let reference = read("configs/reference.toml");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let row = |key: &str| rows.iter().find(|row| quoted(row[1]) == [key]);
    let limits = keys(&reference, "limits");
    assert!(limits.len() >= 18, "{limits:?}");
    let others = ["session", "listener", "sys"].map(|section| keys(&reference, section));
    for (key, default) in &limits {
        let row = row(key).unwrap_or_else(|| panic!("docs/limits.md has no row of {key}"));
        assert_eq!(quoted(row[2]), [default.as_str()], "{key}");
    }
    for row in &rows {
        let key = quoted(row[1])[0];
        let known = limits.iter().chain(others.iter().flatten());
        let default = known.clone().find(|(name, _)| name == key);
        let (_, default) = default.unwrap_or_else(|| panic!("{key} of docs/limits.md is no key"));
        assert_eq!(quoted(row[2]), [default.as_str()], "{key}");
        assert!(row[3].len() > 5, "{key} does not say what happens");
    }
    let mut tests = 0;
    let mut names: Vec<Vec<&str>> = rows.iter().map(|row| quoted(row[4])).collect();
    let below = page.split("\n\nWithout a key:").nth(1).unwrap();
    names.extend(quoted(below).chunks(2).map(<[&str]>::to_vec));
    for pair in names {
        let [file, name] = pair[..] else {
            panic!("{pair:?}")
        };
        let text = read(file);
        let found = text.contains(&format!("#[test]\nfn {name}("));
        assert!(found, "there is no test {name} in {file}");
        tests += 1;
    }
    assert!(tests > rows.len());
}

#[test]
fn what_a_listener_can_say_for_itself_is_what_the_page_says() {
    let reference = read("configs/reference.toml");
    let all = keys(&reference, "limits");
    let own = keys(&reference, "listener.limits");
    let not = [
        "max_connections",
        "max_connect_rate_per_address",
        "max_retained_messages",
        "max_retained_bytes",
    ];
    for (key, default) in &all {
        let name = key.strip_prefix("limits.").unwrap();
        let there = own
            .iter()
            .find(|(own, _)| own.strip_prefix("listener.limits.") == Some(name));
        match there {
            Some((_, value)) => assert_eq!(value, default, "{key}"),
            None => assert!(not.contains(&name), "{key} is missing in [listener.limits]"),
        }
    }
    assert_eq!(own.len() + not.len(), all.len());
}
