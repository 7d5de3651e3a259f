//! A device against a scripted broker: what it sends, what it keeps, what it takes for acknowledged.

use forebay_broker::codec::{self, Packet, Version};

use super::*;

fn plan(qos: QoS, in_flight: u16) -> Plan {
    Plan {
        connections: 1,
        first: 0,
        device: "d{n}".to_owned(),
        topic: "devices/{id}/telemetry".to_owned(),
        client_id: "{id}".to_owned(),
        run: "r".to_owned(),
        version: Version::V311,
        qos,
        in_flight,
        payload_bytes: 20,
        keep_alive_s: 0,
        websocket: false,
        reconnect: true,
        login: None,
        tls: None,
        subscribe: None,
        publish: true,
        count: u64::MAX,
        feed: None,
    }
}

/// One device at a thousand publishes a second.
struct Bench<'a> {
    device: Device,
    shared: Shared<'a>,
}

impl<'a> Bench<'a> {
    fn new(plan: &'a Plan) -> Self {
        let shared = Shared {
            plan,
            schedule: Schedule::new(1000.0, 1),
            stats: Stats::new().unwrap(),
            payload: Vec::new(),
            output_bytes: 4096,
        };
        let mut bench = Self {
            device: Device::new(plan, 0, 0),
            shared,
        };
        assert!(bench.connack(false).is_empty());
        bench
    }

    fn connack(&mut self, session_present: bool) -> Vec<String> {
        self.handle(
            0,
            &Incoming::Connack {
                refused: None,
                session_present,
                receive_maximum: u16::MAX,
            },
        )
    }

    fn handle(&mut self, now_ns: u64, packet: &Incoming) -> Vec<String> {
        let mut out = Vec::new();
        self.device
            .handle(now_ns, 0, packet, &mut self.shared, &mut out)
            .unwrap();
        names(&out)
    }

    fn puback(&mut self, now_ns: u64, id: u16) {
        let packet_id = NonZeroU16::new(id).unwrap();
        let puback = Incoming::Puback {
            packet_id,
            refused: false,
        };
        assert!(self.handle(now_ns, &puback).is_empty());
    }

    fn fill(&mut self, now_ns: u64) -> Vec<String> {
        let mut out = Vec::new();
        let due = self.shared.schedule.due_of_all(now_ns);
        self.device.fill(now_ns, due, &mut self.shared, &mut out).unwrap();
        names(&out)
    }
}

/// `P sequence packet-id [dup]` for a PUBLISH, `R packet-id` for a PUBREL.
fn names(mut bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(len) = codec::frame_len(bytes, 4096).unwrap() {
        let (frame, rest) = bytes.split_at(len);
        names.push(match codec::decode(Version::V311, frame).unwrap() {
            Packet::Publish(publish) => {
                assert_eq!(
                    (publish.topic, publish.payload.len()),
                    ("devices/d0/telemetry", 20)
                );
                let (id, sequence, run) = super::super::plan::read_payload(publish.payload).unwrap();
                assert_eq!((id, run), ("d0", "r"));
                let dup = if publish.dup { " dup" } else { "" };
                format!(
                    "P {sequence} {}{dup}",
                    publish.packet_id.map_or(0, NonZeroU16::get)
                )
            }
            Packet::Pubrel(ack) => format!("R {}", ack.packet_id),
            other => panic!("{other:?}"),
        });
        bytes = rest;
    }
    names
}

const MS: u64 = 1_000_000;

#[test]
fn a_held_back_device_owes_what_is_due_and_its_latency_counts_from_then() {
    let plan = plan(QoS::AtLeastOnce, 2);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(0), ["P 0 1"]);
    assert_eq!(bench.fill(100 * MS), ["P 1 2"]);
    assert_eq!(bench.fill(200 * MS), Vec::<String>::new());
    bench.puback(300 * MS, 1);
    bench.puback(300 * MS, 2);
    assert_eq!(bench.fill(300 * MS), ["P 2 3", "P 3 4"]);
    bench.shared.stats.from_due_us.reset();
    bench.puback(301 * MS, 3);
    // Publish 2 was due after 2 ms and waited 299 ms for its turn.
    assert!(bench.shared.stats.from_due_us.min() >= 298_000);
    assert_eq!(bench.shared.stats.from_sent_us.min(), 1000);
    assert_eq!(bench.device.unacknowledged().to_text(), "3");
}

