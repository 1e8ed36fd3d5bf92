//! The harness of the system tests: brokers, clients, seeds, disks that lose power.

#![allow(dead_code, reason = "a harness offers more than the tests of one moment use")]

pub(crate) mod access;
pub(crate) mod broker;
pub(crate) mod bytes;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod history;
pub(crate) mod packets;
pub(crate) mod random;
pub(crate) mod traffic;
pub(crate) mod transport;
pub(crate) mod wall_clock;
pub(crate) mod web_socket;

use std::time::Duration;

/// How long the tests wait for what must happen; only a broken broker takes that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// How long the tests wait to see that something does not happen.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// How often to do something: what the environment variable says, or the usual number.
pub(crate) fn count_of(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}
