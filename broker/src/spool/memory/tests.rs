//! The log in memory against its contract: bounded, in order, released when all have committed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::bus::ChunkBuilder;
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::record::{PublishRecord, Record};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(20);

fn chunk(number: u64, records: u32) -> Chunk {
    chunk_of(number, records, Level::Kafka)
}

fn chunk_of(number: u64, records: u32, level: Level) -> Chunk {
    let mut builder = ChunkBuilder::new(64 * 1024);
    for at in 0..records {
        let text = format!("{number}/{at}");
        let record = Record::Publish(PublishRecord {
            qos: QoS::AtLeastOnce,
            retain: false,
            level,
            packet_id: 1,
            arrival_ms: 5,
            generation: 1,
            routes: RouteIds::new(),
            client_id: "d",
            username: None,
            matched: None,
            topic: "t",
            properties: None,
            payload: text.as_bytes(),
        });
        builder.push(&record).unwrap();
    }
    builder.finish(0, number)
}

fn next(reader: &mut MemoryReader) -> Option<(u64, u64)> {
    let entry = reader.read(NOW).unwrap();
    entry.map(|e| (e.chunk.number(), e.first.sequence))
}

#[test]
fn sequences_count_records_and_each_reader_has_its_own_cursor() {
    let (mut writer, log) = open(7, 1 << 20);
    let (mut a, mut b) = (log.reader(), log.reader());
    let first = writer.append(&chunk(0, 3)).unwrap();
    assert_eq!(
        first,
        Position {
            epoch: 7,
            sequence: 0
        }
    );
    assert_eq!(writer.append(&chunk(1, 2)).unwrap().sequence, 3);
    assert_eq!(next(&mut a), Some((0, 0)));
    assert_eq!(next(&mut a), Some((1, 3)));
    assert_eq!(next(&mut a), None);
    a.commit(5).unwrap();
    assert_eq!(log.status().records, 5, "the other reader still needs them");
    assert_eq!(next(&mut b), Some((0, 0)));
    b.commit(4).unwrap();
    let status = log.status();
    assert_eq!((status.records, status.next_sequence), (2, 5));
    drop(b);
    assert_eq!(log.status().bytes, 0, "a reader that leaves holds nothing back");
}

#[test]
fn a_full_log_refuses_until_a_reader_commits() {
    let one = chunk(0, 10).as_bytes().len();
    let (mut writer, log) = open(1, 2 * one);
    let mut reader = log.reader();
    writer.append(&chunk(0, 10)).unwrap();
    writer.append(&chunk(1, 10)).unwrap();
    assert_eq!(writer.append(&chunk(2, 10)), Err(AppendError::Full));
    assert_eq!(writer.wait_room(one, NOW), Ok(false));
    assert!(log.status().bytes <= 2 * one as u64);
    let waits = std::thread::spawn(move || (writer.wait_room(one, LONG), writer));
    reader.commit(10).unwrap();
    let (room, mut writer) = waits.join().unwrap();
    assert_eq!(room, Ok(true));
    assert_eq!(writer.append(&chunk(2, 10)).unwrap().sequence, 20);
    assert_eq!(next(&mut reader), Some((1, 10)), "what was committed is gone");
}

#[test]
fn a_chunk_larger_than_the_log_is_taken_when_it_is_empty() {
    let (mut writer, log) = open(1, 10);
    let mut reader = log.reader();
    writer.append(&chunk(0, 10)).unwrap();
    assert_eq!(writer.append(&chunk(1, 1)), Err(AppendError::Full));
    reader.commit(10).unwrap();
    writer.append(&chunk(1, 1)).unwrap();
}

#[test]
fn with_no_reader_nothing_is_kept() {
    let (mut writer, log) = open(1, 10);
    for number in 0..100 {
        writer.append(&chunk(number, 10)).unwrap();
    }
    assert_eq!((log.status().bytes, log.status().next_sequence), (0, 1000));
}

#[test]
fn a_closed_log_gives_what_is_left_and_then_says_so() {
    let (mut writer, log) = open(1, 1 << 20);
    let mut reader = log.reader();
    writer.append(&chunk(0, 1)).unwrap();
    log.close();
    assert_eq!(writer.append(&chunk(1, 1)), Err(AppendError::Closed));
    assert_eq!(writer.wait_room(1, NOW), Err(AppendError::Closed));
    assert_eq!(next(&mut reader), Some((0, 0)));
    assert!(matches!(reader.read(LONG), Err(LogError::Closed)));
    reader.seek(0).unwrap();
    assert_eq!(next(&mut reader), Some((0, 0)));
}

#[test]
fn a_reader_that_waits_is_woken_by_a_chunk_and_by_the_end() {
    let (mut writer, log) = open(1, 1 << 20);
    let mut reader = log.reader();
    let thread = std::thread::spawn(move || {
        let first = reader.read(LONG).unwrap().map(|e| e.chunk.number());
        (first, reader.read(LONG).map(|e| e.map(|e| e.chunk.number())))
    });
    writer.append(&chunk(5, 1)).unwrap();
    drop(writer);
    let (first, second) = thread.join().unwrap();
    assert_eq!(first, Some(5));
    assert!(matches!(second, Err(LogError::Closed)));
}

