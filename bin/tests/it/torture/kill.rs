//! kill -9 in a loop: at moments by chance, under load of QoS 1 and 2, with devices that come and go, and a Kafka that
//! is up, away or frozen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{beside, drained, short_or_long};
use crate::support::audit::Audit;
use crate::support::chance::Chance;
use crate::support::device::{Load, Steer};
use crate::support::forebay::{Forebay, config};
use crate::support::kafka::Kafka;
use crate::support::wire::Plain;

const TOPIC: &str = "killed";
const LATE: Duration = Duration::from_secs(240);

/// Both levels that survive a kill, told apart by the last level of the topic.
fn routes() -> String {
    ["spooled", "kafka"]
        .map(|ack| {
            format!(
                "[[route]]\nfilter = \"devices/{{device_id}}/{ack}\"\ntopic = \"{TOPIC}\"\nack = \"{ack}\"\n"
            )
        })
        .concat()
}

/// 200 devices, two thousand messages a second.
fn fleets(steer: &Arc<Steer>) -> Vec<Load> {
    [
        ("a", 1, "spooled", 80),
        ("b", 2, "spooled", 80),
        ("c", 1, "kafka", 20),
        ("d", 2, "kafka", 20),
    ]
    .map(|(prefix, qos, leaf, devices)| Load {
        prefix: prefix.to_owned(),
        devices,
        qos,
        leaf,
        reconnect: true,
        churn: Some(Duration::from_secs(8)),
        steer: steer.clone(),
        ..Load::default()
    })
    .to_vec()
}

/// How Kafka is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Away,
    Frozen,
}

/// Brings Kafka from one state to another.
fn change(kafka: &mut Kafka, from: State, to: State) {
    if from == to {
        return;
    }
    match from {
        State::Up => {}
        State::Away => kafka.up(),
        State::Frozen => kafka.thaw(),
    }
    match to {
        State::Up => {}
        State::Away => kafka.kill(),
        State::Frozen => kafka.freeze(),
    }
}

#[test]
fn kill_nine_in_a_loop_loses_nothing_acknowledged() {
    let rounds = short_or_long(5, 100);
    let mut kafka = Kafka::start();
    kafka.create_topic(TOPIC, 6, &[]);
    let mut forebay = Forebay::start(&config(&kafka.bootstrap(), &routes()));
    let port = forebay.mqtt;
    let steer = Arc::new(Steer::default());
    let mut chance = Chance::new(1_000_000);
    let started = Instant::now();
    let deadline = Duration::from_secs(30) * rounds + LATE;
    let (outcomes, starts) = beside(&fleets(&steer), port, deadline, || {
        let mut state = State::Up;
        let mut starts = Vec::new();
        for round in 0..rounds {
            std::thread::sleep(Duration::from_millis(200) + chance.up_to(Duration::from_secs(3)));
            // Every state comes in the short run too; in the long one by chance.
            let next = match short_or_long(u64::from(round) % 3, chance.below(3)) {
                0 => State::Frozen,
                1 => State::Up,
                _ => State::Away,
            };
            let before = state;
            if chance.below(2) == 0 {
                change(&mut kafka, state, next);
                state = next;
                std::thread::sleep(chance.up_to(Duration::from_secs(1)));
            }
            let killed = Instant::now();
            forebay.kill_and_start();
            Plain::connect(port, "probe", true, LATE).end();
            starts.push(killed.elapsed());
            eprintln!(
                "round {round}: Kafka {before:?} -> {next:?}, accepting again after {:?}",
                killed.elapsed()
            );
            if chance.below(2) == 0 {
                std::thread::sleep(chance.up_to(Duration::from_secs(1)));
            }
            change(&mut kafka, state, next);
            state = next;
        }
        change(&mut kafka, state, State::Up);
        steer.stop();
        starts
    });
    let sent: u64 = outcomes.iter().map(|outcome| outcome.sent).sum();
    drained(&forebay, &kafka, TOPIC, LATE);
    let records = kafka.read(TOPIC);
    let audit = Audit::new(&records, &outcomes);
    let reconnects: u32 = outcomes.iter().map(|outcome| outcome.connections).sum();
    eprintln!(
        "kill -9, {rounds} rounds in {:.0?}: {sent} sent over {reconnects} connections, longest start {:?}\n{audit:?}",
        started.elapsed(),
        starts.iter().max().unwrap(),
    );
    audit.assert_clean(&outcomes);
}
