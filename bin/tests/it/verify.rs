//! `forebay verify`: says that all is well where it is, and what is wrong with a bridge that loses, doubles and swaps.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::args;
use crate::support::forebay::{self, Forebay, PLAIN};
use crate::support::kafka::Kafka;
use crate::support::{block_on, wait_for};

/// Runs it as JSON, with further arguments: the exit code and the result.
fn verify(port: u16, kafka: &Kafka, topic: &str, further: &[&str]) -> (Option<i32>, Value) {
    let mut all = args![
        "verify",
        "--broker",
        format!("127.0.0.1:{port}"),
        "--kafka",
        kafka.bootstrap(),
        "--topic",
        topic,
        "--json"
    ]
    .to_vec();
    all.extend(further.iter().map(ToString::to_string));
    let done = forebay::run(&all);
    let result = serde_json::from_str(&done.stdout);
    let result = result.unwrap_or_else(|_| panic!("{}\n{}", done.stdout, done.stderr));
    eprintln!("{result}");
    (done.status, result)
}

fn count(result: &Value, name: &str) -> u64 {
    result[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {result}"))
}

#[test]
fn verify_finds_nothing_wrong_with_forebay() {
    let kafka = Kafka::shared();
    kafka.create_topic("verified", 6, &[]);
    let forebay = Forebay::with_route(&kafka.bootstrap(), "verified");
    for further in [
        &["--for", "2s", "--rate", "1000"][..],
        &[
            "--for",
            "2s",
            "--qos",
            "2",
            "--mqtt",
            "5",
            "--devices",
            "7",
            "--quiet",
        ],
    ] {
        let (code, result) = verify(forebay.mqtt, kafka, "verified", further);
        assert_eq!(
            (code, &result["passed"]),
            (Some(0), &Value::Bool(true)),
            "{result}"
        );
        let published = count(&result, "published");
        assert!(published > 500, "{result}");
        for name in ["acknowledged", "in_kafka", "keyed_by_device"] {
            assert_eq!(count(&result, name), published, "{name}");
        }
        for name in [
            "lost",
            "duplicated",
            "out_of_order",
            "scattered_devices",
            "refused",
            "without_key",
        ] {
            assert_eq!(count(&result, name), 0, "{name}");
        }
    }
}

#[test]
fn verify_sees_what_a_bad_bridge_does() {
    let kafka = Kafka::shared();
    kafka.create_topic("bad-bridge", 1, &[]);
    let broker = Forebay::start(PLAIN);
    let bridge = Bridge::start(broker.mqtt, kafka, "bad-bridge");
    let (code, result) = verify(
        broker.mqtt,
        kafka,
        "bad-bridge",
        &["--for", "2s", "--devices", "2", "--rate", "50", "--wait", "3s"],
    );
    bridge.stop();
    assert_eq!(
        (code, &result["passed"]),
        (Some(1), &Value::Bool(false)),
        "{result}"
    );
    for name in ["lost", "duplicated", "out_of_order"] {
        assert_eq!(count(&result, name), 1, "{name}");
    }
    assert_eq!(count(&result, "without_key"), count(&result, "in_kafka") + 1);
    let examples = result["examples"].to_string();
    assert!(
        examples.contains("device 1: 3 was acknowledged and is not there")
            && examples.contains("device 1: 5 stands behind 6 in partition 0"),
        "{examples}"
    );
}

/// A bridge from a broker to Kafka, without keys and with an envelope around each payload. Of the device whose name
/// ends with 1 it loses number 3, sends 4 twice, and 5 after 6.
struct Bridge {
    stop: std::sync::mpsc::SyncSender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Bridge {
    fn start(port: u16, kafka: &Kafka, topic: &'static str) -> Self {
        let producer: BaseProducer = kafka.client().create().unwrap();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            block_on(Duration::from_secs(60), async {
                let (client, mut events) =
                    AsyncClient::new(MqttOptions::new("bridge", "127.0.0.1", port), 100);
                client.subscribe("devices/#", QoS::AtLeastOnce).await.unwrap();
                let mut held = None;
                while stopped.try_recv().is_err() {
                    let event = tokio::time::timeout(Duration::from_millis(100), events.poll()).await;
                    let publish = match event {
                        Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => publish,
                        Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => {
                            ready.send(()).unwrap();
                            continue;
                        }
                        Ok(event) => {
                            event.unwrap();
                            continue;
                        }
                        Err(_) => continue,
                    };
                    let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                    let number = text
                        .split_once(":1:")
                        .map(|(_, rest)| rest.split(';').next().unwrap());
                    let value = serde_json::json!({ "topic": publish.topic, "payload": text }).to_string();
                    let send = |value: &str| {
                        producer
                            .send(BaseRecord::<(), str>::to(topic).payload(value))
                            .unwrap();
                    };
                    match number {
                        Some("3") => {}
                        Some("4") => [&value, &value].map(|value| send(value)).into_iter().collect(),
                        Some("5") => held = Some(value),
                        Some("6") => [value, held.take().unwrap()].iter().for_each(|value| send(value)),
                        _ => send(&value),
                    }
                    producer.poll(Duration::ZERO);
                }
                producer.flush(Duration::from_secs(10)).unwrap();
            });
        });
        wait_for("the bridge has subscribed", Duration::from_secs(10), || {
            started.try_recv().ok()
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}
