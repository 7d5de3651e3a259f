//! A small publisher of our own for load: MQTT 3.1.1 at QoS 1 and 2, written apart from the broker's codec so that a
//! fault there cannot hide itself. A device that comes back keeps its session and sends again what it must.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::chance::Chance;
use super::wire::{connect, length, packet_id, text};

/// Longest wait for a connection and its CONNACK.
const CONNACK: Duration = Duration::from_secs(20);

/// What a fleet of devices does.
#[derive(Debug, Clone)]
pub struct Load {
    /// Name before the number of each device.
    pub prefix: String,
    pub devices: usize,
    /// Messages of each device, when nobody says stop before.
    pub messages: u64,
    /// Time from one message of a device to its next.
    pub every: Duration,
    /// 1 or 2.
    pub qos: u8,
    /// Last level of the topic `devices/NAME/LEAF`.
    pub leaf: &'static str,
    /// Unacknowledged messages of a device at which it waits.
    pub window: usize,
    pub payload_bytes: usize,
    /// A device whose connection is lost connects again and sends again what was not acknowledged.
    pub reconnect: bool,
    /// Longest life of a connection: a device cuts it at random before, and comes back.
    pub churn: Option<Duration>,
    pub steer: Arc<Steer>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            prefix: "d".to_owned(),
            devices: 1,
            messages: u64::MAX,
            every: Duration::from_millis(100),
            qos: 1,
            leaf: "telemetry",
            window: 64,
            payload_bytes: 100,
            reconnect: false,
            churn: None,
            steer: Arc::default(),
        }
    }
}

/// What a test tells its devices while they run.
#[derive(Debug, Default)]
pub struct Steer {
    stop: AtomicBool,
    phase: AtomicU8,
}

impl Steer {
    /// Nothing new is published; what was sent is brought to its end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for acknowledgements are kept under this number from now on.
    pub fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }
}

/// What became of one device's messages.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub device: String,
    pub qos: u8,
    pub sent: u64,
    /// Numbers below this one are the broker's (PUBACK or PUBREC came): acknowledgements come in order.
    pub acknowledged: u64,
    /// QoS 2: numbers below this one have their PUBCOMP.
    pub completed: u64,
    /// How often a number was sent again.
    pub again: HashMap<u64, u32>,
    pub connections: u32,
    /// Connections for which the broker knew no session though it had acknowledged before.
    pub sessions_lost: u32,
    pub longest_wait: Duration,
    /// Phase of the sending and microseconds to the acknowledgement, of each message.
    pub waits: Vec<(u8, u32)>,
    /// What the broker sent and should not have.
    pub violations: Vec<String>,
    pub error: Option<String>,
}

/// Acknowledged (device, number) pairs of all outcomes.
pub fn acknowledged(outcomes: &[Outcome]) -> impl Iterator<Item = (String, u64)> + '_ {
    outcomes
        .iter()
        .flat_map(|outcome| (0..outcome.acknowledged).map(|number| (outcome.device.clone(), number)))
}

/// Waits of a phase, sorted, in microseconds.
pub fn waits(outcomes: &[Outcome], phase: u8) -> Vec<u32> {
    let all = outcomes.iter().flat_map(|outcome| &outcome.waits);
    let mut waits: Vec<u32> = all
        .filter(|(of, _)| *of == phase)
        .map(|(_, wait)| *wait)
        .collect();
    waits.sort_unstable();
    waits
}

/// The wait below which `part` of the sorted waits are.
pub fn quantile(waits: &[u32], part: f64) -> Duration {
    let at = ((waits.len() as f64 * part) as usize).min(waits.len().saturating_sub(1));
    Duration::from_micros(waits.get(at).copied().unwrap_or_default().into())
}

impl Load {
    /// Runs all devices to their end or to `deadline`, and says what became of each.
    pub async fn run(&self, port: u16, deadline: Duration) -> Vec<Outcome> {
        let mut tasks = Vec::new();
        let end = Instant::now() + deadline;
        for index in 0..self.devices {
            let load = self.clone();
            tasks.push(tokio::spawn(async move {
                // Spread over one interval, as real devices are.
                sleep(load.every.mul_f64(index as f64 / load.devices as f64)).await;
                let mut device = Device::new(&load, index);
                let result = timeout_at(end, device.publish_all(port)).await;
                device.outcome.error = match result {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("not done at the deadline".to_owned()),
                };
                device.outcome
            }));
        }
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        outcomes
    }
}

struct Device<'a> {
    load: &'a Load,
    outcome: Outcome,
    chance: Chance,
    /// When each unacknowledged message was first sent, and in which phase, the oldest first.
    waiting: VecDeque<(Instant, u8)>,
    first_due: Instant,
}

impl<'a> Device<'a> {
    fn new(load: &'a Load, index: usize) -> Self {
        let outcome = Outcome {
            device: format!("{}{index}", load.prefix),
            qos: load.qos,
            ..Outcome::default()
        };
        Self {
            load,
            outcome,
            chance: Chance::new(index as u64),
            waiting: VecDeque::new(),
            first_due: Instant::now(),
        }
    }

