//! What two workers did at the same time, in whatever order the log has it, with a commit in between.

use super::script::{Script, open, publish, session, subscribe};
use super::tables::Tables;
use crate::codec::QoS;
use crate::record::{Change, Record};
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
