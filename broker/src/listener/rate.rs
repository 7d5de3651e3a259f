//! How often one address may connect: a count for each address and second, in a table with a bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are counted within a second. Those that come when it is full are let in: who has so many addresses
/// is not to be met by counting them.
const ADDRESSES: usize = 65_536;

const WINDOW: Duration = Duration::from_secs(1);

/// The counts of one listener.
#[derive(Debug)]
pub(super) struct Rates {
    max: u32,
    since: Instant,
    counts: HashMap<IpAddr, u32, ahash::RandomState>,
}

impl Rates {
    /// At most `max` connections of one address a second; 0: no bound.
    pub fn new(max: u32, now: Instant) -> Self {
        Self {
            max,
            since: now,
            counts: HashMap::default(),
        }
    }

    /// Counts one connection of `address`: whether it is let in.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.max == 0 {
            return true;
        }
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.counts.clear();
        }
        let key = network(address);
        if self.counts.len() >= ADDRESSES && !self.counts.contains_key(&key) {
            return true;
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= self.max
    }
}

/// Whose address it is: an IPv6 host has a whole /64 to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_it_begins_anew_each_second() {
        let start = Instant::now();
        let mut rates = Rates::new(2, start);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "::ffff:192.0.2.2".parse().unwrap());
        assert_eq!(
            [rates.take(a, start), rates.take(a, start), rates.take(a, start)],
            [true, true, false]
        );
        assert!(rates.take(b, start) && rates.take("192.0.2.2".parse().unwrap(), start));
        assert!(!rates.take(b, start), "the same address as IPv6 writes it");
        assert!(rates.take(a, start + WINDOW));
        assert!(Rates::new(0, start).take(a, start));
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let start = Instant::now();
        let mut rates = Rates::new(1, start);
        assert!(rates.take("2001:db8::1".parse().unwrap(), start));
        assert!(!rates.take("2001:db8::2".parse().unwrap(), start));
        assert!(rates.take("2001:db8:0:1::1".parse().unwrap(), start));
    }

    #[test]
    fn the_table_has_a_bound() {
        let start = Instant::now();
        let mut rates = Rates::new(1, start);
        for number in 0..ADDRESSES as u32 + 1_000 {
            assert!(rates.take(std::net::Ipv4Addr::from_bits(number).into(), start));
        }
        assert_eq!(rates.counts.len(), ADDRESSES);
        assert!(!rates.take("0.0.0.1".parse().unwrap(), start));
    }
}
