//! Brokers as processes, and the load generator run on them as a process of its own, for the commands that compare.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::admin;

/// Where all records go.
const TOPIC: &str = "forebay-bench";
/// Longest start of a broker.
const START: Duration = Duration::from_secs(30);

/// Where a Forebay brings its records.
#[derive(Debug, Clone, Copy)]
pub struct Sink<'a> {
    /// Kafka.
    pub bootstrap: &'a str,
    /// When publishes are acknowledged.
    pub level: &'a str,
    /// More lines of the route.
    pub more: &'a str,
}

/// How a broker is started. `{port}`, `{admin}` and `{dir}` in arguments and file are filled in.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name in the table.
    pub name: String,
    /// Version, as it says itself.
    pub version: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Written to `{dir}/config` before.
    pub config: String,
    /// Whether it has Forebay's admin port, and a Kafka behind it.
    pub sinks: bool,
}

impl Recipe {
    /// A Forebay of this binary, with a Kafka or without.
    pub fn forebay(binary: &Path, name: &str, kafka: Option<Sink<'_>>) -> Self {
        let sink = kafka.map_or(String::new(), |sink| {
            let Sink {
                bootstrap,
                level,
                more,
            } = sink;
            format!(
                "[kafka]\ncreate_topics = true\npartitions = 6\nreplication = 1\n[kafka.properties]\n\
                 \"bootstrap.servers\" = \"{bootstrap}\"\n[[route]]\nfilter = \"devices/{{device_id}}/#\"\n\
                 topic = \"{TOPIC}\"\nack = \"{level}\"\n{more}\n"
            )
        });
        Self {
            name: name.to_owned(),
            version: version(binary, &["--version"]),
            command: words(&[&binary.display().to_string(), "run", "-c", "{dir}/config"]),
            config: format!(
                "[node]\ndata_dir = \"{{dir}}/data\"\n[[listener]]\nbind = \"127.0.0.1:{{port}}\"\n[auth]\n\
                 allow_anonymous = true\n[admin]\nbind = \"127.0.0.1:{{admin}}\"\n[log]\nlevel = \"warn\"\n{sink}"
            ),
            sinks: kafka.is_some(),
        }
    }

    /// The same, though its Kafka is not there: nothing is waited for.
    pub fn without_kafka(mut self) -> Self {
        self.sinks = false;
        self
    }

    /// Mosquitto, where it is installed.
    pub fn mosquitto() -> Option<Self> {
        let known = [
            "/usr/sbin/mosquitto",
            "/usr/local/sbin/mosquitto",
            "/usr/bin/mosquitto",
        ];
        let binary = known.into_iter().map(Path::new).find(|path| path.exists())?;
        Some(Self {
            name: "Mosquitto".to_owned(),
            version: version(binary, &["-h"]),
            command: words(&[&binary.display().to_string(), "-c", "{dir}/config"]),
            // Without nodelay its acknowledgements wait for Nagle's algorithm.
            config: "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n\
                     max_inflight_messages 0\nlog_type error\nuser root\n"
                .to_owned(),
            sinks: false,
        })
    }

    /// The least that a broker can cost.
    pub fn floor() -> Result<Self> {
        let own = std::env::current_exe()?.display().to_string();
        Ok(Self {
            name: "floor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: words(&[&own, "floor", "--port", "{port}"]),
            config: String::new(),
            sinks: false,
        })
    }

    /// Stock rumqttd, where its binary stands beside this one; with a Kafka one record a publish.
    pub fn rumqttd(bootstrap: Option<&str>) -> Option<Self> {
        let binary = std::env::current_exe().ok()?.with_file_name("stock-rumqttd");
        let mut command = words(&[&binary.display().to_string(), "{port}"]);
        if let Some(bootstrap) = bootstrap {
            command.extend(words(&["{admin}", bootstrap, TOPIC]));
        }
        binary.exists().then(|| Self {
            name: match bootstrap {
                Some(_) => "rumqttd, local link, to Kafka".to_owned(),
                None => "rumqttd, local link".to_owned(),
            },
            version: "0.20.0".to_owned(),
            command,
            config: String::new(),
            sinks: bootstrap.is_some(),
        })
    }

    /// Another one: `NAME=COMMAND`, its words parted by blanks.
    pub fn other(text: &str) -> Result<Self> {
        let (name, command) = text
            .split_once('=')
            .context("--peer takes NAME=COMMAND, with {port} where its port is to stand")?;
        ensure!(
            command.contains("{port}"),
            "--peer {name}: no {{port}} in its command"
        );
        Ok(Self {
            name: name.to_owned(),
            version: String::new(),
            command: command.split_whitespace().map(str::to_owned).collect(),
            config: String::new(),
            sinks: false,
        })
    }

