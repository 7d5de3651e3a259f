//! The binary under test as a process, with its configuration, its admin port and its log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::process::{self, Finished, Process};
use super::{free_port, wait_for};
use crate::args;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running broker. It ends with this value.
pub struct Forebay {
    pub mqtt: u16,
    pub admin: u16,
    process: Process,
    dir: tempfile::TempDir,
    command: Vec<String>,
}

/// The configuration that most cases use: anonymous clients, the given Kafka, and the given further sections.
pub fn config(bootstrap: &str, rest: &str) -> String {
    format!("{PLAIN}[kafka.properties]\n\"bootstrap.servers\" = \"{bootstrap}\"\n{rest}\n")
}

/// A broker with no Kafka. The places in braces are filled in at start.
pub const PLAIN: &str = r#"
[node]
data_dir = "{data}"
[spool]
max_bytes = "1GiB"
segment_bytes = "8MiB"
[[listener]]
bind = "127.0.0.1:{mqtt}"
[auth]
allow_anonymous = true
[admin]
bind = "127.0.0.1:{admin}"
"#;

/// One route as in the README, to `topic`.
pub fn route(topic: &str) -> String {
    format!("[[route]]\nfilter = \"devices/{{device_id}}/#\"\ntopic = \"{topic}\"\n")
}

/// The same, acknowledged when Kafka has it.
pub fn kafka_route(topic: &str) -> String {
    route(topic) + "ack = \"kafka\"\n"
}

/// Ports and a directory for one start.
pub struct Place {
    pub mqtt: u16,
    pub admin: u16,
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
        Self {
            mqtt: free_port(),
            admin: free_port(),
            dir,
        }
    }

    /// `text` with its places in braces filled in.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{data}", &self.dir.path().display().to_string())
            .replace("{mqtt}", &self.mqtt.to_string())
            .replace("{admin}", &self.admin.to_string())
    }

    /// Starts `command` and waits until the MQTT port takes connections; `None` when a port was taken meanwhile.
    pub fn start(self, command: &[String]) -> Option<Forebay> {
        let log = self.dir.path().join("forebay.log");
        let process = Process::start(&command[0], &command[1..], &log);
        let mut forebay = Forebay {
            mqtt: self.mqtt,
            admin: self.admin,
            process,
            dir: self.dir,
            command: command.to_vec(),
        };
        forebay.wait_open().then_some(forebay)
    }
}

impl Forebay {
    /// Starts with one route to `topic` and waits until it is ready.
    pub fn with_route(bootstrap: &str, topic: &str) -> Self {
        let forebay = Self::start(&config(bootstrap, &route(topic)));
        forebay.wait_ready(START);
        forebay
    }

    /// Starts with `config` and waits until its listener takes connections.
    pub fn start(config: &str) -> Self {
        for _ in 0..3 {
            if let Some(forebay) = Self::try_start(config) {
                return forebay;
            }
        }
        panic!("no free port in three tries");
    }

    /// Starts from the text of a mosquitto.conf; its places in braces are filled in too.
    pub fn from_mosquitto(conf: &str) -> Self {
        for _ in 0..3 {
            let place = Place::new();
            let file = place.dir.path().join("mosquitto.conf");
            std::fs::write(&file, place.fill(conf)).unwrap();
            let command = args![
                env!("CARGO_BIN_EXE_forebay"),
                "run",
                "--mosquitto-conf",
                file.display()
            ];
            if let Some(forebay) = place.start(&command) {
                return forebay;
            }
        }
        panic!("no free port in three tries");
    }

    /// `None` when a port was taken between the kernel's answer and the bind.
    fn try_start(config: &str) -> Option<Self> {
        let place = Place::new();
        let file = place.dir.path().join("forebay.toml");
        std::fs::write(&file, place.fill(config)).unwrap();
        place.start(&args![env!("CARGO_BIN_EXE_forebay"), "run", "-c", file.display()])
    }

    /// Status and body of a request to the admin port.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Some((status, body.to_owned()))
    }

    pub fn wait_ready(&self, within: Duration) {
        wait_for("/readyz says 200", within, || {
            (self.get("/readyz")?.0 == 200).then_some(())
        });
    }

    /// Waits until `/readyz` refuses with a reason that holds `with`.
    pub fn wait_unready(&self, with: &str, within: Duration) {
        let mut last = String::new();
        wait_for(&format!("/readyz says 503 and {with:?}"), within, || {
            let (status, body) = self.get("/readyz")?;
            if status == 503 && body != last {
                eprintln!("not ready: {body}");
                last.clone_from(&body);
            }
            (status == 503 && body.contains(with)).then_some(())
        });
    }

    /// The sum of all series of a metric whose line holds `with`.
    pub fn metric(&self, name: &str, with: &str) -> f64 {
        let (status, body) = self.get("/metrics").unwrap();
        assert_eq!(status, 200);
        body.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter(|line| line.contains(with))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// Kills it as a power cut would, and starts it again on the same ports.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports, after it has ended.
    pub fn start_again(&mut self) {
        let log = self.dir.path().join("forebay.log");
        self.process = Process::start(&self.command[0], &self.command[1..], &log);
        assert!(self.wait_open(), "its ports are still free");
    }

    /// Waits until the MQTT port takes connections; false when it ended because a port was taken.
    fn wait_open(&mut self) -> bool {
        wait_for("the listener is open", START, || {
            if self.process.ended().is_some() {
                let log = self.process.log_tail();
                assert!(log.to_lowercase().contains("in use"), "ended at start:\n{log}");
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", self.mqtt)).ok().map(|_| true)
        })
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Puts `change` of what its configuration says now in its place.
    pub fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let file = self.dir.path().join("forebay.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, change(text)).unwrap();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.hang_up();
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        self.process.ask_to_end();
    }

    /// Waits for its end and returns the exit code.
    pub fn wait(&mut self, within: Duration) -> Option<i32> {
        self.process.wait(within).code()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Runs the binary to its end.
pub fn run(args: &[String]) -> Finished {
    process::run(env!("CARGO_BIN_EXE_forebay"), args, "", START)
}
