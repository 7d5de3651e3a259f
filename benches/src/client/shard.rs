//! One thread's devices on one epoll: connects them, keeps them to the schedule, writes and reads.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use forebay_broker::codec::QoS;
use rustix::event::{Timespec, epoll};

use super::device::{Device, Shared};
use super::link::Link;
use super::net;
use super::run::{Outcome, Run};
use super::schedule::Schedule;
use super::stats::{Live, Stats};
use super::wire;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Output that all connections of a thread together may hold before their publishes wait.
const OUTPUT_BYTES: usize = 64 << 20;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Events after which the clock is read again.
const EVENTS_A_LOOK: usize = 16;
/// How often all connections are looked at for deadlines.
const SWEEP_NS: u64 = 500_000_000;
/// A lost connection is made again after this time.
const RECONNECT_NS: u64 = 1_000_000_000;

/// See the module.
pub struct Shard<'a> {
    run: &'a Run,
    shared: Shared<'a>,
    links: Vec<Link>,
    epoll: OwnedFd,
    /// Who is to be connected, and not before when.
    to_connect: VecDeque<(u64, usize)>,
    next_connect_ns: u64,
    /// Who had more to send than one output holds.
    busy: VecDeque<usize>,
    events: Vec<epoll::Event>,
    read: Vec<u8>,
    out: Vec<u8>,
    due: u64,
    swept_ns: u64,
    start_ns: u64,
}

impl<'a> Shard<'a> {
    /// The devices `number`, `number + threads`, ... of a run.
    pub fn new(run: &'a Run, number: u32) -> Result<Self> {
        let plan = &run.plan;
        let mut links = Vec::new();
        for index in (number..plan.connections).step_by(run.threads as usize) {
            links.push(Link::new(Device::new(plan, index, links.len() as u64)));
        }
        let share = links.len() as f64 / f64::from(plan.connections.max(1));
        let shared = Shared {
            plan,
            schedule: Schedule::new(run.rate * share, links.len() as u64),
            stats: Stats::new()?,
            payload: Vec::new(),
            output_bytes: (OUTPUT_BYTES / links.len().max(1)).clamp(1024, READ_BYTES),
        };
        Ok(Self {
            run,
            shared,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?,
            to_connect: (0..links.len()).map(|at| (0, at)).collect(),
            links,
            next_connect_ns: 0,
            busy: VecDeque::new(),
            events: Vec::with_capacity(EVENTS),
            read: vec![0; READ_BYTES],
            out: Vec::with_capacity(READ_BYTES),
            due: 0,
            swept_ns: 0,
            start_ns: 0,
        })
    }

    /// Does the run: connect, publish until the end, wait for what is on the way, leave.
    pub fn work(mut self) -> Result<Outcome> {
        let all = u64::from(self.run.plan.connections);
        while Live::get(&self.run.live.settled) < all {
            self.turn(None)?;
        }
        let origin = self.run.origin;
        let start = *self.run.start.get_or_init(Instant::now);
        self.start_ns = nanos(start.saturating_duration_since(origin));
        let end_ns = self.start_ns + nanos(self.run.duration);
        while self.now() < end_ns && !self.is_through() {
            self.turn(Some(end_ns))?;
        }
        // What fell due since the last turn belongs to the run.
        if self.run.plan.publish && !self.shared.schedule.is_flat_out() && self.now() >= end_ns {
            self.publish_due(end_ns.saturating_sub(1));
        }
        let published_for = Duration::from_nanos(self.now().min(end_ns).saturating_sub(self.start_ns));
        // What was due until the end and is held back is not sent any more.
        self.due = 0;
        self.busy.clear();
        let drain_ns = self.now() + nanos(self.run.drain);
        while self.now() < drain_ns
            && !self
                .links
                .iter()
                .all(|link| link.is_flushed() && link.device.is_settled())
        {
            self.turn(None)?;
        }
        self.count_unfelt(end_ns);
        Live::add(&self.run.live.drained, 1);
        while !self.run.live.leave.load(Ordering::Relaxed) {
            self.turn(None)?;
        }
        self.leave(drain_ns.max(self.now() + SWEEP_NS))?;
        let devices = self.links.into_iter().map(|link| link.device).collect();
        Ok(Outcome {
            stats: self.shared.stats,
            devices,
            published_for,
        })
    }

