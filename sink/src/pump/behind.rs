//! Topics that fell behind: their share of the memory is full, so that their records stay in the log. Each remembers
//! the positions from which they are to be read. When such a topic takes records again, a second look at the log brings
//! them, up to where the others are; from there on they come as they are read. One second look at a time, for all
//! partitions that can use it: one that is dead stays where it is, and the others of its topic go on without it.

use forebay_broker::spool::LogScan;

use super::topic::{State, Topic};
use super::{Delivery, LaneState, Pump, READS_A_TURN, Source};

/// In the place of a position: the records of this partition are taken as they are read.
pub(super) const TAKEN: u64 = u64::MAX;
/// Bytes that a topic always may keep, and all that one gets which has not taken a record since its trouble.
const LEAST_SHARE: usize = 64 * 1024;

/// Where the records of a topic go on that are left in the log.
#[derive(Debug)]
pub(super) struct Behind {
    /// For each partition of the count at that time.
    ways: Vec<Way>,
}

/// Where the records of one partition go on.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// The sequence to read from, or [`TAKEN`].
    from: u64,
    /// Whether the second look in progress brings its records.
    joining: bool,
}

impl Behind {
    pub(super) fn new(from: Vec<u64>) -> Self {
        let way = |from| Way { from, joining: false };
        Self {
            ways: from.into_iter().map(way).collect(),
        }
    }

    /// The count of partitions that it is about.
    pub(super) fn partitions(&self) -> u32 {
        self.ways.len() as u32
    }

    /// Whether a record of that partition and sequence is to be taken from the pass that brings it.
    pub(super) fn takes(&self, partition: u32, sequence: u64, scanned: bool) -> bool {
        let way = self.ways.get(partition as usize);
        match way {
            Some(way) if scanned => way.joining && way.from <= sequence,
            Some(way) => way.from == TAKEN,
            None => !scanned,
        }
    }

    /// Tells its partitions apart, where they were not known when it fell behind.
    fn spread(&mut self, partitions: usize) {
        if let &[way] = self.ways.as_slice() {
            self.ways = vec![way; partitions.max(1)];
        }
    }

    fn is_joining(&self) -> bool {
        self.ways.iter().any(|way| way.joining)
    }

    /// Has the second look bring what its partitions have missed, but for those that are dead; the lowest position.
    fn join(&mut self, dead: &[bool]) -> u64 {
        let mut lowest = TAKEN;
        for (at, way) in self.ways.iter_mut().enumerate() {
            way.joining = way.from != TAKEN && !dead.get(at).copied().unwrap_or(false);
            if way.joining {
                lowest = lowest.min(way.from);
            }
        }
        lowest
    }

    /// The second look goes on without the partitions for which `leaves` is true.
    fn leave(&mut self, reached: u64, leaves: impl Fn(usize) -> bool) {
        for (at, way) in self.ways.iter_mut().enumerate() {
            if way.joining && leaves(at) {
                *way = Way {
                    from: way.from.max(reached),
                    joining: false,
                };
            }
        }
    }

    /// From `from` on the records of a partition stay in the log, if they do not already from below.
    fn stay(&mut self, partition: usize, from: u64) {
        if let Some(way) = self.ways.get_mut(partition) {
            // One that joins was read up to where the second look is, above all that it keeps.
            let before = if way.joining { TAKEN } else { way.from };
            *way = Way {
                from: before.min(from),
                joining: false,
            };
        }
    }
}

/// The second look.
pub(super) struct Scan {
    log: Box<dyn LogScan>,
    /// All below was read.
    at: u64,
}

impl Pump {
    /// Bytes that a topic may keep in memory, while all together keep what they do.
    pub(super) fn share(&self) -> usize {
        let config = &self.parts.config;
        if self.parked_bytes < config.parked_bytes / 2 {
            config.parked_topic_bytes
        } else {
            config.parked_topic_bytes.min(LEAST_SHARE)
        }
    }

    /// For each partition whether it reports nothing for too long, and the bytes that such keep.
    fn dead(&self, topic: &Topic) -> (Vec<bool>, usize) {
        let mut bytes = 0;
        let lanes = topic.lanes.iter().filter_map(|lane| self.lanes.get(*lane));
        let dead = lanes.map(|state| {
            let dead = self.is_dead(state);
            bytes += if dead { state.lane.bytes() } else { 0 };
            dead
        });
        (dead.collect(), bytes)
    }

