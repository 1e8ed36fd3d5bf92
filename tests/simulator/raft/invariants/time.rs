//! The log's time never falls, across leaders, too; and what was pushed when any node said *it is
//! this late* is not stamped with less.

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

pub(crate) fn check(oracle: &Oracle, index: Index, known: &Known) -> Result<(), String> {
    let last = oracle.batches.values().next_back().map(|last| last.time).unwrap_or_default();
    if known.time < last {
        return Err(format!("time: {index} has {:?} behind {last:?}", known.time));
    }
    let floors = known
        .numbers
        .iter()
        .filter_map(|number| oracle.floors.get(&(known.producer, *number)).copied());
    if let Some(floor) = floors.max().filter(|floor| known.time < *floor) {
        return Err(format!("time: {index} has {:?}, but it was {floor:?} before", known.time));
    }
    Ok(())
}
