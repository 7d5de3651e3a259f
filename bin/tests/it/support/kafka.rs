//! Apache Kafka as a process: one node in KRaft mode from the jars that `make setup` fetched, on ports from the kernel.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::process::{self, Finished, Process};
use super::{block_on, free_port, root, wait_for};
use crate::args;

/// Long enough for a JVM on a busy machine with two cores.
const START: Duration = Duration::from_secs(120);

/// One Kafka with its own data. It ends with this value.
pub struct Kafka {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
    properties: Vec<(String, String)>,
}

impl Kafka {
    /// The Kafka that tests share which do it no harm; each uses topics of its own.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| {
            sweep();
            Kafka::start()
        })
    }

    /// A new one, running.
    pub fn start() -> Self {
        let mut kafka = Self::prepare();
        kafka.up();
        kafka
    }

    /// A new one with its storage formatted and its port chosen, but not running.
    pub fn prepare() -> Self {
        Self::prepare_with("PLAINTEXT", &[])
    }

    /// As `prepare`; clients are to speak `protocol`, and there are further lines of its properties.
    pub fn prepare_with(protocol: &str, further: &[&str]) -> Self {
        let dir = folder();
        let (port, controller) = (free_port(), free_port());
        let mut lines = vec![
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners=CLIENTS://127.0.0.1:{port}"),
            "inter.broker.listener.name=CLIENTS".to_owned(),
            format!("listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:PLAINTEXT"),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "share.coordinator.state.topic.replication.factor=1".to_owned(),
            "share.coordinator.state.topic.min.isr=1".to_owned(),
        ];
        lines.extend(further.iter().map(ToString::to_string));
        format_storage(dir.path(), lines);
        Self {
            dir,
            port,
            process: None,
            properties: Vec::new(),
        }
    }

    /// One that others have started, to be read.
    pub fn elsewhere(bootstrap: &str) -> Self {
        Self {
            dir: folder(),
            port: 0,
            process: None,
            properties: vec![("bootstrap.servers".to_owned(), bootstrap.to_owned())],
        }
    }

    /// What its clients need beyond its address.
    pub fn with_client_properties(mut self, properties: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.properties = properties.iter().map(owned).collect();
        self
    }

    /// Starts it and waits until it answers; again on the same port and data after `stop` or `kill`.
    pub fn up(&mut self) {
        let mut process = self.launch();
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for("Kafka is up", START, || {
            if process.ended().is_some() {
                // Its port may have gone to somebody else meanwhile: try again until the deadline.
                eprintln!("Kafka ended, starting again:\n{}", process.log_tail());
                process = self.launch();
            }
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            (!metadata.brokers().is_empty()).then_some(())
        });
        self.process = Some(process);
    }

    fn launch(&self) -> Process {
        launch(self.dir.path())
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.ask_to_end();
            process.wait(Duration::from_secs(60));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub fn freeze(&self) {
        self.process.as_ref().unwrap().freeze();
    }

    pub fn thaw(&self) {
        self.process.as_ref().unwrap().thaw();
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Settings that each client of this Kafka starts from.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    /// Makes a topic; `settings` are Kafka's own topic settings.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let made = block_on(Duration::from_secs(60), admin.create_topics([&topic], &options)).unwrap();
        made[0].as_ref().unwrap();
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let gone = block_on(Duration::from_secs(60), admin.delete_topics(&[name], &options)).unwrap();
        gone[0].as_ref().unwrap();
    }

    /// Partitions of a topic, `None` when there is no such topic.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(30)).unwrap();
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        found.map(|found| found.partitions().len())
    }
}

/// A folder for one node, with a name by which a later run knows whose it was.
pub(super) fn folder() -> tempfile::TempDir {
    let prefix = format!("forebay-kafka-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()
}

/// Writes `server.properties` and formats the storage of one node in `dir`.
pub(super) fn format_storage(dir: &Path, lines: Vec<String>) {
    let data = dir.join("data");
    let mut all = lines;
    all.extend([
        "process.roles=broker,controller".to_owned(),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("log.dirs={}", data.display()),
        "auto.create.topics.enable=false".to_owned(),
        "offsets.topic.num.partitions=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        "log.retention.ms=-1".to_owned(),
        "num.network.threads=2".to_owned(),
        "num.io.threads=2".to_owned(),
        "background.threads=2".to_owned(),
        "log.cleaner.enable=false".to_owned(),
    ]);
    let properties = dir.join("server.properties");
    std::fs::write(&properties, all.join("\n") + "\n").unwrap();
    let arguments = args![
        "format",
        "-t",
        "Zm9yZWJheS10ZXN0cy0wMQ",
        "-c",
        properties.display()
    ];
    let done = java("kafka.tools.StorageTool", &arguments, "");
    assert_eq!(done.status, Some(0), "{}{}", done.stdout, done.stderr);
}

/// Starts the node in `dir`.
pub(super) fn launch(dir: &Path) -> Process {
    let mut args = java_args("kafka.Kafka", &["-Xms192m", "-Xmx384m"]);
    args.push(dir.join("server.properties").display().to_string());
    Process::start("java", &args, &dir.join("kafka.log"))
}

/// Removes what earlier runs have left: nothing ends the shared Kafka's directory when a runner ends.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("forebay-kafka-")
            .and_then(|rest| rest.split_once('-'))
            .map(|(pid, _)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs one of Kafka's own tools with `input` on its standard input.
pub fn java(class: &str, args: &[String], input: &str) -> Finished {
    let mut all = java_args(class, &["-Xmx192m"]);
    all.extend_from_slice(args);
    process::run("java", &all, input, START)
}

fn java_args(class: &str, heap: &[&str]) -> Vec<String> {
    let jars =
        std::env::var_os("FOREBAY_KAFKA_JARS").map_or_else(|| root().join(".cache/kafka"), PathBuf::from);
    assert!(
        jars.is_dir(),
        "no Kafka in {}: `make setup` fetches it",
        jars.display()
    );
    let logging = root().join("bin/tests/kafka/log4j2.properties");
    let mut args: Vec<String> = heap.iter().map(ToString::to_string).collect();
    // One core's worth of collector and the quick compiler: these live for seconds.
    args.extend(args![
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData"
    ]);
    args.push(format!("-Dlog4j2.configurationFile={}", logging.display()));
    args.extend(args!["-cp", format!("{}/*", jars.display()), class]);
    args
}
