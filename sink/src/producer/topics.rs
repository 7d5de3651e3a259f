//! Asks Kafka for topics: whether they are there, with how many partitions, and makes them where that is wanted. Its
//! calls block, so that it has a thread of its own; the pump asks and looks for answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::config::SinkConfig;
use crate::properties;

const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a topic's limits are read again.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(300);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found out about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is there.
    Ready {
        /// Its partitions.
        partitions: u32,
    },
    /// It can't take records; the text names the remedy.
    Stuck(String),
    /// Kafka does not answer.
    Unreachable(String),
    /// Greatest batch that it takes.
    MaxMessageBytes(usize),
}

/// An answer.
pub(crate) type Answer = (Arc<str>, Finding);

/// Whoever answers for topics.
pub(crate) trait Topics: Send {
    /// Asks for `topic`; the answer comes later. At most one question for a topic is open at a time.
    fn ask(&mut self, topic: &Arc<str>);

    /// The next answer, if there is one. Fails when nobody answers any more.
    fn answer(&mut self) -> Result<Option<Answer>, String>;
}

/// The thread that asks Kafka. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    questions: SyncSender<Arc<str>>,
    answers: Receiver<Answer>,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(config: &SinkConfig) -> Result<Self, String> {
        // One question for each topic at most, and two answers to it: neither end ever waits for long.
        let (questions, asked) = sync_channel(config.max_topics + config.routes.len() + 1);
        let (found, answers) = sync_channel(2 * (config.max_topics + config.routes.len() + 1));
        let worker = Worker {
            client: properties::common(config),
            create: config
                .create_topics
                .then_some((config.partitions, config.replication)),
            consumer: None,
            admin: None,
            found,
            max_packet_bytes: config.max_packet_bytes,
            described: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("forebay-topics".to_owned())
            .spawn(move || worker.run(&asked))
            .map_err(|error| error.to_string())?;
        Ok(Self { questions, answers })
    }
}

impl Topics for Keeper {
    fn ask(&mut self, topic: &Arc<str>) {
        // Full can't be: see above. Should it be all the same, the pump asks again.
        let _ = self.questions.try_send(Arc::clone(topic));
    }

    fn answer(&mut self) -> Result<Option<Answer>, String> {
        match self.answers.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err("the thread that asks for topics ended".to_owned()),
        }
    }
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // Properties for producers that the others do not know are no news.
        if facility != "CONFWARN" {
            crate::producer::log(level, facility, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client for topics");
    }
}

impl ConsumerContext for Quiet {}

struct Worker {
    client: ClientConfig,
    create: Option<(u32, u16)>,
    /// A consumer asks, because a producer's question makes brokers create the topic with their own defaults.
    consumer: Option<BaseConsumer<Quiet>>,
    admin: Option<AdminClient<Quiet>>,
    found: SyncSender<Answer>,
    max_packet_bytes: usize,
    /// Topics whose limits were read, and when.
    described: HashMap<Arc<str>, Instant>,
}

impl Worker {
    fn run(mut self, asked: &Receiver<Arc<str>>) {
        while let Ok(topic) = asked.recv() {
            let (finding, unreachable) = self.look(&topic);
            let ready = matches!(finding, Finding::Ready { .. });
            if self.found.send((Arc::clone(&topic), finding.clone())).is_err() {
                return;
            }
            // When Kafka is away, every further question would wait out its whole time.
            while unreachable && let Ok(other) = asked.try_recv() {
                if self.found.send((other, finding.clone())).is_err() {
                    return;
                }
            }
            let read = self.described.get(&topic);
            if ready && read.is_none_or(|at| at.elapsed() > DESCRIBE_AGAIN) {
                let first = read.is_none();
                self.described.insert(Arc::clone(&topic), Instant::now());
                if let Some(max) = self.describe(&topic, first)
                    && self.found.send((topic, Finding::MaxMessageBytes(max))).is_err()
                {
                    return;
                }
            }
        }
    }

    /// How the topic stands, and whether that is so because no broker answered at all.
    fn look(&mut self, topic: &str) -> (Finding, bool) {
        let finding = match self.metadata(topic) {
            Ok(finding) => finding,
            Err(error) => {
                return (
                    Finding::Unreachable(format!("Kafka does not answer: {error}")),
                    true,
                );
            }
        };
        let missing = matches!(&finding, Finding::Stuck(text) if text.contains(MISSING));
        match self.create {
            Some((partitions, replication)) if missing => {
                (self.create(topic, partitions, replication), false)
            }
            _ => (finding, false),
        }
    }

