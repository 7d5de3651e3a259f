//! Rules and files by table, and rules against trying every topic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn rule(who: &[Whom], publish: bool, subscribe: bool, on: &str, allow: bool) -> Rule {
    Rule {
        who: who.to_vec(),
        publish,
        subscribe,
        on: Pattern::of_rule(on).unwrap(),
        allow,
    }
}

fn who<'a>(client_id: &'a str, username: Option<&'a str>) -> Who<'a> {
    Who { client_id, username }
}

fn with_file(text: &str) -> Acl {
    Acl {
        rules: Vec::new(),
        file: Some(FileRules::parse(Path::new("acl"), text).unwrap()),
    }
}

#[test]
fn no_rules_allow_all_and_some_deny_what_none_fits() {
    let anyone = who("c", None);
    let none = Acl::default();
    assert!(none.is_empty() && none.may(Act::Write, anyone, "a") && none.may(Act::Read, anyone, "$SYS/x"));
    assert_eq!(none.subscription(anyone, "#"), Granted::Whole);
    let one = Acl {
        rules: vec![rule(&[], true, false, "a", true)],
        file: None,
    };
    assert!(one.may(Act::Write, anyone, "a"));
    assert!(!one.may(Act::Write, anyone, "b") && !one.may(Act::Read, anyone, "a"));
    assert_eq!(one.subscription(anyone, "a"), Granted::Refused);
}

#[test]
fn the_first_rule_that_fits_decides() {
    let acl = Acl {
        rules: vec![
            rule(&[Whom::User("admin".into())], true, true, "#", true),
            rule(&[], true, true, "devices/{client_id}/#", true),
            rule(
                &[Whom::Client("probe".into()), Whom::Anonymous],
                false,
                true,
                "public/#",
                true,
            ),
            rule(&[], false, true, "test/nosubscribe", false),
            rule(&[], false, true, "test/#", true),
        ],
        file: None,
    };
    for (client, user, act, topic, may) in [
        ("c", Some("admin"), Act::Write, "any/thing", true),
        ("c", Some("admin"), Act::Write, "$SYS/x", false),
        ("c", Some("u"), Act::Write, "devices/c/t", true),
        ("c", Some("u"), Act::Write, "devices/d/t", false),
        ("+", Some("u"), Act::Write, "devices/d/t", false),
        ("c", None, Act::Read, "public/x", true),
        ("c", Some("u"), Act::Read, "public/x", false),
        ("probe", Some("u"), Act::Read, "public/x", true),
        ("probe", Some("u"), Act::Write, "public/x", false),
        ("c", Some("u"), Act::Read, "test/nosubscribe", false),
        ("c", Some("u"), Act::Read, "test/other", true),
    ] {
        assert_eq!(
            acl.may(act, who(client, user), topic),
            may,
            "{client} {user:?} {act:?} {topic}"
        );
    }
    for (client, user, filter, granted) in [
        ("c", Some("admin"), "#", Granted::Whole),
        ("c", Some("u"), "#", Granted::Refused),
        ("c", Some("u"), "devices/c/+", Granted::Whole),
        ("c", Some("u"), "devices/+/t", Granted::Refused),
        ("+", Some("u"), "devices/+/t", Granted::Refused),
        ("c", Some("u"), "test/nosubscribe", Granted::Refused),
        ("c", Some("u"), "test/#", Granted::Checked),
        ("c", Some("u"), "test/+/x", Granted::Whole),
    ] {
        assert_eq!(
            acl.subscription(who(client, user), filter),
            granted,
            "{client} {user:?} {filter}"
        );
    }
}

/// The answers were got from Mosquitto 2.0.11.
#[test]
fn an_acl_file_decides_as_mosquittos_does() {
    let acl = with_file(
        "# of clients without a name\ntopic read anon/#\n\nuser alice\ntopic readwrite #\ntopic deny a/secret\n\
         topic write a b/c\n\
         pattern readwrite dev/%c/#\npattern deny dev/%c/no\npattern read shared/#\nuser bob\ntopic read bobs\n",
    );
    for (client, user, act, topic, may) in [
        ("c", None, Act::Read, "anon/x", true),
        ("c", None, Act::Write, "anon/x", false),
        ("c", Some("bob"), Act::Read, "anon/x", false),
        ("c", Some("bob"), Act::Read, "bobs", true),
        ("c", Some("alice"), Act::Read, "bobs", true),
        ("c", Some("alice"), Act::Write, "a/secret", false),
        ("c", Some("alice"), Act::Read, "$SYS/x", false),
        ("d1", None, Act::Write, "dev/d1/t", true),
        ("d1", None, Act::Write, "dev/d2/t", false),
        ("d1", None, Act::Write, "dev/d1/no", false),
        // The user's own lines come before the patterns.
        ("d1", Some("alice"), Act::Write, "dev/d1/no", true),
        ("a+b", None, Act::Write, "dev/axb/t", false),
        ("a+b", None, Act::Read, "shared/x", false),
        // Mosquitto would allow this; here no name takes more than its level.
        ("a/b", None, Act::Write, "dev/a/b/t", false),
        ("a/b", None, Act::Read, "shared/x", true),
    ] {
        assert_eq!(
            acl.may(act, who(client, user), topic),
            may,
            "{client} {user:?} {act:?} {topic}"
        );
    }
    for (client, user, filter, granted) in [
        ("c", None, "anon/x", Granted::Whole),
        ("c", None, "#", Granted::Checked),
        ("c", Some("bob"), "#", Granted::Checked),
        ("c", Some("bob"), "nothing/x", Granted::Refused),
        ("c", Some("alice"), "#", Granted::Checked),
        ("c", Some("alice"), "b/#", Granted::Whole),
        ("c", Some("alice"), "a/secret", Granted::Refused),
        ("c", Some("alice"), "$SYS/#", Granted::Refused),
        ("d1", None, "dev/d1/no", Granted::Refused),
        ("d1", None, "dev/+/t", Granted::Checked),
    ] {
        assert_eq!(
            acl.subscription(who(client, user), filter),
            granted,
            "{client} {user:?} {filter}"
        );
    }
}

