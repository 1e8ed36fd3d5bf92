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

/// The rows that changed since the last checkpoint: those to be written or, if they are no longer
/// there, to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    rows: BTreeMap<Row, Stored>,
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
        self.rows.entry(row).or_insert(Stored::Maybe);
    }

    /// The row came: no checkpoint has it, or its deletion is among the changes.
    fn came(&mut self, row: Row) {
        self.rows.entry(row).or_insert(Stored::No);
    }

    /// The row went. Nothing is left to do if it came after the last checkpoint.
    fn went(&mut self, row: Row) {
        match self.rows.entry(row) {
            Entry::Occupied(held) if *held.get() == Stored::No => drop(held.remove()),
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => drop(place.insert(Stored::Maybe)),
        }
    }

    fn owed_by(&mut self, touched: &owed::Touched, chunk: impl Fn(u32) -> Row) {
        match *touched {
            owed::Touched::Began(id) => self.came(chunk(id)),
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

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn take(&mut self) -> impl ExactSizeIterator<Item = Row> + use<> {
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
