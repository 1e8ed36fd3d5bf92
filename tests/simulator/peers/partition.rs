//! Paths that fail for a while, in all the ways in which networks fail.

use std::collections::BTreeSet;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::rng::Rng;

/// A direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What fails, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) kind: Kind,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// How it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing passes between two nodes.
    Pair(u64, u64),
    /// Nothing passes between these and the others: one node, or a minority.
    Group(BTreeSet<u64>),
    /// Nothing passes from one to the other; the way back is whole.
    OneWay(Path),
    /// Nothing passes between two nodes, then everything, in turn.
    Flapping { nodes: (u64, u64), period: Duration },
    /// So many bytes in a second pass.
    Slow { path: Path, pace: u64 },
}

impl Partition {
    /// One of those that can befall `nodes`, of which there are two at least.
    pub(crate) fn draw(nodes: &[u64], now: Timestamp, rng: &mut Rng) -> Self {
        let mut shuffled = nodes.to_vec();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, rng.size(0, at));
        }
        let (from, to) = (shuffled[0], shuffled[1]);
        let minority = rng.size(1, (shuffled.len() / 2).max(1));
        let millis = [300, 3_000, 20_000];
        let kind = match rng.below(6) {
            0 => Kind::Pair(from, to),
            1 => Kind::Group(BTreeSet::from([from])),
            2 => Kind::Group(shuffled[..minority].iter().copied().collect()),
            3 => Kind::OneWay(Path { from, to }),
            4 => {
                let period = Duration::from_millis(rng.range(20, 2_000));
                Kind::Flapping { nodes: (from, to), period }
            }
            _ => Kind::Slow { path: Path { from, to }, pace: rng.range(1_000, 1_000_000) },
        };
        let most = *rng.pick(&millis);
        let until = now.plus(Duration::from_millis(rng.range(10, most)));
        Self { kind, since: now, until }
    }

    /// Whether nothing passes on `path` at `now`.
    pub(super) fn cuts(&self, path: Path, now: Timestamp) -> bool {
        let Path { from, to } = path;
        let is_between = |a: u64, b: u64| (from, to) == (a, b) || (from, to) == (b, a);
        match &self.kind {
            Kind::Pair(a, b) => is_between(*a, *b),
            Kind::Group(group) => group.contains(&from) != group.contains(&to),
            Kind::OneWay(cut) => *cut == path,
            Kind::Flapping { nodes: (a, b), period } => {
                let turns = now.since(self.since).as_micros() / period.as_micros().max(1);
                is_between(*a, *b) && turns.is_multiple_of(2)
            }
            Kind::Slow { .. } => false,
        }
    }

    /// Bytes in a second that pass on `path`, if it is slow.
    pub(super) fn pace(&self, path: Path) -> Option<u64> {
        match &self.kind {
            Kind::Slow { path: slow, pace } if *slow == path => Some(*pace),
            _ => None,
        }
    }
}
