//! Each interleaving of a power cut that the format must get right, by name.

use std::sync::Arc;

use super::support::{chunk, config, numbers, open, put, read_all, try_open};
use crate::spool::group::{Group, GroupHeader};
use crate::spool::open::open_inline;
use crate::spool::segment::DATA_START;
use crate::spool::{AppendError, LogReader, LogWriter, Position};
use crate::testing::faulty_fs::{FaultyFs, Lot};

/// Names of the segments, oldest first.
pub(super) fn segments(fs: &FaultyFs) -> Vec<String> {
    fs.names()
        .into_iter()
        .filter(|name| name.ends_with(".seg"))
        .collect()
}

/// Each place at which a group of `sequence` stands: name of the segment and offset.
fn places(fs: &FaultyFs, sequence: u64) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for name in segments(fs) {
        let bytes = fs.content(&name);
        let number = name[..20].parse().unwrap();
        for offset in (DATA_START as usize..bytes.len()).step_by(4096) {
            let header = GroupHeader::peek(&bytes[offset..], number);
            if header.is_some_and(|header| header.first.sequence == sequence) {
                found.push((name.clone(), offset));
            }
        }
    }
    found
}

/// The first of them.
pub(super) fn place(fs: &FaultyFs, sequence: u64) -> (String, usize) {
    places(fs, sequence).remove(0)
}

#[test]
fn a_recycled_segment_holds_old_groups_that_do_not_come_back() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    for number in 0..100 {
        put(&mut writer, &[chunk(number, 1, 3000)]);
        read_all(&mut reader);
        reader.commit(number + 1).unwrap();
        reader.save(&[]).unwrap();
    }
    drop((writer, spool, reader));
    fs.kill();
    let (_writer, spool, recovery) = open(&fs);
    assert_eq!((recovery.next_sequence, recovery.damage.len()), (100, 0));
    let mut reader = spool.reader("kafka").unwrap();
    assert_eq!((reader.begin(), read_all(&mut reader).len()), (100, 0));
    let all = numbers(&spool);
    assert!(all.iter().zip(all.iter().skip(1)).all(|(a, b)| a + 1 == *b));
    assert_eq!(all.last(), Some(&99));
}

#[test]
fn a_group_that_is_torn_anywhere_is_cut_and_what_stands_before_it_stays() {
    for torn in (0..8192).step_by(512) {
        let fs = FaultyFs::default();
        let (mut writer, spool, _) = open(&fs);
        put(&mut writer, &[chunk(0, 1, 10)]);
        put(&mut writer, &[chunk(1, 1, 10)]);
        put(&mut writer, &[chunk(2, 1, 7000)]);
        drop((writer, spool));
        let (name, offset) = place(&fs, 2);
        fs.change(&name, |bytes| {
            bytes[offset + torn..offset + torn + 512].fill(0xEE)
        });
        fs.kill();
        let (_writer, spool, recovery) = open(&fs);
        // What stands behind the group's last byte is of no account.
        let whole = torn >= 7168;
        assert_eq!(recovery.damage, []);
        assert_eq!(
            numbers(&spool),
            if whole { vec![0, 1, 2] } else { vec![0, 1] },
            "torn at {torn}"
        );
    }
}

/// Does `work` again and again, and dies in it after each number of operations; then the power goes.
fn at_each_operation(
    before: impl Fn(&FaultyFs),
    check: impl Fn(&FaultyFs, u64),
    work: impl Fn(&FaultyFs) -> bool,
) {
    for seed in 0..12 {
        let mut lot = Lot::new(seed);
        let mut operations = 0;
        loop {
            let fs = FaultyFs::default();
            before(&fs);
            fs.light_fuse(operations);
            let done = work(&fs);
            fs.cut(&mut lot);
            check(&fs, u64::from(done));
            if done {
                break;
            }
            operations += 1;
        }
        assert!(operations > 2, "nothing was cut");
    }
}

#[test]
fn a_sync_over_two_segments_is_cut_at_each_operation() {
    let chunks: Vec<_> = (1..6).map(|number| chunk(number, 1, 7000)).collect();
    at_each_operation(
        |fs| {
            let (mut writer, _spool, _) = open(fs);
            put(&mut writer, &[chunk(0, 1, 10)]);
        },
        |fs, done| {
            let (_writer, spool, recovery) = open(fs);
            assert_eq!(
                recovery.damage,
                [],
                "no segment's header says more than is durable"
            );
            let all = numbers(&spool);
            assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
            assert!(!all.is_empty() && (done == 0 || all.len() == 6));
        },
        |fs| {
            let Ok((mut writer, _spool, _)) = try_open(fs) else {
                return false;
            };
            chunks.iter().all(|chunk| writer.append(chunk).is_ok()) && writer.sync().is_ok()
        },
    );
}

