//! Tests of the window: by example, and against a plain model of a broker that takes any prefix.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use forebay_broker::bus::ChunkBuilder;
use forebay_broker::record::Record;

const MAX: usize = 1000;

fn lane(records: u64) -> Lane<u64> {
    let mut lane = Lane::default();
    for record in 0..records {
        lane.push(record, 100);
    }
    lane
}

fn send(lane: &mut Lane<u64>) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some((ticket, _)) = lane.next(MAX) {
        sent.push(ticket);
        lane.mark_sent();
    }
    sent
}

fn pop(lane: &mut Lane<u64>) -> Vec<u64> {
    std::iter::from_fn(|| lane.pop())
        .map(|(value, _)| value)
        .collect()
}

#[test]
fn one_record_goes_alone_until_the_producer_is_primed() {
    let mut lane = lane(5);
    assert_eq!(send(&mut lane), [0]);
    assert!(lane.delivered(0));
    assert_eq!(pop(&mut lane), [0]);
    assert_eq!(send(&mut lane), [1, 2, 3, 4]);
    lane.rewind();
    assert_eq!(send(&mut lane), [1], "a new producer is primed anew");
}

#[test]
fn bytes_on_their_way_are_bounded_and_a_large_record_goes_alone() {
    let mut lane = lane(30);
    send(&mut lane);
    lane.delivered(0);
    pop(&mut lane);
    assert_eq!(send(&mut lane).len(), 10);
    let mut large = Lane::default();
    large.push(0, 5000);
    assert_eq!(send(&mut large), [0]);
}

#[test]
fn a_later_report_waits_for_the_earlier_ones() {
    let mut lane = lane(4);
    send(&mut lane);
    lane.delivered(0);
    pop(&mut lane);
    send(&mut lane);
    assert!(lane.delivered(3) && lane.delivered(2));
    assert_eq!(pop(&mut lane), Vec::<u64>::new());
    lane.rewind();
    assert_eq!(lane.len(), 3, "what was reported out of order goes again");
    assert!(!lane.delivered(1), "nothing is on its way");
    send(&mut lane);
    lane.delivered(1);
    assert_eq!(pop(&mut lane), [1]);
    assert_eq!(send(&mut lane), [2, 3]);
    assert_eq!(pop(&mut lane), Vec::<u64>::new(), "the old reports count no more");
}

#[test]
fn suspects_go_one_at_a_time() {
    let mut lane = lane(6);
    send(&mut lane);
    lane.delivered(0);
    pop(&mut lane);
    send(&mut lane);
    lane.suspect(3);
    lane.rewind();
    for expected in 1..=3 {
        assert_eq!(send(&mut lane), [expected]);
        assert!(lane.is_suspect());
        if expected == 2 {
            assert_eq!(lane.refuse_front(), Some(2));
        } else {
            lane.delivered(expected);
            assert_eq!(pop(&mut lane), [expected]);
        }
    }
    assert!(!lane.is_suspect());
    assert_eq!(send(&mut lane), [4, 5]);
}

#[test]
fn what_the_producer_never_takes_is_passed_over_in_order() {
    let mut lane = lane(3);
    send(&mut lane);
    lane.mark_refused();
    assert_eq!(lane.pop(), None);
    lane.delivered(0);
    assert_eq!(lane.pop(), Some((0, true)));
    assert_eq!(lane.pop(), Some((1, false)));
    assert_eq!(send(&mut lane), [2]);
}

#[test]
fn a_ticket_is_found_by_its_low_bits() {
    let mut lane = lane(300);
    let mut at = 0;
    while lane.next(MAX).is_some() {
        lane.mark_sent();
        assert_eq!(lane.ticket(at & 0xff, 8), Some(at));
        assert_eq!(lane.ticket((at + 1) & 0xff, 8), None);
        lane.delivered(at);
        lane.pop().unwrap();
        at += 1;
    }
    assert_eq!(at, 300);
}

