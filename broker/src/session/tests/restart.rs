//! A kept session over restarts: cases, and random operations with a log and a store of the plainest kind beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use crate::classify::Level;
use crate::codec::*;
use crate::config::Limits;
use crate::hub::SubscriptionIds;
use crate::session::{Delivered, Detach, Request, Restart, Session, SessionLimits, Ticket, id_jump};
use crate::store::{KeptMessage, KeptSession, StoreEvent, TakenId};
use crate::testing::pair::*;
use QoS::*;

fn kept() -> KeptSession {
    KeptSession {
        client_id: "dev".into(),
        username: None,
        level: 4,
        expiry_s: 3_600,
        left_ms: None,
        will: None,
        subscriptions: Vec::new(),
        queue: Vec::new(),
        releasing: Vec::new(),
        taken: Vec::new(),
        last_packet_id: 0,
    }
}

fn kept_message(payload: &str, qos: QoS, packet_id: Option<u16>) -> KeptMessage {
    KeptMessage {
        message: message(payload, qos),
        qos,
        retain: false,
        ids: SubscriptionIds::new(),
        packet_id,
        share: None,
    }
}

fn taken(packet_id: u16, level: Level, sequence: u64) -> TakenId {
    TakenId {
        packet_id,
        fingerprint: 0,
        level,
        sequence,
    }
}

#[test]
fn what_was_on_its_way_goes_on_and_the_rest_follows_under_other_ids() {
    let mut pair = Pair::new(Version::V311, |_| {});
    let mut kept = kept();
    kept.queue = vec![
        kept_message("a", AtLeastOnce, Some(4)),
        kept_message("b", ExactlyOnce, Some(6)),
        kept_message("c", AtLeastOnce, None),
    ];
    kept.releasing = vec![5, 3];
    kept.last_packet_id = 6;
    pair.restart(kept);
    assert_eq!((pair.session.inflight(), pair.session.queued()), (4, 1));
    assert_eq!(pair.deliver("d", AtLeastOnce), Delivered::Queued);
    pair.connect(connect(Version::V311), true);
    assert_eq!(
        pair.read(),
        [
            "CONNACK Success present",
            "PUBREL 5",
            "PUBREL 3",
            "PUBLISH 1 a #4 dup",
            "PUBLISH 2 b #6 dup",
            "PUBLISH 1 c #507",
            "PUBLISH 1 d #508"
        ]
    );
}

#[test]
fn a_publish_that_came_before_the_restart_is_known() {
    let mut pair = Pair::new(Version::V311, |_| {});
    let mut kept = kept();
    kept.taken = vec![
        taken(9, Level::Spooled, 1),
        taken(2, Level::Kafka, 7),
        taken(3, Level::Kafka, 8),
        taken(4, Level::Kafka, 9),
    ];
    let waiting = pair.restart(kept);
    assert_eq!(
        waiting.iter().map(|(_, sequence)| *sequence).collect::<Vec<_>>(),
        [7, 8, 9]
    );
    pair.connect(connect(Version::V311), true);
    pair.read();
    pair.publish_again(ExactlyOnce, 9);
    assert_eq!(pair.read(), ["PUBREC 9"]);
    pair.publish_again(ExactlyOnce, 2);
    assert!(pair.read().is_empty(), "it is not known yet whether Kafka has it");
    pair.session.settle(waiting[0].0, Ok(()));
    assert_eq!(pair.read(), ["PUBREC 2"]);
    pair.session.settle(waiting[1].0, Ok(()));
    pair.publish_again(ExactlyOnce, 3);
    assert_eq!(pair.read(), ["PUBREC 3"]);
    // Its PUBREC came before the restart: the client goes on.
    pair.send(Packet::Pubrel(ack(4, Reason::Success))).unwrap();
    assert_eq!(pair.read(), ["PUBCOMP 4"]);
    pair.session.settle(waiting[2].0, Ok(()));
    pair.publish(ExactlyOnce, 4);
}

