//! What a run measured.

use std::fmt;

use serde::Serialize;

/// Result of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Messages delivered in the measured time.
    pub(crate) delivered: u64,
    /// Delivered messages per second.
    pub(crate) messages_per_second: f64,
    /// From the write of the message to its reading by the subscriber, in microseconds.
    pub(crate) latency_us_p50: u64,
    /// As above.
    pub(crate) latency_us_p99: u64,
    /// Messages sent and not delivered when the run ended.
    pub(crate) lost: u64,
    /// Messages delivered twice.
    pub(crate) duplicates: u64,
    /// Messages delivered after a later one.
    pub(crate) out_of_order: u64,
    /// CPU time of the broker per delivered message, in microseconds, if its process is known.
    pub(crate) broker_cpu_us_per_message: Option<f64>,
    /// Resident memory of the broker at the end, in bytes.
    pub(crate) broker_resident_bytes: Option<u64>,
    /// CPU time of the load generator per delivered message, in microseconds.
    pub(crate) own_cpu_us_per_message: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:.0} messages/s ({} delivered)", self.messages_per_second, self.delivered)?;
        let (p50, p99) = (self.latency_us_p50, self.latency_us_p99);
        writeln!(f, "latency p50 {p50} us, p99 {p99} us")?;
        let (lost, twice, late) = (self.lost, self.duplicates, self.out_of_order);
        writeln!(f, "lost {lost}, duplicates {twice}, out of order {late}")?;
        if let (Some(cpu), Some(bytes)) =
            (self.broker_cpu_us_per_message, self.broker_resident_bytes)
        {
            writeln!(f, "broker: {cpu:.2} us CPU per message, {} KiB resident", bytes >> 10)?;
        }
        write!(f, "load generator: {:.2} us CPU per message", self.own_cpu_us_per_message)
    }
}

/// Latencies in buckets that are at most 1/16 wide.
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; 64 * 16], total: 0 }
    }

    pub(super) fn record(&mut self, micros: u64) {
        let at = bucket(micros).min(self.counts.len() - 1);
        self.counts[at] += 1;
        self.total += 1;
    }

    /// The value below which `percent` of all lie.
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let rank = self.total * percent / 100;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > rank {
                return value(at);
            }
        }
        0
    }
}

/// 16 buckets for each power of two.
fn bucket(micros: u64) -> usize {
    if micros < 16 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let part = (micros >> (power - 4)) & 15;
    (power as usize - 3) * 16 + usize::try_from(part).unwrap_or(0)
}

fn value(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 16 { bucket } else { (16 + bucket % 16) << (bucket / 16 - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_within_a_sixteenth() {
        for micros in [0, 1, 15, 16, 17, 100, 1000, 12_345, 1_000_000] {
            let low = value(bucket(micros));
            assert!(low <= micros && micros - low <= micros / 16, "{micros} in {low}");
        }
    }
}
