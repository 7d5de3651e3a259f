//! Clients that others wrote, each over every transport and version that it speaks: one conversation, held by one small
//! program for each of them (bin/tests/clients), and one transcript that all must print.
//!
//! QoS 0, 1 and 2; a payload of many reads; a retained message, set and cleared; the will of a holder that is killed
//! with SIGKILL; its session, resumed with what was queued for it.

mod passwd;
mod rust;

use std::path::PathBuf;
use std::time::Duration;

use crate::args;
use crate::support::certificates::Certificates;
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::{process, root, tools};

const WITHIN: Duration = Duration::from_secs(120);

/// Transport and version of one conversation: 3 is 3.1, 4 is 3.1.1.
type Way = (&'static str, u8);

const OVER_TCP: [Way; 3] = [("tcp", 3), ("tcp", 4), ("tcp", 5)];
/// For clients that take a file of authorities (FOREBAY_TEST_CAFILE).
const OVER_TLS: [Way; 3] = [("tls", 3), ("tls", 4), ("tls", 5)];
const OVER_ALL_TLS: [Way; 4] = [("tls", 4), ("tls", 5), ("wss", 4), ("wss", 5)];
const OVER_BOTH: [Way; 6] = [
    ("tcp", 3),
    ("tcp", 4),
    ("tcp", 5),
    ("ws", 3),
    ("ws", 4),
    ("ws", 5),
];

/// What a client named `name` must have seen.
fn transcript(name: &str, version: u8) -> Vec<String> {
    let mut lines = vec![
        "granted 2".to_owned(),
        format!("message {name}/q/0 0 at 0"),
        format!("message {name}/q/1 1 at 1"),
        format!("message {name}/q/2 2 at 2"),
        "large true".to_owned(),
        "retained true value".to_owned(),
        "cleared".to_owned(),
        "holding".to_owned(),
        format!("will {name}/will 1 gone"),
    ];
    // CONNACK of 3.1 does not say it.
    lines.extend((version > 3).then(|| "present true".to_owned()));
    lines.extend(["queued 1 0 2 4 6 8", "queued 2 1 3 5 7 9", "done"].map(str::to_owned));
    lines
}

/// Holds the conversation on every way at once; `program` and its arguments come before those of the conversation.
fn converse(client: &str, ways: &[Way], program: &[String]) {
    let files = Certificates::new();
    let start = |transport: &'static str| {
        let mut listener = String::new();
        if transport.starts_with("ws") {
            listener.push_str("transport = \"ws\"\n");
        }
        if ["tls", "wss"].contains(&transport) {
            listener.push_str(&files.section(""));
        }
        let text = PLAIN.replace("[auth]", &format!("{listener}[auth]"));
        (transport, Forebay::start(&text))
    };
    let used = |transport: &&str| ways.iter().any(|(used, _)| used == transport);
    let brokers: Vec<_> = ["tcp", "ws", "tls", "wss"]
        .into_iter()
        .filter(used)
        .map(start)
        .collect();
    let trusted = format!("FOREBAY_TEST_CAFILE={}", files.path("ca.pem"));
    let program = &[&args!["env", trusted][..], program].concat();
    std::thread::scope(|scope| {
        for (transport, version) in ways {
            let port = brokers
                .iter()
                .find(|(name, _)| name == transport)
                .map(|(_, broker)| broker.mqtt)
                .unwrap();
            scope.spawn(move || {
                // Short: a client id of 3.1 has 23 characters at most.
                let name = format!("{client}-{transport}-{version}");
                let mut arguments = program.to_vec();
                arguments.extend(args![transport, version, port, name]);
                let done = process::run(&arguments[0], &arguments[1..], "", WITHIN);
                let said: Vec<String> = done.stdout.lines().map(str::to_lowercase).collect();
                assert_eq!(
                    said,
                    transcript(&name, *version),
                    "{name} ends with {:?}: {}",
                    done.status,
                    done.stderr
                );
                assert_eq!(done.status, Some(0), "{name}: {}", done.stderr);
            });
        }
    });
    for (transport, broker) in &brokers {
        let log = broker.log();
        assert!(!log.contains("panicked"), "{transport}: {log}");
    }
}

fn program(name: &str) -> PathBuf {
    root().join("bin/tests/clients").join(name)
}

#[test]
fn mosquittos_clients() {
    let ways = [&OVER_TCP[..], &OVER_TLS].concat();
    converse("mosq", &ways, &args![program("converse.sh").display()]);
}

#[test]
fn paho_for_python() {
    let python = tools::interpreter();
    converse(
        "py",
        &[&OVER_BOTH[..], &OVER_ALL_TLS].concat(),
        &args![python.display(), program("converse.py").display()],
    );
}

#[test]
fn mqtt_js() {
    let modules = tools::cached("node/node_modules");
    converse(
        "js",
        &[&OVER_BOTH[..], &OVER_ALL_TLS].concat(),
        &args![
            "env",
            format!("NODE_PATH={}", modules.display()),
            "node",
            program("converse.js").display()
        ],
    );
}

#[test]
fn both_pahos_for_go() {
    converse("go", &OVER_BOTH, &args![tools::cached("go/paho").display()]);
}

#[test]
fn paho_for_c() {
    converse("c", &OVER_BOTH, &args![tools::cached("c/paho").display()]);
}
