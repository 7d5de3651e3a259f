//! The main job: what clients that others wrote publish stands in Kafka, once, in order, under its device's key.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};

use crate::args;
use crate::support::forebay::{Forebay, config, route};
use crate::support::kafka::Kafka;
use crate::support::records::{Record, Verdict, judge};
use crate::support::{block_on, kafka, tools};

const WITHIN: Duration = Duration::from_secs(60);
const COUNT: u64 = 50;

/// `client:number:` of all messages of a client.
fn all_of(client: &str) -> impl Iterator<Item = (String, u64)> {
    (0..COUNT).map(move |number| (client.to_owned(), number))
}

/// Nothing missing, doubled, out of order or scattered; positions differ; each header as it must be.
fn check(records: &[Record], clients: &[(String, u8)]) {
    let verdict = judge(records, clients.iter().flat_map(|(client, _)| all_of(client)));
    assert_eq!(verdict, Verdict::default());
    assert_eq!(records.len(), clients.len() * COUNT as usize);
    let positions: HashSet<String> = records
        .iter()
        .map(|record| record.header("forebay.position").expect("a position"))
        .collect();
    assert_eq!(positions.len(), records.len(), "each record has its own position");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    for record in records {
        let qos = clients
            .iter()
            .find(|(client, _)| client == record.key())
            .map(|(_, qos)| qos.to_string());
        assert_eq!(
            record.header("mqtt.topic"),
            Some(format!("devices/{}/telemetry", record.key()))
        );
        assert_eq!(record.header("mqtt.qos"), qos);
        assert_eq!(record.header("mqtt.client_id").as_deref(), Some(record.key()));
        let age = now - record.timestamp_ms.expect("a time of arrival");
        assert!((-1000..120_000).contains(&age), "arrived {age} ms ago");
    }
}

/// The route of `topic` with every header that a publish of any version has.
fn with_headers(topic: &str) -> String {
    let headers = "headers = [\"mqtt.topic\", \"mqtt.qos\", \"mqtt.client_id\", \"forebay.position\", \
                   \"content-type\", \"correlation-data\", \"response-topic\", \"user-properties\"]\n";
    route(topic) + headers
}

fn start(topic: &str, partitions: i32) -> (&'static Kafka, Forebay) {
    let kafka = Kafka::shared();
    kafka.create_topic(topic, partitions, &[]);
    let forebay = Forebay::start(&config(&kafka.bootstrap(), &with_headers(topic)));
    forebay.wait_ready(WITHIN);
    (kafka, forebay)
}

#[test]
fn mosquitto_of_each_version_and_qos_lands_once_in_order() {
    let (kafka, forebay) = start("from-mosquitto", 6);
    let mut clients = Vec::new();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in 0..=2 {
            let client = format!("m-{version}-{qos}");
            let lines: String = (0..COUNT).map(|number| format!("{client}:{number}:\n")).collect();
            let topic = format!("devices/{client}/telemetry");
            let done = tools::publish(forebay.mqtt, version, qos, &client, &topic, &lines);
            assert_eq!(done.status, Some(0), "{}", done.stderr);
            clients.push((client, qos));
        }
    }
    check(
        &kafka.read_at_least("from-mosquitto", clients.len() * COUNT as usize, WITHIN),
        &clients,
    );
}

#[test]
fn paho_of_each_version_and_qos_lands_once_in_order_with_its_properties() {
    let (kafka, forebay) = start("from-paho", 6);
    let mut clients = Vec::new();
    for version in [4, 5] {
        for qos in 0..=2 {
            let client = format!("p-{version}-{qos}");
            let topic = format!("devices/{client}/telemetry");
            let done = tools::python(
                "publish.py",
                &args![forebay.mqtt, version, qos, client, topic, COUNT],
            );
            assert_eq!(done.status, Some(0), "{}", done.stderr);
            assert_eq!(done.stdout.lines().count() as u64, COUNT, "{}", done.stdout);
            let refused = done.stdout.lines().find(|line| !line.ends_with("Success"));
            assert_eq!(refused, None, "success, also where only Kafka takes it");
            clients.push((client, qos));
        }
    }
    let records = kafka.read_at_least("from-paho", clients.len() * COUNT as usize, WITHIN);
    check(&records, &clients);
    for record in &records {
        let five = record.key().starts_with("p-5");
        let has = |text: &str| five.then(|| text.to_owned());
        assert_eq!(record.header("content-type"), has("text/plain"));
        assert_eq!(
            record.header("response-topic"),
            has(&format!("answers/{}", record.key()))
        );
        assert_eq!(record.header("correlation-data"), has("\0\u{1}correlation"));
        assert_eq!(record.header("site"), has("north"));
        assert_eq!(record.header("unit"), has("°C"));
    }
}