    fn metadata(&mut self, topic: &str) -> Result<Finding, KafkaError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => BaseConsumer::from_config_and_context(&self.client, Quiet)?,
        };
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        // Serves its log lines; a consumer that subscribed to nothing has no message.
        let _ = consumer.poll(Duration::ZERO);
        self.consumer = Some(consumer);
        let metadata = metadata?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
            return Ok(missing(topic));
        };
        let partitions = found.partitions().len() as u32;
        Ok(match found.error().map(Code::from) {
            None if partitions > 0 => Finding::Ready { partitions },
            None | Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => missing(topic),
            Some(Code::TopicAuthorizationFailed) => Finding::Stuck(format!(
                "topic \"{topic}\": this user may not describe it: allow Describe and Write on it to Forebay's user"
            )),
            Some(Code::LeaderNotAvailable) if partitions > 0 => Finding::Ready { partitions },
            Some(code) => Finding::Stuck(format!("topic \"{topic}\": {code}")),
        })
    }

    fn create(&mut self, topic: &str, partitions: u32, replication: u16) -> Finding {
        let result = self.admin(|admin, options| {
            let replication = TopicReplication::Fixed(i32::from(replication));
            let new = NewTopic::new(topic, i32::try_from(partitions).unwrap_or(1), replication);
            let results = block_on(admin.create_topics([&new], options))?;
            let first = results?.into_iter().next();
            Ok(first.map(|result| result.map_err(|(_, code)| code)))
        });
        match result {
            Ok(Some(Ok(_))) => tracing::info!(topic, partitions, replication, "topic created"),
            // Somebody else was faster.
            Ok(Some(Err(Code::TopicAlreadyExists))) => {}
            Ok(Some(Err(code))) => {
                return Finding::Stuck(format!(
                    "topic \"{topic}\" can't be created with {partitions} partitions and replication {replication}: \
                     {code}: create it, or mend kafka.partitions, kafka.replication or this user's rights"
                ));
            }
            Ok(None) => return Finding::Unreachable("Kafka did not answer CreateTopics".to_owned()),
            Err(error) => {
                return Finding::Unreachable(format!("topic \"{topic}\" can't be created yet: {error}"));
            }
        }
        // It may take brokers a moment until all of them know it.
        for _ in 0..20 {
            match self.metadata(topic) {
                Ok(Finding::Stuck(_)) => std::thread::sleep(Duration::from_millis(100)),
                Ok(finding) => return finding,
                Err(_) => break,
            }
        }
        Finding::Unreachable(format!("topic \"{topic}\" was created and is not seen yet"))
    }

    fn admin<T>(
        &mut self,
        run: impl FnOnce(&AdminClient<Quiet>, &AdminOptions) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => AdminClient::from_config_and_context(&self.client, Quiet)?,
        };
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .operation_timeout(Some(ADMIN_TIMEOUT));
        let result = run(&admin, &options);
        self.admin = Some(admin);
        result
    }

    /// Reads what the topic promises and, the first time, warns where that is less than Forebay's own promise.
    fn describe(&mut self, topic: &str, first: bool) -> Option<usize> {
        let described = self.admin(|admin, _| {
            let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
            block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options))?
        });
        let configs = match described {
            Ok(configs) => configs,
            Err(error) => {
                tracing::debug!(topic, %error, "the topic's configuration can't be read");
                return None;
            }
        };
        let config = configs.into_iter().next()?.ok()?;
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.clone());
        let max = value("max.message.bytes").and_then(|max| max.parse().ok());
        if !first {
            return max;
        }
        if value("min.insync.replicas").as_deref() == Some("1") && self.replicas(topic) > 1 {
            tracing::warn!(
                topic,
                "min.insync.replicas is 1: a record that one broker alone has counts as delivered; set it to 2"
            );
        }
        if value("unclean.leader.election.enable").as_deref() == Some("true") {
            tracing::warn!(
                topic,
                "unclean.leader.election.enable is true: Kafka itself may lose records that were acknowledged"
            );
        }
        let max: usize = max?;
        if max < self.max_packet_bytes {
            tracing::warn!(
                topic,
                max,
                max_packet_bytes = self.max_packet_bytes,
                "max.message.bytes of the topic is below limits.max_packet_bytes: Kafka will refuse the largest publishes"
            );
        }
        Some(max)
    }

    fn replicas(&self, topic: &str) -> usize {
        let consumer = self.consumer.as_ref();
        let metadata = consumer.and_then(|c| c.fetch_metadata(Some(topic), METADATA_TIMEOUT).ok());
        let replicas = metadata.as_ref().and_then(|metadata| {
            let topic = metadata.topics().iter().find(|t| t.name() == topic)?;
            topic.partitions().first().map(|p| p.replicas().len())
        });
        replicas.unwrap_or_default()
    }
}

const MISSING: &str = "does not exist";

fn missing(topic: &str) -> Finding {
    Finding::Stuck(format!(
        "topic \"{topic}\" {MISSING}: create it, or set create_topics = true under [kafka]"
    ))
}

fn block_on<F: Future>(future: F) -> Result<F::Output, KafkaError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
    Ok(runtime.block_on(future))
}
