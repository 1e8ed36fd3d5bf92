//! When a follower stands for election.

/// Ticks after which a follower that hears no leader stands for election: at least these, and below
/// twice as many. Long enough for a sync that stalls for a second, short enough that the next leader
/// is there within three.
pub(super) const TICKS_MIN: usize = 12;
/// The upper bound, which is never reached.
pub(super) const TICKS_MAX: usize = 2 * TICKS_MIN;

/// The ticks that the node with this seed waits in this term. Another in each term, so that two
/// nodes that met once in an election do not meet for ever; and no game of chance, so that a seed
/// repeats it (raft-rs draws from a global generator).
pub(super) fn ticks(seed: u64, term: u64) -> usize {
    let mixed = mix(seed ^ mix(term.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    TICKS_MIN + usize::try_from(mixed % TICKS_MIN as u64).unwrap_or(0)
}

/// The ticks after which one whose candidacy somebody could not hear, who is reached now, stands again:
/// in the order in which they would have stood, a few at most.
pub(super) fn ticks_once_reached(seed: u64, term: u64) -> usize {
    1 + (ticks(seed, term) - TICKS_MIN) / 2
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_of_the_range_comes_and_no_two_nodes_always_meet() {
        let waits: Vec<usize> = (0..1000).map(|term| ticks(1, term)).collect();
        let mut seen = waits.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (TICKS_MIN..TICKS_MAX).collect::<Vec<_>>());
        let others = (0..1000).map(|term| ticks(2, term));
        let meetings = waits.iter().zip(others).filter(|(a, b)| *a == b).count();
        assert!((30..200).contains(&meetings), "{meetings} of 1000");
        let soon = (0..1000).map(|term| ticks_once_reached(1, term));
        assert_eq!(soon.collect::<std::collections::BTreeSet<_>>(), (1..=6).collect());
    }
}
