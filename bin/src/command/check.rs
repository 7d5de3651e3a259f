//! `forebay check`.

use std::io::Write;

use clap::Args;

use super::Source;
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
            writeln!(out, "listener {} on {}", listener.name, listener.bind)?;
        }
        for route in settings.kafka.iter().flat_map(|kafka| &kafka.routes) {
            let to = if route.sink {
                route.topic.as_str()
            } else {
                "nowhere"
            };
            writeln!(out, "route {} -> {to}", route.filter)?;
        }
        writeln!(
            out,
            "data directory {} (nothing is kept there yet)",
            settings.data_dir.display()
        )?;
        writeln!(out, "nothing is wrong")?;
        Ok(exit::OK)
    }
}