#[test]
fn a_crash_during_the_copy_of_recovery_loses_nothing_however_often() {
    at_each_operation(
        |fs| {
            let (mut writer, _spool, _) = open(fs);
            put(&mut writer, &[chunk(0, 1, 10)]);
            put(&mut writer, &[chunk(1, 2, 3000)]);
            fs.kill();
        },
        |fs, _| {
            // Once more in the middle, then to the end.
            fs.light_fuse(9);
            drop(try_open(fs));
            fs.cut(&mut Lot::new(7));
            let (_writer, spool, recovery) = open(fs);
            assert_eq!((recovery.damage.len(), recovery.next_sequence), (0, 3));
            assert_eq!(numbers(&spool), [0, 1]);
        },
        |fs| try_open(fs).is_ok(),
    );
}

#[test]
fn what_stood_in_the_page_cache_only_is_durable_once_recovery_returns() {
    for seed in 0..50 {
        let fs = FaultyFs::default();
        let (mut writer, spool, _) = open(&fs);
        put(&mut writer, &[chunk(0, 1, 10)]);
        writer.append(&chunk(1, 1, 5000)).unwrap();
        // The write comes to the page cache; the fsync fails, so no later one will bring it to the disk.
        fs.fail_next_sync();
        assert!(matches!(writer.sync(), Err(AppendError::Io(_))));
        drop((writer, spool));
        fs.kill();
        let (writer, spool, recovery) = open(&fs);
        assert_eq!((recovery.next_sequence, recovery.copied_groups), (2, 1));
        drop((writer, spool));
        fs.cut(&mut Lot::new(seed));
        let (_writer, spool, recovery) = open(&fs);
        assert_eq!(recovery.damage, []);
        assert_eq!(numbers(&spool), [0, 1], "seed {seed}");
    }
}

#[test]
fn a_copied_group_keeps_its_position() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    put(&mut writer, &[chunk(0, 2, 10)]);
    let epoch = spool.epoch();
    drop((writer, spool));
    for _ in 0..3 {
        let (_writer, spool, recovery) = open(&fs);
        assert_eq!(recovery.copied_groups, 1);
        let mut reader = spool.reader_at(0).unwrap();
        let entries = read_all(&mut reader);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].first, Position { epoch, sequence: 0 });
        assert!(spool.epoch() > epoch);
    }
}

#[test]
fn a_cursor_that_is_torn_is_the_one_before() {
    at_each_operation(
        |fs| {
            let (mut writer, spool, _) = open(fs);
            put(&mut writer, &[chunk(0, 4, 10)]);
            let mut reader = spool.reader("kafka").unwrap();
            for sequence in 1..3 {
                reader.commit(sequence).unwrap();
                reader.save(&[sequence as u8; 9000]).unwrap();
            }
        },
        |fs, done| {
            let (_writer, spool, _) = open(fs);
            let reader = spool.reader("kafka").unwrap();
            assert!(reader.begin() == 3 || reader.begin() == 2 && done == 0);
            assert_eq!(reader.state(), vec![reader.begin() as u8; 9000]);
        },
        |fs| {
            let Ok((_writer, spool, _)) = try_open(fs) else {
                return false;
            };
            let Ok(mut reader) = spool.reader("kafka") else {
                return false;
            };
            reader.commit(3).unwrap();
            reader.save(&[3; 9000]).is_ok()
        },
    );
}

/// Ten chunks of two records, one group each, over two segments.
pub(super) fn ten(fs: &FaultyFs) {
    let (mut writer, spool, _) = open(fs);
    let _hold = spool.reader("kafka").unwrap();
    for number in 0..10 {
        put(&mut writer, &[chunk(number, 2, 2000)]);
    }
    assert!(segments(fs).len() >= 2);
}

#[test]
fn a_bad_group_below_a_later_claim_is_damage_and_its_neighbours_are_delivered() {
    let fs = FaultyFs::default();
    ten(&fs);
    // One in an older segment, one in the last.
    for sequence in [4, 14] {
        let (name, offset) = place(&fs, sequence);
        fs.change(&name, |bytes| bytes[offset + 500] ^= 1);
    }
    fs.kill();
    let (_writer, spool, _) = open(&fs);
    let all = [0, 1, 3, 4, 5, 6, 8, 9];
    assert_eq!(numbers(&spool), all);
    assert_eq!(numbers(&spool), all, "another reader sees the same");
    let lost: Vec<_> = spool.damage().iter().map(|d| (d.first, d.end)).collect();
    assert_eq!(lost, [(4, 6), (14, 16)], "each is reported once");
    let aside: Vec<_> = fs
        .names()
        .into_iter()
        .filter(|name| name.starts_with("damage-"))
        .collect();
    assert_eq!(aside.len(), 2);
    assert!(fs.content(&aside[0]).starts_with(b"FBGROUP"));
}

