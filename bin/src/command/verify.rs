//! `forebay verify`.

use std::time::Duration;

use clap::Args;
use forebay_broker::codec::{QoS, Version};

use crate::verify::{self, Options};

/// Publish numbered messages to an MQTT broker, read Kafka back, and say what was lost, doubled or out of order. Works
/// with any broker and any bridge that hands the payload on whole, alone or within an envelope.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay verify --topic telemetry
  forebay verify --broker mqtt.example:1883 --kafka kafka.example:9092 --topic telemetry --devices 200 --rate 2000 --for 5m
  forebay verify --qos 2 --mqtt 5 --username me --topic telemetry --json > result.json
  forebay verify --topic-template 'sensors/{device_id}/up' --topic sensors --kafka-property security.protocol=SSL

Stop Kafka, kill the broker or pull the network while it runs: devices connect again, their sessions kept, and send
again what was not acknowledged. What was acknowledged must be in Kafka then, in each device's order. A record that
arrives twice is counted and is no fault: a device that lost an acknowledgement has to send again.

Order is judged within a partition, by the device named in the payload, so records without a key will do; a device
whose records are in several partitions has no order in Kafka at all, and is counted apart.

Exit codes: 0 nothing acknowledged is lost and nothing is out of order, 1 something is (or nothing came through at
all), 64 bad arguments.")]
pub struct Verify {
    /// MQTT broker, without TLS.
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    broker: String,
    /// Kafka brokers.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT,...")]
    kafka: String,
    /// Kafka topic to read back. May be given several times.
    #[arg(long, required = true, value_name = "NAME")]
    topic: Vec<String>,
    /// Further property of the Kafka client under librdkafka's own name. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    kafka_property: Vec<(String, String)>,
    /// Simulated devices, one connection each.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    devices: u32,
    /// Publishes in a second, of all devices together.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Publish for this time, such as 30s or 10m; Ctrl-C ends it earlier.
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = super::time)]
    duration: Duration,
    /// Quality of service. At QoS 0 nothing is acknowledged, so nothing can be lost: only order is judged.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// MQTT version.
    #[arg(long, default_value = "3.1.1", value_name = "3.1|3.1.1|5", value_parser = version)]
    mqtt: Version,
    /// MQTT topic of each device; {device_id} is its name.
    #[arg(long, default_value = "devices/{device_id}/telemetry", value_name = "TOPIC")]
    topic_template: String,
    /// Bytes of a payload, which is a JSON object.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload_bytes: u32,
    /// Unacknowledged publishes of a device at which it waits.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    in_flight: u16,
    /// User name of all devices.
    #[arg(long)]
    username: Option<String>,
    /// Their password; better in the environment than in the list of processes.
    #[arg(
        long,
        env = "FOREBAY_VERIFY_PASSWORD",
        hide_env_values = true,
        requires = "username"
    )]
    password: Option<String>,
    /// At the end, wait so long for acknowledgements, and then as long for what is missing in Kafka.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = super::time)]
    wait: Duration,
    /// The result as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// No progress on standard error.
    #[arg(long, short)]
    quiet: bool,
}

impl Verify {
    /// Runs it.
    pub fn execute(self) -> anyhow::Result<u8> {
        let mut kafka = vec![("bootstrap.servers".to_owned(), self.kafka)];
        kafka.extend(self.kafka_property);
        verify::run(&Options {
            broker: self.broker,
            kafka,
            topics: self.topic,
            devices: self.devices,
            rate: self.rate,
            duration: self.duration,
            qos: QoS::try_from(self.qos).unwrap_or(QoS::AtLeastOnce),
            version: self.mqtt,
            topic_template: self.topic_template,
            payload_bytes: self.payload_bytes as usize,
            in_flight: self.in_flight,
            login: self
                .username
                .map(|name| (name, self.password.unwrap_or_default())),
            wait: self.wait,
            json: self.json,
            quiet: self.quiet,
        })
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "3.1" => Ok(Version::V31),
        "3.1.1" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("3.1, 3.1.1 or 5".to_owned()),
    }
}
