//! Under a steady flow of single packets over many connections a worker naps before it asks the kernel again which sockets
//! are ready, so that it finds many at once, and lets its open chunk gather for as long: a wake-up, a chunk and a sync
//! each cost what dozens of packets cost, and are shared so. At a low rate it never waits, nor when a turn finds much
//! anyway, nor where many clients go on as soon as they are answered: those would only be slowed down.

use std::time::Duration;

/// Packets that share the price of a turn: beyond them a longer nap brings little.
const ENOUGH: u32 = 256;

/// A nap in which fewer come is not worth their waiting.
const WORTH: f64 = 16.0;

/// For how long packets are counted before the rate is said anew.
const WINDOW_US: u64 = 10_000;

/// The shortest nap. All are this long or twice that, four times, and so on, and end where a multiple of their length does:
/// workers that nap alike wake together, and one sync is enough for all of them.
const GRAIN_US: u64 = 256;

/// The longest nap, in grains.
const MOST_GRAINS: u64 = 32;

/// How much longer than a sync a nap may be. Who waits for a sync waits somewhat longer; on a fast disk a sync is cheap and
/// is done often.
const SYNCS: u64 = 16;

/// A worker of which more than one packet in so many comes from a client that goes on as soon as it is answered takes no naps:
/// such clients would be slowed down.
const EAGER_SHARE: u32 = 4;

/// What a turn found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// Packets.
    pub packets: u32,
    /// Reads of connections that had been quiet for long.
    pub sparse: u32,
}

/// What a worker does at the end of a turn of a steady flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nap {
    /// Until when it sleeps.
    pub until_us: u64,
    /// Whether the open chunk leaves before; else it gathers on.
    pub leaves: bool,
}

/// The naps of one worker. Times are of the clock that all workers share.
#[derive(Debug)]
pub(super) struct Naps {
    most_us: u64,
    /// When the count began, and of how many sparse reads it is.
    since_us: u64,
    reads: u32,
    /// The other packets in it.
    eager: u32,
    /// Sparse reads in a second, over the window before; 0 while others make up much of the flow.
    rate: f64,
    /// When the open chunk leaves.
    due_us: u64,
}

impl Naps {
    /// None is longer than `most`.
    pub fn new(most: Duration) -> Self {
        Self {
            most_us: u64::try_from(most.as_micros()).unwrap_or(u64::MAX),
            since_us: 0,
            reads: 0,
            eager: 0,
            rate: 0.0,
            due_us: 0,
        }
    }

    /// The open chunk was to leave and could not: it is due at the end of the next turn.
    pub fn is_still_due(&mut self) {
        self.due_us = 0;
    }

    /// A turn ends at `now_us`, where a sync takes about `sync_us`. `None`: no nap, and nothing waits.
    pub fn after(&mut self, now_us: u64, found: Found, sync_us: u64) -> Option<Nap> {
        let Some(end_us) = self.next_end(now_us, found, sync_us) else {
            self.due_us = 0;
            return None;
        };
        let leaves = now_us >= self.due_us;
        if leaves {
            self.due_us = end_us;
        }
        Some(Nap {
            until_us: self.due_us.min(end_us),
            leaves,
        })
    }

