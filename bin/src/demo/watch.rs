//! Watches the embedded Kafka from outside: a consumer that hands on every record as it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Records that wait to be shown; the consumer waits when there are more.
const WAITING: usize = 1024;

const POLL: Duration = Duration::from_millis(50);

/// A record as it stands in Kafka.
pub struct Arrival {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
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
    /// Watches all partitions of `topics` from their start.
    pub fn start(servers: &str, topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "forebay-demo")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for (topic, count) in topics {
            for partition in 0..*count {
                partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&partitions)?;
        let (sender, arrivals) = sync_channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || watch(&consumer, &sender, &stopped);
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

fn watch(consumer: &BaseConsumer, sender: &SyncSender<Arrival>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let message = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                tracing::warn!(%error, "the demo's consumer");
                continue;
            }
        };
        let arrival = Arrival {
            topic: message.topic().to_owned(),
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
