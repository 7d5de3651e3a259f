//! Many devices at once, and what they are promised while Kafka is stopped, frozen or away: what was acknowledged is
//! there, in the device's order.

use std::time::{Duration, Instant};

use crate::support::device::{Load, Outcome, acknowledged};
use crate::support::forebay::{Forebay, config, kafka_route, route};
use crate::support::kafka::Kafka;
use crate::support::records::{Verdict, judge};
use crate::support::{block_on, wait_for};

fn load(prefix: &str, devices: usize, messages: u64, per_second: u64) -> Load {
    Load {
        prefix: prefix.to_owned(),
        devices,
        messages,
        every: Duration::from_secs(1).mul_f64(devices as f64 / per_second as f64),
        ..Load::default()
    }
}

/// Runs `load` and calls `meanwhile` beside it.
fn run(load: &Load, port: u16, deadline: Duration, meanwhile: impl FnOnce()) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let fleet = scope.spawn(|| {
            let slack = Duration::from_secs(30);
            block_on(deadline + slack, load.run(port, deadline))
        });
        meanwhile();
        fleet.join().unwrap()
    })
}

/// All was acknowledged, over one connection each.
fn all_served(load: &Load, outcomes: &[Outcome]) {
    let unserved: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.acknowledged < load.messages || outcome.connections != 1)
        .collect();
    assert!(
        unserved.is_empty(),
        "{} devices are not served, such as {:?}",
        unserved.len(),
        unserved.first()
    );
}

#[test]
fn a_thousand_devices_at_once() {
    let kafka = Kafka::shared();
    kafka.create_topic("thousand", 6, &[]);
    let forebay = Forebay::with_route(&kafka.bootstrap(), "thousand");
    let load = load("t", 1000, 20, 4000);
    let outcomes = run(&load, forebay.mqtt, Duration::from_secs(90), || {});
    all_served(&load, &outcomes);
    let records = kafka.read_at_least("thousand", 20_000, Duration::from_secs(60));
    assert_eq!(records.len(), 20_000);
    assert_eq!(judge(&records, acknowledged(&outcomes)), Verdict::default());
}

/// 200 devices publish 2,000 a second; Kafka goes away as `away` does it and is back after 20 s as `back` does it.
/// `route` takes what they publish.
fn outage(topic: &str, route: &str, away: impl FnOnce(&mut Kafka), back: impl FnOnce(&mut Kafka)) {
    let mut kafka = Kafka::start();
    kafka.create_topic(topic, 6, &[]);
    let forebay = Forebay::start(&config(&kafka.bootstrap(), route));
    forebay.wait_ready(Duration::from_secs(60));
    let load = load("o", 200, 300, 2000);
    let outcomes = run(&load, forebay.mqtt, Duration::from_secs(150), || {
        std::thread::sleep(Duration::from_secs(4));
        away(&mut kafka);
        let since = Instant::now();
        forebay.wait_unready("Kafka", Duration::from_secs(20));
        std::thread::sleep(Duration::from_secs(20).saturating_sub(since.elapsed()));
        back(&mut kafka);
    });
    all_served(&load, &outcomes);
    forebay.wait_ready(Duration::from_secs(60));
    let records = kafka.read_at_least(topic, 60_000, Duration::from_secs(60));
    let verdict = judge(&records, acknowledged(&outcomes));
    eprintln!(
        "{topic}: {} records, {verdict:?}, memory {} KiB",
        records.len(),
        forebay.resident_kib()
    );
    // A batch whose answer was lost with Kafka may stand there twice; nothing else may happen.
    assert_eq!(
        verdict,
        Verdict {
            duplicates: verdict.duplicates,
            ..Verdict::default()
        }
    );
}

#[test]
fn kafka_is_stopped_for_twenty_seconds() {
    outage("stopped", &kafka_route("stopped"), Kafka::stop, Kafka::up);
}

#[test]
fn kafka_is_frozen_for_twenty_seconds() {
    outage(
        "frozen",
        &route("frozen"),
        |kafka| kafka.freeze(),
        |kafka| kafka.thaw(),
    );
}

#[test]
fn kafka_is_killed_for_twenty_seconds() {
    outage("killed", &route("killed"), Kafka::kill, Kafka::up);
}

