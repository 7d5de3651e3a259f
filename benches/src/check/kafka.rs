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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::acked::{Promise, Promises};
    use crate::client::ranges::Ranges;

    const SENT: u64 = 200;

    /// Puts each device's publishes into a partition of its own, without those that `keep` refuses, and reads all back.
    fn verdict(keep: impl Fn(&str, u64) -> bool) -> crate::check::verdict::Verdict {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("telemetry", 3, 1).unwrap();
        let bootstrap = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("batch.num.messages", "10")
            .create()
            .unwrap();
        let ids = ["a", "b", "c"];
        for sequence in 0..SENT {
            for (partition, id) in (0..).zip(ids).filter(|(_, id)| keep(id, sequence)) {
                let payload = format!("{id} {sequence} r xx");
                let record = BaseRecord::to("telemetry")
                    .partition(partition)
                    .key(id)
                    .payload(&payload);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
        }
        producer.flush(ASK).unwrap();
        let promise = |id: &&str| Promise {
            id: (*id).to_owned(),
            sent: SENT,
            open: Ranges::default(),
        };
        let promises = Promises {
            run: "r".to_owned(),
            devices: ids.iter().map(promise).collect(),
        };
        let mut checker = Checker::new(&promises);
        let args = Args {
            acked: PathBuf::new(),
            bootstrap,
            topic: vec!["telemetry".to_owned()],
            // Several fetches per partition, so that the ends of partitions come apart.
            property: vec!["max.partition.fetch.bytes=1000".to_owned()],
            wait: Duration::ZERO,
            timeout: Duration::from_secs(20),
            any_key: false,
            no_duplicates: false,
        };
        read(&args, &mut checker).unwrap();
        checker.verdict()
    }

    #[test]
    fn all_partitions_are_read_to_their_end() {
        let whole = verdict(|_, _| true);
        assert_eq!(
            (whole.records, whole.lost, whole.out_of_order, whole.split),
            (3 * SENT, 0, 0, 0)
        );
        assert_eq!(whole.wrong_key, 0);
    }

    #[test]
    fn the_last_record_of_a_partition_is_missed_and_an_empty_partition_ends_too() {
        let cut = verdict(|id, sequence| id != "c" && !(id == "b" && sequence == SENT - 1));
        assert_eq!((cut.lost, cut.records), (SENT + 1, 2 * SENT - 1));
    }
}
