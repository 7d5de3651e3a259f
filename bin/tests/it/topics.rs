//! Topics that are missing, made, or refuse what they get: named, held back, and no other topic suffers.

use std::time::Duration;

use crate::support::device::{Load, acknowledged};
use crate::support::forebay::{Forebay, config, kafka_route, route};
use crate::support::kafka::Kafka;
use crate::support::records::{Verdict, judge};
use crate::support::{block_on, tools};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_missing_topic_is_named_and_flows_when_it_is_made() {
    let kafka = Kafka::shared();
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &kafka_route("made-by-hand")));
    forebay.wait_unready("made-by-hand", WITHIN);
    let port = forebay.mqtt;
    let device = std::thread::spawn(move || {
        tools::mosquitto_pub(
            port,
            &["-i", "d1", "-t", "devices/d1/x", "-m", "d1:0:", "-q", "1"],
        )
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        !device.is_finished(),
        "no acknowledgement while there is no topic"
    );
    assert_eq!(
        kafka.partitions("made-by-hand"),
        None,
        "nothing makes it behind the operator's back"
    );
    kafka.create_topic("made-by-hand", 3, &[]);
    forebay.wait_ready(WITHIN);
    assert_eq!(device.join().unwrap().status, Some(0));
    assert_eq!(
        judge(&kafka.read("made-by-hand"), [("d1".to_owned(), 0)]),
        Verdict::default()
    );
}

#[test]
fn a_topic_is_made_where_that_is_wished() {
    let kafka = Kafka::shared();
    let rest = format!(
        "[kafka]\ncreate_topics = true\npartitions = 5\nreplication = 1\n{}",
        route("made-by-forebay")
    );
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &rest));
    forebay.wait_ready(WITHIN);
    assert_eq!(kafka.partitions("made-by-forebay"), Some(5));
    let done = tools::mosquitto_pub(forebay.mqtt, &["-t", "devices/d1/x", "-m", "d1:0:", "-q", "2"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert_eq!(
        judge(
            &kafka.read_at_least("made-by-forebay", 1, WITHIN),
            [("d1".to_owned(), 0)]
        ),
        Verdict::default()
    );
}

#[test]
fn one_of_two_topics_is_missing_and_the_other_flows() {
    let kafka = Kafka::shared();
    kafka.create_topic("there", 6, &[]);
    let missing = "[[route]]\nfilter = \"lost/{device_id}/#\"\ntopic = \"not-there\"\n";
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &(route("there") + missing)));
    forebay.wait_unready("not-there", WITHIN);
    let port = forebay.mqtt;
    // Far more for the missing topic than may wait in the broker, from one client that does not wait.
    let lines: String = (0..20_000)
        .map(|number| format!("stuck:{number}:{}\n", "x".repeat(1000)))
        .collect();
    std::thread::spawn(move || tools::publish(port, "mqttv311", 0, "stuck", "lost/stuck/x", &lines));
    let load = Load {
        prefix: "f".to_owned(),
        devices: 50,
        messages: 100,
        every: Duration::from_millis(50),
        ..Load::default()
    };
    let outcomes = block_on(Duration::from_secs(120), load.run(port, Duration::from_secs(90)));
    let slow = outcomes
        .iter()
        .find(|outcome| outcome.acknowledged < load.messages);
    assert!(slow.is_none(), "{slow:?}");
    assert_eq!(
        judge(
            &kafka.read_at_least("there", 5000, WITHIN),
            acknowledged(&outcomes)
        ),
        Verdict::default()
    );
    let (status, reason) = forebay.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(reason.contains("not-there"), "{reason}");
}

#[test]
fn a_record_that_kafka_refuses_for_good_is_refused_to_its_publisher_and_holds_up_nobody() {
    let kafka = Kafka::shared();
    kafka.create_topic("small", 1, &[("max.message.bytes", "2000")]);
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &kafka_route("small")));
    forebay.wait_ready(WITHIN);
    let big = "x".repeat(50_000);
    let args = [
        "-V",
        "mqttv5",
        "-i",
        "big",
        "-t",
        "devices/big/x",
        "-m",
        &big,
        "-q",
        "1",
        "-d",
    ];
    let refused = tools::mosquitto_pub(forebay.mqtt, &args);
    assert!(
        refused.stdout.contains("151"),
        "PUBACK says 0x97: {} {}",
        refused.stdout,
        refused.stderr
    );
    for number in 0..3 {
        let message = format!("d:{number}:");
        let done = tools::mosquitto_pub(forebay.mqtt, &["-t", "devices/d/x", "-m", &message, "-q", "1"]);
        assert_eq!(done.status, Some(0), "{}", done.stderr);
    }
    let records = kafka.read("small");
    assert_eq!(
        judge(&records, (0..3).map(|number| ("d".to_owned(), number))),
        Verdict::default()
    );
    assert_eq!(records.len(), 3);
}
