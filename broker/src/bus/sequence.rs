//! The reader's order: each worker's chunks once, in the order of their numbers (pure).

use std::collections::VecDeque;

use super::Chunk;

/// What became of a chunk that came over the bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is the next of its worker and stands in line for [`Sequencer::next`].
    InLine,
    /// It has been here before: its worker is told again how far the log is.
    Before,
    /// One before it is missing: its worker must go back to the first that is not in the log. Said once each time that
    /// the worker has gone through its chunks and one was missing again.
    Gap,
    /// One before it is missing and its worker knows.
    Skipped,
    /// No such worker.
    Stranger,
}

/// Takes chunks as they come, gives them out in order. While a worker's chunk is missing, nothing is taken of the other
/// workers: theirs are held until that worker has gone back and has sent again all that was seen of it, so that the
/// order between workers is kept too. Each chunk is held once, so what is held is bounded by what is in flight.
pub(super) struct Sequencer {
    lanes: Vec<Lane>,
    line: VecDeque<Chunk>,
    held: VecDeque<Chunk>,
    gaps: usize,
}

#[derive(Clone, Default)]
struct Lane {
    /// The number that is taken next.
    next: u64,
    gap: Option<Gap>,
    /// Its chunks among those held.
    held: usize,
}

#[derive(Clone, Copy)]
struct Gap {
    /// The number that came last. A lower or equal one shows that the worker began anew.
    last: u64,
    /// The gap is closed when all up to this number have come.
    up_to: u64,
}

impl Sequencer {
    pub fn new(workers: usize) -> Self {
        Self {
            lanes: vec![Lane::default(); workers],
            line: VecDeque::new(),
            held: VecDeque::new(),
            gaps: 0,
        }
    }

    /// Takes a chunk that came over the bus.
    pub fn offer(&mut self, chunk: Chunk) -> Seen {
        let Some(lane) = self.lanes.get_mut(usize::from(chunk.worker())) else {
            return Seen::Stranger;
        };
        let number = chunk.number();
        if number < lane.next {
            if let Some(gap) = &mut lane.gap {
                gap.last = number;
            }
            return Seen::Before;
        }
        if number == lane.next {
            self.take(chunk);
            return Seen::InLine;
        }
        let before = lane.gap.replace(Gap {
            last: number,
            up_to: lane.gap.map_or(number, |gap| gap.up_to.max(number)),
        });
        self.gaps += usize::from(before.is_none());
        if before.is_none_or(|gap| number <= gap.last) {
            Seen::Gap
        } else {
            Seen::Skipped
        }
    }

    fn take(&mut self, chunk: Chunk) {
        let Some(lane) = self.lanes.get_mut(usize::from(chunk.worker())) else {
            return;
        };
        lane.next += 1;
        // A worker that goes back passes the others, but not its own chunks that are held.
        if self.gaps > 0 && (lane.gap.is_none() || lane.held > 0) {
            lane.held += 1;
            self.held.push_back(chunk);
        } else {
            self.line.push_back(chunk);
        }
        match &mut lane.gap {
            Some(gap) if lane.next <= gap.up_to => gap.last = lane.next - 1,
            Some(_) => {
                lane.gap = None;
                self.gaps -= 1;
            }
            None => {}
        }
        if self.gaps == 0 && !self.held.is_empty() {
            self.line.append(&mut self.held);
            self.lanes.iter_mut().for_each(|lane| lane.held = 0);
        }
    }

    /// The next chunk for the log.
    pub fn next(&mut self) -> Option<Chunk> {
        self.line.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ChunkBuilder;
    use proptest::prelude::*;

    fn chunk(worker: u16, number: u64) -> Chunk {
        ChunkBuilder::new(4096).finish(worker, number)
    }

    fn line(sequencer: &mut Sequencer) -> Vec<(u16, u64)> {
        std::iter::from_fn(|| sequencer.next())
            .map(|c| (c.worker(), c.number()))
            .collect()
    }

    #[test]
    fn a_gap_is_said_once_a_pass_and_stops_all_workers() {
        let mut s = Sequencer::new(2);
        assert_eq!(s.offer(chunk(0, 0)), Seen::InLine);
        assert_eq!(line(&mut s), [(0, 0)]);
        assert_eq!(s.offer(chunk(0, 2)), Seen::Gap);
        assert_eq!(s.offer(chunk(0, 3)), Seen::Skipped);
        assert_eq!(s.offer(chunk(1, 0)), Seen::InLine);
        assert_eq!(line(&mut s), [], "nothing is taken while one is missing");
        assert_eq!(s.offer(chunk(0, 2)), Seen::Gap, "1 was lost a second time");
        assert_eq!(s.offer(chunk(0, 1)), Seen::InLine);
        assert_eq!(s.offer(chunk(0, 2)), Seen::InLine);
        assert_eq!(line(&mut s), [(0, 1), (0, 2)], "3 was seen before what is held");
        assert_eq!(s.offer(chunk(0, 3)), Seen::InLine);
        assert_eq!(line(&mut s), [(0, 3), (1, 0)]);
        assert_eq!(s.offer(chunk(0, 1)), Seen::Before);
        assert_eq!(s.offer(chunk(2, 0)), Seen::Stranger);
    }

    #[test]
    fn a_worker_that_goes_back_does_not_pass_its_own_chunks() {
        let mut s = Sequencer::new(2);
        assert_eq!(s.offer(chunk(0, 1)), Seen::Gap);
        assert_eq!(s.offer(chunk(1, 0)), Seen::InLine);
        assert_eq!(s.offer(chunk(1, 2)), Seen::Gap);
        assert_eq!(s.offer(chunk(1, 1)), Seen::InLine);
        assert_eq!(line(&mut s), []);
        assert_eq!(s.offer(chunk(0, 0)), Seen::InLine);
        assert_eq!(s.offer(chunk(0, 1)), Seen::InLine);
        assert_eq!(line(&mut s), [(0, 0), (0, 1)]);
        assert_eq!(s.offer(chunk(1, 2)), Seen::InLine);
        assert_eq!(line(&mut s), [(1, 0), (1, 1), (1, 2)]);
    }

    proptest! {
        /// Whatever comes, what is given out is each worker's numbers 0, 1, 2, ... and never one twice.
        #[test]
        fn what_is_given_out_is_in_order(came in proptest::collection::vec((0u16..3, 0u64..6), 0..200)) {
            let mut s = Sequencer::new(3);
            let mut next = [0u64; 3];
            for (worker, number) in came {
                s.offer(chunk(worker, number));
                prop_assert!(s.line.len() + s.held.len() <= 18);
                for (worker, number) in line(&mut s) {
                    prop_assert_eq!(number, next[usize::from(worker)]);
                    next[usize::from(worker)] += 1;
                }
            }
            // Once each worker sends all again, all comes out.
            for (worker, number) in (0..3).flat_map(|w| (0..6).map(move |n| (w, n))) {
                s.offer(chunk(worker, number));
            }
            for (worker, _) in line(&mut s) {
                next[usize::from(worker)] += 1;
            }
            prop_assert_eq!(next, [6, 6, 6]);
        }
    }
}
