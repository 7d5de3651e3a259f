//! How much waits in this worker's sessions: a walk over them, a few at each tick, so that nobody waits for it.

use super::state::State;

/// Ticks that one walk takes at most.
const TICKS: usize = 50;

/// Sessions that are looked at in one tick at least.
const AT_LEAST: usize = 256;

/// A walk under way.
#[derive(Debug, Default)]
pub(super) struct Census {
    next: usize,
    queued: usize,
    queued_bytes: usize,
    inflight: usize,
}

impl State {
    /// Looks at some sessions, and tells the sums once all were looked at.
    pub(super) fn take_census(&mut self) {
        let all = self.slots.capacity();
        let census = &mut self.census;
        let end = census.next + (all / TICKS).max(AT_LEAST);
        for session in (census.next..end.min(all)).filter_map(|at| self.slots.get(at)) {
            census.queued += session.session.queued();
            census.queued_bytes += session.session.queued_bytes();
            census.inflight += session.session.inflight();
        }
        census.next = end;
        if end >= all {
            let done = std::mem::take(census);
            self.counts.queued.set(done.queued as u64);
            self.counts.queued_bytes.set(done.queued_bytes as u64);
            self.counts.inflight.set(done.inflight as u64);
        }
    }
}
