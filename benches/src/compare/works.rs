//! What the brokers are put to, and on which of them.

use super::page::thousands;

/// One work: a run of the load generator on a broker that was just started.
#[derive(Debug)]
pub struct Work {
    /// Its name for --only.
    pub name: &'static str,
    /// Its line in the table.
    pub title: String,
    /// Arguments of the load generator.
    pub args: Vec<String>,
    /// What its report is looked at for.
    pub figure: Figure,
    /// The columns that do it.
    columns: &'static [Column],
}

/// The figure of a work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// CPU of a publish; beside it the rate, or at a given rate the latency of acknowledgements.
    Publish { paced: bool },
    /// Latency of acknowledgements when there is little to do.
    Calm,
    /// CPU of a delivery.
    Delivery,
    /// CPU of a connection, and how many came in a second.
    Connection,
    /// Memory of a connection.
    Memory,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Forebay: spooled, default headers, into Kafka.
    Kafka,
    /// The same without headers.
    Bare,
    /// Forebay: spooled, without Kafka.
    Plain,
    /// Forebay: received, without Kafka.
    Received,
    /// Mosquitto.
    Mosquitto,
    /// Stock rumqttd and a local link.
    Rumqttd,
    /// The same, into Kafka.
    RumqttdKafka,
    /// Given on the command line.
    Other,
    /// The least that a broker can cost.
    Floor,
}

use Column::{Bare, Floor, Kafka, Mosquitto, Other, Plain, Received, Rumqttd, RumqttdKafka};

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Seconds of each work that has no end of its own.
    pub seconds: u32,
    /// Connections of `many` and `storm`.
    pub many: u32,
    /// Connections of `idle`.
    pub idle: u32,
}

impl Work {
    /// Whether a broker of this kind is put to it.
    pub fn is_for(&self, column: Column) -> bool {
        self.columns.contains(&column)
    }

    /// All of them.
    pub fn all(size: Size) -> Vec<Self> {
        let mut all = Self::publishing(size);
        all.extend([Self::fan_out(size, "fan0", 0), Self::fan_out(size, "fan1", 1)]);
        all.extend(Self::connecting(size));
        all
    }

    fn publishing(size: Size) -> Vec<Self> {
        let Size { seconds, many, .. } = size;
        let steady = 2 * seconds;
        vec![
            Self {
                name: "pub0",
                title: "50 connections, QoS 0, flat out: a message".to_owned(),
                args: split(&format!("pub -n 50 --qos 0 --for {seconds}s")),
                figure: Figure::Publish { paced: false },
                columns: &[
                    Kafka,
                    Bare,
                    Received,
                    Mosquitto,
                    Rumqttd,
                    RumqttdKafka,
                    Other,
                    Floor,
                ],
            },
            Self {
                name: "pub1",
                title: "50 connections, QoS 1, 64 in flight, flat out: a message".to_owned(),
                args: split(&format!("pub -n 50 --qos 1 --in-flight 64 --for {seconds}s")),
                figure: Figure::Publish { paced: false },
                columns: &[
                    Kafka,
                    Bare,
                    Plain,
                    Received,
                    Mosquitto,
                    Rumqttd,
                    RumqttdKafka,
                    Other,
                    Floor,
                ],
            },
            Self {
                name: "many",
                title: format!(
                    "{} connections, QoS 1, 20,000 msg/s: a message",
                    thousands(many.into())
                ),
                args: split(&format!(
                    "pub -n {many} --qos 1 --rate 20000 --connect-rate 4000 --connect-within 20s --for {steady}s"
                )),
                figure: Figure::Publish { paced: true },
                columns: &[Kafka, Bare, Plain, Mosquitto, Rumqttd, Other, Floor],
            },
            Self {
                name: "calm",
                title: "50 connections, QoS 1, 200 msg/s: PUBLISH to PUBACK".to_owned(),
                args: split(&format!("pub -n 50 --qos 1 --rate 200 --for {seconds}s")),
                figure: Figure::Calm,
                columns: &[Kafka, Received, Mosquitto, Floor],
            },
        ]
    }

    fn fan_out(size: Size, name: &'static str, qos: u8) -> Self {
        let seconds = size.seconds;
        Self {
            name,
            title: format!("fan-out, 400 msg/s to 500, QoS {qos}: a delivery"),
            args: split(&format!("sub -n 500 --rate 400 --qos {qos} --for {seconds}s")),
            figure: Figure::Delivery,
            columns: &[Plain, Mosquitto, Rumqttd, Other],
        }
    }

    fn connecting(size: Size) -> Vec<Self> {
        let Size { many, idle, .. } = size;
        vec![
            Self {
                name: "storm",
                title: format!("{} connect at once: a connection", thousands(many.into())),
                args: split(&format!("storm -n {many} --connect-within 20s")),
                figure: Figure::Connection,
                columns: &[Plain, Mosquitto, Rumqttd, Other, Floor],
            },
            Self {
                name: "idle",
                title: format!(
                    "{} idle with a subscription: a connection",
                    thousands(idle.into())
                ),
                args: split(&format!(
                    "idle -n {idle} --connect-rate 4000 --connect-within 15s --subscribe devices/{{id}}/commands --for 3s"
                )),
                figure: Figure::Memory,
                columns: &[Plain, Mosquitto, Rumqttd, Other],
            },
        ]
    }
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
