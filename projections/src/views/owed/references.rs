//! References that are owed together.

use ledgermq_core::offset::Timestamp;

use crate::views::owed::{Entry, earlier};

/// References to messages in the log, ascending, with what an owed set counts of them.
#[derive(Debug, Default)]
pub(crate) struct References {
    entries: Vec<Entry>,
    bytes: u64,
    expiring: u32,
    soonest: Option<Timestamp>,
}

impl References {
    /// Adds the next one.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += u64::from(entry.bytes());
        self.expiring += u32::from(entry.expires().is_some());
        self.soonest = earlier(self.soonest, entry.expires());
        self.entries.push(entry);
    }

    /// Makes it empty.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        (self.bytes, self.expiring, self.soonest) = (0, 0, None);
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of the messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them expire.
    pub(crate) fn expiring(&self) -> u32 {
        self.expiring
    }

    /// When the first of them expires.
    pub(crate) fn soonest(&self) -> Option<Timestamp> {
        self.soonest
    }
}
