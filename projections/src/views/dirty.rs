//! The rows of a checkpoint, by name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Offset;
use ledgermq_core::topic::TopicFilter;

use crate::views::sessions::Slot;
use crate::views::shared::Number;
use crate::views::{owed, topics};

/// A row: something that changes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Session(Slot),
    Subscription(Slot, TopicFilter),
    Owed(Slot, u32),
    Answer(Slot, DeliveryRef),
    Retained(Box<str>),
    Will(Offset),
    Topic(u32),
    Rates(u32),
    Sweep,
    Counters,
    Node(u64),
    Group(Number),
    GroupOwed(Number, u32),
    GroupHeld(Number, Slot),
    Access,
}

impl Row {
    fn is_chunk(&self) -> bool {
        matches!(self, Self::Owed(..) | Self::GroupOwed(..))
    }
}

/// The rows that changed since the last checkpoint: those to be written or, if they are no longer
/// there, to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    rows: BTreeMap<Row, Stored>,
    /// How many of them are chunks of references.
    chunks: usize,
}

/// Whether the checkpoints up to now hold a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    No,
    Maybe,
}

impl Dirty {
    /// The row changed, came or went.
    pub(crate) fn touch(&mut self, row: Row) {
        self.add(row, Stored::Maybe);
    }

    fn add(&mut self, row: Row, stored: Stored) {
        if let Entry::Vacant(place) = self.rows.entry(row) {
            self.chunks += usize::from(place.key().is_chunk());
            place.insert(stored);
        }
    }

    /// The row went. Nothing is left to do if it came after the last checkpoint.
    fn went(&mut self, row: Row) {
        if self.rows.get(&row) == Some(&Stored::No) {
            self.chunks -= usize::from(row.is_chunk());
            self.rows.remove(&row);
        } else {
            self.touch(row);
        }
    }

    fn owed_by(&mut self, touched: &owed::Touched, chunk: impl Fn(u32) -> Row) {
        match *touched {
            // If a checkpoint has one of that number, its deletion is among the changes.
            owed::Touched::Began(id) => self.add(chunk(id), Stored::No),
            owed::Touched::Changed(id) => self.touch(chunk(id)),
            owed::Touched::Ended(id) => self.went(chunk(id)),
            owed::Touched::Answer(_) => {}
        }
    }

    /// Takes what changes of what is owed to a session mean.
    pub(crate) fn owed(&mut self, slot: Slot) -> impl FnMut(owed::Touched) {
        move |touched| match touched {
            owed::Touched::Answer(message) => self.touch(Row::Answer(slot, message)),
            chunk => self.owed_by(&chunk, |id| Row::Owed(slot, id)),
        }
    }

    /// The rows of one group.
    pub(crate) fn group(&mut self, number: Number) -> GroupRows<'_> {
        GroupRows { number, dirty: self }
    }

    pub(crate) fn topics(&mut self) -> impl FnMut(topics::Touched) {
        move |touched| {
            self.touch(match touched {
                topics::Touched::Node(id) => Row::Topic(id),
                topics::Touched::Rates(page) => Row::Rates(page),
                topics::Touched::Sweep => Row::Sweep,
            });
        }
    }

    /// How many they are, in rows of 4 KiB at the most: a chunk of references, of about 1 KiB at the
    /// most, counts for a quarter.
    pub(crate) fn weight(&self) -> usize {
        self.rows.len() - self.chunks + self.chunks.div_ceil(4)
    }

    pub(crate) fn take(&mut self) -> impl ExactSizeIterator<Item = Row> + use<> {
        self.chunks = 0;
        std::mem::take(&mut self.rows).into_keys()
    }
}

/// Says which rows of a group changed.
pub(crate) struct GroupRows<'d> {
    number: Number,
    dirty: &'d mut Dirty,
}

impl GroupRows<'_> {
    pub(crate) fn head(&mut self) {
        self.dirty.touch(Row::Group(self.number));
    }

    pub(crate) fn held(&mut self, slot: Slot) {
        self.dirty.touch(Row::GroupHeld(self.number, slot));
    }

    /// Takes what changes of what the group is owed mean. It is owed no answers to subscriptions.
    pub(crate) fn owed(&mut self) -> impl FnMut(owed::Touched) {
        move |touched| self.dirty.owed_by(&touched, |id| Row::GroupOwed(self.number, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::owed::Touched;

    fn rows(dirty: &mut Dirty) -> Vec<Row> {
        dirty.take().collect()
    }

    #[test]
    fn what_came_and_went_between_two_checkpoints_is_no_change() {
        let mut dirty = Dirty::default();
        dirty.owed(1)(Touched::Began(0));
        dirty.owed(1)(Touched::Ended(0));
        dirty.group(1).owed()(Touched::Began(0));
        dirty.group(1).owed()(Touched::Ended(0));
        assert_eq!(dirty.weight(), 0);
        assert_eq!(rows(&mut dirty), []);
    }

    #[test]
    fn what_a_checkpoint_has_is_deleted_whatever_came_in_its_place() {
        let mut dirty = Dirty::default();
        dirty.owed(1)(Touched::Began(0));
        assert_eq!(rows(&mut dirty), [Row::Owed(1, 0)]);
        for touched in
            [Touched::Changed(0), Touched::Ended(0), Touched::Began(0), Touched::Ended(0)]
        {
            dirty.owed(1)(touched);
        }
        assert_eq!(rows(&mut dirty), [Row::Owed(1, 0)]);
        dirty.owed(1)(Touched::Ended(0));
        assert_eq!(rows(&mut dirty), [Row::Owed(1, 0)]);
    }
}
