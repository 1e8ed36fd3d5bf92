//! Many seeds, on all cores.

use std::fmt::Debug;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// After so many seeds a sweep says how far it is.
const PROGRESS_SEEDS: u64 = 5_000;

/// What is swept over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    /// What a seed makes, for the summary.
    pub(crate) layer: &'static str,
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) threads: u64,
    /// All seeds that fail are listed; else the first one ends it, with its whole report.
    pub(crate) keeps_going: bool,
}

/// What several threads share.
struct Shared<T> {
    sum: T,
    failed: Vec<(u64, String)>,
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

impl Sweep {
    /// What the environment says; `seeds` if it does not say how many.
    pub(crate) fn of(layer: &'static str, variable: &str, seeds: u64) -> Self {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get) as u64;
        Self {
            layer,
            first: number("LEDGERMQ_SIM_FIRST").unwrap_or(1),
            seeds: number(variable).unwrap_or(seeds),
            threads: number("LEDGERMQ_SIM_THREADS").unwrap_or_else(cores).max(1),
            keeps_going: number("LEDGERMQ_SIM_KEEP_GOING").is_some(),
        }
    }

    /// Runs all seeds and answers the sum of what they came to.
    ///
    /// # Panics
    ///
    /// If one fails.
    #[expect(clippy::disallowed_methods, reason = "how long it took is said, and decides nothing")]
    pub(crate) fn run<T: Default + Debug + Send>(
        self,
        run: impl Fn(u64) -> Result<T, String> + Sync,
        add: fn(&mut T, &T),
    ) -> T {
        let began = Instant::now();
        let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Mutex::new(Shared { sum: T::default(), failed: Vec::new() });
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= self.seeds {
                    break;
                }
                let seed = self.first + at;
                let result = run(seed);
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(came) => add(&mut shared.sum, &came),
                    Err(report) => {
                        println!("{}: {}", self.layer, report.lines().next().unwrap_or_default());
                        shared.failed.push((seed, report));
                        is_over.fetch_or(!self.keeps_going, Ordering::Relaxed);
                    }
                }
                if (at + 1).is_multiple_of(PROGRESS_SEEDS) {
                    let (done, failed) = (at + 1, shared.failed.len());
                    println!("{}: {done} seeds, {failed} failed", self.layer);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let Shared { sum, mut failed } =
            shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let seconds = began.elapsed().as_secs_f64();
        let Self { layer, first, seeds, threads, .. } = self;
        println!(
            "{layer}: {seeds} seeds from {first}, {} failed, {seconds:.0} s on {threads} threads, \
             {:.1} a second: {sum:?}",
            failed.len(),
            seeds as f64 / seconds,
        );
        failed.sort_unstable();
        let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
        match &failed[..] {
            [] => sum,
            [(_, report), ..] if !self.keeps_going => panic!("{report}"),
            _ => panic!("{layer}: {} of {seeds} seeds failed: {numbers:?}", numbers.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::run::panic_text;

    const SWEEP: Sweep =
        Sweep { layer: "a test", first: 3, seeds: 100, threads: 4, keeps_going: true };

    #[test]
    fn every_seed_is_run_once() {
        let sum = SWEEP.run(Ok, |sum: &mut u64, seed| *sum += seed);
        assert_eq!(sum, (3..103).sum::<u64>());
    }

    #[test]
    fn all_failures_are_named_or_the_first_is_told_in_full() {
        let fails = |sweep: Sweep| {
            let run = move |seed| match seed {
                50 | 70 => Err(format!("seed {seed}\nin full")),
                _ => Ok(()),
            };
            let result = catch_unwind(|| sweep.run(run, |(), ()| ()));
            panic_text(&*result.expect_err("two seeds fail"))
        };
        let all = fails(SWEEP);
        assert!(all.ends_with("2 of 100 seeds failed: [50, 70]"), "{all}");
        let first = fails(Sweep { threads: 1, keeps_going: false, ..SWEEP });
        assert!(first.ends_with("seed 50\nin full"), "{first}");
    }
}
