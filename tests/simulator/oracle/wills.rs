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

    /// The will of `epoch` stands in the log.
    pub(crate) fn fire(&mut self, epoch: Offset, now: Timestamp) -> Result<(), String> {
        match self.pending.remove(&epoch) {
            None => Err(format!("a will of {epoch} was published that was not, or no longer, due")),
            Some(pending) if now < pending.due => {
                Err(format!("the will of {epoch} was published before its time"))
            }
            Some(_) => Ok(()),
        }
    }
}
