//! The bus with the process's real router, and faults put between the senders and their links.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod dead;
mod faults;
mod gather;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread::Thread;

use super::*;
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::record::{PublishRecord, Record};
use crate::spool::memory::{self, MemoryLog, MemoryReader};
use crate::spool::{AppendError, LogReader, LogWriter, Position};

/// What happens to one chunk on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pass,
    Lose,
    Double,
}

/// Says what happens to the chunk `number` of `worker` the `nth` time that it is sent (from 0).
type Script = Arc<dyn Fn(u16, u64, u32) -> Fault + Send + Sync>;

struct FaultyWire {
    inner: PublisherLink,
    script: Script,
    sent: BTreeMap<u64, u32>,
}

impl Wire for FaultyWire {
    fn offer(&mut self, chunk: &Bytes) -> Result<bool, BusDead> {
        let parsed = Chunk::parse(chunk.clone()).unwrap();
        let times = self.sent.entry(parsed.number()).or_default();
        let fault = (self.script)(parsed.worker(), parsed.number(), *times);
        *times += 1;
        match fault {
            Fault::Lose => return Ok(true),
            Fault::Double => assert!(self.inner.offer(chunk)?),
            Fault::Pass => {}
        }
        self.inner.offer(chunk)
    }

    fn check(&mut self) -> Result<(), BusDead> {
        self.inner.check()
    }

    fn leave(&mut self) {
        self.inner.leave();
    }
}

/// Wakes the test's thread, as a worker's runtime would be.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A log whose sync waits for the lock.
struct Disk<W>(W, Arc<Mutex<()>>);

impl<W: LogWriter> LogWriter for Disk<W> {
    fn append(&mut self, chunk: &Chunk) -> Result<Position, AppendError> {
        self.0.append(chunk)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        let _free = self.1.lock().unwrap();
        self.0.sync()
    }

    fn wait_room(&mut self, bytes: usize, timeout: Duration) -> Result<bool, AppendError> {
        self.0.wait_room(bytes, timeout)
    }
}

struct Bench {
    senders: Vec<BusSender>,
    handle: BusHandle,
    reports: Reports,
    fatal: FatalFlag,
    log: MemoryLog,
    reader: MemoryReader,
    begun: Instant,
    topic: Bytes,
}

const LONG: Duration = Duration::from_secs(20);

fn config(window_chunks: usize, resend_after_ms: u64) -> BusConfig {
    BusConfig {
        window_chunks,
        resend_after_ms,
        ..BusConfig::default()
    }
}

impl Bench {
    fn new(workers: u16, config: &BusConfig, log_bytes: usize, script: Script) -> Self {
        Self::on_disk(workers, config, log_bytes, script, Arc::default())
    }

    /// Over a disk that syncs nothing while `stuck` is locked.
    fn on_disk(
        workers: u16,
        config: &BusConfig,
        log_bytes: usize,
        script: Script,
        stuck: Arc<Mutex<()>>,
    ) -> Self {
        let (writer, log) = memory::open(1, log_bytes);
        Self::with_log(workers, config, log, Box::new(Disk(writer, stuck)), script)
    }

