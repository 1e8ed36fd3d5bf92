//! Will Messages that are to be published.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::access::Identity;
use ledgermq_core::event::WillMessage;
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use serde::{Deserialize, Serialize};

/// A will whose connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingWill {
    /// The client.
    pub(crate) client: ClientId,
    /// Its user.
    pub(crate) username: Option<Box<str>>,
    /// When it is to be published.
    pub(crate) due: Timestamp,
    /// Whether a new connection before `due` calls it off. `[MQTT-3.1.3-9]`
    pub(crate) is_delayed: bool,
    /// The message.
    pub(crate) message: WillMessage,
}

impl PendingWill {
    /// Who publishes it.
    pub(crate) fn author(&self) -> Identity<'_> {
        Identity { client: &self.client, username: self.username.as_deref() }
    }
}

/// The wills that wait, each under the epoch of the session that carried it: an epoch has one will
/// and fires it at most once, so the epoch is also the cause by which its publication is known.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    pending: BTreeMap<Offset, PendingWill>,
    by_due: BTreeSet<(Timestamp, Offset)>,
}

impl Wills {
    /// Lets `will` wait under `epoch`.
    pub(crate) fn arm(&mut self, epoch: Offset, will: PendingWill) {
        self.by_due.insert((will.due, epoch));
        if let Some(old) = self.pending.insert(epoch, will) {
            debug_assert!(false, "an epoch has one will");
            self.by_due.remove(&(old.due, epoch));
        }
    }

    /// The will of `epoch` was published, or is called off.
    pub(crate) fn remove(&mut self, epoch: Offset) -> Option<PendingWill> {
        let will = self.pending.remove(&epoch)?;
        self.by_due.remove(&(will.due, epoch));
        Some(will)
    }

    /// A delayed will of `epoch` can no longer be called off: it is due at `time`, if not before.
    /// Returns whether there is one.
    pub(crate) fn settle(&mut self, epoch: Offset, time: Timestamp) -> bool {
        let Some(will) = self.pending.get(&epoch).filter(|will| will.is_delayed) else {
            return false;
        };
        let mut will = will.clone();
        self.remove(epoch);
        will.due = will.due.min(time);
        will.is_delayed = false;
        self.arm(epoch, will);
        true
    }

    pub(crate) fn get(&self, epoch: Offset) -> Option<&PendingWill> {
        self.pending.get(&epoch)
    }

    /// Those due at `now`, the earliest first.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = (Offset, &PendingWill)> {
        self.by_due
            .iter()
            .take_while(move |(due, _)| *due <= now)
            .filter_map(|(_, epoch)| self.pending.get_key_value(epoch))
            .map(|(epoch, will)| (*epoch, will))
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Offset, &PendingWill)> {
        self.pending.iter().map(|(epoch, will)| (*epoch, will))
    }

    /// Epochs of all.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = Offset> {
        self.pending.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}