#[test]
fn expiry_goes_on_where_it_was() {
    let timeout = |expiry_s, away_ms| {
        let mut kept = kept();
        kept.expiry_s = expiry_s;
        let restart = Restart {
            now_ms: 5_000,
            away_ms,
            will_grace_ms: 0,
            id_jump: 0,
        };
        let (session, _) = Session::restore(kept, SessionLimits::from(&Limits::default()), restart);
        session.poll_timeout()
    };
    assert_eq!(timeout(100, 30_000), Some(75_000));
    assert_eq!(timeout(100, 300_000), Some(0), "long ago");
    assert_eq!(timeout(u32::MAX, 300_000), None);
}

#[test]
fn no_run_begins_with_the_ids_of_the_one_before() {
    for epoch in [1, 1_700_000_000_000, u64::MAX - 20_000] {
        let jumps: BTreeSet<u16> = (0..10).map(|run| id_jump(epoch + run * 997)).collect();
        assert_eq!(jumps.len(), 10, "{jumps:?}");
        assert!(
            jumps.iter().all(|jump| (8_192..=57_344).contains(jump)),
            "{jumps:?}"
        );
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish(bool),
    Release,
    Deliver(bool),
    Read,
    Answer,
    /// All that was written down is durable.
    Sync,
    /// The store commits so much of what it was told.
    Commit(u8),
    Break,
    /// The process is killed; so much of what was not synced is in the log all the same.
    Kill(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => any::<bool>().prop_map(Op::Publish),
        3 => Just(Op::Release),
        4 => any::<bool>().prop_map(Op::Deliver),
        5 => Just(Op::Read),
        4 => Just(Op::Answer),
        5 => Just(Op::Sync),
        3 => any::<u8>().prop_map(Op::Commit),
        1 => Just(Op::Break),
        2 => any::<u8>().prop_map(Op::Kill),
    ];
    proptest::collection::vec(op, 1..200)
}

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Publish { number: u32, id: u16, qos: QoS },
    Release(u16),
    Deliver { number: u32, qos: QoS },
}

/// What the store has committed of what it was told.
#[derive(Debug, Clone, Default)]
struct Store {
    ids: BTreeMap<u32, u16>,
    done: BTreeSet<u32>,
    releasing: Vec<u16>,
    last_packet_id: u16,
}

impl Store {
    fn apply(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Sent {
                origin, packet_id, ..
            }
            | StoreEvent::Claimed {
                origin, packet_id, ..
            } => {
                self.ids.insert(origin.number as u32, *packet_id);
                self.last_packet_id = *packet_id;
            }
            StoreEvent::Received {
                origin, packet_id, ..
            } => {
                self.done.insert(origin.number as u32);
                self.releasing.push(*packet_id);
            }
            StoreEvent::Walked { .. } => {}
            StoreEvent::Completed { packet_id, .. } => self.releasing.retain(|id| id != packet_id),
            StoreEvent::Done { origin, .. } => drop(self.done.insert(origin.number as u32)),
        }
    }

    /// The session after a restart, by this and the log.
    fn project(&self, log: &[Record]) -> KeptSession {
        let mut kept = kept();
        kept.releasing = self.releasing.clone();
        kept.last_packet_id = self.last_packet_id;
        for (sequence, record) in log.iter().enumerate() {
            match *record {
                Record::Publish {
                    id, qos: ExactlyOnce, ..
                } => {
                    kept.taken.push(taken(id, Level::Spooled, sequence as u64));
                }
                Record::Publish { .. } => {}
                Record::Release(id) => kept.taken.retain(|taken| taken.packet_id != id),
                Record::Deliver { number, qos } if !self.done.contains(&number) => {
                    let mut message = kept_message(&number.to_string(), qos, self.ids.get(&number).copied());
                    message.message = Arc::new(with_origin(&number.to_string(), qos, u64::from(number)));
                    kept.queue.push(message);
                }
                Record::Deliver { .. } => {}
            }
        }
        kept
    }
}

/// A publish of the client that is not complete.
#[derive(Debug, Clone, Copy)]
struct Own {
    number: u32,
    id: u16,
    qos: QoS,
    received: bool,
    /// PUBREL was sent on this connection.
    released: bool,
}

