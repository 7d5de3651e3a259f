//! The time of day for output formats, in UTC: there is no time zone in a gateway's smallest system.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 24 * 3600;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;

/// A moment, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    since_epoch: Duration,
    year: u64,
    month: u64,
    day: u64,
}

impl Moment {
    /// Now. A clock before 1970 counts as 1970.
    pub fn now() -> Self {
        Self::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// From the time since 1970.
    pub fn new(since_epoch: Duration) -> Self {
        // Years that begin in March have the leap day as their last: no table of months is needed.
        let days = since_epoch.as_secs() / DAY_S + EPOCH_DAYS;
        let era = days / ERA_DAYS;
        let of_era = days % ERA_DAYS;
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Self {
            since_epoch,
            year: era * 400 + year + u64::from(month <= 2),
            month,
            day: of_year - (153 * march + 2) / 5 + 1,
        }
    }

    /// Seconds and nanoseconds since 1970.
    pub fn unix(&self) -> String {
        format!("{}.{:09}", self.since_epoch.as_secs(), self.nanos())
    }

    /// ISO 8601 to the second.
    pub fn iso(&self) -> String {
        format!("{}T{}+0000", self.date(), self.time())
    }

    /// ISO 8601 to the microsecond.
    pub fn iso_micros(&self) -> String {
        format!("{}T{}.{:06}+0000", self.date(), self.time(), self.nanos() / 1000)
    }

    fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn time(&self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{hour:02}:{minute:02}:{second:02}")
    }

    fn clock(&self) -> (u64, u64, u64) {
        let seconds = self.since_epoch.as_secs() % DAY_S;
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn nanos(&self) -> u32 {
        self.since_epoch.subsec_nanos()
    }

    /// What strftime(3) makes of `%` and this letter, for the letters that scripts use; N is nanoseconds.
    pub fn part(&self, letter: char) -> Option<String> {
        let (hour, minute, second) = self.clock();
        Some(match letter {
            'Y' => format!("{:04}", self.year),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'H' => format!("{hour:02}"),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'F' => self.date(),
            'T' => self.time(),
            's' => self.since_epoch.as_secs().to_string(),
            'N' => format!("{:09}", self.nanos()),
            'z' => "+0000".to_owned(),
            'Z' => "UTC".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_what_the_calendar_says() {
        for (seconds, iso) in [
            (0, "1970-01-01T00:00:00+0000"),
            (951_782_399, "2000-02-28T23:59:59+0000"),
            (951_782_400, "2000-02-29T00:00:00+0000"),
            (951_868_800, "2000-03-01T00:00:00+0000"),
            (1_470_818_943, "2016-08-10T08:49:03+0000"),
            (4_107_542_400, "2100-03-01T00:00:00+0000"),
        ] {
            assert_eq!(Moment::new(Duration::from_secs(seconds)).iso(), iso);
        }
        let moment = Moment::new(Duration::new(1, 5_000));
        assert_eq!(moment.unix(), "1.000005000");
        assert_eq!(moment.iso_micros(), "1970-01-01T00:00:01.000005+0000");
        assert_eq!(moment.part('N').as_deref(), Some("000005000"));
        assert_eq!(moment.part('q'), None);
    }
}
