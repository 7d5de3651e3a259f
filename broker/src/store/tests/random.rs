//! Random records and events, applied by the projection and by the model, with commits and crashes in between.

use std::sync::Arc;

use proptest::prelude::*;

use super::model::Model;
use super::tables::Tables;
use crate::bus::ChunkBuilder;
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::hub::SubscriptionOptions;
use crate::record::{Change, Open, Origin, PublishRecord, Record, SessionRecord, WillRecord};
use crate::spool::{Entry, Position};
use crate::store::event::StoreEvent;
use crate::store::projection::{Bounds, Loading, Projection};

const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];
/// The last one is of a group that no client may ask for: its own filter looks like another's group.
const FILTERS: [&str; 9] = [
    "t/1",
    "t/+",
    "t/#",
    "#",
    "u",
    "t/2",
    "$share/g/t/+",
    "$share/g/#",
    "$share/h/$share/g/#",
];
const TOPICS: [&str; 4] = ["t/1", "t/2", "t", "u"];

pub const BOUNDS: Bounds = Bounds {
    max_queued: 7,
    max_queued_bytes: usize::MAX,
    max_retained: 2,
    max_retained_bytes: usize::MAX,
};

#[derive(Debug, Clone)]
enum Op {
    Open {
        client: usize,
        will: bool,
    },
    Closed(usize),
    Left(usize),
    Reset(usize),
    Subscribe {
        client: usize,
        filter: usize,
        qos: u8,
        bits: u8,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: u8,
        retain: bool,
        empty: bool,
        packet_id: u16,
    },
    Release {
        client: usize,
        packet_id: u16,
    },
    Event {
        client: usize,
        back: usize,
        kind: u8,
        packet_id: u16,
    },
    Cut(u16),
    Read(usize),
    Commit,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS.len();
    let id = 1u16..5;
    prop_oneof![
        3 => (client.clone(), any::<bool>()).prop_map(|(client, will)| Op::Open { client, will }),
        1 => client.clone().prop_map(Op::Closed),
        1 => client.clone().prop_map(Op::Left),
        1 => client.clone().prop_map(Op::Reset),
        5 => (client.clone(), 0..FILTERS.len(), 0u8..3, 0u8..16)
            .prop_map(|(client, filter, qos, bits)| Op::Subscribe { client, filter, qos, bits }),
        2 => (client.clone(), 0..FILTERS.len()).prop_map(|(client, filter)| Op::Unsubscribe { client, filter }),
        14 => (client.clone(), 0..TOPICS.len(), 0u8..3, any::<bool>(), 0u8..4, id.clone()).prop_map(
            |(client, topic, qos, retain, empty, packet_id)| Op::Publish {
                client, topic, qos, retain, empty: empty == 0, packet_id
            }
        ),
        2 => (client.clone(), id.clone()).prop_map(|(client, packet_id)| Op::Release { client, packet_id }),
        10 => (client, 0usize..8, 0u8..9, id)
            .prop_map(|(client, back, kind, packet_id)| Op::Event { client, back, kind, packet_id }),
        8 => (0u16..2).prop_map(Op::Cut),
        6 => (1usize..4).prop_map(Op::Read),
        3 => Just(Op::Commit),
        1 => Just(Op::Crash),
    ]
}

/// Two workers, the log that they write, and those who follow it.
struct Run {
    epoch: u64,
    generation: u64,
    open: [ChunkBuilder; 2],
    numbers: [u64; 2],
    origins: Vec<Origin>,
    log: Vec<Entry>,
    sequence: u64,
    read: usize,
    projection: Projection,
    model: Model,
    tables: Tables,
    /// The model and the place in the log as of the last commit.
    committed: (Model, usize),
    /// Chunks are cut so that no publish stands before the end of a subscription that it was matched without.
    orderly: bool,
}

impl Run {
    fn new(orderly: bool) -> Self {
        let model = Model::new(BOUNDS, 1);
        Self {
            epoch: 1,
            generation: 100,
            open: [ChunkBuilder::new(4096), ChunkBuilder::new(4096)],
            numbers: [0; 2],
            origins: Vec::new(),
            log: Vec::new(),
            sequence: 0,
            read: 0,
            projection: Projection::new(BOUNDS, 1),
            committed: (model.clone(), 0),
            model,
            tables: Tables::default(),
            orderly,
        }
    }

