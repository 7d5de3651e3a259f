//! Which acknowledgements wait for which chunk: a chunk's entries are settled when the chunk is on the bus
//! (`received`), when it is durable in the log (`spooled`), or record by record when Kafka has them (`kafka`).

use std::collections::VecDeque;

use super::state::SessionRef;
use crate::classify::Level;
use crate::codec::Reason;
use crate::session::Ticket;

/// What is owed to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debt {
    /// PUBACK or PUBREC of a publish.
    Publish(Ticket),
    /// Another answer, which a record of a kept session makes true.
    Answer(Ticket),
    /// That a QoS 2 publish of a kept session is refused, once a record says that its packet id is free.
    Refusal(Ticket, Reason),
}

/// An answer that is owed until its record is decided, or a run of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub slot: u32,
    pub generation: u32,
    pub debt: Debt,
    /// Index of the record in its chunk; of a run, of the first.
    pub index: u32,
    pub level: Level,
    /// How many publishes of a session, whose tickets follow each other, it stands for. Those that wait for Kafka, which
    /// are decided one by one, stand alone.
    pub count: u32,
}

/// Adds what is owed for the last record of the open chunk.
pub(super) fn owe(all: &mut Vec<Owed>, at: SessionRef, debt: Debt, level: Level, index: u32) {
    all.push(Owed {
        slot: at.slot,
        generation: at.generation,
        debt,
        index,
        level,
        count: 1,
    });
}

/// The same for a client's publish: to the run that it goes on with, if it does.
#[inline]
pub(super) fn owe_publish(all: &mut Vec<Owed>, at: SessionRef, ticket: Ticket, level: Level, index: u32) {
    if let Some(last) = all.last_mut()
        && let Debt::Publish(first) = last.debt
        && first.after(last.count) == ticket
        && last.slot == at.slot
        && last.generation == at.generation
        && last.level == level
        && level != Level::Kafka
    {
        last.count += 1;
        return;
    }
    owe(all, at, Debt::Publish(ticket), level, index);
}

/// A chunk with entries that wait for Kafka.
#[derive(Debug)]
struct Waiting {
    number: u64,
    opened_ms: u64,
    /// In the order of their index, each with whether it is settled.
    owed: Vec<(Owed, bool)>,
    left: usize,
}

/// A chunk with entries that wait until it is durable.
#[derive(Debug)]
struct Unsynced {
    number: u64,
    opened_ms: u64,
    /// How many entries of [`Acks::unsynced`] are its.
    count: usize,
}

/// The chunks of one worker with entries that are not settled yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    kafka: VecDeque<Waiting>,
    owed: usize,
    chunks: VecDeque<Unsynced>,
    unsynced: VecDeque<Owed>,
    /// Answers in `unsynced`.
    owed_unsynced: usize,
}

impl Acks {
    /// The chunk `number` was handed to the bus: appends to `settled` what that alone settles and keeps the rest.
    /// Empties `owed`.
    pub fn sent(&mut self, number: u64, opened_ms: u64, owed: &mut Vec<Owed>, settled: &mut Vec<Owed>) {
        let mut waiting = Vec::new();
        let before = self.unsynced.len();
        for owed in owed.drain(..) {
            match owed.level {
                Level::Received => settled.push(owed),
                Level::Spooled => {
                    self.owed_unsynced += owed.count as usize;
                    self.unsynced.push_back(owed);
                }
                Level::Kafka => waiting.push((owed, false)),
            }
        }
        let count = self.unsynced.len() - before;
        if count > 0 {
            self.chunks.push_back(Unsynced {
                number,
                opened_ms,
                count,
            });
        }
        if !waiting.is_empty() {
            self.owed += waiting.len();
            self.kafka.push_back(Waiting {
                number,
                opened_ms,
                left: waiting.len(),
                owed: waiting,
            });
        }
    }

    /// The chunks below `appended` are durable: takes the oldest of them, appends its entries to `settled` and returns
    /// the time at which it was opened. `None` when there is no further one.
    pub fn durable(&mut self, appended: u64, settled: &mut Vec<Owed>) -> Option<u64> {
        let chunk = self.chunks.pop_front_if(|chunk| chunk.number < appended)?;
        let durable = self.unsynced.drain(..chunk.count.min(self.unsynced.len()));
        for owed in durable {
            self.owed_unsynced -= owed.count as usize;
            settled.push(owed);
        }
        Some(chunk.opened_ms)
    }

    /// Record `index` of chunk `number` is decided: whose acknowledgement that settles, if any is owed, and the time
    /// at which its chunk was opened.
    pub fn settle(&mut self, number: u64, index: u32) -> Option<(Owed, u64)> {
        let at = self.kafka.binary_search_by_key(&number, |c| c.number).ok()?;
        let chunk = self.kafka.get_mut(at)?;
        let entry = chunk.owed.binary_search_by_key(&index, |(o, _)| o.index).ok()?;
        let (owed, settled) = chunk.owed.get_mut(entry)?;
        if std::mem::replace(settled, true) {
            return None;
        }
        let found = (*owed, chunk.opened_ms);
        chunk.left -= 1;
        self.owed -= 1;
        if chunk.left == 0 {
            chunk.owed = Vec::new();
        }
        while self.kafka.front().is_some_and(|c| c.left == 0) {
            self.kafka.pop_front();
        }
        Some(found)
    }

    /// Answers that wait, for the log or for Kafka.
    pub fn owed(&self) -> usize {
        self.owed + self.owed_unsynced
    }

