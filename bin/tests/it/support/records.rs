//! What stands in Kafka, read back by a plain consumer, and what must hold of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};

use super::kafka::Kafka;
use super::wait_for;

/// One record as Kafka holds it.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub timestamp_ms: Option<i64>,
}

impl Record {
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The header's value; fails where it stands twice.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found
            .next()
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        assert!(found.next().is_none(), "header {name} stands twice: {self:?}");
        value
    }
}

impl Kafka {
    /// Every record of a topic, partition by partition, in the order of its offsets.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let mut config = self.client();
        config
            .set("group.id", "reader")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let wait = Duration::from_secs(30);
        let mut missing = HashMap::new();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.partitions(topic).unwrap_or(0) as i32 {
            let (low, high) = consumer.fetch_watermarks(topic, partition, wait).unwrap();
            if high > low {
                missing.insert(partition, high);
                assignment
                    .add_partition_offset(topic, partition, Offset::Beginning)
                    .unwrap();
            }
        }
        consumer.assign(&assignment).unwrap();
        let mut records = Vec::new();
        let mut moved = Instant::now();
        while !missing.is_empty() {
            assert!(
                moved.elapsed() < Duration::from_secs(60),
                "topic {topic} cannot be read to its end"
            );
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
                continue;
            };
            moved = Instant::now();
            let record = copy(&message);
            if missing.get(&record.partition) == Some(&(record.offset + 1)) {
                missing.remove(&record.partition);
            }
            records.push(record);
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Records that the topic holds.
    pub fn held(&self, topic: &str) -> i64 {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let wait = Duration::from_secs(10);
        (0..self.partitions(topic).unwrap_or(0) as i32)
            .filter_map(|partition| consumer.fetch_watermarks(topic, partition, wait).ok())
            .map(|(low, high)| high - low)
            .sum()
    }

    /// Waits until the topic holds at least `count` records, and returns all it holds then.
    pub fn read_at_least(&self, topic: &str, count: usize, within: Duration) -> Vec<Record> {
        wait_for(&format!("{count} records in {topic}"), within, || {
            (self.held(topic) >= count as i64).then_some(())
        });
        self.read(topic)
    }
}

fn copy(message: &impl Message) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: message.timestamp().to_millis(),
    }
}

/// What a comparison of the acknowledged with the delivered found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not in Kafka.
    pub missing: usize,
    /// First appearances that stand after a later one of the same device.
    pub out_of_order: usize,
    /// Records that stand in Kafka more than once.
    pub duplicates: usize,
    /// Devices whose records are in more than one partition.
    pub scattered: usize,
}

/// Compares `acknowledged` (device, number) with what Kafka holds; payloads begin with `device:number:`.
pub fn judge(records: &[Record], acknowledged: impl IntoIterator<Item = (String, u64)>) -> Verdict {
    let mut seen: HashSet<(String, u64)> = HashSet::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut places: HashMap<String, HashSet<i32>> = HashMap::new();
    let mut verdict = Verdict::default();
    for record in records {
        let text = record.text();
        let mut parts = text.split(':');
        let device = parts.next().unwrap().to_owned();
        let number: u64 = parts.next().unwrap().parse().unwrap();
        assert_eq!(record.key(), device, "the key is the device");
        places.entry(device.clone()).or_default().insert(record.partition);
        if !seen.insert((device.clone(), number)) {
            verdict.duplicates += 1;
            continue;
        }
        match last.get(&device) {
            Some(highest) if *highest > number => verdict.out_of_order += 1,
            _ => {
                last.insert(device, number);
            }
        }
    }
    verdict.missing = acknowledged
        .into_iter()
        .filter(|acknowledged| !seen.contains(acknowledged))
        .count();
    verdict.scattered = places.values().filter(|partitions| partitions.len() > 1).count();
    verdict
}
