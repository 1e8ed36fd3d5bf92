//! QoS 2 reaches a session exactly once, and QoS 0 at most once, however often anything crashed.
//!
//! Not more than once is judged at each receipt; not less is judged with everything that is owed.

use std::collections::BTreeMap;

use ledgermq_core::packet::QoS;

use crate::book::Uid;
use crate::invariants::{Facts, Invariant, life_of};
use crate::seen::{Receipt, Seen};

/// How often each session took each message, by QoS.
#[derive(Default)]
pub(crate) struct ExactlyOnce {
    taken: BTreeMap<(usize, Uid), [u32; 3]>,
}

impl ExactlyOnce {
    fn receive(&mut self, receipt: &Receipt, facts: &Facts<'_>) -> Result<(), String> {
        let Receipt { client, conn, uid, qos, .. } = *receipt;
        let is_shared = uid > 0 && facts.book.get(uid).is_shared();
        if qos == QoS::AtLeastOnce || receipt.is_known || uid == 0 || is_shared {
            return Ok(());
        }
        let life = life_of(conn, facts)?;
        let taken = self.taken.entry((life, uid)).or_default();
        taken[qos as usize] += 1;
        let owed = facts.oracle.lives[life].counts.get(&uid).copied().unwrap_or_default();
        if taken[qos as usize] > owed[qos as usize] {
            return Err(format!(
                "client {client} took m{uid} by {qos:?} {} times, it was owed {} times",
                taken[qos as usize], owed[qos as usize]
            ));
        }
        Ok(())
    }
}

impl Invariant for ExactlyOnce {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        if let Seen::Received(receipt) = seen {
            return self.receive(receipt, facts);
        }
        // Inbound: a QoS 2 message counts once in the log, however often its PUBLISH came.
        if let Seen::PubAcked { uid, .. } = seen
            && facts.book.get(*uid).qos == QoS::ExactlyOnce
            && facts.oracle.published.get(uid).is_some_and(|count| *count > 1)
        {
            return Err(format!("m{uid} of QoS 2 stands in the log more than once"));
        }
        if matches!(seen, Seen::Settled) {
            for (uid, count) in &facts.oracle.published {
                let message = facts.book.get(*uid);
                if *count > 1 && (message.is_will || message.qos != QoS::AtLeastOnce) {
                    return Err(format!("m{uid} ({:?}) stands in the log {count} times", message));
                }
            }
        }
        Ok(())
    }
}
