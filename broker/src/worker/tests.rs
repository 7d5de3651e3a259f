//! A worker without its thread and its sockets: sessions that come back after a restart, on a clock of the test's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod full;
mod groups;
mod linger;
mod slowed;
mod wills;

use std::sync::Mutex;

use super::*;
use crate::auth::{ListenerRules, Principal};
use crate::bus::{self, BusHandle};
use crate::classify::{Class, Level, NoRoutes, Publisher};
use crate::codec::{Connect, Packet, Properties, PropertiesBuf, Property, QoS, Version};
use crate::config::LogConfig;
use crate::hub::{SubscriberId, SubscriptionIds, SubscriptionOptions};
use crate::record::{Change, Record, WillRecord};
use crate::session::{Detach, Message, Session, WillMessage};
use crate::spool::{LogReader, memory};
use crate::store::{KeptMessage, StoreEvent, TakenId};
use crate::testing::pair::{ack, message, publish, with_origin};

/// Takes what workers tell the store.
#[derive(Default)]
struct Told(Mutex<Vec<StoreEvent>>);

impl TakeEvents for Told {
    fn take(&self, events: &mut Vec<StoreEvent>) {
        self.0.lock().unwrap().append(events);
    }
}

/// Routes that take nothing now.
struct Closed;

impl Classify for Closed {
    fn generation(&self) -> u32 {
        0
    }

    fn classify(&self, publisher: Publisher<'_>, topic: &str) -> Class {
        NoRoutes.classify(publisher, topic)
    }

    fn is_open(&self, _: &Class) -> bool {
        false
    }
}

struct Bench {
    state: State,
    reader: Box<dyn LogReader>,
    told: Arc<Told>,
    bus: Option<BusHandle>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_routes(change, Arc::new(NoRoutes))
    }

    fn with_routes(change: impl FnOnce(&mut Config), classify: Arc<dyn Classify>) -> Self {
        Self::of_many(1, change, classify)
    }

    /// The first of so many workers.
    fn of_many(workers: u16, change: impl FnOnce(&mut Config), classify: Arc<dyn Classify>) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let reports = Reports::new(usize::from(workers));
        let fatal = FatalFlag::default();
        let LogConfig::Memory { max_bytes } = config.log else {
            unreachable!()
        };
        let (writer, log) = memory::open(5, max_bytes);
        let reader = Box::new(log.reader());
        let (mut senders, bus) =
            bus::start(&config.bus, workers, Box::new(writer), &reports, fatal.clone()).unwrap();
        let told = Arc::new(Told::default());
        let shared = Arc::new(Shared::new(Parts {
            hub: Hub::new(&config.limits, 1_000),
            config,
            classify,
            auth: Arc::new(ListenerRules),
            mailboxes: (0..workers)
                .map(|id| Arc::new(Mailbox::new(reports.slot(id).unwrap())))
                .collect(),
            reports,
            fatal,
            epoch: 5,
            store: Some(told.clone()),
            tls: Box::default(),
            pressure: Arc::default(), // the test's own: the log may be full without saying so
        }));
        let mut state = State::new(0, shared, senders.remove(0));
        state.wall_ms = 1_000_000_000;
        Self {
            state,
            reader,
            told,
            bus: Some(bus),
        }
    }

    /// The time is `now_ms`, and the ticker looks at what is due.
    fn tick(&mut self, now_ms: u64) {
        self.state.now_ms = now_ms;
        self.state.fire_timers();
        self.state.look_at_restored();
        self.state.write_backlog();
    }

    /// What the log has got, in words.
    fn written(&mut self) -> Vec<String> {
        assert!(self.state.flush());
        let sent = self.state.sender.next_number();
        while self.state.sender.appended() < sent {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.state.settle_durable();
        let mut words = Vec::new();
        while let Ok(Some(entry)) = self.reader.read(Duration::ZERO) {
            words.extend(entry.chunk.records().map(|record| in_words(&record.unwrap())));
            let end = entry.first.sequence + u64::from(entry.chunk.count());
            self.reader.commit(end).unwrap();
        }
        words
    }

    fn connect(&mut self, client_id: &str, clean_start: bool) -> SessionRef {
        self.connect_as(client_id, clean_start, Version::V311, Properties::EMPTY)
    }

    /// A 5.0 client whose session is kept.
    fn connect_expiring(&mut self, client_id: &str) -> SessionRef {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::SessionExpiryInterval(60));
        properties.push(Property::RequestProblemInformation(false));
        self.connect_as(client_id, false, Version::V5, properties.as_properties())
    }

    fn connect_as(
        &mut self,
        client_id: &str,
        clean_start: bool,
        version: Version,
        properties: Properties<'_>,
    ) -> SessionRef {
        self.connect_under(Principal::default(), client_id, clean_start, version, properties)
    }

    fn connect_under(
        &mut self,
        principal: Principal,
        client_id: &str,
        clean_start: bool,
        version: Version,
        properties: Properties<'_>,
    ) -> SessionRef {
        let connect = Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive_s: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties,
        };
        self.state.attach(&connect, client_id, principal, false, 0).at
    }

    fn session(&mut self, client_id: &str) -> Option<&mut Session> {
        let slot = self.state.slot_of(client_id)?;
        Some(&mut self.state.slots.get_mut(slot as usize)?.session)
    }

    fn sent(&mut self, at: SessionRef) -> Vec<u8> {
        let mut out = Vec::new();
        self.state.transmit(at, &mut out, usize::MAX);
        out
    }

    fn told(&mut self) -> Vec<StoreEvent> {
        self.state.send_last_events();
        std::mem::take(&mut *self.told.0.lock().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.take() {
            bus.stop(Instant::now() + Duration::from_secs(1));
        }
    }
}

