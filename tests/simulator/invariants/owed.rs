//! Every owed message is delivered in the end, as often as it is owed, and nothing is owed then: when
//! faults have stopped and clients behave.

use std::collections::BTreeMap;

use crate::book::Uid;
use crate::invariants::{Facts, Invariant, life_of};
use crate::seen::{Receipt, Seen};

/// A message in a session, by the RETAIN flag: a live copy and the answer to a subscription differ
/// by that, unless the subscription wants it as published.
type Copy = (usize, Uid, bool);

/// How often each session took each message, by QoS. Deliveries that are known to be repetitions do
/// not count; others (their PUBACK was lost, or the node forgot them in a crash) cannot be told from
/// a second copy.
#[derive(Default)]
pub(crate) struct Owed {
    taken: BTreeMap<Copy, [u32; 3]>,
}

impl Owed {
    fn receive(&mut self, receipt: &Receipt, facts: &Facts<'_>) -> Result<(), String> {
        let copy = (life_of(receipt.conn, facts)?, receipt.uid, receipt.retain);
        self.taken.entry(copy).or_default()[receipt.qos as usize] += 1;
        Ok(())
    }

    fn settle(&self, facts: &Facts<'_>) -> Result<(), String> {
        for (number, life) in facts.oracle.lives.iter().enumerate() {
            if life.is_over || (life.was_transient && facts.oracle.may_lose_transient) {
                continue;
            }
            let mut due: BTreeMap<(Uid, bool, usize), u32> = BTreeMap::new();
            for entry in &life.owed {
                let is_expired =
                    entry.is_brief || entry.expires.is_some_and(|at| at <= facts.oracle.time);
                if !entry.is_dropped && !is_expired {
                    *due.entry((entry.uid, entry.retain, entry.qos as usize)).or_default() += 1;
                }
            }
            for ((uid, retain, qos), count) in due {
                let taken = self.taken.get(&(number, uid, retain)).copied().unwrap_or_default();
                if taken[qos] < count {
                    return Err(format!(
                        "{} is owed m{uid} by QoS {qos} (RETAIN {retain}) {count} times and took it \
                         {} times",
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
            Seen::Received(receipt)
                if receipt.uid > 0 && !receipt.is_known && !receipt.is_repeated =>
            {
                self.receive(receipt, facts)
            }
            Seen::Waiting { client, owed, outstanding } if owed + outstanding > 0 => {
                let id = &facts.clients[*client].id;
                Err(format!("{id} is at rest; owed {owed}, under way {outstanding}"))
            }
            Seen::Settled => self.settle(facts),
            _ => Ok(()),
        }
    }
}