    fn is_dead(&self, state: &LaneState) -> bool {
        state.lane.sent() > 0 && self.now - state.moved > self.parts.config.stuck_after
    }

    /// Leaves the records of topics whose share is full in the log from here on.
    pub(super) fn watch_shares(&mut self) {
        if self.parked_bytes == 0 {
            return;
        }
        let share = self.share();
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get(at).filter(|topic| topic.parks) else {
                continue;
            };
            let bytes = topic.parked_bytes;
            let full = match &topic.behind {
                None => bytes >= share,
                Some(behind) if behind.ways.iter().any(|way| way.from == TAKEN) => {
                    let (dead, dead_bytes) = self.dead(topic);
                    let fed = |(at, way): (usize, &Way)| way.from == TAKEN && dead.get(at) == Some(&true);
                    is_full(bytes, dead_bytes, share)
                        || (bytes >= 2 * share && behind.ways.iter().enumerate().any(fed))
                }
                Some(_) => false,
            };
            if full {
                self.fall_behind(at);
            }
        }
    }

    fn fall_behind(&mut self, at: usize) {
        let read_to = self.read_to;
        let Some(topic) = self.table.get(at) else {
            return;
        };
        let (dead, _) = self.dead(topic);
        let is_dead = |at: usize| dead.get(at).copied().unwrap_or(false);
        let partitions = match &topic.behind {
            Some(behind) => behind.ways.len(),
            None => topic.lanes.len().max(1),
        };
        let fed = |at: &usize| match &topic.behind {
            Some(behind) => behind.ways.get(*at).is_some_and(|way| way.from == TAKEN),
            None => true,
        };
        // Where some are dead and fed, they alone are left behind.
        let some = topic.state == State::Ready && (0..partitions).filter(fed).any(is_dead);
        let left = (0..partitions).filter(fed).filter(|at| !some || is_dead(*at));
        let left: Vec<usize> = left.collect();
        for partition in left {
            self.stay(at, partition, read_to);
        }
    }

    /// From `from` on the records of a partition stay in the log.
    fn stay(&mut self, at: usize, partition: usize, from: u64) {
        let Some(topic) = self.table.get_mut(at).filter(|_| from != TAKEN) else {
            return;
        };
        // The first chunk of a run begins below what the last one had done.
        let from = from.max(self.cursor.committed);
        if let Some(behind) = &mut topic.behind {
            behind.stay(partition, from);
            return;
        }
        let mut behind = Behind::new(vec![TAKEN; topic.lanes.len().max(1)]);
        behind.stay(partition, from);
        topic.behind = Some(behind);
        tracing::warn!(
            topic = &*topic.name,
            bytes = topic.parked_bytes,
            "the share of a topic that takes no records is full: the next ones stay in the log, and publishers that \
             wait for Kafka's acknowledgement are held back"
        );
        for route in &topic.routes {
            self.parts.routes.set_closed(*route, true);
        }
        self.behind += 1;
    }

    /// A topic that parks keeps no more than its share of what is not on its way: the rest is let go, and read again
    /// when its time has come.
    pub(super) fn let_go(&mut self, at: usize) {
        let room = self.parts.config.parked_bytes.saturating_sub(self.parked_bytes);
        let share = self.share().min(room);
        let Some(topic) = self.table.get(at) else {
            return;
        };
        let (dead, _) = self.dead(topic);
        let some = topic.state == State::Ready && dead.contains(&true);
        let lanes = topic.lanes.clone();
        let sent = lanes.iter().filter_map(|lane| self.lanes.get(*lane));
        let sent: usize = sent.map(|state| state.lane.sent_bytes()).sum();
        let share = share.saturating_sub(topic.parked_bytes + sent);
        let each = share / lanes.len().max(1);
        // What waits for a new count of partitions stands behind all that is in the lanes: it goes first.
        let fits = topic.waiting.is_empty();
        let fits = fits && topic.behind.as_ref().is_none_or(|b| b.ways.len() == lanes.len());
        for (partition, lane) in lanes.iter().enumerate().filter(|_| fits) {
            let Some(state) = self.lanes.get_mut(*lane) else {
                continue;
            };
            // What the others keep goes as it came.
            if some && dead.get(partition) != Some(&true) {
                continue;
            }
            let keep = keep(state.lane.iter(), state.lane.sent(), each);
            let off: Vec<Delivery> = state.lane.split_off(keep).collect();
            let (letters, from) = self.leave_in_log(off);
            for letter in letters {
                let bytes = letter.bytes as usize;
                if let Some(state) = self.lanes.get_mut(*lane) {
                    state.lane.push(letter, bytes);
                }
            }
            self.stay(at, partition, from);
        }
        let Some(topic) = self.table.get_mut(at).filter(|topic| topic.behind.is_none()) else {
            return;
        };
        let keep = keep(topic.waiting.iter(), 0, share);
        let off = topic.waiting.split_off(keep);
        let (letters, from) = self.leave_in_log(off.into());
        if let Some(topic) = self.table.get_mut(at) {
            topic.waiting.extend(letters);
        }
        for partition in 0..lanes.len().max(1) {
            self.stay(at, partition, from);
        }
    }

    /// Forgets records that are to be read again from where the lowest of them stands; those of the quarantine are in
    /// no log, and come back.
    fn leave_in_log(&mut self, off: Vec<Delivery>) -> (Vec<Delivery>, u64) {
        let (mut letters, mut from) = (Vec::new(), TAKEN);
        for delivery in off {
            match &delivery.source {
                Source::Letter { .. } => {
                    letters.push(delivery);
                    continue;
                }
                Source::Chunk { slot, .. } => self.ledger.release(*slot),
                Source::Own { bytes, topic } => self.unpark(*topic, bytes.len()),
            }
            from = from.min(delivery.sequence);
            self.open -= 1;
            self.awaited -= usize::from(delivery.awaited);
        }
        (letters, from)
    }

    /// Reads some of what topics that fell behind and are well again have missed; true when there was some.
    pub(super) fn catch_up(&mut self) -> Result<bool, String> {
        if self.behind == 0 {
            return Ok(false);
        }
        if self.scan.is_none() {
            self.begin_scan()?;
        }
        let mut any = false;
        for _ in 0..READS_A_TURN {
            let Some(scan) = &mut self.scan else {
                break;
            };
            if scan.at >= self.read_to {
                self.join();
                break;
            }
            if !self.may_scan() {
                break;
            }
            let read = match &mut self.scan {
                Some(scan) => scan.log.read().map_err(|error| error.to_string())?,
                None => None,
            };
            // Where the end of what was read is damaged, nothing comes before what is still to be read.
            let Some(entry) = read.filter(|entry| entry.first.sequence < self.read_to) else {
                self.join();
                break;
            };
            let end = entry.first.sequence + u64::from(entry.chunk.count());
            self.take_missed(&entry)?;
            if let Some(scan) = &mut self.scan {
                scan.at = end;
            }
            any = true;
        }
        Ok(any)
    }

    fn begin_scan(&mut self) -> Result<(), String> {
        let share = self.share();
        let mut lowest = TAKEN;
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get_mut(at).filter(|topic| topic.can_join()) else {
                continue;
            };
            let Some(behind) = &mut topic.behind else {
                continue;
            };
            behind.spread(topic.lanes.len());
            let partitions = behind.ways.len();
            let Some(topic) = self.table.get(at) else {
                continue;
            };
            let (mut dead, mut dead_bytes) = self.dead(topic);
            if dead.len() != partitions {
                (dead, dead_bytes) = (Vec::new(), 0);
            }
            let room = topic.parked_bytes.saturating_sub(dead_bytes) <= share / 2;
            let behind = self.table.get_mut(at).and_then(|topic| topic.behind.as_mut());
            if let Some(behind) = behind.filter(|_| room) {
                lowest = lowest.min(behind.join(&dead));
            }
        }
        if lowest == TAKEN {
            return Ok(());
        }
        let log = self.parts.reader.scan(lowest);
        let log = log.map_err(|error| error.to_string())?;
        self.scan = Some(Scan { log, at: lowest });
        Ok(())
    }

    /// Whether all that take part in the second look have room for more. Those that are stuck again leave it.
    fn may_scan(&mut self) -> bool {
        let Some(reached) = self.scan.as_ref().map(|scan| scan.at) else {
            return false;
        };
        let (all, mut room, mut members) = (self.share(), true, false);
        let unkept = self.refusal.trouble().is_some();
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get(at) else {
                continue;
            };
            let Some(behind) = topic.behind.as_ref().filter(|behind| behind.is_joining()) else {
                continue;
            };
            let share = if topic.failures > 0 {
                all.min(LEAST_SHARE)
            } else {
                all
            };
            let (dead, dead_bytes) = self.dead(topic);
            let full = topic.parked_bytes >= share;
            // What no route can place waits for nothing but the quarantine.
            let stuck = topic.state != State::Ready || (unkept && topic.lanes.is_empty());
            let stuck = stuck || (dead.contains(&true) && dead.len() != behind.ways.len());
            let stuck = !topic.can_join() || (full && stuck);
            let leaves = |at: usize| stuck || (full && dead.get(at) == Some(&true));
            let live_full = is_full(topic.parked_bytes, dead_bytes, share);
            let Some(behind) = self.table.get_mut(at).and_then(|topic| topic.behind.as_mut()) else {
                continue;
            };
            behind.leave(reached, leaves);
            if behind.is_joining() {
                members = true;
                room &= !live_full;
            }
        }
        if !members {
            self.scan = None;
        }
        room && members
    }

    /// The second look has reached what was read: from here on its partitions get their records as they come.
    fn join(&mut self) {
        self.scan = None;
        let mut reopened = false;
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get_mut(at) else {
                continue;
            };
            let Some(behind) = topic.behind.as_mut().filter(|behind| behind.is_joining()) else {
                continue;
            };
            for way in behind.ways.iter_mut().filter(|way| way.joining) {
                *way = Way {
                    from: TAKEN,
                    joining: false,
                };
            }
            if behind.ways.iter().any(|way| way.from != TAKEN) {
                continue;
            }
            topic.behind = None;
            self.behind -= 1;
            tracing::info!(topic = &*topic.name, "it has caught up with the log");
            for route in topic.routes.clone() {
                let mut others = self.table.iter();
                if !others.any(|topic| topic.behind.is_some() && topic.routes.contains(&route)) {
                    reopened |= self.parts.routes.set_closed(route, false);
                }
            }
        }
        if reopened {
            self.parts.reports.reopened();
        }
    }

    /// For each partition of a topic, where its records go on that are not done; none when it waits for nothing but
    /// what stands in the log's chunks.
    pub(super) fn positions(&self, at: usize) -> Option<Vec<u64>> {
        let topic = self.table.get(at)?;
        if topic.behind.is_none() && topic.parked_bytes == 0 {
            return None;
        }
        let reached = self.scan.as_ref().map_or(0, |scan| scan.at);
        let lanes = topic.lanes.iter().filter_map(|lane| self.lanes.get(*lane));
        let open = lanes.map(|state| state.lane.iter().map(|delivery| delivery.sequence).min());
        let mut from: Vec<u64> = open.map(|lowest| lowest.unwrap_or(TAKEN)).collect();
        let mut left = Vec::new();
        if let Some(behind) = &topic.behind {
            let at = |way: &Way| way.from.max(if way.joining { reached } else { 0 });
            left.extend(behind.ways.iter().map(at));
        }
        let waiting = topic.waiting.iter().map(|delivery| delivery.sequence).min();
        let known = !from.is_empty() && waiting.is_none() && (left.is_empty() || left.len() == from.len());
        if known {
            for (from, left) in from.iter_mut().zip(&left) {
                *from = (*from).min(*left);
            }
        } else {
            let all = from.iter().chain(&left).chain(&waiting).copied().min();
            from = vec![all.unwrap_or(TAKEN)];
        }
        for from in &mut from {
            *from = if *from == TAKEN { self.cursor.done } else { *from };
        }
        Some(from)
    }
}

/// Whether a topic keeps as much as it may. What its dead partitions keep is no reason to leave the others behind, up
/// to once more as much; and a little is always theirs.
fn is_full(bytes: usize, dead: usize, share: usize) -> bool {
    let live = bytes.saturating_sub(dead);
    live >= share || (live >= share.min(LEAST_SHARE) && bytes >= 2 * share)
}

/// How many of these stay, of which `sent` must and as many more as have `most` bytes; never one of two that are of the
/// same record.
fn keep<'a>(all: impl Iterator<Item = &'a Delivery>, sent: usize, most: usize) -> usize {
    let (mut keep, mut bytes, mut last) = (0, 0, None);
    for (at, delivery) in all.enumerate() {
        bytes += if at < sent { 0 } else { delivery.bytes as usize };
        if bytes > most && last != Some(delivery.sequence) {
            break;
        }
        (keep, last) = (at + 1, Some(delivery.sequence));
    }
    keep
}
