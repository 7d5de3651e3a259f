//! Random operations on a session, with a client that keeps to the protocol: whatever happens, nothing is published
//! twice at QoS 2, nothing is lost, every order holds, every topic is the one that was meant, behind a mount point and by
//! its number too, and a will is published when its delay has passed, and only then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use crate::codec::*;
use crate::session::{Delivered, Detach, Message, Request, Ticket, TimeoutKind, Whole};
use crate::testing::pair::*;
use QoS::*;

const WINDOW: u16 = 3;

/// As the client knows them.
const TOPICS: [&str; 4] = ["a", "b", "c/d", "e"];

/// Topics that are numbered for the client at most: fewer than there are.
const NUMBERS: u16 = 2;

const WILL_DELAY_MS: u64 = 3_000;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// The client publishes something new, on this topic, with this number for it (0: none).
    Publish(bool, usize, u16),
    /// A publish of the client, on this topic and with this number, finds no room and is never taken.
    Hold(usize, u16),
    /// The broker decides one of what waits.
    Settle(usize),
    /// A message comes for the client, on this topic; on the last one it lies outside its mount point.
    Deliver(bool, usize),
    /// The client reads what is there.
    Read,
    /// The client answers the oldest message it has read.
    Answer,
    /// The client releases the oldest publish that has its PUBREC.
    Release,
    /// The connection breaks, with or without what was just sent, and the client comes back after this time.
    Break(bool, u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (any::<bool>(), 0..TOPICS.len(), 0u16..4).prop_map(|(q, topic, number)| Op::Publish(q, topic, number)),
        1 => (0..TOPICS.len(), 1u16..4).prop_map(|(topic, number)| Op::Hold(topic, number)),
        4 => any::<usize>().prop_map(Op::Settle),
        4 => (any::<bool>(), 0..=TOPICS.len()).prop_map(|(q, topic)| Op::Deliver(q, topic)),
        4 => Just(Op::Read),
        3 => Just(Op::Answer),
        2 => Just(Op::Release),
        1 => (any::<bool>(), 0..2 * WILL_DELAY_MS).prop_map(|(sent, away_ms)| Op::Break(sent, away_ms)),
    ];
    proptest::collection::vec(op, 1..150)
}

/// A publish of the client that is not complete.
#[derive(Debug, Clone, Copy)]
struct Own {
    number: u32,
    id: u16,
    qos: QoS,
    topic: usize,
    alias: u16,
    /// PUBREC was read.
    received: bool,
}

struct Client {
    pair: Pair,
    own: Vec<Own>,
    /// Ids of this connection's publishes, as they are to be acknowledged.
    acks: VecDeque<u16>,
    tickets: Vec<(Ticket, u32)>,
    /// How often each publish was accepted.
    accepted: BTreeMap<u32, u32>,
    published: u32,
    last_id: u16,
    /// The topics of the client's numbers, on this connection.
    numbered: BTreeMap<u16, usize>,
    /// The topics of the broker's numbers, on this connection.
    told: BTreeMap<u16, String>,
    delivered: Vec<(u32, QoS, usize)>,
    /// Messages in the order in which they were first read.
    read: Vec<u32>,
    /// What is to be answered: packet id and message.
    unanswered: VecDeque<(u16, u32)>,
    answered: BTreeSet<u32>,
    releasing: VecDeque<u16>,
}

/// A client that takes numbers for topics, with a will that waits.
fn with_will(version: Version) -> Connect<'static> {
    let v5 = version == Version::V5;
    let of = |all: &[Property<'_>]| if v5 { properties(all) } else { Properties::EMPTY };
    Connect {
        will: Some(Will {
            topic: "gone",
            payload: b"x",
            qos: AtMostOnce,
            retain: false,
            properties: of(&[Property::WillDelayInterval(WILL_DELAY_MS as u32 / 1_000)]),
        }),
        properties: of(&[
            Property::SessionExpiryInterval(100),
            Property::TopicAliasMaximum(NUMBERS),
        ]),
        ..connect(version)
    }
}

