//! Topics that fell behind: their share of the memory is full, so that their records stay in the log. Each remembers
//! the positions from which they are to be read. When such a topic takes records again, a second look at the log brings
//! them, up to where the others are; from there on they come as they are read. One second look at a time, for all
//! topics that can use it.

use forebay_broker::spool::LogScan;

use super::topic::State;
use super::{Pump, READS_A_TURN};

/// In the place of a position: the records of this partition are taken as they are read.
pub(super) const TAKEN: u64 = u64::MAX;
/// Bytes that a topic always may keep, and all that one gets which has not taken a record since its trouble.
const LEAST_SHARE: usize = 64 * 1024;

/// Where the records of a topic go on that are left in the log.
#[derive(Debug)]
pub(super) struct Behind {
    /// For each partition of the count at that time: the sequence to read from, or [`TAKEN`].
    pub(super) from: Vec<u64>,
    /// Whether the second look in progress brings its records.
    joining: bool,
}

impl Behind {
    pub(super) fn new(from: Vec<u64>) -> Self {
        Self { from, joining: false }
    }

    fn lowest(&self) -> u64 {
        self.from.iter().copied().min().unwrap_or(TAKEN)
    }

    /// Whether a record of that partition and sequence is to be taken from the pass that brings it.
    pub(super) fn takes(&self, partition: u32, sequence: u64, scanned: bool) -> bool {
        let from = self.from.get(partition as usize).copied().unwrap_or(TAKEN);
        if scanned {
            self.joining && from <= sequence
        } else {
            from == TAKEN
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
    fn share(&self) -> usize {
        let config = &self.parts.config;
        if self.parked_bytes < config.parked_bytes / 2 {
            config.parked_topic_bytes
        } else {
            config.parked_topic_bytes.min(LEAST_SHARE)
        }
    }

    /// Leaves the records of topics whose share is full in the log from here on.
    pub(super) fn watch_shares(&mut self) {
        if self.parked_bytes == 0 {
            return;
        }
        let share = self.share();
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get(at) else {
                continue;
            };
            // What one dead partition keeps is no reason to leave the others behind, up to once more as much.
            let full = match &topic.behind {
                None => topic.parked_bytes >= share,
                Some(behind) => topic.parked_bytes >= 2 * share && behind.from.contains(&TAKEN),
            };
            if topic.parks && full {
                self.fall_behind(at);
            }
        }
    }

    fn fall_behind(&mut self, at: usize) {
        let (now, after, read_to) = (self.now, self.parts.config.stuck_after, self.read_to);
        let Some(topic) = self.table.get_mut(at) else {
            return;
        };
        let again = topic.behind.is_some();
        let lanes = &self.lanes;
        let dead = |lane: &usize| {
            let state = lanes.get(*lane);
            state.is_some_and(|state| state.lane.sent() > 0 && now - state.moved > after)
        };
        let some = topic.state == State::Ready && !again && topic.lanes.iter().any(dead);
        let partitions = topic.lanes.len().max(1);
        let behind = topic
            .behind
            .get_or_insert_with(|| Behind::new(vec![TAKEN; partitions]));
        for (partition, from) in behind.from.iter_mut().enumerate() {
            if *from == TAKEN && (!some || topic.lanes.get(partition).is_some_and(dead)) {
                *from = read_to;
            }
        }
        if again {
            return;
        }
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
        for topic in self.table.iter_mut() {
            let can = topic.can_join() && topic.parked_bytes <= share / 2;
            if let Some(behind) = topic.behind.as_mut().filter(|_| can) {
                behind.joining = true;
                lowest = lowest.min(behind.lowest());
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
        let (now, after, share) = (self.now, self.parts.config.stuck_after, self.share());
        let (lanes, mut room, mut members) = (&self.lanes, true, false);
        let unkept = self.refusal.trouble().is_some();
        for topic in self.table.iter_mut() {
            let can = topic.can_join();
            let least = topic.failures > 0;
            let Some(behind) = topic.behind.as_mut().filter(|behind| behind.joining) else {
                continue;
            };
            let full = topic.parked_bytes >= if least { share.min(LEAST_SHARE) } else { share };
            let dead = topic.lanes.iter().filter_map(|lane| lanes.get(*lane));
            let dead = dead
                .filter(|state| state.lane.sent() > 0)
                .any(|state| now - state.moved > after);
            // What no route can place waits for nothing but the quarantine.
            let dead = dead || topic.state != State::Ready || (unkept && topic.lanes.is_empty());
            if !can || (full && dead) {
                behind.joining = false;
                for from in behind.from.iter_mut().filter(|from| **from < reached) {
                    *from = reached;
                }
                continue;
            }
            members = true;
            room &= !full;
        }
        if !members {
            self.scan = None;
        }
        room && members
    }

    /// The second look has reached what was read: from here on its topics get their records as they come.
    fn join(&mut self) {
        self.scan = None;
        let mut reopened = false;
        for at in 0..self.table.len() {
            let Some(topic) = self.table.get_mut(at) else {
                continue;
            };
            if !topic.behind.as_ref().is_some_and(|behind| behind.joining) {
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
            let read = if behind.joining { reached } else { 0 };
            left.extend(behind.from.iter().map(|from| (*from).max(read)));
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
