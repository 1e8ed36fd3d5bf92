//! A part of an owed set.

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Timestamp;

use crate::views::owed::{Entry, Touched};

/// References in a chunk: the unit in which a checkpoint writes them.
pub(super) const CHUNK_ENTRIES: usize = 256;

/// References that a checkpoint writes together, ascending.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) id: u32,
    pub(super) is_dirty: bool,
    pub(super) entries: Vec<Entry>,
    /// What the entries come to.
    pub(super) sums: Sums,
}

/// What references come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Bytes of the messages in the log.
    pub(super) bytes: u64,
    /// How many of them expire.
    pub(super) expiring: u32,
    /// When the first of these expires.
    pub(super) soonest: Option<Timestamp>,
    /// How many are answers, whose content is held beside.
    pub(super) answers: u32,
}

impl Chunk {
    /// An empty one with memory for so many references.
    pub(super) fn new(id: u32, room: usize) -> Self {
        let entries = Vec::with_capacity(room);
        Self { id, is_dirty: false, entries, sums: Sums::default() }
    }

    /// It changes, or gets its first reference next: says what that means if it was not known.
    pub(super) fn touch(&mut self) -> Option<Touched> {
        if std::mem::replace(&mut self.is_dirty, true) {
            return None;
        }
        let is_new = self.entries.is_empty();
        Some(if is_new { Touched::Began(self.id) } else { Touched::Changed(self.id) })
    }

    /// How many more references it takes.
    pub(super) fn room(&self) -> usize {
        CHUNK_ENTRIES.saturating_sub(self.entries.len())
    }

    pub(super) fn first(&self) -> DeliveryRef {
        self.entries.first().map(Entry::message_of).unwrap_or_default()
    }

    pub(super) fn last(&self) -> DeliveryRef {
        self.entries.last().map(Entry::message_of).unwrap_or_default()
    }

    /// Whether it has none of `messages`, which ascend.
    pub(super) fn has_none_of(&self, messages: &[DeliveryRef]) -> bool {
        let (first, last) = (self.first(), self.last());
        let at = messages.partition_point(|message| *message < first);
        messages.get(at).is_none_or(|message| *message > last)
    }
}

impl Sums {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut sums = Self::default();
        entries.iter().for_each(|entry| sums.add(*entry));
        sums
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.bytes += u64::from(entry.bytes());
        self.answers += u32::from(entry.is_answer());
        if let Some(expiry) = entry.expires() {
            self.expiring += 1;
            self.soonest = Some(self.soonest.map_or(expiry, |soonest| soonest.min(expiry)));
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.answers += other.answers;
        self.expiring += other.expiring;
        self.soonest = self.soonest.into_iter().chain(other.soonest).min();
    }
}
