//! Stock rumqttd 0.20 with a local link on `#` that reads all, for `forebay-bench compare`: what the literal shape "rumqttd and
//! a subscriber in process" costs. With a Kafka each publish becomes one record of an idempotent producer, without headers.
//!
//! usage: stock-rumqttd PORT [ADMIN BOOTSTRAP TOPIC]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rumqttd::local::{LinkError, LinkRx};
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};

/// Time without a publish after which all has come.
const QUIET: Duration = Duration::from_millis(100);

fn settings(port: u16) -> ServerSettings {
    ServerSettings {
        name: "mqtt".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1 << 20,
            max_inflight_count: 1000,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}

/// What came of the records, for who asks.
#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    /// Nothing came for a while.
    quiet: AtomicBool,
}

impl rdkafka::ClientContext for Counts {}

impl ProducerContext for Counts {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.delivered.fetch_add(1, Relaxed),
            Err(_) => self.failed.fetch_add(1, Relaxed),
        };
    }
}

/// The way into Kafka.
struct Sink {
    producer: BaseProducer<Counts>,
    topic: String,
}

impl Sink {
    fn new(bootstrap: &str, topic: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000")
            .create_with_context(Counts::default())?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
        })
    }

    /// One record of one publish, keyed by the second level of its topic.
    fn send(&self, topic: &[u8], payload: &[u8]) -> Result<()> {
        let key = topic.split(|byte| *byte == b'/').nth(1).unwrap_or(topic);
        let mut record = BaseRecord::to(&self.topic).key(key).payload(payload);
        self.counts().read.fetch_add(1, Relaxed);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    fn counts(&self) -> &Arc<Counts> {
        self.producer.context()
    }
}

/// Answers as Forebay's admin address does, as far as `forebay-bench` asks.
fn serve(listener: &TcpListener, counts: &Counts) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = [0; 1024];
        if stream.read(&mut request).is_err() {
            continue;
        }
        let (read, delivered) = (counts.read.load(Relaxed), counts.delivered.load(Relaxed));
        let done = delivered + counts.failed.load(Relaxed);
        let backlog = (read - done).max(u64::from(!counts.quiet.load(Relaxed)));
        // Who asks may have left.
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nforebay_sink_backlog_records {backlog}\n\
             forebay_kafka_delivered_total {delivered}\n"
        );
    }
}

/// Reads the link until the router is gone.
fn pass_on(receiver: &mut LinkRx, sink: Option<&Sink>) -> Result<()> {
    loop {
        let notification = match receiver.recv_deadline(Instant::now() + QUIET) {
            Ok(notification) => notification,
            Err(LinkError::RecvTimeout(flume::RecvTimeoutError::Timeout)) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(sink) = sink {
            sink.counts().quiet.store(notification.is_none(), Relaxed);
            sink.producer.poll(Duration::ZERO);
        }
        match notification {
            Some(Notification::Forward(forward)) => {
                if let Some(sink) = sink {
                    sink.send(&forward.publish.topic, &forward.publish.payload)?;
                }
            }
            Some(Notification::Unschedule) => receiver.ready()?,
            _ => {}
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (port, sink) = match words.as_slice() {
        [port] => (port, None),
        [port, admin, bootstrap, topic] => {
            let admin: u16 = admin.parse().context("no port")?;
            (port, Some((admin, Sink::new(bootstrap, topic)?)))
        }
        _ => bail!("usage: stock-rumqttd PORT [ADMIN BOOTSTRAP TOPIC]"),
    };
    let port: u16 = port.parse().context("no port")?;
    let config = Config {
        router: RouterConfig {
            max_connections: 20_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some([("1".to_owned(), settings(port))].into()),
        ..Config::default()
    };
    let mut broker = Broker::new(config);
    let (mut sender, mut receiver) = broker.link("reader")?;
    sender.subscribe("#")?;
    if let Some((admin, sink)) = &sink {
        let listener = TcpListener::bind(("127.0.0.1", *admin))?;
        let counts = Arc::clone(sink.counts());
        std::thread::spawn(move || serve(&listener, &counts));
    }
    std::thread::spawn(move || {
        let sink = sink.map(|(_, sink)| sink);
        // Ends with the router, and with it the process.
        if let Err(error) = pass_on(&mut receiver, sink.as_ref()) {
            eprintln!("stock-rumqttd: {error:#}");
        }
    });
    broker.start()?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stock-rumqttd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
