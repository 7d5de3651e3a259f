//! A topic that goes, takes only small records, or may not be written for a while: the others flow, and what was
//! acknowledged arrives where it can.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{beside, drained};
use crate::args;
use crate::support::audit::Audit;
use crate::support::device::{Load, Outcome, Steer};
use crate::support::forebay::{Forebay, config, route};
use crate::support::kafka::{Kafka, java};
use crate::support::wait_for;

const LATE: Duration = Duration::from_secs(90);

fn fleet(prefix: &str, leaf: &'static str, steer: &Arc<Steer>) -> Load {
    Load {
        prefix: prefix.to_owned(),
        devices: 25,
        every: Duration::from_millis(100),
        leaf,
        steer: steer.clone(),
        ..Load::default()
    }
}

/// All was acknowledged over one connection each.
fn all_served(outcomes: &[Outcome]) {
    let unserved = outcomes.iter().find(|o| o.connections != 1 || o.error.is_some());
    assert!(unserved.is_none(), "{unserved:?}");
}

#[test]
fn a_topic_is_deleted_under_load_and_what_comes_after_is_in_the_new_one() {
    let kafka = Kafka::shared();
    kafka.create_topic("deleted", 3, &[]);
    let rest =
        "[kafka]\ncreate_topics = true\npartitions = 3\nreplication = 1\n".to_owned() + &route("deleted");
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &rest));
    forebay.wait_ready(LATE);
    let steer = Arc::new(Steer::default());
    let (outcomes, ()) = beside(&[fleet("x", "telemetry", &steer)], forebay.mqtt, LATE * 2, || {
        std::thread::sleep(Duration::from_secs(3));
        kafka.delete_topic("deleted");
        wait_for("the topic is there again", LATE, || {
            kafka.partitions("deleted").filter(|_| kafka.held("deleted") > 0)
        });
        // From here on everything must arrive.
        steer.enter(1);
        std::thread::sleep(Duration::from_secs(3));
        steer.stop();
    });
    all_served(&outcomes);
    drained(&forebay, kafka, "deleted", LATE);
    let mut found: HashMap<String, Vec<u64>> = HashMap::new();
    for record in kafka.read("deleted") {
        let number = record.text().split(':').nth(1).unwrap().parse().unwrap();
        found.entry(record.key().to_owned()).or_default().push(number);
    }
    for outcome in &outcomes {
        let after = outcome.waits.iter().filter(|(phase, _)| *phase == 1).count() as u64;
        let numbers = &found[&outcome.device];
        let first = *numbers.iter().min().unwrap();
        assert!(
            after > 0 && first <= outcome.sent - after,
            "{outcome:?} has {numbers:?}"
        );
        // A batch may stand there twice; its first appearance is in order, and there is no gap.
        let mut next = first;
        for number in numbers {
            assert!(
                *number <= next,
                "{}: {number} where {next} is due: {numbers:?}",
                outcome.device
            );
            next = next.max(number + 1);
        }
        assert_eq!(next, outcome.sent, "{}", outcome.device);
    }
}

#[test]
fn a_message_too_large_for_its_topic_goes_to_the_dead_letters_and_holds_up_nobody() {
    let kafka = Kafka::shared();
    kafka.create_topic("narrow", 3, &[("max.message.bytes", "3000")]);
    kafka.create_topic("dead-letters", 1, &[]);
    let rest = "[kafka]\ndead_letter_topic = \"dead-letters\"\n".to_owned() + &route("narrow");
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &rest));
    forebay.wait_ready(LATE);
    let steer = Arc::new(Steer::default());
    let big = Load {
        prefix: "big".to_owned(),
        devices: 2,
        messages: 5,
        every: Duration::from_millis(500),
        payload_bytes: 50_000,
        ..Load::default()
    };
    let fleets = [fleet("n", "telemetry", &steer), big];
    let (outcomes, ()) = beside(&fleets, forebay.mqtt, LATE, || {
        std::thread::sleep(Duration::from_secs(5));
        steer.stop();
    });
    all_served(&outcomes);
    let dead = kafka.read_at_least("dead-letters", 10, LATE);
    drained(&forebay, kafka, "narrow", LATE);
    let small: Vec<Outcome> = outcomes
        .iter()
        .filter(|o| o.device.starts_with('n'))
        .cloned()
        .collect();
    let audit = Audit::new(&kafka.read("narrow"), &small);
    eprintln!(
        "too large: {audit:?}; dead letters {:?}",
        dead[0]
            .headers
            .iter()
            .map(|h| (&h.0, String::from_utf8_lossy(&h.1)))
            .collect::<Vec<_>>()
    );
    audit.assert_clean(&small);
    assert_eq!(dead.len(), 10, "each once");
    for record in dead {
        assert!(record.text().starts_with("big"), "{record:?}");
        let said = |what: &str| {
            record
                .headers
                .iter()
                .any(|(_, value)| String::from_utf8_lossy(value).contains(what))
        };
        assert!(said("narrow"), "the topic it was for: {:?}", record.headers);
        assert!(
            record.header("forebay.position").is_some(),
            "{:?}",
            record.headers
        );
    }
}

