//! The comparison itself: pure.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::acked::Promises;
use crate::client::plan::read_payload;
use crate::client::ranges::Ranges;

/// Examples of each kind of fault that are kept for the report.
const EXAMPLES: usize = 5;

/// What is known of a device.
#[derive(Debug, Default)]
struct Device {
    sent: u64,
    /// Sent, but not acknowledged.
    open: Ranges,
    seen: Ranges,
    highest: Option<u64>,
    /// Topic and partition of its records.
    places: BTreeSet<(usize, i32)>,
}

/// Takes Kafka's records one by one, each partition in its order.
#[derive(Debug)]
pub struct Checker {
    run: String,
    devices: HashMap<String, Device>,
    verdict: Verdict,
}

/// What came out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Devices in the file.
    pub devices: u64,
    /// Publishes acknowledged to them.
    pub acknowledged: u64,
    /// Records of this run.
    pub records: u64,
    /// Records of other runs, or of nobody we know.
    pub foreign: u64,
    /// Acknowledged, but not in Kafka.
    pub lost: u64,
    /// First occurrences that stand behind a later publish of their device.
    pub out_of_order: u64,
    /// Further occurrences.
    pub duplicates: u64,
    /// In Kafka without having been acknowledged: allowed.
    pub unpromised: u64,
    /// Numbers that the device never sent.
    pub invented: u64,
    /// Records whose key is not the device id.
    pub wrong_key: u64,
    /// Devices with records in more than one partition of a topic.
    pub split: u64,
    /// Some of the faults.
    pub examples: Vec<String>,
}

impl Checker {
    /// A checker for these promises.
    pub fn new(promises: &Promises) -> Self {
        let device = |promise: &crate::acked::Promise| Device {
            sent: promise.sent,
            open: promise.open.clone(),
            ..Device::default()
        };
        let devices: HashMap<String, Device> = promises
            .devices
            .iter()
            .map(|promise| (promise.id.clone(), device(promise)))
            .collect();
        Self {
            run: promises.run.clone(),
            devices,
            verdict: Verdict::default(),
        }
    }

    /// Takes one record; `topic` is the number of its topic among those read.
    pub fn record(&mut self, topic: usize, partition: i32, key: Option<&[u8]>, payload: &[u8]) {
        let known = read_payload(payload).filter(|(_, _, run)| *run == self.run);
        let Some((id, sequence, device)) =
            known.and_then(|(id, sequence, _)| Some((id, sequence, self.devices.get_mut(id)?)))
        else {
            self.verdict.foreign += 1;
            return;
        };
        let verdict = &mut self.verdict;
        verdict.records += 1;
        if key != Some(id.as_bytes()) {
            verdict.wrong_key += 1;
            example(verdict, || {
                format!("{id} {sequence}: wrong key in partition {partition}")
            });
        }
        device.places.insert((topic, partition));
        if sequence >= device.sent {
            verdict.invented += 1;
        }
        if !device.seen.insert(sequence) {
            verdict.duplicates += 1;
        } else if let Some(highest) = device.highest.filter(|&highest| sequence < highest) {
            verdict.out_of_order += 1;
            example(verdict, || {
                format!("{id} {sequence}: behind {highest} in partition {partition}")
            });
        }
        device.highest = device.highest.max(Some(sequence));
    }

    /// Acknowledged publishes that were not seen yet.
    pub fn lost(&self) -> u64 {
        self.devices.values().map(|device| lost(device).0).sum()
    }

    /// The result of all records so far.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.verdict.clone();
        for (id, device) in &self.devices {
            let (missing, first) = lost(device);
            verdict.devices += 1;
            verdict.acknowledged += device.sent - device.open.len_below(device.sent);
            verdict.lost += missing;
            verdict.unpromised += common(&device.open, &device.seen);
            let topics: BTreeSet<usize> = device.places.iter().map(|&(topic, _)| topic).collect();
            verdict.split += u64::from(device.places.len() > topics.len());
            if let Some(first) = first {
                example(&mut verdict, || {
                    format!("{id}: {missing} lost, the first is {first}")
                });
            }
        }
        verdict
    }
}

fn example(verdict: &mut Verdict, text: impl FnOnce() -> String) {
    if verdict.examples.len() < EXAMPLES {
        verdict.examples.push(text());
    }
}

/// How many acknowledged publishes of a device were not seen, and the first of them.
fn lost(device: &Device) -> (u64, Option<u64>) {
    let mut count = 0;
    let mut first = None;
    let mut next = 0;
    // The gaps between what was seen, less what was never promised in them.
    for (from, to) in device.seen.spans().chain([(device.sent, device.sent)]) {
        let end = from.min(device.sent);
        if next < end {
            let promised = (end - next) - (device.open.len_below(end) - device.open.len_below(next));
            count += promised;
            if promised > 0 && first.is_none() {
                first = (next..end).find(|&sequence| !device.open.contains(sequence));
            }
        }
        next = to.saturating_add(1);
    }
    (count, first)
}

/// How many numbers two sets have in common.
fn common(small: &Ranges, large: &Ranges) -> u64 {
    small
        .spans()
        .map(|(first, last)| large.len_below(last + 1) - large.len_below(first))
        .sum()
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("devices", self.devices),
            ("acknowledged", self.acknowledged),
            ("records", self.records),
            ("foreign records", self.foreign),
            ("lost", self.lost),
            ("out of order", self.out_of_order),
            ("duplicates", self.duplicates),
            ("there but not acknowledged", self.unpromised),
            ("never sent", self.invented),
            ("wrong key", self.wrong_key),
            ("devices in several partitions", self.split),
        ] {
            writeln!(out, "{name:<30} {value}")?;
        }
        self.examples
            .iter()
            .try_for_each(|example| writeln!(out, "  {example}"))
    }
}

#[cfg(test)]
mod tests;