    /// Starts it on free ports.
    pub fn start(&self) -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("forebay-bench-").tempdir()?;
        let (port, admin) = (free_port()?, free_port()?);
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{admin}", &admin.to_string())
                .replace("{dir}", &dir.path().display().to_string())
        };
        std::fs::write(dir.path().join("config"), fill(&self.config))?;
        let mut words = self.command.iter().map(|word| fill(word));
        let program = words.next().context("an empty command")?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        let mut stage = Stage {
            child,
            port,
            admin: self.sinks.then_some(admin),
            dir,
            started: Duration::ZERO,
        };
        stage.wait_open().with_context(|| self.name.clone())?;
        Ok(stage)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The first line of what a program says of its version, without its name.
fn version(binary: &Path, args: &[&str]) -> String {
    let output = Command::new(binary).args(args).output();
    let text = output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let line = text.lines().next().unwrap_or_default();
    let version = line
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or(line).to_owned()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running broker. It ends with this value.
#[derive(Debug)]
pub struct Stage {
    child: Child,
    port: u16,
    admin: Option<u16>,
    dir: tempfile::TempDir,
    started: Duration,
}

impl Stage {
    fn wait_open(&mut self) -> Result<()> {
        let start = Instant::now();
        let until = start + START;
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.started = start.elapsed();
                return self.drained();
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at start with {status}:\n{}", self.log());
            }
            ensure!(Instant::now() < until, "not listening in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How long it took to listen.
    pub fn started(&self) -> Duration {
        self.started
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until nothing of what it took waits for Kafka.
    fn drained(&self) -> Result<()> {
        let drained = self.admin().map(|admin| admin::drained(&admin)).transpose();
        drained.map(|_| ()).with_context(|| self.log())
    }

    fn admin(&self) -> Option<String> {
        self.admin.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Runs `forebay-bench WORK` on it, and gives what that printed; of `pub` until all is in Kafka.
    pub fn work(&self, work: &[&str]) -> Result<Figures> {
        let admin = self.admin().filter(|_| work.first() == Some(&"pub"));
        let admin = admin.map(|admin| ["--admin".to_owned(), admin]);
        let output = Command::new(std::env::current_exe()?)
            .args(work)
            .args(admin.iter().flatten())
            .args(["--quiet", "--broker", &format!("127.0.0.1:{}", self.port)])
            .args(["--pid", &self.child.id().to_string()])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let figures = Figures::read(&text);
        if figures.0.is_empty() {
            bail!("{work:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(figures)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a report says, by the names of its lines.
#[derive(Debug, Default)]
pub struct Figures(HashMap<String, String>);

impl Figures {
    /// Reads what a command printed.
    pub fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.split_once("  ")?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// What a line says; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The first number of a line.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.split_whitespace().next()?.parse().ok()
    }

    /// A percentile of a line such as `p50 1.20  p90 ...`, in milliseconds.
    pub fn percentile(&self, name: &str, which: &str) -> Option<f64> {
        let mut words = self.0.get(name)?.split_whitespace();
        words.find(|word| *word == which)?;
        words.next()?.parse().ok()
    }
}

/// The path of the Forebay that is measured: as given, or beside this binary.
pub fn forebay(given: Option<&PathBuf>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("forebay"),
    };
    ensure!(
        path.exists(),
        "there is no {}: build it (cargo build --release), or name it with --forebay",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_by_its_lines() {
        let text = "published                      1200\nCPU per publish                2.750 us\n\
                    ack latency from sent          p50 1.20  p90 2.00  p99 4.50  p99.9 9.00  max 9.10 ms\n";
        let figures = Figures::read(text);
        assert_eq!(figures.number("published"), Some(1200.0));
        assert_eq!(figures.number("CPU per publish"), Some(2.75));
        assert_eq!(figures.percentile("ack latency from sent", "p99"), Some(4.5));
        assert_eq!(figures.number("nothing"), None);
    }

    #[test]
    fn a_peer_has_a_name_and_a_port() {
        let peer = Recipe::other("flash=/opt/flashmq --port {port}").unwrap();
        assert_eq!((peer.name.as_str(), peer.command.len()), ("flash", 3));
        assert!(Recipe::other("flash").is_err() && Recipe::other("flash=/opt/flashmq").is_err());
    }
}
