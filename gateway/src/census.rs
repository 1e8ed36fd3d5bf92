//! The connections of the node: how many there are, and who may come in.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use ledgermq_core::connection::Refusal;

use crate::clock::Clock;
use crate::config::Limits;
use crate::shard::Volume;
use crate::transport::Ended;

/// Reasons for which connections fail below MQTT.
pub const FAILURES: [&str; 4] = ["untrusted", "proxy", "tls", "websocket"];

/// Connections beyond the limits that are still taken, to answer their CONNECT; what comes beyond
/// these is closed without a word.
const TOLD_MAX: usize = 64;
/// Nanoseconds for which connections may come ahead of their rate.
const BURST: u64 = 1_000_000_000;

/// How short of memory the node is, and what it refuses therefore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Everything is taken.
    #[default]
    None,
    /// No messages are taken.
    Publishes,
    /// No sessions and subscriptions are taken, either. What was sent is still answered and settled.
    Sessions,
}

/// Connections of the node, counted by acceptor and workers.
#[derive(Debug)]
pub(crate) struct Census {
    /// Whether the workers take connections.
    pub(crate) is_open: AtomicBool,
    connections: AtomicUsize,
    connections_max: usize,
    /// Nanoseconds between connections on average; 0 is no limit.
    interval: u64,
    clock: Clock,
    /// Nanoseconds since the Unix epoch until which the rate is used up: a leaky bucket in the form of
    /// the Generic Cell Rate Algorithm.
    used_until: AtomicU64,
    refused: AtomicU64,
    pressure: AtomicU8,
    /// Connections that failed below MQTT, by the place of their reason in [`FAILURES`].
    failed: [AtomicU64; FAILURES.len()],
    /// What the workers have given to the log and the views do not show, in the order of [`Volume`].
    under_way: [AtomicU64; 3],
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It was counted in.
    Taken,
    /// It was counted in, but its CONNECT is to be answered by this.
    Told(Refusal),
    /// It is to be closed.
    Closed,
}

impl Census {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            is_open: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            connections_max: usize::try_from(limits.connections).unwrap_or(usize::MAX),
            interval: BURST.checked_div(u64::from(limits.connection_rate)).unwrap_or(0),
            clock: Clock::start(),
            used_until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            pressure: AtomicU8::new(Pressure::None as u8),
            failed: Default::default(),
            under_way: Default::default(),
        }
    }

    /// How short of memory the node is.
    pub(crate) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Publishes,
            _ => Pressure::Sessions,
        }
    }

    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// A worker that had `before` under way has `now`; answers what all of them have.
    pub(crate) fn charge(&self, before: Volume, now: Volume) -> Volume {
        let charge = |at: usize, before: u64, now: u64| {
            let change = now.wrapping_sub(before);
            match change {
                0 => self.under_way[at].load(Ordering::Relaxed),
                _ => self.under_way[at].fetch_add(change, Ordering::Relaxed).wrapping_add(change),
            }
        };
        Volume {
            sessions: charge(0, before.sessions, now.sessions),
            retained_messages: charge(1, before.retained_messages, now.retained_messages),
            retained_bytes: charge(2, before.retained_bytes, now.retained_bytes),
        }
    }

    /// Counts a connection that failed below MQTT; one that was closed did not.
    pub(crate) fn count_failed(&self, ended: &Ended) {
        let reason = match ended {
            Ended::Closed => return,
            Ended::Untrusted => 0,
            Ended::Proxy(_) => 1,
            Ended::Tls(_) => 2,
            Ended::WebSocket => 3,
        };
        self.failed[reason].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts of connections that failed below MQTT.
    pub(crate) fn failed(&self) -> [u64; FAILURES.len()] {
        self.failed.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections beyond the limits, answered so or closed at once.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Decides about a new connection, and counts it in unless it is to be closed.
    pub(crate) fn admit(&self) -> Admission {
        self.admit_at(self.clock.now().0.saturating_mul(1000))
    }

    fn admit_at(&self, nanos: u64) -> Admission {
        let most = self.connections_max.saturating_add(TOLD_MAX);
        let add = |connections: usize| (connections < most).then(|| connections + 1);
        let before = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let admission = match before {
            Err(_) => Admission::Closed,
            Ok(before) if before >= self.connections_max => Admission::Told(Refusal::Connections),
            Ok(_) if !self.is_slow_enough(nanos) => Admission::Told(Refusal::ConnectionRate),
            Ok(_) => Admission::Taken,
        };
        if admission != Admission::Taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admission
    }

    fn is_slow_enough(&self, now: u64) -> bool {
        let interval = self.interval;
        if interval == 0 {
            return true;
        }
        let add = |until: u64| {
            let from = until.max(now);
            (from + interval <= now + BURST.max(interval)).then(|| from + interval)
        };
        self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// A connection that was counted in is gone.
    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(connections: u32, connection_rate: u32) -> Census {
        Census::new(&Limits { connections, connection_rate, ..Limits::default() })
    }

    #[test]
    fn the_next_ones_are_told_and_those_behind_them_closed() {
        let census = census(2, 0);
        let admissions: Vec<_> = (0..2 + TOLD_MAX + 1).map(|_| census.admit()).collect();
        assert_eq!(admissions[..2], [Admission::Taken; 2]);
        assert_eq!(admissions[2..][..TOLD_MAX], [Admission::Told(Refusal::Connections); TOLD_MAX]);
        assert_eq!(admissions.last(), Some(&Admission::Closed));
        assert_eq!((census.connections(), census.refused()), (2 + TOLD_MAX, TOLD_MAX as u64 + 1));
        (0..=TOLD_MAX).for_each(|_| census.leave());
        assert_eq!(census.admit(), Admission::Taken);
    }

    #[test]
    fn what_the_workers_have_under_way_is_added() {
        let census = census(1, 0);
        let some = |retained_messages| Volume { retained_messages, ..Volume::default() };
        assert_eq!(census.charge(some(0), some(5)), some(5));
        assert_eq!(census.charge(some(0), some(7)), some(12));
        assert_eq!(census.charge(some(5), some(1)), some(8));
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_at_a_time() {
        let census = census(1000, 5);
        let told = Admission::Told(Refusal::ConnectionRate);
        let admissions: Vec<_> = (0..6).map(|_| census.admit_at(1)).collect();
        assert_eq!(admissions[..5], [Admission::Taken; 5]);
        assert_eq!(admissions[5], told);
        assert_eq!(census.admit_at(BURST / 5 + 1), Admission::Taken);
        assert_eq!(census.admit_at(BURST / 5 + 1), told);
        let later = (0..6).map(|_| census.admit_at(100 * BURST));
        assert_eq!(later.filter(|admission| *admission == Admission::Taken).count(), 5);
    }
}
