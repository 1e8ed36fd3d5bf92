//! Durations of the log's durable writes, as a histogram.

use std::sync::{Mutex, PoisonError};

use ledgermq_api::metrics::FSYNC_SECONDS;
use ledgermq_log::Buckets;
use metrics::{Histogram, histogram};

use super::float;

/// The handle, and what it was told already.
pub(super) struct Fsyncs {
    seconds: Histogram,
    told: Mutex<Buckets>,
}

impl Fsyncs {
    pub(super) fn new() -> Self {
        Self { seconds: histogram!(FSYNC_SECONDS), told: Mutex::default() }
    }

    /// Tells what has come since the last time.
    pub(super) fn gather(&self, now: &Buckets) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let counts: Vec<u64> = now
            .counts
            .iter()
            .zip(told.counts)
            .map(|(now, told)| now.saturating_sub(told))
            .collect();
        let micros = now.sum_micros.saturating_sub(told.sum_micros);
        for (seconds, count) in spread(&counts, micros) {
            self.seconds.record_many(seconds, usize::try_from(count).unwrap_or(usize::MAX));
        }
        *told = *now;
    }
}

/// Values for the durations of each bucket, with the right sum: within their buckets all of them lie
/// equally far between the bounds.
fn spread(counts: &[u64], micros: u64) -> impl Iterator<Item = (f64, u64)> {
    let bounds = |at: usize| {
        let lower = if at == 0 { 0 } else { Buckets::BOUNDS_MICROS[at - 1] };
        (lower, Buckets::BOUNDS_MICROS.get(at).copied().unwrap_or(2 * lower))
    };
    let sum = |of: fn((u64, u64)) -> u64| -> f64 {
        counts.iter().enumerate().map(|(at, count)| float(count * of(bounds(at)))).sum()
    };
    let (least, width) = (sum(|(lower, _)| lower), sum(|(lower, upper)| upper - lower));
    let part = ((float(micros) - least) / width).clamp(f64::EPSILON, 1.0);
    let values = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let seconds = move |at| {
        let (lower, upper) = bounds(at);
        (float(lower) + part * float(upper - lower)) / 1e6
    };
    values.map(move |(at, count)| (seconds(at), *count)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stay_in_their_buckets_and_sum_up() {
        let mut counts = [0; 13];
        (counts[0], counts[3], counts[12]) = (2, 5, 1);
        let told: Vec<_> = spread(&counts, 100 + 3_500 + 6_000_000).collect();
        assert_eq!(told.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 5, 1]);
        assert!(told[0].0 > 0.0 && told[0].0 <= 0.000_1, "{told:?}");
        assert!(told[1].0 > 0.000_5 && told[1].0 <= 0.001, "{told:?}");
        assert!(told[2].0 > 5.0, "{told:?}");
        let sum: f64 = told.iter().map(|(seconds, count)| seconds * float(*count)).sum();
        assert!((sum - 6.003_6).abs() < 1e-6, "{sum}");
        assert_eq!(spread(&[0; 13], 0).count(), 0);
    }
}
