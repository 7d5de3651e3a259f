//! `pub`: messages to the broker, as many on their way as it allows, each followed until it is acknowledged.

use std::collections::HashSet;
use std::io::{BufRead, Read};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay_broker::codec::{Ack, Packet, Properties, PropertiesBuf, Publish, QoS, Reason, topic};
use tokio::sync::mpsc;

use super::failure::{Failure, text, with_text};
use super::link::Link;
use super::options::Target;
use super::{Stop, complain};
use crate::exit;

/// Greatest payload: MQTT has no longer packet.
const PAYLOAD_MAX: u64 = 268_435_455;
/// Lines read ahead of the broker.
const READ_AHEAD: usize = 64;
/// Bytes put together before they are sent.
const SEND_BYTES: usize = 64 * 1024;

/// What to publish.
#[derive(Debug)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// Topic.
    pub topic: String,
    /// Payloads.
    pub source: Source,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// Times that the payload is published.
    pub repeat: u32,
    /// Time between two of them.
    pub repeat_delay: Duration,
    /// Unacknowledged publishes at most.
    pub window: u16,
    /// Longest wait for the next acknowledgement.
    pub patience: Duration,
    /// No complaints.
    pub quiet: bool,
}

/// Where payloads come from.
#[derive(Debug)]
pub enum Source {
    /// The command line.
    Text(Vec<u8>),
    /// A file, whole.
    File(PathBuf),
    /// Standard input, whole.
    Whole,
    /// Standard input, each line.
    Lines,
}

/// Runs it.
pub fn run(plan: Plan) -> anyhow::Result<u8> {
    super::run(plan.quiet, |stop| publish(plan, stop))
}

async fn publish(plan: Plan, stop: Stop) -> Result<u8, Failure> {
    topic::check_name(&plan.topic).map_err(|_| {
        Failure::Usage(format!(
            "Invalid publish topic '{}', does it contain '+' or '#'?",
            plan.topic
        ))
    })?;
    let payloads = payloads(&plan).await?;
    let (link, granted) = Link::connect(&plan.target).await?;
    if plan.qos as u8 > granted.max_qos {
        let text = format!("the broker takes QoS {} at most", granted.max_qos);
        link.disconnect(&PropertiesBuf::new()).await;
        return Err(Failure::Usage(text));
    }
    let publisher = Publisher {
        window: usize::from(plan.window.min(granted.receive_maximum).max(1)),
        plan: &plan,
        link,
        on_their_way: HashSet::new(),
        last_id: 0,
        refused: false,
        progress: Instant::now(),
    };
    publisher.run(payloads, stop).await
}

type Payloads = mpsc::Receiver<Result<Vec<u8>, Failure>>;

