//! `forebay pub`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use forebay_broker::codec::QoS;

use crate::client::options::Options;
use crate::client::publish::{Plan, Source, run};

/// Publish messages to a broker and wait until it has acknowledged them. The options are those of mosquitto_pub.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, args_override_self = true)]
#[command(group = ArgGroup::new("what").required(true).args(["message", "file", "lines", "null", "whole"]))]
#[command(after_help = "Examples:
  forebay pub -t devices/d1/telemetry -m '{\"t\": 21.5}' -q 1
  forebay pub -h broker.example -u me -t state/d1 -m on -r       retained
  forebay pub -t state/d1 -r -n                                   the retained message is removed
  tail -f readings | forebay pub -t devices/d1/telemetry -q 1 -l  a message for each line
  forebay pub -V 5 -t ask -m x -D publish response-topic answer -D publish user-property who me

Exit codes: 0 published, and acknowledged at QoS 1 and 2; 1 no connection, or the broker refused a message; 7 the
connection was lost; 25 the message is too large for the broker; 27 no acknowledgement in time; 64 bad arguments. Where
the broker refuses the connection, its code: 1 to 5 of MQTT 3.1 and 3.1.1, 128 and above of MQTT 5.")]
pub struct Pub {
    /// Topic.
    #[arg(short, long, allow_hyphen_values = true, required_unless_present = "url")]
    topic: Option<String>,
    /// The message.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// The message is the content of this file.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line of standard input is a message.
    #[arg(short = 'l', long = "stdin-line")]
    lines: bool,
    /// The message is empty.
    #[arg(short, long = "null-message")]
    null: bool,
    /// The message is the whole of standard input.
    #[arg(short = 's', long = "stdin-file")]
    whole: bool,
    /// Quality of service.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// The broker keeps the message and gives it to each new subscriber.
    #[arg(short, long)]
    retain: bool,
    /// Publish the message so many times (not with -l).
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "lines")]
    repeat: u32,
    /// Seconds between two of them.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds, conflicts_with = "lines")]
    repeat_delay: Duration,
    /// Unacknowledged messages at most; never more than the broker takes.
    #[arg(short = 'M', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    max_inflight: u16,
    /// Seconds to wait for the next acknowledgement (QoS 1 and 2).
    #[arg(short = 'W', value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    wait: Duration,
    #[command(flatten)]
    options: Options,
}

impl Pub {
    /// Runs it.
    pub fn execute(self) -> anyhow::Result<u8> {
        let source = match (self.message, self.file) {
            (Some(text), _) => Source::Text(text.into_bytes()),
            (None, Some(path)) => Source::File(path),
            (None, None) if self.lines => Source::Lines,
            (None, None) if self.whole => Source::Whole,
            (None, None) => Source::Text(Vec::new()),
        };
        let quiet = self.options.quiet;
        let target = match self.options.target() {
            Ok(target) => target,
            Err(text) => return Ok(super::usage(&text)),
        };
        let Some(topic) = self.topic.or_else(|| target.topic.clone()) else {
            return Ok(super::usage("name the topic with -t, or in the URL"));
        };
        run(Plan {
            target,
            topic,
            source,
            qos: QoS::try_from(self.qos).unwrap_or(QoS::AtMostOnce),
            retain: self.retain,
            repeat: self.repeat,
            repeat_delay: self.repeat_delay,
            window: self.max_inflight,
            patience: self.wait,
            quiet,
        })
    }
}

/// Seconds, with a fraction or without.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| time.as_secs() <= 365 * 24 * 3600)
        .ok_or_else(|| "seconds such as 2 or 0.5".to_owned())
}