    fn next_end(&mut self, now_us: u64, found: Found, sync_us: u64) -> Option<u64> {
        self.reads = self.reads.saturating_add(found.sparse);
        let eager = found.packets.saturating_sub(found.sparse);
        self.eager = self.eager.saturating_add(eager);
        let counted_us = now_us.saturating_sub(self.since_us);
        if counted_us >= WINDOW_US {
            let is_much = self.eager > self.reads / EAGER_SHARE;
            self.rate = match is_much {
                true => 0.0,
                false => f64::from(self.reads) * 1e6 / counted_us as f64,
            };
            self.since_us = now_us;
            (self.reads, self.eager) = (0, 0);
        }
        if found.packets >= ENOUGH || self.rate <= 0.0 {
            return None;
        }
        let enough_us = f64::from(ENOUGH) * 1e6 / self.rate;
        let most_us = self.most_us.min(sync_us.saturating_mul(SYNCS));
        let grains = most_us.min(enough_us as u64) / GRAIN_US;
        let length_us = GRAIN_US << grains.min(MOST_GRAINS).checked_ilog2()?;
        let is_worth_it = self.rate * length_us as f64 >= WORTH * 1e6;
        is_worth_it.then_some((now_us / length_us + 1) * length_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC_US: u64 = 400;

    fn found(count: u32) -> Found {
        Found {
            packets: count,
            sparse: count,
        }
    }

    fn naps(most_ms: u64) -> Naps {
        Naps::new(Duration::from_millis(most_ms))
    }

    fn until(naps: &mut Naps, now_us: u64, found: Found, sync_us: u64) -> Option<u64> {
        naps.after(now_us, found, sync_us).map(|nap| nap.until_us)
    }

    /// Turns each millisecond that find `count`, for so long that the rate is known.
    fn flow(naps: &mut Naps, count: u32) -> Option<Nap> {
        let mut last = None;
        for now_ms in 1..=40 {
            last = naps.after(now_ms * 1_000, found(count), SYNC_US);
        }
        last
    }

    #[test]
    fn a_steady_flow_of_many_is_gathered() {
        let mut naps = naps(5);
        let until_us = 40_960; // 4,096 us from one to the next
        let nap = |leaves| Some(Nap { until_us, leaves });
        assert_eq!(flow(&mut naps, 10), nap(false));
        assert_eq!(
            naps.after(40_500, found(1), SYNC_US),
            nap(false),
            "acknowledgements came"
        );
        let next = Nap {
            until_us: until_us + 4_096,
            leaves: true,
        };
        assert_eq!(naps.after(until_us, found(40), SYNC_US), Some(next));
        naps.is_still_due();
        assert_eq!(naps.after(41_000, found(2), SYNC_US), Some(next));
        // The first that come after a pause go on at once.
        assert_eq!(naps.after(500_000, found(1), SYNC_US), None);
    }

    #[test]
    fn nobody_waits_at_a_low_rate() {
        let mut naps = naps(5);
        assert_eq!(naps.after(1_000, found(200), SYNC_US), None, "a burst is no flow");
        assert_eq!(flow(&mut naps, 1), None, "four would share it");
        assert_eq!(flow(&mut naps, 0), None);
    }

    #[test]
    fn a_turn_that_finds_much_needs_no_nap() {
        let mut naps = naps(5);
        assert_eq!(flow(&mut naps, 1_000), None);
        assert!(flow(&mut self::naps(5), 200).is_some_and(|nap| nap.until_us <= 40_000 + 1_024));
    }

    #[test]
    fn who_goes_on_when_answered_is_not_made_to_wait() {
        let mut naps = naps(5);
        for now_ms in 1..=30 {
            let eager = Found {
                packets: 20,
                sparse: 0,
            };
            assert_eq!(naps.after(now_ms * 1_000, eager, SYNC_US), None);
        }
    }

    #[test]
    fn nor_are_those_beside_others_unless_they_are_few() {
        for (eager, naps_at_all) in [(1, true), (8, false)] {
            let mut naps = naps(5);
            let mut last = None;
            for now_ms in 1..=40 {
                let mixed = Found {
                    packets: 20 + eager,
                    sparse: 20,
                };
                last = naps.after(now_ms * 1_000, mixed, SYNC_US);
            }
            assert_eq!(last.is_some(), naps_at_all, "{eager} of them");
        }
    }

    #[test]
    fn workers_wake_together() {
        let (mut one, mut other) = (naps(5), naps(5));
        flow(&mut one, 10);
        flow(&mut other, 14);
        let end_us = until(&mut one, 41_100, found(10), SYNC_US);
        assert!(end_us.is_some());
        assert_eq!(until(&mut other, 44_900, found(14), SYNC_US), end_us);
    }

    #[test]
    fn the_disk_and_the_configuration_bound_a_nap() {
        let length = |most_ms, sync_us| {
            let mut naps = naps(most_ms);
            flow(&mut naps, 40);
            Some(until(&mut naps, 40_960, found(40), sync_us)? - 40_960)
        };
        assert_eq!(length(5, 400), Some(4_096));
        assert_eq!(length(5, 40), Some(512));
        assert_eq!(length(5, 0), None, "a log in memory");
        assert_eq!(length(2, 400), Some(1_024));
        assert_eq!(length(0, 400), None);
        assert_eq!(
            length(1_000, 1_000_000),
            Some(4_096),
            "more would be more than enough"
        );
    }
}