    /// Acknowledgements that wait for Kafka.
    pub fn owed_by_kafka(&self) -> usize {
        self.owed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::session::Ticket;

    fn owed(index: u32, level: Level) -> Owed {
        Owed {
            slot: index,
            generation: 0,
            debt: Debt::Publish(Ticket::from(index)),
            index,
            level,
            count: 1,
        }
    }

    #[test]
    fn publishes_of_one_session_are_owed_together() {
        let at = |slot| SessionRef { slot, generation: 0 };
        let mut all = Vec::new();
        for (index, (slot, ticket, level)) in [
            (1, u32::MAX, Level::Spooled),
            (1, 0, Level::Spooled),
            (1, 2, Level::Spooled),
            (2, 3, Level::Spooled),
            (2, 4, Level::Received),
            (2, 5, Level::Kafka),
            (2, 6, Level::Kafka),
        ]
        .into_iter()
        .enumerate()
        {
            owe_publish(&mut all, at(slot), Ticket::from(ticket), level, index as u32);
        }
        owe(&mut all, at(2), Debt::Answer(Ticket::from(7)), Level::Spooled, 7);
        owe_publish(&mut all, at(2), Ticket::from(8), Level::Spooled, 8);
        let counts: Vec<u32> = all.iter().map(|owed| owed.count).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 1, 1, 1]);

        let (mut acks, mut settled) = (Acks::default(), Vec::new());
        acks.sent(0, 0, &mut all, &mut settled);
        assert_eq!((acks.owed(), acks.owed_by_kafka()), (8, 2));
        settled.clear();
        assert!(acks.durable(1, &mut settled).is_some());
        assert_eq!((acks.owed(), settled.len()), (2, 5));
    }

    #[test]
    fn received_is_settled_at_once_and_kafka_record_by_record() {
        let mut acks = Acks::default();
        let mut settled = Vec::new();
        let mut entries = vec![
            owed(0, Level::Kafka),
            owed(2, Level::Received),
            owed(5, Level::Kafka),
        ];
        acks.sent(0, 100, &mut entries, &mut settled);
        assert!(entries.is_empty());
        assert_eq!(settled, [owed(2, Level::Received)]);
        assert_eq!(acks.settle(0, 2), None);
        assert_eq!(acks.settle(0, 5).unwrap().0, owed(5, Level::Kafka));
        assert_eq!(acks.settle(0, 5), None, "twice reported is settled once");
        assert_eq!(acks.settle(0, 0).unwrap(), (owed(0, Level::Kafka), 100));
        assert_eq!(acks.owed(), 0);
        assert!(acks.kafka.is_empty());
    }

    #[test]
    fn a_chunk_that_stays_does_not_hold_up_later_ones() {
        let mut acks = Acks::default();
        let mut settled = Vec::new();
        for number in 3..6 {
            acks.sent(number, 0, &mut vec![owed(0, Level::Kafka)], &mut settled);
        }
        assert!(acks.settle(5, 0).is_some());
        assert!(acks.settle(4, 0).is_some());
        assert_eq!(acks.owed(), 1);
        assert_eq!(acks.kafka.len(), 3);
        assert!(acks.settle(3, 0).is_some());
        assert!(acks.kafka.is_empty());
    }

    #[test]
    fn spooled_is_settled_chunk_by_chunk_once_the_log_has_it() {
        let mut acks = Acks::default();
        let mut settled = Vec::new();
        for (number, first) in [(3, 0), (4, 10), (6, 20)] {
            let mut entries = vec![owed(first, Level::Spooled), owed(first + 1, Level::Spooled)];
            acks.sent(number, number * 100, &mut entries, &mut settled);
        }
        acks.sent(7, 0, &mut vec![owed(0, Level::Received)], &mut settled);
        assert_eq!(settled, [owed(0, Level::Received)]);
        settled.clear();
        assert_eq!(acks.durable(3, &mut settled), None);
        assert!(settled.is_empty(), "below 3 is not 3");
        assert_eq!(acks.durable(6, &mut settled), Some(300));
        assert_eq!(acks.durable(6, &mut settled), Some(400));
        assert_eq!(acks.durable(6, &mut settled), None);
        let tickets = [0, 1, 10, 11].map(|index| owed(index, Level::Spooled));
        assert_eq!(settled, tickets);
        assert_eq!((acks.owed(), acks.owed_by_kafka()), (2, 0));
        assert_eq!(acks.durable(u64::MAX, &mut settled), Some(600));
        assert_eq!(acks.owed(), 0);
    }

    #[test]
    fn the_levels_of_one_chunk_are_settled_each_at_its_time() {
        let mut acks = Acks::default();
        let mut settled = Vec::new();
        let mut entries = [Level::Kafka, Level::Spooled, Level::Received]
            .into_iter()
            .zip(0..)
            .map(|(level, index)| owed(index, level))
            .collect();
        acks.sent(0, 5, &mut entries, &mut settled);
        assert_eq!(settled, [owed(2, Level::Received)]);
        assert_eq!((acks.owed(), acks.owed_by_kafka()), (2, 1));
        assert_eq!(acks.settle(0, 0), Some((owed(0, Level::Kafka), 5)));
        settled.clear();
        assert_eq!(acks.durable(1, &mut settled), Some(5));
        assert_eq!(settled, [owed(1, Level::Spooled)]);
        assert_eq!(acks.owed(), 0);
    }
}
