//! A bus that dies: nothing is acknowledged any more and the fault is raised. The router is one a process, so each of
//! these runs in a process of its own.

use std::process::Command;

use super::*;
use crate::fatal::Fatal;

const OWN_PROCESS: &str = "FOREBAY_TEST_OWN_PROCESS";

/// Runs `body`, the rest of the test `name`, in a process of its own: the test program once more, for this test alone.
fn in_own_process(name: &str, body: fn()) {
    let test = format!("bus::tests::dead::{name}");
    if std::env::var(OWN_PROCESS).is_ok_and(|own| own == test) {
        return body();
    }
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test])
        .env(OWN_PROCESS, &test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

fn assert_dead(mut bench: Bench, appended: u64) {
    assert!(
        matches!(bench.fatal.get(), Some(Fatal::Bus(_))),
        "{:?}",
        bench.fatal.get()
    );
    assert_eq!(bench.send(0), Err(SendError::Dead));
    assert_eq!(
        bench.senders[0].appended(),
        appended,
        "no further acknowledgement"
    );
    assert!(!bench.handle.monitor().status().running);
    // What was appended before stands in the log, which is then closed.
    assert!(bench.reader.read(LONG).unwrap().is_some());
    assert!(!bench.stop());
}

#[test]
fn an_idle_bus_notices_that_the_routers_thread_is_dead() {
    in_own_process(
        "an_idle_bus_notices_that_the_routers_thread_is_dead",
        router_dies_idle,
    );
}

fn router_dies_idle() {
    let mut bench = Bench::new(2, &config(16, 3_600_000), 1 << 24, no_fault());
    bench.send(0).unwrap();
    bench.drive("one chunk", |b| b.senders[0].appended() == 1);
    router::kill();
    bench.drive("the fault is raised", |b| b.fatal.get().is_some());
    assert_dead_empty(bench);
}

/// As [`assert_dead`], where nothing was in flight.
fn assert_dead_empty(mut bench: Bench) {
    assert!(
        matches!(bench.fatal.get(), Some(Fatal::Bus(_))),
        "{:?}",
        bench.fatal.get()
    );
    assert_eq!(bench.send(0), Err(SendError::Dead));
    assert_eq!(bench.senders[0].appended(), 1);
    let now_ms = bench.now_ms();
    assert_eq!(bench.senders[1].poll(now_ms), Err(SendError::Dead));
    let (writer, _log) = memory::open(2, 1000);
    let reports = Reports::new(1);
    let again = start(
        &config(2, 10),
        1,
        Box::new(writer),
        &reports,
        FatalFlag::default(),
    );
    assert!(
        matches!(again, Err(BusError::Router(_))),
        "a dead router is not used again"
    );
    bench.stop();
}

#[test]
fn what_is_in_flight_when_the_router_dies_is_not_acknowledged() {
    in_own_process(
        "what_is_in_flight_when_the_router_dies_is_not_acknowledged",
        router_dies_with_chunks_in_flight,
    );
}

fn router_dies_with_chunks_in_flight() {
    // Chunks from the second on are lost for as long as the router lives.
    let script: Script = Arc::new(|_, number, _| if number == 0 { Fault::Pass } else { Fault::Lose });
    let mut bench = Bench::new(2, &config(16, 50), 1 << 24, script);
    bench.send(0).unwrap();
    bench.drive("one chunk", |b| b.senders[0].appended() == 1);
    bench.send(0).unwrap();
    bench.send(0).unwrap();
    router::kill();
    bench.drive("the fault is raised", |b| b.fatal.get().is_some());
    assert_dead(bench, 1);
}

#[test]
fn a_reader_whose_link_was_dropped_is_noticed() {
    in_own_process("a_reader_whose_link_was_dropped_is_noticed", readers_link_dies);
}

fn readers_link_dies() {
    let mut bench = Bench::new(1, &config(16, 3_600_000), 1 << 24, no_fault());
    bench.send(0).unwrap();
    bench.drive("one chunk", |b| b.senders[0].appended() == 1);
    let _other = router::take_readers_place(&bench.topic);
    bench.drive("the fault is raised", |b| b.fatal.get().is_some());
    assert_dead(bench, 1);
}

#[test]
fn a_bus_that_takes_and_never_appends_is_dead_in_the_end() {
    let script: Script = Arc::new(|_, _, _| Fault::Lose);
    let mut bench = Bench::new(1, &config(16, 5), 1 << 24, script);
    bench.send(0).unwrap();
    bench.drive("the fault is raised", |b| b.fatal.get().is_some());
    assert_eq!(bench.senders[0].appended(), 0);
    assert_eq!(bench.send(0), Err(SendError::Dead));
    drop(bench.senders);
    assert!(!bench.handle.stop(Instant::now() + LONG));
}
