//! What the spool promises while nothing goes wrong, and when it is full.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::support::{chunk, chunk_of, config, numbers, open, put, read_all, try_open};
use crate::classify::Level;
use crate::spool::fs::{Fs, Mode, RealFs};
use crate::spool::open::open_inline;
use crate::spool::{AppendError, LogError, LogReader, LogWriter, OpenError, SpoolConfig};
use crate::testing::faulty_fs::FaultyFs;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_is_appended_is_read_after_the_sync_and_after_a_restart() {
    let fs = FaultyFs::default();
    let (mut writer, spool, recovery) = open(&fs);
    assert_eq!((recovery.next_sequence, recovery.segments), (0, 0));
    let mut reader = spool.reader("kafka").unwrap();
    let first = writer.append(&chunk(0, 3, 10)).unwrap();
    assert_eq!((first.epoch, first.sequence), (spool.epoch(), 0));
    assert_eq!(writer.append(&chunk(1, 2, 10)).unwrap().sequence, 3);
    assert!(read_all(&mut reader).is_empty(), "not before it is durable");
    let before = fs.syncs();
    writer.sync().unwrap();
    assert_eq!(fs.syncs(), before + 1, "one fdatasync for all");
    let entries = read_all(&mut reader);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].first.sequence, 3);
    assert_eq!(entries[1].chunk, chunk(1, 2, 10));
    let epoch = spool.epoch();
    drop((writer, reader, spool));

    let (_writer, spool, recovery) = open(&fs);
    assert_eq!(recovery.next_sequence, 5);
    assert!(recovery.epoch > epoch);
    assert_eq!(recovery.damage, []);
    let mut reader = spool.reader("kafka").unwrap();
    let again = read_all(&mut reader);
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].first, entries[0].first, "positions never change");
    assert_eq!(again[1].chunk, entries[1].chunk);
}

#[test]
fn a_cursor_and_its_state_outlive_the_run_and_release_segments() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    for number in 0..200 {
        put(&mut writer, &[chunk(number, 1, 3000)]);
        assert_eq!(read_all(&mut reader).len(), 1);
        reader.commit(number + 1).unwrap();
        reader.save(&number.to_le_bytes()).unwrap();
    }
    let segments = fs.names().iter().filter(|name| name.ends_with(".seg")).count();
    assert!(segments <= 4, "{:?}", fs.names());
    assert_eq!(spool.status().records, 0);
    drop((writer, reader, spool));

    let (mut writer, spool, recovery) = open(&fs);
    assert_eq!(recovery.cursors, [("kafka".to_owned(), 200)]);
    let mut reader = spool.reader("kafka").unwrap();
    assert_eq!((reader.begin(), reader.state()), (200, &199u64.to_le_bytes()[..]));
    put(&mut writer, &[chunk(200, 1, 10)]);
    assert_eq!(read_all(&mut reader)[0].chunk.number(), 200);
    let twice = spool.reader("kafka").map(|_| ()).unwrap_err().to_string();
    assert!(twice.contains("has a reader already"), "{twice}");
}

#[test]
fn when_it_is_full_nothing_is_taken_until_a_cursor_is_saved() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    let mut taken = 0;
    let full = loop {
        match writer.append(&chunk(taken, 1, 3000)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        writer.sync().unwrap();
    };
    assert_eq!(full, AppendError::Full);
    assert!((40..60).contains(&taken), "{taken} chunks of 4 KiB in 256 KiB");
    assert!(!writer.wait_room(3100, Duration::ZERO).unwrap());
    assert!(spool.pressure().is_full());
    assert!(spool.pressure().episode().is_some());
    assert_eq!(read_all(&mut reader).len() as u64, taken);
    reader.commit(taken).unwrap();
    assert!(!writer.wait_room(3100, Duration::ZERO).unwrap(), "not saved yet");
    reader.save(&[]).unwrap();
    assert!(writer.wait_room(3100, Duration::ZERO).unwrap());
    assert!(!spool.pressure().is_full());
    assert!(spool.pressure().episode().is_none());
    writer.append(&chunk(taken, 1, 3000)).unwrap();
    writer.sync().unwrap();
    assert_eq!(read_all(&mut reader).len(), 1);
}

#[test]
fn a_disk_without_room_is_met_before_a_write_and_heals() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let _hold = spool.reader_at(0).unwrap();
    fs.set_no_room(true);
    let mut taken = 0;
    while writer.append(&chunk(taken, 1, 3000)).is_ok() {
        writer.sync().unwrap();
        taken += 1;
    }
    assert!(taken > 3);
    assert!(!writer.wait_room(3100, Duration::from_millis(10)).unwrap());
    assert!(spool.pressure().is_full());
    fs.set_no_room(false);
    let start = Instant::now();
    while !writer.wait_room(3100, Duration::from_millis(50)).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    put(&mut writer, &[chunk(taken, 1, 3000)]);
    assert_eq!(numbers(&spool), (0..=taken).collect::<Vec<_>>());
}