struct World {
    pair: Pair,
    log: Vec<Record>,
    durable: usize,
    tickets: Vec<Ticket>,
    store: Store,
    events: VecDeque<StoreEvent>,
    own: Vec<Own>,
    published: u32,
    delivered: u32,
    /// Messages in the order in which the client read them first.
    read: Vec<u32>,
    unanswered: VecDeque<(u16, u32, QoS)>,
    releasing: VecDeque<u16>,
    /// Ids that the client holds from its PUBREC to PUBREL, with their message.
    held: BTreeMap<u16, u32>,
}

impl World {
    fn new(version: Version) -> Self {
        let mut pair = Pair::new(version, |limits| {
            limits.max_inflight_messages = 3;
            limits.tells_store = true;
        });
        pair.slow_log = true;
        pair.connect(connect(version), false);
        Self {
            pair,
            log: Vec::new(),
            durable: 0,
            tickets: Vec::new(),
            store: Store::default(),
            events: VecDeque::new(),
            own: Vec::new(),
            published: 0,
            delivered: 0,
            read: Vec::new(),
            unanswered: VecDeque::new(),
            releasing: VecDeque::new(),
            held: BTreeMap::new(),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish(exactly_once) => self.publish(if exactly_once { ExactlyOnce } else { AtLeastOnce }),
            Op::Release => {
                if let Some(own) = self.own.iter().find(|own| own.received && !own.released).copied() {
                    self.pubrel(own.id);
                }
            }
            Op::Deliver(exactly_once) => {
                let qos = if exactly_once { ExactlyOnce } else { AtLeastOnce };
                let number = self.delivered;
                self.delivered += 1;
                self.log.push(Record::Deliver { number, qos });
                let delivered = self.pair.deliver_from(u64::from(number), qos);
                assert_eq!(delivered, Delivered::Queued);
            }
            Op::Read => self.read(),
            Op::Answer => self.answer(),
            Op::Sync => {
                self.durable = self.log.len();
                for ticket in std::mem::take(&mut self.tickets) {
                    self.pair.session.settle(ticket, Ok(()));
                }
                self.pair.sync();
            }
            Op::Commit(part) => {
                let count = self.events.len() * usize::from(part) / 255;
                for event in self.events.drain(..count) {
                    self.store.apply(&event);
                }
            }
            Op::Break => {
                self.pair.lose(Detach::Lost);
                self.come_back();
            }
            Op::Kill(part) => self.kill(part),
        }
        let mut events = Vec::new();
        self.pair.session.take_events(&mut events);
        self.events.extend(events);
    }

    fn kill(&mut self, part: u8) {
        let unsynced = self.log.len() - self.durable;
        self.log
            .truncate(self.durable + unsynced * usize::from(part) / 255);
        self.durable = self.log.len();
        self.tickets.clear();
        self.events.clear();
        self.pair.restart(self.store.project(&self.log));
        self.come_back();
    }

    fn come_back(&mut self) {
        let version = self.pair.version;
        self.pair.connect(connect(version), true);
        self.unanswered.clear();
        self.releasing.clear();
        for own in &mut self.own {
            own.released = false;
        }
        for own in self.own.clone() {
            match own.received {
                true => self.pubrel(own.id),
                false => self.send_own(own, true),
            }
        }
    }

    fn publish(&mut self, qos: QoS) {
        let free = (1..6).find(|id| self.own.iter().all(|own| own.id != *id));
        let Some(id) = free else { return };
        self.published += 1;
        let own = Own {
            number: self.published,
            id,
            qos,
            received: false,
            released: false,
        };
        self.own.push(own);
        self.send_own(own, false);
    }

    fn send_own(&mut self, own: Own, dup: bool) {
        let topic = Box::leak(format!("t/{}", own.number).into_boxed_str());
        match self.pair.send(publish(topic, own.qos, own.id, dup)).unwrap() {
            Request::Publish { ticket, .. } => {
                let Own { number, id, qos, .. } = own;
                self.log.push(Record::Publish { number, id, qos });
                self.tickets.push(ticket.unwrap());
            }
            request => assert_eq!(request, Request::None),
        }
    }

    fn pubrel(&mut self, id: u16) {
        for own in self.own.iter_mut().filter(|own| own.id == id) {
            own.released = true;
        }
        let request = self.pair.send(Packet::Pubrel(ack(id, Reason::Success))).unwrap();
        assert!(matches!(request, Request::Released { .. }));
        self.log.push(Record::Release(id));
    }

