//! Topics that take no records: they disturb nobody, their records stay in the log, and come in order when they can.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn two_topics() -> Vec<RouteConfig> {
    vec![
        samples::route("a/{device_id}", "good"),
        samples::route("b/{device_id}", "barred"),
    ]
}

/// A Kafka that refuses the topic "barred" until the flag is set.
fn barred() -> (Bench, Arc<AtomicBool>) {
    let allowed = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&allowed);
    let bench = Bench::new(two_topics(), move |batch| {
        if batch[0].topic == "barred" && !may.load(Ordering::Relaxed) {
            Verdict::Refused(Code::TopicAuthorizationFailed)
        } else {
            Verdict::Taken
        }
    });
    (bench, allowed)
}

fn good(bench: &mut Bench, range: std::ops::Range<usize>) {
    let before = bench.got.len();
    let count = range.len();
    bench.publish(&numbers("a/x", range));
    bench.turn_until("the good topic flows", |bench| bench.got.len() == before + count);
}

#[test]
fn a_topic_that_may_not_be_written_disturbs_the_others_once() {
    let (mut bench, allowed) = barred();
    bench.publish(&numbers("b/x", 0..60));
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    assert!(!bench.routes.set_closed(1, true), "its route is closed");
    for start in 0..20 {
        good(&mut bench, 10 * start..10 * start + 10);
        bench.publish(&numbers("b/x", 60 + 10 * start..70 + 10 * start));
        bench.turn();
    }
    bench.turn();
    assert_eq!(bench.pump.cursor.done, 460, "the log is read on");
    assert_eq!(bench.pump.cursor.committed, 0, "what is parked is held");
    let most = 2 * bench.config.parked_topic_bytes;
    assert!(bench.pump.parked_bytes <= most, "its memory is bounded");
    let sent = bench.kafka.lock().unwrap().values("good");
    assert_eq!(sent.len(), 200, "nothing of it was sent twice");
    assert!(bench.pump.not_ready().unwrap().contains("allow Write"));
    allowed.store(true, Ordering::Relaxed);
    bench.turn_to_end();
    assert_eq!(bench.got.len(), 460);
    bench.turn_until("it has caught up", |bench| bench.pump.behind == 0);
    assert!(bench.routes.set_closed(1, true), "its route is open again");
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("barred").len(), 260, "each once");
    drop(kafka);
    bench.turn();
    assert_eq!(bench.pump.not_ready(), None);
}

#[test]
fn where_it_stood_survives_a_restart_and_the_others_are_not_sent_again() {
    let (mut bench, allowed) = barred();
    bench.publish(&numbers("b/x", 0..60));
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    good(&mut bench, 0..50);
    bench.publish(&numbers("b/x", 60..80));
    bench.turn();
    bench.stop();
    assert_eq!(bench.disk.saved.lock().unwrap().committed, 0);
    for start in [50, 100] {
        bench.restart();
        good(&mut bench, start..start + 50);
        bench.publish(&numbers("b/x", 30 + start..80 + start));
        bench.turn();
        bench.stop();
    }
    allowed.store(true, Ordering::Relaxed);
    bench.restart();
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("good").len(), 150, "nothing of it was sent twice");
    assert_eq!(kafka.values("barred").len(), 180);
}

#[test]
fn what_is_parked_in_memory_only_survives_a_restart_too() {
    let (mut bench, allowed) = barred();
    bench.publish(&numbers("b/x", 0..3));
    bench.turn_until("it parks", |bench| bench.pump.parked == 3);
    good(&mut bench, 0..50);
    assert_eq!(bench.pump.behind, 0);
    bench.stop();
    allowed.store(true, Ordering::Relaxed);
    bench.restart();
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_eq!(kafka.values("good").len(), 50);
    assert_eq!(kafka.values("barred"), ["0", "1", "2"]);
}

