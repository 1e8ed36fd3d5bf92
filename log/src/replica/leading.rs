//! Where this node's leadership begins in the log.

use crate::deriving::Leading;
use crate::replica::Replica;
use crate::store::LogStore;

impl<S: LogStore> Replica<S> {
    /// Whether there is no other member, be it a voter or not.
    pub(crate) fn is_sole_member(&self) -> bool {
        let raft = &self.raw.raft;
        raft.promotable() && raft.prs().iter().all(|(id, _)| *id == raft.id)
    }

    /// The term that this node leads, with its first entry; `known` is the last answer. To be asked
    /// in every turn: the entries of the term are looked at until the first is found.
    pub(crate) fn leading(&self, known: Option<Leading>) -> Option<Leading> {
        if !self.is_leader() {
            return None;
        }
        let term = self.term();
        if known.is_some_and(|known| known.term == term) {
            return known;
        }
        // Who wins appends an empty entry, and may have proposed others behind it by now.
        let log = &self.raw.raft.raft_log;
        let is_own = |index: u64| log.term(index).is_ok_and(|of| of == term);
        let mut first = log.last_index();
        while first > 1 && is_own(first - 1) {
            first -= 1;
        }
        Some(Leading { term, first })
    }
}
