//! Random operations on a session, with a client that keeps to the protocol: whatever happens, nothing is published
//! twice at QoS 2, nothing is lost, and every order holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::codec::*;
use crate::session::{Delivered, Detach, Request, Ticket};
use crate::testing::pair::*;
use QoS::*;

const WINDOW: u16 = 3;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// The client publishes something new.
    Publish(bool),
    /// The broker decides one of what waits.
    Settle(usize),
    /// A message comes for the client.
    Deliver(bool),
    /// The client reads what is there.
    Read,
    /// The client answers the oldest message it has read.
    Answer,
    /// The client releases the oldest publish that has its PUBREC.
    Release,
    /// The connection breaks, with or without what was just sent, and the client comes back.
    Break(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => any::<bool>().prop_map(Op::Publish),
        4 => any::<usize>().prop_map(Op::Settle),
        4 => any::<bool>().prop_map(Op::Deliver),
        4 => Just(Op::Read),
        3 => Just(Op::Answer),
        2 => Just(Op::Release),
        1 => any::<bool>().prop_map(Op::Break),
    ];
    proptest::collection::vec(op, 1..150)
}

/// A publish of the client that is not complete.
#[derive(Debug, Clone, Copy)]
struct Own {
    number: u32,
    id: u16,
    qos: QoS,
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
    delivered: Vec<(u32, QoS)>,
    /// Messages in the order in which they were first read.
    read: Vec<u32>,
    /// What is to be answered: packet id and message.
    unanswered: VecDeque<(u16, u32)>,
    answered: BTreeSet<u32>,
    releasing: VecDeque<u16>,
}

impl Client {
    fn new(version: Version) -> Self {
        let mut pair = Pair::new(version, |limits| limits.max_inflight_messages = WINDOW);
        pair.connect(connect(version), false);
        Self {
            pair,
            own: Vec::new(),
            acks: VecDeque::new(),
            tickets: Vec::new(),
            accepted: BTreeMap::new(),
            published: 0,
            last_id: 0,
            delivered: Vec::new(),
            read: Vec::new(),
            unanswered: VecDeque::new(),
            answered: BTreeSet::new(),
            releasing: VecDeque::new(),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish(exactly_once) => {
                self.published += 1;
                self.last_id += 1;
                let own = Own {
                    number: self.published,
                    id: self.last_id,
                    qos: if exactly_once { ExactlyOnce } else { AtLeastOnce },
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
            Op::Deliver(exactly_once) => {
                let number = self.delivered.len() as u32;
                let qos = if exactly_once { ExactlyOnce } else { AtLeastOnce };
                assert_eq!(self.pair.deliver(&number.to_string(), qos), Delivered::Queued);
                self.delivered.push((number, qos));
            }
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
            Op::Break(after_sending) => self.reconnect(after_sending),
        }
        assert!(self.pair.session.inflight() <= usize::from(WINDOW));
    }

    fn send_own(&mut self, own: Own, dup: bool) {
        self.acks.push_back(own.id);
        match self.pair.send(publish("t", own.qos, own.id, dup)).unwrap() {
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
        let id: u16 = words[3].trim_start_matches('#').parse().unwrap();
        let again = self.read.contains(&number);
        assert!(!again || words.contains(&"dup"), "sent again without DUP: {line}");
        if !again {
            self.read.push(number);
        }
        let in_use = self.unanswered.iter().any(|(other, _)| *other == id) || self.releasing.contains(&id);
        assert!(again || !in_use, "an id is used twice at once: {line}");
        assert_eq!(self.delivered[number as usize].1, qos);
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

    fn reconnect(&mut self, after_sending: bool) {
        if after_sending {
            self.pair.read(); // lost on the way
        }
        self.pair.lose(Detach::Lost);
        let version = self.pair.version;
        self.pair.connect(connect(version), true);
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
    fn nothing_is_lost_doubled_or_out_of_order(ops in ops(), v5: bool) {
        let mut client = Client::new(if v5 { Version::V5 } else { Version::V311 });
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
