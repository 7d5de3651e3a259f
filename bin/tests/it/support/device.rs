//! A small publisher of our own for load: MQTT 3.1.1 at QoS 1, written apart from the broker's codec so that a fault
//! there cannot hide itself.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

/// What a fleet of devices does.
#[derive(Debug, Clone)]
pub struct Load {
    /// Name before the number of each device.
    pub prefix: String,
    pub devices: usize,
    /// Messages of each device.
    pub messages: u64,
    /// Time from one message of a device to its next.
    pub every: Duration,
    /// Unacknowledged messages of a device at which it waits.
    pub window: usize,
    pub payload_bytes: usize,
    /// A device whose connection is lost connects again and sends again what was not acknowledged.
    pub reconnect: bool,
}

/// What became of one device's messages.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub device: String,
    pub sent: u64,
    /// Numbers below this one were acknowledged: acknowledgements come in order.
    pub acknowledged: u64,
    pub connections: u32,
    pub longest_wait: Duration,
    pub error: Option<String>,
}

/// Acknowledged (device, number) pairs of all outcomes.
pub fn acknowledged(outcomes: &[Outcome]) -> impl Iterator<Item = (String, u64)> + '_ {
    outcomes
        .iter()
        .flat_map(|outcome| (0..outcome.acknowledged).map(|number| (outcome.device.clone(), number)))
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
                let mut device = Device::new(&load, format!("{}{index}", load.prefix));
                let result = tokio::time::timeout_at(end, device.publish_all(port)).await;
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
    /// When each unacknowledged message was first sent, the oldest first.
    waiting: VecDeque<Instant>,
    first_due: Instant,
}

impl<'a> Device<'a> {
    fn new(load: &'a Load, name: String) -> Self {
        let outcome = Outcome {
            device: name,
            ..Outcome::default()
        };
        Self {
            load,
            outcome,
            waiting: VecDeque::new(),
            first_due: Instant::now(),
        }
    }

    async fn publish_all(&mut self, port: u16) -> io::Result<()> {
        loop {
            let result = self.connection(port).await;
            match result {
                Ok(()) => return Ok(()),
                Err(error) if !self.load.reconnect => return Err(error),
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// One connection, until all is acknowledged or it is lost.
    async fn connection(&mut self, port: u16) -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(&connect(&self.outcome.device, !self.load.reconnect))
            .await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if answer[0] != 0x20 || answer[3] != 0 {
            return Err(io::Error::other(format!("CONNACK {answer:?}")));
        }
        self.outcome.connections += 1;
        let mut out = Vec::new();
        for number in self.outcome.acknowledged..self.outcome.sent {
            self.publish(number, true, &mut out);
        }
        stream.write_all(&out).await?;
        let mut input = Vec::with_capacity(1024);
        while self.outcome.acknowledged < self.load.messages {
            let may_send = self.outcome.sent < self.load.messages && self.waiting.len() < self.load.window;
            let due = self.first_due + self.load.every.mul_f64(self.outcome.sent as f64);
            tokio::select! {
                biased;
                read = stream.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.take_acknowledgements(&mut input)?;
                }
                () = sleep_until(due), if may_send => {
                    out.clear();
                    self.publish(self.outcome.sent, false, &mut out);
                    self.outcome.sent += 1;
                    self.waiting.push_back(Instant::now());
                    stream.write_all(&out).await?;
                }
            }
        }
        stream.write_all(&[0xe0, 0]).await
    }

    fn take_acknowledgements(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        let whole = input.len() - input.len() % 4;
        for ack in input[..whole].chunks_exact(4) {
            let expected = packet_id(self.outcome.acknowledged);
            if ack[..2] != [0x40, 2] || ack[2..] != expected.to_be_bytes() {
                return Err(io::Error::other(format!(
                    "{ack:02x?} where PUBACK {expected} is due"
                )));
            }
            self.outcome.acknowledged += 1;
            if let Some(sent) = self.waiting.pop_front() {
                self.outcome.longest_wait = self.outcome.longest_wait.max(sent.elapsed());
            }
        }
        input.drain(..whole);
        Ok(())
    }

    fn publish(&self, number: u64, again: bool, out: &mut Vec<u8>) {
        let topic = format!("devices/{}/telemetry", self.outcome.device);
        let mut payload = format!("{}:{number}:", self.outcome.device).into_bytes();
        payload.resize(self.load.payload_bytes.max(payload.len()), b'x');
        let flags = if again { 0x3a } else { 0x32 };
        out.push(flags);
        length(2 + topic.len() + 2 + payload.len(), out);
        text(&topic, out);
        out.extend_from_slice(&packet_id(number).to_be_bytes());
        out.extend_from_slice(&payload);
    }
}

fn packet_id(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

/// A CONNECT of MQTT 3.1.1 with keep-alive off.
pub fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    let mut packet = vec![0x10];
    length(10 + 2 + client_id.len(), &mut packet);
    text("MQTT", &mut packet);
    packet.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0]);
    text(client_id, &mut packet);
    packet
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}
