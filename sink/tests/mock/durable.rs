//! Over a spool on disk: what survives a new start, what waits for a topic, and what Kafka refuses.

use std::time::Duration;

use forebay_broker::bus::Outcome;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::*;

const SHORT: Duration = Duration::from_millis(300);

fn payload(number: usize) -> Vec<u8> {
    format!("{number}:{}", ".".repeat(200)).into_bytes()
}

fn telemetry() -> Vec<forebay_sink::RouteConfig> {
    vec![route("devices/{device_id}/#", "telemetry")]
}

#[test]
fn a_new_start_goes_on_where_the_last_one_was() {
    let mut bench = Bench::durable(cluster(&[("telemetry", 4)]), telemetry(), |_| {});
    let devices = ["a", "b", "c"];
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..200 {
            for device in devices {
                bench.publish(device, &format!("devices/{device}/t"), &payload(number));
            }
            number += 1;
        }
        bench.flush();
        // With Kafka away, with little time, and in peace.
        match round % 3 {
            0 => bench.cluster.broker_down(1).unwrap(),
            1 => bench.cluster.broker_up(1).unwrap(),
            _ => bench.wait_for("all is there", || bench.handle.status().open == 0),
        }
        bench.restart(SHORT);
    }
    bench.wait_for("the log is released", || bench.log.status().records < 600);
    let seen = bench.consume("telemetry", all_of(3 * number));
    assert_in_order(&seen, &devices, number);
    assert!(seen[0].position().starts_with("node/"));
}

#[test]
fn a_topic_that_may_not_be_written_waits_in_the_log_over_new_starts() {
    let routes = vec![route("a/{device_id}", "there"), route("b/{device_id}", "barred")];
    let mut bench = Bench::durable(cluster(&[("there", 2), ("barred", 2)]), routes, |config| {
        config.parked_topic_bytes = 64 * 1024;
    });
    let barred = |bench: &Bench, code| bench.cluster.topic_error("barred", code).unwrap();
    barred(
        &bench,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    );
    bench.restart(SHORT);
    let (mut number, each) = (0, 1500);
    for round in 0..3 {
        for _ in 0..each {
            bench.publish("c", "a/x", &payload(number));
            bench.publish("c", "b/x", &payload(number));
            number += 1;
        }
        bench.flush();
        bench.wait_reports(each);
        if round > 0 {
            let named = || bench.handle.status().reason.contains("allow Describe");
            bench.wait_for("it is named", named);
        }
        bench.restart(SHORT);
    }
    barred(&bench, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    let seen = bench.consume("barred", all_of(number));
    assert_in_order(&seen, &["x"], number);
    bench.wait_for("ready", || bench.handle.status().ready);
    let there = bench.consume("there", all_of(number));
    assert_in_order(&there, &["x"], number);
    assert_eq!(there.len(), number, "nothing of it came twice");
}

#[test]
fn poison_reaches_the_dead_letter_topic() {
    let topics = cluster(&[("telemetry", 1), ("dead", 1)]);
    let mut bench = Bench::durable(topics, telemetry(), |config| {
        config.dead_letter_topic = Some("dead".into());
    });
    bench.publish("a", "devices/a/t", &payload(0));
    bench.flush();
    bench.wait_reports(1);
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // The batch is refused; then, alone, the first record is.
    let errors = [too_large, too_large];
    bench.cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    for number in 1..50 {
        bench.publish("a", "devices/a/t", &payload(number));
    }
    bench.flush();
    bench.wait_reports(50);
    let refused = bench.reports().iter().filter(|r| r.outcome == Outcome::Refused);
    assert_eq!(refused.count(), 1);
    let dead = bench.consume("dead", all_of(1)).remove(0);
    assert_eq!(
        (dead.key.as_str(), dead.text()),
        ("a", String::from_utf8(payload(1)).unwrap())
    );
    for (name, wanted) in [
        ("forebay.topic", "telemetry"),
        ("forebay.partition", "0"),
        ("forebay.route", "0"),
        ("mqtt.topic", "devices/a/t"),
    ] {
        let header = dead.headers.iter().find(|(header, _)| header == name);
        assert_eq!(header.map(|(_, value)| value.as_str()), Some(wanted), "{name}");
    }
    assert!(dead.position().ends_with("00000000000000000001"));
    assert_eq!(bench.consume("telemetry", all_of(49)).len(), 49);
}

#[test]
fn out_of_order_and_fenced_producers_are_replaced_and_nothing_is_missing() {
    let mut bench = Bench::durable(cluster(&[("telemetry", 3)]), telemetry(), |_| {});
    let devices = ["a", "b", "c", "d"];
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
    ];
    for round in 0..12 {
        for number in round * 50..(round + 1) * 50 {
            for device in devices {
                bench.publish(device, &format!("devices/{device}/t"), &payload(number));
            }
        }
        bench.flush();
        let error = errors[round % errors.len()];
        bench.cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        std::thread::sleep(Duration::from_millis(30));
    }
    bench.wait_reports(2400);
    assert_eq!(bench.refused(), 0);
    let seen = bench.consume("telemetry", all_of(2400));
    assert_in_order(&seen, &devices, 600);
}

#[test]
fn a_dead_partition_of_a_topic_that_was_behind_keeps_no_other_waiting() {
    let cluster = rdkafka::mocking::MockCluster::new(2).unwrap();
    for (topic, partitions) in [("there", 1), ("halved", 2)] {
        cluster.create_topic(topic, partitions, 1).unwrap();
    }
    cluster.partition_leader("there", 0, Some(1)).unwrap();
    for partition in 0..2 {
        let leader = Some(partition + 1);
        cluster.partition_leader("halved", partition, leader).unwrap();
    }
    let routes = vec![route("a/{device_id}", "there"), route("b/{device_id}", "halved")];
    let mut bench = Bench::durable(cluster, routes, |config| {
        config.parked_topic_bytes = 64 * 1024;
        config.stuck_after = Duration::from_secs(1);
    });
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    let of = |wanted| {
        names
            .iter()
            .find(|n| forebay_sink::partition_for(n.as_bytes(), 2) == wanted)
    };
    let (light, dark) = (of(0).unwrap().as_str(), of(1).unwrap().as_str());
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    bench.cluster.topic_error("halved", denied).unwrap();
    bench.restart(SHORT);
    let each = 1500;
    for number in 0..each {
        for device in [light, dark] {
            bench.publish("c", &format!("b/{device}"), &payload(number));
        }
    }
    bench.flush();
    bench.wait_for("its share is full", || !bench.is_open("b/x"));
    bench.cluster.broker_down(2).unwrap();
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    bench.cluster.topic_error("halved", fine).unwrap();
    // The one whose leader is there has all of it, though the other has nothing; something else flows meanwhile.
    let (until, mut flow) = (std::time::Instant::now() + SOON, 0);
    while bench.reports().len() < each + flow {
        assert!(
            std::time::Instant::now() < until,
            "{} of {} reports; {:?}",
            bench.reports().len(),
            each + flow,
            bench.handle.status()
        );
        if bench.reports().len() >= flow {
            bench.publish("c", "a/x", &payload(flow));
            bench.flush();
            flow += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.cluster.broker_up(2).unwrap();
    bench.wait_reports(2 * each + flow);
    let seen = bench.consume("halved", all_of(2 * each));
    assert_in_order(&seen, &[light, dark], each);
    bench.wait_for("ready", || bench.handle.status().ready);
}
