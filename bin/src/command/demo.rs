//! `forebay demo`.

use std::time::Duration;

use clap::Args;

/// Show the whole way on this machine, with no outside parts: a broker, an embedded Kafka (a mock, for this command
/// only), devices that publish with QoS 1, and the records as they arrive.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay demo                       until Ctrl-C
  forebay demo --for 10s             ends with a summary; exit code 1 if a record was lost or out of order
  forebay demo --devices 100 --rate 20 --for 30s

While it runs, publish something yourself:
  mosquitto_pub -t devices/my-device/telemetry -q 1 -m hello")]
pub struct Demo {
    /// End after this time, such as 10s or 2m. Without it: at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = super::time)]
    duration: Option<Duration>,
    /// Port of the broker on 127.0.0.1. Where it is taken, the next free one.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// Simulated devices.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    devices: u16,
    /// Publishes of each device in a second.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rate: u16,
}

impl Demo {
    /// Runs it.
    pub fn execute(self) -> anyhow::Result<u8> {
        crate::demo::run(&crate::demo::Options {
            duration: self.duration,
            port: self.port,
            devices: self.devices,
            rate: self.rate,
        })
    }
}
