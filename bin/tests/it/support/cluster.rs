//! Three Kafka nodes on loopback, each broker and controller, so that leaders can move.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::kafka::{Kafka, folder, format_storage, launch};
use super::process::Process;
use super::{block_on, free_port, wait_for};

const NODES: usize = 3;
const START: Duration = Duration::from_secs(120);

/// The nodes. They end with this value.
pub struct Cluster {
    nodes: Vec<Node>,
}

struct Node {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Three running nodes.
    pub fn start() -> Self {
        let ports: Vec<(u16, u16)> = (0..NODES).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> = (1..)
            .zip(&ports)
            .map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let nodes = (1..).zip(&ports).map(|(id, (port, controller))| {
            let dir = folder();
            let lines = [
                format!("node.id={id}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
                format!("advertised.listeners=CLIENTS://127.0.0.1:{port}"),
                "inter.broker.listener.name=CLIENTS".to_owned(),
                "listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
                "offsets.topic.replication.factor=3".to_owned(),
                "transaction.state.log.replication.factor=3".to_owned(),
                "transaction.state.log.min.isr=2".to_owned(),
                "broker.session.timeout.ms=6000".to_owned(),
            ];
            format_storage(dir.path(), lines.to_vec());
            Node {
                process: Some(launch(dir.path())),
                dir,
                port: *port,
            }
        });
        let cluster = Self {
            nodes: nodes.collect(),
        };
        cluster.wait_nodes(NODES);
        cluster
    }

    /// Waits until so many nodes are known to all.
    fn wait_nodes(&self, count: usize) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for(&format!("{count} nodes of Kafka"), START, || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            (metadata.brokers().len() == count).then_some(())
        });
    }

    pub fn bootstrap(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        nodes.join(",")
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    /// The same as one Kafka for those who only read.
    pub fn reader(&self) -> Kafka {
        Kafka::elsewhere(&self.bootstrap())
    }

    /// Makes a topic with three replicas, of which two must have a record before it is acknowledged.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topic =
            NewTopic::new(name, partitions, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let made = block_on(Duration::from_secs(60), admin.create_topics([&topic], &options)).unwrap();
        made[0].as_ref().unwrap();
    }

    /// The node (from 0) that leads the most partitions of a topic.
    pub fn leader(&self, topic: &str) -> usize {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer
            .fetch_metadata(Some(topic), Duration::from_secs(30))
            .unwrap();
        let partitions = metadata.topics()[0].partitions();
        let led = |node: usize| {
            partitions
                .iter()
                .filter(|p| p.leader() == node as i32 + 1)
                .count()
        };
        (0..NODES).max_by_key(|node| led(*node)).unwrap()
    }

    /// Ends a node in order: it hands its leaderships over first.
    pub fn stop(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().unwrap();
        process.ask_to_end();
        process.wait(Duration::from_secs(60));
    }

    /// Ends a node as a power cut would.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.take().unwrap().kill();
    }

    /// Starts a node again and waits until the others know it.
    pub fn up(&mut self, node: usize) {
        let process = launch(self.nodes[node].dir.path());
        self.nodes[node].process = Some(process);
        self.wait_nodes(NODES);
    }
}