fn chunk(records: u32) -> Chunk {
    let mut builder = ChunkBuilder::new(4096);
    for _ in 0..records {
        builder
            .push(&Record::Publish(crate::route::tests::record("t", b"x")))
            .unwrap();
    }
    builder.finish(0, 0)
}

#[test]
fn the_log_is_released_up_to_the_oldest_chunk_that_is_needed() {
    let mut ledger = Ledger::default();
    let first = ledger.push(chunk(2), 10, 100);
    let second = ledger.push(chunk(3), 12, 101);
    ledger.need(first);
    ledger.release(first);
    ledger.release(second);
    assert_eq!(
        (ledger.durable_ms(first), ledger.durable_ms(second)),
        (Some(100), Some(101))
    );
    assert_eq!(ledger.advance(), None);
    assert!(ledger.bytes() > 0);
    ledger.release(first);
    assert_eq!(ledger.advance(), Some(15));
    assert_eq!((ledger.advance(), ledger.bytes()), (None, 0));
    assert!(ledger.chunk(first).is_none() && ledger.durable_ms(first).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Send,
    /// The broker takes this many of the batches on their way, and reports them.
    Report(usize),
    /// It takes this many, the reports of the later ones are lost, and the producer is replaced.
    Fail(usize),
    Suspect(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        3 => Just(Step::Send),
        3 => (1usize..4).prop_map(Step::Report),
        1 => (0usize..4).prop_map(Step::Fail),
        1 => (0u64..40).prop_map(Step::Suspect),
    ]
}

proptest! {
    /// Whatever fails in between: what the lane calls done is a prefix, the broker has it, and the first copy of each
    /// record stands in order.
    #[test]
    fn a_lane_loses_nothing_and_keeps_the_order(steps in proptest::collection::vec(step(), 1..200)) {
        let mut lane = Lane::default();
        let (mut pushed, mut done) = (0u64, 0u64);
        let mut broker: Vec<u64> = Vec::new();
        let mut flying: VecDeque<u64> = VecDeque::new();
        for step in steps.into_iter().chain([Step::Fail(0)]) {
            match step {
                Step::Push => {
                    lane.push(pushed, 100);
                    pushed += 1;
                }
                Step::Send => flying.extend(send(&mut lane)),
                Step::Report(count) => {
                    for ticket in flying.drain(..count.min(flying.len())) {
                        broker.push(ticket);
                        prop_assert!(lane.delivered(ticket));
                    }
                }
                Step::Fail(taken) => {
                    broker.extend(flying.drain(..).take(taken));
                    lane.rewind();
                }
                Step::Suspect(ticket) => lane.suspect(ticket),
            }
            for value in pop(&mut lane) {
                prop_assert_eq!(value, done);
                done += 1;
                prop_assert!(broker.contains(&value));
            }
            prop_assert!(lane.sent() <= lane.len());
        }
        while !lane.is_empty() {
            let sent = send(&mut lane);
            prop_assert!(!sent.is_empty());
            for ticket in sent {
                broker.push(ticket);
                lane.delivered(ticket);
            }
            done += pop(&mut lane).len() as u64;
        }
        prop_assert_eq!(done, pushed);
        let mut first = Vec::new();
        for ticket in broker {
            if !first.contains(&ticket) {
                first.push(ticket);
            }
        }
        prop_assert_eq!(first, (0..pushed).collect::<Vec<_>>());
    }

    #[test]
    fn the_ledger_never_releases_what_is_needed(order in proptest::collection::vec(0usize..8, 1..60)) {
        let mut ledger = Ledger::default();
        let ids: Vec<u32> = (0..8).map(|at| ledger.push(chunk(1), at, 0)).collect();
        let mut needed = [true; 8];
        for at in order {
            if std::mem::take(&mut needed[at]) {
                ledger.release(ids[at]);
            }
            if let Some(done) = ledger.advance() {
                prop_assert!(needed[..done as usize].iter().all(|n| !n));
                prop_assert!(needed.get(done as usize).is_none_or(|n| *n));
            }
        }
    }
}
