//! The whole promise, held against what Kafka has after kills and outages: nothing acknowledged is missing, each device's
//! first appearances are in order, and whatever stands twice has a reason that a consumer can see.

use std::collections::{HashMap, HashSet};

use super::device::{Outcome, acknowledged};
use super::records::{Record, Verdict, judge};

/// What was found. All but `duplicates`, `records` and `resends` must be zero.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Records in Kafka.
    pub records: usize,
    /// Records beyond the first of a message.
    pub duplicates: usize,
    /// Of these: with a position that another record of the message has, so that a consumer can drop them.
    pub told_by_position: usize,
    /// Of these: QoS 1 messages under another position, that the device had sent again.
    pub resends: usize,
    /// Duplicates that are neither.
    pub unexplained: usize,
    /// QoS 2 messages that stand in the spool under several positions.
    pub qos2_twice: usize,
    /// Positions under which two messages stand.
    pub positions_shared: usize,
    pub missing: usize,
    pub out_of_order: usize,
    pub scattered: usize,
    /// Sessions that the broker had forgotten.
    pub sessions_lost: u32,
    /// Answers that the broker should not have sent.
    pub violations: usize,
    /// Devices that did not come to their end.
    pub unfinished: usize,
}

impl Audit {
    /// Compares; payloads begin with `device:number:`.
    pub fn new(records: &[Record], outcomes: &[Outcome]) -> Self {
        let Verdict {
            missing,
            out_of_order,
            duplicates,
            scattered,
        } = judge(records, acknowledged(outcomes));
        let mut audit = Self {
            acknowledged: acknowledged(outcomes).count(),
            records: records.len(),
            duplicates,
            missing,
            out_of_order,
            scattered,
            sessions_lost: outcomes.iter().map(|outcome| outcome.sessions_lost).sum(),
            violations: outcomes.iter().map(|outcome| outcome.violations.len()).sum(),
            unfinished: outcomes.iter().filter(|outcome| outcome.error.is_some()).count(),
            ..Self::default()
        };
        audit.explain(records, outcomes);
        audit
    }

    fn explain(&mut self, records: &[Record], outcomes: &[Outcome]) {
        let devices: HashMap<&str, &Outcome> = outcomes.iter().map(|o| (o.device.as_str(), o)).collect();
        let mut positions: HashMap<(&str, u64), Vec<String>> = HashMap::new();
        let mut owners: HashMap<String, (&str, u64)> = HashMap::new();
        for record in records {
            let text = record.text();
            let number = text.split(':').nth(1).unwrap().parse().unwrap();
            let message = (record.key.as_deref().unwrap_or_default(), number);
            let position = record.header("forebay.position").expect("a position");
            if *owners.entry(position.clone()).or_insert(message) != message {
                self.positions_shared += 1;
            }
            positions.entry(message).or_default().push(position);
        }
        for ((device, number), found) in positions {
            let distinct: HashSet<&String> = found.iter().collect();
            let more = distinct.len() - 1;
            self.told_by_position += found.len() - distinct.len();
            let outcome = devices[device];
            if outcome.qos == 2 {
                self.qos2_twice += usize::from(more > 0);
                continue;
            }
            let again = outcome.again.get(&number).copied().unwrap_or_default() as usize;
            self.resends += more.min(again);
            self.unexplained += more.saturating_sub(again);
        }
    }

    /// Fails the test unless all that must be zero is.
    pub fn assert_clean(&self, outcomes: &[Outcome]) {
        let clean = Self {
            acknowledged: self.acknowledged,
            records: self.records,
            duplicates: self.duplicates,
            told_by_position: self.told_by_position,
            resends: self.resends,
            ..Self::default()
        };
        let of = |what: fn(&Outcome) -> bool| outcomes.iter().find(|outcome| what(outcome));
        assert_eq!(
            *self,
            clean,
            "violation: {:?}\nunfinished: {:?}",
            of(|outcome| !outcome.violations.is_empty())
                .map(|outcome| (&outcome.device, &outcome.violations)),
            of(|outcome| outcome.error.is_some()).map(|o| (
                &o.device,
                o.sent,
                o.acknowledged,
                o.completed,
                &o.error
            )),
        );
        assert!(
            self.acknowledged > 0,
            "nothing was acknowledged, nothing is proven"
        );
    }
}
