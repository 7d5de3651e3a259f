//! The harness itself: a real Kafka starts, answers, stops, freezes and comes back with what it held.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::kafka::Kafka;
use crate::support::records::{Record, Verdict, judge};

#[test]
fn kafka_keeps_its_records_over_a_stop() {
    let mut kafka = Kafka::start();
    kafka.create_topic("kept", 2, &[]);
    let producer: BaseProducer = kafka.client().create().unwrap();
    for number in 0..10 {
        let value = format!("d:{number}:");
        producer
            .send(BaseRecord::to("kept").key("d").payload(&value))
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    kafka.stop();
    kafka.up();
    let records = kafka.read("kept");
    assert_eq!(records.len(), 10);
    let verdict = judge(&records, (0..10).map(|number| ("d".to_owned(), number)));
    assert_eq!(verdict, Verdict::default());
}

#[test]
fn the_judge_sees_each_fault() {
    let record = |partition, key: &str, number: u64| Record {
        partition,
        offset: 0,
        key: Some(key.to_owned()),
        value: Some(format!("{key}:{number}:").into_bytes()),
        headers: Vec::new(),
        timestamp_ms: None,
    };
    let acknowledged = || (0..4).map(|number| ("a".to_owned(), number));
    let fine: Vec<Record> = (0..4).map(|number| record(0, "a", number)).collect();
    assert_eq!(judge(&fine, acknowledged()), Verdict::default());
    let lost = judge(&fine[..3], acknowledged());
    assert_eq!(
        lost,
        Verdict {
            missing: 1,
            ..Verdict::default()
        }
    );
    let swapped = [0, 2, 1, 3].map(|number| record(0, "a", number));
    assert_eq!(
        judge(&swapped, acknowledged()),
        Verdict {
            out_of_order: 1,
            ..Verdict::default()
        }
    );
    let twice = [0, 1, 0, 1, 2, 3].map(|number| record(0, "a", number));
    assert_eq!(
        judge(&twice, acknowledged()),
        Verdict {
            duplicates: 2,
            ..Verdict::default()
        }
    );
    let apart = [
        record(0, "a", 0),
        record(0, "a", 1),
        record(1, "a", 2),
        record(1, "a", 3),
    ];
    assert_eq!(
        judge(&apart, acknowledged()),
        Verdict {
            scattered: 1,
            ..Verdict::default()
        }
    );
}
