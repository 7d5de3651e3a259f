//! `forebay verify`: numbered messages into any MQTT broker, Kafka read back, and what became of each.

mod message;
mod report;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_broker::codec::{QoS, Version};

use crate::config::{Log, LogFormat};
use crate::fleet::tally::Tally;
use crate::fleet::watch::{Arrival, Watch};
use crate::fleet::{Fleet, Plan, SharedTally, lock};
use crate::{exit, logging};
use message::Numbered;
use report::Report;

const TICK: Duration = Duration::from_millis(50);

/// Time between two lines of progress, on a terminal and elsewhere.
const REDRAW: Duration = Duration::from_millis(200);
const PLAIN_LINES: Duration = Duration::from_secs(5);

/// When nothing is missing any more, Kafka is read on for so long: what comes twice comes late.
const LATE: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug)]
pub struct Options {
    /// MQTT broker, `host:port`.
    pub broker: String,
    /// Properties of the Kafka client.
    pub kafka: Vec<(String, String)>,
    /// Kafka topics that are read back.
    pub topics: Vec<String>,
    /// Number of devices.
    pub devices: u32,
    /// Publishes of all of them in a second.
    pub rate: u32,
    /// How long they publish.
    pub duration: Duration,
    /// Quality of service.
    pub qos: QoS,
    /// MQTT version.
    pub version: Version,
    /// MQTT topic with `{device_id}` in it.
    pub topic_template: String,
    /// Size of a payload.
    pub payload_bytes: usize,
    /// Unacknowledged publishes of a device.
    pub in_flight: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// At the end: wait for acknowledgements, and for what is missing.
    pub wait: Duration,
    /// The result as JSON.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

/// Runs it and gives the exit code.
pub fn run(options: &Options) -> anyhow::Result<u8> {
    logging::start(&Log {
        level: "error".to_owned(),
        format: LogFormat::Text,
    })?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let numbered = Numbered::new(
        format!("{:x}", since.as_millis()),
        options.topic_template.clone(),
        options.payload_bytes,
    );
    let watch = Watch::start(&options.kafka, &options.topics)?;
    let tally: SharedTally = Arc::new(Mutex::new(Tally::new(options.devices)));
    let interrupted = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let fleet = Fleet::start(plan(options), Arc::new(numbered.clone()), &tally, &interrupted)?;
    let mut reader = Reader {
        watch: &watch,
        numbered: &numbered,
        tally: &tally,
        keys: Keys::default(),
        progress: Progress::new(options, started),
    };
    let end = started + options.duration;
    reader.read("publishing", || {
        Instant::now() < end && !interrupted.load(Ordering::Relaxed)
    });
    let published_for = started.elapsed();
    fleet.stop(|| reader.one("waiting for acknowledgements"));
    let until = Instant::now() + options.wait;
    reader.read("waiting for Kafka", || {
        lock(&tally).missing() > 0 && Instant::now() < until
    });
    let until = Instant::now() + LATE;
    reader.read("waiting for Kafka", || Instant::now() < until);
    reader.progress.end();
    let keys = reader.keys;
    watch.stop();
    let report = Report::new(&lock(&tally), options, keys, published_for);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.passed() { exit::OK } else { exit::FAILED })
}

fn plan(options: &Options) -> Plan {
    Plan {
        broker: options.broker.clone(),
        login: options.login.clone(),
        versions: vec![options.version],
        devices: options.devices,
        period: Duration::from_secs_f64(f64::from(options.devices) / f64::from(options.rate.max(1))),
        qos: options.qos,
        window: options.in_flight,
        drain: options.wait,
    }
}

/// What the records were keyed by.
#[derive(Debug, Default, Clone, Copy)]
pub struct Keys {
    /// The device's name.
    pub device: u64,
    /// Something else.
    pub other: u64,
    /// Nothing.
    pub none: u64,
}

/// Reads Kafka back.
struct Reader<'a> {
    watch: &'a Watch,
    numbered: &'a Numbered,
    tally: &'a SharedTally,
    keys: Keys,
    progress: Progress,
}

impl Reader<'_> {
    fn read(&mut self, what: &str, going: impl Fn() -> bool) {
        while going() {
            self.one(what);
        }
    }

    /// Waits a little for records and counts what is there.
    fn one(&mut self, what: &str) {
        if let Ok(arrival) = self.watch.arrivals.recv_timeout(TICK) {
            let more: Vec<Arrival> = self.watch.arrivals.try_iter().take(1000).collect();
            let mut tally = lock(self.tally);
            for arrival in std::iter::once(arrival).chain(more) {
                let Some((device, number)) = self.numbered.parse(&arrival.payload) else {
                    tally.others += 1;
                    continue;
                };
                tally.arrive(device, number, (arrival.topic, arrival.partition));
                *(if arrival.key.is_empty() {
                    &mut self.keys.none
                } else if arrival.key == crate::fleet::Messages::name(self.numbered, device).as_bytes() {
                    &mut self.keys.device
                } else {
                    &mut self.keys.other
                }) += 1;
            }
        }
        self.progress.show(what, self.tally);
    }
}

/// Lines on standard error: one that is written over on a terminal, one every few seconds elsewhere.
struct Progress {
    quiet: bool,
    live: bool,
    started: Instant,
    due: Instant,
}

impl Progress {
    fn new(options: &Options, started: Instant) -> Self {
        Self {
            quiet: options.quiet,
            live: std::io::stderr().is_terminal(),
            started,
            due: started,
        }
    }

    fn show(&mut self, what: &str, tally: &SharedTally) {
        let now = Instant::now();
        if self.quiet || now < self.due {
            return;
        }
        self.due = now + if self.live { REDRAW } else { PLAIN_LINES };
        let text = {
            let tally = lock(tally);
            format!(
                "{:5.0} s  {what}: published {}, acknowledged {}, in Kafka {}, on the way {}, out of order {}",
                self.started.elapsed().as_secs_f64(),
                tally.published,
                tally.acknowledged,
                tally.in_kafka,
                tally.missing(),
                tally.out_of_order
            )
        };
        let (start, end) = if self.live { ("\r\x1b[2K", "") } else { ("", "\n") };
        // Nobody has to look at it.
        let _ = write!(std::io::stderr().lock(), "{start}{text}{end}");
    }

    fn end(&self) {
        if self.live && !self.quiet {
            let _ = writeln!(std::io::stderr().lock());
        }
    }
}