    fn read(&mut self) {
        for line in self.pair.read() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "CONNACK" => {}
                "PUBLISH" => self.read_publish(&words, &line),
                kind => self.read_answer(kind, words[1].parse().unwrap()),
            }
        }
    }

    fn read_publish(&mut self, words: &[&str], line: &str) {
        let qos = QoS::try_from(words[1].parse::<u8>().unwrap()).unwrap();
        let number: u32 = words[2].parse().unwrap();
        let id: u16 = words[3].trim_start_matches('#').parse().unwrap();
        assert!(
            !self.store.done.contains(&number),
            "the store knew that it is done: {line}"
        );
        if let Some(other) = self.held.get(&id) {
            assert_eq!(*other, number, "an id that the client still holds: {line}");
        }
        if !self.read.contains(&number) {
            assert!(
                self.read.last().is_none_or(|last| *last < number),
                "out of order: {line}"
            );
            self.read.push(number);
        }
        self.unanswered.push_back((id, number, qos));
    }

    fn read_answer(&mut self, kind: &str, id: u16) {
        let of_ours = self.own.iter().position(|own| own.id == id);
        let durable = &self.log[..self.durable];
        match kind {
            "PUBACK" | "PUBREC" => {
                let own = &mut self.own[of_ours.expect("an id of ours")];
                let (number, qos) = (own.number, own.qos);
                assert_eq!(kind == "PUBREC", qos == ExactlyOnce);
                assert!(
                    durable.contains(&Record::Publish { number, id, qos }),
                    "{kind} too early"
                );
                own.received = true;
                if qos == AtLeastOnce {
                    self.own.remove(of_ours.unwrap());
                }
            }
            "PUBCOMP" => {
                let at = of_ours.expect("an id of ours");
                let published = durable.iter().position(
                    |r| matches!(r, Record::Publish { number, .. } if *number == self.own[at].number),
                );
                let released = durable.iter().rposition(|r| *r == Record::Release(id));
                assert!(released.is_some() && released > published, "PUBCOMP too early");
                self.own.remove(at);
            }
            "PUBREL" => {
                self.held.remove(&id);
                self.releasing.push_back(id);
            }
            _ => panic!("{kind}"),
        }
    }

    fn answer(&mut self) {
        if let Some(id) = self.releasing.pop_front() {
            self.pair.send(Packet::Pubcomp(ack(id, Reason::Success))).unwrap();
        } else if let Some((id, number, qos)) = self.unanswered.pop_front() {
            let packet = match qos {
                ExactlyOnce => Packet::Pubrec(ack(id, Reason::Success)),
                _ => Packet::Puback(ack(id, Reason::Success)),
            };
            if qos == ExactlyOnce {
                self.held.insert(id, number);
            }
            self.pair.send(packet).unwrap();
        }
    }

    fn finish(&mut self) {
        for _ in 0..1_000 {
            for op in [Op::Sync, Op::Read, Op::Answer, Op::Release] {
                self.run(op);
            }
        }
        assert!(self.own.is_empty(), "never acknowledged: {:?}", self.own);
        assert_eq!(self.pair.session.inflight() + self.pair.session.queued(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn qos_2_is_in_the_log_once_and_no_message_is_lost_over_restarts(ops in ops(), v5: bool) {
        let mut world = World::new(if v5 { Version::V5 } else { Version::V311 });
        for op in ops {
            world.run(op);
        }
        world.finish();
        let mut times: BTreeMap<(u32, bool), u32> = BTreeMap::new();
        for record in &world.log {
            match record {
                Record::Publish { number, qos, .. } => {
                    *times.entry((*number, *qos == ExactlyOnce)).or_default() += 1;
                }
                Record::Deliver { number, .. } => prop_assert!(world.read.contains(number), "{number} was lost"),
                Record::Release(_) => {}
            }
        }
        for number in 1..=world.published {
            let once = times.get(&(number, true));
            prop_assert!(once.is_none_or(|times| *times == 1), "{number} is in the log {once:?} times");
            prop_assert!(once.is_some() || times.contains_key(&(number, false)), "{number} was lost");
        }
    }
}
