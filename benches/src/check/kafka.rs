//! Reads topics whole: every partition from its first record to the end it had at the start, and on while the checker
//! misses something and there is time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Args;
use super::verdict::Checker;

/// How long one question to Kafka may take.
const ASK: Duration = Duration::from_secs(10);

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(200);

/// One topic and the partitions of it that were not read to their end yet.
struct Reader {
    topic: usize,
    consumer: BaseConsumer,
    unread: HashSet<i32>,
}

/// Gives the checker every record of the topics.
pub fn read(args: &Args, checker: &mut Checker) -> Result<()> {
    let started = Instant::now();
    let mut readers = Vec::new();
    for topic in 0..args.topic.len() {
        readers.push(Reader::open(args, topic)?);
    }
    let mut records = 0u64;
    for reader in &mut readers {
        let mut moved = Instant::now();
        while !reader.unread.is_empty() {
            let count = reader.poll(checker)?;
            records += count.unwrap_or_default();
            if count.is_some() {
                moved = Instant::now();
            }
            let waited = moved.elapsed();
            ensure!(
                waited < args.timeout,
                "nothing for {waited:?}, partitions {:?} not at their end",
                reader.unread
            );
        }
    }
    let mut looked = Instant::now();
    let mut lost = checker.lost();
    while lost > 0 && started.elapsed() < args.wait {
        for reader in &mut readers {
            records += reader.poll(checker)?.unwrap_or_default();
        }
        if looked.elapsed() > POLL {
            looked = Instant::now();
            lost = checker.lost();
        }
    }
    eprintln!(
        "read {records} records in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Reader {
    /// A consumer at the start of all the topic's partitions.
    fn open(args: &Args, topic: usize) -> Result<Self> {
        let name = args.topic.get(topic).context("no such topic")?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &args.bootstrap)
            .set("group.id", "forebay-bench")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        for property in &args.property {
            let (key, value) = property.split_once('=').context("--property takes KEY=VALUE")?;
            config.set(key, value);
        }
        let consumer: BaseConsumer = config.create().context("Kafka consumer")?;
        let metadata = consumer
            .fetch_metadata(Some(name), ASK)
            .with_context(|| format!("asking for topic {name}"))?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let unread: HashSet<i32> = partitions.map(|partition| partition.id()).collect();
        ensure!(!unread.is_empty(), "topic {name} does not exist");
        let mut list = TopicPartitionList::new();
        for &partition in &unread {
            list.add_partition_offset(name, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self {
            topic,
            consumer,
            unread,
        })
    }

    /// Takes at most one record. None: nothing came; 0: a partition is at its end.
    fn poll(&mut self, checker: &mut Checker) -> Result<Option<u64>> {
        match self.consumer.poll(POLL) {
            None => Ok(None),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.unread.remove(&partition);
                Ok(Some(0))
            }
            Some(Err(error)) => bail!("reading: {error}"),
            Some(Ok(record)) => {
                let payload = record.payload().unwrap_or_default();
                checker.record(self.topic, record.partition(), record.key(), payload);
                Ok(Some(1))
            }
        }
    }
}
