//! What two workers did at the same time, in whatever order the log has it, with a commit in between.

use super::script::{Script, open, publish, session, subscribe};
use super::tables::Tables;
use crate::codec::QoS;
use crate::record::{Change, PublishRecord, Record};
use crate::store::projection::{Bounds, Projection};

const BOUNDS: Bounds = Bounds {
    max_queued: 100,
    max_queued_bytes: usize::MAX,
    max_retained: 100,
    max_retained_bytes: usize::MAX,
};

#[test]
fn a_publish_matched_without_a_subscription_is_not_for_it_though_it_stands_first_and_is_committed() {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let mut tables = Tables::default();
    script.chunk(&[
        session("a", Change::Open(open())),
        session("a", subscribe("t/+", QoS::AtLeastOnce, 3)),
        session("a", subscribe("u", QoS::AtLeastOnce, 4)),
        Record::Publish(publish("p", "t/1", b"before", 4)),
        Record::Publish(publish("p", "t/1", b"after", 5)),
        Record::Publish(publish("p", "u", b"other", 5)),
    ]);
    script.apply(&mut projection);
    tables.commit(projection.take_changes());
    let filter = "t/+";
    script.chunk(&[session(
        "a",
        Change::Unsubscribe {
            filter,
            generation: 5,
        },
    )]);
    script.apply(&mut projection);
    tables.commit(projection.take_changes());
    let restored = tables.load(BOUNDS, 2, 0).finish().0;
    let queue = restored.sessions[0].queue.iter();
    let waiting: Vec<&[u8]> = queue.map(|kept| &*kept.message.payload).collect();
    assert_eq!(waiting, [&b"before"[..], b"other"]);
}

/// The payloads of what waits for the only session.
fn waiting(tables: &Tables, epoch: u64) -> Vec<(bool, Vec<u8>)> {
    let restored = tables.load(BOUNDS, epoch, 0).finish().0;
    let queue = restored.sessions[0].queue.iter();
    queue
        .map(|kept| (kept.retain, kept.message.payload.to_vec()))
        .collect()
}

#[test]
fn what_was_retained_before_a_subscription_is_sent_for_it_though_the_log_has_it_behind() {
    let retained = |topic, payload, matched| {
        Record::Publish(PublishRecord {
            retain: true,
            matched,
            ..publish("p", topic, payload, 0)
        })
    };
    for with_retained in [true, false] {
        let mut asked = subscribe("t/+", QoS::AtLeastOnce, 5);
        if let Change::Subscribe { send_retained, .. } = &mut asked {
            *send_retained = with_retained;
        }
        let mut script = Script::new();
        let mut projection = Projection::new(BOUNDS, 1);
        let mut tables = Tables::default();
        script.chunk(&[session("a", Change::Open(open())), session("a", asked)]);
        script.apply(&mut projection);
        tables.commit(projection.take_changes());
        // Retained and matched before the filter was there, by a worker whose chunk comes after that of the session's.
        script.chunk(&[
            retained("t/1", b"one", Some(3)),
            retained("t/2", b"two", Some(4)),
            retained("t/3", b"after", Some(5)),
            retained("u", b"other", Some(4)),
            retained("t/4", b"", Some(4)),
            retained("t/5", b"as of when is not known", None),
        ]);
        let expected: &[&[u8]] = match with_retained {
            true => &[b"one", b"two", b"after"],
            false => &[b"after"],
        };
        let expected: Vec<_> = expected.iter().map(|payload| (true, payload.to_vec())).collect();
        // Also where the store's file had the subscription at the crash, and nothing of the rest.
        let mut loaded = tables.load(BOUNDS, 2, 0).projection;
        let log = script.take();
        for (projection, mut tables) in [(&mut projection, tables.clone()), (&mut loaded, tables)] {
            for entry in &log {
                projection.apply(entry);
            }
            tables.commit(projection.take_changes());
            assert_eq!(waiting(&tables, 3), expected, "{with_retained}");
        }
    }
}

#[test]
fn what_is_retained_after_a_subscription_has_ended_is_not_for_it_though_the_log_has_it_before() {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let mut tables = Tables::default();
    let mut asked = subscribe("t/+", QoS::AtLeastOnce, 5);
    if let Change::Subscribe { send_retained, .. } = &mut asked {
        *send_retained = true;
    }
    let retained = PublishRecord {
        retain: true,
        ..publish("p", "t/1", b"late", 9)
    };
    let ends = Change::Unsubscribe {
        filter: "t/+",
        generation: 9,
    };
    script.chunk(&[session("a", Change::Open(open())), session("a", asked)]);
    script.chunk(&[Record::Publish(retained)]);
    script.chunk(&[session("a", ends)]);
    script.apply(&mut projection);
    tables.commit(projection.take_changes());
    assert_eq!(waiting(&tables, 3), []);
}