fn in_words(record: &Record<'_>) -> String {
    match record {
        Record::Publish(publish) => format!("{} publishes {}", publish.client_id, publish.topic),
        Record::Session(record) => {
            let what = match record.change {
                Change::Release(id) => format!("release {id}"),
                Change::Reset => "reset".to_owned(),
                Change::Open(_) => "open".to_owned(),
                Change::Closed { .. } => "closed".to_owned(),
                Change::Left { .. } => "left".to_owned(),
                Change::Subscribe { filter, .. } => format!("subscribe {filter}"),
                Change::Unsubscribe { filter, .. } => format!("unsubscribe {filter}"),
            };
            format!("{} {what}", record.client_id)
        }
    }
}

fn kept(client_id: &str) -> KeptSession {
    KeptSession {
        client_id: client_id.into(),
        username: None,
        level: 4,
        expiry_s: 1_000,
        left_ms: None,
        will: None,
        subscriptions: Vec::new(),
        queue: Vec::new(),
        releasing: Vec::new(),
        taken: Vec::new(),
        last_packet_id: 0,
    }
}

fn will(topic: &str, delay_s: u32) -> WillMessage {
    WillMessage::from_record(&WillRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s,
        topic,
        properties: &[],
        payload: b"gone",
    })
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
        kept: true,
    }
}

#[test]
fn what_kafka_may_have_is_acknowledged_once_the_sink_is_past_it() {
    let mut bench = Bench::new(|_| {});
    let mut session = kept("k");
    session.taken = [(1, 10), (2, 11)]
        .map(|(packet_id, sequence)| TakenId {
            packet_id,
            fingerprint: 0,
            level: Level::Kafka,
            sequence,
        })
        .to_vec();
    bench.state.restore(vec![session]);
    let at = bench.connect("k", false);
    bench.sent(at);
    for id in [1, 2] {
        let Packet::Publish(publish) = publish("t", QoS::ExactlyOnce, id, true) else {
            unreachable!()
        };
        assert_eq!(bench.state.publish(at, &publish).unwrap(), Taken::Yes);
    }
    bench.state.shared.delivered.store(10, Ordering::Release);
    bench.tick(100);
    assert!(bench.sent(at).is_empty(), "all below 10 is done, and 10 is not");
    bench.state.shared.delivered.store(11, Ordering::Release);
    bench.tick(200);
    assert_eq!(bench.sent(at), [0x50, 2, 0, 1]);
    assert_eq!(bench.written(), ["k closed", "k open"], "nothing was taken twice");
}