#[test]
fn after_a_failed_fsync_nothing_is_taken_and_nothing_acknowledged_is_lost() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    put(&mut writer, &[chunk(0, 1, 10)]);
    fs.fail_next_sync();
    writer.append(&chunk(1, 1, 10)).unwrap();
    assert!(matches!(writer.sync(), Err(AppendError::Io(_))));
    assert!(matches!(writer.append(&chunk(2, 1, 10)), Err(AppendError::Io(_))));
    assert!(matches!(writer.sync(), Err(AppendError::Io(_))));
    let mut reader = spool.reader_at(0).unwrap();
    assert_eq!(reader.read(Duration::ZERO).unwrap().unwrap().chunk.number(), 0);
    assert!(matches!(reader.read(Duration::ZERO), Err(LogError::Closed)));
}

#[test]
fn a_second_process_is_refused_with_the_files_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        dir: dir.path().join("a/spool"),
        ..config()
    };
    let (writer, spool, _) = crate::spool::open(&config, 0, Arc::new(RealFs)).unwrap();
    let refused = crate::spool::open(&config, 0, Arc::new(RealFs)).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }));
    assert!(refused.to_string().contains("a/spool/lock"), "{refused}");
    drop((writer, spool));
    crate::spool::open(&config, 0, Arc::new(RealFs)).unwrap();
}

#[test]
fn what_is_released_is_kept_for_what_comes_and_given_back_to_a_full_disk() {
    for (segments, each, spares) in [(8, 25, 0), (40, 50, 2), (200, 50, 4)] {
        let fs = FaultyFs::default();
        let config = SpoolConfig {
            max_bytes: segments * 32 * 1024,
            ..config()
        };
        let (mut writer, spool, _) = open_inline(&config, 0, Arc::new(fs.clone())).unwrap();
        let mut reader = spool.reader("kafka").unwrap();
        let files = |fs: &FaultyFs| fs.names().iter().filter(|name| name.ends_with(".seg")).count();
        let mut settled = 0;
        for number in 0..300 {
            put(&mut writer, &[chunk(number, 1, 3000)]);
            read_all(&mut reader);
            if number % each == each - 1 {
                reader.commit(number + 1).unwrap();
                reader.save(&[]).unwrap();
                writer.wait_room(10, Duration::ZERO).unwrap();
                settled = files(&fs);
                assert_eq!(settled, 2 + spares, "{segments} {number} {:?}", fs.names());
            }
        }
        assert!(settled > 0);
        assert!(
            spool.status().bytes < 32 * 1024,
            "what nobody needs is not counted"
        );
        fs.set_capacity(Some(fs.used() + 1024));
        put(&mut writer, &[chunk(300, 1, 3000)]);
        writer.wait_room(10, Duration::ZERO).unwrap();
        assert_eq!(files(&fs), 2, "others have filled the disk");
    }
}

#[test]
fn parts_are_written_one_behind_the_other_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.open(&dir.path().join("file"), Mode::Create).unwrap();
    let parts: Vec<Vec<u8>> = (0..3_000usize).map(|at| vec![at as u8; at % 7]).collect();
    let slices: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
    file.write_at(b"before", 0).unwrap();
    file.write_parts_at(&slices, 6).unwrap();
    file.write_parts_at(&[], 0).unwrap();
    let written = std::fs::read(dir.path().join("file")).unwrap();
    assert_eq!(written, [&b"before"[..], &parts.concat()].concat());
}

