//! A stream that was lost, shuffled, doubled or mixed up in any way must be told from a whole one.

use super::*;
use crate::acked::Promise;

fn promises(sent: u64, open: &str) -> Promises {
    let device = |id: &str| Promise {
        id: id.to_owned(),
        sent,
        open: Ranges::from_text(open).unwrap(),
    };
    Promises {
        run: "r".to_owned(),
        devices: vec![device("a"), device("b")],
    }
}

/// Feeds `(device, sequence)` as well-keyed records.
fn verdict(promises: &Promises, records: &[(&str, u64)]) -> Verdict {
    let mut checker = Checker::new(promises);
    for (id, sequence) in records {
        let partition = i32::from(*id == "b");
        checker.record(
            0,
            partition,
            Some(id.as_bytes()),
            format!("{id} {sequence} r xx").as_bytes(),
        );
    }
    assert_eq!(checker.lost(), checker.verdict().lost);
    checker.verdict()
}

fn whole() -> Vec<(&'static str, u64)> {
    (0..5)
        .flat_map(|sequence| [("a", sequence), ("b", sequence)])
        .collect()
}

#[test]
fn a_whole_stream_is_clean() {
    let verdict = verdict(&promises(5, ""), &whole());
    assert_eq!(
        verdict,
        Verdict {
            devices: 2,
            acknowledged: 10,
            records: 10,
            ..Verdict::default()
        }
    );
}

#[test]
fn each_lost_record_is_counted_wherever_it_stood() {
    for gone in 0..10 {
        let mut records = whole();
        records.remove(gone);
        let verdict = verdict(&promises(5, ""), &records);
        assert_eq!((verdict.lost, verdict.out_of_order), (1, 0), "{gone}");
    }
    assert_eq!(verdict(&promises(5, ""), &[]).lost, 10);
}

#[test]
fn any_swap_within_a_device_is_out_of_order() {
    for at in 0..8 {
        let mut records = whole();
        records.swap(at, at + 2);
        let verdict = verdict(&promises(5, ""), &records);
        assert_eq!((verdict.lost, verdict.out_of_order), (0, 1), "{at}");
    }
    let mut reversed = whole();
    reversed.reverse();
    assert_eq!(verdict(&promises(5, ""), &reversed).out_of_order, 8);
}

#[test]
fn devices_have_no_order_between_them() {
    let mut records = whole();
    records.sort();
    assert_eq!(verdict(&promises(5, ""), &records).out_of_order, 0);
}

#[test]
fn a_run_that_is_sent_again_is_doubled_but_not_out_of_order() {
    let verdict = verdict(&promises(5, ""), &[whole(), whole()].concat());
    assert_eq!(
        (verdict.duplicates, verdict.out_of_order, verdict.lost),
        (10, 0, 0)
    );
}

#[test]
fn what_was_not_acknowledged_may_be_missing_or_there() {
    let gone: Vec<_> = whole()
        .into_iter()
        .filter(|&(_, sequence)| sequence != 1 && sequence < 3)
        .collect();
    assert_eq!(verdict(&promises(5, "1,3-4"), &gone).lost, 0);
    let verdict = verdict(&promises(5, "1,3-4"), &whole());
    assert_eq!(
        (verdict.lost, verdict.unpromised, verdict.acknowledged),
        (0, 6, 4)
    );
}

#[test]
fn wrong_keys_partitions_runs_and_numbers_are_told() {
    let mut checker = Checker::new(&promises(2, ""));
    checker.record(0, 0, Some(b"a"), b"a 0 r ");
    checker.record(0, 1, Some(b"a"), b"a 1 r ");
    checker.record(0, 2, Some(b"a"), b"b 0 r ");
    checker.record(0, 2, None, b"b 1 r ");
    checker.record(0, 2, Some(b"b"), b"b 7 r ");
    for foreign in [&b"a 1 other "[..], b"c 0 r ", b"x", b"", b"a x r ", b"\xff 0 r "] {
        checker.record(0, 0, Some(b"a"), foreign);
    }
    let verdict = checker.verdict();
    assert_eq!(
        (
            verdict.wrong_key,
            verdict.split,
            verdict.foreign,
            verdict.invented
        ),
        (2, 1, 6, 1)
    );
    assert_eq!(verdict.lost, 0);
}
