//! What is shown as committed is on the disks of most voters, where a power cut leaves it; a disk that
//! was damaged may lack it. With `os-cache` it need not be there yet.

use ledgermq_core::offset::Index;
use ledgermq_log::cluster::Members;

use crate::raft::seat::Seat;

/// What was committed with the members before a change may not be on most disks of those after it.
const SETTLED: Index = 100;

/// `at` shows the batch at `index` before all others.
pub(crate) fn check(
    seats: &[Seat],
    (is_one_damaged, is_cached): (bool, bool),
    members: &Members,
    at: usize,
    index: Index,
) -> Result<(), String> {
    let voters: Vec<u64> = match members.is_founded() {
        true if index <= members.index + SETTLED => return Ok(()),
        true => members.voters().collect(),
        // A cluster that grows and is not founded yet is one node.
        false if seats.iter().any(|seat| !seat.is_fixed) => return Ok(()),
        false => seats.iter().map(|seat| seat.id).collect(),
    };
    if seats[at].disk.has_purged(index) || is_cached {
        return Ok(());
    }
    // Whoever shows it has it, or had it before a byte of it was flipped; with it all that was written
    // before a crash.
    let Some(shown) = seats[at].disk.synced_term(index) else {
        return Err(format!("committed kept: {index} is shown by a node that has not synced it"));
    };
    let has_it = |seat: &&Seat| {
        let is_same = |entry: raft::eraftpb::Entry| entry.term == shown;
        let has_it = seat.disk.has_purged(index) || seat.disk.durable(index).is_some_and(is_same);
        voters.contains(&seat.id) && has_it
    };
    let kept = seats.iter().filter(has_it).count() + usize::from(is_one_damaged);
    if kept <= voters.len() / 2 {
        return Err(format!("committed kept: {index} is on {kept} of {} disks", voters.len()));
    }
    Ok(())
}
