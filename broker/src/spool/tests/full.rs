//! The bound and the disk's end: what a start and a run do there, and how they come out of it.

use std::sync::Arc;
use std::time::Duration;

use super::support::{chunk, config, numbers, open, put, read_all, try_open};
use crate::spool::open::open_inline;
use crate::spool::{LogReader, LogWriter, SpoolConfig, SpoolWriter};
use crate::testing::faulty_fs::FaultyFs;

/// Appends until it is full; returns the number after the last.
fn fill(writer: &mut SpoolWriter, from: u64, payload: usize) -> u64 {
    let mut number = from;
    while writer.append(&chunk(number, 1, payload)).is_ok() {
        writer.sync().unwrap();
        number += 1;
    }
    number
}

#[test]
fn a_node_starts_on_a_full_disk_and_goes_on_when_its_consumer_does() {
    for torn in [false, true] {
        let fs = FaultyFs::default();
        let (mut writer, spool, _) = open(&fs);
        let reader = spool.reader("kafka").unwrap();
        for number in 0..20 {
            put(&mut writer, &[chunk(number, 1, 3000)]);
        }
        drop((writer, spool, reader));
        fs.kill();
        fs.set_capacity(Some(fs.used()));
        let names = fs.names();
        if torn {
            // A start that fails leaves nothing behind.
            fs.light_fuse(20);
            drop(try_open(&fs));
            fs.kill();
            fs.set_capacity(Some(fs.used()));
        }
        for _ in 0..3 {
            let (mut writer, spool, recovery) = open(&fs);
            assert_eq!((recovery.next_sequence, recovery.damage.len()), (20, 0));
            assert_eq!(numbers(&spool), (0..20).collect::<Vec<_>>());
            assert!(!writer.wait_room(3100, Duration::ZERO).unwrap());
            drop((writer, spool));
            fs.kill();
            // The first start had what the last segment gave back; the next ones need a little.
            fs.set_capacity(Some(fs.used() + 16 * 1024));
        }
        assert!(fs.names().len() <= names.len() + 1, "{names:?} {:?}", fs.names());
        let (mut writer, spool, _) = open(&fs);
        let mut reader = spool.reader("kafka").unwrap();
        assert!(!writer.wait_room(3100, Duration::ZERO).unwrap());
        assert_eq!(read_all(&mut reader).len(), 20);
        reader.commit(20).unwrap();
        reader.save(&[]).unwrap();
        assert!(writer.wait_room(3100, Duration::ZERO).unwrap());
        put(&mut writer, &[chunk(20, 1, 3000)]);
        assert_eq!(read_all(&mut reader)[0].chunk.number(), 20);
    }
}

#[test]
fn a_start_after_the_other_at_the_bound_takes_no_more_than_the_bound() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let reader = spool.reader("kafka").unwrap();
    let next = fill(&mut writer, 0, 3000);
    drop((writer, spool, reader));
    let cursor = 128 * 1024;
    for _ in 0..20 {
        fs.kill();
        let (mut writer, spool, _) = open(&fs);
        assert!(writer.append(&chunk(next, 1, 3000)).is_err());
        let used = fs.used() - cursor;
        assert!(used <= config().max_bytes + 3 * 8192, "{used} bytes");
        drop((writer, spool));
    }
}

#[test]
fn a_disk_that_fills_up_while_the_first_segment_is_filled_heals_by_what_is_released() {
    let config = SpoolConfig {
        max_bytes: 32 << 20,
        segment_bytes: 3 << 20,
        ..config()
    };
    let fs = FaultyFs::default();
    let start = || open_inline(&config, 0, Arc::new(fs.clone())).unwrap();
    let (mut writer, spool, _) = start();
    let reader = spool.reader("kafka").unwrap();
    for number in 0..4 {
        put(&mut writer, &[chunk(number, 1, 900_000)]);
    }
    drop((writer, spool, reader));
    let (mut writer, spool, _) = start();
    let mut reader = spool.reader("kafka").unwrap();
    fs.set_capacity(Some(fs.used()));
    let next = fill(&mut writer, 4, 300_000);
    assert!(next > 4);
    assert!(!writer.wait_room(900_000, Duration::ZERO).unwrap());
    assert!(spool.pressure().is_full());
    read_all(&mut reader);
    reader.commit(next).unwrap();
    reader.save(&[]).unwrap();
    assert!(writer.wait_room(900_000, Duration::ZERO).unwrap());
    assert!(!spool.pressure().is_full());
}