#[test]
fn kafka_is_away_at_start() {
    let mut kafka = Kafka::prepare();
    let rest = format!(
        "[kafka]\ncreate_topics = true\npartitions = 3\nreplication = 1\n{}",
        route("later")
    );
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &rest));
    let load = load("l", 20, 50, 200);
    let outcomes = run(&load, forebay.mqtt, Duration::from_secs(120), || {
        forebay.wait_unready("Kafka", Duration::from_secs(20));
        assert_eq!(forebay.get("/livez").map(|(status, _)| status), Some(200));
        std::thread::sleep(Duration::from_secs(3));
        kafka.up();
    });
    all_served(&load, &outcomes);
    forebay.wait_ready(Duration::from_secs(60));
    assert_eq!(kafka.partitions("later"), Some(3));
    assert_eq!(
        judge(
            &kafka.read_at_least("later", 1000, Duration::from_secs(60)),
            acknowledged(&outcomes)
        ),
        Verdict::default()
    );
}

#[test]
fn a_stop_by_signal_loses_nothing_acknowledged() {
    let kafka = Kafka::shared();
    kafka.create_topic("terminated", 6, &[]);
    let mut forebay = Forebay::with_route(&kafka.bootstrap(), "terminated");
    let load = load("s", 100, 1000, 2000);
    let mut code = None;
    let outcomes = run(&load, forebay.mqtt, Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_secs(4));
        forebay.ask_to_end();
        code = forebay.wait(Duration::from_secs(40));
    });
    assert_eq!(code, Some(0), "{}", forebay.log());
    let acked: u64 = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    assert!(
        acked > 1000,
        "it was stopped while devices published: {acked} acknowledged"
    );
    assert_eq!(
        judge(&kafka.read("terminated"), acknowledged(&outcomes)),
        Verdict::default()
    );
}

#[test]
fn a_kill_of_the_broker_loses_nothing_acknowledged() {
    let kafka = Kafka::shared();
    kafka.create_topic("broker-killed", 6, &[]);
    let mut forebay = Forebay::with_route(&kafka.bootstrap(), "broker-killed");
    let port = forebay.mqtt;
    let load = Load {
        reconnect: true,
        ..load("k", 100, 200, 2000)
    };
    let outcomes = run(&load, port, Duration::from_secs(100), || {
        std::thread::sleep(Duration::from_secs(3));
        forebay.kill_and_start();
        std::thread::sleep(Duration::from_secs(3));
        forebay.kill_and_start();
        // It stays until the devices are done.
        wait_for("all is acknowledged", Duration::from_secs(90), || {
            let records = kafka.held("broker-killed");
            let idle = forebay.metric("forebay_connections", "") == 0.0;
            let backlog = forebay.metric("forebay_log_reader_backlog_records", "kafka");
            (records >= 20_000 && idle && backlog == 0.0).then_some(())
        });
    });
    let unserved = outcomes
        .iter()
        .find(|outcome| outcome.acknowledged < load.messages || outcome.connections < 3);
    assert!(unserved.is_none(), "{unserved:?}");
    let verdict = judge(&kafka.read("broker-killed"), acknowledged(&outcomes));
    eprintln!("broker killed twice: {verdict:?}");
    // What was sent and not yet acknowledged comes twice: once from before the kill, once sent again.
    assert_eq!(
        verdict,
        Verdict {
            duplicates: verdict.duplicates,
            ..Verdict::default()
        }
    );
}

#[test]
fn a_stop_by_signal_ends_though_kafka_is_away() {
    let kafka = Kafka::prepare();
    let mut forebay = Forebay::start(&config(&kafka.bootstrap(), &kafka_route("never")));
    let load = load("n", 5, 10, 50);
    let outcomes = run(&load, forebay.mqtt, Duration::from_secs(60), || {
        wait_for("publishes are held", Duration::from_secs(20), || {
            (forebay.metric("forebay_publishes_received_total", "") >= 5.0).then_some(())
        });
        forebay.ask_to_end();
        let code = forebay.wait(Duration::from_secs(60));
        assert!(code.is_some(), "it ends by itself");
    });
    let acked: u64 = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    assert_eq!(acked, 0, "nothing was in Kafka, so nothing is acknowledged");
}
