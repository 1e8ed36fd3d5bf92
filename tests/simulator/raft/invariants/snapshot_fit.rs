//! Whoever goes on from a snapshot has there what the log folded from the beginning gives.

use ledgermq_core::offset::Index;

use crate::raft::fold::State;
use crate::raft::oracle::Oracle;

pub(crate) fn check(oracle: &Oracle, index: Index, state: &State) -> Result<(), String> {
    let mut expected = State::default();
    for (at, known) in oracle.batches.range(..=index) {
        expected.apply(*at, known);
    }
    if *state == expected {
        return Ok(());
    }
    Err(format!("snapshot fit: at {index} it has {state:?}, the log gives {expected:?}"))
}
