//! When the log is read on: what gathers, and what never waits.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Longer than any test takes: what is not held back for it goes at once.
const LONG: Duration = Duration::from_secs(60);

/// A route of level `spooled` and one of level `kafka`, to the same partitions.
fn routes() -> Vec<RouteConfig> {
    let spooled = RouteConfig {
        ack: Level::Spooled,
        ..samples::route("devices/{device_id}", "t")
    };
    vec![spooled, samples::route("urgent/{device_id}", "t")]
}

fn bench(gather: Duration) -> Bench {
    Bench::with(routes(), |config| config.gather = gather, |_| Verdict::Taken)
}

fn landed(bench: &Bench) -> Vec<String> {
    bench.kafka.lock().unwrap().values("t")
}

#[test]
fn the_first_after_a_pause_goes_at_once() {
    let mut bench = bench(LONG);
    bench.publish(&numbers("devices/a", 0..1));
    let started = Instant::now();
    bench.turn_until("it is there", |bench| landed(bench) == ["0"]);
    assert!(started.elapsed() < LONG);
    assert!(bench.pump.gather.rest(Instant::now()) > Duration::ZERO);
}

#[test]
fn what_nobody_waits_for_gathers_for_its_time() {
    let time = Duration::from_millis(150);
    let mut bench = bench(time);
    bench.publish(&numbers("devices/a", 0..3));
    let first = Instant::now();
    bench.turn_to_end();
    for number in 3..6 {
        bench.publish(&numbers("devices/a", number..number + 1));
    }
    bench.turn_until("the next round", |bench| landed(bench).len() > 3);
    // The round before began between `first` and its turn.
    assert!(first.elapsed() >= time, "{:?}", first.elapsed());
    assert_eq!(landed(&bench).len(), 6, "all three chunks went in one round");
}

#[test]
fn a_publisher_that_waits_for_kafka_waits_for_nothing_else() {
    let mut bench = bench(LONG);
    bench.publish(&numbers("devices/a", 0..1));
    bench.turn_until("it is there", |bench| landed(bench).len() == 1);
    bench.publish(&numbers("devices/a", 1..6));
    bench.publish(&numbers("urgent/a", 6..9));
    bench.publish(&numbers("urgent/a", 9..10));
    let started = Instant::now();
    bench.turn_to_end();
    assert!(started.elapsed() < LONG);
    let expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(landed(&bench), expected, "in order, with what stood before it");
    assert_eq!((bench.got.len(), bench.pump.awaited), (4, 0));
}

/// A sink that gathers for long, and by which flag Kafka says nothing.
fn beside_silent_kafka(is_silent: bool) -> (Arc<AtomicBool>, Bench) {
    let silent = Arc::new(AtomicBool::new(is_silent));
    let hold = Arc::clone(&silent);
    let rule = move |_: &[Landed]| match hold.load(Ordering::Relaxed) {
        true => Verdict::Silence,
        false => Verdict::Taken,
    };
    let bench = Bench::with(routes(), |config| config.gather = LONG, rule);
    (silent, bench)
}

#[test]
fn while_a_publisher_waits_all_that_comes_is_read_at_once() {
    let (silent, mut bench) = beside_silent_kafka(false);
    bench.publish(&numbers("urgent/a", 0..1));
    bench.turn_to_end();
    silent.store(true, Ordering::Relaxed);
    bench.publish(&numbers("urgent/a", 1..2));
    bench.turn();
    let started = Instant::now();
    bench.publish(&numbers("devices/a", 2..3));
    bench.turn_until("it is read", |bench| bench.pump.open == 2);
    assert!(started.elapsed() < LONG);
    silent.store(false, Ordering::Relaxed);
    bench.turn_to_end();
}

