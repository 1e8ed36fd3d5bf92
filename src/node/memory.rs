//! Whether the node is short of memory: what is refused then, until it is not.
//!
//! Every pool has a bound of its own that `limits.memory_max` sets; this is the last line, for what no
//! bound foresaw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ledgermq_api::readiness::Check;
use ledgermq_gateway::gateway::{Pressure, StatsReader};
use ledgermq_log::Log;
use ledgermq_projections::reader::Reader;

use crate::process;

/// Memory of a session, an owed message, a retained one besides its bytes, and an entry of the log.
const SESSION_BYTES: u64 = 1 << 10;
const OWED_BYTES: u64 = 16;
const RETAINED_BYTES: u64 = 256;
const ENTRY_BYTES: u64 = 88;

/// In percent of the memory that may be used: from where on what is refused, and below what it is
/// taken again.
const PUBLISHES_REFUSED: u64 = 90;
const SESSIONS_REFUSED: u64 = 95;
const TAKEN_AGAIN: u64 = 85;
/// In percent, too: while what the node holds is less than this, the rest of what is resident is free,
/// and the allocator has not given it back. It is used again before there is more.
const HELD_AT_LEAST: u64 = 50;
/// The same once something is refused.
const HELD_AGAIN: u64 = 40;
/// All of it.
const ALL: u128 = 100;

/// What the process uses, and what it knows that it holds.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    resident: u64,
    held: u64,
}

/// How short of memory the node was when it was last looked, for all to see.
#[derive(Clone, Debug, Default)]
pub(super) struct Level(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pressure: AtomicU8,
    /// How often each level above none was entered.
    entered: [AtomicU64; 2],
}

impl Level {
    /// 0, 1 or 2, as [`Pressure`].
    pub(super) fn get(&self) -> u8 {
        self.0.pressure.load(Ordering::Relaxed)
    }

    /// How often messages, and sessions, began to be refused.
    pub(super) fn entered(&self) -> [u64; 2] {
        self.0.entered.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// What `/readyz` says.
    pub(super) fn check(&self) -> Check {
        match self.get() {
            0 => Check::ready("memory"),
            _ => Check::failed("memory", "nearly limits.memory_max is in use"),
        }
    }

    fn set(&self, before: Pressure, now: Pressure) {
        self.0.pressure.store(now as u8, Ordering::Relaxed);
        for level in before as usize..now as usize {
            self.0.entered[level].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Looks at the memory of the process.
pub(super) struct Watch {
    max: u64,
    log: Log,
    views: Reader,
    gateway: StatsReader,
    pressure: Pressure,
    level: Level,
}

impl Watch {
    pub(super) fn new(
        max: u64,
        log: Log,
        views: Reader,
        gateway: StatsReader,
        level: Level,
    ) -> Self {
        Self { max, log, views, gateway, pressure: Pressure::None, level }
    }

    /// How short of memory the node is now, if that has changed; said aloud.
    pub(super) fn look(&mut self) -> Option<Pressure> {
        let sample = self.sample()?;
        let before = self.pressure;
        self.pressure = pressure(before, sample, self.max);
        if self.pressure == before {
            return None;
        }
        self.level.set(before, self.pressure);
        let (resident, held) = (sample.resident >> 20, sample.held >> 20);
        let max = self.max >> 20;
        match self.pressure {
            Pressure::None => {
                tracing::info!(resident, held, max, "memory (MiB): everything is taken again")
            }
            Pressure::Publishes if before == Pressure::None => tracing::warn!(
                resident,
                held,
                max,
                "memory (MiB): messages are refused until there is more"
            ),
            Pressure::Sessions => tracing::warn!(
                resident,
                held,
                max,
                "memory (MiB): sessions and subscriptions are refused, too"
            ),
            Pressure::Publishes => {}
        }
        Some(self.pressure)
    }

    fn sample(&self) -> Option<Sample> {
        let resident = process::usage(std::process::id())?.resident_bytes;
        let connections = self
            .gateway
            .read()
            .workers
            .iter()
            .fold(0, |held, worker| held + worker.held.bytes() as u64);
        let status = self.log.status();
        let views = &self.views;
        let sessions = views.persistent_sessions() * SESSION_BYTES;
        let retained = views.retained_bytes() + views.retained_messages() * RETAINED_BYTES;
        let owed = views.owed_messages() * OWED_BYTES;
        let log = status.waiting_bytes + status.entries * ENTRY_BYTES;
        let held = connections + log + sessions + retained + owed;
        Some(Sample { resident, held })
    }
}

fn pressure(before: Pressure, sample: Sample, max: u64) -> Pressure {
    let percent = |bytes: u64| u128::from(bytes) * 100 / u128::from(max.max(1));
    let (resident, held) = (percent(sample.resident), percent(sample.held));
    // Lower once it has begun, so that it does not come and go.
    let held_at_least = match before {
        Pressure::None => HELD_AT_LEAST,
        Pressure::Publishes | Pressure::Sessions => HELD_AGAIN,
    };
    // Beyond the whole it is no memory that the allocator merely keeps, or nobody can tell.
    let is_kept = held < u128::from(held_at_least) && resident < ALL;
    if is_kept || resident < u128::from(TAKEN_AGAIN) {
        return Pressure::None;
    }
    let now = match resident {
        resident if resident >= u128::from(SESSIONS_REFUSED) => Pressure::Sessions,
        resident if resident >= u128::from(PUBLISHES_REFUSED) => Pressure::Publishes,
        _ => Pressure::None,
    };
    // Between the bounds it stays as it was; sessions come in again before messages do.
    let stays = match before {
        Pressure::Sessions if resident < u128::from(PUBLISHES_REFUSED) => Pressure::Publishes,
        before => before,
    };
    now.max(stays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_refused_first_and_sessions_later_and_both_until_there_is_much_less() {
        let mut level = Pressure::None;
        let expected = [
            (89, Pressure::None),
            (90, Pressure::Publishes),
            (94, Pressure::Publishes),
            (95, Pressure::Sessions),
            (91, Pressure::Sessions),
            (89, Pressure::Publishes),
            (86, Pressure::Publishes),
            (84, Pressure::None),
            (86, Pressure::None),
        ];
        for (resident, after) in expected {
            level = pressure(level, Sample { resident, held: 60 }, 100);
            assert_eq!(level, after, "{resident}");
        }
    }

    #[test]
    fn memory_that_the_allocator_keeps_is_no_shortage() {
        let full = |held| pressure(Pressure::Sessions, Sample { resident: 99, held }, 100);
        assert_eq!(full(60), Pressure::Sessions);
        assert_eq!(full(45), Pressure::Sessions, "it does not come and go");
        assert_eq!(full(39), Pressure::None);
        let beyond = pressure(Pressure::None, Sample { resident: 100, held: 1 }, 100);
        assert_eq!(beyond, Pressure::Sessions, "nobody foresaw what that is");
    }
}
