//! Messages owed to persistent sessions, as references.

mod chunk;
mod entry;
mod excess;
mod references;
mod row;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::packet::QoS;

use crate::bytes::Cut;
use crate::views::message::RetainedMessage;

use chunk::{CHUNK_ENTRIES, Chunk, Sums};

pub(crate) use entry::{BATCH_RECORDS_MAX, Entry, INDEX_MAX};
pub(crate) use references::References;

/// A message owed to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Which one.
    pub message: DeliveryRef,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Where its content is.
    pub source: OwedSource,
}

/// Where the content of an owed message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwedSource {
    /// In the log, at the offset of the reference. If it is gone from there it was kept before.
    Log,
    /// Kept before the log was purged ([`crate::reader::Reader::kept`]), if it was there then.
    Kept,
    /// Here: an answer to a subscription.
    Answer(Arc<RetainedMessage>),
}

/// What one session is owed, oldest first: 16 bytes a reference, in chunks.
///
/// The chunks' borders depend on nothing but the events, so that two nodes write the same rows.
#[derive(Debug, Default)]
pub(crate) struct OwedSet {
    chunks: VecDeque<Chunk>,
    answers: Option<Box<Answers>>,
    bytes: u64,
    len: u32,
    expiring: u32,
}

/// Retained messages among the owed ones.
type Answers = BTreeMap<DeliveryRef, Arc<RetainedMessage>>;

/// What a change of the set means for the checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// A chunk of this number began: no checkpoint has it, but for one of that number which ended.
    Began(u32),
    /// The chunk of this number changed, and was not known to.
    Changed(u32),
    /// The chunk of this number is no more.
    Ended(u32),
    /// The answer came or went.
    Answer(DeliveryRef),
}

impl OwedSet {
    /// Number of references.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes of the messages referred to.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a reference to a message in the log. Tells the chunk if it needs to be written and
    /// was not known to.
    pub(crate) fn push(&mut self, entry: Entry) -> Option<Touched> {
        self.len += 1;
        self.bytes += u64::from(entry.bytes());
        self.expiring += u32::from(entry.expires().is_some());
        let last = self.open_chunk();
        debug_assert!(last.entries.last().is_none_or(|before| before.message() < entry.message()));
        let touched = last.touch();
        last.entries.push(entry);
        last.sums.add(entry);
        touched
    }

    /// Appends references to messages in the log, as [`OwedSet::push`] does one after the other.
    /// Tells the chunks that need to be written and were not known to.
    pub(crate) fn push_all(&mut self, references: &References, mut touched: impl FnMut(Touched)) {
        let (mut left, sums) = (references.entries(), references.sums());
        self.len += u32::try_from(left.len()).expect("no more than the records of a batch");
        self.bytes += sums.bytes;
        self.expiring += sums.expiring;
        while let Some(first) = left.first() {
            let last = self.open_chunk();
            debug_assert!(last.entries.is_empty() || last.last() < first.message());
            last.touch().into_iter().for_each(&mut touched);
            let (entries, behind) = left.split_at(left.len().min(last.room()));
            last.entries.extend_from_slice(entries);
            let is_whole = entries.len() == references.entries().len();
            last.sums.add_all(&if is_whole { *sums } else { Sums::of(entries) });
            left = behind;
        }
    }

    /// The last chunk, which has room.
    fn open_chunk(&mut self) -> &mut Chunk {
        if self.chunks.back().is_none_or(|last| last.room() == 0) {
            let id = self.chunks.back().map_or(0, |last| last.id.wrapping_add(1));
            // Who is owed more than a chunk is likely to be owed all of another.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK_ENTRIES };
            self.chunks.push_back(Chunk::new(id, room));
        }
        self.chunks.back_mut().expect("there is one now")
    }

