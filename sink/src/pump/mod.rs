//! The pump: log -> route -> window -> producer, and back: reports to the workers, commit to the log. One thread.
//!
//! A record of the log becomes one [`Delivery`] for each route that takes it. A delivery stands in the [`Lane`] of its
//! partition until Kafka has it; until then it points into the log's chunk, which the [`Ledger`] keeps. A topic that
//! can't take records *parks*: its deliveries get copies of their own, so that reading goes on without them. When its
//! share of the memory is full it falls *behind*: its records stay in the log until it takes some again.

mod behind;
mod cursor;
mod feed;
mod gather;
mod park;
mod recover;
mod refuse;
mod settle;
mod standing;
mod state;
mod told;
mod topic;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use forebay_broker::bus::{Report, Reports};
use forebay_broker::spool::{LogError, LogReader};

use crate::config::SinkConfig;
use crate::metrics::Metrics;
use crate::producer::topics::Topics;
use crate::producer::{Events, Producer, Producers};
use crate::quarantine::{Letter, Quarantine};
use crate::route::{Rendered, Routes};
use crate::status::{Shared, SinkStatus};
use crate::window::{Lane, Ledger};
use behind::Scan;
use cursor::Cursor;
use gather::Gather;
use refuse::Refusal;
use topic::{State, Table, Via};

/// Bits of a report's opaque that are the ticket; those above are the lane.
const TICKET_BITS: u32 = 40;
/// Time between two looks at timers, topics and gauges.
const TICK: Duration = Duration::from_millis(100);
/// Chunks that are read before the producer's reports are looked at again.
const READS_A_TURN: usize = 4;
/// Time between two looks at the reports of what nobody waits for.
const UNHURRIED: Duration = Duration::from_millis(5);
/// Time within which Kafka has a batch, most often. In a longer rest the reports are looked at that often while some
/// are due: what they free is then still in the processor's caches.
const REPORTED: Duration = Duration::from_millis(10);
/// Records on their way up to which none lingers that a publisher waits for; more of them make good batches.
const FEW: usize = 32;
/// What the producer takes at most to send them.
const HASTE: Duration = Duration::from_millis(1);
/// Longest sleep of an idle turn.
const IDLE: Duration = Duration::from_millis(50);
/// Time without any report after which a stop leaves the rest to the next start.
const QUIET: Duration = Duration::from_secs(2);
/// Time for which trouble with the brokers lasts until it is told.
const TROUBLE: Duration = Duration::from_secs(2);
/// Records that are on their way at most while Kafka is silent.
const AHEAD_OF_SILENCE: usize = 32_768;
/// Idle time after which a partition is primed anew: brokers forget producers (a day by default).
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Where the bytes of a record are.
#[derive(Debug)]
enum Source {
    /// In a chunk of the ledger, at an offset.
    Chunk { slot: u32, offset: u32 },
    /// Copied out, for a topic that parks.
    Own { bytes: Box<[u8]>, topic: usize },
    /// From a file of the quarantine, for the dead letter topic.
    Letter { letter: Arc<Letter>, file: u64 },
}

/// One record on its way by one route.
#[derive(Debug)]
struct Delivery {
    source: Source,
    sequence: u64,
    arrival_ms: u64,
    /// Number of the chunk and index in it, for the report.
    number: u64,
    index: u32,
    bytes: u32,
    worker: u16,
    route: u16,
    /// Which of the pump's epochs the sequence belongs to.
    epoch: u16,
    /// The publisher's worker is told of it, and whether the publisher waits for that.
    reported: bool,
    awaited: bool,
    /// Several routes took the record.
    several: bool,
    /// Our timestamp was refused.
    untimed: bool,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane<Delivery>,
    topic: usize,
    partition: i32,
    /// When something of it was last sent or reported.
    moved: Instant,
    /// Whether it is in the list of lanes to look at.
    listed: bool,
}

/// A producer and its failures.
struct Link {
    producer: Option<Box<dyn Producer>>,
    events: Events,
    /// When the next producer may be made.
    create_at: Instant,
    failures: u32,
    in_flight: usize,
    /// Its queue was full: nothing more until the next poll.
    full: bool,
    /// A record was sent that a publisher waits for, and not yet hastened.
    hasty: bool,
    /// Why it can't be made or went.
    trouble: Option<String>,
    trouble_since: Instant,
    last_report: Instant,
}

impl Link {
    fn new(now: Instant) -> Self {
        Self {
            producer: None,
            events: Events::default(),
            create_at: now,
            failures: 0,
            in_flight: 0,
            full: false,
            hasty: false,
            trouble: None,
            trouble_since: now,
            last_report: now,
        }
    }