#[test]
fn what_waits_for_the_report_of_another_record_does_not_gather() {
    let (silent, mut bench) = beside_silent_kafka(true);
    bench.publish(&numbers("devices/a", 0..3));
    // The first of a partition goes alone.
    bench.turn_until("it is on its way", |bench| bench.pump.main.in_flight == 1);
    assert!(!bench.pump.is_unhurried(), "two wait for its report");
    silent.store(false, Ordering::Relaxed);
    bench.turn_until("they are on their way", |bench| bench.pump.main.in_flight == 2);
    assert!(bench.pump.is_unhurried());
}

#[test]
fn reports_are_looked_at_while_the_log_gathers() {
    let (silent, mut bench) = beside_silent_kafka(false);
    // The first of a partition goes alone.
    bench.publish(&numbers("devices/a", 0..1));
    bench.turn_to_end();
    silent.store(true, Ordering::Relaxed);
    bench.pump.gather = Gather::new(LONG, Instant::now());
    bench.publish(&numbers("devices/a", 1..3));
    bench.turn_until("they are on their way", |bench| bench.pump.main.in_flight == 2);
    bench.publish(&numbers("devices/a", 3..4));
    let started = Instant::now();
    bench.turn_until("it rests", |bench| {
        !bench.pump.gather.rest(Instant::now()).is_zero()
    });
    silent.store(false, Ordering::Relaxed);
    bench.turn_until("they are reported", |bench| bench.pump.main.in_flight == 0);
    assert!(started.elapsed() < LONG);
    assert_eq!(landed(&bench).len(), 3, "what came meanwhile gathers");
}

#[test]
fn a_stop_waits_for_no_gathering() {
    let mut bench = bench(LONG);
    bench.publish(&numbers("devices/a", 0..1));
    bench.turn_until("it is there", |bench| landed(bench).len() == 1);
    bench.publish(&numbers("devices/a", 1..2));
    let started = Instant::now();
    let shared = Arc::clone(&bench.pump.parts.shared);
    let asks = std::thread::spawn(move || shared.stop(Instant::now(), Duration::ZERO));
    while bench.pump.parts.shared.stop_at().is_none() {
        std::thread::yield_now();
    }
    bench.turn_until("it is sent", |bench| landed(bench).len() == 2);
    assert!(started.elapsed() < LONG);
    asks.join().unwrap();
}

#[test]
fn a_few_records_that_publishers_wait_for_do_not_linger() {
    let mut bench = bench(LONG);
    let hastened = |bench: &Bench| bench.kafka.lock().unwrap().hastened;
    bench.publish(&numbers("devices/a", 0..1));
    bench.turn_until("it is there", |bench| landed(bench).len() == 1);
    assert_eq!(hastened(&bench), 0);
    bench.publish(&numbers("urgent/a", 3..6));
    bench.turn_to_end();
    assert_eq!(hastened(&bench), 1, "once for all three");
    bench.publish(&numbers("urgent/a", 6..6 + 2 * FEW));
    bench.turn_to_end();
    assert_eq!(hastened(&bench), 1, "many make good batches");
}

#[test]
fn a_topic_that_is_parked_keeps_the_others_from_no_gathering() {
    let mut all = routes();
    all.push(RouteConfig {
        ack: Level::Spooled,
        ..samples::route("b/{device_id}", "barred")
    });
    let mut bench = Bench::with(all, |config| config.gather = LONG, |_| Verdict::Taken);
    bench
        .topics
        .set("barred", Finding::Stuck("it does not exist".to_owned()));
    bench.publish(&numbers("b/x", 0..3));
    bench.turn_until("it parks", |bench| bench.pump.parked == 3);
    assert!(bench.pump.is_unhurried());
}

#[test]
fn a_round_begins_when_something_comes_not_with_the_wait_for_it() {
    let mut bench = bench(LONG);
    bench.publish(&numbers("devices/a", 0..1));
    bench.pump.now = Instant::now() - LONG / 2;
    assert!(bench.pump.read(Duration::from_millis(1)).unwrap());
    assert!(bench.pump.gather.rest(Instant::now()) > LONG * 3 / 4);
    bench.turn_to_end();
}
