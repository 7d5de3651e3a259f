//! Chunks that are lost, doubled or held up: nothing is missing in the log, nothing stands there twice.

use proptest::prelude::*;

use super::*;

#[test]
fn a_lost_chunk_is_sent_again_at_once() {
    let script: Script = Arc::new(|worker, number, nth| match (worker, number, nth) {
        (1, 7, 0) => Fault::Lose,
        _ => Fault::Pass,
    });
    // The time without progress never comes: the gap alone brings the chunk back.
    let mut bench = Bench::new(3, &config(128, 3_600_000), 1 << 24, script);
    bench.send_all(40);
    bench.assert_whole(40);
    let status = bench.handle.monitor().status();
    assert_eq!(status.gaps, 1);
    assert!(status.resends > 0);
    assert!(bench.stop());
}

#[test]
fn a_chunk_that_is_lost_three_times_comes_in_the_end() {
    let script: Script = Arc::new(|_, number, nth| {
        if number == 3 && nth < 3 {
            Fault::Lose
        } else {
            Fault::Pass
        }
    });
    let mut bench = Bench::new(2, &config(16, 100), 1 << 24, script);
    bench.send_all(20);
    bench.assert_whole(20);
    assert!(bench.stop());
}

#[test]
fn the_last_chunk_that_is_lost_comes_after_a_time_without_progress() {
    let script: Script = Arc::new(|_, number, nth| match (number, nth) {
        (9, 0) => Fault::Lose,
        _ => Fault::Pass,
    });
    let mut bench = Bench::new(1, &config(16, 50), 1 << 24, script);
    bench.send_all(10);
    bench.assert_whole(10);
    let status = bench.handle.monitor().status();
    assert_eq!(
        (status.gaps, status.resends),
        (0, 1),
        "no later one shows the gap"
    );
    assert!(bench.stop());
}

#[test]
fn a_doubled_chunk_stands_in_the_log_once() {
    let script: Script = Arc::new(|_, _, _| Fault::Double);
    let mut bench = Bench::new(2, &config(16, 2000), 1 << 24, script);
    bench.send_all(30);
    bench.drive("the copies", |b| b.handle.monitor().status().repeated == 60);
    bench.assert_whole(30);
    assert!(bench.stop());
}

#[test]
fn nothing_is_taken_of_others_while_a_chunk_is_missing() {
    let script: Script = Arc::new(|worker, number, nth| match (worker, number, nth) {
        (0, 0, 0) => Fault::Lose,
        _ => Fault::Pass,
    });
    let mut bench = Bench::new(2, &config(16, 3_600_000), 1 << 24, script);
    bench.send(0).unwrap();
    bench.send(0).unwrap();
    let monitor = bench.handle.monitor();
    while monitor.status().gaps == 0 {
        std::thread::yield_now();
    }
    bench.send(1).unwrap();
    bench.drive("all", |b| {
        b.senders[0].appended() == 2 && b.senders[1].appended() == 1
    });
    let entry = bench.reader.read(LONG).unwrap().unwrap();
    assert_eq!((entry.chunk.worker(), entry.chunk.number()), (0, 0));
    assert!(bench.stop());
}

#[test]
fn a_full_log_fills_the_window_and_nothing_is_sent_again() {
    let one = filled(0, 10).bytes();
    let sent = Arc::new(AtomicUsize::new(0));
    // Room for four chunks in the log, for eight in the window; a tenth of a second without progress would be a fault.
    let mut bench = Bench::new(2, &config(8, 100), 4 * one, counted(&sent, |_, _, _| Fault::Pass));
    let mut taken = 0;
    bench.drive("the window is full", |b| {
        while taken < 12 && b.send(taken % 2).is_ok() {
            taken += 1;
        }
        taken == 12 && b.log.status().records == 4 && b.handle.monitor().status().waits_for_room
    });
    assert_eq!(bench.handle.monitor().status().in_flight_chunks, 8);
    let mut refused = filled(0, 10);
    assert_eq!(
        bench.senders[0].send(bench.begun.elapsed().as_millis() as u64, &mut refused),
        Err(SendError::Full)
    );
    assert_eq!(refused.len(), 1, "the builder is as it was");
    assert!(!bench.senders[1].has_room(0));
    let full_at = Instant::now();
    bench.drive("time goes by", |_| full_at.elapsed() > Duration::from_millis(500));
    assert_eq!(sent.load(Ordering::Relaxed), 12, "waiting for room is no fault");
    assert!(bench.fatal.get().is_none());

    let mut read = [0u64; 2];
    bench.drive("the log is read", |b| {
        while let Some(entry) = b.reader.read(Duration::ZERO).unwrap() {
            let of_worker = &mut read[usize::from(entry.chunk.worker())];
            assert_eq!(entry.chunk.number(), *of_worker);
            *of_worker += 1;
            b.reader.commit(entry.first.sequence + 1).unwrap();
        }
        read == [6, 6]
    });
    assert!(bench.senders[0].has_room(0));
    assert_eq!(bench.send(0), Ok(6));
    bench.drive("one more", |b| b.senders[0].appended() == 7);
    assert!(bench.stop());
}

