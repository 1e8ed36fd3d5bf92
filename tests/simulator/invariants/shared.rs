//! Each message reaches one member of each group: never two of those that are connected, of QoS 2 never
//! two at all, and one in the end, whoever went meanwhile.

use std::collections::BTreeMap;

use ledgermq_core::packet::QoS;

use crate::book::Uid;
use crate::invariants::{Facts, Invariant};
use crate::network::ConnId;
use crate::node::peer;
use crate::seen::{Receipt, Seen};

/// Who took each message of a group.
#[derive(Default)]
pub(crate) struct Shared {
    taken: BTreeMap<Uid, Vec<(ConnId, QoS)>>,
}

impl Shared {
    fn receive(&mut self, receipt: &Receipt, facts: &Facts<'_>) -> Result<(), String> {
        let Receipt { client, conn, uid, qos, .. } = *receipt;
        let taken = self.taken.entry(uid).or_default();
        taken.push((conn, qos));
        let owed = facts.oracle.groups.counts.get(&uid).copied().unwrap_or_default() as usize;
        let others = || format!("{taken:?}, and {owed} groups were owed it");
        if qos != QoS::AtLeastOnce && taken.iter().filter(|(_, by)| *by == qos).count() > owed {
            return Err(format!("client {client} took m{uid} by {qos:?}; in all {}", others()));
        }
        let opened = |conn: ConnId| facts.oracle.opened.get(&peer(conn).to_string());
        let is_connected = |conn| opened(conn).is_some_and(|it| facts.oracle.is_connected(it));
        if taken.iter().filter(|(conn, _)| is_connected(*conn)).count() > owed {
            return Err(format!("client {client} took what another has, m{uid}: {}", others()));
        }
        Ok(())
    }

    fn settle(&self, facts: &Facts<'_>) -> Result<(), String> {
        let mut due: BTreeMap<Uid, usize> = BTreeMap::new();
        for entry in facts.oracle.groups.owed.values().flatten() {
            let is_expired =
                entry.is_brief || entry.expires.is_some_and(|at| at <= facts.oracle.time);
            *due.entry(entry.uid).or_default() += usize::from(!entry.is_dropped && !is_expired);
        }
        for (uid, count) in due {
            let taken = self.taken.get(&uid).map_or(&[][..], Vec::as_slice);
            if taken.len() < count {
                return Err(format!("{count} groups are owed m{uid}, taken by {taken:?}"));
            }
        }
        Ok(())
    }
}

impl Invariant for Shared {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::Received(receipt)
                if receipt.uid > 0
                    && !receipt.is_known
                    && facts.book.get(receipt.uid).is_shared() =>
            {
                self.receive(receipt, facts)
            }
            Seen::Group { filter, owed } if *owed > 0 => {
                Err(format!("{filter} is at rest and owed {owed} messages"))
            }
            Seen::Settled => self.settle(facts),
            _ => Ok(()),
        }
    }
}
