//! Records by hand, and a log of them.

use crate::bus::ChunkBuilder;
use crate::classify::{Level, RouteIds};
use crate::codec::QoS;
use crate::hub::SubscriptionOptions;
use crate::record::{Change, Open, PublishRecord, Record, SessionRecord, WillRecord};
use crate::spool::{Entry, Position};
use crate::store::projection::Projection;

/// A QoS 1 publish that was matched against `generation`.
pub fn publish<'a>(
    client_id: &'a str,
    topic: &'a str,
    payload: &'a [u8],
    generation: u64,
) -> PublishRecord<'a> {
    PublishRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        level: Level::Spooled,
        packet_id: 1,
        arrival_ms: 5,
        generation: 1,
        routes: RouteIds::new(),
        matched: Some(generation),
        client_id,
        username: None,
        topic,
        properties: None,
        payload,
    }
}

pub fn session<'a>(client_id: &'a str, change: Change<'a>) -> Record<'a> {
    Record::Session(SessionRecord {
        client_id,
        at_ms: 1_000,
        change,
    })
}

pub fn open() -> Open<'static> {
    Open {
        expiry_s: u32::MAX,
        level: 4,
        username: None,
        will: None,
    }
}

pub fn subscribe(filter: &str, qos: QoS, generation: u64) -> Change<'_> {
    Change::Subscribe {
        filter,
        options: SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: true,
            subscription_id: Some(7),
            kept: true,
        },
        generation,
        send_retained: false,
    }
}

/// A log that one worker writes, one chunk at a time.
#[derive(Default)]
pub struct Script {
    number: u64,
    sequence: u64,
    entries: Vec<Entry>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn chunk(&mut self, records: &[Record<'_>]) {
        let mut open = ChunkBuilder::new(4 << 20);
        for record in records {
            open.push(record).unwrap();
        }
        let chunk = open.finish(0, self.number);
        let first = Position {
            epoch: 1,
            sequence: self.sequence,
        };
        self.number += 1;
        self.sequence += u64::from(chunk.count());
        self.entries.push(Entry {
            first,
            chunk,
            durable_ms: 0,
        });
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Applies what was written since the last call.
    pub fn apply(&mut self, projection: &mut Projection) {
        for entry in self.entries.drain(..) {
            projection.apply(&entry);
        }
    }

    /// Something of every kind; each `part` changes what the one before left.
    pub fn all_kinds(&mut self, part: u16) {
        let name = format!("client-{part}");
        let payload = format!("payload {part}");
        let will = WillRecord {
            qos: QoS::AtLeastOnce,
            retain: true,
            delay_s: 9,
            topic: "will",
            properties: &[0x01, 1],
            payload: b"gone",
        };
        let with_will = Open {
            username: Some("user"),
            will: Some(will),
            ..open()
        };
        let to_all = publish("p", "t/x", payload.as_bytes(), 100);
        let expiring = PublishRecord {
            properties: Some(&[0x02, 0, 0, 1, 0]),
            retain: true,
            topic: if part == 1 { "t/1" } else { "t/2" },
            ..to_all.clone()
        };
        let exactly_once = PublishRecord {
            qos: QoS::ExactlyOnce,
            packet_id: 10 + part,
            client_id: "both",
            ..to_all.clone()
        };
        self.chunk(&[
            session("both", Change::Open(with_will)),
            session(&name, Change::Open(open())),
            session(&name, subscribe("t/+", QoS::AtLeastOnce, 3)),
            session("both", subscribe("t/#", QoS::ExactlyOnce, 3)),
            Record::Publish(to_all),
            Record::Publish(expiring),
            Record::Publish(exactly_once),
            session("both", Change::Release(9 + part)),
        ]);
        let before = format!("client-{}", part.wrapping_sub(1));
        self.chunk(&[
            session(
                &before,
                Change::Closed {
                    expiry_s: 3_000_000_000,
                },
            ),
            session(
                &before,
                Change::Unsubscribe {
                    filter: "t/+",
                    generation: 5,
                },
            ),
        ]);
    }
}
