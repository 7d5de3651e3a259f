//! What is refused for good: into the quarantine first, then to the dead letter topic, and never silently away.

use std::path::Path;

use super::*;
use crate::config::Undeliverable;

fn poison(batch: &[Landed]) -> Verdict {
    if batch.iter().any(|r| r.topic == "t" && r.value.ends_with('7')) {
        Verdict::Refused(Code::InvalidRecord)
    } else {
        Verdict::Taken
    }
}

fn bench(dir: &Path, dead: bool) -> Bench {
    let mut routes = devices();
    routes.push(samples::route("other/{device_id}", "{json:/topic}"));
    let change = |config: &mut SinkConfig| {
        config.quarantine_dir = Some(dir.to_owned());
        config.dead_letter_topic = dead.then(|| "dead".to_owned());
    };
    Bench::with(routes, change, poison)
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn poison_goes_to_the_dead_letter_topic_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), true);
    bench.publish(&numbers("devices/a", 0..30));
    bench.turn_to_end();
    assert_eq!(bench.refused(), [(0, 7), (0, 17), (0, 27)]);
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("t").len(), 27);
    let dead = kafka
        .landed
        .iter()
        .filter(|r| r.topic == "dead")
        .collect::<Vec<_>>();
    assert_eq!(kafka.values("dead"), ["7", "17", "27"]);
    assert_eq!(
        (dead[0].key.as_str(), dead[0].position.as_str()),
        ("a", "n/1/00000000000000000007")
    );
    let partition = crate::partition_for(b"a", 2).to_string();
    assert_eq!(dead[0].error[1..], ["t".to_owned(), partition]);
    assert!(
        dead[0].error[0].contains("InvalidRecord") || dead[0].error[0].contains("invalid"),
        "{dead:?}"
    );
    assert!(files(dir.path()).is_empty(), "Kafka has them");
}

#[test]
fn without_a_dead_letter_topic_it_stays_in_quarantine_until_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), false);
    bench.publish(&numbers("devices/a", 0..30));
    bench.turn_to_end();
    assert_eq!(bench.refused().len(), 3);
    assert_eq!(bench.pump.quarantine.letters(), 3);
    bench.stop();
    bench.config.dead_letter_topic = Some("dead".to_owned());
    bench.restart();
    bench.turn_until("they are sent", |bench| {
        bench.kafka.lock().unwrap().values("dead").len() == 3
    });
    bench.turn_to_end();
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_no_route_can_place_is_a_dead_letter_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), true);
    bench.publish(&[
        ("other/x", "{}".to_owned()),
        ("other/x", "{\"topic\":\"a b\"}".to_owned()),
    ]);
    bench.publish(&[("other/x", "{\"topic\":\"u\"}".to_owned())]);
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    let mut dead = kafka.landed.iter().filter(|r| r.topic == "dead");
    assert!(dead.next().unwrap().error[0].contains("missing"));
    assert_eq!(dead.next().unwrap().error[1], "a b");
    assert_eq!(kafka.values("u").len(), 1);
    assert_eq!(
        bench.got.iter().filter(|r| r.outcome == Outcome::Refused).count(),
        2
    );
}

#[test]
fn a_full_quarantine_makes_partitions_wait_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), false);
    bench.config.quarantine_max_bytes = 2500;
    bench.crash();
    bench.restart();
    let large = "x".repeat(2000);
    bench.publish(&[("devices/a", "1".to_owned()), ("devices/a", format!("{large}7"))]);
    bench.turn_to_end();
    for number in 0..400 {
        // A megabyte of refused records may wait; then their partition does.
        bench.publish(&[
            ("devices/a", format!("{number}{large}{large}7")),
            ("other/x", "{}".to_owned()),
            ("other/x", format!("{{\"topic\":\"u\",\"n\":{number}}}")),
        ]);
        bench.turn();
    }
    bench.turn_until("the others flow", |bench| {
        bench.kafka.lock().unwrap().values("u").len() == 400
    });
    assert!(bench.pump.not_ready().unwrap().contains("quarantine"));
    let refused = bench.got.iter().filter(|r| r.outcome == Outcome::Refused);
    assert!(refused.count() < 5, "only what is kept is refused");
    assert!(bench.pump.parked_bytes < 3_000_000, "{}", bench.pump.parked_bytes);
    bench.stop();
    bench.config.quarantine_max_bytes = 1 << 30;
    bench.restart();
    bench.turn_to_end();
    // What was kept behind one that waited is refused again after the new start.
    assert!((801..806).contains(&bench.pump.quarantine.letters()));
}

