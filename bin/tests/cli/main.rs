//! The program from outside: arguments, help, faults of the configuration, exit codes, a start and a stop, the demo.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod clients;
mod faults;
mod limits;
mod migrate;
mod passwd;
mod spool;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A folder of its own and the program in it.
struct Dir(TempDir);

/// What a command left.
struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("forebay.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("FOREBAY_LOG")
            .env_remove("FOREBAY_CONFIG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments))
    }

    fn check(&self, text: &str, vars: &[(&str, &str)]) -> Output {
        self.file(text);
        finish(
            self.command(&["check", "-c", "forebay.toml"])
                .envs(vars.iter().copied()),
        )
    }
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The configuration of the README.
const MAIN: &str = r#"[node]
data_dir = "/var/lib/forebay"
[[listener]]
bind = "127.0.0.1:1883"
[auth]
allow_anonymous = true
[kafka.properties]
"bootstrap.servers" = "127.0.0.1:9092"
[[route]]
filter = "devices/{device_id}/#"
topic = "telemetry"
[admin]
bind = "127.0.0.1:9464"
"#;

#[test]
fn every_command_has_help_with_examples() {
    let dir = Dir::new();
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["demo", "--help"],
        &["verify", "--help"],
        &["spool", "--help"],
        &["spool", "inspect", "--help"],
        &["spool", "dump", "--help"],
        &["spool", "drain", "--help"],
        &["migrate", "--help"],
        &["pub", "--help"],
        &["sub", "--help"],
        &["passwd", "--help"],
        &["completions", "--help"],
    ] {
        let output = dir.run(arguments);
        assert_eq!(output.code, 0, "{arguments:?}");
        assert!(
            output.out.contains("Examples:\n"),
            "{arguments:?}: {}",
            output.out
        );
        assert!(!output.out.contains('\x1b'), "colour only on a terminal");
    }
    let version = dir.run(&["--version"]);
    assert_eq!(
        (version.code, version.out.trim()),
        (0, concat!("forebay ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn arguments_that_are_not_understood_are_64() {
    let dir = Dir::new();
    for (arguments, word) in [
        (&[][..], "Usage"),
        (&["chek"], "check"),
        (&["run", "--confg", "x"], "--config"),
        (&["demo", "--for", "soon"], "10s"),
        (&["demo", "--devices", "0"], "1..=1000"),
        (&["completions", "tcsh"], "bash"),
        (&["passwd", "users"], "<USER>"),
        (&["passwd", "-c", "-D", "users", "ann"], "-D"),
        (&["passwd", "-b", "users", "ann"], "<PASSWORD>"),
        (&["passwd", "users", "ann", "pw"], "-b"),
        (&["passwd", "-U", "users", "ann"], "-U"),
        (&["passwd", "-H", "md5", "users", "ann"], "sha512-pbkdf2"),
        (&["passwd", "-I", "0", "users", "ann"], "1..=10000000"),
        (&["verify"], "--topic"),
        (&["verify", "--topic", "t", "--qos", "3"], "0..=2"),
        (&["verify", "--topic", "t", "--password", "x"], "--username"),
    ] {
        let output = dir.run(arguments);
        assert_eq!(output.code, 64, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(word), "{arguments:?}: {}", output.err);
    }
}

#[test]
fn completions_name_the_commands() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = dir.run(&["completions", shell]);
        assert_eq!(output.code, 0);
        assert!(
            [
                "run", "check", "demo", "verify", "spool", "pub", "sub", "migrate", "passwd"
            ]
            .iter()
            .all(|command| output.out.contains(command)),
            "{shell}"
        );
    }
}

#[test]
fn the_main_configuration_and_every_file_in_configs_pass_the_check() {
    let dir = Dir::new();
    let output = dir.check(MAIN, &[]);
    assert_eq!(output.code, 0, "{}", output.err);
    assert!(
        output.out.contains("devices/{device_id}/# -> telemetry"),
        "{}",
        output.out
    );
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    let files: Vec<PathBuf> = std::fs::read_dir(configs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let output = dir.run(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(output.code, 0, "{}: {}", file.display(), output.err);
    }
}

/// A running `forebay run`, ended with the test whatever happens.
struct Running {
    child: Child,
    mqtt: String,
    admin: String,
}

impl Running {
    /// Starts it and reads its ready block.
    fn start(dir: &Dir, text: &str) -> Self {
        let file = dir.file(&format!(
            "{text}\n[node]\ndata_dir = \"data\"\n[spool]\nsegment_bytes = \"4MiB\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n"
        ));
        let mut child = dir
            .command(&["run", "-c", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut after = |mark: &str| -> String {
            let line = lines
                .by_ref()
                .map(Result::unwrap)
                .find(|line| line.contains(mark));
            let line = line.unwrap_or_else(|| panic!("the ready block has {mark}"));
            let (_, rest) = line.split_once(mark).unwrap();
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let mqtt = after("mqtt   ");
        let admin = after("http://");
        Running { child, mqtt, admin }
    }

    /// Status and body of a page of the admin address.
    fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_plain_broker_starts_says_how_it_is_and_stops_in_order() {
    let dir = Dir::new();
    let running = Running::start(&dir, "");
    TcpStream::connect(&running.mqtt).unwrap();
    assert_eq!(running.page("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(
        running.page("/readyz"),
        (200, "ready: a plain broker, without Kafka\n".to_owned())
    );
    assert_eq!(
        running.page("/acceptz"),
        (200, "publishes are taken\n".to_owned())
    );
    let (status, text) = running.page("/metrics");
    assert_eq!(status, 200);
    for name in [
        "forebay_build_info{version=",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(
            text.contains(&format!("\n{name}")) || text.starts_with(name),
            "{name} in\n{text}"
        );
    }
    assert_eq!(
        running.page("/"),
        (
            404,
            "not here; there are /metrics /livez /readyz /acceptz\n".to_owned()
        )
    );
    assert_eq!(running.stop(Signal::TERM).code(), Some(0));
}

#[test]
fn sighup_ends_nothing_and_sigint_stops() {
    let dir = Dir::new();
    let running = Running::start(&dir, "");
    kill_process(Pid::from_child(&running.child), Signal::HUP).unwrap();
    assert_eq!(running.page("/livez").0, 200);
    assert_eq!(running.stop(Signal::INT).code(), Some(0));
}

#[test]
fn without_its_kafka_it_runs_is_not_ready_and_stops() {
    // A port that nobody listens on for as long as this test holds it.
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    let dir = Dir::new();
    let running = Running::start(
        &dir,
        &format!("[kafka.properties]\n\"bootstrap.servers\" = \"127.0.0.1:{port}\""),
    );
    let (status, reason) = running.page("/readyz");
    assert_eq!(status, 503);
    assert!(
        reason.starts_with("not ready: ") && reason.len() > "not ready: \n".len(),
        "{reason}"
    );
    assert_eq!(running.page("/livez").0, 200);
    assert_eq!(running.stop(Signal::TERM).code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_named_with_a_hint() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let dir = Dir::new();
    for text in [
        format!("[node]\ndata_dir = \"data\"\n[[listener]]\nbind = \"{address}\""),
        format!(
            "[node]\ndata_dir = \"data\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"{address}\""
        ),
    ] {
        dir.file(&text);
        let output = dir.run(&["run", "-c", "forebay.toml"]);
        assert_eq!(output.code, 1, "{}", output.err);
        assert!(
            output.err.contains(&address.to_string()) && output.err.contains("hint: "),
            "{}",
            output.err
        );
    }
}

#[test]
fn the_demo_ends_by_itself_with_nothing_lost_and_nothing_out_of_order() {
    let dir = Dir::new();
    let output = dir.run(&["demo", "--for", "3s", "--port", "0"]);
    assert_eq!(output.code, 0, "{}\n{}", output.out, output.err);
    assert!(
        !output.out.contains('\x1b') && !output.out.contains('\r'),
        "plain lines where there is no terminal"
    );
    assert!(output.out.contains("mosquitto_pub -p "), "{}", output.out);
    assert!(output.out.contains("key device-0"), "{}", output.out);
    let count = |name: &str| -> u64 {
        let line = output.out.lines().rev().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(count("published") >= 100, "{}", output.out);
    assert_eq!(count("published"), count("acknowledged"));
    assert_eq!(count("published"), count("in Kafka"));
    assert_eq!((count("lost"), count("out of order")), (0, 0));
}

#[test]
fn verify_says_why_it_can_not_begin() {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    let kafka = format!("127.0.0.1:{port}");
    let output = Dir::new().run(&["verify", "--topic", "t", "--kafka", &kafka]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("asking Kafka for topic t"), "{}", output.err);
}

#[test]
fn the_demo_takes_the_next_free_port() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = Dir::new().run(&[
        "demo",
        "--for",
        "1s",
        "--devices",
        "1",
        "--port",
        &port.to_string(),
    ]);
    assert_eq!(output.code, 0, "{}\n{}", output.out, output.err);
    assert!(
        !output.out.contains(&format!("mosquitto_pub -p {port} ")),
        "{}",
        output.out
    );
}
