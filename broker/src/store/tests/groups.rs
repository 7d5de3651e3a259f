//! What workers say of messages of a group may cross with what the log says, and groups that were kept are dealt out.

use super::script::{Script, open, publish, session, subscribe};
use super::tables::Tables;
use crate::codec::QoS;
use crate::record::{Change, Origin, Record};
use crate::store::event::StoreEvent;
use crate::store::kept::{KeptGroup, KeptMessage, KeptSession, Restored};
use crate::store::projection::{Bounds, Projection, Stored};
use crate::store::rows;
use crate::testing::pair::message;

const BOUNDS: Bounds = Bounds {
    max_queued: 100,
    max_queued_bytes: usize::MAX,
    max_retained: 100,
    max_retained_bytes: usize::MAX,
};

const GROUP: &str = "\0$share/g/t";

const X: Origin = Origin {
    epoch: 1,
    worker: 0,
    number: 0,
    index: 6,
};

fn claimed(client: &str, qos: QoS, hops: u32) -> StoreEvent {
    StoreEvent::Claimed {
        client: client.into(),
        group: GROUP.into(),
        origin: X,
        packet_id: 9,
        qos,
        hops,
    }
}

fn done(client: &str, packet_id: Option<u16>) -> StoreEvent {
    StoreEvent::Done {
        client: client.into(),
        origin: X,
        packet_id,
    }
}

/// Members `a` and `b` of a group, which `c` keeps too, and a message for it; then what is said and, where nothing is,
/// the end of `a`. Returns how many messages are left in the group and with members.
fn left(qos: QoS, steps: Vec<Option<StoreEvent>>) -> (usize, usize) {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let [a, b, c] = ["a", "b", "c"].map(|name| session(name, Change::Open(open())));
    let [a_joins, b_joins, c_joins] =
        ["a", "b", "c"].map(|name| session(name, subscribe("$share/g/t", qos, 3)));
    let mut record = publish("p", "t", b"x", 100);
    record.qos = qos;
    script.chunk(&[a, b, c, a_joins, b_joins, c_joins, Record::Publish(record)]);
    script.apply(&mut projection);
    for step in steps {
        match step {
            Some(event) => projection.event(event, 0),
            None => {
                script.chunk(&[session("a", Change::Reset)]);
                script.apply(&mut projection);
            }
        }
    }
    let mut tables = Tables::default();
    tables.commit(projection.take_changes());
    let restored = tables.load(BOUNDS, 2, 0).finish().0;
    let waiting = restored.groups[0].queue.len();
    (
        waiting,
        restored.sessions.iter().map(|session| session.queue.len()).sum(),
    )
}

#[test]
fn a_message_that_went_from_a_member_to_another_stays_with_nobody_in_whatever_order_it_is_told() {
    let qos = QoS::AtLeastOnce;
    let first = || Some(claimed("a", qos, 0));
    let second = || Some(claimed("b", qos, 1));
    let acked = || Some(done("b", Some(9)));
    assert_eq!(left(qos, vec![]), (1, 0));
    assert_eq!(left(qos, vec![first(), None]), (1, 0), "given back");
    for steps in [
        vec![first(), None, second(), acked()],
        vec![first(), second(), acked(), None],
        vec![first(), second(), None, acked()],
        vec![second(), first(), None, acked()],
        vec![second(), None, first(), acked()],
        vec![second(), None, acked(), first()],
        vec![None, first(), second(), acked()],
        vec![None, second(), first(), acked()],
        // To a member that is not kept, of which only the end is told.
        vec![first(), Some(done(GROUP, None)), None],
    ] {
        assert_eq!(left(qos, steps.clone()), (0, 0), "{steps:?}");
    }
}

#[test]
fn what_was_sent_at_qos_2_is_nobody_elses_though_the_end_of_the_session_is_read_first() {
    let qos = QoS::ExactlyOnce;
    assert_eq!(left(qos, vec![Some(claimed("a", qos, 0)), None]), (0, 0));
    assert_eq!(left(qos, vec![None, Some(claimed("a", qos, 0))]), (0, 0));
    let sent_at_1 = Some(claimed("a", QoS::AtLeastOnce, 0));
    assert_eq!(left(qos, vec![None, sent_at_1]), (1, 0), "another is to get it");
}

/// The last member that keeps a group leaves it with a message waiting, then what is said. How many messages are left.
fn left_by_the_last(qos: QoS, events: Vec<StoreEvent>) -> Restored {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let mut record = publish("p", "t", b"x", 100);
    (record.qos, record.retain) = (qos, true);
    let leave = Change::Unsubscribe {
        filter: "$share/g/t",
        generation: 101,
    };
    script.chunk(&[
        session("a", Change::Open(open())),
        session("b", Change::Open(open())),
        session("b", subscribe("$share/g/t", qos, 3)),
        session("a", subscribe("$share/g/t", qos, 3)),
        session(
            "b",
            Change::Unsubscribe {
                filter: "$share/g/t",
                generation: 4,
            },
        ),
        session("a", Change::Closed { expiry_s: 1 }),
        Record::Publish(record),
        session("a", leave),
    ]);
    script.apply(&mut projection);
    for event in events {
        projection.event(event, 0);
    }
    let mut tables = Tables::default();
    tables.commit(projection.take_changes());
    tables.load(BOUNDS, 2, 0).finish().0
}