    fn troubled(&mut self, why: String, now: Instant) {
        if self.trouble.replace(why).is_none() {
            self.trouble_since = now;
        }
    }

    fn well(&mut self) {
        self.trouble = None;
    }
}

/// A record that several routes took.
#[derive(Debug)]
struct Several {
    left: usize,
    refused: bool,
}

/// The parts that a pump is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<SinkConfig>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) node_id: String,
    /// Epoch of this run: publishers of earlier ones wait for no report.
    pub(crate) epoch: u64,
    pub(crate) reader: Box<dyn LogReader>,
    pub(crate) reports: Reports,
    /// Where the sequence goes below which all is done.
    pub(crate) delivered: Option<Arc<AtomicU64>>,
    /// Says where the log ends.
    pub(crate) end: Option<Box<dyn Fn() -> u64 + Send>>,
    /// Whether the log outlives the process.
    pub(crate) durable: bool,
    pub(crate) topics: Box<dyn Topics>,
    pub(crate) producers: Box<dyn Producers>,
    pub(crate) shared: Arc<Shared>,
}

/// The pump.
pub(crate) struct Pump {
    parts: Parts,
    metrics: Metrics,
    now: Instant,
    tick_at: Instant,
    cursor: Cursor,
    ledger: Ledger,
    /// Epochs of records on their way, with the beginning of their positions.
    epochs: Vec<(u64, Vec<u8>)>,
    table: Table,
    lanes: Vec<LaneState>,
    /// Lanes that may have something to send.
    listed: Vec<usize>,
    main: Link,
    side: Link,
    /// When Kafka last had anything to say, and since when it has without a long pause.
    heard: Instant,
    answers_since: Instant,
    several: HashMap<u64, Several, ahash::RandomState>,
    outbox: Vec<Vec<Report>>,
    rendered: Rendered,
    /// Deliveries that are not done, and those of them whose publishers wait.
    open: usize,
    awaited: usize,
    parked: usize,
    parked_bytes: usize,
    /// All of the log below was read.
    read_to: u64,
    /// Where the log ended at the last look.
    end_seen: u64,
    /// Topics that fell behind, and the second look at the log that brings what they have missed.
    behind: usize,
    scan: Option<Scan>,
    /// Records are being placed anew.
    placing: bool,
    refusal: Refusal,
    quarantine: Quarantine,
    log_closed: bool,
    /// Whether the producer compresses: then a record's own size says little.
    compresses: bool,
    refresh_at: Instant,
    /// Longest wait for the log when nothing else is to be done.
    idle: Duration,
    refused: RefusedLog,
    gather: Gather,
}

/// Keeps the log readable when many records are refused.
#[derive(Debug, Default)]
struct RefusedLog {
    logged: Option<Instant>,
    since: u64,
}

/// What a turn found.
enum Turn {
    GoOn,
    Finished,
}

impl Pump {
    pub(crate) fn new(parts: Parts) -> Result<Self, String> {
        let now = Instant::now();
        let config = &parts.config;
        let quarantine = Quarantine::open(
            config.quarantine_dir.as_deref(),
            config.quarantine_max_bytes,
            config.dead_letter_topic.is_some(),
        );
        let quarantine = quarantine.map_err(|error| {
            let folder = config.quarantine_dir.as_deref().unwrap_or(Path::new(""));
            format!(
                "the quarantine {} can't be opened: {error}: look at the disk of node.data_dir and at the folder's owner",
                folder.display()
            )
        })?;
        let table = Table::new(&parts.routes);
        let cursor = Cursor::new(parts.reader.begin(), now);
        let mut pump = Self {
            metrics: Metrics::new(),
            now,
            tick_at: now,
            read_to: cursor.done,
            end_seen: cursor.done,
            cursor,
            ledger: Ledger::default(),
            epochs: Vec::new(),
            table,
            lanes: Vec::new(),
            listed: Vec::new(),
            main: Link::new(now),
            side: Link::new(now),
            heard: now,
            answers_since: now,
            several: HashMap::default(),
            outbox: Vec::new(),
            rendered: Rendered::default(),
            open: 0,
            awaited: 0,
            parked: 0,
            parked_bytes: 0,
            behind: 0,
            scan: None,
            placing: false,
            refusal: Refusal::default(),
            quarantine,
            log_closed: false,
            compresses: parts.config.compresses(),
            idle: IDLE,
            refresh_at: now + parts.config.topic_refresh,
            refused: RefusedLog::default(),
            gather: Gather::new(parts.config.gather, now),
            parts,
        };
        pump.preload_dead_letters();
        pump.restore();
        Ok(pump)
    }

    /// Runs until the log is closed and delivered, or a stop was asked for; returns the records that Kafka does not
    /// have.
    pub(crate) fn run(mut self) -> Result<usize, String> {
        while let Turn::GoOn = self.turn()? {}
        self.finish()?;
        Ok(self.open)
    }

