//! What is logged and how: lines for people or JSON, to standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{self, Fault, Log, LogFormat, Place, Refused};

/// Overrides `[log] level`.
pub const ENV: &str = "FOREBAY_LOG";

/// What libraries would say too much of. Stands before the user's directives, which can turn each on again.
const QUIET: &str = "rumqttd=off,librdkafka=warn,rdkafka=warn,hyper=warn,metrics_exporter_prometheus=warn";

/// Starts logging for the rest of the process.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let level = match std::env::var(ENV) {
        Ok(level) if !level.trim().is_empty() => config::level(&level).ok_or_else(|| no_level(&level))?,
        _ => log.level.clone(),
    };
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).context("the log's filter was refused")?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
        LogFormat::Text => registry
            .with(layer.with_ansi(colour(&std::io::stderr())))
            .try_init()?,
    }
    Ok(())
}

fn no_level(text: &str) -> Refused {
    let fault = Fault {
        place: Place::Env(ENV.to_owned()),
        text: format!("\"{text}\" is no level"),
        hint: "write error, warn, info, debug, trace, or directives such as info,forebay_sink=debug"
            .to_owned(),
    };
    Refused {
        file: String::new(),
        faults: vec![fault],
    }
}

/// Whether `stream` is to be coloured: on a terminal, unless NO_COLOR is set.
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
