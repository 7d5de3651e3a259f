//! What an operator reads of a running broker: /metrics against docs/metrics.md, and $SYS by a client that others wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::certificates::Certificates;
use crate::support::forebay::{Forebay, PLAIN, config, route};
use crate::support::kafka::Kafka;
use crate::support::tools::{Subscriber, mosquitto_pub, mosquitto_sub};
use crate::support::{free_port, root, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

/// Name and type of each metric that is served.
fn served(forebay: &Forebay) -> BTreeMap<String, String> {
    let (status, body) = forebay.get("/metrics").unwrap();
    assert_eq!(status, 200);
    body.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// The same as docs/metrics.md says.
fn promised() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| {
            let (kind, meaning) = rest.split_once(" | ").unwrap();
            assert!(meaning.len() > 5, "{name} is not explained");
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

#[test]
fn metrics_are_those_of_the_page_and_no_others() {
    let kafka = Kafka::shared();
    kafka.create_topic("metrics-page", 1, &[]);
    // Some are there with TLS alone.
    let files = Certificates::new();
    let listener = format!(
        "[[listener]]\nbind = \"127.0.0.1:{}\"\n{}",
        free_port(),
        files.section("")
    );
    let further = format!("{listener}{}", route("metrics-page"));
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &further));
    forebay.wait_ready(WITHIN);
    let done = mosquitto_pub(forebay.mqtt, &["-t", "devices/d1/t", "-m", "x", "-q", "1"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let promised = promised();
    assert!(promised.len() > 50);
    // Some are served once something has gone their way, or at their next look.
    let mut before = Vec::new();
    wait_for("all that docs/metrics.md promises is served", WITHIN, || {
        let served = served(&forebay);
        let names = promised.keys().filter(|name| !served.contains_key(*name));
        let missing: Vec<_> = names.cloned().collect();
        if missing != before {
            eprintln!("not served yet: {missing:?}");
            before.clone_from(&missing);
        }
        missing.is_empty().then_some(())
    });
    let last = served(&forebay);
    for (name, kind) in &promised {
        assert_eq!(
            last.get(name),
            Some(kind),
            "{name} of docs/metrics.md is not served so"
        );
    }
    for name in last.keys() {
        assert!(
            promised.contains_key(name),
            "{name} is served and not in docs/metrics.md"
        );
    }
}

#[test]
fn sys_is_read_by_mosquittos_own_client() {
    let forebay = Forebay::start(&format!("{PLAIN}[sys]\ninterval_s = 1\n"));
    let watcher = Subscriber::start(forebay.mqtt, &["-t", "$SYS/broker/clients/connected"]);
    // What is retained for who comes, and then what changes.
    let first = watcher.wait_messages(1);
    assert!(
        first[0].starts_with("$SYS/broker/clients/connected 0 1 "),
        "{first:?}"
    );
    let _other = Subscriber::start(forebay.mqtt, &["-t", "none"]);
    wait_for("two are connected", WITHIN, || {
        let last = watcher.messages().pop()?;
        (last == "$SYS/broker/clients/connected 0 0 2").then_some(())
    });
    let version = mosquitto_sub(forebay.mqtt, &["-t", "$SYS/broker/version", "-C", "1"]);
    assert!(
        version.stdout.starts_with("forebay version "),
        "{}",
        version.stdout
    );
    let uptime = mosquitto_sub(forebay.mqtt, &["-t", "$SYS/broker/uptime", "-C", "2"]);
    let seconds = |line: &str| line.strip_suffix(" seconds").and_then(|n| n.parse::<u64>().ok());
    let seen: Vec<_> = uptime.stdout.lines().map(seconds).collect();
    assert!(seen.len() == 2 && seen[0] < seen[1], "{}", uptime.stdout);
    let all = mosquitto_sub(forebay.mqtt, &["-t", "#", "-W", "2"]);
    assert_eq!(all.stdout, "", "wildcards do not match $SYS");
}
