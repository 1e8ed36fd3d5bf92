//! What must hold after every step, one file each.

mod admitted_once;
mod committed_kept;
mod log_matching;
mod lost_once;
mod one_leader;
mod snapshot_fit;
mod time;
mod votes;

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

/// A node shows a batch that is committed there, behind the last one that it showed.
pub(crate) fn on_committed(
    oracle: &mut Oracle,
    before: Index,
    index: Index,
    known: Known,
) -> Result<(), String> {
    if log_matching::check(oracle, before, index, &known)? {
        return Ok(());
    }
    admitted_once::check(oracle, index, &known)?;
    time::check(oracle, index, &known)?;
    lost_once::check(oracle, index, &known)?;
    oracle.batches.insert(index, known);
    Ok(())
}

pub(crate) use committed_kept::{
    Halves, check_committed as on_commit, check_shown as on_shown_first,
};
pub(crate) use one_leader::check as on_leader;
pub(crate) use snapshot_fit::check as on_snapshot;
pub(crate) use votes::check as on_votes;