/// The payloads, one after another, from a thread of their own where reading them may take its time.
async fn payloads(plan: &Plan) -> Result<Payloads, Failure> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let whole = match &plan.source {
        Source::Text(text) => text.clone(),
        Source::File(path) => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| Failure::Input(name.clone(), error))?;
            read_whole(file, name).await?
        }
        Source::Whole => read_whole(std::io::stdin(), STDIN.to_owned()).await?,
        Source::Lines => {
            let read = move || lines(&sender);
            std::thread::Builder::new()
                .name("lines".to_owned())
                .spawn(read)
                .map_err(|error| Failure::Input(STDIN.to_owned(), error))?;
            return Ok(receiver);
        }
    };
    let (repeat, delay) = (plan.repeat, plan.repeat_delay);
    tokio::spawn(async move {
        for number in 0..repeat {
            if number > 0 {
                tokio::time::sleep(delay).await;
            }
            if sender.send(Ok(whole.clone())).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

const STDIN: &str = "standard input";

/// All of it, read aside: a signal must end the wait for standard input.
async fn read_whole(from: impl Read + Send + 'static, name: String) -> Result<Vec<u8>, Failure> {
    let read = move || {
        let mut bytes = Vec::new();
        from.take(PAYLOAD_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let read = tokio::task::spawn_blocking(read)
        .await
        .map_err(std::io::Error::other);
    read.and_then(|bytes| bytes)
        .map_err(|error| Failure::Input(name, error))
}

/// Each line of standard input without its end, until it ends or nobody wants more.
fn lines(to: &mpsc::Sender<Result<Vec<u8>, Failure>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(PAYLOAD_MAX + 1).read_until(b'\n', &mut line);
        let item = match read {
            Ok(0) => return,
            Ok(_) => {
                line.pop_if(|last| *last == b'\n');
                line.pop_if(|last| *last == b'\r');
                Ok(line)
            }
            Err(error) => Err(Failure::Input(STDIN.to_owned(), error)),
        };
        let last = item.is_err();
        if to.blocking_send(item).is_err() || last {
            return;
        }
    }
}

struct Publisher<'a> {
    plan: &'a Plan,
    link: Link,
    window: usize,
    /// Packet identifiers of what is not acknowledged.
    on_their_way: HashSet<NonZeroU16>,
    last_id: u16,
    refused: bool,
    /// When the broker answered last, or had nothing to answer.
    progress: Instant,
}

impl Publisher<'_> {
    async fn run(mut self, mut payloads: Payloads, mut stop: Stop) -> Result<u8, Failure> {
        let mut more = true;
        while more || !self.on_their_way.is_empty() {
            if self.on_their_way.is_empty() {
                self.progress = Instant::now();
            }
            let until = (self.progress + self.plan.patience).into();
            let room = self.on_their_way.len() < self.window;
            let waiting = !self.on_their_way.is_empty();
            tokio::select! {
                biased;
                frame = self.link.frame() => self.answer(&frame?)?,
                payload = payloads.recv(), if more && room => match payload {
                    Some(payload) => self.publish(&payload?)?,
                    None => more = false,
                },
                () = tokio::time::sleep_until(until), if waiting => {
                    return Err(Failure::Timeout(Some(self.plan.patience)));
                }
                _ = stop.changed() => break,
            }
            while self.on_their_way.len() < self.window && self.link.waiting_bytes() < SEND_BYTES {
                match payloads.try_recv() {
                    Ok(payload) => self.publish(&payload?)?,
                    Err(_) => break,
                }
            }
            self.link.flush().await?;
        }
        self.link
            .disconnect(&self.plan.target.properties.disconnect)
            .await;
        Ok(if self.refused { exit::FAILED } else { exit::OK })
    }

    fn publish(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let packet_id = (self.plan.qos != QoS::AtMostOnce).then(|| self.free_id());
        self.link.push(&Packet::Publish(Publish {
            dup: false,
            qos: self.plan.qos,
            retain: self.plan.retain,
            topic: &self.plan.topic,
            packet_id,
            payload,
            properties: self.plan.target.properties.publish.as_properties(),
        }))?;
        if let Some(id) = packet_id {
            self.on_their_way.insert(id);
        }
        Ok(())
    }

    /// The next identifier that is not in use. The window is smaller than their number, so there is one.
    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id).filter(|id| !self.on_their_way.contains(id)) {
                return id;
            }
        }
    }

    fn answer(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let done = match self.link.decode(frame)? {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => Some(ack),
            Packet::Pubrec(ack) if ack.reason.is_error() => Some(ack),
            Packet::Pubrec(ack) => {
                // An identifier that is not known is answered too, else the broker asks for ever.
                self.link.push(&Packet::Pubrel(Ack {
                    packet_id: ack.packet_id,
                    reason: Reason::Success,
                    properties: Properties::EMPTY,
                }))?;
                self.progress = Instant::now();
                None
            }
            Packet::Disconnect(end) => {
                let detail = end.properties.reason_string().unwrap_or_default();
                return Err(Failure::Ended(end.reason, detail.to_owned()));
            }
            _ => None,
        };
        let Some(ack) = done.filter(|ack| self.on_their_way.remove(&ack.packet_id)) else {
            return Ok(());
        };
        self.progress = Instant::now();
        if ack.reason.is_error() {
            self.refused = true;
            let detail = ack.properties.reason_string().unwrap_or_default();
            let why = with_text(text(ack.reason), detail);
            complain(
                self.plan.quiet,
                &format!("Warning: Publish {} failed: {why}.", ack.packet_id),
            );
        }
        Ok(())
    }
}
