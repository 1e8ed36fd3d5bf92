//! References that are owed together.

use ledgermq_core::offset::Timestamp;

use crate::views::owed::Entry;
use crate::views::owed::chunk::Sums;

/// References to messages in the log, ascending, with what they come to.
#[derive(Debug, Default)]
pub(crate) struct References {
    entries: Vec<Entry>,
    sums: Sums,
}

impl References {
    /// Adds the next one.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.sums.add(entry);
        self.entries.push(entry);
    }

    /// Makes it empty.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.sums = Sums::default();
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// When the first of the messages expires.
    pub(crate) fn soonest(&self) -> Option<Timestamp> {
        self.sums.soonest
    }
}
