//! Disks that lose something: what can't be read, headers and cursors that are gone, and consumers that are.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::power_cut::{place, segments, ten};
use super::support::{chunk, numbers, open, put, read_all};
use crate::spool::fs::{Fs, Mode};
use crate::spool::group::GroupHeader;
use crate::spool::segment::{SegmentHeader, Walk};
use crate::spool::{LogError, LogReader, LogWriter, Position};
use crate::testing::faulty_fs::FaultyFs;

#[test]
fn a_block_that_cant_be_read_loses_its_group_only() {
    let fs = FaultyFs::default();
    ten(&fs);
    // In a segment that is read when somebody needs it, and in the last one.
    for sequence in [4, 14] {
        let (name, offset) = place(&fs, sequence);
        fs.break_block(&name, offset as u64);
    }
    let first = segments(&fs).remove(0);
    fs.break_block(&first, 0);
    fs.kill();
    let (_writer, spool, _) = open(&fs);
    assert_eq!(numbers(&spool), [0, 1, 3, 4, 5, 6, 8, 9]);
    let lost: Vec<_> = spool.damage().iter().map(|d| (d.first, d.end)).collect();
    assert_eq!(lost, [(4, 6), (14, 16)]);
}

#[test]
fn a_cursor_slot_that_cant_be_read_or_looks_like_another_version_leaves_the_other() {
    for broken in [true, false] {
        let fs = FaultyFs::default();
        ten(&fs);
        let (writer, spool, _) = open(&fs);
        let mut reader = spool.reader("kafka").unwrap();
        for sequence in [3, 4] {
            reader.commit(sequence).unwrap();
            reader.save(&[]).unwrap();
        }
        drop((writer, spool, reader));
        // Which of the slots is the later one depends on how often it was saved: the one that says 4.
        let bytes = fs.content("cursor-kafka");
        let slot = if bytes[32] == 4 { 0 } else { 65_536 };
        match broken {
            true => fs.break_block("cursor-kafka", slot),
            false => fs.change("cursor-kafka", |bytes| bytes[slot as usize + 7] ^= 2),
        }
        let (_writer, spool, recovery) = open(&fs);
        assert_eq!(recovery.cursors, [("kafka".to_owned(), 3)]);
        drop((_writer, spool));
        // None is good, and none is whole: damaged, and no other version.
        fs.change("cursor-kafka", |bytes| {
            for slot in [0, 65_536] {
                bytes[slot + 7] ^= 2;
                bytes[slot + 33] ^= 2;
            }
        });
        let (_writer, spool, recovery) = open(&fs);
        assert_eq!(recovery.lost_cursors, ["kafka"]);
        assert_eq!(spool.reader("kafka").unwrap().begin(), 0);
    }
}

#[test]
fn the_oldest_segment_can_not_be_lost_in_silence() {
    let fs = FaultyFs::default();
    ten(&fs);
    let (writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    reader.commit(3).unwrap();
    reader.save(&[]).unwrap();
    drop((writer, spool, reader));
    let next = place(&fs, 6).0;
    let first = segments(&fs).remove(0);
    assert_ne!(first, next);
    fs.lose(&first);
    let (_writer, spool, recovery) = open(&fs);
    let lost: Vec<_> = recovery.damage.iter().map(|d| (d.first, d.end)).collect();
    assert_eq!(lost, [(3, 6)]);
    assert_eq!(spool.reader("kafka").unwrap().begin(), 6);
}

#[test]
fn a_consumer_that_came_late_and_never_saved_lost_nothing() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    for number in 0..40 {
        put(&mut writer, &[chunk(number, 1, 3000)]);
        read_all(&mut reader);
        reader.commit(number + 1).unwrap();
        reader.save(&[]).unwrap();
    }
    drop(spool.reader("late").unwrap());
    drop((writer, spool, reader));
    for _ in 0..3 {
        let (_writer, _spool, recovery) = open(&fs);
        assert_eq!(recovery.damage, []);
        fs.kill();
    }
}

#[test]
fn the_last_segment_without_its_headers_is_set_aside_and_counted() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    for number in 0..3 {
        put(&mut writer, &[chunk(number, 1, 10)]);
    }
    drop((writer, spool));
    let name = segments(&fs).remove(0);
    fs.change(&name, |bytes| bytes[..8192].fill(0));
    let (_writer, _spool, recovery) = open(&fs);
    assert_eq!(recovery.damage.len(), 1);
    let aside = fs.content(&format!("damage-{name}"));
    assert_eq!(&aside[8192..8199], b"FBGROUP");
}

#[test]
fn a_consumer_that_nobody_runs_any_more_is_named_and_a_stray_file_is_none() {
    let fs = FaultyFs::default();
    ten(&fs);
    let stray = Path::new("cursor-kafka.bak");
    fs.open(stray, Mode::Create).unwrap();
    let (_writer, spool, recovery) = open(&fs);
    assert_eq!(recovery.cursors, [("kafka".to_owned(), 0)]);
    assert_eq!(spool.unread(), [("kafka".to_owned(), 20)]);
    let reader = spool.reader("kafka").unwrap();
    assert_eq!(spool.unread(), []);
    drop(reader);
    assert_eq!(spool.unread(), [], "it ran");
}

#[test]
fn a_reader_that_waits_learns_at_once_that_the_spool_is_broken() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader_at(0).unwrap();
    let start = Instant::now();
    let waiting = thread::spawn(move || reader.read(Duration::from_secs(60)).map(|_| ()));
    thread::sleep(Duration::from_millis(50));
    fs.fail_next_sync();
    writer.append(&chunk(0, 1, 10)).unwrap();
    writer.sync().unwrap_err();
    assert!(matches!(waiting.join().unwrap(), Err(LogError::Closed)));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_says_it_is_of_another_run_or_of_before_is_no_group() {
    let header = SegmentHeader {
        number: 1,
        epoch: 7,
        first: 10,
        salt: 3,
        written_ms: 0,
    };
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    for (epoch, sequence) in [(8, 10), (7, 9), (7, 10)] {
        let group = GroupHeader {
            segment: 1,
            epoch,
            first: Position { epoch: 7, sequence },
            durable_before: 10,
            written_ms: 0,
            chunks: 0,
            records: 0,
            payload_bytes: 0,
        };
        group.write(3, &[chunk(0, 1, 10)], &mut bytes);
    }
    let fs = FaultyFs::default();
    let file = fs.open(Path::new("x"), Mode::Create).unwrap();
    file.write_at(&bytes, 0).unwrap();
    let mut walk = Walk::whole(file, &header).unwrap();
    let (offset, group) = walk.next_from(0, u64::MAX).unwrap().unwrap();
    assert_eq!((offset, group.header.first.sequence), (8192 + 2 * 4096, 10));
}
