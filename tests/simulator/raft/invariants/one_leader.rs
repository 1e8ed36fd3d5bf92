//! At most one node leads in a term.

use crate::raft::oracle::Oracle;

pub(crate) fn check(oracle: &mut Oracle, term: u64, node: u64) -> Result<bool, String> {
    match oracle.leaders.insert(term, node) {
        None => Ok(true),
        Some(other) if other == node => Ok(false),
        Some(other) => Err(format!("one leader: {other} and {node} lead in term {term}")),
    }
}
