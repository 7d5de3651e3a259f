//! Clients that others wrote, as processes: mosquitto_pub and mosquitto_sub, and paho-mqtt by scripts in Python.

use std::path::PathBuf;
use std::time::Duration;

use super::process::{self, Finished, Process};
use super::root;
use crate::args;

const WITHIN: Duration = Duration::from_secs(60);

/// `mosquitto_pub` with one message in each line of `lines`.
pub fn publish(port: u16, version: &str, qos: u8, client: &str, topic: &str, lines: &str) -> Finished {
    let args = args![
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-V",
        version,
        "-q",
        qos,
        "-i",
        client,
        "-t",
        topic,
        "-l"
    ];
    process::run("mosquitto_pub", &args, lines, WITHIN)
}

/// `mosquitto_pub` with further arguments of the case.
pub fn mosquitto_pub(port: u16, further: &[&str]) -> Finished {
    process::run("mosquitto_pub", &with_port(port, further), "", WITHIN)
}

/// `mosquitto_sub` to its end.
pub fn mosquitto_sub(port: u16, further: &[&str]) -> Finished {
    process::run("mosquitto_sub", &with_port(port, further), "", WITHIN)
}

/// A `mosquitto_sub` that runs on, its output in a file.
pub struct Subscriber {
    process: Process,
    _dir: tempfile::TempDir,
}

impl Subscriber {
    /// Starts it and waits until the broker has answered its SUBSCRIBE.
    pub fn start(port: u16, further: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut args = with_port(port, further);
        // -d prints the SUBACK; lines of messages are told apart by their own prefix.
        args.extend(args!["-d", "-F", "message %t %q %r %p"]);
        let mut all = args!["-oL", "mosquitto_sub"].to_vec();
        all.extend(args);
        let process = Process::start("stdbuf", &all, &dir.path().join("out"));
        let subscriber = Self { process, _dir: dir };
        super::wait_for("SUBACK", WITHIN, || {
            subscriber.process.log().contains("received SUBACK").then_some(())
        });
        subscriber
    }

    /// `topic qos retain payload` of each message so far.
    pub fn messages(&self) -> Vec<String> {
        let log = self.process.log();
        log.lines()
            .filter_map(|line| line.strip_prefix("message "))
            .map(str::to_owned)
            .collect()
    }

    pub fn wait_messages(&self, count: usize) -> Vec<String> {
        super::wait_for(&format!("{count} messages"), WITHIN, || {
            let messages = self.messages();
            (messages.len() >= count).then_some(messages)
        })
    }

    /// All it has printed, with what its client library says of packets.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// It does nothing any more, and its socket stays open.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Ends it as a lost device: the socket closes with no DISCONNECT.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

fn with_port(port: u16, further: &[&str]) -> Vec<String> {
    let mut args = args!["-h", "127.0.0.1", "-p", port].to_vec();
    args.extend(further.iter().map(ToString::to_string));
    args
}

/// Something that `make setup` puts into .cache.
pub fn cached(path: &str) -> PathBuf {
    let found = root().join(".cache").join(path);
    assert!(found.exists(), "no {}: `make setup` makes it", found.display());
    found
}

/// The Python that has paho-mqtt.
pub fn interpreter() -> PathBuf {
    std::env::var_os("FOREBAY_TEST_PYTHON").map_or_else(|| cached("python/bin/python"), PathBuf::from)
}

/// Runs a script of bin/tests/clients with the Python that has paho-mqtt.
pub fn python(script: &str, args: &[String]) -> Finished {
    let mut all = args![root().join("bin/tests/clients").join(script).display()].to_vec();
    all.extend_from_slice(args);
    process::run(&interpreter().display().to_string(), &all, "", WITHIN)
}