    /// What fell due and was never acknowledged has waited at least until now: left out, a broker that stops would look fast.
    fn count_unfelt(&mut self, end_ns: u64) {
        if !self.run.plan.publish || self.run.plan.qos == QoS::AtMostOnce {
            return;
        }
        let (now, end) = (self.now(), end_ns.saturating_sub(self.start_ns));
        let (schedule, start) = (self.shared.schedule, self.start_ns);
        let all = schedule.due_of_all(end.saturating_sub(1));
        for link in self.links.iter().filter(|_| !schedule.is_flat_out()) {
            let unfelt = link.device.unfelt(&schedule, all, self.run.plan.count);
            for due in unfelt {
                let waited = now.saturating_sub(due + start) / 1000;
                self.shared.stats.from_due_us.saturating_record(waited);
            }
        }
    }

    fn now(&self) -> u64 {
        nanos(self.run.origin.elapsed())
    }

    fn is_through(&self) -> bool {
        let plan = &self.run.plan;
        plan.count < u64::MAX
            && self
                .links
                .iter()
                .all(|link| link.device.published() >= plan.count && link.device.is_settled())
    }

    /// One round: what is due, what the kernel reports, what has waited too long. Publishes go out until `end_ns`.
    fn turn(&mut self, end_ns: Option<u64>) -> Result<()> {
        let now = self.now();
        self.connect_some(now);
        if end_ns.is_some() && self.run.plan.publish {
            self.publish_due(now);
        }
        if now - self.swept_ns >= SWEEP_NS {
            self.swept_ns = now;
            self.sweep(now);
        }
        let wait = self.wait_ns(now, end_ns);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait).unwrap_or(0),
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        let mut now = self.now();
        let mut events = std::mem::take(&mut self.events);
        for (count, event) in events.drain(..).enumerate() {
            if count % EVENTS_A_LOOK == EVENTS_A_LOOK - 1 {
                now = self.now();
            }
            let at = event.data.u64() as usize;
            if let Err(error) = self.ready(now, at, event.flags) {
                self.fail(now, at, &error);
            } else if self.due > 0 {
                self.pump(now, at);
            }
        }
        self.events = events;
        Ok(())
    }

    /// How long the kernel may wait for events, below a second.
    fn wait_ns(&self, now: u64, end_ns: Option<u64>) -> u64 {
        if !self.busy.is_empty() {
            return 0;
        }
        let mut until = now + 100_000_000;
        if let Some(&(when, _)) = self.to_connect.front() {
            until = until.min(when.max(self.next_connect_ns));
        }
        if let Some(end_ns) = end_ns {
            until = until.min(end_ns);
            if self.run.plan.publish
                && let Some(next) = self.shared.schedule.next_due(self.due)
            {
                until = until.min(next + self.start_ns);
            }
        } else if self.to_connect.is_empty() {
            until = until.min(now + 10_000_000);
        }
        until.saturating_sub(now)
    }

    /// Begins the connections that the connect rate allows by now.
    fn connect_some(&mut self, now: u64) {
        while let Some(&(when, at)) = self.to_connect.front()
            && when.max(self.next_connect_ns) <= now
        {
            self.to_connect.pop_front();
            let gap = self.run.connect_gap_ns();
            // A late turn makes up for at most a tenth of a second.
            self.next_connect_ns = self.next_connect_ns.max(now.saturating_sub(100_000_000)) + gap;
            if let Err(error) = self.begin(now, at) {
                self.fail(now, at, &error);
            }
        }
    }

    fn begin(&mut self, now: u64, at: usize) -> Result<()> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        let source = net::source(&self.run.sources, self.run.broker, at as u32 * self.run.threads);
        link.open(now, &self.epoll, at, self.run.broker, source)
    }

    /// Lets each device send for which something has fallen due, and those that had more to send.
    fn publish_due(&mut self, now: u64) {
        let all = self.shared.schedule.due_of_all(now.saturating_sub(self.start_ns));
        let devices = self.links.len() as u64;
        let fallen = all.saturating_sub(self.due).min(devices);
        let first = if self.shared.schedule.is_flat_out() {
            0
        } else {
            self.due
        };
        self.due = all;
        for turn in 0..fallen {
            self.pump(now, (first.wrapping_add(turn) % devices) as usize);
        }
        for _ in 0..self.busy.len() {
            if let Some(at) = self.busy.pop_front() {
                self.pump(now, at);
            }
        }
    }

    /// Lets one device send what is due, unless its socket is full.
    fn pump(&mut self, now: u64, at: usize) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if !link.is_flushed() || !link.device.is_up() {
            return;
        }
        let before = (self.shared.stats.published, self.shared.stats.acked);
        self.out.clear();
        let more = link.device.fill(now, self.due, &mut self.shared, &mut self.out);
        let sent = more.and_then(|more| link.send(now, &self.out).map(|()| more));
        let again = link.is_flushed();
        self.tell(before);
        match sent {
            Ok(more) if more && again => self.busy.push_back(at),
            Ok(_) => {}
            Err(error) => self.fail(now, at, &error),
        }
    }

    /// Passes on to the progress line what was counted since `before`.
    fn tell(&self, before: (u64, u64)) {
        Live::add(&self.run.live.published, self.shared.stats.published - before.0);
        Live::add(&self.run.live.acked, self.shared.stats.acked - before.1);
    }

    /// The kernel reports something about a socket.
    fn ready(&mut self, now: u64, at: usize, flags: epoll::EventFlags) -> Result<()> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        let before = (self.shared.stats.published, self.shared.stats.acked);
        let was_up = link.device.is_up();
        self.out.clear();
        let shared = &mut self.shared;
        let result = link.ready(now, self.start_ns, flags, &mut self.read, shared, &mut self.out);
        if !was_up && link.device.is_up() {
            let took_us = now.saturating_sub(link.begun_ns) / 1000;
            shared.stats.connects += 1;
            shared.stats.connect_us.saturating_record(took_us);
            Live::add(&self.run.live.up, 1);
            if !std::mem::replace(&mut link.settled, true) {
                Live::add(&self.run.live.settled, 1);
            }
        }
        let result = result.and_then(|()| link.send(now, &self.out));
        self.tell(before);
        result
    }

    /// A connection is of no use any more, or could not be made.
    fn fail(&mut self, now: u64, at: usize, error: &anyhow::Error) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        link.close();
        if link.device.is_up() {
            self.shared.stats.disconnects += 1;
            self.run.live.up.fetch_sub(1, Ordering::Relaxed);
            link.device.lost(&self.run.plan);
        } else {
            self.shared.stats.connect_failures += 1;
        }
        self.shared.stats.last_failure = Some(format!("{}: {error:#}", link.device.id()));
        if self.run.plan.reconnect && self.to_connect.len() < self.links.len() {
            self.to_connect.push_back((now + RECONNECT_NS, at));
        }
        self.settle_failed(now, at);
    }

    /// Without reconnects the first failure settles a device; with them, the connect deadline does.
    fn settle_failed(&mut self, now: u64, at: usize) {
        let waits = self.run.plan.reconnect && now < nanos(self.run.connect_deadline);
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if !waits && !std::mem::replace(&mut link.settled, true) {
            Live::add(&self.run.live.settled, 1);
        }
    }

    /// Handshakes that take too long, and pings.
    fn sweep(&mut self, now: u64) {
        let keep_alive_ns = u64::from(self.run.plan.keep_alive_s) * 500_000_000;
        let deadline = nanos(self.run.connect_deadline);
        let handshake = nanos(self.run.handshake);
        for at in 0..self.links.len() {
            let Some(link) = self.links.get_mut(at) else { break };
            if !link.is_open() {
                if now >= deadline {
                    self.settle_failed(now, at);
                }
            } else if !link.device.is_up() {
                if now.saturating_sub(link.begun_ns) > handshake {
                    self.fail(now, at, &anyhow::anyhow!("no CONNACK in time"));
                }
            } else if keep_alive_ns > 0 && now.saturating_sub(link.wrote_ns) >= keep_alive_ns {
                self.out.clear();
                let ping = wire::ping(&self.run.plan, &mut self.out);
                if let Err(error) = ping.and_then(|()| link.send(now, &self.out)) {
                    self.fail(now, at, &error);
                }
            }
        }
    }

    /// DISCONNECT on all, then waits for each until the broker has read all and closed, or the deadline.
    fn leave(&mut self, deadline_ns: u64) -> Result<()> {
        let now = self.now();
        self.out.clear();
        wire::disconnect(&self.run.plan, &mut self.out)?;
        for link in &mut self.links {
            if !link.is_flushed() {
                link.device.lost(&self.run.plan);
            } else if link.device.is_up() {
                // A connection that fails now has nothing more to lose.
                let _ = link.send(now, &self.out);
            }
        }
        let origin = self.run.origin;
        for link in &mut self.links {
            let left = deadline_ns.saturating_sub(nanos(origin.elapsed()));
            link.leave(Duration::from_nanos(left), &mut self.read)?;
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
