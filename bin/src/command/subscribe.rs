//! `forebay sub`.

use std::time::Duration;

use clap::Args;
use forebay_broker::codec::QoS;

use crate::client::Format;
use crate::client::options::Options;
use crate::client::subscribe::{Plan, run};

/// Subscribe to topics and print the messages that come. The options are those of mosquitto_sub.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, args_override_self = true)]
#[command(after_help = "Examples:
  forebay sub -t 'devices/#' -v
  forebay sub -t 'devices/+/telemetry' -q 1 -F '%I %t %q %r %l %x'
  forebay sub -t answer -C 1 -W 10                    one message, at most ten seconds
  forebay sub -i watcher -c -q 1 -t alarms            the broker holds what comes while it is away
  forebay sub -t '#' --remove-retained --retained-only -W 5
  forebay sub -V 5 -t '$share/workers/jobs' -q 1 -F %j

Formats (-F): %t topic, %p payload, %x %X payload in hexadecimal digits, %l its length, %q QoS, %r retained, %m packet
identifier, %j %J JSON with the payload as text or as JSON, %I %U the time, %C %D %E %F %P %R %S %A properties of MQTT
5, %% a percent sign; %-20t and %08l pad; @Y @m @d @H @M @S @s @N the parts of the time; \\n \\t \\0 \\\\ as usual. All times
are UTC.

A connection that is lost is made again until a signal, -C or -W ends it. Exit codes: 0 done, 1 no connection, or the
broker refused every subscription; 27 the time of -W is over; 64 bad arguments. Where the broker refuses the connection,
its code: 1 to 5 of MQTT 3.1 and 3.1.1, 128 and above of MQTT 5.")]
pub struct Sub {
    /// Topic filter. May be given several times.
    #[arg(short, long, allow_hyphen_values = true, required_unless_present_any = ["url", "unsubscribe"])]
    topic: Vec<String>,
    /// Unsubscribe from this filter after that. May be given several times.
    #[arg(short = 'U', long, value_name = "TOPIC")]
    unsubscribe: Vec<String>,
    /// Do not print topics that fit this filter. May be given several times.
    #[arg(short = 'T', long, value_name = "TOPIC")]
    filter_out: Vec<String>,
    /// Greatest quality of service of what comes.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Print the topic before each payload.
    #[arg(short, long)]
    verbose: bool,
    /// Print each message in this format (below).
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true, value_parser = Format::parse)]
    format: Option<Format>,
    /// JSON formats over several lines.
    #[arg(long)]
    pretty: bool,
    /// No line end after a message.
    #[arg(short = 'N')]
    no_newline: bool,
    /// End after so many messages.
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    within: Option<u32>,
    /// End when the subscriptions are acknowledged.
    #[arg(short = 'E')]
    exit_after_suback: bool,
    /// Do not print retained messages.
    #[arg(short = 'R')]
    no_retained: bool,
    /// Print retained messages alone; the first other one ends it.
    #[arg(long, conflicts_with = "no_retained")]
    retained_only: bool,
    /// Remove each retained message that comes from the broker.
    #[arg(long)]
    remove_retained: bool,
    /// MQTT 5: the retained flag as it was published.
    #[arg(long)]
    retain_as_published: bool,
    #[command(flatten)]
    options: Options,
}

impl Sub {
    /// Runs it.
    pub fn execute(self) -> anyhow::Result<u8> {
        let quiet = self.options.quiet;
        let target = match self.options.target() {
            Ok(target) => target,
            Err(text) => return Ok(super::usage(&text)),
        };
        let mut filters = self.topic;
        filters.extend(target.topic.clone());
        if filters.is_empty() && self.unsubscribe.is_empty() {
            return Ok(super::usage("name a topic with -t, or in the URL"));
        }
        run(Plan {
            target,
            filters,
            unsubscribe: self.unsubscribe,
            filter_out: self.filter_out,
            qos: QoS::try_from(self.qos).unwrap_or(QoS::AtMostOnce),
            retain_as_published: self.retain_as_published,
            format: self.format.unwrap_or_else(|| Format::plain(self.verbose)),
            pretty: self.pretty,
            no_newline: self.no_newline,
            count: self.count,
            within: self.within.map(|seconds| Duration::from_secs(seconds.into())),
            no_retained: self.no_retained,
            retained_only: self.retained_only,
            remove_retained: self.remove_retained,
            exit_after_suback: self.exit_after_suback,
            quiet,
        })
    }
}
