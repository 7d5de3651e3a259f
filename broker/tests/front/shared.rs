//! Shared subscriptions: each message goes to one member of a group, and to another when that one is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{
    self, Ack, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, Reason, RetainHandling,
    Subscribe, Subscription, Version,
};
use forebay_broker::hub::SharedStrategy;

use super::support::{Client, Received, TestBroker};

const QUIET: Duration = Duration::from_millis(200);

fn send(client: &mut Client, packet: &Packet<'_>) {
    let mut out = Vec::new();
    codec::encode(Version::V5, packet, &mut out).unwrap();
    client.send_raw(&out);
}

fn ack(id: u16, reason: Reason) -> Ack<'static> {
    Ack {
        packet_id: PacketId::new(id).unwrap(),
        reason,
        properties: Properties::EMPTY,
    }
}

fn member(broker: &TestBroker, id: &str, filter: &str, qos: QoS) -> Client {
    let mut client = Client::connect(broker, id, Version::V5);
    join(&mut client, filter, qos);
    client
}

fn join(client: &mut Client, filter: &str, qos: QoS) {
    client.subscribe(filter, qos, 1);
    assert!(matches!(client.receive(), Received::Suback(1, reasons) if (reasons[0] as u8) < 3));
}

fn publish(client: &mut Client, range: std::ops::Range<u16>, qos: QoS) {
    for number in range.clone() {
        let id = if qos == QoS::AtMostOnce { 0 } else { number + 1 };
        client.publish("jobs/a", &number.to_be_bytes(), qos, id);
    }
    let mut left = if qos == QoS::AtMostOnce { 0 } else { range.len() };
    while left > 0 {
        match client.receive() {
            Received::Puback(..) | Received::Pubcomp(..) => left -= 1,
            Received::Pubrec(id, _) => client.pubrel(id),
            other => panic!("{other:?}"),
        }
    }
}

fn number(payload: &[u8]) -> u16 {
    u16::from_be_bytes(payload.try_into().unwrap())
}

/// Takes what comes until it is quiet, and acknowledges it if asked to.
fn take(client: &mut Client, acknowledge: bool) -> Vec<u16> {
    let mut numbers = Vec::new();
    while let Some(received) = client.try_receive(QUIET) {
        match received {
            Received::Publish(payload, id) => {
                numbers.push(number(&payload));
                if acknowledge && id > 0 {
                    send(client, &Packet::Puback(ack(id, Reason::Success)));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    numbers
}

#[test]
fn each_message_goes_to_one_member_and_all_of_them_get_some() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut members: Vec<Client> = (0..4)
            .map(|n| member(&broker, &format!("m{n}"), "$share/g/jobs/#", qos))
            .collect();
        let mut other = Client::connect(&broker, "three", Version::V311);
        join(&mut other, "$share/h/jobs/+", qos);
        let mut alone = member(&broker, "alone", "jobs/a", qos);
        let mut publisher = Client::connect(&broker, "p", Version::V5);
        publish(&mut publisher, 0..40, qos);
        let got: Vec<Vec<u16>> = members.iter_mut().map(|member| take(member, false)).collect();
        assert!(got.iter().all(|numbers| !numbers.is_empty()), "{got:?}");
        let mut all: Vec<u16> = got.concat();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>(), "each once in the group");
        assert_eq!(take(&mut alone, true).len(), 40);
        let first = take(&mut other, false);
        assert!(first.len() >= 20, "the other group has one member: {first:?}");
    }
    broker.stop();
}

#[test]
fn a_member_that_does_not_acknowledge_gets_no_more_than_its_window() {
    let broker = TestBroker::start(|config| config.limits.max_inflight_messages = 10, Level::Received);
    let mut slow = member(&broker, "slow", "$share/g/jobs/#", QoS::AtLeastOnce);
    let mut quick = member(&broker, "quick", "$share/g/jobs/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    let mut got = Vec::new();
    for part in 0..20 {
        publish(&mut publisher, part * 10..part * 10 + 10, QoS::AtLeastOnce);
        got.append(&mut take(&mut quick, true));
    }
    let held = take(&mut slow, false);
    assert!(held.len() <= 10, "{} at a member whose window is 10", held.len());
    assert_eq!(got.len() + held.len(), 200);
    // It is gone for good: what it had goes to the other.
    drop(slow);
    let mut rest = take(&mut quick, true);
    rest.sort_unstable();
    let mut held = held;
    held.sort_unstable();
    assert_eq!(rest, held);
    broker.stop();
}

#[test]
fn what_a_member_refuses_goes_to_no_other() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut one = member(&broker, "one", "$share/g/jobs/#", QoS::ExactlyOnce);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publish(&mut publisher, 0..1, QoS::AtLeastOnce);
    publish(&mut publisher, 1..2, QoS::ExactlyOnce);
    let mut two = member(&broker, "two", "$share/g/jobs/#", QoS::ExactlyOnce);
    let Received::Publish(_, first) = one.receive() else {
        panic!()
    };
    let Received::Publish(_, second) = one.receive() else {
        panic!()
    };
    send(&mut one, &Packet::Puback(ack(first, Reason::NotAuthorized)));
    send(
        &mut one,
        &Packet::Pubrec(ack(second, Reason::ImplementationSpecificError)),
    );
    one.ping();
    assert_eq!(one.receive(), Received::Pingresp);
    drop(one);
    assert!(take(&mut two, true).is_empty());
    broker.stop();
}

#[test]
fn at_qos_2_what_was_sent_goes_to_no_other_and_what_waits_does() {
    let broker = TestBroker::start(|config| config.limits.max_inflight_messages = 3, Level::Received);
    let mut one = member(&broker, "one", "$share/g/jobs/#", QoS::ExactlyOnce);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publish(&mut publisher, 0..10, QoS::ExactlyOnce);
    assert_eq!(take(&mut one, false), [0, 1, 2]);
    let mut two = member(&broker, "two", "$share/g/jobs/#", QoS::AtLeastOnce);
    drop(one);
    assert_eq!(take(&mut two, true), [3, 4, 5, 6, 7, 8, 9]);
    broker.stop();
}

#[test]
fn at_qos_2_a_kept_member_that_is_back_is_sent_what_it_did_not_acknowledge() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut one = Client::connect_kept(&broker, "one", Version::V5);
    join(&mut one, "$share/g/jobs/#", QoS::ExactlyOnce);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publish(&mut publisher, 0..3, QoS::ExactlyOnce);
    assert_eq!(take(&mut one, false), [0, 1, 2]);
    let mut two = member(&broker, "two", "$share/g/jobs/#", QoS::ExactlyOnce);
    one.disconnect(None);
    assert!(take(&mut two, false).is_empty());
    let mut one = Client::connect_kept(&broker, "one", Version::V5);
    assert_eq!(take(&mut one, false), [0, 1, 2]);
    broker.stop();
}

