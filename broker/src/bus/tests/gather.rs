//! A log that wants to be written densely is synced for many chunks at once.

use super::*;

/// A log that gathers for so long, and counts its syncs.
struct Dense<W> {
    inner: W,
    gather: Duration,
    syncs: Arc<AtomicUsize>,
}

impl<W: LogWriter> LogWriter for Dense<W> {
    fn append(&mut self, chunk: &Chunk) -> Result<Position, AppendError> {
        self.inner.append(chunk)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.inner.sync()
    }

    fn gather(&self) -> Duration {
        self.gather
    }

    fn wait_room(&mut self, bytes: usize, timeout: Duration) -> Result<bool, AppendError> {
        self.inner.wait_room(bytes, timeout)
    }
}

fn bench(gather: Duration) -> (Bench, Arc<AtomicUsize>) {
    bench_of(1, gather)
}

fn bench_of(workers: u16, gather: Duration) -> (Bench, Arc<AtomicUsize>) {
    let (inner, log) = memory::open(1, 1 << 24);
    let syncs = Arc::new(AtomicUsize::new(0));
    let writer = Dense {
        inner,
        gather,
        syncs: syncs.clone(),
    };
    let bench = Bench::with_log(workers, &config(64, 60_000), log, Box::new(writer), no_fault());
    (bench, syncs)
}

#[test]
fn a_small_group_waits_for_company_and_a_dense_one_does_not() {
    let (mut bench, syncs) = bench(Duration::from_secs(10));
    bench.send(0).unwrap();
    std::thread::sleep(Duration::from_millis(50)); // time in which a log in a hurry would sync
    let now_ms = bench.now_ms();
    bench.senders[0].send(now_ms, &mut filled(0, 64 * 1024)).unwrap();
    bench.drive("both are durable", |bench| bench.senders[0].appended() == 2);
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    bench.assert_whole(2);
    assert!(bench.stop());
}

#[test]
fn what_gathers_is_synced_when_its_time_comes_and_at_a_stop() {
    let (mut bench, syncs) = bench(Duration::from_millis(200));
    bench.send(0).unwrap();
    bench.drive("its time came", |bench| bench.senders[0].appended() == 1);
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    bench.send(0).unwrap();
    let (senders, handle) = (std::mem::take(&mut bench.senders), bench.handle);
    assert!(handle.stop(Instant::now() + LONG));
    assert_eq!(senders[0].appended(), 2);
}

#[test]
fn workers_that_send_at_the_same_times_share_a_sync() {
    let (mut bench, syncs) = bench_of(2, Duration::ZERO);
    bench.handle.shared.sync_us.store(60_000_000, Ordering::SeqCst); // for so long the other one is waited for
    for sender in &bench.senders {
        sender.set_paced(true);
    }
    bench.send(0).unwrap();
    std::thread::sleep(Duration::from_millis(50)); // time in which a log in a hurry would sync
    bench.send(1).unwrap();
    bench.drive("both are durable", |bench| {
        bench.senders.iter().all(|s| s.appended() == 1)
    });
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    // Who sends when it has something is waited for by nobody.
    bench.handle.shared.sync_us.store(60_000_000, Ordering::SeqCst);
    bench.senders[1].set_paced(false);
    bench.send(0).unwrap();
    bench.drive("its sync is its own", |bench| bench.senders[0].appended() == 2);
    bench.send(1).unwrap();
    bench.senders[0].set_paced(false);
    bench.drive("all are durable", |bench| bench.senders[1].appended() == 2);
    bench.assert_whole(2);
    assert!(bench.stop());
}