#[test]
fn what_can_not_be_delivered_for_too_long_goes_where_its_route_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = samples::route("a/{device_id}", "barred");
    dead.undeliverable = Undeliverable::DeadLetter;
    let routes = vec![dead, samples::route("b/{device_id}", "barred")];
    let change = |config: &mut SinkConfig| {
        config.quarantine_dir = Some(dir.path().to_owned());
        config.dead_letter_topic = Some("dead".to_owned());
        config.undeliverable_after = Duration::from_millis(100);
    };
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let may = Arc::clone(&allowed);
    let mut bench = Bench::with(routes, change, move |batch| {
        if batch[0].topic == "barred" && !may.load(std::sync::atomic::Ordering::Relaxed) {
            Verdict::Refused(Code::TopicAuthorizationFailed)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("b/y", 0..3));
    for start in 0..10 {
        bench.publish(&numbers("a/x", start * 20..start * 20 + 20));
        bench.turn();
    }
    bench.turn_until("they are given up", |bench| {
        bench.kafka.lock().unwrap().values("dead").len() == 200
    });
    assert_eq!(bench.refused().len(), 200);
    assert!(bench.kafka.lock().unwrap().landed[0].error[0].contains("allow Write"));
    allowed.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.turn_to_end();
    bench.publish(&numbers("a/x", 200..210));
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(
        (kafka.values("barred").len(), kafka.values("dead").len()),
        (13, 200)
    );
}

#[test]
fn a_letter_that_the_dead_letter_topic_refuses_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), true);
    bench.kafka.lock().unwrap().rule = Box::new(|batch| {
        if batch.iter().any(|r| r.value == "7") {
            Verdict::Refused(Code::MessageSizeTooLarge)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("devices/a", 0..30));
    bench.turn_to_end();
    assert_eq!(bench.refused(), [(0, 7)]);
    assert_eq!(files(dir.path()), ["00000000000000000000.kept"]);
}

#[test]
fn a_refused_record_that_waits_for_the_quarantine_survives_a_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let (there, away) = (dir.path().join("there"), dir.path().join("away"));
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let may = Arc::clone(&allowed);
    let routes = vec![
        samples::route("a/{device_id}", "good"),
        samples::route("b/{device_id}", "t"),
    ];
    let change = |config: &mut SinkConfig| config.quarantine_dir = Some(there.clone());
    let mut bench = Bench::with(routes, change, move |batch| {
        if batch[0].topic == "t" && !may.load(std::sync::atomic::Ordering::Relaxed) {
            Verdict::Refused(Code::TopicAuthorizationFailed)
        } else {
            poison(batch)
        }
    });
    bench.publish(&numbers("b/x", 0..10));
    bench.turn_until("they park", |bench| bench.pump.parked == 10);
    std::fs::rename(&there, &away).unwrap();
    allowed.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.turn_until("its neighbours are delivered", |bench| {
        bench.kafka.lock().unwrap().values("t").len() == 9
    });
    bench.publish(&numbers("a/x", 0..20));
    bench.turn_until("the others flow", |bench| bench.got.len() == 29);
    bench.stop();
    assert!(bench.disk.saved.lock().unwrap().committed <= 7);
    std::fs::rename(&away, &there).unwrap();
    bench.restart();
    bench.turn_to_end();
    assert_eq!(bench.pump.quarantine.letters(), 1);
}

