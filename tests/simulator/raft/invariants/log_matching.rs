//! All nodes show the same log: what one has shown as committed, every other shows at the same
//! index, and nothing between.

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

/// Whether the batch is known already.
pub(crate) fn check(
    oracle: &Oracle,
    before: Index,
    index: Index,
    known: &Known,
) -> Result<bool, String> {
    if let Some((skipped, _)) = oracle.batches.range(before + 1..index).next() {
        return Err(format!("log matching: batch {skipped} is missing before {index}"));
    }
    match oracle.batches.get(&index) {
        Some(first) if first == known => Ok(true),
        Some(first) => Err(format!("log matching: {index} is {first:?} and {known:?}")),
        None if index < oracle.last() => {
            Err(format!("log matching: {index} was no batch, now it is {known:?}"))
        }
        None => Ok(false),
    }
}