#[test]
fn after_a_change_of_routes_all_that_waits_is_placed_anew() {
    let (mut bench, _) = barred();
    bench.publish(&numbers("b/x", 0..60));
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    good(&mut bench, 0..50);
    bench.stop();
    bench.start(vec![samples::route("+/{device_id}", "good")]);
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_eq!(
        kafka.values("good").len(),
        50 + 110,
        "those done before come again"
    );
}

#[test]
fn a_dead_partition_does_not_leave_the_others_behind() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let mut bench = Bench::new(devices(), move |batch| {
        if batch[0].partition == 0 && is_dead.load(Ordering::Relaxed) {
            Verdict::Silence
        } else {
            Verdict::Taken
        }
    });
    let places = |device: &str| crate::partition_for(device.as_bytes(), 2);
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    let dark = names.iter().find(|name| places(name) == 0).unwrap().as_str();
    let light = names.iter().find(|name| places(name) == 1).unwrap().as_str();
    let (dark, light) = (format!("devices/{dark}"), format!("devices/{light}"));
    bench.publish(&numbers(&dark, 0..1));
    bench.publish(&numbers(&light, 0..1));
    bench.turn_to_end();
    dead.store(true, Ordering::Relaxed);
    bench.publish(&numbers(&dark, 1..60));
    let mut next = 1;
    bench.turn_until("it falls behind", |bench| {
        bench.publish(&numbers(&light, next..next + 1));
        next += 1;
        bench.pump.behind == 1
    });
    for _ in 0..30 {
        let before = bench.got.len();
        bench.publish(&numbers(&light, next..next + 10));
        bench.publish(&numbers(&dark, next + 100..next + 110));
        next += 10;
        bench.turn_until("the other partition flows", |bench| {
            bench.got.len() >= before + 10
        });
    }
    dead.store(false, Ordering::Relaxed);
    bench.turn_to_end();
    assert_order(&bench.kafka.lock().unwrap().landed);
}

#[test]
fn a_topic_that_was_never_there_has_its_records_in_the_log() {
    let mut bench = Bench::new(two_topics(), |_| Verdict::Taken);
    let missing = "topic \"barred\" does not exist: create it";
    bench.topics.set("barred", Finding::Stuck(missing.to_owned()));
    for start in 0..10 {
        bench.publish(&numbers("b/x", start * 30..start * 30 + 30));
        good(&mut bench, start * 10..start * 10 + 10);
    }
    assert_eq!(bench.pump.behind, 1);
    assert!(bench.pump.parked_bytes < 8000);
    bench.topics.set("barred", Finding::Ready { partitions: 3 });
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("barred").len(), 300);
}

#[test]
fn an_end_in_the_middle_of_catching_up_loses_nothing() {
    let (mut bench, allowed) = barred();
    bench.publish(&numbers("b/x", 0..60));
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    for start in 0..60 {
        bench.publish(&numbers("b/x", 60 + start * 5..65 + start * 5));
        bench.turn();
    }
    allowed.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        let before = bench.kafka.lock().unwrap().values("barred").len();
        bench.turn_until("some come", |bench| {
            bench.kafka.lock().unwrap().values("barred").len() > before + 20
        });
        assert_eq!(bench.pump.behind, 1, "not all");
        bench.stop();
        bench.restart();
    }
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    let values: HashSet<String> = kafka.values("barred").into_iter().collect();
    assert_eq!(values.len(), 360);
}

#[test]
fn a_topic_that_fails_again_and_again_is_served_apart() {
    let fails = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&fails);
    let mut bench = Bench::new(two_topics(), move |batch| {
        if batch[0].topic == "barred" && still.load(Ordering::Relaxed) {
            Verdict::Refused(Code::Unknown)
        } else {
            Verdict::Taken
        }
    });
    bench.publish(&numbers("b/x", 0..5));
    let apart = |bench: &mut Bench| {
        let topic = bench.pump.table.find("barred");
        topic
            .and_then(|at| bench.pump.table.get(at))
            .is_some_and(|topic| topic.via == Via::Side)
    };
    bench.turn_until("it is apart", apart);
    let before = bench.kafka.lock().unwrap().landed.len();
    for start in 0..20 {
        good(&mut bench, start * 10..start * 10 + 10);
    }
    assert_eq!(
        bench.kafka.lock().unwrap().landed.len(),
        before + 200,
        "nothing twice"
    );
    fails.store(false, Ordering::Relaxed);
    bench.turn_to_end();
    assert_order(&bench.kafka.lock().unwrap().landed);
}

