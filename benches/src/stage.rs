//! Brokers as processes, and the load generator run on them as a process of its own, for the commands that compare.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::watch;

/// Longest start of a broker.
const START: Duration = Duration::from_secs(30);
/// Longest wait until all that a broker took is in Kafka.
const DRAIN: Duration = Duration::from_secs(120);

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
    /// A Forebay of this binary; with a Kafka, at this level and with these headers.
    pub fn forebay(binary: &Path, name: &str, kafka: Option<(&str, &str, &str)>) -> Self {
        let sink = kafka.map_or(String::new(), |(bootstrap, level, more)| {
            format!(
                "[kafka]\ncreate_topics = true\npartitions = 6\nreplication = 1\n[kafka.properties]\n\
                 \"bootstrap.servers\" = \"{bootstrap}\"\n[[route]]\nfilter = \"devices/{{device_id}}/#\"\n\
                 topic = \"forebay-bench\"\nack = \"{level}\"\n{more}\n"
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

    /// Stock rumqttd, where its binary stands beside this one.
    pub fn rumqttd() -> Option<Self> {
        let binary = std::env::current_exe().ok()?.with_file_name("stock-rumqttd");
        binary.exists().then(|| Self {
            name: "rumqttd, local link".to_owned(),
            version: "0.20.0".to_owned(),
            command: words(&[&binary.display().to_string(), "{port}"]),
            config: String::new(),
            sinks: false,
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
}

impl Stage {
    fn wait_open(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return self.drained();
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at start with {status}:\n{}", self.log());
            }
            ensure!(Instant::now() < until, "not listening in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// CPU time of the process since its start, in seconds.
    pub fn cpu_s(&self) -> Result<f64> {
        Ok(watch::sample(self.child.id(), Instant::now())?.cpu_s)
    }

    /// Waits until nothing of what it took waits for Kafka.
    pub fn drained(&self) -> Result<()> {
        let Some(admin) = self.admin else {
            return Ok(());
        };
        let until = Instant::now() + DRAIN;
        while !(get(admin, "/readyz")?.starts_with("HTTP/1.1 200")
            && backlog(&get(admin, "/metrics")?) == Some(0.0))
        {
            ensure!(
                Instant::now() < until,
                "not all is in Kafka in time:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs `forebay-bench WORK` on it, and gives what that printed.
    pub fn work(&self, work: &[&str]) -> Result<Figures> {
        let output = Command::new(std::env::current_exe()?)
            .args(work)
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

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn backlog(metrics: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("forebay_sink_backlog_records "))?;
    line.trim().parse().ok()
}

/// What a report says, by the names of its lines.
#[derive(Debug, Default)]
pub struct Figures(HashMap<String, String>);

impl Figures {
    fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.split_once("  ")?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
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
    fn a_backlog_is_found_among_the_metrics() {
        let text = "# TYPE x gauge\nforebay_sink_backlog_records 17\nforebay_sink_backlog_records_more 1\n";
        assert_eq!(backlog(text), Some(17.0));
    }

    #[test]
    fn a_peer_has_a_name_and_a_port() {
        let peer = Recipe::other("flash=/opt/flashmq --port {port}").unwrap();
        assert_eq!((peer.name.as_str(), peer.command.len()), ("flash", 3));
        assert!(Recipe::other("flash").is_err() && Recipe::other("flash=/opt/flashmq").is_err());
    }
}
