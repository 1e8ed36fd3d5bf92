//! The rows of a checkpoint, by name.

use std::collections::BTreeSet;

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
    rows: BTreeSet<Row>,
}

impl Dirty {
    pub(crate) fn touch(&mut self, row: Row) {
        self.rows.insert(row);
    }

    pub(crate) fn owed(&mut self, slot: Slot) -> impl FnMut(owed::Touched) {
        move |touched| {
            self.touch(match touched {
                owed::Touched::Chunk(chunk) => Row::Owed(slot, chunk),
                owed::Touched::Answer(message) => Row::Answer(slot, message),
            });
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

    pub(crate) fn take(&mut self) -> BTreeSet<Row> {
        std::mem::take(&mut self.rows)
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

    pub(crate) fn chunk(&mut self, chunk: u32) {
        self.dirty.touch(Row::GroupOwed(self.number, chunk));
    }

    pub(crate) fn held(&mut self, slot: Slot) {
        self.dirty.touch(Row::GroupHeld(self.number, slot));
    }

    /// What changes of the owed set mean. A group is owed no answers to subscriptions.
    pub(crate) fn owed(&mut self) -> impl FnMut(owed::Touched) {
        move |touched| match touched {
            owed::Touched::Chunk(chunk) => self.chunk(chunk),
            owed::Touched::Answer(_) => {}
        }
    }
}
