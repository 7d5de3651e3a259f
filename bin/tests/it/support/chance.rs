//! Numbers by chance that can be had again: all of a run come from one seed, which is printed.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The run's seed: FOREBAY_SEED, or another one each time.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = std::env::var("FOREBAY_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            since.as_millis() as u64
        });
        eprintln!("FOREBAY_SEED={seed}");
        seed
    })
}

/// A source of numbers (SplitMix64).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// One of the run's sources.
    pub fn new(source: u64) -> Self {
        Self(seed() ^ source.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A time from a hundredth of `most` to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(0.01 + 0.99 * (self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}
