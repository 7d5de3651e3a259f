//! When publishes are due: an open loop, so that a broker that holds back does not make the load smaller.

/// A fixed rate dealt out to devices in turn. Times are nanoseconds since the start of publishing.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Nanoseconds between two publishes of all devices; none: as fast as the broker takes them.
    interval_ns: Option<f64>,
    devices: u64,
}

impl Schedule {
    /// `rate` publishes per second over so many devices; 0: flat out.
    pub fn new(rate: f64, devices: u64) -> Self {
        Self {
            interval_ns: (rate > 0.0).then(|| 1e9 / rate),
            devices: devices.max(1),
        }
    }

    /// Whether there is no rate to keep to.
    pub fn is_flat_out(&self) -> bool {
        self.interval_ns.is_none()
    }

    /// Publishes due of all devices at a time.
    pub fn due_of_all(&self, now_ns: u64) -> u64 {
        self.interval_ns
            .map_or(u64::MAX, |interval| (now_ns as f64 / interval) as u64 + 1)
    }

    /// Publishes due of one device when `all` are due.
    pub fn due_of(&self, device: u64, all: u64) -> u64 {
        if all == u64::MAX {
            return all;
        }
        all.saturating_sub(device).div_ceil(self.devices)
    }

    /// When a device's publish is due; none when there is no rate.
    pub fn due_at(&self, device: u64, sequence: u64) -> Option<u64> {
        self.interval_ns
            .map(|interval| ((sequence * self.devices + device) as f64 * interval) as u64)
    }

    /// When the next publish of all falls due.
    pub fn next_due(&self, all: u64) -> Option<u64> {
        self.interval_ns.map(|interval| (all as f64 * interval) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publish_falls_due_once_and_at_the_time_that_is_told() {
        let schedule = Schedule::new(1000.0, 3);
        for millisecond in 0..50u64 {
            let now = millisecond * 1_000_000 + 10;
            let all = schedule.due_of_all(now);
            assert_eq!(all, millisecond + 1);
            let each: Vec<u64> = (0..3).map(|device| schedule.due_of(device, all)).collect();
            assert_eq!(each.iter().sum::<u64>(), all);
            for (device, due) in each.iter().enumerate().filter(|(_, due)| **due > 0) {
                assert!(schedule.due_at(device as u64, due - 1).unwrap() <= now);
                assert!(schedule.due_at(device as u64, *due).unwrap() > now);
            }
        }
    }

    #[test]
    fn flat_out_is_always_due() {
        let schedule = Schedule::new(0.0, 3);
        assert_eq!(schedule.due_of(2, schedule.due_of_all(0)), u64::MAX);
        assert_eq!(schedule.due_at(0, 5), None);
    }
}