#[test]
fn a_bad_last_group_is_a_torn_tail_unless_a_cursor_is_beyond() {
    for cursor in [false, true] {
        let fs = FaultyFs::default();
        ten(&fs);
        if cursor {
            let (_writer, spool, _) = open(&fs);
            let mut reader = spool.reader("kafka").unwrap();
            reader.commit(20).unwrap();
            reader.save(&[]).unwrap();
        }
        for (name, offset) in places(&fs, 18) {
            fs.change(&name, |bytes| bytes[offset + 100] ^= 1);
        }
        let (writer, spool, recovery) = open(&fs);
        if cursor {
            let lost: Vec<_> = recovery.damage.iter().map(|d| (d.first, d.end)).collect();
            assert_eq!(lost, [(18, 20)]);
            assert_eq!(writer.next_position().sequence, 20, "sequences never come back");
            let mut reader = spool.reader("kafka").unwrap();
            assert_eq!((reader.begin(), read_all(&mut reader).len()), (20, 0));
        } else {
            assert_eq!(recovery.damage, []);
            assert_eq!(writer.next_position().sequence, 18);
        }
        assert_eq!(numbers(&spool), (0..9).collect::<Vec<_>>());
    }
}

#[test]
fn a_wiped_volume_repeats_no_position() {
    let fs = FaultyFs::default();
    ten(&fs);
    let (writer, spool, recovery) = open(&fs);
    let mut reader = spool.reader("kafka").unwrap();
    reader.commit(15).unwrap();
    reader.save(&[]).unwrap();
    drop((writer, spool, reader));
    // All but the cursor.
    for name in segments(&fs) {
        fs.lose(&name);
    }
    let (mut writer, spool, again) = open(&fs);
    assert!(again.epoch > recovery.epoch);
    assert_eq!(again.next_sequence, 15);
    assert_eq!(again.damage.len(), 1);
    put(&mut writer, &[chunk(99, 1, 10)]);
    let entries = read_all(&mut spool.reader("kafka").unwrap());
    assert_eq!((entries.len(), entries[0].first.sequence), (1, 15));
    drop((writer, spool));
    // Everything: then only the epoch tells, and whoever knows a later one says so.
    let fs = FaultyFs::default();
    let floor = u64::MAX / 2;
    let (writer, ..) = open_inline(&config(), floor, Arc::new(fs)).unwrap();
    let position = writer.next_position();
    assert_eq!((position.epoch, position.sequence), (floor, 0));
}

#[test]
fn a_consumer_of_its_own_that_is_beyond_the_end_is_told_where_it_begins() {
    let fs = FaultyFs::default();
    ten(&fs);
    let (_writer, spool, _) = open(&fs);
    assert_eq!(spool.reader_at(1000).unwrap().begin(), 20);
    assert_eq!(spool.reader_at(7).unwrap().begin(), 7);
}

#[test]
fn one_bad_copy_of_a_header_does_no_harm_and_two_lose_that_segment_only() {
    let fs = FaultyFs::default();
    ten(&fs);
    let first = segments(&fs).remove(0);
    fs.change(&first, |bytes| bytes[20] ^= 1);
    let (writer, spool, _) = open(&fs);
    assert_eq!(numbers(&spool), (0..10).collect::<Vec<_>>());
    drop((writer, spool));
    let lost = place(&fs, 4).0;
    fs.change(&lost, |bytes| {
        bytes[20] ^= 2;
        bytes[4096 + 20] ^= 2;
    });
    let (_writer, spool, _) = open(&fs);
    let left = numbers(&spool);
    assert!(!left.contains(&2) && left.contains(&9), "{left:?}");
    assert!(fs.names().contains(&format!("damage-{}", lost)));
}

#[test]
fn what_a_client_sends_is_never_taken_for_a_group() {
    let fs = FaultyFs::default();
    let (mut writer, spool, _) = open(&fs);
    put(&mut writer, &[chunk(0, 1, 10)]);
    // A group as a client would make one who knows everything but the salt, on a block of its own.
    let mut forged = Vec::new();
    let header = GroupHeader {
        segment: 1,
        epoch: spool.epoch(),
        first: Position {
            epoch: spool.epoch(),
            sequence: 1_000_000,
        },
        durable_before: 1_000_000,
        written_ms: 1,
        chunks: 0,
        records: 0,
        payload_bytes: 0,
    };
    header.write(0, &[chunk(66, 1, 10)], &mut forged);
    assert!(Group::read(&forged, 1, 0).is_some());
    writer.append(&chunk(1, 1, 8000)).unwrap();
    writer.sync().unwrap();
    drop((writer, spool));
    let (name, offset) = place(&fs, 1);
    fs.change(&name, |bytes| {
        bytes[offset + 200] ^= 1;
        bytes[offset + 4096..offset + 4096 + forged.len()].copy_from_slice(&forged);
    });
    let (_writer, spool, recovery) = open(&fs);
    assert_eq!((recovery.next_sequence, recovery.damage.len()), (1, 0));
    assert_eq!(numbers(&spool), [0]);
}

#[test]
fn the_header_of_the_next_segment_is_a_claim_for_the_one_before() {
    let fs = FaultyFs::default();
    ten(&fs);
    // The last group of the first segment: what follows it is in another file.
    let first = segments(&fs).remove(0);
    let offset = fs
        .content(&first)
        .windows(8)
        .rposition(|w| w == b"FBGROUP\x01")
        .unwrap();
    fs.change(&first, |bytes| bytes[offset + 100] ^= 1);
    let (_writer, spool, _) = open(&fs);
    let left = numbers(&spool);
    assert_eq!(left.len(), 9);
    assert_eq!(spool.damage().len(), 1);
}
