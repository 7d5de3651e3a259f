//! Figures, for a release build: `cargo test --release -p forebay-broker --lib store::tests::figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::script::{Script, open, publish, session, subscribe};
use crate::codec::QoS;
use crate::config::Limits;
use crate::record::{Change, Origin, Record};
use crate::spool::Log;
use crate::spool::memory;
use crate::store::db::Db;
use crate::store::event::StoreEvent;
use crate::store::projection::{Bounds, Loading, Projection};

const SESSIONS: usize = 100_000;
const PAYLOAD: [u8; 128] = [b'x'; 128];

fn bounds() -> Bounds {
    Bounds::from(&Limits::default())
}

/// CPU time of this thread so far: other work on the machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn stage<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let (begin, busy) = (Instant::now(), cpu());
    let result = act();
    println!("{what}: {:?}, CPU {:?}", begin.elapsed(), cpu() - busy);
    result
}

/// 100,000 sessions with a subscription of its own and two messages each: applied, committed, loaded after a kill.
#[test]
#[ignore = "a figure, for a release build"]
fn a_hundred_thousand_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut script = Script::new();
    let names: Vec<String> = (0..SESSIONS).map(|n| format!("device-{n:08}")).collect();
    let topics: Vec<String> = names
        .iter()
        .map(|name| format!("devices/{name}/commands"))
        .collect();
    for (names, topics) in names.chunks(500).zip(topics.chunks(500)) {
        let mut records = Vec::new();
        for (name, topic) in names.iter().zip(topics) {
            records.push(session(name, Change::Open(open())));
            records.push(session(name, subscribe(topic, QoS::AtLeastOnce, 1)));
        }
        for topic in topics.iter().chain(topics) {
            records.push(Record::Publish(publish("backend", topic, &PAYLOAD, 1)));
        }
        script.chunk(&records);
    }
    let mut projection = Projection::new(bounds(), 1);
    stage("applied", || script.apply(&mut projection));
    let set = projection.take_changes();
    let mut db = Db::open(&path, &mut Loading::new(Projection::new(bounds(), 1), 0)).unwrap();
    stage("committed at once", || {
        db.commit(std::slice::from_ref(&set)).unwrap()
    });
    println!("bytes: {}", std::fs::metadata(&path).unwrap().len());
    // As a kill leaves it: the file was not closed.
    let killed = dir.path().join("killed.redb");
    std::fs::copy(&path, &killed).unwrap();
    drop(db);
    for path in [&path, &killed] {
        let (_, log) = memory::open(2, 1 << 20);
        let log = Log::Memory(log);
        let what = format!("opened {}", path.file_name().unwrap().to_string_lossy());
        let (restored, _) = stage(&what, || {
            crate::store::open(path, &Limits::default(), &log, 0).unwrap()
        });
        assert_eq!(restored.sessions.len(), SESSIONS);
        assert!(restored.sessions.iter().all(|session| session.queue.len() == 2));
    }
}

/// A subscriber that takes all: what a message costs that is done before the commit.
#[test]
#[ignore = "a figure, for a release build"]
fn a_message_that_is_delivered_at_once() {
    const CHUNKS: u64 = 500;
    const EACH: u32 = 1_000;
    let mut script = Script::new();
    script.chunk(&[
        session("sub", Change::Open(open())),
        session("sub", subscribe("t/#", QoS::AtLeastOnce, 1)),
    ]);
    let mut projection = Projection::new(bounds(), 1);
    script.apply(&mut projection);
    let records: Vec<Record<'_>> = (0..EACH)
        .map(|_| Record::Publish(publish("p", "t/x", &PAYLOAD, 1)))
        .collect();
    (0..CHUNKS).for_each(|_| script.chunk(&records));
    let client: std::sync::Arc<str> = "sub".into();
    let begin = cpu();
    for entry in script.take() {
        let (number, count) = (entry.chunk.number(), entry.chunk.count());
        projection.apply(&entry);
        for index in 0..count {
            let client = client.clone();
            let origin = Origin {
                epoch: 1,
                worker: 0,
                number,
                index,
            };
            let packet_id = 1 + (index as u16) % 20;
            let sent = StoreEvent::Sent {
                client: client.clone(),
                origin,
                packet_id,
            };
            projection.event(sent, 0);
            let done = StoreEvent::Done {
                client,
                origin,
                packet_id: Some(packet_id),
            };
            projection.event(done, 0);
        }
    }
    let each = (cpu() - begin) / (CHUNKS as u32 * EACH);
    println!("a message with its two events: {each:?}");
    assert!(
        projection.take_changes().put.messages.is_empty(),
        "nothing is to be written"
    );
}
