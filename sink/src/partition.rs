//! The partition of a key, as Kafka's Java client computes it (pure).

/// The partition of `key` in a topic of `partitions` partitions: murmur2 without its sign, modulo their number, as
/// Java's client does it for every key that is present. 0 when there are none.
pub fn partition_for(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

/// murmur2, 32 bits, with the seed that Kafka uses.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut h = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn murmur2_is_javas() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key), expected as u32, "{key:?}");
        }
    }

    #[test]
    fn no_partition_is_no_panic() {
        assert_eq!(partition_for(b"d7", 0), 0);
    }

    proptest! {
        #[test]
        fn a_partition_is_one_of_the_topics(key in proptest::collection::vec(any::<u8>(), 0..40), n in 1u32..1000) {
            prop_assert!(partition_for(&key, n) < n);
        }
    }
}
