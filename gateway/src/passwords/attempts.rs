//! Who guessed too often.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use ledgermq_core::offset::Timestamp;

/// Failures of one pair of address and user name within [`WINDOW`] after which it has to wait.
const FAILURES_MAX: u32 = 10;
/// From the first failure on, failures are counted for this long.
const WINDOW: Duration = Duration::from_secs(60);
/// How long such a pair is refused without a look.
const WAIT: Duration = Duration::from_secs(60);
/// Pairs that are remembered; beyond it the oldest is forgotten.
const PAIRS_MAX: usize = 65_536;

/// Failed attempts by address and user name. Nobody waits but who failed: not the user elsewhere,
/// not other users at the address.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pairs: HashMap<Pair, Failures>,
    /// The same by age.
    ages: BTreeMap<u64, Pair>,
    next: u64,
    hasher: RandomState,
}

/// Address, of IPv6 the network of 64 bits that one subscriber has, and a hash of the name.
type Pair = (IpAddr, u64);

#[derive(Clone, Copy, Debug)]
struct Failures {
    age: u64,
    since: Timestamp,
    count: u32,
    refused_until: Timestamp,
}

impl Attempts {
    /// Whether `username` may try from `peer`.
    pub(crate) fn allows(&self, now: Timestamp, peer: IpAddr, username: &str) -> bool {
        self.pairs.get(&self.pair(peer, username)).is_none_or(|held| held.refused_until <= now)
    }

    /// Notes that an attempt failed.
    pub(crate) fn failed(&mut self, now: Timestamp, peer: IpAddr, username: &str) {
        let pair = self.pair(peer, username);
        let known = self.pairs.get(&pair).filter(|held| now < held.since.plus(WINDOW)).copied();
        let mut failures = known.unwrap_or_else(|| {
            self.forget(&pair);
            let age = self.next;
            self.next += 1;
            self.ages.insert(age, pair);
            Failures { age, since: now, count: 0, refused_until: Timestamp::default() }
        });
        failures.count += 1;
        if failures.count >= FAILURES_MAX {
            // When the wait is over it counts anew.
            failures.refused_until = now.plus(WAIT);
            failures.since = now;
            failures.count = 0;
        }
        self.pairs.insert(pair, failures);
        if self.pairs.len() > PAIRS_MAX
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.pairs.remove(&oldest);
        }
    }

    /// Notes that an attempt succeeded.
    pub(crate) fn succeeded(&mut self, peer: IpAddr, username: &str) {
        let pair = self.pair(peer, username);
        self.forget(&pair);
    }

    fn forget(&mut self, pair: &Pair) {
        if let Some(held) = self.pairs.remove(pair) {
            self.ages.remove(&held.age);
        }
    }

    fn pair(&self, peer: IpAddr, username: &str) -> Pair {
        let peer = match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => address,
        };
        (peer, self.hasher.hash_one(username))
    }
}