    /// Appends a retained message that answers a subscription.
    pub(crate) fn push_answer(
        &mut self,
        message: DeliveryRef,
        qos: QoS,
        content: Arc<RetainedMessage>,
        touched: &mut impl FnMut(Touched),
    ) {
        let entry = Entry::answer(message, qos, content.expires());
        self.bytes += content.bytes();
        self.answers.get_or_insert_default().insert(message, content);
        touched(Touched::Answer(message));
        self.push(entry).into_iter().for_each(touched);
    }

    /// Removes what lies between `from` and `upto` (both included), but for what `keeps` holds.
    /// Returns how many.
    pub(crate) fn remove(
        &mut self,
        from: DeliveryRef,
        upto: DeliveryRef,
        keeps: impl FnMut(Entry) -> bool,
        touched: &mut impl FnMut(Touched),
    ) -> u32 {
        self.remove_where(from, upto, |_| false, keeps, touched)
    }

    /// Removes what lies between `from` and `upto` (both included), but for `spared`, which ascend.
    /// Returns how many. Of a chunk that goes as a whole no reference is looked at.
    pub(crate) fn remove_but(
        &mut self,
        from: DeliveryRef,
        upto: DeliveryRef,
        spared: &[DeliveryRef],
        touched: &mut impl FnMut(Touched),
    ) -> u32 {
        let goes = |chunk: &Chunk| chunk.sums.answers == 0 && chunk.has_none_of(spared);
        let keeps = |entry: Entry| spared.binary_search(&entry.message()).is_ok();
        self.remove_where(from, upto, goes, keeps, touched)
    }

    /// Removes what lies between `from` and `upto`: chunks within that `goes` holds, and of the
    /// others what `keeps` does not hold.
    fn remove_where(
        &mut self,
        from: DeliveryRef,
        upto: DeliveryRef,
        goes: impl Fn(&Chunk) -> bool,
        mut keeps: impl FnMut(Entry) -> bool,
        touched: &mut impl FnMut(Touched),
    ) -> u32 {
        let before = self.len;
        let (mut bytes, mut expiring) = (0, 0);
        let first = self.chunks.partition_point(|chunk| chunk.last() < from);
        let mut is_any_empty = false;
        for chunk in self.chunks.range_mut(first..) {
            if chunk.first() > upto {
                break;
            }
            let length = chunk.entries.len();
            let is_within = from <= chunk.first() && chunk.last() <= upto;
            if is_within && goes(chunk) {
                bytes += chunk.sums.bytes;
                expiring += chunk.sums.expiring;
                chunk.entries.clear();
            }
            chunk.entries.retain(|entry| {
                let message = entry.message();
                if message < from || message > upto || keeps(*entry) {
                    return true;
                }
                expiring += u32::from(entry.expires().is_some());
                bytes += u64::from(entry.bytes());
                if entry.is_answer()
                    && let Some(answers) = &mut self.answers
                    && let Some(content) = answers.remove(&message)
                {
                    bytes += content.bytes();
                    touched(Touched::Answer(message));
                }
                false
            });
            if chunk.entries.len() < length {
                self.len -= u32::try_from(length - chunk.entries.len()).expect("a chunk is small");
                chunk.sums = Sums::of(&chunk.entries);
                if chunk.entries.is_empty() {
                    is_any_empty = true;
                    touched(Touched::Ended(chunk.id));
                } else {
                    chunk.touch().into_iter().for_each(&mut *touched);
                }
            }
        }
        if is_any_empty {
            self.chunks.retain(|chunk| !chunk.entries.is_empty());
            if self.chunks.is_empty() {
                self.chunks = VecDeque::new();
            }
        }
        if self.answers.as_ref().is_some_and(|answers| answers.is_empty()) {
            self.answers = None;
        }
        self.bytes -= bytes;
        self.expiring -= expiring;
        before - self.len
    }

