//! When the log is read on (pure). While nobody waits for Kafka, what comes is left to gather for a while, so that each
//! partition gets one large batch instead of many small ones: most of what a record costs at a low rate is not its own,
//! but its batch's and that of the threads that are woken for it. The first record after a pause goes at once.

use std::time::{Duration, Instant};

/// Bytes of the log that are worth a round: where so much comes sooner, it is read sooner.
const ROUND_BYTES: usize = 256 << 10;

/// A time over which nothing is said of the rate at which bytes come.
const PAUSE: Duration = Duration::from_secs(1);

/// The rounds in which the log is read.
#[derive(Debug)]
pub(super) struct Gather {
    /// From the beginning of a round to that of the next one at most.
    longest: Duration,
    /// Since when the round in progress lasts, and the one before it lasted.
    began: Instant,
    before: Instant,
    /// Bytes that the round in progress has brought.
    bytes: usize,
    /// When the next one is due.
    next: Instant,
}

impl Gather {
    pub(super) fn new(longest: Duration, now: Instant) -> Self {
        // As after a pause.
        let before = now.checked_sub(PAUSE).unwrap_or(now);
        Self {
            longest,
            began: before,
            before,
            bytes: 0,
            next: now,
        }
    }

    /// A chunk was read.
    pub(super) fn took(&mut self, bytes: usize, now: Instant) {
        if self.bytes == 0 {
            self.before = std::mem::replace(&mut self.began, now);
        }
        self.bytes += bytes.max(1);
    }

    /// Whether a round is in progress: what is there is read without a wait.
    pub(super) fn is_reading(&self) -> bool {
        self.bytes > 0
    }

    /// All that there was is read: the round is over, if there was one.
    pub(super) fn reached_end(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        let since = (self.began - self.before).min(PAUSE);
        let wait = since.mul_f64(ROUND_BYTES as f64 / bytes as f64).min(self.longest);
        self.next = self.began + wait;
    }

    /// The rest is over, perhaps sooner than was meant.
    pub(super) fn rested(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// How long to rest before the next round.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(25);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_after_a_pause_goes_at_once_and_what_follows_gathers() {
        let start = Instant::now();
        let mut gather = Gather::new(LONGEST, start);
        assert_eq!(gather.rest(start), Duration::ZERO);
        let first = start + ms(500);
        gather.took(200, first);
        assert!(gather.is_reading());
        gather.reached_end();
        assert!(!gather.is_reading());
        assert_eq!(gather.rest(first), LONGEST);
        assert_eq!(gather.rest(first + ms(20)), ms(5));
        // Nothing more came: the next one goes at once again.
        gather.reached_end();
        assert_eq!(gather.rest(first + ms(25)), Duration::ZERO);
    }

    #[test]
    fn where_much_comes_it_is_read_sooner() {
        let start = Instant::now();
        let mut gather = Gather::new(LONGEST, start);
        let mut now = start;
        // 25 MB a second.
        for _ in 0..20 {
            let rest = gather.rest(now).max(ms(1));
            now += rest;
            gather.took(rest.as_micros() as usize * 25, now);
            gather.reached_end();
        }
        let rest = gather.rest(now);
        assert!(rest > ms(9) && rest < ms(12), "{rest:?}");
    }

    #[test]
    fn a_rest_is_counted_from_the_beginning_of_its_round() {
        let start = Instant::now();
        let mut gather = Gather::new(LONGEST, start);
        gather.took(100, start + ms(100));
        gather.took(100, start + ms(110));
        gather.reached_end();
        assert_eq!(gather.rest(start + ms(115)), ms(10));
        gather.rested(start + ms(116));
        assert_eq!(gather.rest(start + ms(116)), Duration::ZERO);
    }

    #[test]
    fn without_a_time_there_is_no_rest() {
        let start = Instant::now();
        let mut gather = Gather::new(Duration::ZERO, start);
        gather.took(100, start + ms(1));
        gather.reached_end();
        assert_eq!(gather.rest(start + ms(1)), Duration::ZERO);
    }
}
