//! The file and the thread: what is committed comes back, what can't be read is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};

use super::script::{Script, publish, session, subscribe};
use super::tables::Tables;
use crate::bus::ChunkBuilder;
use crate::codec::QoS;
use crate::config::Limits;
use crate::fatal::FatalFlag;
use crate::record::{Change, Record};
use crate::spool::memory::{self, MemoryWriter};
use crate::spool::{Log, LogWriter};
use crate::store::db::Db;
use crate::store::event::StoreEvent;
use crate::store::kept::Restored;
use crate::store::projection::{Bounds, Loading, Projection};
use crate::store::{StoreError, open};

fn bounds() -> Bounds {
    Bounds::from(&Limits::default())
}

fn loading() -> Loading {
    Loading::new(Projection::new(bounds(), 9), 0)
}

fn text(mut restored: Restored) -> String {
    restored.sessions.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    format!("{restored:#?}")
}

#[test]
fn what_is_committed_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let (mut script, mut tables) = (Script::new(), Tables::default());
    let mut projection = Projection::new(bounds(), 1);
    let mut db = Db::open(&path, &mut loading()).unwrap();
    for part in 0..3 {
        script.all_kinds(part);
        script.apply(&mut projection);
        let set = projection.take_changes();
        assert!(!set.is_empty());
        db.commit(std::slice::from_ref(&set)).unwrap();
        tables.commit(set);
    }
    drop(db);
    let mut loaded = loading();
    drop(Db::open(&path, &mut loaded).unwrap());
    assert_eq!(loaded.projection.applied(), projection.applied());
    let expected = tables.load(bounds(), 9, 0).finish().0;
    assert!(expected.sessions.len() > 1 && !expected.retained.is_empty());
    assert_eq!(text(loaded.finish().0), text(expected));
}

#[test]
fn a_newer_format_and_a_damaged_file_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    let locked = Db::open(&path, &mut loading()).err().unwrap();
    assert!(matches!(locked, StoreError::Locked { .. }), "{locked}");
    drop(database);
    let newer = Db::open(&path, &mut loading()).err().unwrap().to_string();
    assert!(
        newer.contains("store.redb has format 2, this version reads up to 1"),
        "{newer}"
    );

    for bytes in [
        &b"not a database, but long enough to be looked at"[..],
        &[0xA5; 8192],
    ] {
        std::fs::write(&path, bytes).unwrap();
        let damaged = Db::open(&path, &mut loading()).err().unwrap();
        assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
        assert!(damaged.to_string().contains("store.redb is damaged"), "{damaged}");
    }
    let nowhere = dir.path().join("no/store.redb");
    assert!(matches!(
        Db::open(&nowhere, &mut loading()),
        Err(StoreError::Io { .. })
    ));
}

/// A log in memory and a chunk builder.
struct Writer {
    writer: MemoryWriter,
    log: Log,
    number: u64,
}

impl Writer {
    fn new(epoch: u64) -> Self {
        let (writer, log) = memory::open(epoch, 64 << 20);
        Self {
            writer,
            log: Log::Memory(log),
            number: 0,
        }
    }