#[test]
fn a_file_says_where_it_is_wrong() {
    let text = "topic\ntopic read\nuser\ntopic wrote a/b\npattern read a/#/b\nfrobnicate x\ntopic read a\n";
    let faults = FileRules::parse(Path::new("/etc/acl"), text).unwrap_err();
    let lines: Vec<_> = faults.iter().filter_map(|fault| fault.line).collect();
    // `topic read` is the topic "read" to Mosquitto too.
    assert_eq!(lines, [1, 3, 4, 5, 6], "{faults:?}");
    assert!(faults.iter().all(|fault| !fault.hint.is_empty()));
}

#[test]
fn rules_come_before_the_file() {
    let mut acl = with_file("topic read #\n");
    acl.rules = vec![
        rule(&[], true, true, "a/#", false),
        rule(&[], true, false, "b", true),
    ];
    let anyone = who("c", None);
    assert!(!acl.may(Act::Read, anyone, "a/x") && acl.may(Act::Read, anyone, "b"));
    assert!(acl.may(Act::Write, anyone, "b") && !acl.may(Act::Write, anyone, "c"));
    assert_eq!(acl.subscription(anyone, "#"), Granted::Checked);
    assert_eq!(acl.subscription(anyone, "a/x"), Granted::Refused);
    assert_eq!(acl.subscription(anyone, "b/#"), Granted::Whole);
}

fn a_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("a"), Just("b"), Just("%c"), Just("+"), Just("$s")];
    (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, multi)| {
        let filter = levels.join("/");
        if multi { format!("{filter}/#") } else { filter }
    })
}

fn an_acl() -> impl Strategy<Value = Acl> {
    let rule = (a_filter(), any::<bool>(), any::<bool>())
        .prop_map(|(on, allow, subscribe)| rule(&[], !subscribe, subscribe, &on, allow));
    let line = (
        prop_oneof![Just("read"), Just("deny"), Just("write")],
        a_filter(),
        any::<bool>(),
    )
        .prop_map(|(access, on, pattern)| match pattern {
            true => format!("pattern {access} {on}\n"),
            false => format!("topic {access} {}\n", on.replace("%c", "b")),
        });
    let file = prop::option::of(prop::collection::vec(line, 0..5));
    (prop::collection::vec(rule, 0..5), file).prop_map(|(rules, file)| Acl {
        rules,
        file: file.map(|lines| FileRules::parse(Path::new("acl"), &lines.concat()).unwrap()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A subscription that is granted whole takes nothing that may not be read, and one that is refused by a file
    /// takes nothing that may be.
    #[test]
    fn a_grant_says_what_each_topic_says(acl in an_acl(), filter in a_filter()) {
        let filter = filter.replace("%c", "c");
        let anyone = who("c", None);
        let words = ["a", "b", "c", "$s", "x"];
        let mut topics: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for depth in 0..3 {
            let deeper: Vec<String> = topics.iter().filter(|t| t.matches('/').count() == depth)
                .flat_map(|t| words.iter().map(move |word| format!("{t}/{word}"))).collect();
            topics.extend(deeper);
        }
        let taken: Vec<_> = topics.iter().filter(|name| topic::matches(&filter, name)).collect();
        let read = taken.iter().filter(|name| acl.may(Act::Read, anyone, name)).count();
        match acl.subscription(anyone, &filter) {
            Granted::Whole => prop_assert_eq!(read, taken.len()),
            Granted::Refused if acl.rules.is_empty() => prop_assert_eq!(read, 0),
            Granted::Refused | Granted::Checked => {}
        }
        // One rule for everything leaves nothing to ask about.
        let all = acl.rules.first().filter(|rule| {
            rule.subscribe && rule.filter(anyone).is_some_and(|rule| covers(&rule, &filter))
        });
        if let Some(rule) = all {
            let granted = if rule.allow { Granted::Whole } else { Granted::Refused };
            prop_assert_eq!(acl.subscription(anyone, &filter), granted);
        }
    }
}