#[test]
fn a_reader_that_waits_is_woken_and_one_that_fell_behind_reads_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        max_bytes: 64 << 20,
        segment_bytes: 3 << 20,
        tail_bytes: 100_000,
    };
    let (mut writer, spool, _) = crate::spool::open(&config, 0, Arc::new(RealFs)).unwrap();
    let readers: Vec<_> = [0u64, 3]
        .into_iter()
        .map(|slow_ms| {
            let mut reader = spool.reader_at(0).unwrap();
            thread::spawn(move || {
                for number in 0..300u64 {
                    let entry = reader.read(Duration::from_secs(20)).unwrap().unwrap();
                    assert_eq!(entry.chunk.number(), number);
                    assert_eq!(entry.first.sequence, number * 2);
                    thread::sleep(Duration::from_millis(slow_ms));
                }
                assert!(matches!(
                    reader.read(Duration::from_secs(20)),
                    Err(LogError::Closed)
                ));
            })
        })
        .collect();
    for number in 0..300 {
        let chunk = chunk(number, 2, 10_000);
        while writer.append(&chunk) == Err(AppendError::Full) {
            writer.sync().unwrap();
            writer
                .wait_room(chunk.as_bytes().len(), Duration::from_secs(1))
                .unwrap();
        }
        if number % 3 == 0 {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
    drop(writer);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn seek_goes_back_to_what_is_not_saved_and_a_scan_looks_beside() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    for number in 0..20 {
        put(&mut writer, &[chunk(number, 2, 1000), chunk(100 + number, 1, 10)]);
    }
    assert_eq!(read_all(&mut reader).len(), 40);
    reader.seek(31).unwrap();
    let entry = reader.read(Duration::ZERO).unwrap().unwrap();
    assert_eq!((entry.first.sequence, entry.chunk.number()), (30, 10));
    let mut scan = reader.scan(5).unwrap();
    let entry = scan.read().unwrap().unwrap();
    assert_eq!((entry.first.sequence, entry.chunk.number()), (5, 101));
    assert_eq!(scan.read().unwrap().unwrap().first.sequence, 6);
    reader.commit(20).unwrap();
    reader.seek(3).unwrap();
    reader.save(b"x").unwrap();
    assert!(reader.seek(3).is_err());
    reader.seek(20).unwrap();
    assert!(reader.seek(61).is_err());
    assert!(reader.commit(61).is_err());
}

#[test]
fn what_another_version_wrote_is_refused_by_name() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    put(&mut writer, &[chunk(0, 1, 10)]);
    drop((writer, spool));
    let name = fs
        .names()
        .into_iter()
        .find(|name| name.ends_with(".seg"))
        .unwrap();
    fs.change(&name, |bytes| {
        for at in [0, 4096] {
            bytes[at + 7] = 9;
        }
        for at in [0, 4096] {
            let crc = crc32c::crc32c(&bytes[at + 12..at + 64]);
            bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let refused = try_open(&fs).unwrap_err().to_string();
    assert!(refused.contains("version 9"), "{refused}");
}

/// Figures, not a test: groups of 64 KiB, each with its fdatasync, through the spool and by hand on a file that is
/// filled with zeros.
#[test]
#[ignore = "measures"]
fn speed_of_groups_of_64_kib() {
    use crate::spool::fs::{Fs, Mode, zero_fill};
    const GROUPS: u64 = 400;
    let dir = tempfile::tempdir_in(".").unwrap();
    let config = SpoolConfig::new(dir.path().join("spool"));
    let (mut writer, _spool, _) = crate::spool::open(&config, 0, Arc::new(RealFs)).unwrap();
    let chunk = chunk(1, 1, 64 * 1024 - 200);
    thread::sleep(Duration::from_secs(4)); // until the first segments are filled with zeros
    let raw = RealFs.open(&dir.path().join("raw"), Mode::Create).unwrap();
    zero_fill(&*raw, 0, GROUPS * 65_536).unwrap();
    raw.sync().unwrap();
    let bytes = vec![7; 65_536];
    for round in 0..3 {
        let start = Instant::now();
        for group in 0..GROUPS {
            raw.write_at(&bytes, group * 65_536).unwrap();
            raw.sync().unwrap();
        }
        let by_hand = start.elapsed();
        let start = Instant::now();
        for _ in 0..GROUPS {
            put(&mut writer, std::slice::from_ref(&chunk));
        }
        let spool = start.elapsed();
        let rate = |took: Duration| GROUPS as f64 * 65_536.0 / 1e6 / took.as_secs_f64();
        println!(
            "{round}: by hand {:.0} MB/s, spool {:.0} MB/s",
            rate(by_hand),
            rate(spool)
        );
    }
}

#[test]
fn a_rest_ends_with_what_can_not_wait() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("sink").unwrap();
    let short = Duration::from_millis(50);
    put(&mut writer, &[chunk(0, 1, 10)]);
    let started = Instant::now();
    reader.rest(short);
    assert!(started.elapsed() >= short, "what can wait ends no rest");
    let resting = std::thread::spawn(move || {
        reader.rest(LONG);
        reader
    });
    put(
        &mut writer,
        &[chunk(1, 1, 10), chunk_of(Level::Kafka, 2, 1, 10), chunk(3, 1, 10)],
    );
    let mut reader = resting.join().unwrap();
    assert_eq!(read_all(&mut reader).len(), 4);
    let again = Instant::now();
    reader.rest(short);
    assert!(again.elapsed() >= short, "it is read");
    // A quarter of what is kept in memory.
    put(&mut writer, &[chunk(4, 1, 2500)]);
    reader.rest(LONG);
    read_all(&mut reader);
    drop(writer);
    reader.rest(LONG);
    assert!(started.elapsed() < LONG);
}
