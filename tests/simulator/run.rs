//! The tests: many seeds, one seed, the same seed twice, the seeds that once found something.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::rng::Rng;
use crate::sweep::{Sweep, number};
use crate::world::{Tally, World};

/// Seeds of a normal run: of one node, of several.
const SEEDS: u64 = 300;
const CLUSTER_SEEDS: u64 = 500;

/// What a seed is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    One,
    /// Three nodes, mostly.
    Several,
}

impl Size {
    fn nodes(self, seed: u64) -> u64 {
        match self {
            Self::One => 1,
            // By a chance of its own: what one node draws from a seed does not depend on it.
            Self::Several => *Rng::new(!seed).pick(&[3, 3, 3, 3, 3, 3, 2, 5]),
        }
    }

    fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::One => ("LEDGERMQ_SIM_SEED", "one_seed"),
            Self::Several => ("LEDGERMQ_SIM_CLUSTER_SEED", "one_cluster_seed"),
        }
    }
}

/// What is known of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    hash: u64,
    lines: u64,
    tally: Tally,
}

/// Runs a seed. A failure comes as text: options, tail of the trace, what was broken.
fn run(size: Size, seed: u64, is_loud: bool) -> Result<Outcome, String> {
    let mut world = World::new(seed, size.nodes(seed), is_loud);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|panic| Err(panic_text(&*panic)));
    let Err(fault) = result else {
        let (hash, lines) = (world.trace.hash(), world.trace.lines());
        return Ok(Outcome { hash, lines, tally: world.tally });
    };
    let tail: Vec<_> = world.trace.tail().map(String::as_str).collect();
    let (variable, test) = size.test();
    Err(format!(
        "seed {seed}: {fault}\n--- options\n{:#?}\n--- trace\n{}\n--- seed {seed}, step {}: {fault}\n\
         repeat: {variable}={seed} cargo test --test simulator -- --nocapture {test}",
        world.options,
        tail.join("\n"),
        world.tally.steps,
    ))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("panic: {}", text.unwrap_or_default())
}

/// `LEDGERMQ_SIM_SEEDS` and `LEDGERMQ_SIM_FIRST` choose others; `LEDGERMQ_SIM_HASHES` prints the hash
/// of each trace, to compare two builds.
#[test]
fn every_seed_keeps_the_invariants() {
    run_all(Size::One, Sweep::of("one node", "LEDGERMQ_SIM_SEEDS", SEEDS));
}

/// `LEDGERMQ_SIM_CLUSTER_SEEDS` chooses another number; the rest is as above.
#[test]
fn every_cluster_seed_keeps_the_invariants() {
    let sweep = Sweep::of("several nodes", "LEDGERMQ_SIM_CLUSTER_SEEDS", CLUSTER_SEEDS);
    let sum = run_all(Size::Several, sweep);
    let is_broad = sum.joined > 0 && sum.left > 0 && sum.snapshots > 0 && sum.late > 0;
    assert!(sweep.seeds < 100 || is_broad, "{sum:?}");
}

fn run_all(size: Size, sweep: Sweep) -> Tally {
    let prints_hashes = number("LEDGERMQ_SIM_HASHES").is_some();
    let run = |seed| {
        let outcome = run(size, seed, false)?;
        if prints_hashes {
            println!("seed {seed}: {:016x} of {} lines", outcome.hash, outcome.lines);
        }
        Ok(outcome.tally)
    };
    let sum = sweep.run(run, Tally::add);
    assert!(sum.crashes > 0 && sum.resumed > 0 && sum.void > 0 && sum.received > 0, "{sum:?}");
    sum
}

/// `LEDGERMQ_SIM_SEED` names it; its whole trace is printed.
#[test]
fn one_seed() {
    run_one(Size::One);
}

/// `LEDGERMQ_SIM_CLUSTER_SEED` names it; its whole trace is printed.
#[test]
fn one_cluster_seed() {
    run_one(Size::Several);
}

fn run_one(size: Size) {
    let Some(seed) = number(size.test().0) else { return };
    if let Err(report) = run(size, seed, true) {
        let summary: Vec<_> = report.lines().rev().take(2).collect();
        panic!("{}\n{}", summary[1], summary[0]);
    }
}

/// Seeds that found a bug when they were run first (`README.md` says which). What they do changes
/// with the simulator, so that each is worth as much as any other now; they cost little.
#[test]
fn seeds_that_found_something_keep_the_invariants() {
    for seed in [7, 59, 20, 4, 542, 539, 788, 27, 70, 72, 5, 3, 1604, 100_255] {
        run(Size::One, seed, false).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn cluster_seeds_that_found_something_keep_the_invariants() {
    run(Size::Several, 28_434, false).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 44, 555] {
        run_twice(Size::One, seed);
    }
}

#[test]
fn the_same_cluster_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 44, 55] {
        run_twice(Size::Several, seed);
    }
}

fn run_twice(size: Size, seed: u64) {
    let once = run(size, seed, false).unwrap_or_else(|report| panic!("{report}"));
    let again = run(size, seed, false).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(once, again, "seed {seed}");
    assert!(once.lines > 0);
}