    fn push(&mut self, client: usize, record: &Record<'_>) {
        let worker = client % 2;
        let index = self.open[worker].push(record).unwrap();
        if matches!(record, Record::Publish(_)) {
            self.origins.push(Origin {
                epoch: self.epoch,
                worker: worker as u16,
                number: self.numbers[worker],
                index,
            });
        }
    }

    fn session(&mut self, client: usize, change: Change<'_>) {
        let record = SessionRecord {
            client_id: CLIENTS[client],
            at_ms: 1_000 + self.sequence,
            change,
        };
        self.push(client, &Record::Session(record));
    }

    fn cut(&mut self, worker: u16) {
        let at = usize::from(worker);
        if self.open[at].is_empty() {
            return;
        }
        let chunk = self.open[at].finish(worker, self.numbers[at]);
        self.numbers[at] += 1;
        let first = Position {
            epoch: self.epoch,
            sequence: self.sequence,
        };
        self.sequence += u64::from(chunk.count());
        self.log.push(Entry {
            first,
            chunk,
            durable_ms: 0,
        });
    }

    fn read(&mut self, most: usize) {
        for entry in self.log.iter().skip(self.read).take(most) {
            self.projection.apply(entry);
            self.model.apply(entry);
            self.read += 1;
        }
    }

    fn commit(&mut self) {
        self.tables.commit(self.projection.take_changes());
        self.committed = (self.model.clone(), self.read);
    }

    /// The process dies and starts again: what was not committed is read from the log again.
    fn crash(&mut self) {
        self.epoch += 1;
        self.generation += 1_000;
        self.open = [ChunkBuilder::new(4096), ChunkBuilder::new(4096)];
        self.numbers = [0; 2];
        (self.model, self.read) = self.committed.clone();
        self.model.restart(self.epoch);
        let mut loading = self.tables.load(BOUNDS, self.epoch, 0);
        // From a little before: what is applied already changes nothing.
        for entry in self.log.iter().skip(self.read.saturating_sub(2)) {
            loading.projection.apply(entry);
        }
        for entry in self.log.iter().skip(self.read) {
            self.model.apply(entry);
        }
        self.read = self.log.len();
        self.projection = self.checked(loading);
    }