    /// Leaves everything behind as it stands.
    fn finish(&mut self) -> Result<(), String> {
        // What waits for a topic that takes nothing is no reason to send again what stands behind it.
        for at in 0..self.table.len() {
            if self
                .table
                .get(at)
                .is_some_and(|topic| topic.state != State::Ready)
            {
                self.park(at);
            }
        }
        self.finish_turn()?;
        self.commit()?;
        self.save(true);
        self.parts.shared.set_unsaved(self.cursor.unsaved.clone());
        Ok(())
    }

    fn turn(&mut self) -> Result<Turn, String> {
        self.now = Instant::now();
        if self.now >= self.tick_at {
            self.tick_at = self.now + TICK;
            self.tick()?;
        }
        let caught = self.catch_up()?;
        let pause = if caught { Duration::ZERO } else { self.pause() };
        let may_read = self.may_read();
        let gathers = may_read && !pause.is_zero() && self.rest();
        // Where records can be taken the wait is for them: a new chunk ends it. What gathers is there, and read later.
        let read = gathers || self.read(if may_read { pause } else { Duration::ZERO })?;
        self.hasten();
        self.settle(if may_read { Duration::ZERO } else { pause })?;
        self.send_listed();
        self.finish_turn()?;
        Ok(self.finished(read))
    }

    /// How long a turn in which nothing happens takes.
    fn pause(&self) -> Duration {
        let busy = self.main.in_flight + self.side.in_flight > 0;
        match busy {
            _ if self.main.hasty || (self.gather.is_reading() && self.may_read()) => Duration::ZERO,
            true if self.is_unhurried() && self.may_read() => UNHURRIED,
            true if self.now - self.main.last_report <= Duration::from_secs(1) => Duration::from_millis(1),
            // While Kafka is silent there is no hurry.
            true => Duration::from_millis(10),
            // With nothing on its way, only the log or a timer can bring something to do.
            false if self.listed.is_empty() => self.idle,
            false => Duration::from_millis(10),
        }
    }

    /// Whether nobody waits for a report: no publisher, and no record for that of the one before it.
    fn is_unhurried(&self) -> bool {
        let on_their_way = self.main.in_flight + self.side.in_flight;
        let flowing = self.open - self.parked; // what is parked waits for its topic
        self.awaited == 0 && flowing + self.letters_open() == on_their_way && self.listed.is_empty()
    }

    /// Lets the log gather, where nobody waits; true where it is to gather on after a look at the reports.
    fn rest(&mut self) -> bool {
        let rest = self.gather.rest(self.now);
        if rest.is_zero() || !self.is_unhurried() || self.parts.shared.stop_at().is_some() {
            return false;
        }
        let busy = self.main.in_flight + self.side.in_flight > 0;
        let look = if busy { rest.min(REPORTED) } else { rest };
        let until = self.now + look;
        self.parts.reader.rest(look);
        self.now = Instant::now();
        // What can't wait ends it sooner.
        let gathers = look < rest && self.now >= until;
        if !gathers {
            self.gather.rested(self.now);
        }
        gathers
    }

