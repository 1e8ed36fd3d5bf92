//! A session has one connection, over all nodes: of the shards that have read the whole log, one at
//! most holds it, and that in the process that the log says.

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct OneOwner;

impl Invariant for OneOwner {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Holders { client, holders } = seen else { return Ok(()) };
        let online = facts.oracle.sessions.get(client).and_then(|session| session.online);
        match holders[..] {
            [] => Ok(()),
            [holder] if Some(holder) == online => Ok(()),
            _ => Err(format!("{client} is connected to {holders:?}, the log says {online:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Book;
    use crate::oracle::{Oracle, Process};

    fn judge(holders: Vec<Process>) -> Result<(), String> {
        let mut oracle = Oracle::default();
        let mut history = ledgermq_log::testing::History::default();
        let mut batch = history.builder();
        batch.push(None, None, &crate::oracle::tests::opened("c", 1, 0));
        oracle.on_committed(&history.commit(&mut batch));
        let facts = Facts { oracle: &oracle, book: &Book::default(), clients: &[] };
        OneOwner.see(&Seen::Holders { client: "c".to_owned(), holders }, &facts)
    }

    #[test]
    fn one_process_holds_a_session_and_no_other() {
        let (right, wrong) = (Process { node: 1, start: 1 }, Process { node: 2, start: 1 });
        assert_eq!(judge(vec![]), Ok(()));
        assert_eq!(judge(vec![right]), Ok(()));
        for holders in [vec![wrong], vec![right, wrong], vec![right, right]] {
            assert!(judge(holders.clone()).is_err(), "{holders:?}");
        }
    }
}
