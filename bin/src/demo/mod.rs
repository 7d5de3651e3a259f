//! `forebay demo`: the main job with no outside parts. A whole node, simulated devices, and librdkafka's mock cluster as
//! an embedded Kafka. The mock is known to this command only: `forebay run` never falls back to it.

mod devices;
mod screen;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_broker::codec::{QoS, Version};
use rdkafka::mocking::MockCluster;

use crate::config::{self, Log, LogFormat, Refused, Settings};
use crate::fleet::tally::Tally;
use crate::fleet::watch::Watch;
use crate::fleet::{Fleet, Plan, SharedTally, lock};
use crate::node::Node;
use crate::{exit, logging};
use devices::Readings;
use screen::Screen;

/// Unacknowledged publishes of a device at which it waits.
const WINDOW: u16 = 64;
const TOPIC: &str = "telemetry";
const PARTITIONS: i32 = 12;
/// Where the sink puts what no route takes.
const DEFAULT_TOPIC: &str = "mqtt";
const BROKERS: i32 = 3;
/// Ports that are tried, one after the other.
const PORTS: u16 = 100;
const TICK: Duration = Duration::from_millis(50);
/// Time for what was acknowledged to come out of Kafka at the end.
const CATCH_UP: Duration = Duration::from_secs(10);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the demo is to do.
pub struct Options {
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// First port that is tried.
    pub port: u16,
    /// Number of devices.
    pub devices: u16,
    /// Publishes of each in a second.
    pub rate: u16,
}

/// Runs it and gives the exit code: 1 when a record was lost or out of order.
pub fn run(options: &Options) -> anyhow::Result<u8> {
    logging::start(&Log {
        level: "warn".to_owned(),
        format: LogFormat::Text,
    })?;
    let kafka = MockCluster::new(BROKERS).context("the embedded Kafka can't be started")?;
    let servers = kafka.bootstrap_servers();
    let topics = [TOPIC.to_owned(), DEFAULT_TOPIC.to_owned()];
    for topic in &topics {
        kafka
            .create_topic(topic, PARTITIONS, BROKERS)
            .with_context(|| format!("topic {topic}"))?;
    }
    // Gone with the demo: it is there to be looked at, not to keep anything.
    let data = tempfile::Builder::new().prefix("forebay-demo-").tempdir()?;
    let node = Node::start(&settings(free_port(options.port)?, &servers, data.path())?)?;
    let address = node
        .addresses()
        .first()
        .and_then(|(_, bind)| bind.tcp())
        .context("no listener")?;
    let mut screen = Screen::new(Instant::now());
    // A reader that goes away (`| head`) ends the demo, it does not fail it.
    if screen.say(&welcome(options, address, &servers)).is_err() {
        return Ok(exit::OK);
    }
    let tally: SharedTally = Arc::new(Mutex::new(Tally::new(options.devices.into())));
    let interrupted = Arc::new(AtomicBool::new(false));
    let watch = Watch::start(&[("bootstrap.servers".to_owned(), servers)], &topics)?;
    let devices = Fleet::start(plan(options, address), Arc::new(Readings), &tally, &interrupted)?;

    let fatal = node.fatal();
    let end = options.duration.map(|duration| Instant::now() + duration);
    let going = || {
        end.is_none_or(|end| Instant::now() < end)
            && !interrupted.load(Ordering::Relaxed)
            && fatal.get().is_none()
    };
    let shown = show(&watch, &topics, &tally, &mut screen, going);
    // Records are taken meanwhile, or the consumer would wait.
    devices.stop(|| {
        let _ = show_one(&watch, &topics, &tally, &mut screen);
    });
    let until = Instant::now() + CATCH_UP;
    let caught_up = shown.and_then(|()| {
        show(&watch, &topics, &tally, &mut screen, || {
            lock(&tally).missing() > 0 && Instant::now() < until
        })
    });
    node.stop(STOP_DEADLINE);
    watch.stop();
    drop(kafka);
    if let Some(fault) = fatal.get() {
        return Ok(exit::of_fatal(fault));
    }
    let tally = lock(&tally);
    if caught_up.is_ok() {
        let _ = screen.say(&summary(&tally));
    }
    Ok(if passed(&tally) { exit::OK } else { exit::FAILED })
}

/// Shows what arrives while `going`. An error when there is nobody to show it to.
fn show(
    watch: &Watch,
    topics: &[String],
    tally: &SharedTally,
    screen: &mut Screen,
    going: impl Fn() -> bool,
) -> std::io::Result<()> {
    while going() {
        show_one(watch, topics, tally, screen)?;
    }
    Ok(())
}

