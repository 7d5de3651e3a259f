//! Watches Kafka from outside: a consumer that hands on every record as it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Records that wait to be taken; the consumer waits when there are more.
const WAITING: usize = 1024;

const POLL: Duration = Duration::from_millis(50);

/// How long one question to Kafka may take.
const ASK: Duration = Duration::from_secs(10);

/// A record as it stands in Kafka.
pub struct Arrival {
    /// Its topic, by its number among those watched.
    pub topic: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key, empty where it has none.
    pub key: Vec<u8>,
    /// Its value.
    pub payload: Vec<u8>,
}

/// A running watch.
pub struct Watch {
    /// What arrives.
    pub arrivals: Receiver<Arrival>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Watches all partitions of `topics` for what is written from now on. `properties` are librdkafka's, with
    /// `bootstrap.servers` among them.
    pub fn start(properties: &[(String, String)], topics: &[String]) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("group.id", "forebay-watch")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50");
        for (name, value) in properties {
            config.set(name, value);
        }
        let consumer: BaseConsumer = config.create().context("the Kafka consumer")?;
        let mut partitions = TopicPartitionList::new();
        for topic in topics {
            // An offset that is asked for now: "the end" would be looked up after the first records.
            for (partition, end) in ends(&consumer, topic)? {
                partitions.add_partition_offset(topic, partition, Offset::Offset(end))?;
            }
        }
        consumer.assign(&partitions)?;
        let (sender, arrivals) = sync_channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topics) = (stop.clone(), topics.to_vec());
        let work = move || watch(&consumer, &topics, &sender, &stopped);
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(work)?;
        Ok(Self {
            arrivals,
            stop,
            thread,
        })
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // Without a receiver a full channel does not hold the thread.
        drop(self.arrivals);
        let _ = self.thread.join();
    }
}

/// The partitions of a topic, each with the offset of the next record.
fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i32, i64)>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), ASK)
        .with_context(|| format!("asking Kafka for topic {topic}"))?;
    let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let partitions: Vec<i32> = found.map(|partition| partition.id()).collect();
    ensure!(
        !partitions.is_empty(),
        "Kafka has no topic {topic}\n    hint: make it first, or name another one with --topic"
    );
    let mut ends = Vec::new();
    for partition in partitions {
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, ASK)
            .with_context(|| format!("asking Kafka for the end of topic {topic}, partition {partition}"))?;
        ends.push((partition, end));
    }
    Ok(ends)
}

fn watch(consumer: &BaseConsumer, topics: &[String], sender: &SyncSender<Arrival>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let message = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                tracing::warn!(%error, "reading Kafka back");
                continue;
            }
        };
        let topic = topics.iter().position(|topic| topic == message.topic());
        let arrival = Arrival {
            topic: topic.unwrap_or_default(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            payload: message.payload().unwrap_or_default().to_vec(),
        };
        if sender.send(arrival).is_err() {
            return;
        }
    }
}
