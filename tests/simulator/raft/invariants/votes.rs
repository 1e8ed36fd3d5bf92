//! A node votes once in a term, across all of its processes and whatever befell its disk; and one that
//! may not take part gives no vote.

use crate::raft::oracle::Oracle;
use crate::raft::seat::Turn;

pub(crate) fn check(oracle: &mut Oracle, node: u64, turn: &Turn) -> Result<(), String> {
    for (term, to) in &turn.votes {
        if turn.is_in_doubt {
            return Err(format!("votes: node {node}, which is in doubt, votes for {to} in {term}"));
        }
        match oracle.votes.insert((node, *term), *to) {
            Some(other) if other != *to => {
                return Err(format!(
                    "votes: node {node} votes for {other} and {to} in term {term}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