    /// The references after `after`.
    pub(crate) fn after(&self, after: DeliveryRef) -> impl Iterator<Item = Entry> {
        let first = self.chunks.partition_point(|chunk| chunk.last() <= after);
        self.chunks
            .range(first..)
            .flat_map(|chunk| &chunk.entries)
            .copied()
            .skip_while(move |entry| entry.message() <= after)
    }

    /// All references.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        self.chunks.iter().flat_map(|chunk| &chunk.entries).copied()
    }

    /// The content of an answer.
    pub(crate) fn answer(&self, message: DeliveryRef) -> Option<&Arc<RetainedMessage>> {
        self.answers.as_ref()?.get(&message)
    }

    /// Bytes of a message if it is owed.
    pub(crate) fn bytes_of(&self, message: DeliveryRef) -> Option<u64> {
        self.get(message).map(|entry| self.bytes_of_entry(entry))
    }

    /// The entry of a message if it is owed.
    pub(crate) fn get(&self, message: DeliveryRef) -> Option<Entry> {
        let at = self.chunks.partition_point(|chunk| chunk.last() < message);
        let entries = &self.chunks.get(at)?.entries;
        let at = entries.binary_search_by_key(&message, |entry| entry.message()).ok()?;
        Some(entries[at])
    }

    /// Bytes of the message that an entry of this set refers to.
    pub(crate) fn bytes_of_entry(&self, entry: Entry) -> u64 {
        match self.answer(entry.message()).filter(|_| entry.is_answer()) {
            Some(content) => content.bytes(),
            None => u64::from(entry.bytes()),
        }
    }

    /// What the end of the whole set means.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Touched> {
        let answers = self.answer_refs().map(Touched::Answer);
        self.chunk_ids().map(Touched::Ended).chain(answers)
    }

    /// Numbers of all chunks.
    pub(crate) fn chunk_ids(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().map(|chunk| chunk.id)
    }

    /// References of all answers.
    pub(crate) fn answer_refs(&self) -> impl Iterator<Item = DeliveryRef> {
        self.answers.iter().flat_map(|answers| answers.keys().copied())
    }

    /// The row of a chunk.
    pub(crate) fn chunk_row(&self, id: u32) -> Option<Vec<u8>> {
        self.chunk(id).map(|at| row::encode(&self.chunks[at].entries))
    }

    /// The chunk is written: its next change is to be told again.
    pub(crate) fn set_clean(&mut self, id: u32) {
        if let Some(at) = self.chunk(id) {
            self.chunks[at].is_dirty = false;
        }
    }

    /// Takes the row of a chunk in; chunks come in the order of their numbers.
    pub(crate) fn load_chunk(&mut self, id: u32, row: &[u8]) -> Result<(), Cut> {
        let entries = row::decode(row, CHUNK_ENTRIES)?;
        if entries.is_empty() {
            return Err(Cut);
        }
        let sums = Sums::of(&entries);
        self.bytes += sums.bytes;
        self.expiring += sums.expiring;
        self.len += u32::try_from(entries.len()).expect("a chunk is small");
        self.chunks.push_back(Chunk { id, is_dirty: false, entries, sums });
        Ok(())
    }

    /// Takes the row of an answer in.
    pub(crate) fn load_answer(&mut self, message: DeliveryRef, content: RetainedMessage) {
        self.bytes += content.bytes();
        self.answers.get_or_insert_default().insert(message, Arc::new(content));
    }

    /// Brings the chunks of a checkpoint, which sort by number, into their order.
    pub(crate) fn finish_load(&mut self) {
        self.chunks.make_contiguous().sort_by_key(Chunk::first);
    }

    // Numbers ascend but for a wrap after 2^32 chunks.
    fn chunk(&self, id: u32) -> Option<usize> {
        let first = self.chunks.front()?.id;
        let at = self
            .chunks
            .partition_point(|chunk| chunk.id.wrapping_sub(first) < id.wrapping_sub(first));
        (self.chunks.get(at)?.id == id).then_some(at)
    }
}

#[cfg(test)]
mod tests;
