//! `sub`: subscribes and prints what comes. A lost connection is made again, as mosquitto_sub does.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use forebay_broker::codec::{
    Ack, Packet, PacketId, Properties, Publish, QoS, Reason, RetainHandling, Suback, Subscribe, Subscription,
    Unsubscribe, topic,
};

use super::clock::Moment;
use super::failure::{Failure, text, with_text};
use super::format::{Format, Message};
use super::link::Link;
use super::options::Target;
use super::{Stop, complain};
use crate::exit;

/// Time between two tries to connect again.
const AGAIN: Duration = Duration::from_secs(1);
/// After the last message asked for: longest wait for the rest of a QoS 2 exchange.
const LAST_RELEASE: Duration = Duration::from_secs(5);
/// Bytes put together before they are printed.
const OUT_BYTES: usize = 64 * 1024;
/// Packet identifiers of the two requests.
const SUBSCRIBE: PacketId = NonZeroU16::MIN;
const UNSUBSCRIBE: PacketId = NonZeroU16::MIN.saturating_add(1);

/// What to subscribe to and what to print.
#[derive(Debug)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// Filters.
    pub filters: Vec<String>,
    /// Filters to unsubscribe from after that.
    pub unsubscribe: Vec<String>,
    /// Topics that fit one of these are not printed.
    pub filter_out: Vec<String>,
    /// Greatest quality of service wanted.
    pub qos: QoS,
    /// MQTT 5: retained flags as published.
    pub retain_as_published: bool,
    /// What is printed of a message.
    pub format: Format,
    /// JSON over several lines.
    pub pretty: bool,
    /// No line end after a message.
    pub no_newline: bool,
    /// End after so many messages.
    pub count: Option<u64>,
    /// End after so long.
    pub within: Option<Duration>,
    /// Retained messages are not printed.
    pub no_retained: bool,
    /// Only retained messages are printed; the first other one ends it.
    pub retained_only: bool,
    /// Retained messages that come are removed at the broker.
    pub remove_retained: bool,
    /// End when the subscriptions are acknowledged.
    pub exit_after_suback: bool,
    /// No complaints.
    pub quiet: bool,
}

/// Runs it.
pub fn run(plan: Plan) -> anyhow::Result<u8> {
    super::run(plan.quiet, |stop| subscribe(plan, stop))
}

async fn subscribe(plan: Plan, mut stop: Stop) -> Result<u8, Failure> {
    for filter in plan
        .filters
        .iter()
        .chain(&plan.unsubscribe)
        .chain(&plan.filter_out)
    {
        let wrong = |_| {
            Failure::Usage(format!(
                "Invalid subscription topic '{filter}', are all '+' and '#' wildcards correct?"
            ))
        };
        topic::check_filter(filter).map_err(wrong)?;
    }
    let mut subscriber = Subscriber::new(&plan);
    loop {
        let failure = match subscriber.connection(&mut stop).await {
            Ok(code) => return Ok(code),
            Err(failure) if subscriber.connected && may_pass(&failure) => failure,
            Err(failure) => return Err(failure),
        };
        complain(plan.quiet, &format!("{failure} Connecting again."));
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = at(subscriber.deadline) => return Err(Failure::Timeout(None)),
            _ = stop.changed() => return Ok(exit::OK),
        }
    }
}

/// Whether to connect again is of use.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Lost | Failure::Unreachable(_) | Failure::Timeout(Some(_)) => true,
        Failure::Ended(reason, _) | Failure::Refused(_, reason, _) => matches!(
            reason,
            Reason::ServerShuttingDown
                | Reason::ServerBusy
                | Reason::ServerUnavailable
                | Reason::KeepAliveTimeout
        ),
        _ => false,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

