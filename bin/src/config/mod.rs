//! Configuration: one TOML file and the environment, checked as a whole before anything is started.
//!
//! `configs/reference.toml` is compiled in as the defaults, so that the file that explains each key and the code
//! cannot drift apart. Text becomes values with places ([`value`]), overrides are put in ([`env`]), sections are read
//! ([`reader`]), and every fault on the way is gathered ([`fault`]).

mod auth;
mod broker;
mod env;
mod fault;
mod kafka;
mod limits;
mod reader;
mod tls;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use broker::Spool;
pub use fault::{Fault, Place, Refused, did_you_mean};

use fault::Faults;
use forebay_sink::SinkConfig;
use reader::Section;

/// The defaults, each key explained.
const REFERENCE: &str = include_str!("../../../configs/reference.toml");

/// A configuration that was found fit to start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's part.
    pub broker: forebay_broker::config::Config,
    /// Where spool, store and quarantine are kept.
    pub data_dir: PathBuf,
    /// The node's log on disk.
    pub spool: Spool,
    /// The way into Kafka; without it this is a plain broker.
    pub kafka: Option<SinkConfig>,
    /// Metrics and health over HTTP.
    pub admin: Option<SocketAddr>,
    /// What is logged and how.
    pub log: Log,
    /// What is allowed but worth a word to the operator, at each check and start.
    pub notices: Vec<String>,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Directives as tracing's filter reads them.
    pub level: String,
    /// As lines or as JSON.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Reads `file`, where there is one, and the environment. `more` is text that stands below the file's, so that its
/// places stay right. `with_files`: the users and rules that it names must be readable too.
pub fn load(file: Option<&Path>, more: &str, with_files: bool) -> Result<Settings, Refused> {
    let (name, text) = match file {
        None => ("the configuration".to_owned(), String::new()),
        Some(file) => (file.display().to_string(), read_file(file)?),
    };
    let text = format!("{text}\n{more}");
    let vars = std::env::vars_os().filter_map(|(name, value)| {
        // A name that is not UTF-8 is none of ours; a value that is not is refused where it is read.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    read_text(&text, vars, with_files).map_err(|faults| Refused { file: name, faults })
}

fn read_file(file: &Path) -> Result<String, Refused> {
    std::fs::read_to_string(file).map_err(|error| Refused {
        file: file.display().to_string(),
        faults: vec![Fault {
            place: Place::Whole,
            text: format!("can't be read: {error}"),
            hint: "name a configuration file with -c FILE; configs/minimal.toml is a start".to_owned(),
        }],
    })
}

/// Reads a configuration from its text and the variables of an environment. All faults at once. The files that it
/// names may be on another machine.
pub fn from_text(
    text: &str,
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Vec<Fault>> {
    read_text(text, vars, false)
}

/// `with_files`: users and rules must be readable too.
fn read_text(
    text: &str,
    vars: impl IntoIterator<Item = (String, String)>,
    with_files: bool,
) -> Result<Settings, Vec<Fault>> {
    let faults = Faults::default();
    let defaults = value::parse(&uncommented(REFERENCE), &faults);
    debug_assert!(faults.is_empty(), "{faults:?}");
    let mut given = value::parse(text, &faults);
    if !faults.is_empty() {
        return Err(faults.into_sorted());
    }
    env::apply(&mut given, vars, &faults);
    let root = Section::root(&given, &defaults, &faults);
    let mut settings = read(&root);
    drop(root);
    broker::add_faults(&settings.broker, &given, &faults);
    if with_files {
        auth::add_file_faults(&settings.broker, &given, &faults);
        tls::add_file_faults(&settings.broker, &given, &faults, &mut settings.notices);
    }
    tls::add_notices(&settings.broker, &mut settings.notices);
    auth::add_notices(&settings.broker, with_files, &mut settings.notices);
    if let Some(sink) = &settings.kafka {
        kafka::add_faults(sink, &given, &faults);
        settings.notices.extend(
            sink.warnings()
                .iter()
                .map(|warning| format!("{}: {}; {}", warning.key, warning.text, warning.hint)),
        );
    }
    if faults.is_empty() {
        Ok(settings)
    } else {
        Err(faults.into_sorted())
    }
}

/// The reference with the settings that are off by default put in force: every key's default or example.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == '"') => {
            format!("{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn read(root: &Section<'_>) -> Settings {
    let mut notices = Vec::new();
    let (broker, data_dir, spool) = broker::read(root, &mut notices);
    let kafka = kafka::read(
        root,
        broker.greatest_packet(),
        &data_dir.join("quarantine"),
        &mut notices,
    );
    let admin = root.section("admin");
    let log = root.section("log");
    Settings {
        broker,
        data_dir,
        spool,
        kafka,
        admin: read_admin(&admin),
        log: Log {
            level: log
                .parsed(
                    "level",
                    "a level (error, warn, info, debug, trace) or directives",
                    level,
                )
                .unwrap_or_default(),
            format: log.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        },
        notices,
    }
}

fn read_admin(admin: &Section<'_>) -> Option<SocketAddr> {
    let bind = admin.parsed("bind", broker::ADDRESS, |text| text.parse().ok());
    admin.not_built("token_file", "leave it out and keep the admin address private");
    bind.filter(|_| admin.is_given())
}

/// Directives as the log's filter reads them, but strict: a word alone is a level, not the name of a module.
pub fn level(text: &str) -> Option<String> {
    let known =
        |level: &str| !level.is_empty() && level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let module = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let fine = |part: &str| match part.trim().split_once('=') {
        Some((name, level)) => module(name) && known(level),
        None => known(part.trim()),
    };
    text.split(',').all(fine).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
