//! Every message of a producer is admitted once and in order, whatever is sent again, and none is
//! left out before one that is admitted.

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

pub(crate) fn check(oracle: &mut Oracle, index: Index, known: &Known) -> Result<(), String> {
    if !known.is_admitted {
        return Ok(());
    }
    let last = oracle.admitted.entry(known.producer).or_default();
    if known.sequence != last.0 + 1 {
        return Err(format!("admitted once: {index} is {known:?} behind sequence {}", last.0));
    }
    let expected = (last.1 + 1..).take(known.numbers.len());
    if !known.numbers.iter().copied().eq(expected) {
        return Err(format!("admitted once: {index} is {known:?} behind number {}", last.1));
    }
    *last = (known.sequence, known.numbers.last().copied().unwrap_or(last.1));
    Ok(())
}