struct Subscriber<'a> {
    plan: &'a Plan,
    /// There was a connection.
    connected: bool,
    /// When to end, from the first connection on.
    deadline: Option<Instant>,
    printed: u64,
    /// All messages that were asked for are printed: until when to wait for what is left of them.
    finishing: Option<Instant>,
    /// QoS 2 publishes that are printed and not released yet.
    taken: HashSet<PacketId>,
    aliases: HashMap<u16, String>,
    out: Vec<u8>,
}

impl<'a> Subscriber<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            connected: false,
            deadline: None,
            printed: 0,
            finishing: None,
            taken: HashSet::new(),
            aliases: HashMap::new(),
            out: Vec::new(),
        }
    }

    /// One connection from its begin to its end; gives the exit code.
    async fn connection(&mut self, stop: &mut Stop) -> Result<u8, Failure> {
        let (mut link, granted) = tokio::select! {
            connected = Link::connect(&self.plan.target) => connected?,
            () = at(self.deadline) => return Err(Failure::Timeout(None)),
            _ = stop.changed() => return Ok(exit::OK),
        };
        self.connected = true;
        self.deadline = self.deadline.or_else(|| Some(Instant::now() + self.plan.within?));
        self.aliases.clear();
        if !granted.session_present {
            self.taken.clear();
        }
        self.ask(&mut link)?;
        let ended = self.receive(&mut link, stop).await;
        if !matches!(ended, Err(Failure::Lost)) {
            link.disconnect(&self.plan.target.properties.disconnect).await;
        }
        ended
    }

    async fn receive(&mut self, link: &mut Link, stop: &mut Stop) -> Result<u8, Failure> {
        loop {
            let mut frame = tokio::select! {
                frame = link.frame() => Some(frame?),
                () = at(self.deadline) => return Err(Failure::Timeout(None)),
                () = at(self.finishing) => return Ok(exit::OK),
                _ = stop.changed() => return Ok(exit::OK),
            };
            let mut done = None;
            while let Some(bytes) = frame.filter(|_| done.is_none()) {
                done = self.take(link, &bytes)?;
                frame = if self.out.len() < OUT_BYTES {
                    link.frame_here()?
                } else {
                    None
                };
            }
            // What is acknowledged has been printed.
            if !self.print()? {
                return Ok(exit::OK);
            }
            link.flush().await?;
            if let Some(code) = done {
                return Ok(code);
            }
        }
    }

    fn ask(&self, link: &mut Link) -> Result<(), Failure> {
        let plan = self.plan;
        if !plan.filters.is_empty() {
            let one = |filter: &'a String| Subscription {
                filter,
                qos: plan.qos,
                no_local: false,
                retain_as_published: plan.retain_as_published,
                retain_handling: RetainHandling::Send,
            };
            link.push(&Packet::Subscribe(Subscribe {
                packet_id: SUBSCRIBE,
                filters: plan.filters.iter().map(one).collect(),
                properties: plan.target.properties.subscribe.as_properties(),
            }))?;
        }
        if !plan.unsubscribe.is_empty() {
            link.push(&Packet::Unsubscribe(Unsubscribe {
                packet_id: UNSUBSCRIBE,
                filters: plan.unsubscribe.iter().map(String::as_str).collect(),
                properties: plan.target.properties.unsubscribe.as_properties(),
            }))?;
        }
        Ok(())
    }

    /// Writes what was put together to standard output; `false` when nobody reads it any more.
    fn print(&mut self) -> Result<bool, Failure> {
        let mut to = std::io::stdout().lock();
        let written = to.write_all(&self.out).and_then(|()| to.flush());
        self.out.clear();
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::Output(error)),
        }
    }

    /// Takes one packet; gives the exit code when it was the last.
    fn take(&mut self, link: &mut Link, frame: &[u8]) -> Result<Option<u8>, Failure> {
        match link.decode(frame)? {
            Packet::Publish(publish) => return self.publish(link, &publish),
            Packet::Pubrel(ack) => {
                self.taken.remove(&ack.packet_id);
                link.push(&Packet::Pubcomp(answer(ack.packet_id)))?;
            }
            Packet::Suback(suback) if suback.packet_id == SUBSCRIBE => return Ok(self.suback(&suback)),
            Packet::Disconnect(end) => {
                let detail = end.properties.reason_string().unwrap_or_default();
                return Err(Failure::Ended(end.reason, detail.to_owned()));
            }
            _ => {}
        }
        Ok((self.finishing.is_some() && self.taken.is_empty()).then_some(exit::OK))
    }

    fn suback(&self, suback: &Suback<'_>) -> Option<u8> {
        let denied = suback.reasons.iter().filter(|reason| reason.is_error()).count();
        if denied == suback.reasons.len() {
            complain(self.plan.quiet, "All subscription requests were denied.");
        }
        let detail = suback.properties.reason_string().unwrap_or_default();
        for (filter, reason) in self.plan.filters.iter().zip(&suback.reasons) {
            if reason.is_error() {
                let why = with_text(text(*reason), detail);
                complain(
                    self.plan.quiet,
                    &format!("Warning: subscription to '{filter}' denied: {why}."),
                );
            }
        }
        if denied == suback.reasons.len() {
            return Some(exit::FAILED);
        }
        self.plan.exit_after_suback.then_some(exit::OK)
    }

    fn publish(&mut self, link: &mut Link, publish: &Publish<'_>) -> Result<Option<u8>, Failure> {
        if self.finishing.is_some() {
            // Not acknowledged: a session that is kept has it for the next time.
            return Ok(None);
        }
        let topic = self.topic_of(publish)?;
        let again = match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(id)) => !self.taken.insert(id),
            _ => false,
        };
        if !again {
            if self.plan.retained_only && !publish.retain {
                return Ok(Some(exit::OK));
            }
            self.show(link, &topic, publish)?;
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => link.push(&Packet::Puback(answer(id)))?,
            (QoS::ExactlyOnce, Some(id)) => link.push(&Packet::Pubrec(answer(id)))?,
            _ => {}
        }
        if self.plan.count.is_some_and(|count| self.printed >= count) {
            self.finishing = Some(Instant::now() + LAST_RELEASE);
            return Ok(self.taken.is_empty().then_some(exit::OK));
        }
        Ok(None)
    }

    /// The topic, by its alias where the broker used one.
    fn topic_of(&mut self, publish: &Publish<'_>) -> Result<String, Failure> {
        let Some(alias) = publish.properties.topic_alias() else {
            return Ok(publish.topic.to_owned());
        };
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.to_owned());
        }
        let unknown = || Failure::Protocol(format!("topic alias {alias} stands for nothing"));
        self.aliases.get(&alias).cloned().ok_or_else(unknown)
    }

    /// Prints a message, if it is one to print.
    fn show(&mut self, link: &mut Link, topic: &str, publish: &Publish<'_>) -> Result<(), Failure> {
        let plan = self.plan;
        if plan.filter_out.iter().any(|filter| topic::matches(filter, topic)) {
            return Ok(());
        }
        if plan.remove_retained && publish.retain && !publish.payload.is_empty() {
            link.push(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic,
                packet_id: None,
                payload: b"",
                properties: Properties::EMPTY,
            }))?;
        }
        if plan.no_retained && publish.retain {
            return Ok(());
        }
        let message = Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id.map_or(0, u16::from),
            properties: publish.properties,
        };
        self.printed += 1;
        match plan
            .format
            .print(&message, plan.pretty, Moment::now(), &mut self.out)
        {
            Ok(()) if !plan.no_newline => self.out.push(b'\n'),
            Ok(()) => {}
            Err(line) => complain(plan.quiet, &line),
        }
        Ok(())
    }
}

fn answer(packet_id: PacketId) -> Ack<'static> {
    Ack {
        packet_id,
        reason: Reason::Success,
        properties: Properties::EMPTY,
    }
}