#[test]
fn rumqttc_of_both_versions_lands_once_in_order() {
    let (kafka, forebay) = start("from-rumqttc", 6);
    let clients = [
        ("r-4-1".to_owned(), 1),
        ("r-4-2".to_owned(), 2),
        ("r-5-1".to_owned(), 1),
    ];
    block_on(WITHIN, async {
        publish_v4("r-4-1", forebay.mqtt, QoS::AtLeastOnce).await;
        publish_v4("r-4-2", forebay.mqtt, QoS::ExactlyOnce).await;
        publish_v5("r-5-1", forebay.mqtt).await;
    });
    check(
        &kafka.read_at_least("from-rumqttc", clients.len() * COUNT as usize, WITHIN),
        &clients,
    );
}

async fn publish_v4(client: &str, port: u16, qos: QoS) {
    let (handle, mut events) = AsyncClient::new(MqttOptions::new(client, "127.0.0.1", port), 100);
    for number in 0..COUNT {
        let topic = format!("devices/{client}/telemetry");
        handle
            .publish(topic, qos, false, format!("{client}:{number}:"))
            .await
            .unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < COUNT {
        if let Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) = events.poll().await.unwrap() {
            acknowledged += 1;
        }
    }
    handle.disconnect().await.unwrap();
    while !matches!(
        events.poll().await,
        Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)
    ) {}
}

async fn publish_v5(client: &str, port: u16) {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};

    let (handle, mut events) = AsyncClient::new(MqttOptions::new(client, "127.0.0.1", port), 100);
    for number in 0..COUNT {
        let topic = format!("devices/{client}/telemetry");
        handle
            .publish(topic, QoS::AtLeastOnce, false, format!("{client}:{number}:"))
            .await
            .unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < COUNT {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
            acknowledged += 1;
        }
    }
}

#[test]
fn kafkas_own_console_consumer_sees_the_readmes_example() {
    let kafka = Kafka::shared();
    kafka.create_topic("readme", 3, &[]);
    let forebay = Forebay::with_route(&kafka.bootstrap(), "readme");
    let done = tools::mosquitto_pub(
        forebay.mqtt,
        &["-t", "devices/d7/telemetry", "-m", "x", "-q", "1"],
    );
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let seen = kafka::java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &args![
            "--bootstrap-server",
            kafka.bootstrap(),
            "--topic",
            "readme",
            "--from-beginning",
            "--max-messages",
            1,
            "--timeout-ms",
            30_000,
            "--property",
            "print.key=true",
            "--property",
            "key.separator=="
        ],
        "",
    );
    assert_eq!(seen.stdout.trim(), "d7=x", "{}", seen.stderr);
}

#[test]
fn without_a_route_all_goes_to_the_default_topic_under_the_client_id() {
    let kafka = Kafka::shared();
    kafka.create_topic("all-of-it", 3, &[]);
    let forebay = Forebay::start(&config(
        &kafka.bootstrap(),
        "[kafka]\ndefault_topic = \"all-of-it\"\ndefault_ack = \"kafka\"\n",
    ));
    forebay.wait_ready(WITHIN);
    let done = tools::mosquitto_pub(
        forebay.mqtt,
        &["-i", "c9", "-t", "some/where", "-m", "", "-q", "1"],
    );
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let records = kafka.read("all-of-it");
    assert_eq!(records.len(), 1, "acknowledged, so it is there at once");
    assert_eq!(
        (records[0].key(), records[0].value.as_deref()),
        ("c9", Some(b"".as_slice()))
    );
}

#[test]
fn every_partition_is_the_one_that_kafkas_own_producer_takes() {
    let kafka = Kafka::shared();
    kafka.create_topic("by-java", 7, &[]);
    kafka.create_topic("by-forebay", 7, &[]);
    let mut devices: Vec<String> = (0..150).map(|number| format!("d{number}")).collect();
    devices.extend(
        [
            "a",
            "é",
            "Gerät-7",
            "温度計",
            "x y",
            "00000000-0000-4000-8000-000000000001",
        ]
        .map(str::to_owned),
    );
    devices.extend((1..40).map(|length| "k".repeat(length)));
    let lines: String = devices.iter().map(|device| format!("{device}=v\n")).collect();
    let done = kafka::java(
        "org.apache.kafka.tools.ConsoleProducer",
        &args![
            "--bootstrap-server",
            kafka.bootstrap(),
            "--topic",
            "by-java",
            "--property",
            "parse.key=true",
            "--property",
            "key.separator=="
        ],
        &lines,
    );
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let forebay = Forebay::with_route(&kafka.bootstrap(), "by-forebay");
    block_on(WITHIN, async {
        let (handle, mut events) = AsyncClient::new(MqttOptions::new("all", "127.0.0.1", forebay.mqtt), 1000);
        for device in &devices {
            handle
                .publish(format!("devices/{device}/t"), QoS::AtLeastOnce, false, "v")
                .await
                .unwrap();
        }
        let mut acknowledged = 0;
        while acknowledged < devices.len() {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
                acknowledged += 1;
            }
        }
    });
    let places = |topic: &str| {
        let mut places: Vec<(String, i32)> = kafka
            .read(topic)
            .iter()
            .map(|record| (record.key().to_owned(), record.partition))
            .collect();
        places.sort();
        places
    };
    let java = places("by-java");
    assert_eq!(java.len(), devices.len());
    assert_eq!(places("by-forebay"), java);
}