#[test]
fn a_session_that_came_back_is_served_and_written_down_like_any_other() {
    let mut bench = Bench::new(|_| {});
    let mut session = kept("k");
    session.subscriptions = vec![("a/+".into(), options(QoS::AtLeastOnce))];
    let message = Arc::new(with_origin("old", QoS::AtLeastOnce, 7));
    session.queue = vec![KeptMessage {
        message,
        qos: QoS::AtLeastOnce,
        retain: false,
        ids: SubscriptionIds::new(),
        packet_id: Some(3),
        share: None,
    }];
    session.releasing = vec![4];
    bench.state.restore(vec![session]);
    assert_eq!(bench.state.shared.hub.subscriptions(), 1);
    let publisher = bench.connect("p", true);
    let Packet::Publish(publish) = publish("a/b", QoS::AtLeastOnce, 1, false) else {
        unreachable!()
    };
    bench.state.publish(publisher, &publish).unwrap();
    let at = bench.connect("k", false);
    assert!(bench.sent(at).starts_with(&[0x20, 2, 1, 0, 0x62, 2, 0, 4, 0x3A]));
    for packet in [
        Packet::Puback(ack(3, Reason::Success)),
        Packet::Pubcomp(ack(4, Reason::Success)),
    ] {
        bench.state.control_packet(at, packet).unwrap();
    }
    let told = bench.told();
    assert!(matches!(&told[0], StoreEvent::Sent { origin, .. } if origin.epoch == 5 && origin.number == 0));
    assert!(matches!(&told[1], StoreEvent::Done { origin, packet_id: Some(3), .. } if origin.number == 7));
    assert!(matches!(&told[2], StoreEvent::Completed { packet_id: 4, .. }));
    bench.state.detach(at, Detach::Lost);
    assert_eq!(
        bench.written(),
        ["k closed", "p publishes a/b", "k open", "k closed"]
    );
    bench.connect("k", true);
    assert_eq!(bench.written(), ["k reset"]);
    assert_eq!(bench.state.shared.hub.subscriptions(), 0);
}

#[test]
fn of_more_sessions_than_may_be_kept_those_left_longest_ago_go() {
    let mut bench = Bench::new(|config| config.limits.max_kept_sessions = 2);
    let left = |id: &str, ago_ms: Option<u64>| {
        let mut kept = kept(id);
        kept.subscriptions = vec![("t".into(), options(QoS::AtMostOnce))];
        kept.left_ms = ago_ms.map(|ago_ms| 1_000_000_000 - ago_ms);
        kept
    };
    let sessions = vec![
        left("now", None),
        left("first", Some(9_000)),
        left("third", Some(1_000)),
        left("second", Some(5_000)),
        left("expired", Some(2_000_000)),
    ];
    let dealt = bench.state.shared.deal(sessions, Vec::new()).remove(0);
    bench.state.restore(dealt);
    assert_eq!(
        bench.written(),
        ["expired reset", "first reset", "now closed"],
        "who was connected does not count"
    );
    assert_eq!(bench.state.shared.hub.subscriptions(), 3);
    let at = bench.connect("third", false);
    bench.tick(995_000);
    bench.state.slot(at).unwrap().session.touch(995_000);
    let written = bench.written();
    assert_eq!(
        written,
        ["third open", "second reset"],
        "it was away for 5 s before"
    );
    assert!(bench.session("now").is_some());
    bench.tick(1_000_000);
    assert_eq!(bench.written(), ["now reset"]);
}

#[test]
fn the_store_is_told_when_what_was_written_before_is_durable() {
    let mut bench = Bench::new(|_| {});
    let at = bench.connect("k", false);
    let to = options(QoS::AtLeastOnce).as_match(bench.state.subscriber(at));
    let mut expired = Message::clone(&with_origin("old", QoS::AtLeastOnce, 7));
    expired.expires_at_ms = Some(0);
    bench.state.deliver(&Arc::new(expired), &to, true);
    let told = |bench: &mut Bench| {
        bench.state.send_events();
        bench.told.0.lock().unwrap().len()
    };
    assert_eq!(told(&mut bench), 0);
    assert_eq!(bench.written(), ["k open"]);
    assert_eq!(told(&mut bench), 1);
    assert_eq!(told(&mut bench), 1);
}