#[test]
fn a_kept_member_that_is_away_gets_what_comes_while_nobody_is_there() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut away = Client::connect_kept(&broker, "away", Version::V5);
    join(&mut away, "$share/g/jobs/#", QoS::AtLeastOnce);
    let mut here = member(&broker, "here", "$share/g/jobs/#", QoS::AtLeastOnce);
    away.disconnect(None);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publish(&mut publisher, 0..20, QoS::AtLeastOnce);
    assert_eq!(take(&mut here, true).len(), 20, "one is connected");
    here.unsubscribe("$share/g/jobs/#", 2);
    assert_eq!(here.receive(), Received::Unsuback(2));
    publish(&mut publisher, 20..30, QoS::AtLeastOnce);
    let mut away = Client::connect_kept(&broker, "away", Version::V5);
    assert_eq!(take(&mut away, true), (20..30).collect::<Vec<_>>());
    // A session that ends gives up its place: what waits for it goes to who is there.
    away.disconnect(None);
    publish(&mut publisher, 30..33, QoS::AtLeastOnce);
    join(&mut here, "$share/g/jobs/#", QoS::AtLeastOnce);
    let clean = Client::connect(&broker, "away", Version::V5);
    assert!(!clean.session_present);
    assert_eq!(take(&mut here, true), [30, 31, 32]);
    broker.stop();
}

#[test]
fn a_group_gets_nothing_retained_and_a_member_its_own_copies_beside() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    send(
        &mut publisher,
        &Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: "jobs/a",
            packet_id: None,
            payload: &0u16.to_be_bytes(),
            properties: Properties::EMPTY,
        }),
    );
    publisher.ping();
    assert_eq!(publisher.receive(), Received::Pingresp);
    let mut client = Client::connect(&broker, "one", Version::V5);
    for (filter, number) in [("$share/g/jobs/#", 7), ("$share/h/jobs/+", 8)] {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SubscriptionIdentifier(number));
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            filters: vec![Subscription {
                filter,
                qos: QoS::AtMostOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Send,
            }],
            properties: properties.as_properties(),
        };
        send(&mut client, &Packet::Subscribe(subscribe));
        assert_eq!(client.receive(), Received::Suback(1, vec![Reason::Success]));
    }
    client.expect_silence(QUIET);
    join(&mut client, "jobs/a", QoS::AtMostOnce);
    assert_eq!(take(&mut client, false), [0], "for the plain subscription");
    publish(&mut publisher, 1..2, QoS::AtMostOnce);
    let ids: BTreeSet<Vec<u32>> = (0..3).map(|_| subscription_ids(&mut client)).collect();
    assert_eq!(ids, BTreeSet::from([vec![], vec![7], vec![8]]));
    client.expect_silence(QUIET);
    broker.stop();
}

