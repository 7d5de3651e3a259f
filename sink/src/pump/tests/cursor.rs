//! What is saved, when, and what a new start makes of it.

use super::*;

#[test]
fn a_new_start_goes_on_at_the_saved_cursor_and_reports_nothing_of_the_last_run() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.publish(&numbers("devices/a", 0..10));
    bench.turn_to_end();
    bench.publish(&numbers("devices/a", 10..20));
    bench.stop();
    assert_eq!(bench.disk.saved.lock().unwrap().committed, 10);
    bench.restart();
    bench.turn_to_end();
    assert_eq!(bench.got, [], "nobody waits any more");
    bench.publish(&numbers("devices/a", 20..30));
    bench.turn_to_end();
    assert_eq!(bench.got.len(), 10);
    let kafka = bench.kafka.lock().unwrap();
    assert_order(&kafka.landed);
    assert_eq!(kafka.landed.len(), 30, "nothing twice");
    assert_eq!(kafka.landed[15].position, "n/1/00000000000000000015");
    assert_eq!(kafka.landed[25].position, "n/2/00000000000000000025");
}

#[test]
fn what_another_table_of_routes_has_matched_is_matched_again() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.publish(&numbers("devices/a", 0..3));
    bench.crash();
    bench.start(vec![
        samples::route("other/#", "u"),
        samples::route("devices/{device_id}", "v"),
    ]);
    bench.turn_to_end();
    assert_eq!(bench.kafka.lock().unwrap().values("v").len(), 3);
}

#[test]
fn a_cursor_that_can_not_be_saved_stops_nothing() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.disk.saved.lock().unwrap().fails = true;
    bench.publish(&numbers("devices/a", 0..10));
    bench.turn_to_end();
    bench.pump.save(true);
    assert_eq!(bench.disk.saved.lock().unwrap().committed, 0);
    bench.publish(&numbers("devices/a", 10..20));
    bench.turn_to_end();
    bench.disk.saved.lock().unwrap().fails = false;
    bench.pump.save(true);
    let saved = bench.disk.saved.lock().unwrap();
    assert_eq!((saved.committed, saved.saves), (20, 1));
}

#[test]
fn it_is_saved_at_most_once_a_second_and_only_when_it_moved() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    for round in 0..20 {
        bench.publish(&numbers("devices/a", round * 10..round * 10 + 10));
        bench.turn_to_end();
    }
    assert!(bench.disk.saved.lock().unwrap().saves <= 1);
    bench.pump.save(true);
    let saves = bench.disk.saved.lock().unwrap().saves;
    bench.pump.save(true);
    assert_eq!(bench.disk.saved.lock().unwrap().saves, saves);
}

#[test]
fn records_of_sessions_are_passed_over() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    let session = |packet_id| {
        Record::Session(SessionRecord {
            client_id: "client",
            at_ms: 1,
            change: Change::Release(packet_id),
        })
    };
    let mut builder = ChunkBuilder::new(1 << 16);
    for packet_id in 0..3 {
        builder.push(&session(packet_id)).unwrap();
    }
    bench.append(&mut builder);
    bench.turn_to_end();
    assert_eq!(bench.pump.cursor.committed, 3);
    builder.push(&session(3)).unwrap();
    builder
        .push(&Record::Publish(samples::record("devices/a", b"1")))
        .unwrap();
    builder.push(&session(4)).unwrap();
    bench.append(&mut builder);
    bench.turn_to_end();
    assert_eq!(bench.pump.cursor.committed, 6);
    assert_eq!(bench.kafka.lock().unwrap().values("mqtt"), ["1"]);
}

#[test]
fn a_damaged_end_of_the_log_counts_as_done() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.publish(&numbers("devices/a", 0..10));
    bench.disk.saved.lock().unwrap().damaged = Some(10);
    bench.publish(&numbers("devices/a", 10..20));
    bench.turn_to_end();
    assert_eq!(bench.pump.cursor.committed, 20);
    bench.publish(&numbers("devices/a", 20..30));
    bench.turn_to_end();
    assert_eq!(bench.kafka.lock().unwrap().landed.len(), 20);
}

#[test]
fn a_stop_says_when_its_cursor_was_not_saved() {
    let mut bench = Bench::new(devices(), |_| Verdict::Taken);
    bench.publish(&numbers("devices/a", 0..10));
    bench.turn_to_end();
    bench.disk.saved.lock().unwrap().fails = true;
    bench.pump.finish().unwrap();
    let unsaved = bench.pump.parts.shared.status().unsaved;
    assert!(unsaved.is_some_and(|why| why.contains("no space left")));
    bench.disk.saved.lock().unwrap().fails = false;
    bench.pump.finish().unwrap();
    assert_eq!(bench.pump.parts.shared.status().unsaved, None);
}