#[test]
fn a_worker_that_the_full_window_refused_is_woken_by_anothers_progress() {
    let one = filled(0, 10).bytes();
    let mut bench = Bench::new(2, &config(2, 3_600_000), one, no_fault());
    bench.drive("worker 0 fills the window", |b| {
        let _ = b.send(0);
        b.handle.monitor().status().in_flight_chunks == 2 && b.log.status().records == 1
    });
    assert!(!bench.senders[1].has_room(0));
    struct Flag(AtomicUsize);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Flag(AtomicUsize::new(0)));
    bench
        .reports
        .slot(1)
        .unwrap()
        .waker
        .register(&Waker::from(Arc::clone(&woken)));
    bench.reader.read(LONG).unwrap().unwrap();
    bench.reader.commit(1).unwrap();
    let give_up = Instant::now() + LONG;
    while woken.0.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < give_up);
        std::thread::yield_now();
    }
    assert!(bench.senders[1].has_room(0));
}

#[test]
fn a_lost_last_chunk_comes_again_though_others_are_synced_all_the_time() {
    let lose_first: Script = Arc::new(|worker, number, times| match (worker, number, times) {
        (0, 0, 0) => Fault::Lose,
        _ => Fault::Pass,
    });
    let mut bench = Bench::new(2, &config(8, 100), 1 << 24, lose_first);
    bench.send(0).unwrap();
    bench.drive("it is in the log", |b| {
        let _ = b.send(1); // refused while the window is full
        b.release();
        b.senders[0].appended() == 1
    });
    assert!(bench.stop());
}

#[test]
fn a_disk_that_takes_long_is_no_fault_and_no_full_log() {
    let sent = Arc::new(AtomicUsize::new(0));
    let stuck = Arc::<Mutex<()>>::default();
    let held = stuck.lock().unwrap();
    let script = counted(&sent, |_, _, _| Fault::Pass);
    let mut bench = Bench::on_disk(1, &config(8, 100), 1 << 24, script, stuck.clone());
    bench.send(0).unwrap();
    let since = Instant::now();
    bench.drive("time goes by", |b| {
        assert!(!b.handle.monitor().status().waits_for_room);
        since.elapsed() > Duration::from_millis(500)
    });
    assert_eq!(
        sent.load(Ordering::Relaxed),
        1,
        "waiting for the disk is no fault"
    );
    drop(held);
    bench.drive("it is in the log", |b| b.senders[0].appended() == 1);
    assert!(bench.stop());
}

#[test]
fn large_and_small_chunks_pass_beside_each_other() {
    let mut bench = Bench::new(2, &config(128, 3_600_000), 1 << 28, no_fault());
    // More than the router keeps, in all, and single ones larger than one of its segments.
    let mut sizes: Vec<usize> = (0..60)
        .map(|at| if at % 5 == 0 { 3 << 20 } else { 1000 })
        .collect();
    let total = sizes.len() as u64;
    bench.drive("all appended", |b| {
        while let Some(size) = sizes.last() {
            let now_ms = b.now_ms();
            if b.senders[0].send(now_ms, &mut filled(0, *size)).is_err() {
                break;
            }
            sizes.pop();
        }
        sizes.is_empty() && b.senders[0].appended() == total
    });
    assert_eq!(bench.in_log()[0], (0..total).collect::<Vec<_>>());
    assert_eq!(bench.handle.monitor().status().gaps, 0);
    assert!(bench.stop());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is lost or doubled, each worker's chunks stand in the log once and in order.
    #[test]
    fn any_faults_heal(
        faults in proptest::collection::vec(0u8..10, 90),
        window in 2usize..40,
    ) {
        // The first two times, a chunk meets the fault drawn for it and its turn; from the third on it passes.
        let script: Script = Arc::new(move |worker, number, nth| {
            let drawn = faults[(usize::from(worker) * 30 + number as usize + nth as usize * 13) % 90];
            match drawn {
                0..=2 if nth < 2 => Fault::Lose,
                3..=4 => Fault::Double,
                _ => Fault::Pass,
            }
        });
        let mut bench = Bench::new(3, &config(window, 20), 1 << 24, script);
        bench.send_all(30);
        bench.assert_whole(30);
        prop_assert!(bench.stop());
    }
}