#[test]
fn what_finds_no_room_in_a_mailbox_is_told_to_the_store() {
    let mut bench = Bench::new(|_| {});
    let at = bench.connect("k", false);
    let mut to = options(QoS::AtLeastOnce).as_match(bench.state.subscriber(at));
    let mailbox = bench.state.shared.mailboxes[0].clone();
    let mut huge = Message::clone(&message("x", QoS::AtLeastOnce));
    huge.payload = vec![0; 63 << 20].into();
    let small = Arc::new(with_origin(&"x".repeat(2 << 20), QoS::AtLeastOnce, 7));
    let delivery = |message: &Arc<Message>, to: &crate::hub::Match| mailbox::Delivery {
        message: message.clone(),
        to: to.clone(),
    };
    let mut batch = vec![delivery(&Arc::new(huge), &to), delivery(&small, &to)];
    to.kept = false;
    batch.push(delivery(&small, &to));
    // For a member of a group that is gone before its worker hears of it.
    to.who.generation += 1;
    to.share = Some(crate::hub::Share {
        group: "\0$share/g/t".into(),
        owed: true,
        hops: 0,
    });
    batch.push(delivery(&small, &to));
    let mut refused = Vec::new();
    mailbox.put_deliveries(&mut batch, &mut refused);
    assert_eq!(refused.len(), 3);
    refused.iter().for_each(|delivery| mailbox.note_lost(delivery));
    bench.state.take_deliveries(&mailbox.take());
    let told = bench.told();
    let lost = |event: &&StoreEvent| matches!(event, StoreEvent::Done { origin, .. } if origin.number == 7);
    assert_eq!(told.iter().filter(lost).count(), 2, "{told:?}");
}

#[test]
fn the_id_of_a_refused_publish_is_free_in_the_log_before_its_client_hears_of_it() {
    let mut bench = Bench::new(|_| {});
    let at = bench.connect_expiring("five");
    let owed = owed_for(&mut bench, at);
    bench.state.settle(owed, Err(Reason::QuotaExceeded));
    assert!(bench.sent(at).is_empty(), "not before the record is durable");
    assert_eq!(bench.written(), ["five release 7"]);
    assert_eq!(bench.sent(at), [0x50, 3, 0, 7, 0x97]);

    let at = bench.connect("three", false);
    let owed = owed_for(&mut bench, at);
    bench.state.settle(owed, Err(Reason::QuotaExceeded));
    assert_eq!(
        bench.sent(at),
        [0x50, 2, 0, 7],
        "it can't be told, and goes on with PUBREL"
    );
    assert!(bench.written().is_empty());
}

/// Publishes at QoS 2 under id 7; what is owed for that.
fn owed_for(bench: &mut Bench, at: SessionRef) -> super::acks::Owed {
    bench.sent(at);
    let Packet::Publish(publish) = publish("t", QoS::ExactlyOnce, 7, false) else {
        unreachable!()
    };
    assert_eq!(bench.state.publish(at, &publish).unwrap(), Taken::Yes);
    let owed = bench.state.owed.pop().unwrap();
    bench.written();
    owed
}

#[test]
fn a_hundred_thousand_sessions_are_back_in_a_moment() {
    const COUNT: usize = 100_000;
    let mut bench = Bench::new(|config| config.limits.max_kept_sessions = COUNT);
    let sessions = (0..COUNT)
        .map(|number| {
            let mut kept = kept(&format!("device-{number:06}"));
            let filter = format!("devices/device-{number:06}/command/#");
            kept.subscriptions = vec![(filter.into(), options(QoS::AtLeastOnce))];
            kept
        })
        .collect();
    let start = Instant::now();
    bench.state.restore(sessions);
    let took = start.elapsed();
    println!("{COUNT} sessions restored in {took:?}");
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, on a build that is not optimized"
    );
    assert_eq!(bench.state.shared.hub.subscriptions(), COUNT);
    assert_eq!(bench.state.registry.kept(), COUNT);
    let mut matches = Vec::new();
    bench
        .state
        .hub
        .matches("devices/device-012345/command/go", &mut matches);
    let who = SubscriberId {
        worker: 0,
        slot: 12_345,
        generation: 12_345,
    };
    assert_eq!(matches.iter().map(|to| to.who).collect::<Vec<_>>(), [who]);
}
