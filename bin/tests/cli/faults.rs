//! Each fault of a configuration is named with its place and a hint, by `check` and by `run`.

use crate::{Dir, finish};

/// A fault, and the words and places that the answer must hold.
struct Case {
    text: &'static str,
    vars: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

const fn case(text: &'static str, says: &'static [&'static str]) -> Case {
    Case {
        text,
        vars: &[],
        says,
    }
}

const KAFKA: &str = "\n[kafka.properties]\n\"bootstrap.servers\" = \"k:9092\"\n";

const CASES: [Case; 28] = [
    case(
        "[limits]\nmax_packet_byts = 3",
        &[
            "forebay.toml:2: unknown key `limits.max_packet_byts`",
            "did you mean `limits.max_packet_bytes`?",
        ],
    ),
    case(
        "[limts]\n",
        &["forebay.toml:1: unknown key `limts`", "did you mean `limits`?"],
    ),
    case(
        "colour = 1",
        &[
            "forebay.toml:1: unknown key `colour`",
            "here may stand: acl, admin, auth",
        ],
    ),
    case(
        "[node]\nid = 3",
        &["forebay.toml:2: `node.id` must be a text in quotes, not 3"],
    ),
    case(
        "[node]\nid = \"a/b\"",
        &["forebay.toml:2: \"a/b\" can't be this node's id"],
    ),
    case(
        "[limits]\nreceive_maximum = 70000",
        &["from 1 to 65535, not 70000"],
    ),
    case(
        "[limits]\nmax_packet_bytes = \"big\"",
        &["forebay.toml:2:", "a size such as", "not \"big\""],
    ),
    case(
        "[limits]\nmax_packet_bytes = 1",
        &["forebay.toml:2:", "limits.max_packet_bytes must be 64"],
    ),
    case(
        "[[listener]]\nbind = \"localhost:1883\"",
        &["forebay.toml:2:", "an address with its port"],
    ),
    case(
        "[[listener]]\nbind = \"[::]:1\"\n[[listener]]\nbind = \"[::]:1\"",
        &["forebay.toml:4: [::]:1 is listener [::]:1 already"],
    ),
    case(
        "listener = 3",
        &["forebay.toml:1:", "write [[listener]], with two brackets"],
    ),
    case(
        "[listener]\nbind = \"[::]:1\"",
        &["forebay.toml:1:", "write [[listener]], with two brackets"],
    ),
    case(
        "log = \"debug\"",
        &["forebay.toml:1:", "write [log] on a line of its own"],
    ),
    case(
        "[log]\nformat = \"xml\"",
        &["one of \"text\", \"json\", not \"xml\""],
    ),
    case("[log]\nlevel = \"loud!\"", &["forebay.toml:2: `log.level`"]),
    case("[auth]\n", &["no client could connect", "allow_anonymous = true"]),
    case(
        "[auth]\nallow_anonymous = true\npassword_file = \"no-such-file\"",
        &[
            "forebay.toml:3: no-such-file: can't be read",
            "allowed to read it",
        ],
    ),
    case(
        "[spool]\nmemory_max_bytes = 1",
        &[
            "forebay.toml:2: `spool.memory_max_bytes` was removed",
            "spool.max_bytes",
        ],
    ),
    case(
        "[spool]\nmax_bytes = 1",
        &["forebay.toml:2: `spool.max_bytes`", "from 16.0 MiB"],
    ),
    case("[listener]\na = [1,\n", &["forebay.toml:", "not TOML"]),
    case("a = 1\na = 2\n", &["forebay.toml:2: not TOML: duplicate key"]),
    case(
        "[[route]]\nfilter = \"#\"\ntopic = \"t\"",
        &["forebay.toml:1: there are routes, but no [kafka] to send to"],
    ),
    case(
        "[kafka]\ncreate_topics = true",
        &["forebay.toml:1:", "bootstrap.servers"],
    ),
    Case {
        text: "",
        vars: &[("FOREBAY__LIMITS__RECEIVE_MAXIMUM", "many")],
        says: &["environment FOREBAY__LIMITS__RECEIVE_MAXIMUM: ", "not \"many\""],
    },
    Case {
        text: "",
        vars: &[("FOREBAY__LOG__LEVL", "debug")],
        says: &[
            "environment FOREBAY__LOG__LEVL: unknown key",
            "did you mean `log.level`?",
        ],
    },
    Case {
        text: "",
        vars: &[("FOREBAY__ROUTE__1__TOPIC", "t")],
        says: &["environment FOREBAY__ROUTE__1__TOPIC: there is no route 1"],
    },
    Case {
        text: "",
        vars: &[("FOREBAY__LOG", "debug")],
        says: &["environment FOREBAY__LOG: this names no key"],
    },
    Case {
        text: "",
        vars: &[("FOREBAY__ROUTE__TOPIC", "t")],
        says: &["write its index after it"],
    },
];

/// Those that need a way into Kafka.
const KAFKA_CASES: [Case; 9] = [
    case(
        "[[route]]\nfilter = \"a/#/b\"\ntopic = \"t\"",
        &["forebay.toml:2: `route[0].filter`"],
    ),
    case(
        "[[route]]\nfilter = \"a\"\ntopic = \"no topic\"",
        &["forebay.toml:3: `route[0].topic`"],
    ),
    case(
        "[[route]]\nfilter = \"a\"\ntopic = \"{nobody}\"",
        &["forebay.toml:3: `route[0].topic`"],
    ),
    case(
        "[[route]]\ntopic = \"t\"",
        &["forebay.toml:1: `route[0].filter` is missing"],
    ),
    case(
        "[[route]]\nfilter = \"a\"",
        &["forebay.toml:1: `route[0].topic` is missing", "sink = false"],
    ),
    case(
        "[[route]]\nfilter = \"a\"\ntopic = \"t\"\nack = \"now\"",
        &["forebay.toml:4:", "one of \"spooled\", \"kafka\", \"received\""],
    ),
    case(
        "[[route]]\nfilter = \"a\"\ntopic = \"t\"\nheaders = [\"colour\"]",
        &["forebay.toml:4:", "\"colour\" is not known"],
    ),
    Case {
        text: "",
        vars: &[("FOREBAY__KAFKA__PROPERTIES__ACKS", "1")],
        says: &["environment FOREBAY__KAFKA__PROPERTIES__ACKS:", "clashes"],
    },
    Case {
        text: "",
        vars: &[("FOREBAY__KAFKA__PROPERTIES__NO_SUCH", "1")],
        says: &["environment FOREBAY__KAFKA__PROPERTIES__NO_SUCH:"],
    },
];

#[test]
fn each_fault_is_named_with_its_place_and_a_hint() {
    let dir = Dir::new();
    let with_kafka = |case: &Case| (format!("{}{KAFKA}", case.text), case.vars, case.says);
    let plain = CASES
        .iter()
        .map(|case| (case.text.to_owned(), case.vars, case.says));
    for (text, vars, says) in plain.chain(KAFKA_CASES.iter().map(with_kafka)) {
        let output = dir.check(&text, vars);
        assert_eq!(output.code, 64, "{text}\n{vars:?}");
        assert!(output.err.ends_with("nothing was started\n"), "{}", output.err);
        for words in says {
            assert!(
                output.err.contains(words),
                "{text}\n{vars:?}\nshould say {words}\n{}",
                output.err
            );
        }
    }
}

#[test]
fn all_faults_are_listed_at_once_and_run_refuses_like_check() {
    let dir = Dir::new();
    let text = "[node]\nwrkers = 1\n[limits]\nreceive_maximum = 0\n[[route]]\nfilter = \"a\"\ntopic = \"t\"\nack = \"synced\"\n";
    let checked = finish(
        dir.command(&["check", "-c", dir.file(text).to_str().unwrap()])
            .env("FOREBAY__LOG__LEVEL", "?!"),
    );
    for place in [
        "toml:2: ",
        "toml:4: ",
        "toml:8: ",
        "environment FOREBAY__LOG__LEVEL: ",
        "\n5 faults",
    ] {
        assert!(checked.err.contains(place), "{place} in\n{}", checked.err);
    }
    let ran = finish(
        dir.command(&["run", "-c", "forebay.toml"])
            .env("FOREBAY__LOG__LEVEL", "?!"),
    );
    assert_eq!((checked.code, ran.code), (64, 64));
    assert_eq!(ran.out, "");
}

#[test]
fn a_log_level_of_the_environment_that_is_none_is_64() {
    let output = finish(Dir::new().command(&["run"]).env("FOREBAY_LOG", "loud"));
    assert_eq!(output.code, 64);
    assert!(
        output.err.contains("environment FOREBAY_LOG: ") && output.err.contains("hint:"),
        "{}",
        output.err
    );
}

#[test]
fn a_file_that_is_not_there_is_64() {
    let output = Dir::new().run(&["run", "-c", "nothing.toml"]);
    assert_eq!(output.code, 64);
    assert!(
        output.err.contains("nothing.toml: can't be read") && output.err.contains("hint:"),
        "{}",
        output.err
    );
}
