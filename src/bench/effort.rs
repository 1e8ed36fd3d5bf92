//! What a run cost: the brokers and the generator itself.

use std::fmt;

use serde::Serialize;

use super::clock::Instant;
use super::float;
use crate::process::{Usage, usage};

/// Part of a core beyond which the load generator may be the bottleneck.
const SATURATED: f64 = 0.95;

/// Usage of the brokers and of the generator at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    at: Instant,
    brokers: Option<Usage>,
    own: Option<Usage>,
}

impl Snapshot {
    /// Usage now. The brokers' is known only if that of every process is.
    pub(super) fn take(pids: &[u32]) -> Self {
        let add = |sum: Usage, one: Usage| Usage {
            cpu: sum.cpu + one.cpu,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
        };
        let all: Option<Vec<Usage>> = pids.iter().map(|pid| usage(*pid)).collect();
        let brokers = all.and_then(|all| all.into_iter().reduce(add));
        Self { at: Instant::now(), brokers, own: usage(std::process::id()) }
    }

    /// What was spent since `earlier` on `count` of whatever is counted.
    pub(super) fn since(&self, earlier: &Self, count: u64) -> Effort {
        let spent = |before: Option<Usage>, after: Option<Usage>| {
            let cpu = after?.cpu.saturating_sub(before?.cpu);
            Some(cpu.as_secs_f64() * 1e6 / float(count.max(1)))
        };
        let own_cpu = |usage: Option<Usage>| usage.map(|usage| usage.cpu).unwrap_or_default();
        let own = own_cpu(self.own).saturating_sub(own_cpu(earlier.own));
        let seconds = self.at.since(earlier.at).as_secs_f64().max(1e-9);
        Effort {
            own_cores: thousandths(own.as_secs_f64() / seconds),
            broker_cpu_us: spent(earlier.brokers, self.brokers).map(thousandths),
            broker_resident_bytes: self.brokers.map(|usage| usage.resident_bytes),
            own_cpu_us: thousandths(spent(earlier.own, self.own).unwrap_or_default()),
        }
    }

    /// Bytes of resident memory that the brokers took since `earlier`, by each of `count`.
    pub(super) fn bytes_since(&self, earlier: &Self, count: u64) -> Option<f64> {
        let (before, after) = (earlier.brokers?.resident_bytes, self.brokers?.resident_bytes);
        Some((float(after) - float(before)) / float(count.max(1)))
    }
}

/// To three digits behind the point; more is noise.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What each unit (a delivered message, a connection) cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// CPU time of the brokers for each, in microseconds; `None` if no process was named.
    pub(crate) broker_cpu_us: Option<f64>,
    /// Resident memory of the brokers at the end.
    pub(crate) broker_resident_bytes: Option<u64>,
    /// CPU time of the load generator for each, in microseconds.
    pub(crate) own_cpu_us: f64,
    /// Part of the one core that the load generator can use which it did use. Near 1 it is what was
    /// measured, not the brokers.
    pub(crate) own_cores: f64,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(cpu), Some(bytes)) = (self.broker_cpu_us, self.broker_resident_bytes) {
            writeln!(f, "broker: {cpu:.2} us CPU for each, {} KiB resident", bytes >> 10)?;
        }
        let Self { own_cpu_us, own_cores, .. } = self;
        write!(f, "load generator: {own_cpu_us:.2} us CPU for each, {own_cores:.2} of a core")?;
        if *own_cores > SATURATED {
            write!(f, " (it was the bottleneck: run several)")?;
        }
        Ok(())
    }
}
