//! A start of a node is declared lost once, and only if anything of it counted.

use ledgermq_core::offset::Index;

use crate::raft::oracle::{Known, Oracle};

pub(crate) fn check(oracle: &mut Oracle, index: Index, known: &Known) -> Result<(), String> {
    if !known.is_admitted {
        return Ok(());
    }
    for (node, start) in &known.lost {
        let wrote = oracle.admitted.keys().any(|id| (id.node, id.start) == (*node, *start));
        if !wrote || !oracle.lost.insert((*node, *start)) {
            return Err(format!("lost once: {index} declares start {start} of node {node} lost"));
        }
    }
    Ok(())
}
