//! `forebay spool drain`: all that waits for Kafka goes there, without a listener.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_broker::bus::Reports;
use forebay_broker::fatal::FatalFlag;
use forebay_broker::spool::fs::RealFs;
use forebay_broker::spool::{self, LogReader, SpoolConfig};
use forebay_sink::{Sink, SinkHandle, Wiring};
use tokio::signal::unix::{SignalKind, signal};

use super::{closed, folder};
use crate::config::Settings;
use crate::exit::{self, Coded};
use crate::{logging, node};

const TICK: Duration = Duration::from_millis(100);
const LINES: Duration = Duration::from_secs(2);
/// Time to save how far it is.
const STOP: Duration = Duration::from_secs(10);

/// Empties the spool in `dir`; 1 when it was told to stop before.
pub fn drain(dir: &Path, settings: Settings) -> anyhow::Result<u8> {
    logging::start(&settings.log)?;
    // A whole path: the quarantine stands beside the folder, also where that is `.`.
    let dir = folder(dir)?;
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let Some(mut kafka) = settings.kafka else {
        let text = "there is no [kafka] section: nothing to drain into\n    hint: name the node's configuration with -c FILE";
        return Err(Coded {
            text: text.to_owned(),
            code: exit::USAGE,
        }
        .into());
    };
    kafka.quarantine_dir = Some(dir.with_file_name("quarantine"));
    let routes = forebay_sink::compile(&kafka).map_err(node::refused)?;
    let config = SpoolConfig {
        max_bytes: settings.spool.max_bytes,
        segment_bytes: settings.spool.segment_bytes,
        ..SpoolConfig::new(dir)
    };
    let (_writer, log, _) = spool::open(&config, 0, Arc::new(RealFs)).map_err(|error| closed(&error))?;
    let fatal = FatalFlag::default();
    let delivered = Arc::new(AtomicU64::new(0));
    let reader = log.reader("kafka")?;
    let (begin, end) = (reader.begin(), log.status().durable_sequence);
    // What the store of sessions has not read yet must not be released behind its back.
    let _hold = log.reader_at(0)?;
    let status = log.clone();
    let wiring = Wiring {
        node_id: settings.broker.node_id.clone(),
        epoch: log.epoch(),
        reader: Box::new(reader),
        reports: Reports::new(settings.broker.workers),
        delivered: Some(delivered.clone()),
        end: Some(Box::new(move || status.status().durable_sequence)),
        durable: true,
        fatal: fatal.clone(),
    };
    say(&format!(
        "draining as node {}: {} records wait",
        settings.broker.node_id,
        end.saturating_sub(begin)
    ));
    let sink = Sink::start(kafka, routes, wiring).context("the way into Kafka can't be started")?;
    let interrupted = interruption()?;
    let going = || fatal.get().is_none() && !interrupted.load(Ordering::Relaxed);
    wait(
        &sink,
        || end.saturating_sub(delivered.load(Ordering::Acquire).max(begin)),
        going,
    );
    let left = sink.stop(Instant::now() + STOP);
    let waits = end.saturating_sub(delivered.load(Ordering::Acquire).max(begin));
    if let Some(fault) = fatal.get() {
        return Ok(exit::of_fatal(fault));
    }
    if let Err(error) = left {
        return Err(anyhow::anyhow!("{error}"));
    }
    if waits > 0 {
        say(&format!("stopped: {waits} records still wait in the spool"));
        return Ok(exit::FAILED);
    }
    if let Some(why) = sink.status().unsaved {
        return Err(not_noted(&why).into());
    }
    say("the spool is empty: all of it is in Kafka, or in quarantine where Kafka refused it");
    Ok(exit::OK)
}

/// All of it is in Kafka, and the spool does not know.
fn not_noted(why: &str) -> Coded {
    Coded {
        text: format!(
            "all of it is in Kafka, but that can't be noted in the spool: {why}\n    hint: make room on its disk and \
             drain again: until then it would be sent to Kafka once more"
        ),
        code: exit::IO,
    }
}

/// Waits until nothing waits any more, and says how it goes.
fn wait(sink: &SinkHandle, waiting: impl Fn() -> u64, going: impl Fn() -> bool) {
    let mut due = Instant::now() + LINES;
    while waiting() > 0 && going() {
        std::thread::sleep(TICK);
        if Instant::now() >= due {
            due = Instant::now() + LINES;
            let status = sink.status();
            let why = if status.ready {
                String::new()
            } else {
                format!("; {}", status.reason)
            };
            say(&format!("{} records wait{why}", waiting()));
        }
    }
}

/// Set at Ctrl-C or SIGTERM.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let raised = flag.clone();
    let work = move || {
        runtime.block_on(async {
            let Ok(mut terminate) = signal(SignalKind::terminate()) else {
                return;
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            raised.store(true, Ordering::Relaxed);
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(work)?;
    Ok(flag)
}

/// A line for whoever looks on.
fn say(text: &str) {
    // Nobody has to.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