    fn with_log(
        workers: u16,
        config: &BusConfig,
        log: MemoryLog,
        writer: Box<dyn LogWriter>,
        script: Script,
    ) -> Self {
        let reader = log.reader();
        let reports = Reports::new(usize::from(workers));
        let fatal = FatalFlag::default();
        let topic = Mutex::new(Bytes::new());
        let wire = |_, inner: PublisherLink| -> Box<dyn Wire> {
            *topic.lock().unwrap() = inner.topic();
            Box::new(FaultyWire {
                inner,
                script: Arc::clone(&script),
                sent: BTreeMap::new(),
            })
        };
        let (senders, handle) = start_with(config, workers, writer, &reports, fatal.clone(), wire).unwrap();
        Self {
            senders,
            handle,
            reports,
            fatal,
            log,
            reader,
            begun: Instant::now(),
            topic: topic.into_inner().unwrap(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Sends a chunk of one record that says who it is.
    fn send(&mut self, worker: usize) -> Result<u64, SendError> {
        let now_ms = self.now_ms();
        let sender = &mut self.senders[worker];
        sender.send(now_ms, &mut filled(worker, 10))
    }

    /// Polls the senders when they are woken and at their deadlines, until `done`.
    fn drive(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let give_up = Instant::now() + LONG;
        loop {
            for worker in 0..self.senders.len() {
                let slot = self.reports.slot(worker as u16).unwrap();
                slot.waker.register(&waker);
            }
            let now_ms = self.now_ms();
            let deadlines: Vec<_> = self.senders.iter_mut().map(|s| s.poll(now_ms)).collect();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < give_up,
                "in vain: {what}; {:?}",
                self.handle.monitor().status()
            );
            let next = deadlines.into_iter().filter_map(|d| d.ok().flatten()).min();
            let wait = next.map_or(1000, |next| next.saturating_sub(self.now_ms()));
            std::thread::park_timeout(Duration::from_millis(wait.clamp(1, 1000)));
        }
    }

    /// Sends `chunks` of each worker in turn, as the window allows, and waits until all are in the log.
    fn send_all(&mut self, chunks: u64) {
        let workers = self.senders.len();
        let mut left = vec![chunks; workers];
        self.drive("all sent and appended", |bench| {
            let mut any = true;
            while std::mem::take(&mut any) {
                for (worker, left) in left.iter_mut().enumerate() {
                    if *left > 0 && bench.send(worker).is_ok() {
                        *left -= 1;
                        any = true;
                    }
                }
            }
            left.iter().all(|left| *left == 0) && bench.senders.iter().all(|s| s.appended() == chunks)
        });
    }

    /// The numbers of each worker's chunks in the order in which they stand in the log.
    fn in_log(&mut self) -> Vec<Vec<u64>> {
        let mut numbers = vec![Vec::new(); self.senders.len()];
        while let Some(entry) = self.reader.read(Duration::ZERO).unwrap() {
            for record in entry.chunk.records() {
                let Ok(Record::Publish(record)) = record else {
                    panic!("{record:?}");
                };
                assert_eq!(record.client_id, format!("w{}", entry.chunk.worker()));
            }
            numbers[usize::from(entry.chunk.worker())].push(entry.chunk.number());
        }
        numbers
    }

    /// Reads what is in the log and lets it go.
    fn release(&mut self) {
        while let Some(entry) = self.reader.read(Duration::ZERO).unwrap() {
            let end = entry.first.sequence + u64::from(entry.chunk.count());
            self.reader.commit(end).unwrap();
        }
    }

    /// Each worker's chunks stand in the log once, in order.
    fn assert_whole(&mut self, chunks: u64) {
        for (worker, numbers) in self.in_log().into_iter().enumerate() {
            assert!(
                numbers.iter().copied().eq(0..chunks),
                "worker {worker}: {numbers:?}"
            );
        }
        let status = self.handle.monitor().status();
        assert_eq!((status.in_flight_chunks, status.in_flight_bytes), (0, 0));
        assert!(self.fatal.get().is_none());
    }

    fn stop(self) -> bool {
        drop(self.senders);
        self.handle.stop(Instant::now() + LONG)
    }
}

fn filled(worker: usize, payload: usize) -> ChunkBuilder {
    let mut chunk = ChunkBuilder::new(BusConfig::default().chunk_bytes);
    push(&mut chunk, worker, payload);
    chunk
}

fn push(chunk: &mut ChunkBuilder, worker: usize, payload: usize) {
    let record = Record::Publish(PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        level: Level::Kafka,
        packet_id: 1,
        arrival_ms: 5,
        generation: 1,
        routes: RouteIds::new(),
        client_id: &format!("w{worker}"),
        username: None,
        matched: None,
        topic: "t",
        properties: None,
        payload: &vec![7; payload],
    });
    chunk.push(&record).unwrap();
}

fn no_fault() -> Script {
    Arc::new(|_, _, _| Fault::Pass)
}

#[test]
fn two_buses_in_one_process_know_nothing_of_each_other() {
    let mut a = Bench::new(2, &config(8, 2000), 1 << 24, no_fault());
    let mut b = Bench::new(3, &config(8, 2000), 1 << 24, no_fault());
    a.send_all(100);
    b.send_all(50);
    a.assert_whole(100);
    b.assert_whole(50);
    assert_eq!(a.handle.monitor().status().gaps, 0);
    assert!(a.stop());
    assert_eq!(b.send(0), Ok(50), "the other goes on");
    b.drive("one more", |b| b.senders[0].appended() == 51);
    assert!(b.stop());
}

#[test]
fn a_stop_drains_what_is_in_flight_and_closes_the_log() {
    let mut bench = Bench::new(2, &config(64, 2000), 1 << 24, no_fault());
    for worker in 0..2 {
        for _ in 0..20 {
            bench.send(worker).unwrap();
        }
    }
    let (senders, handle) = (std::mem::take(&mut bench.senders), bench.handle);
    assert!(handle.stop(Instant::now() + LONG));
    let mut sender = senders.into_iter().next().unwrap();
    assert_eq!(sender.appended(), 20);
    assert_eq!(sender.send(1, &mut filled(0, 1)), Err(SendError::Dead));
    assert!(bench.fatal.get().is_none());
    let mut chunks = 0;
    while bench.reader.read(LONG).is_ok() {
        chunks += 1;
    }
    assert_eq!(chunks, 40);
}

/// Cost of the hop, to be run by hand: `cargo test --release -p forebay-broker -- --ignored hop_cost --nocapture`.
#[test]
#[ignore = "a measurement"]
fn hop_cost() {
    for (name, records, chunks) in [("128 KiB", 1000usize, 20_000u64), ("one message", 1, 50_000)] {
        let mut template = ChunkBuilder::new(256 * 1024);
        push(&mut template, 0, 90);
        let template = template.finish(0, 0);
        let record = template.records().next().unwrap().unwrap();
        let mut builder = ChunkBuilder::new(256 * 1024);
        let fill = |builder: &mut ChunkBuilder| {
            for _ in 0..records {
                builder.push(&record).unwrap();
            }
        };
        measured(&format!("{name}: filling alone"), chunks, || {
            for number in 0..chunks {
                fill(&mut builder);
                std::hint::black_box(builder.finish(0, number));
            }
        });
        let mut bench = Bench::new(1, &config(64, 2000), 1 << 26, no_fault());
        let mut left = chunks;
        measured(&format!("{name}: many in flight"), chunks, || {
            fill(&mut builder);
            bench.drive("measured", |bench| {
                while left > 0 {
                    let now_ms = bench.now_ms();
                    if bench.senders[0].send(now_ms, &mut builder).is_err() {
                        break;
                    }
                    left -= 1;
                    fill(&mut builder);
                }
                bench.release();
                left == 0 && bench.senders[0].appended() == chunks
            });
        });
        builder.finish(0, 0);
        measured(&format!("{name}: one at a time"), 2000, || {
            for number in chunks..chunks + 2000 {
                let now_ms = bench.now_ms();
                fill(&mut builder);
                bench.senders[0].send(now_ms, &mut builder).unwrap();
                bench.drive("one", |bench| bench.senders[0].appended() > number);
                bench.release();
            }
        });
        assert!(bench.stop());
    }
}

fn measured(name: &str, chunks: u64, run: impl FnOnce()) {
    let (begun, cpu) = (Instant::now(), cpu_time());
    run();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / chunks as f64;
    let (wall, cpu) = (each(begun.elapsed()), each(cpu_time().saturating_sub(cpu)));
    println!("{name}: {wall:.1} us wall, {cpu:.1} us CPU of all threads a chunk");
}

/// CPU time of all threads that live.
fn cpu_time() -> Duration {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
        total += Duration::from_nanos(nanos.unwrap_or(0));
    }
    total
}

/// Counts how often a script was asked.
fn counted(
    calls: &Arc<AtomicUsize>,
    script: impl Fn(u16, u64, u32) -> Fault + Send + Sync + 'static,
) -> Script {
    let calls = Arc::clone(calls);
    Arc::new(move |worker, number, nth| {
        calls.fetch_add(1, Ordering::Relaxed);
        script(worker, number, nth)
    })
}
