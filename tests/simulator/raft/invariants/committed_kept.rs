//! What is committed is on the disks of most voters, where a power cut leaves it; a disk that was damaged
//! may lack it. With `os-cache` it need not be there yet.
//!
//! Judged when somebody commits it, not when it is shown: who has a vote changes when a change is
//! applied, and what stands behind it may be committed in the same step by the voters before it, however
//! much that is. A new leader does so with all that the one before left behind.

use std::collections::BTreeMap;

use ledgermq_core::offset::Index;

use crate::raft::oracle::Oracle;
use crate::raft::seat::Seat;

/// Who has a vote; before a change of several votes is finished, who had one before as well.
pub(crate) type Halves = [Vec<u64>; 2];

/// Somebody knows everything up to `committed` to be so after its turn, in which who has a vote went from
/// the one to the other. Of either it takes a majority of both halves.
pub(crate) fn check_committed(
    oracle: &mut Oracle,
    seats: &[Seat],
    (is_one_damaged, is_cached): (bool, bool),
    voters: [&Halves; 2],
    committed: Index,
) -> Result<(), String> {
    let fresh = oracle.committed + 1..=committed;
    oracle.committed = oracle.committed.max(committed);
    if is_cached {
        return Ok(());
    }
    for index in fresh {
        let kept = |half: &Vec<u64>| kept(seats, half, index) + usize::from(is_one_damaged);
        let is_half = |half: &Vec<u64>| half.is_empty() || kept(half) > half.len() / 2;
        if !voters.iter().any(|halves| halves.iter().all(is_half)) {
            let kept = voters.map(|halves| halves.each_ref().map(kept));
            return Err(format!(
                "committed kept: {index} is on the disks of {kept:?} of {voters:?}, before and after"
            ));
        }
    }
    Ok(())
}

/// `at` shows the batch at `index` before all others.
pub(crate) fn check_shown(
    oracle: &Oracle,
    seats: &[Seat],
    is_cached: bool,
    at: usize,
    index: Index,
) -> Result<(), String> {
    if index > oracle.committed {
        return Err(format!("committed kept: {index} is shown, and nobody has committed it"));
    }
    let disk = &seats[at].disk;
    // Whoever shows it has it, or had it before a byte of it was flipped; with it all that was written
    // before a crash.
    if is_cached || disk.has_purged(index) || disk.synced_term(index).is_some() {
        return Ok(());
    }
    Err(format!("committed kept: {index} is shown by a node that has not synced it"))
}

/// On how many of their disks the same entry is.
fn kept(seats: &[Seat], voters: &[u64], index: Index) -> usize {
    let (mut purged, mut by_term) = (0, BTreeMap::<u64, usize>::new());
    for seat in seats.iter().filter(|seat| voters.contains(&seat.id)) {
        if seat.disk.has_purged(index) {
            purged += 1;
        } else if let Some(entry) = seat.disk.durable(index) {
            *by_term.entry(entry.term).or_default() += 1;
        }
    }
    purged + by_term.values().max().copied().unwrap_or(0)
}
