//! What goes wrong in Kafka loses nothing, keeps the order, and stays with whom it concerns.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::*;

const PAYLOAD: [u8; 200] = [b'.'; 200];

/// `number:` and filling.
fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number}:").into_bytes();
    payload.extend_from_slice(&PAYLOAD);
    payload
}

fn telemetry() -> Vec<forebay_sink::RouteConfig> {
    vec![route("devices/{device_id}/#", "telemetry")]
}

#[test]
fn a_broker_that_is_away_for_five_seconds_loses_nothing() {
    let mut bench = Bench::new(cluster(&[("telemetry", 4)]), telemetry(), |_| {});
    let devices = ["a", "b", "c", "d"];
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < Duration::from_secs(6) {
        for device in devices {
            bench.publish(device, &format!("devices/{device}/t"), &payload(number));
        }
        number += 1;
        bench.flush();
        if number == 50 {
            bench.cluster.broker_down(-1).unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!bench.handle.status().ready || bench.reports().len() < 4 * number);
    bench.cluster.broker_up(-1).unwrap();
    bench.wait_reports(4 * number);
    let seen = bench.consume("telemetry", all_of(4 * number));
    assert_in_order(&seen, &devices, number);
    bench.wait_for("ready", || bench.handle.status().ready);
    assert_eq!(bench.fatal.get(), None);
}

#[test]
fn a_refused_batch_brings_all_back_to_the_commit_point() {
    let mut bench = Bench::new(cluster(&[("telemetry", 2)]), telemetry(), |_| {});
    let devices = ["a", "b", "c"];
    for round in 0..20 {
        for number in round * 50..(round + 1) * 50 {
            for device in devices {
                bench.publish(device, &format!("devices/{device}/t"), &payload(number));
            }
        }
        bench.flush();
        if round % 5 == 1 {
            // The first fails for good, those behind it succeed.
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE;
            bench.cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.wait_reports(3000);
    assert_eq!(bench.refused(), 0);
    let seen = bench.consume("telemetry", all_of(3000));
    assert_in_order(&seen, &devices, 1000);
}

#[test]
fn one_record_that_is_too_large_is_found_among_good_ones() {
    let mut bench = Bench::new(cluster(&[("telemetry", 1)]), telemetry(), |config| {
        // The client itself refuses what is over this.
        config
            .properties
            .insert("message.max.bytes".into(), "20000".into());
    });
    for number in 0..100 {
        if number == 50 {
            bench.publish("a", "devices/a/t", &vec![0; 30_000]);
        }
        bench.publish("a", "devices/a/t", &payload(number));
    }
    bench.flush();
    bench.wait_reports(101);
    assert_eq!(bench.refused(), 1);
    let seen = bench.consume("telemetry", all_of(100));
    assert_in_order(&seen, &["a"], 100);
    bench.wait_for("the log is released", || bench.log.status().records == 0);
}

#[test]
fn a_batch_that_the_broker_calls_too_large_is_probed_record_by_record() {
    let mut bench = Bench::new(cluster(&[("telemetry", 1)]), telemetry(), |_| {});
    bench.publish("a", "devices/a/t", &payload(0));
    bench.flush();
    bench.wait_reports(1);
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // The batch is refused; then, alone, the first record is: the others are good.
    bench
        .cluster
        .request_errors(RDKafkaApiKey::Produce, &[too_large, too_large]);
    for number in 1..50 {
        bench.publish("a", "devices/a/t", &payload(number));
    }
    bench.flush();
    bench.wait_reports(50);
    assert_eq!(bench.refused(), 1);
    let seen = bench.consume("telemetry", all_of(49));
    assert_eq!(seen.len(), 49);
    bench.wait_for("the log is released", || bench.log.status().records == 0);
}

#[test]
fn a_missing_topic_is_named_and_the_other_flows() {
    let routes = vec![route("a/{device_id}", "there"), route("b/{device_id}", "missing")];
    let mut bench = Bench::new(cluster(&[("there", 2)]), routes, |config| {
        config.parked_topic_bytes = 64 * 1024;
    });
    bench
        .cluster
        .topic_error("missing", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    bench.wait_for("the missing topic is named", || {
        bench
            .handle
            .status()
            .reason
            .contains("topic \"missing\" does not exist")
    });
    for number in 0..2000 {
        bench.publish("c", "a/x", &payload(number));
        bench.publish("c", "b/x", &payload(number));
    }
    bench.flush();
    bench.wait_reports(2000);
    bench.wait_for("its share is full and its route closed", || !bench.is_open("b/x"));
    assert!(bench.is_open("a/x"));
    let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    bench.cluster.topic_error("missing", none).unwrap();
    bench.cluster.create_topic("missing", 2, 1).ok();
    bench.wait_reports(4000);
    bench.wait_for("its route is open again", || bench.is_open("b/x"));
    let seen = bench.consume("missing", all_of(2000));
    assert_in_order(&seen, &["x"], 2000);
    bench.wait_for("ready", || bench.handle.status().ready);
}

#[test]
fn a_broker_that_is_away_holds_up_its_topic_only() {
    let routes = vec![
        route("a/{device_id}", "there"),
        route("b/{device_id}", "headless"),
    ];
    let cluster = MockCluster::new(2).unwrap();
    for (topic, broker) in [("there", 1), ("headless", 2)] {
        cluster.create_topic(topic, 1, 1).unwrap();
        cluster.partition_leader(topic, 0, Some(broker)).unwrap();
    }
    let mut bench = Bench::new(cluster, routes, |config| {
        config.stuck_after = Duration::from_secs(1);
    });
    bench.publish("c", "b/x", &payload(0));
    bench.flush();
    bench.wait_reports(1);
    bench.cluster.broker_down(2).unwrap();
    for number in 1..500 {
        bench.publish("c", "b/x", &payload(number));
    }
    bench.flush();
    let (mut number, start) = (0, Instant::now());
    while start.elapsed() < Duration::from_secs(4) {
        bench.publish("c", "a/x", &payload(number));
        bench.flush();
        number += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    bench.wait_for("the headless topic is named", || {
        bench.handle.status().reason.contains("headless")
    });
    bench.wait_reports(1 + number);
    bench.cluster.broker_up(2).unwrap();
    bench.wait_reports(500 + number);
    let seen = bench.consume("headless", all_of(500));
    assert_in_order(&seen, &["x"], 500);
}
