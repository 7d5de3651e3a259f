//! How full the log is, as the workers see it: two words that the log's writer sets and that they read at each publish.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Whether the log takes more. It has one writer, the log.
#[derive(Debug, Default)]
pub struct Pressure {
    full: AtomicBool,
    /// Rises when the log gets to more than half of its bound, and again when it falls below: odd while it is above.
    turns: AtomicU64,
}

impl Pressure {
    /// No room: what is on the bus waits.
    pub fn is_full(&self) -> bool {
        self.full.load(Acquire)
    }

    /// While more than half of the log's bound is in use: a number that is another one the next time. Each connection
    /// may add a stated share during one episode.
    #[inline]
    pub fn episode(&self) -> Option<u64> {
        let turns = self.turns.load(Acquire);
        (turns % 2 == 1).then_some(turns)
    }

    /// Says how the log stands: `full` when it can't take the next chunk, `pressed` when more than half of its bound is
    /// in use. Called by the log only.
    pub fn set(&self, full: bool, pressed: bool) {
        if self.episode().is_some() != pressed {
            self.turns.fetch_add(1, Release);
        }
        self.full.store(full, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_episode_has_a_number_of_its_own() {
        let pressure = Pressure::default();
        assert_eq!((pressure.is_full(), pressure.episode()), (false, None));
        pressure.set(false, true);
        let first = pressure.episode();
        assert!(first.is_some());
        pressure.set(true, true);
        assert_eq!((pressure.is_full(), pressure.episode()), (true, first));
        pressure.set(false, false);
        assert_eq!((pressure.is_full(), pressure.episode()), (false, None));
        pressure.set(false, true);
        assert!(pressure.episode().is_some());
        assert_ne!(pressure.episode(), first);
    }
}
