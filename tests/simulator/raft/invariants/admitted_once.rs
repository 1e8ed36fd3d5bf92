//! Every message of a producer is admitted once and in order, whatever is sent again, and none is
//! left out before one that is admitted.

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

pub(crate) fn check(oracle: &Oracle, index: Index, known: &Known) -> Result<(), String> {
    if !known.is_admitted {
        return Ok(());
    }
    let mut earlier = oracle.batches.values().rev();
    let last = earlier
        .find(|other| other.is_admitted && other.producer == known.producer)
        .map_or((0, 0), |other| {
            (other.sequence, other.numbers.last().copied().unwrap_or_default())
        });
    if known.sequence != last.0 + 1 {
        return Err(format!("admitted once: {index} is {known:?} behind sequence {}", last.0));
    }
    let expected = (last.1 + 1..).take(known.numbers.len());
    if !known.numbers.iter().copied().eq(expected) {
        return Err(format!("admitted once: {index} is {known:?} behind number {}", last.1));
    }
    Ok(())
}
