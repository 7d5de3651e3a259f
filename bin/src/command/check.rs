//! `forebay check`.

use std::io::Write;

use clap::Args;

use super::Source;
use crate::config::Spool;
use crate::exit;

/// List everything that is wrong with a configuration, with line and hint; start nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay check -c forebay.toml
  FOREBAY__ROUTE__0__TOPIC=other forebay check -c forebay.toml

Exit codes: 0 nothing is wrong, 64 something is.")]
pub struct Check {
    #[command(flatten)]
    source: Source,
}

impl Check {
    /// Prints what a start would do.
    pub fn execute(self) -> anyhow::Result<u8> {
        let settings = self.source.load()?;
        let mut out = std::io::stdout().lock();
        for notice in &settings.notices {
            writeln!(out, "note: {notice}")?;
        }
        for listener in &settings.broker.listeners {
            let tls = if listener.tls.is_some() { ", TLS" } else { "" };
            writeln!(out, "listener {} on {}{tls}", listener.name, listener.bind)?;
        }
        for route in settings.kafka.iter().flat_map(|kafka| &kafka.routes) {
            if route.sink {
                writeln!(
                    out,
                    "route {} -> {}, ack {:?}",
                    route.filter, route.topic, route.ack
                )?;
            } else {
                writeln!(out, "route {} -> nowhere", route.filter)?;
            }
        }
        writeln!(out, "data directory {}", settings.data_dir.display())?;
        writeln!(out, "{}", spool(&settings.spool))?;
        writeln!(out, "nothing is wrong")?;
        Ok(exit::OK)
    }
}

/// What the spool may take, and what is done when it is full.
fn spool(spool: &Spool) -> String {
    let show = |bytes: u64| bytesize::ByteSize(bytes).display().iec();
    let (others, qos0) = match (spool.reject, spool.drop_qos0) {
        (false, false) => ("held", "held"),
        (false, true) => ("held", "dropped"),
        (true, false) => ("refused (MQTT 5) or held", "held"),
        (true, true) => ("refused (MQTT 5) or held", "dropped"),
    };
    format!(
        "spool of {} in files of {}; when full: QoS 1 and 2 {others}, QoS 0 {qos0}; {} for one connection when half full",
        show(spool.max_bytes),
        show(spool.segment_bytes),
        show(spool.client_share_bytes),
    )
}
