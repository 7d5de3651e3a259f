//! How long the writer gathers before it syncs: the fuller the log, the denser it is written. A group takes whole blocks
//! of 4 KiB, so at 2,000 small messages a second, each synced at once, the log would grow twenty times as fast as what
//! is in it: with Kafka away it would be full after minutes that was meant for hours.

use std::time::Duration;

/// From which share of the bound on, in sixteenths, how many milliseconds. Below the first nothing waits.
const STEPS: [(u64, u64); 3] = [(8, 25), (4, 10), (1, 5)];

/// The time from one sync to the next while `used` of `max` bytes are taken.
pub(super) fn time(used: u64, max: u64) -> Duration {
    let sixteenths = used / (max / 16).max(1);
    let step = STEPS.iter().find(|(from, _)| sixteenths >= *from);
    Duration::from_millis(step.map_or(0, |(_, ms)| *ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_longer() {
        const MIB: u64 = 1 << 20;
        let table = [
            (0, 0),
            (63, 0),
            (64, 5),
            (255, 5),
            (256, 10),
            (511, 10),
            (512, 25),
            (1100, 25),
        ];
        for (used, ms) in table {
            assert_eq!(
                time(used * MIB, 1024 * MIB),
                Duration::from_millis(ms),
                "{used} MiB of 1 GiB"
            );
        }
        assert_eq!(time(0, 0), Duration::ZERO);
    }
}