#[test]
fn a_seek_gives_the_chunk_that_holds_the_record() {
    let (mut writer, log) = open(1, 1 << 20);
    let mut reader = log.reader();
    for number in 0..4 {
        writer.append(&chunk(number, 3)).unwrap();
    }
    reader.seek(7).unwrap();
    assert_eq!(next(&mut reader), Some((2, 6)));
    reader.seek(12).unwrap();
    assert_eq!(next(&mut reader), None);
    assert!(matches!(
        reader.seek(13),
        Err(LogError::NotInLog { sequence: 13 })
    ));
    assert!(matches!(reader.commit(13), Err(LogError::NotInLog { .. })));
    reader.commit(6).unwrap();
    assert!(matches!(reader.seek(5), Err(LogError::NotInLog { .. })));
    reader.seek(6).unwrap();
    assert_eq!(next(&mut reader), Some((2, 6)));
}

proptest! {
    /// Against a plain list: whatever two readers do, each sees every chunk from its cursor on, in order, and the log
    /// never holds more than its bound.
    #[test]
    fn two_readers_see_what_a_list_would_show(steps in proptest::collection::vec((0u8..6, 0u64..40), 1..120)) {
        let max = chunk(0, 4).as_bytes().len() * 5;
        let (mut writer, log) = open(1, max);
        let mut readers = [log.reader(), log.reader()];
        let (mut next_of, mut committed) = ([0u64; 2], [0u64; 2]);
        let mut model: Vec<(u64, u64, u64)> = Vec::new();
        let mut end = 0;
        for (step, value) in steps {
            let at = usize::from(step % 2);
            match step / 2 {
                0 => {
                    let fresh = chunk(model.len() as u64, 1 + (value % 4) as u32);
                    let count = u64::from(fresh.count());
                    match writer.append(&fresh) {
                        Ok(position) => {
                            prop_assert_eq!(position.sequence, end);
                            model.push((fresh.number(), end, end + count));
                            end += count;
                        }
                        Err(error) => prop_assert_eq!(error, AppendError::Full),
                    }
                }
                1 => {
                    let expected = model.iter().find(|m| m.2 > next_of[at]).copied();
                    prop_assert_eq!(next(&mut readers[at]), expected.map(|m| (m.0, m.1)));
                    next_of[at] = expected.map_or(next_of[at], |m| m.2);
                }
                _ if value < 20 => {
                    let to = committed[at] + value.min(next_of[at].saturating_sub(committed[at]));
                    readers[at].commit(to).unwrap();
                    committed[at] = to;
                }
                _ => {
                    let to = committed[at] + (value - 20) % (end - committed[at] + 1);
                    readers[at].seek(to).unwrap();
                    next_of[at] = to;
                }
            }
            let low = committed[0].min(committed[1]);
            let oldest = model.iter().find(|m| m.2 > low);
            prop_assert_eq!(log.status().records, oldest.map_or(0, |m| end - m.1));
            prop_assert!(log.status().bytes <= max as u64);
        }
    }
}

#[test]
fn a_rest_ends_with_what_can_not_wait() {
    let (mut writer, log) = open(1, 1 << 20);
    let mut reader = log.reader();
    let quiet = |number| chunk_of(number, 1, Level::Spooled);
    writer.append(&quiet(0)).unwrap();
    let started = Instant::now();
    reader.rest(Duration::from_millis(50));
    assert!(
        started.elapsed() >= Duration::from_millis(50),
        "what can wait ends no rest"
    );
    let resting = std::thread::spawn(move || {
        reader.rest(LONG);
        reader
    });
    while log.shared.lock().readers_resting == 0 {
        std::thread::yield_now();
    }
    writer.append(&quiet(1)).unwrap();
    writer.append(&chunk(2, 1)).unwrap();
    let mut reader = resting.join().unwrap();
    assert!(started.elapsed() < LONG);
    // Not read yet: the next rest ends at once as well.
    reader.rest(LONG);
    assert_eq!(
        [next(&mut reader), next(&mut reader), next(&mut reader)],
        [Some((0, 0)), Some((1, 1)), Some((2, 2))]
    );
    let started = Instant::now();
    reader.rest(Duration::from_millis(50));
    assert!(started.elapsed() >= Duration::from_millis(50), "it is read");
    log.close();
    reader.rest(LONG);
    assert!(started.elapsed() < LONG);
}

#[test]
fn a_rest_ends_when_much_is_kept() {
    let one = chunk(0, 10).as_bytes().len();
    let (mut writer, log) = open(1, 8 * one);
    let mut reader = log.reader();
    for number in 0..3 {
        writer.append(&chunk_of(number, 10, Level::Spooled)).unwrap();
    }
    let started = Instant::now();
    reader.rest(LONG);
    assert!(started.elapsed() < LONG);
}