    async fn publish_all(&mut self, port: u16) -> io::Result<()> {
        loop {
            match self.connection(port).await {
                Ok(()) => return Ok(()),
                Err(error) if !self.load.reconnect => return Err(error),
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.outcome.violations.push(error.to_string());
                    }
                    sleep(self.chance.up_to(Duration::from_millis(300))).await;
                }
            }
        }
    }

    fn target(&self) -> u64 {
        if self.load.steer.stop.load(Ordering::Relaxed) {
            return self.outcome.sent;
        }
        self.load.messages
    }

    fn done(&self) -> bool {
        let target = self.target();
        self.outcome.acknowledged >= target && (self.load.qos < 2 || self.outcome.completed >= target)
    }

    async fn open(&mut self, port: u16) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let packet = connect(&self.outcome.device, !self.load.reconnect);
        stream.write_all(&packet).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if answer[0] != 0x20 || answer[3] != 0 {
            return Err(io::Error::other(format!("CONNACK {answer:?}")));
        }
        if self.outcome.acknowledged > 0 && answer[2] == 0 {
            self.outcome.sessions_lost += 1;
        }
        self.outcome.connections += 1;
        Ok(stream)
    }

    /// One connection, until all is acknowledged or it is lost.
    async fn connection(&mut self, port: u16) -> io::Result<()> {
        let late = io::Error::from(io::ErrorKind::TimedOut);
        let mut stream = timeout(CONNACK, self.open(port)).await.map_err(|_| late)??;
        let mut out = Vec::new();
        if self.load.qos == 2 {
            (self.outcome.completed..self.outcome.acknowledged).for_each(|number| release(number, &mut out));
        }
        for number in self.outcome.acknowledged..self.outcome.sent {
            *self.outcome.again.entry(number).or_default() += 1;
            self.publish(number, true, &mut out);
        }
        stream.write_all(&out).await?;
        let mut input = Vec::with_capacity(1024);
        let cut = Instant::now()
            + self
                .load
                .churn
                .map_or(Duration::from_secs(86_400), |most| self.chance.up_to(most));
        while !self.done() {
            let may_send = self.outcome.sent < self.target() && self.waiting.len() < self.load.window;
            let due = self.first_due + self.load.every.mul_f64(self.outcome.sent as f64);
            // Once in a while, to see whether it is to stop.
            let look = Instant::now() + Duration::from_millis(250);
            out.clear();
            tokio::select! {
                biased;
                read = stream.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.take(&mut input, &mut out)?;
                }
                () = sleep_until(due), if may_send => {
                    self.publish(self.outcome.sent, false, &mut out);
                    self.outcome.sent += 1;
                    let phase = self.load.steer.phase.load(Ordering::Relaxed);
                    self.waiting.push_back((Instant::now(), phase));
                }
                // Without a word, as a device that lost its network.
                () = sleep_until(cut) => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = sleep_until(look) => {}
            }
            stream.write_all(&out).await?;
        }
        stream.write_all(&[0xe0, 0]).await
    }

    fn take(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        let whole = input.len() - input.len() % 4;
        for answer in input[..whole].chunks_exact(4) {
            let outcome = &mut self.outcome;
            let (kind, expected) = match (self.load.qos, answer[0]) {
                (2, 0x70) => (0x70, outcome.completed),
                (2, _) => (0x50, outcome.acknowledged),
                _ => (0x40, outcome.acknowledged),
            };
            let id = packet_id(expected);
            if answer[..2] != [kind, 2] || answer[2..] != id.to_be_bytes() {
                let text = format!("{answer:02x?} where {kind:02x} of {id} is due");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            if kind == 0x70 {
                outcome.completed += 1;
                continue;
            }
            outcome.acknowledged += 1;
            if kind == 0x50 {
                release(expected, out);
            }
            if let Some((sent, phase)) = self.waiting.pop_front() {
                let wait = sent.elapsed();
                outcome.longest_wait = outcome.longest_wait.max(wait);
                outcome
                    .waits
                    .push((phase, wait.as_micros().min(u128::from(u32::MAX)) as u32));
            }
        }
        input.drain(..whole);
        Ok(())
    }

    fn publish(&self, number: u64, again: bool, out: &mut Vec<u8>) {
        let topic = format!("devices/{}/{}", self.outcome.device, self.load.leaf);
        let mut payload = format!("{}:{number}:", self.outcome.device).into_bytes();
        payload.resize(self.load.payload_bytes.max(payload.len()), b'x');
        out.push(0x30 | self.load.qos << 1 | if again { 8 } else { 0 });
        length(2 + topic.len() + 2 + payload.len(), out);
        text(&topic, out);
        out.extend_from_slice(&packet_id(number).to_be_bytes());
        out.extend_from_slice(&payload);
    }
}

/// PUBREL.
fn release(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x62, 2]);
    out.extend_from_slice(&packet_id(number).to_be_bytes());
}
