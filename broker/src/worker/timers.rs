//! The worker's coarse timers: which session to look at, and when. A packet never touches them: a session that has
//! moved its deadline is put back when its old one fires.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Deadlines of sessions, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Timers {
    /// Looks at session `slot` (of `generation`) again at `deadline_ms`.
    pub fn arm(&mut self, deadline_ms: u64, slot: u32, generation: u32) {
        self.heap.push(Reverse((deadline_ms, slot, generation)));
    }

    /// Deadlines that stand.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// The next session whose deadline has passed, with that deadline: one that the session was not armed for last is
    /// to be ignored.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(u64, u32, u32)> {
        let Reverse((deadline_ms, _, _)) = *self.heap.peek()?;
        if deadline_ms > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_sessions_come_out_earliest_first() {
        let mut timers = Timers::default();
        timers.arm(30, 3, 0);
        timers.arm(10, 1, 0);
        timers.arm(20, 2, 0);
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(20), Some((10, 1, 0)));
        assert_eq!(timers.pop_due(20), Some((20, 2, 0)));
        assert_eq!(timers.pop_due(20), None);
    }
}