fn subscription_ids(client: &mut Client) -> Vec<u32> {
    let frame = client.frame().unwrap();
    match codec::decode(Version::V5, &frame).unwrap() {
        Packet::Publish(publish) => publish.properties.subscription_ids().collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_group_outlives_a_storm_of_members_that_come_and_go() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut stays = member(&broker, "stays", "$share/g/jobs/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    let mut got = BTreeSet::new();
    for round in 0..30u16 {
        let guest = member(&broker, "guest", "$share/g/jobs/#", QoS::AtLeastOnce);
        publish(&mut publisher, round * 10..round * 10 + 10, QoS::AtLeastOnce);
        drop(guest); // it acknowledged nothing
        if round % 5 == 4 {
            got.extend(take(&mut stays, true));
        }
    }
    while got.len() < 300 {
        let more = take(&mut stays, true);
        assert!(!more.is_empty(), "{} of 300", got.len());
        got.extend(more);
    }
    broker.stop();
}

#[test]
fn shared_subscriptions_above_their_bound_are_refused() {
    let broker = TestBroker::start(
        |config| config.limits.max_shared_subscriptions = 2,
        Level::Received,
    );
    for (version, refused) in [
        (Version::V5, Reason::QuotaExceeded),
        (Version::V311, Reason::UnspecifiedError),
    ] {
        let mut client = Client::connect(&broker, "c", version);
        for (id, filter) in [
            (1, "$share/a/#"),
            (2, "$share/b/#"),
            (3, "$share/a/#"),
            (4, "$share/c/#"),
            (5, "#"),
        ] {
            client.subscribe(filter, QoS::AtMostOnce, id);
            let expected = if id == 4 { refused } else { Reason::Success };
            assert_eq!(client.receive(), Received::Suback(id, vec![expected]), "{filter}");
        }
        client.unsubscribe("$share/a/#", 6);
        assert_eq!(client.receive(), Received::Unsuback(6));
        client.subscribe("$share/c/#", QoS::AtMostOnce, 7);
        assert_eq!(client.receive(), Received::Suback(7, vec![Reason::Success]));
    }
    broker.stop();
}

/// At most 5 messages wait for each member and one is sent: what one has no room for goes to who has.
#[test]
fn a_member_without_room_is_passed_over_for_one_that_is_away_and_has_room() {
    for strategy in [
        SharedStrategy::LeastInflight,
        SharedStrategy::RoundRobin,
        SharedStrategy::Sticky,
    ] {
        let broker = TestBroker::start(
            |config| {
                config.limits.max_queued_messages = 5;
                config.limits.max_inflight_messages = 1;
                config.limits.shared_strategy = strategy;
                config.workers = 1; // what a member of another worker has no room for is known a little later
            },
            Level::Received,
        );
        let mut away = Client::connect_kept(&broker, "away", Version::V5);
        join(&mut away, "$share/g/jobs/#", QoS::AtLeastOnce);
        let mut vain = Client::connect_kept(&broker, "vain", Version::V5);
        join(&mut vain, "$share/g/jobs/#", QoS::AtMostOnce);
        away.disconnect(None);
        vain.disconnect(None);
        let mut here: Vec<Client> = ["a", "b"]
            .iter()
            .map(|id| member(&broker, id, "$share/g/jobs/#", QoS::AtLeastOnce))
            .collect();
        let mut publisher = Client::connect(&broker, "p", Version::V5);
        publish(&mut publisher, 0..15, QoS::AtLeastOnce);
        let mut got: Vec<u16> = here.iter_mut().flat_map(|member| take(member, true)).collect();
        let mut away = Client::connect_kept(&broker, "away", Version::V5);
        let later = take(&mut away, true);
        assert!((3..=5).contains(&later.len()), "{strategy:?}: {later:?}");
        got.extend(later);
        got.sort_unstable();
        assert_eq!(got, (0..15).collect::<Vec<_>>(), "{strategy:?}");
        broker.stop();
    }
}

/// Finding a member among those that are away: what is acknowledged waits for the one for which messages are kept.
#[test]
fn what_comes_while_all_are_away_waits_for_a_member_that_keeps_it() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    let mut keeps = Client::connect_kept(&broker, "keeps", Version::V5);
    join(&mut keeps, "$share/g/jobs/#", QoS::AtLeastOnce);
    let mut forgets = Client::connect_kept(&broker, "forgets", Version::V5);
    join(&mut forgets, "$share/g/jobs/#", QoS::AtMostOnce);
    keeps.disconnect(None);
    forgets.disconnect(None);
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    publish(&mut publisher, 0..20, QoS::AtLeastOnce);
    let mut keeps = Client::connect_kept(&broker, "keeps", Version::V5);
    assert_eq!(take(&mut keeps, true), (0..20).collect::<Vec<_>>());
    broker.stop();
}

/// More members than are looked at for one message.
#[test]
fn in_a_large_group_whose_members_are_away_the_one_that_is_back_gets_all() {
    let broker = TestBroker::start(|_| {}, Level::Received);
    for number in 0..600 {
        let mut away = Client::connect_kept(&broker, &format!("m{number}"), Version::V5);
        join(&mut away, "$share/g/jobs/#", QoS::AtLeastOnce);
        away.disconnect(None);
    }
    let mut publisher = Client::connect(&broker, "p", Version::V5);
    for (number, id) in (0u16..).zip(["m0", "m300", "m599"]) {
        let mut back = Client::connect_kept(&broker, id, Version::V5);
        publish(&mut publisher, number * 50..number * 50 + 50, QoS::AtLeastOnce);
        assert_eq!(take(&mut back, true).len(), 50, "{id}");
        back.disconnect(None);
    }
    broker.stop();
}
