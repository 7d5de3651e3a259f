//! What is told once while it lasts, and once when it is over, however often it is looked at.

use std::time::{Duration, Instant};

/// Least time between two tellings, for what comes and goes.
const TELL: Duration = Duration::from_secs(30);

/// What was told of a trouble.
#[derive(Debug, Default)]
pub(super) struct Told {
    at: Option<Instant>,
    said: Option<String>,
}

impl Told {
    /// Whether this trouble is to be told now: it is new, or another one than what was told.
    pub(super) fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let soon = self.at.is_some_and(|at| now - at < TELL);
        if soon || self.said.as_deref() == Some(why) {
            return false;
        }
        (self.at, self.said) = (Some(now), Some(why.to_owned()));
        true
    }

    /// The trouble is over; true when it was told.
    pub(super) fn is_over(&mut self) -> bool {
        self.said.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_and_one_that_comes_and_goes_now_and_then() {
        let mut told = Told::default();
        let start = Instant::now();
        assert!(!told.is_over());
        let after = |seconds| start + Duration::from_secs(seconds);
        let lines = (0..1000).filter(|second| told.is_news("full", after(*second)));
        assert_eq!(lines.count(), 1);
        assert!(told.is_news("read only", after(1000)), "another one");
        assert!(told.is_over() && !told.is_over());
        let flapping = (1001..1301).filter(|second| {
            let news = told.is_news("full", after(*second));
            told.is_over();
            news
        });
        assert_eq!(flapping.count(), 10);
    }
}