fn publish_on(topic: &'static str, alias: u16, qos: QoS, id: u16, dup: bool) -> Publish<'static> {
    Publish {
        dup,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(id),
        payload: b"x",
        properties: match alias {
            0 => Properties::EMPTY,
            alias => properties(&[Property::TopicAlias(alias)]),
        },
    }
}

impl Client {
    fn new(version: Version, mount: Option<&str>) -> Self {
        let mut pair = Pair::new(version, |limits| limits.max_inflight_messages = WINDOW);
        pair.mount = mount.map(Into::into);
        pair.connect(with_will(version), false);
        Self {
            pair,
            own: Vec::new(),
            acks: VecDeque::new(),
            tickets: Vec::new(),
            accepted: BTreeMap::new(),
            published: 0,
            last_id: 0,
            numbered: BTreeMap::new(),
            told: BTreeMap::new(),
            delivered: Vec::new(),
            read: Vec::new(),
            unanswered: VecDeque::new(),
            answered: BTreeSet::new(),
            releasing: VecDeque::new(),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish(exactly_once, topic, alias) => {
                self.published += 1;
                self.last_id += 1;
                let own = Own {
                    number: self.published,
                    id: self.last_id,
                    qos: if exactly_once { ExactlyOnce } else { AtLeastOnce },
                    topic,
                    alias,
                    received: false,
                };
                self.own.push(own);
                self.send_own(own, false);
            }
            Op::Settle(which) => {
                if !self.tickets.is_empty() {
                    let (ticket, _) = self.tickets.remove(which % self.tickets.len());
                    self.pair.session.settle(ticket, Ok(()));
                }
            }
            Op::Hold(topic, alias) => {
                if self.pair.version == Version::V5 {
                    let mut room = Whole::default();
                    let held = publish_on(TOPICS[topic], alias, AtLeastOnce, 1, false);
                    self.pair.session.resolve(held, &mut room).unwrap();
                }
            }
            Op::Deliver(exactly_once, topic) => self.deliver(exactly_once, topic),
            Op::Read => self.read(),
            Op::Answer => self.answer(),
            Op::Release => {
                if let Some(own) = self.own.iter().find(|own| own.received) {
                    let _ = self
                        .pair
                        .send(Packet::Pubrel(ack(own.id, Reason::Success)))
                        .unwrap();
                }
            }
            Op::Break(after_sending, away_ms) => self.reconnect(after_sending, away_ms),
        }
        assert!(self.pair.session.inflight() <= usize::from(WINDOW));
    }

    fn mount(&self) -> String {
        self.pair.mount.as_deref().unwrap_or_default().to_owned()
    }

    fn deliver(&mut self, exactly_once: bool, topic: usize) {
        let number = self.delivered.len() as u32;
        let qos = if exactly_once { ExactlyOnce } else { AtLeastOnce };
        let outside = topic == TOPICS.len();
        if outside && self.pair.mount.is_none() {
            return;
        }
        let mut message = Message::clone(&message(&number.to_string(), qos));
        message.topic = match outside {
            true => "elsewhere/a".into(),
            false => (self.mount() + TOPICS[topic]).into(),
        };
        let to = to(ExactlyOnce, &[]);
        let delivered = self
            .pair
            .session
            .deliver(self.pair.now_ms, &Arc::new(message), &to, false);
        assert_eq!(delivered, Delivered::Queued);
        if !outside {
            self.delivered.push((number, qos, topic));
        }
    }

    fn send_own(&mut self, own: Own, dup: bool) {
        self.acks.push_back(own.id);
        let alias = if self.pair.version == Version::V5 {
            own.alias
        } else {
            0
        };
        let topic = match self.numbered.get(&alias) {
            Some(known) if *known == own.topic => "",
            _ => TOPICS[own.topic],
        };
        if alias > 0 {
            self.numbered.insert(alias, own.topic);
        }
        let publish = publish_on(topic, alias, own.qos, own.id, dup);
        let mut room = Whole::default();
        let whole = self.pair.session.resolve(publish.clone(), &mut room).unwrap();
        assert_eq!(whole.topic, self.mount() + TOPICS[own.topic]);
        assert_eq!(whole.properties.topic_alias(), None);
        match self.pair.send(Packet::Publish(publish)).unwrap() {
            Request::Publish { ticket, .. } => {
                *self.accepted.entry(own.number).or_default() += 1;
                self.tickets.push((ticket.unwrap(), own.number));
            }
            request => assert_eq!(request, Request::None),
        }
    }

    fn read(&mut self) {
        for line in self.pair.read() {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            match kind {
                "CONNACK" => {}
                "PUBLISH" => self.read_publish(&line),
                _ => self.read_answer(kind, words.next().unwrap().parse().unwrap()),
            }
        }
    }

    fn read_publish(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let qos = QoS::try_from(words[1].parse::<u8>().unwrap()).unwrap();
        let number: u32 = words[2].parse().unwrap();
        let word = |mark: &str| words.iter().find_map(|word| word.strip_prefix(mark));
        let id: u16 = word("#").unwrap().parse().unwrap();
        let topic = word("@").unwrap();
        let alias: Option<u16> = word("alias=").map(|alias| alias.parse().unwrap());
        let topic = match (topic, alias) {
            ("", Some(alias)) => self.told[&alias].clone(),
            (topic, Some(alias)) => {
                assert!((1..=NUMBERS).contains(&alias));
                let before = self.told.insert(alias, topic.to_owned());
                assert_eq!(before, None, "who comes first keeps its number");
                topic.to_owned()
            }
            (topic, None) => {
                let all = self.pair.version != Version::V5 || self.told.len() == usize::from(NUMBERS);
                assert!(all, "not numbered: {line}");
                topic.to_owned()
            }
        };
        let again = self.read.contains(&number);
        assert!(!again || words.contains(&"dup"), "sent again without DUP: {line}");
        if !again {
            self.read.push(number);
        }
        let in_use = self.unanswered.iter().any(|(other, _)| *other == id) || self.releasing.contains(&id);
        assert!(again || !in_use, "an id is used twice at once: {line}");
        let (_, sent_at, sent_on) = self.delivered[number as usize];
        assert_eq!((sent_at, TOPICS[sent_on]), (qos, topic.as_str()));
        assert!(
            !self.answered.contains(&number),
            "sent again after its acknowledgement: {line}"
        );
        self.unanswered.push_back((id, number));
    }

    fn read_answer(&mut self, kind: &str, id: u16) {
        match kind {
            "PUBACK" | "PUBREC" => {
                assert_eq!(self.acks.pop_front(), Some(id), "acknowledged out of order");
                let at = self
                    .own
                    .iter()
                    .position(|own| own.id == id)
                    .expect("an id of ours");
                assert_eq!(kind == "PUBACK", self.own[at].qos == AtLeastOnce);
                assert!(self.accepted.contains_key(&self.own[at].number));
                match kind {
                    "PUBACK" => drop(self.own.remove(at)),
                    _ => self.own[at].received = true,
                }
            }
            "PUBCOMP" => self.own.retain(|own| own.id != id),
            "PUBREL" => self.releasing.push_back(id),
            _ => panic!("{kind}"),
        }
    }

    fn answer(&mut self) {
        if let Some(id) = self.releasing.pop_front() {
            self.pair.send(Packet::Pubcomp(ack(id, Reason::Success))).unwrap();
        } else if let Some((id, number)) = self.unanswered.pop_front() {
            let ack = ack(id, Reason::Success);
            let packet = match self.delivered[number as usize].1 {
                ExactlyOnce => Packet::Pubrec(ack),
                _ => Packet::Puback(ack),
            };
            self.answered.insert(number);
            self.pair.send(packet).unwrap();
        }
    }

    fn reconnect(&mut self, after_sending: bool, away_ms: u64) {
        if after_sending {
            self.pair.read(); // lost on the way
        }
        let version = self.pair.version;
        let at_once = self.pair.lose(Detach::Lost).is_some();
        assert_eq!(at_once, version != Version::V5, "3.x knows no delay");
        self.pair.now_ms += away_ms;
        let due = self.pair.session.handle_timeout(self.pair.now_ms) == Some(TimeoutKind::WillDelay);
        assert_eq!(due, !at_once && away_ms >= WILL_DELAY_MS);
        assert_eq!(self.pair.session.has_late_will(), !at_once);
        if due {
            assert!(self.pair.session.take_late_will().is_some());
            let again = self.pair.session.handle_timeout(self.pair.now_ms);
            assert_eq!(again, None, "only once");
        }
        self.pair.session.return_will(false);
        assert!(!self.pair.session.has_late_will());
        self.pair.connect(with_will(version), true);
        self.numbered.clear();
        self.told.clear();
        self.acks.clear();
        self.unanswered.clear();
        self.releasing.clear();
        for own in self.own.clone() {
            match own.received {
                true => drop(
                    self.pair
                        .send(Packet::Pubrel(ack(own.id, Reason::Success)))
                        .unwrap(),
                ),
                false => self.send_own(own, true),
            }
        }
    }

    /// Everything comes to its end.
    fn finish(&mut self) {
        for _ in 0..2_000 {
            while let Some((ticket, _)) = self.tickets.pop() {
                self.pair.session.settle(ticket, Ok(()));
            }
            for op in [Op::Read, Op::Answer, Op::Release] {
                self.run(op);
            }
        }
        assert!(self.own.is_empty(), "never acknowledged: {:?}", self.own);
        assert_eq!(self.pair.session.inflight() + self.pair.session.queued(), 0);
        let all: Vec<u32> = (0..self.delivered.len() as u32).collect();
        assert_eq!(self.read, all, "every message once at least, first in order");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(ops in ops(), v5: bool, mounted: bool) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let mut client = Client::new(version, mounted.then_some("site/"));
        let mut qos2 = BTreeSet::new();
        for op in ops {
            client.run(op);
            qos2.extend(client.own.iter().filter(|own| own.qos == ExactlyOnce).map(|own| own.number));
        }
        client.finish();
        for number in 1..=client.published {
            let times = client.accepted[&number];
            prop_assert!(times == 1 || !qos2.contains(&number), "published {times} times at QoS 2");
        }
    }
}