#[test]
fn refused_records_that_wait_do_not_keep_the_chunks_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), false);
    bench.config.quarantine_max_bytes = 1;
    bench.config.window_bytes = 20_000;
    bench.crash();
    bench.restart();
    let refused = [("devices/a", "7".to_owned()), ("other/x", "{}".to_owned())];
    bench.publish(&refused[..1]);
    bench.turn_to_end();
    bench.publish(&refused);
    for number in 0..20 {
        let filling = "x".repeat(4000);
        bench.publish(&[(
            "other/x",
            format!("{{\"topic\":\"u\",\"n\":{number},\"x\":\"{filling}\"}}"),
        )]);
        bench.turn();
    }
    bench.turn_until("the others flow", |bench| {
        bench.kafka.lock().unwrap().values("u").len() == 20
    });
    assert_eq!(bench.refused().len(), 1, "the others wait");
    bench.pump.quarantine = Quarantine::open(Some(&dir.path().join("more")), 1 << 20, false).unwrap();
    bench.turn_to_end();
    assert_eq!(bench.refused().len(), 3);
    bench.turn();
    assert_eq!(bench.pump.not_ready(), None);
}

#[test]
fn a_topic_that_healed_without_traffic_keeps_no_node_from_being_ready() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = samples::route("a/{device_id}", "barred");
    dead.undeliverable = Undeliverable::DeadLetter;
    let change = |config: &mut SinkConfig| {
        config.quarantine_dir = Some(dir.path().to_owned());
        config.dead_letter_topic = Some("dead".to_owned());
        config.undeliverable_after = Duration::from_millis(100);
    };
    let mut bench = Bench::with(vec![dead], change, |batch| match batch[0].topic.as_str() {
        "barred" => Verdict::Refused(Code::TopicAuthorizationFailed),
        _ => Verdict::Taken,
    });
    bench.publish(&numbers("a/x", 0..5));
    bench.turn_until("it is named", |bench| {
        bench
            .pump
            .not_ready()
            .is_some_and(|why| why.contains("allow Write"))
    });
    bench.turn_to_end();
    bench.turn_until("nothing waits, and Kafka has the topic", |bench| {
        bench.pump.not_ready().is_none()
    });
    assert_eq!(bench.refused().len(), 5);
    bench.publish(&numbers("a/x", 5..6));
    bench.turn_until("it is named again", |bench| bench.pump.not_ready().is_some());
    bench.turn_to_end();
}

#[test]
fn a_topic_that_waits_for_a_full_quarantine_is_not_tried_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path(), false);
    bench.config.quarantine_max_bytes = 1;
    bench.crash();
    bench.restart();
    let large = "x".repeat(400_000);
    bench.publish(&[("devices/a", "7".to_owned())]);
    bench.turn_to_end();
    for number in 0..6 {
        bench.publish(&[("devices/a", format!("{number}{large}7"))]);
        bench.turn();
    }
    let waits = |bench: &Bench| {
        let at = bench.pump.table.find("t");
        at.and_then(|at| bench.pump.table.get(at))
            .is_some_and(|t| t.unkept)
    };
    bench.turn_until("it waits", |bench| waits(bench));
    let producers = bench.kafka.lock().unwrap().producers;
    let mut reasons = HashSet::new();
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        bench.turn();
        assert!(waits(&bench));
        reasons.extend(bench.pump.not_ready());
    }
    // Each is a line in the log; trouble with Kafka is told of after two seconds.
    assert!(reasons.len() <= 2, "{reasons:?}");
    assert_eq!(bench.kafka.lock().unwrap().producers, producers);
    bench.pump.quarantine = Quarantine::open(Some(&dir.path().join("more")), 1 << 30, false).unwrap();
    bench.turn_to_end();
    assert_eq!(bench.refused().len(), 7);
}