    /// Reads some chunks, waiting up to `wait` for the first; false when there was none.
    fn read(&mut self, mut wait: Duration) -> Result<bool, String> {
        let mut any = false;
        for _ in 0..READS_A_TURN {
            if !self.may_read() {
                break;
            }
            match self.parts.reader.read(wait) {
                Ok(Some(entry)) => {
                    self.now = Instant::now(); // it may have been waited for
                    self.gather.took(entry.chunk.as_bytes().len(), self.now);
                    self.take(entry)?;
                }
                Ok(None) => {
                    self.gather.reached_end();
                    self.pass_damaged_end();
                    break;
                }
                Err(LogError::Closed) => {
                    self.log_closed = true;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
            wait = Duration::ZERO;
            any = true;
        }
        Ok(any)
    }

    /// The reader stands at the log's end: what it has not brought of what was there is damaged. Without this nothing
    /// would count as done behind the last good chunk, until another one comes.
    fn pass_damaged_end(&mut self) {
        self.read_to = self.read_to.max(self.end_seen);
        if self.ledger.is_empty() {
            self.cursor.done = self.cursor.done.max(self.end_seen);
        }
    }

    /// Whether there is room for another chunk. While Kafka is silent little is read ahead: it stands in the log, and
    /// there it takes no memory.
    fn may_read(&self) -> bool {
        let silent = self.is_silent();
        let config = &self.parts.config;
        let most = config.window_records;
        // What was on its way to topics that then parked may take more than they may: so much less is read.
        let over = self.parked_bytes.saturating_sub(config.parked_bytes);
        let window = config
            .window_bytes
            .saturating_sub(over)
            .max(config.window_bytes / 8);
        !self.log_closed
            && self.ledger.bytes() < window
            && self.open - self.parked < if silent { most.min(AHEAD_OF_SILENCE) } else { most }
    }

    /// Whether nothing of what is on its way is acknowledged.
    fn is_silent(&self) -> bool {
        self.main.in_flight > 0 && self.now - self.main.last_report > TROUBLE
    }

    /// Kafka has said something.
    fn hear(&mut self) {
        if self.now - self.heard > self.parts.config.stuck_after {
            self.answers_since = self.now;
        }
        self.heard = self.now;
    }

    fn finished(&self, read: bool) -> Turn {
        let stop = self.parts.shared.stop_at();
        let letters = self.parts.config.quarantine_dir.is_some() || self.letters_open() == 0;
        let done =
            self.open == 0 && self.behind == 0 && letters && (self.log_closed || (stop.is_some() && !read));
        let late = stop.is_some_and(|at| self.now >= at);
        let quiet = self.now - self.main.last_report > QUIET;
        let left = self.parts.durable && stop.is_some() && !read && quiet;
        if done || late || left {
            Turn::Finished
        } else {
            Turn::GoOn
        }
    }

    /// Timers, questions, answers, gauges and the status.
    fn tick(&mut self) -> Result<(), String> {
        self.answers()?;
        self.ask();
        self.create(Via::Main);
        self.create(Via::Side);
        self.find_stalled();
        self.commit()?;
        self.save(false);
        self.gauges();
        let reason = self.not_ready();
        self.metrics.ready.set(if reason.is_some() { 0.0 } else { 1.0 });
        self.parts.shared.set(SinkStatus {
            ready: reason.is_none(),
            reason: reason.unwrap_or_default(),
            in_flight: self.main.in_flight + self.side.in_flight,
            open: self.open,
            parked: self.parked,
            unsaved: self.cursor.unsaved.clone(),
        });
        Ok(())
    }

    fn link(&mut self, via: Via) -> &mut Link {
        match via {
            Via::Main => &mut self.main,
            Via::Side => &mut self.side,
        }
    }

    /// Makes the producer if it is wanted, gone, and its back-off is over.
    fn create(&mut self, via: Via) {
        let wanted = via == Via::Main || self.table.iter().any(|topic| topic.via == Via::Side);
        let now = self.now;
        let link = self.link(via);
        if !wanted {
            if link.in_flight == 0 {
                link.producer = None;
            }
            return;
        }
        if link.producer.is_some() || now < link.create_at {
            return;
        }
        let made = self.parts.producers.create(via == Via::Side);
        let link = self.link(via);
        match made {
            Ok(producer) => {
                link.producer = Some(producer);
                link.last_report = now;
                link.full = false;
                self.list_all(via);
            }
            Err(error) => {
                tracing::error!(error, "no Kafka producer");
                link.troubled(error, now);
                link.failures += 1;
                link.create_at = now + recover::back_off(link.failures);
            }
        }
    }

    fn list_all(&mut self, via: Via) {
        for at in 0..self.lanes.len() {
            let topic = self.lanes.get(at).map(|lane| lane.topic);
            if topic
                .and_then(|t| self.table.get(t))
                .is_some_and(|t| t.via == via)
            {
                self.list(at);
            }
        }
    }

    /// Notes that a lane may have something to send.
    fn list(&mut self, at: usize) {
        if let Some(state) = self.lanes.get_mut(at)
            && !std::mem::replace(&mut state.listed, true)
        {
            self.listed.push(at);
        }
    }

    fn send_listed(&mut self) {
        for at in std::mem::take(&mut self.listed) {
            if let Some(state) = self.lanes.get_mut(at) {
                state.listed = false;
            }
            self.send_lane(at);
        }
    }

    /// Has records go out at once that publishers wait for, where they are few.
    fn hasten(&mut self) {
        let hasty = std::mem::take(&mut self.main.hasty);
        if hasty
            && self.main.in_flight <= FEW
            && let Some(producer) = self.main.producer.as_mut()
        {
            producer.hasten(HASTE);
        }
    }

    /// Tells the workers and the log what is done, once a turn.
    fn finish_turn(&mut self) -> Result<(), String> {
        self.quarantine();
        for (worker, results) in (0u16..).zip(&mut self.outbox) {
            self.parts.reports.send(worker, results);
        }
        if let Some(sequence) = self.ledger.advance() {
            self.cursor.done = sequence;
        }
        // Where something is parked, it takes a look at all lanes: that is done once a tick.
        if self.parked == 0 && self.behind == 0 {
            self.commit()?;
        }
        self.watch_shares();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