/// Waits a little for a record, counts it and shows it.
fn show_one(
    watch: &Watch,
    topics: &[String],
    tally: &SharedTally,
    screen: &mut Screen,
) -> std::io::Result<()> {
    let arrival = watch.arrivals.recv_timeout(TICK);
    let now = Instant::now();
    if let Ok(arrival) = arrival {
        let message = devices::parse(&arrival.key, &arrival.payload);
        match message {
            Some((device, number)) => {
                lock(tally).arrive(device, number, (arrival.topic, arrival.partition));
            }
            None => lock(tally).others += 1,
        }
        let topic = topics.get(arrival.topic).map_or("", String::as_str);
        screen.record(now, topic, &arrival, message.is_some())?;
    }
    screen.totals(now, &lock(tally))
}

fn plan(options: &Options, address: SocketAddr) -> Plan {
    Plan {
        broker: address.to_string(),
        login: None,
        // Both kinds of device come to one port.
        versions: vec![Version::V311, Version::V5],
        devices: options.devices.into(),
        period: Duration::from_secs(1) / u32::from(options.rate.max(1)),
        qos: QoS::AtLeastOnce,
        window: WINDOW,
        drain: CATCH_UP,
    }
}

/// The same configuration a user would write, through the same check.
fn settings(port: u16, servers: &str, data: &Path) -> anyhow::Result<Settings> {
    let data = data.display();
    let text = format!(
        r#"
        [node]
        id = "demo"
        data_dir = "{data}"
        [spool]
        max_bytes = "256MiB"
        segment_bytes = "8MiB"
        [[listener]]
        bind = "127.0.0.1:{port}"
        [kafka.properties]
        "bootstrap.servers" = "{servers}"
        [[route]]
        filter = "devices/{{device_id}}/#"
        topic = "{TOPIC}"
        "#
    );
    let refused = |faults| Refused {
        file: "the demo's configuration".to_owned(),
        faults,
    };
    Ok(config::from_text(&text, std::iter::empty()).map_err(refused)?)
}

/// `first`, or the next port above it that nobody listens on.
fn free_port(first: u16) -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (first..=first.saturating_add(PORTS)).find(free).with_context(|| {
        format!(
            "no port from {first} to {} is free\n    hint: name another one with --port",
            first.saturating_add(PORTS)
        )
    })
}

fn welcome(options: &Options, address: SocketAddr, servers: &str) -> String {
    let Options {
        devices,
        rate,
        duration,
        ..
    } = options;
    let port = address.port();
    let end = match duration {
        Some(duration) => format!("Ends after {}.", humantime::format_duration(*duration)),
        None => "Ctrl-C ends it.".to_owned(),
    };
    format!(
        "{devices} devices, {rate} publishes/s each, QoS 1\n  \
         -> MQTT broker on {address}\n  \
         -> embedded Kafka (a mock, for this demo only) on {servers}, topic {TOPIC}\n\n\
         Type this in another terminal, and see it arrive here:\n  \
         mosquitto_pub -p {port} -t devices/my-device/telemetry -q 1 -m hello\n\n{end}\n"
    )
}

fn passed(tally: &Tally) -> bool {
    tally.in_kafka > 0 && tally.missing() == 0 && tally.out_of_order == 0
}

fn summary(tally: &Tally) -> String {
    let lines = [
        ("published", tally.published),
        ("acknowledged", tally.acknowledged),
        ("in Kafka", tally.in_kafka),
        ("lost", tally.missing()),
        ("out of order", tally.out_of_order),
        ("doubled", tally.doubled),
        ("typed by you", tally.others),
    ];
    lines
        .iter()
        .map(|(name, count)| format!("\n{name:<14}{count:>8}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(port).unwrap() > port);
    }

    #[test]
    fn the_demos_configuration_is_fit() {
        let settings = settings(1883, "127.0.0.1:9092", Path::new("data")).unwrap();
        assert!(
            settings
                .broker
                .listeners
                .iter()
                .all(|listener| listener.loopback_only)
        );
    }

    #[test]
    fn nothing_in_kafka_is_not_a_pass() {
        let mut tally = Tally::new(1);
        assert!(!passed(&tally));
        tally.publish(0);
        tally.arrive(0, 0, (0, 0));
        assert!(passed(&tally));
    }
}
