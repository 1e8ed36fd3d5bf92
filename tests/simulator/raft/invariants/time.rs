//! The log's time never falls, across leaders, too; and what was pushed when any node said *it is
//! this late* is not stamped with less, unless a process that had heard it is gone: what a quorum has
//! heard is in its memory.

use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

/// Within it a leader knows that a process is gone of which it has heard.
const MEMORY: Duration = Duration::from_secs(60);

pub(crate) fn check(oracle: &Oracle, index: Index, known: &Known) -> Result<(), String> {
    let last = oracle.batches.values().next_back().map(|last| last.time).unwrap_or_default();
    // The clocks are at most 300 seconds ahead of the true time.
    if known.time > oracle.latest {
        return Err(format!("time: {index} has {:?}, ahead of all clocks", known.time));
    }
    if known.time < last {
        return Err(format!("time: {index} has {:?} behind {last:?}", known.time));
    }
    let floors = known
        .numbers
        .iter()
        .filter_map(|number| oracle.floors.get(&(known.producer, *number)).copied())
        .filter(|(_, said)| said.since(oracle.started_at) > MEMORY)
        .map(|(floor, _)| floor);
    if let Some(floor) = floors.max().filter(|floor| known.time < *floor) {
        return Err(format!("time: {index} has {:?}, but it was {floor:?} before", known.time));
    }
    Ok(())
}