#[test]
fn a_topic_that_is_not_answered_for_does_not_keep_the_chunks_of_the_others() {
    let routes = vec![
        samples::route("a/{device_id}", "good"),
        samples::route("b/{device_id}", "unanswered"),
    ];
    let mut bench = Bench::new(routes, |_| Verdict::Taken);
    bench.publish(&numbers("b/x", 0..5));
    let mut next = 0;
    bench.turn_until("it parks", |bench| {
        bench.publish(&numbers("a/x", next..next + 1));
        next += 1;
        std::thread::sleep(Duration::from_millis(1));
        bench.pump.parked == 5
    });
    bench.turn_until("the log is read on", |bench| {
        bench.pump.cursor.done == bench.disk.next_sequence()
    });
    assert_eq!(bench.got.len(), next);
}

#[test]
fn the_gate_of_a_route_that_comes_later_to_a_stuck_topic_closes_and_opens_too() {
    let (mut bench, allowed) = barred();
    bench
        .config
        .routes
        .push(samples::route("c/{device_id}", "barred"));
    bench
        .config
        .routes
        .push(samples::route("d/{device_id}", "{json:/to}"));
    bench.crash();
    bench.restart();
    bench.publish(&numbers("b/x", 0..60));
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    assert!(
        !bench.routes.set_closed(3, false),
        "its template has not named the topic yet"
    );
    bench.publish(&[("d/x", "{\"to\":\"barred\"}".to_owned())]);
    bench.turn();
    for route in [1, 2, 3] {
        assert!(!bench.routes.set_closed(route, true), "route {route} is closed");
    }
    let reopened = bench.reports.reopened_count();
    allowed.store(true, Ordering::Relaxed);
    bench.turn_to_end();
    for route in [1, 2, 3] {
        assert!(
            bench.routes.set_closed(route, true),
            "route {route} was open again"
        );
    }
    assert_eq!(bench.reports.reopened_count(), reopened + 1);
    assert_eq!(bench.kafka.lock().unwrap().values("barred").len(), 61);
}

#[test]
fn a_silent_topic_that_fills_the_window_does_not_stop_one_that_has_little_to_send() {
    let routes = vec![
        samples::route("a/{device_id}", "good"),
        samples::route("b/{device_id}", "silent"),
    ];
    let change = |config: &mut SinkConfig| config.window_records = 100;
    let mut bench = Bench::with(routes, change, |batch| match batch[0].topic.as_str() {
        "silent" => Verdict::Silence,
        _ => Verdict::Taken,
    });
    for start in 0..30 {
        bench.publish(&numbers("b/x", start * 10..start * 10 + 10));
    }
    bench.publish(&numbers("a/x", 0..5));
    bench.turn_until("the window is full", |bench| !bench.pump.may_read());
    // Longer than a partition may be silent, without a look at anything.
    std::thread::sleep(Duration::from_millis(80));
    bench.turn_until("the other flows", |bench| bench.got.len() == 5);
}

/// A device of each of the two partitions of a topic.
fn one_of_each(prefix: &str) -> [String; 2] {
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    [0, 1].map(|wanted| {
        let places = |name: &&String| crate::partition_for(name.as_bytes(), 2) == wanted;
        format!("{prefix}{}", names.iter().find(places).unwrap())
    })
}

#[test]
fn a_dead_partition_of_a_topic_that_is_wholly_behind_keeps_no_other_waiting() {
    dead_partition(false);
}

#[test]
fn nor_does_it_where_the_partitions_were_not_known_before() {
    dead_partition(true);
}