#[test]
fn what_waits_for_a_group_is_the_last_members_that_kept_it() {
    let (qos, twice) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let of = |client: &str, restored: &Restored| -> Vec<KeptMessage> {
        let mut sessions = restored.sessions.iter();
        sessions
            .find(|session| *session.client_id == *client)
            .unwrap()
            .queue
            .clone()
    };
    let restored = left_by_the_last(qos, vec![]);
    assert!(restored.groups.is_empty());
    assert!(of("b", &restored).is_empty(), "it was not the last");
    let [waits] = &of("a", &restored)[..] else {
        panic!("{restored:?}")
    };
    assert_eq!((waits.qos, waits.packet_id, waits.retain), (qos, None, true));
    assert_eq!(waits.ids[..], [7]);
    assert_eq!(waits.share.as_ref().map(|share| &*share.group), Some(GROUP));

    let sent = left_by_the_last(qos, vec![claimed("a", qos, 0)]);
    assert_eq!(
        of("a", &sent)[0].packet_id,
        Some(9),
        "it is about to be acknowledged"
    );
    for events in [
        vec![claimed("a", qos, 0), done("a", Some(9))],
        // A member that is not kept had it, and is done with it.
        vec![done(GROUP, None)],
        vec![claimed("gone", twice, 0)],
    ] {
        let left = left_by_the_last(twice, events.clone());
        assert!(of("a", &left).is_empty(), "{events:?}");
    }
}

#[test]
fn a_message_that_comes_back_to_a_group_is_retained_for_those_that_want_to_know() {
    let mut script = Script::new();
    let mut projection = Projection::new(BOUNDS, 1);
    let qos = QoS::AtLeastOnce;
    let plain = |client| {
        let Change::Subscribe {
            filter, mut options, ..
        } = subscribe("$share/g/t", qos, 3)
        else {
            unreachable!()
        };
        options.retain_as_published = false;
        let change = Change::Subscribe {
            filter,
            options,
            generation: 3,
            send_retained: false,
        };
        session(client, change)
    };
    let mut record = publish("p", "t", b"x", 100);
    record.retain = true;
    script.chunk(&[
        session("z", Change::Open(open())),
        session("a", Change::Open(open())),
        session("b", Change::Open(open())),
        plain("z"),
        plain("a"),
        session("b", subscribe("$share/g/t", qos, 3)),
        Record::Publish(record),
    ]);
    script.apply(&mut projection);
    projection.event(claimed("a", qos, 0), 0);
    script.chunk(&[session("a", Change::Reset)]);
    script.apply(&mut projection);
    projection.event(claimed("b", qos, 1), 0);
    let mut tables = Tables::default();
    tables.commit(projection.take_changes());
    let restored = tables.load(BOUNDS, 2, 0).finish().0;
    let queues = restored.sessions.iter().flat_map(|session| &session.queue);
    assert_eq!(queues.map(|kept| kept.retain).collect::<Vec<_>>(), [true]);
}

fn kept(client_id: String, filters: Vec<(String, QoS)>) -> KeptSession {
    let held = |(filter, qos): (String, QoS)| {
        let Change::Subscribe { options, .. } = subscribe("", qos, 1) else {
            unreachable!()
        };
        (filter.into(), options)
    };
    KeptSession {
        client_id: client_id.into(),
        username: None,
        level: 4,
        expiry_s: 1_000,
        left_ms: None,
        will: None,
        subscriptions: filters.into_iter().map(held).collect(),
        queue: Vec::new(),
        releasing: Vec::new(),
        taken: Vec::new(),
        last_packet_id: 0,
    }
}

fn group(filter: &str, messages: usize) -> KeptGroup {
    KeptGroup {
        name: format!("\0{filter}").into(),
        queue: (0..messages)
            .map(|number| message(&number.to_string(), QoS::AtLeastOnce))
            .collect(),
    }
}

#[test]
fn what_waits_for_a_group_is_dealt_out_to_the_members_that_stay_and_keep_it() {
    let one = |name: &str, qos| kept(name.into(), vec![("$share/g/t".into(), qos)]);
    let mut sessions = vec![
        one("a", QoS::AtLeastOnce),
        one("b", QoS::AtMostOnce),
        one("c", QoS::ExactlyOnce),
        one("d", QoS::AtLeastOnce),
        kept("e".into(), vec![("t".into(), QoS::AtLeastOnce)]),
    ];
    sessions[3].expiry_s = 0;
    KeptGroup::deal_all(
        vec![group("$share/g/t", 10), group("$share/h/t", 3)],
        &mut sessions,
    );
    let dealt: Vec<usize> = sessions.iter().map(|session| session.queue.len()).collect();
    assert_eq!(dealt, [5, 0, 5, 0, 0]);
}

#[test]
fn very_many_groups_are_dealt_out_to_very_many_sessions_in_no_time() {
    const MANY: usize = 50_000;
    let filter = |number: usize| format!("$share/g/{number}");
    let mut sessions: Vec<_> = (0..MANY)
        .map(|number| kept(number.to_string(), vec![(filter(number), QoS::AtLeastOnce)]))
        .collect();
    let groups = (0..MANY).map(|number| group(&filter(number), 1)).collect();
    let begin = std::time::Instant::now();
    KeptGroup::deal_all(groups, &mut sessions);
    assert!(sessions.iter().all(|session| session.queue.len() == 1));
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

#[test]
fn the_row_of_a_session_is_read_to_its_end() {
    let mut row = rows::session(&Stored::new(GROUP.into()));
    assert_eq!(
        rows::read_session(&row).map(|read| read.client_id),
        Some(GROUP.into())
    );
    row.push(0);
    assert!(rows::read_session(&row).is_none());
}
