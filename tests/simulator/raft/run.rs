//! The tests of the raft layer: many seeds, one seed, the same seed twice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::raft::world::{Tally, World};
use crate::run::panic_text;
use crate::sweep::{Sweep, number};

/// Seeds of a normal run.
const SEEDS: u64 = 500;

/// Runs a seed: hash of its trace, and what happened.
fn run(seed: u64, is_loud: bool) -> Result<(u64, Tally), String> {
    let mut world = World::new(seed, is_loud);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|panic| Err(panic_text(&*panic)));
    let Err(fault) = result else { return Ok((world.trace.hash(), world.tally)) };
    let tail: Vec<_> = world.trace.tail().map(String::as_str).collect();
    Err(format!(
        "seed {seed}: {fault}\n--- options\n{:#?}\n--- trace\n{}\n--- seed {seed}, step {}: {fault}\n\
         repeat: LEDGERMQ_SIM_RAFT_SEED={seed} cargo test --test simulator -- --nocapture one_raft_seed",
        world.options,
        tail.join("\n"),
        world.tally.steps,
    ))
}

/// `LEDGERMQ_SIM_RAFT_SEEDS` and `LEDGERMQ_SIM_FIRST` choose others.
#[test]
fn every_raft_seed_keeps_the_invariants() {
    let sweep = Sweep::of("raft alone", "LEDGERMQ_SIM_RAFT_SEEDS", SEEDS);
    let seeds = sweep.seeds;
    let sum = sweep.run(|seed| run(seed, false).map(|(_, tally)| tally), Tally::add);
    assert!(sum.crashes > 0 && sum.partitions > 0 && sum.void > 0, "{sum:?}");
    assert!(sum.leaders > seeds, "{sum:?}");
    assert!(seeds < 100 || (sum.damages > 0 && sum.repairs > 0), "{sum:?}");
    assert!(seeds < 100 || sum.replaced > 0, "{sum:?}");
    // One seed in a few purges what a node lacks.
    assert!(seeds < 100 || (sum.snapshots > 0 && sum.torn > 0), "{sum:?}");
}

/// `LEDGERMQ_SIM_RAFT_SEED` names it; its whole trace is printed.
#[test]
fn one_raft_seed() {
    let Some(seed) = number("LEDGERMQ_SIM_RAFT_SEED") else { return };
    if let Err(report) = run(seed, true) {
        let summary: Vec<_> = report.lines().rev().take(2).collect();
        panic!("{}\n{}", summary[1], summary[0]);
    }
}

/// What they found depends on what was drawn; the tests of the parts hold it for good.
#[test]
fn raft_seeds_that_found_something_keep_the_invariants() {
    for seed in [4083, 7603] {
        run(seed, false).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn the_same_raft_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 44, 555] {
        let once = run(seed, false).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(once, run(seed, false).unwrap_or_else(|report| panic!("{report}")), "{seed}");
    }
}