#[test]
fn what_is_due_and_not_acknowledged_is_still_felt_at_the_end() {
    let plan = plan(QoS::AtLeastOnce, 2);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(10 * MS), ["P 0 1", "P 1 2"]);
    bench.puback(10 * MS, 1);
    // 0 is acknowledged, 1 is on the way, 2 and 3 were never sent; 4 falls due after the end.
    let due: Vec<u64> = bench.device.unfelt(&bench.shared.schedule, 4, u64::MAX).collect();
    assert_eq!(due, [MS, 2 * MS, 3 * MS]);
    let fewer = bench.device.unfelt(&bench.shared.schedule, 4, 3);
    assert_eq!(fewer.count(), 2);
}

#[test]
fn what_is_on_the_way_goes_out_again_in_its_order_before_anything_new() {
    let plan = plan(QoS::AtLeastOnce, 3);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(10 * MS).len(), 3);
    bench.puback(10 * MS, 1);
    bench.device.lost(&plan);
    assert_eq!(bench.fill(20 * MS), Vec::<String>::new());
    assert_eq!(bench.connack(true), ["P 1 2 dup", "P 2 3 dup"]);
    bench.device.lost(&plan);
    assert_eq!(bench.connack(false), ["P 1 2", "P 2 3"]);
    assert_eq!(bench.fill(20 * MS), ["P 3 4"]);
    assert_eq!(bench.device.unacknowledged().to_text(), "1-3");
}

#[test]
fn qos_2_counts_as_acknowledged_at_pubrec_and_is_released_again_on_a_kept_session() {
    let plan = plan(QoS::ExactlyOnce, 2);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(10 * MS), ["P 0 1", "P 1 2"]);
    let packet_id = NonZeroU16::MIN;
    assert_eq!(
        bench.handle(
            11 * MS,
            &Incoming::Pubrec {
                packet_id,
                refused: false
            }
        ),
        ["R 1"]
    );
    assert_eq!(bench.device.unacknowledged().to_text(), "1");
    bench.device.lost(&plan);
    assert_eq!(bench.connack(true), ["R 1", "P 1 2 dup"]);
    assert_eq!(
        bench.handle(12 * MS, &Incoming::Pubcomp { packet_id }),
        Vec::<String>::new()
    );
    bench.device.lost(&plan);
    assert_eq!(bench.connack(false), ["P 1 2"]);
    assert_eq!(bench.shared.stats.unexpected, 0);
}

#[test]
fn a_refused_publish_is_no_promise_and_acknowledgements_out_of_order_are_told() {
    let plan = plan(QoS::AtLeastOnce, 4);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(10 * MS).len(), 4);
    bench.puback(10 * MS, 2);
    let packet_id = NonZeroU16::MIN;
    bench.handle(
        10 * MS,
        &Incoming::Puback {
            packet_id,
            refused: true,
        },
    );
    bench.puback(10 * MS, 2);
    let stats = &bench.shared.stats;
    assert_eq!(
        (
            stats.acks_out_of_order,
            stats.refused,
            stats.unexpected,
            stats.acked
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(bench.device.unacknowledged().to_text(), "0,2-3");
}

#[test]
fn at_qos_0_a_lost_connection_takes_back_what_was_taken_for_acknowledged() {
    let plan = plan(QoS::AtMostOnce, 1);
    let mut bench = Bench::new(&plan);
    assert_eq!(bench.fill(2 * MS), ["P 0 0", "P 1 0", "P 2 0"]);
    assert!(bench.device.unacknowledged().to_text().is_empty());
    bench.device.lost(&plan);
    assert_eq!(bench.device.unacknowledged().to_text(), "0-2");
}
