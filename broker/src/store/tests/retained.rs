//! Retained messages in the projection: their time passes, and what a walk did not send is forgotten when it ends.

use std::sync::Arc;

use super::script::{Script, open, publish, session, subscribe};
use super::tables::Tables;
use crate::codec::QoS;
use crate::record::{Change, PublishRecord, Record};
use crate::store::event::StoreEvent;
use crate::store::projection::{Bounds, Projection};

const BOUNDS: Bounds = Bounds {
    max_queued: 100,
    max_queued_bytes: usize::MAX,
    max_retained: 100,
    max_retained_bytes: usize::MAX,
};

fn retained<'a>(topic: &'a str, properties: Option<&'a [u8]>) -> Record<'a> {
    Record::Publish(PublishRecord {
        retain: true,
        matched: None,
        arrival_ms: 1_000,
        properties,
        ..publish("p", topic, b"x", 0)
    })
}

#[test]
fn what_is_of_no_use_any_more_leaves_the_file() {
    const TWO_SECONDS: &[u8] = &[0x02, 0, 0, 0, 2];
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    script.chunk(&[
        retained("short", Some(TWO_SECONDS)),
        retained("again", Some(TWO_SECONDS)),
        retained("again", None),
        retained("stays", None),
    ]);
    script.apply(&mut projection);
    let mut tables = Tables::default();
    tables.commit(projection.take_changes());
    assert_eq!((tables.rows(), tables.messages.len()), (3, 3));
    // After a restart as without one.
    for mut projection in [tables.load(BOUNDS, 2, 1_500).projection, projection] {
        let mut tables = tables.clone();
        projection.expire_retained(2_999);
        assert!(projection.take_changes().is_empty());
        projection.expire_retained(3_000);
        tables.commit(projection.take_changes());
        assert_eq!((tables.rows(), tables.messages.len()), (2, 2));
    }
    let late = tables.load(BOUNDS, 2, 5_000).finish().0;
    assert_eq!(late.retained.len(), 2, "nor does it come back");
}

#[test]
fn what_was_replaced_before_a_walk_came_by_is_forgotten_when_it_ends() {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let with_retained = match subscribe("t/#", QoS::AtLeastOnce, 3) {
        Change::Subscribe {
            filter,
            options,
            generation,
            ..
        } => Change::Subscribe {
            filter,
            options,
            generation,
            send_retained: true,
        },
        other => other,
    };
    script.chunk(&[retained("t/1", None), retained("t/2", None), retained("u", None)]);
    script.chunk(&[
        session("sub", Change::Open(open())),
        session("sub", with_retained),
    ]);
    script.chunk(&[Record::Publish(publish("p", "t/3", b"y", 3))]);
    script.apply(&mut projection);
    assert_eq!(projection.queued(), 3);
    let client: Arc<str> = "sub".into();
    projection.event(StoreEvent::Walked { client }, 0);
    assert_eq!(projection.queued(), 1, "what was published since stays");
}