/// A topic is behind with all of it, because it is missing or may not be written; when that is over, one of its two
/// partitions is dead.
fn dead_partition(missing: bool) {
    let (allowed, dead) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (may, is_dead) = (Arc::clone(&allowed), Arc::clone(&dead));
    let mut bench = Bench::new(two_topics(), move |batch| match batch[0].topic.as_str() {
        "barred" if !may.load(Ordering::Relaxed) => Verdict::Refused(Code::TopicAuthorizationFailed),
        "barred" if batch[0].partition == 0 && is_dead.load(Ordering::Relaxed) => Verdict::Silence,
        _ => Verdict::Taken,
    });
    if missing {
        let finding = Finding::Stuck("topic \"barred\" does not exist".to_owned());
        bench.topics.set("barred", finding);
    }
    let [dark, light] = one_of_each("b/");
    for start in 0..30 {
        bench.publish(&numbers(&dark, start * 10..start * 10 + 10));
        bench.publish(&numbers(&light, start * 10..start * 10 + 10));
        bench.turn();
    }
    bench.turn_until("it falls behind", |bench| bench.pump.behind == 1);
    allowed.store(true, Ordering::Relaxed);
    bench.topics.set("barred", Finding::Ready { partitions: 2 });
    let of = |bench: &Bench, partition: i32| {
        let kafka = bench.kafka.lock().unwrap();
        let mine = kafka.landed.iter().filter(|r| r.topic == "barred");
        mine.filter(|r| r.partition == partition).count()
    };
    let mut next = 300;
    bench.turn_until("the other partition has all", |bench| {
        // Something is always said, or all of Kafka would count as silent.
        bench.publish(&numbers("a/x", next..next + 1));
        next += 1;
        of(bench, 1) == 300
    });
    assert!(of(&bench, 0) <= 1, "it is dead");
    for start in 30..60 {
        bench.publish(&numbers(&light, start * 10..start * 10 + 10));
        bench.publish(&numbers(&dark, start * 10..start * 10 + 10));
        bench.turn_until("it flows", |bench| of(bench, 1) == start * 10 + 10);
        let share = bench.config.parked_topic_bytes;
        assert!(bench.pump.parked_bytes < 4 * share, "{}", bench.pump.parked_bytes);
    }
    dead.store(false, Ordering::Relaxed);
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("barred").len(), 1200, "each once");
}

#[test]
fn what_a_topic_keeps_is_bounded_also_when_the_window_was_full_of_it() {
    let (mut bench, allowed) = barred();
    for start in 0..20 {
        bench.publish(&numbers("b/x", start * 50..start * 50 + 50));
    }
    let mut most = 0;
    bench.turn_until("it falls behind", |bench| {
        most = most.max(bench.pump.parked_bytes);
        bench.pump.behind == 1
    });
    good(&mut bench, 0..50);
    most = most.max(bench.pump.parked_bytes);
    // Its share, and what comes in a turn until it is looked at.
    assert!(most < 2 * bench.config.parked_topic_bytes, "{most}");
    assert!(bench.pump.parked > 3, "as much as it may");
    bench.stop();
    bench.restart();
    good(&mut bench, 50..100);
    allowed.store(true, Ordering::Relaxed);
    bench.turn_to_end();
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.values("barred").len(), 1000, "each once");
    assert_eq!(kafka.values("good").len(), 100);
}

#[test]
fn while_more_is_parked_than_may_be_less_is_read() {
    let change = |config: &mut SinkConfig| (config.window_bytes, config.parked_bytes) = (80_000, 1 << 20);
    let mut bench = Bench::with(two_topics(), change, |_| Verdict::Silence);
    bench.publish(&numbers("a/x", 0..300));
    bench.publish(&numbers("a/x", 300..600));
    bench.turn();
    let held = bench.pump.ledger.bytes();
    assert!(held < 80_000 && bench.pump.may_read(), "{held}");
    bench.pump.parked_bytes = (1 << 20) + 80_000 - held;
    assert!(!bench.pump.may_read());
}