/// A Kafka with users, where "forebay" may do what it is told.
fn guarded() -> Kafka {
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" password=\"a\" \
                 user_admin=\"a\" user_forebay=\"f\";";
    let lines = [
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        &format!("listener.name.clients.plain.sasl.jaas.config={login}"),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        // The controller's own listener has no users.
        "super.users=User:admin;User:ANONYMOUS",
    ];
    let mut kafka =
        Kafka::prepare_with("SASL_PLAINTEXT", &lines).with_client_properties(&login_of("admin", "a"));
    kafka.up();
    kafka
}

fn login_of<'a>(user: &'a str, password: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", user),
        ("sasl.password", password),
    ]
}

/// Gives (`--add`) or takes (`--remove`) the right to write a topic.
fn may_write(kafka: &Kafka, action: &str, topic: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let login =
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" password=\"a\";";
    let text = format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={login}\n");
    std::fs::write(file.path(), text).unwrap();
    let mut all = args![
        "--bootstrap-server",
        kafka.bootstrap(),
        "--command-config",
        file.path().display(),
        action,
        "--allow-principal",
        "User:forebay",
        "--operation",
        "Write",
        "--topic",
        topic
    ]
    .to_vec();
    if action == "--remove" {
        all.push("--force".to_owned());
    } else {
        all.extend(args!["--operation", "Describe", "--operation", "DescribeConfigs"]);
    }
    let done = java("org.apache.kafka.tools.AclCommand", &all, "");
    assert_eq!(done.status, Some(0), "{}{}", done.stdout, done.stderr);
}

#[test]
fn the_right_to_write_a_topic_is_taken_and_given_back() {
    let kafka = guarded();
    for topic in ["open", "guarded"] {
        kafka.create_topic(topic, 3, &[]);
        may_write(&kafka, "--add", topic);
    }
    let properties: String = login_of("forebay", "f")
        .iter()
        .map(|(name, value)| format!("\"{name}\" = \"{value}\"\n"))
        .collect();
    let routes = ["open", "guarded"]
        .map(|topic| format!("[[route]]\nfilter = \"devices/{{device_id}}/{topic}\"\ntopic = \"{topic}\"\n"));
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &(properties + &routes.concat())));
    forebay.wait_ready(LATE);
    let steer = Arc::new(Steer::default());
    let fleets = [fleet("o", "open", &steer), fleet("g", "guarded", &steer)];
    let (outcomes, ()) = beside(&fleets, forebay.mqtt, LATE * 2, || {
        std::thread::sleep(Duration::from_secs(2));
        may_write(&kafka, "--remove", "guarded");
        std::thread::sleep(Duration::from_secs(2));
        let held = ["open", "guarded"].map(|topic| kafka.held(topic));
        std::thread::sleep(Duration::from_secs(4));
        let then = ["open", "guarded"].map(|topic| kafka.held(topic));
        assert!(
            then[0] > held[0] + 500,
            "the other topic flows: {held:?} {then:?}"
        );
        assert_eq!(then[1], held[1], "this one may not be written");
        may_write(&kafka, "--add", "guarded");
        std::thread::sleep(Duration::from_secs(2));
        steer.stop();
    });
    all_served(&outcomes);
    for (topic, prefix) in [("open", "o"), ("guarded", "g")] {
        drained(&forebay, &kafka, topic, LATE);
        let of: Vec<Outcome> = outcomes
            .iter()
            .filter(|o| o.device.starts_with(prefix))
            .cloned()
            .collect();
        let audit = Audit::new(&kafka.read(topic), &of);
        eprintln!("{topic}: {audit:?}");
        audit.assert_clean(&of);
    }
}