    fn checked(&self, loading: Loading) -> Projection {
        let (restored, projection) = loading.finish();
        self.model.check(&restored);
        projection
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Open { client, will } => {
                let will = will.then_some(WillRecord {
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    delay_s: 3,
                    topic: TOPICS[client],
                    properties: &[],
                    payload: b"gone",
                });
                let open = Open {
                    expiry_s: u32::MAX,
                    level: 5,
                    username: (client == 1).then_some("u"),
                    will,
                };
                self.session(client, Change::Open(open));
            }
            Op::Left(client) => self.session(
                client,
                Change::Left {
                    expiry_s: 3_000_000_000,
                },
            ),
            Op::Closed(client) => self.session(
                client,
                Change::Closed {
                    expiry_s: 3_000_000_000,
                },
            ),
            Op::Reset(client) => self.session(client, Change::Reset),
            Op::Release { client, packet_id } => self.session(client, Change::Release(packet_id)),
            Op::Subscribe {
                client,
                filter,
                qos,
                bits,
            } => {
                self.generation += 1;
                let options = SubscriptionOptions {
                    qos: QoS::try_from(qos).unwrap(),
                    no_local: bits & 1 != 0,
                    retain_as_published: bits & 2 != 0,
                    subscription_id: (bits & 4 != 0).then_some(filter as u32 + 1),
                    kept: true,
                };
                let change = Change::Subscribe {
                    filter: FILTERS[filter],
                    options,
                    generation: self.generation,
                    send_retained: bits & 8 != 0,
                };
                self.session(client, change);
            }
            Op::Unsubscribe { client, filter } => {
                self.generation += 1;
                let change = Change::Unsubscribe {
                    filter: FILTERS[filter],
                    generation: self.generation,
                };
                self.session(client, change);
                if self.orderly {
                    self.cut(client as u16 % 2);
                }
            }
            Op::Publish { .. } => self.publish(op),
            Op::Event {
                client,
                back,
                kind,
                packet_id,
            } => self.event(client, back, kind, packet_id),
            Op::Cut(worker) => self.cut(worker),
            Op::Read(most) => self.read(most),
            Op::Commit if self.orderly => self.commit(),
            Op::Crash if self.orderly => self.crash(),
            Op::Commit | Op::Crash => {}
        }
    }

    fn publish(&mut self, op: Op) {
        let Op::Publish {
            client,
            topic,
            qos,
            retain,
            empty,
            packet_id,
        } = op
        else {
            return;
        };
        let payload = self.origins.len().to_string();
        let record = PublishRecord {
            qos: QoS::try_from(qos).unwrap(),
            retain,
            level: Level::Spooled,
            packet_id: if qos == 0 { 0 } else { packet_id },
            arrival_ms: 5,
            generation: 1,
            routes: RouteIds::new(),
            matched: Some(self.generation),
            client_id: CLIENTS[client],
            username: None,
            topic: TOPICS[topic],
            properties: None,
            payload: if empty { b"" } else { payload.as_bytes() },
        };
        self.push(client, &Record::Publish(record));
    }

    fn event(&mut self, client: usize, back: usize, kind: u8, packet_id: u16) {
        let Some(origin) = self.origins.iter().rev().nth(back).copied() else {
            return;
        };
        let client: Arc<str> = CLIENTS[client].into();
        let group: Arc<str> = format!("\0{}", FILTERS[6 + packet_id as usize % 2]).into();
        let event = match kind {
            5 | 6 => StoreEvent::Claimed {
                client,
                group,
                origin,
                packet_id,
                qos: if packet_id > 2 {
                    QoS::ExactlyOnce
                } else {
                    QoS::AtLeastOnce
                },
                hops: u32::from(kind - 5),
            },
            7 => StoreEvent::Done {
                client: group,
                origin,
                packet_id: None,
            },
            0 => StoreEvent::Sent {
                client,
                origin,
                packet_id,
            },
            1 => StoreEvent::Received {
                client,
                packet_id,
                origin,
            },
            2 => StoreEvent::Completed { client, packet_id },
            3 => StoreEvent::Done {
                client,
                origin,
                packet_id: Some(packet_id),
            },
            8 => StoreEvent::Walked { client },
            _ => StoreEvent::Done {
                client,
                origin,
                packet_id: None,
            },
        };
        if self.model.waits_for(&event) {
            return; // no client has one id under way twice
        }
        self.model.event(&event, self.sequence);
        self.projection.event(event, self.sequence);
    }

    /// All that was written is read, committed and loaded again.
    fn end(mut self) {
        self.cut(0);
        self.cut(1);
        self.read(usize::MAX);
        self.commit();
        let before = self.tables.clone();
        self.checked(self.tables.load(BOUNDS, 1_000, 0));
        let mut again = self.tables.load(BOUNDS, 1_000, 0);
        for entry in &self.log {
            again.projection.apply(entry);
        }
        let set = again.take_changes();
        self.tables.commit(set);
        assert_eq!(
            self.tables.rows(),
            before.rows(),
            "reading the log again changes nothing"
        );
        for client in CLIENTS {
            let reset = SessionRecord {
                client_id: client,
                at_ms: 1,
                change: Change::Reset,
            };
            self.open[0].push(&Record::Session(reset)).unwrap();
        }
        self.cut(0);
        self.read(1);
        self.commit();
        let left = self.tables.load(BOUNDS, 1_000, 0).finish().0;
        assert!(left.sessions.is_empty());
        assert_eq!(
            self.tables.rows(),
            left.retained.len(),
            "nothing is left of sessions that are gone"
        );
        assert_eq!(
            self.tables.messages.len(),
            left.retained.len(),
            "no message is left that nobody wants"
        );
    }
}

fn cases() -> u32 {
    std::env::var("FOREBAY_STORE_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_projection_is_what_the_model_is_over_commits_and_crashes(
        ops in proptest::collection::vec(op(), 1..160),
    ) {
        let mut run = Run::new(true);
        ops.into_iter().for_each(|op| run.step(op));
        run.end();
    }

    #[test]
    fn chunks_of_two_workers_may_come_in_any_order(ops in proptest::collection::vec(op(), 1..160)) {
        let mut run = Run::new(false);
        ops.into_iter().for_each(|op| run.step(op));
        run.end();
    }
}
