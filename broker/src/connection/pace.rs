//! How fast a client may go: a bucket for its PUBLISHes and one for its bytes, each with what a second brings. One that is
//! empty stops the reading, and says until when.

/// What may still come now, in thousandths.
#[derive(Debug)]
struct Bucket {
    /// A second's worth; 0: no bound.
    rate: u64,
    left: i64,
    filled_ms: u64,
}

impl Bucket {
    fn new(rate: u64, now_ms: u64) -> Self {
        Self {
            rate,
            left: full(rate),
            filled_ms: now_ms,
        }
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now_ms;
        let more = i64::try_from(passed_ms.saturating_mul(self.rate)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(more).min(full(self.rate));
    }

    /// Milliseconds until one more may come.
    fn wait_ms(&self) -> u64 {
        let missing = 1_000i64.saturating_sub(self.left);
        match u64::try_from(missing) {
            Ok(missing) if missing > 0 && self.rate > 0 => missing.div_ceil(self.rate),
            _ => 0,
        }
    }

    /// May go below nothing: a packet is greater than what is left, and is paid for afterwards.
    fn take(&mut self, count: usize) {
        if self.rate > 0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.left = self.left.saturating_sub(count.saturating_mul(1_000));
        }
    }
}

fn full(rate: u64) -> i64 {
    i64::try_from(rate.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// The buckets of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Bucket,
    bytes: Bucket,
}

impl Pace {
    /// At most so many PUBLISHes and bytes a second; 0: no bound. `None` when there is neither.
    pub fn new(max_messages: u32, max_bytes: usize, now_ms: u64) -> Option<Box<Self>> {
        (max_messages > 0 || max_bytes > 0).then(|| {
            Box::new(Self {
                messages: Bucket::new(max_messages.into(), now_ms),
                bytes: Bucket::new(max_bytes as u64, now_ms),
            })
        })
    }

    /// Takes a packet of `bytes` in: `Err` is when it may come, if that is not now.
    pub fn take(&mut self, is_publish: bool, bytes: usize, now_ms: u64) -> Result<(), u64> {
        self.messages.fill(now_ms);
        self.bytes.fill(now_ms);
        let message_ms = if is_publish { self.messages.wait_ms() } else { 0 };
        let wait_ms = message_ms.max(self.bytes.wait_ms());
        if wait_ms > 0 {
            return Err(now_ms.saturating_add(wait_ms));
        }
        self.messages.take(usize::from(is_publish));
        self.bytes.take(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_one_after_the_other() {
        let mut pace = Pace::new(4, 0, 1_000).unwrap();
        for _ in 0..4 {
            assert_eq!(pace.take(true, 99, 1_000), Ok(()));
        }
        assert_eq!(pace.take(true, 99, 1_000), Err(1_250));
        assert_eq!(pace.take(false, 99, 1_000), Ok(()), "only publishes count");
        assert_eq!(pace.take(true, 99, 1_249), Err(1_250));
        assert_eq!(pace.take(true, 99, 1_250), Ok(()));
        assert_eq!(pace.take(true, 99, 1_250), Err(1_500));
        // A pause saves up a second's worth, not more.
        (0..4).for_each(|_| assert_eq!(pace.take(true, 99, 90_000), Ok(())));
        assert_eq!(pace.take(true, 99, 90_000), Err(90_250));
    }

    #[test]
    fn a_packet_greater_than_a_seconds_worth_is_paid_for_afterwards() {
        let mut pace = Pace::new(0, 100, 0).unwrap();
        assert_eq!(pace.take(true, 350, 0), Ok(()));
        assert_eq!(pace.take(false, 2, 0), Err(2_510));
        assert_eq!(pace.take(false, 2, 2_510), Ok(()));
    }

    #[test]
    fn over_a_long_time_the_rate_is_kept() {
        let mut pace = Pace::new(7, 0, 0).unwrap();
        let mut now_ms = 0;
        for _ in 0..700 {
            while let Err(at_ms) = pace.take(true, 1, now_ms) {
                assert!(at_ms > now_ms);
                now_ms = at_ms;
            }
        }
        assert!((98_900..=99_100).contains(&now_ms), "{now_ms}");
        assert!(Pace::new(0, 0, 0).is_none());
    }
}