    fn append(&mut self, records: &[Record<'_>]) {
        let mut open = ChunkBuilder::new(1 << 20);
        for record in records {
            open.push(record).unwrap();
        }
        self.writer.append(&open.finish(0, self.number)).unwrap();
        self.number += 1;
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_thread_follows_the_log_releases_it_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let limits = Limits::default();
    let mut writer = Writer::new(1);
    let (restored, builder) = open(&path, &limits, &writer.log, 0).unwrap();
    assert!(restored.sessions.is_empty());
    let handle = builder.spawn(FatalFlag::default()).unwrap();
    writer.append(&[
        session("s", Change::Open(super::script::open())),
        session("s", subscribe("a/#", QoS::AtLeastOnce, 1)),
        Record::Publish(publish("p", "a/1", b"first", 1)),
        Record::Publish(publish("p", "a/2", b"second", 1)),
    ]);
    until("committed", || handle.status().committed == 4);
    assert_eq!((handle.status().sessions, handle.status().queued), (1, 2));
    assert_eq!(writer.log.status().bytes, 0, "what is committed is released");
    let mut events = vec![StoreEvent::Done {
        client: Arc::from("s"),
        origin: crate::record::Origin {
            epoch: 1,
            worker: 0,
            number: 0,
            index: 2,
        },
        packet_id: None,
    }];
    handle.events().take(&mut events);
    assert!(events.is_empty());
    until("done", || handle.status().queued == 1);
    writer.append(&[Record::Publish(publish("p", "a/3", b"third", 1))]);
    drop(writer.writer);
    assert!(handle.stop(Instant::now() + Duration::from_secs(10)));

    let (_, log) = memory::open(2, 1 << 20);
    let (restored, _) = open(&path, &limits, &Log::Memory(log), 0).unwrap();
    let queue = &restored.sessions[0].queue;
    let payloads: Vec<&[u8]> = queue.iter().map(|kept| &*kept.message.payload).collect();
    assert_eq!(payloads, [b"second", b"third".as_slice()]);
}

/// With `FOREBAY_SMALL_DISK`, a folder on a real file system of about 40 MB (not tmpfs): a disk that fills up and is
/// cleared again.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_loses_nothing_and_heals() {
    let disk = std::path::PathBuf::from(std::env::var_os("FOREBAY_SMALL_DISK").unwrap());
    let path = disk.join("store.redb");
    let _ = std::fs::remove_file(&path);
    let limits = Limits::default();
    let mut writer = Writer::new(1);
    let fatal = FatalFlag::default();
    let (_, builder) = open(&path, &limits, &writer.log, 0).unwrap();
    let handle = builder.spawn(fatal.clone()).unwrap();
    writer.append(&[
        session("s", Change::Open(super::script::open())),
        session("s", subscribe("a/#", QoS::AtLeastOnce, 1)),
    ]);
    until("committed", || handle.status().committed == 2);
    let stuff = disk.join("stuff");
    let fill = || {
        let mut file = std::fs::File::create(&stuff).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 64 * 1024]).is_ok() {}
    };
    fill();
    let payload = [7; 100_000];
    for _ in 0..50 {
        writer.append(&[Record::Publish(publish("p", "a/1", &payload, 1))]);
    }
    until("read", || handle.status().queued == 50);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(handle.status().committed, 2, "nothing was committed");
    assert!(writer.log.status().bytes > 5_000_000, "the log is kept");
    assert!(fatal.get().is_none());
    std::fs::remove_file(&stuff).unwrap();
    until("healed", || {
        handle.status().committed == 52 && handle.status().pending == 0
    });
    assert_eq!(writer.log.status().bytes, 0);
    drop(writer.writer);
    assert!(handle.stop(Instant::now() + Duration::from_secs(10)));
    let (_, log) = memory::open(2, 1 << 20);
    let (restored, _) = open(&path, &limits, &Log::Memory(log), 0).unwrap();
    assert_eq!(restored.sessions[0].queue.len(), 50);
}

#[test]
fn a_session_whose_client_came_back_is_not_over_before_the_log_says_so() {
    let (mut script, mut tables) = (Script::new(), Tables::default());
    let mut projection = Projection::new(bounds(), 1);
    let mut short = super::script::open();
    short.expiry_s = 10;
    script.chunk(&[
        session("s", Change::Open(short)),
        session("s", subscribe("a", QoS::AtLeastOnce, 1)),
        session("s", Change::Closed { expiry_s: 10 }),
    ]);
    script.apply(&mut projection);
    tables.commit(projection.take_changes());
    let now_ms = 100_000; // it was left at 1,000
    let mut loaded = tables.load(bounds(), 9, now_ms);
    script.chunk(&[session("s", Change::Open(short))]);
    script.apply(&mut loaded.projection);
    let restored = loaded.finish().0;
    assert_eq!(restored.sessions[0].subscriptions.len(), 1);
    assert!(tables.load(bounds(), 9, now_ms).finish().0.sessions.is_empty());
}

#[test]
fn what_was_retained_may_be_done_before_its_subscription_is_read() {
    let mut script = Script::new();
    let mut projection = Projection::new(bounds(), 1);
    let mut retained = publish("p", "a", b"kept", 1);
    retained.retain = true;
    script.chunk(&[
        session("s", Change::Open(super::script::open())),
        Record::Publish(retained),
    ]);
    script.apply(&mut projection);
    let mut subscribe = subscribe("a", QoS::AtLeastOnce, 2);
    if let Change::Subscribe { send_retained, .. } = &mut subscribe {
        *send_retained = true;
    }
    script.chunk(&[session("s", subscribe)]);
    let origin = crate::record::Origin {
        epoch: 1,
        worker: 0,
        number: 0,
        index: 1,
    };
    let client: Arc<str> = "s".into();
    let sent = StoreEvent::Sent {
        client: client.clone(),
        origin,
        packet_id: 1,
    };
    let done = StoreEvent::Done {
        client,
        origin,
        packet_id: Some(1),
    };
    projection.event(sent, 3);
    projection.event(done, 3);
    script.apply(&mut projection);
    assert_eq!(projection.queued(), 0);
}
