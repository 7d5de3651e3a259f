//! What is published stands in Kafka: keyed, placed, in order, reported once, and the log is released.

use forebay_broker::bus::Outcome;
use forebay_broker::classify::Level;
use forebay_sink::{Value, partition_for};

use super::support::*;

#[test]
fn a_publish_is_a_record_of_its_device() {
    let mut bench = Bench::new(
        cluster(&[("telemetry", 12)]),
        vec![route("devices/{device_id}/#", "telemetry")],
        |_| {},
    );
    bench.publish("client", "devices/d7/telemetry", b"x");
    bench.flush();
    bench.wait_reports(1);
    assert_eq!(bench.reports()[0].outcome, Outcome::InKafka);
    let seen = bench.consume("telemetry", |seen| !seen.is_empty()).remove(0);
    assert_eq!(seen.key, "d7");
    assert_eq!(seen.partition as u32, partition_for(b"d7", 12));
    assert_eq!(seen.text(), "x");
    assert_eq!(seen.timestamp, Some(1_763_722_800_000));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        seen.headers,
        [
            pair("mqtt.topic", "devices/d7/telemetry"),
            pair("forebay.position", "node/7/00000000000000000000")
        ]
    );
    bench.wait_for("ready", || bench.handle.status().ready);
    assert_eq!(bench.stop(), 0);
}

#[test]
fn many_devices_keep_their_order_and_the_log_is_released() {
    let mut bench = Bench::new(
        cluster(&[("telemetry", 6)]),
        vec![route("devices/{device_id}/#", "telemetry")],
        |_| {},
    );
    let devices: Vec<String> = (0..50).map(|d| format!("d{d}")).collect();
    for number in 0..200 {
        for device in &devices {
            bench.publish(
                device,
                &format!("devices/{device}/t"),
                number.to_string().as_bytes(),
            );
        }
    }
    bench.flush();
    bench.wait_reports(10_000);
    assert_eq!(bench.refused(), 0);
    bench.wait_for("the log is released", || bench.log.status().records == 0);
    let seen = bench.consume("telemetry", all_of(10_000));
    assert_eq!(seen.len(), 10_000, "nothing failed: nothing stands there twice");
    let keys: Vec<&str> = devices.iter().map(String::as_str).collect();
    assert_in_order(&seen, &keys, 200);
    assert_eq!(bench.stop(), 0);
}

#[test]
fn several_routes_make_several_records_and_one_report() {
    let mut json = route("devices/{device_id}/#", "all");
    json.value = Value::Json;
    let mut alarms = route("devices/{device_id}/alarm", "alarms");
    alarms.ack = Level::Received;
    alarms.name = "alarm".into();
    let mut bench = Bench::new(cluster(&[("all", 2), ("alarms", 2)]), vec![json, alarms], |_| {});
    bench.publish("c", "devices/d1/alarm", b"{\"hot\":true}");
    bench.publish("c", "devices/d1/alarm", b"no json");
    bench.flush();
    bench.wait_reports(2);
    let all = bench.consume("all", all_of(2));
    assert_eq!(
        all[0].text(),
        r#"{"device_id":"d1","timestamp":1763722800000,"topic":"devices/d1/alarm","qos":1,"data":{"hot":true}}"#
    );
    assert!(all[1].text().contains("base64"));
    let alarms = bench.consume("alarms", all_of(2));
    assert_eq!(alarms[0].position(), "node/7/00000000000000000000/alarm");
}

#[test]
fn a_record_of_level_received_is_not_reported() {
    let mut fast = route("fast/#", "t");
    fast.ack = Level::Received;
    let mut bench = Bench::new(cluster(&[("t", 1)]), vec![fast, route("safe/#", "t")], |_| {});
    bench.publish("c", "fast/x", b"0");
    bench.publish("c", "safe/x", b"1");
    bench.flush();
    bench.wait_reports(1);
    assert_eq!(bench.reports()[0].index, 1);
    assert_eq!(bench.consume("t", all_of(2)).len(), 2);
}

#[test]
fn what_no_route_can_place_is_refused_and_goes_nowhere_else() {
    let mut templated = route("{site}/#", "data-{site}");
    templated.key = Some("{json:/id}".into());
    let mut bench = Bench::new(cluster(&[("data-north", 1)]), vec![templated], |_| {});
    bench.publish("c", "no rth/x", b"{\"id\":\"a\"}");
    bench.publish("c", "north/x", b"{}");
    bench.publish("c", "north/x", b"{\"id\":\"a\"}");
    bench.flush();
    bench.wait_reports(3);
    assert_eq!(bench.refused(), 2);
    assert_eq!(bench.consume("data-north", all_of(1))[0].key, "a");
    bench.wait_for("the log is released", || bench.log.status().records == 0);
}

#[test]
fn without_routes_all_goes_to_the_default_topic_by_client() {
    let mut bench = Bench::new(cluster(&[("mqtt", 3)]), Vec::new(), |_| {});
    bench.publish("client-9", "any/topic", b"v");
    bench.publish("client-9", "$SYS/x", b"not sunk");
    bench.flush();
    bench.wait_reports(1);
    let seen = bench.consume("mqtt", all_of(1));
    assert_eq!((seen.len(), seen[0].key.as_str()), (1, "client-9"));
}
