//! Wills: armed by the end of a connection, fired once, or called off.

use std::collections::BTreeMap;

use ledgermq_core::event::WillMessage;
use ledgermq_core::offset::{Offset, Timestamp};

/// The will of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub(crate) message: WillMessage,
}

/// A will that waits for its time.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) due: Timestamp,
    pub(crate) is_delayed: bool,
    /// Client, user and topic.
    pub(crate) author: (String, Option<String>, String),
}

/// All wills that wait, by the epoch that carried them.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    pub(crate) pending: BTreeMap<Offset, Pending>,
    /// Called off by a change of the access rules: how many there had been before it.
    called_off: BTreeMap<Offset, (Pending, usize)>,
    /// How many changes of the rules a node knew, at the least, when it found the will due.
    derived: BTreeMap<Offset, usize>,
}

impl Wills {
    pub(crate) fn arm(
        &mut self,
        epoch: Offset,
        due: Timestamp,
        is_delayed: bool,
        author: (String, Option<String>, String),
    ) {
        self.pending.insert(epoch, Pending { due, is_delayed, author });
    }

    /// Makes it due at once, whatever it waits for.
    pub(crate) fn settle(&mut self, epoch: Offset, now: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&epoch) {
            pending.due = pending.due.min(now);
            pending.is_delayed = false;
        }
    }

    /// A new connection resumed the session before the will was due.
    pub(crate) fn call_off(&mut self, epoch: Offset, now: Timestamp) {
        match self.pending.get(&epoch) {
            Some(pending) if pending.due > now && pending.is_delayed => {
                self.pending.remove(&epoch);
            }
            Some(_) => self.settle(epoch, now),
            None => {}
        }
    }

    /// A node that knew that many changes of the access rules found the will due.
    pub(crate) fn derive(&mut self, epoch: Offset, known: usize) {
        let least = self.derived.entry(epoch).or_insert(known);
        *least = known.min(*least);
    }

    /// The rules were replaced, by others so often before: what they forbid waits no more.
    pub(crate) fn forbid(&mut self, before: usize, may_stay: impl Fn(&Pending) -> bool) {
        let (allowed, forbidden): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|(_, will)| may_stay(will));
        self.pending = allowed;
        self.called_off.extend(forbidden.into_iter().map(|(at, will)| (at, (will, before))));
    }

    /// The will of `epoch` stands in the log: once, not before its time, and not if the rules that
    /// were known where it was found due forbid it. Those of another node can come in between.
    pub(crate) fn fire(&mut self, epoch: Offset, now: Timestamp) -> Result<(), String> {
        let waited = self.pending.remove(&epoch).or_else(|| {
            let (will, before) = self.called_off.remove(&epoch)?;
            self.derived.get(&epoch).is_some_and(|known| *known <= before).then_some(will)
        });
        match waited {
            None => Err(format!("a will of {epoch} was published that was not, or no longer, due")),
            Some(pending) if now < pending.due => {
                Err(format!("the will of {epoch} was published before its time"))
            }
            Some(_) => Ok(()),
        }
    }
}
