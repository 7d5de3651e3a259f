//! Which acknowledgements wait for which chunk: a chunk's entries are settled when the chunk is on the bus
//! (`received`) or record by record when Kafka has them (`kafka`).

use std::collections::VecDeque;

use crate::classify::Level;
use crate::session::Ticket;

/// One publish of QoS 1 or 2 whose acknowledgement is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub slot: u32,
    pub generation: u32,
    pub ticket: Ticket,
    /// Index of the record in its chunk.
    pub index: u32,
    pub level: Level,
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

/// The chunks of one worker whose records Kafka does not have yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    chunks: VecDeque<Waiting>,
    owed: usize,
}

impl Acks {
    /// The chunk `number` was handed to the bus: appends to `settled` what that alone settles and keeps what waits
    /// for Kafka. Empties `owed`.
    pub fn sent(&mut self, number: u64, opened_ms: u64, owed: &mut Vec<Owed>, settled: &mut Vec<Owed>) {
        settled.extend(owed.iter().filter(|o| o.level == Level::Received));
        let waiting: Vec<_> = owed
            .drain(..)
            .filter(|o| o.level != Level::Received)
            .map(|o| (o, false))
            .collect();
        if !waiting.is_empty() {
            self.owed += waiting.len();
            self.chunks.push_back(Waiting {
                number,
                opened_ms,
                left: waiting.len(),
                owed: waiting,
            });
        }
    }

    /// Record `index` of chunk `number` is decided: whose acknowledgement that settles, if any is owed, and the time
    /// at which its chunk was opened.
    pub fn settle(&mut self, number: u64, index: u32) -> Option<(Owed, u64)> {
        let at = self.chunks.binary_search_by_key(&number, |c| c.number).ok()?;
        let chunk = self.chunks.get_mut(at)?;
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
        while self.chunks.front().is_some_and(|c| c.left == 0) {
            self.chunks.pop_front();
        }
        Some(found)
    }

    /// Acknowledgements that wait for Kafka.
    pub fn owed(&self) -> usize {
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
            ticket: Ticket::from(index),
            index,
            level,
        }
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
        assert!(acks.chunks.is_empty());
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
        assert_eq!(acks.chunks.len(), 3);
        assert!(acks.settle(3, 0).is_some());
        assert!(acks.chunks.is_empty());
    }
}
