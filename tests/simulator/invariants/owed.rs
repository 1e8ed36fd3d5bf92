//! Every owed message is delivered in the end: when faults have stopped and clients behave.

use std::collections::BTreeMap;

use crate::book::Uid;
use crate::invariants::{Facts, Invariant, life_of};
use crate::seen::Seen;

/// How often each session took each message, by QoS.
#[derive(Default)]
pub(crate) struct Owed {
    taken: BTreeMap<(usize, Uid), [u32; 3]>,
}

impl Owed {
    fn settle(&self, facts: &Facts<'_>) -> Result<(), String> {
        for (number, life) in facts.oracle.lives.iter().enumerate() {
            if life.is_over || (life.was_transient && facts.oracle.may_lose_transient) {
                continue;
            }
            let mut due: BTreeMap<(Uid, usize), u32> = BTreeMap::new();
            for entry in &life.owed {
                let is_expired =
                    entry.is_brief || entry.expires.is_some_and(|at| at <= facts.oracle.time);
                if !entry.is_dropped && !is_expired {
                    *due.entry((entry.uid, entry.qos as usize)).or_default() += 1;
                }
            }
            for ((uid, qos), count) in due {
                let taken = self.taken.get(&(number, uid)).copied().unwrap_or_default();
                if taken[qos] < count {
                    return Err(format!(
                        "{} is owed m{uid} by QoS {qos} {count} times and took it {} times",
                        life.client, taken[qos]
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Invariant for Owed {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::Received(receipt) if receipt.uid > 0 && !receipt.is_known => {
                let life = life_of(receipt.conn, facts)?;
                self.taken.entry((life, receipt.uid)).or_default()[receipt.qos as usize] += 1;
                Ok(())
            }
            Seen::Settled => self.settle(facts),
            _ => Ok(()),
        }
    }
}
