//! Seeded randomness (SplitMix64): a failed run is repeated by its seed.

use std::hash::{BuildHasher, RandomState};

/// Environment variable that fixes the seed.
pub(crate) const SEED: &str = "LEDGERMQ_TEST_SEED";

/// A sequence of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by `LEDGERMQ_TEST_SEED` or anew; says how to repeat the run of that part.
    pub(crate) fn announced(part: &str) -> Self {
        let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(part) % 1_000_000_000);
        println!("seed {seed}; repeat with: {SEED}={seed} ./test.sh {part}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `range`.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }
}
