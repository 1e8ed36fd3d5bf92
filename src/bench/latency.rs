//! Latencies, and what is told of them.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::clock::nanos;
use super::float;

/// Longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);
/// Decimal digits that are kept of a latency.
const DIGITS: u8 = 3;

/// Latencies in an HDR histogram: every one is counted, to three digits, up to an hour.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS);
        Self(histogram.expect("bounds that are constant and valid"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(nanos(latency).max(1));
    }

    /// The values of interest; `None` if nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let micros = |nanos: u64| (float(nanos) / 100.0).round() / 10.0;
        let at = |percent| micros(self.0.value_at_percentile(percent));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            min: micros(self.0.min()),
            mean: (self.0.mean() / 100.0).round() / 10.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: micros(self.0.max()),
        })
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    /// How many were counted.
    pub(crate) count: u64,
    /// The shortest.
    pub(crate) min: f64,
    /// Their mean.
    pub(crate) mean: f64,
    /// Half were not longer.
    pub(crate) p50: f64,
    /// As above, 90 of 100.
    pub(crate) p90: f64,
    /// As above, 99 of 100.
    pub(crate) p99: f64,
    /// As above, 999 of 1,000.
    pub(crate) p99_9: f64,
    /// As above, 9,999 of 10,000.
    pub(crate) p99_99: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p99_9, max, .. } = self;
        write!(f, "p50 {p50} us, p90 {p90} us, p99 {p99} us, p99.9 {p99_9} us, max {max} us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_true_to_three_digits() {
        let mut latencies = Latencies::new();
        assert!(latencies.percentiles().is_none());
        for micros in 1..=10_000 {
            latencies.record(Duration::from_micros(micros));
        }
        let told = latencies.percentiles().expect("some were recorded");
        assert_eq!(told.count, 10_000);
        for (value, expected) in [(told.p50, 5000.0), (told.p99, 9900.0), (told.max, 10_000.0)] {
            assert!((value - expected).abs() <= expected / 1000.0, "{value} for {expected}");
        }
    }

    #[test]
    fn what_is_longer_than_the_longest_counts_as_that() {
        let mut latencies = Latencies::new();
        latencies.record(LONGEST * 2);
        let told = latencies.percentiles().expect("one was recorded");
        assert!((told.max / 3.6e9 - 1.0).abs() < 0.002, "{}", told.max);
    }
}
