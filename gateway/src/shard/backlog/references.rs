//! References in the order of a session, as runs, and what they keep in memory.

use std::collections::VecDeque;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::event::batch::Fence;
use ledgermq_core::offset::Index;

use crate::shard::backlog::{Pending, Source};

/// Runs for which the memory of an emptied queue is kept.
const KEPT_RUNS: usize = 64;

/// Messages in order.
#[derive(Debug, Default)]
pub(super) struct References {
    runs: VecDeque<Pending>,
    messages: usize,
    payload_bytes: usize,
    /// Bytes of the batches that the references hold: neighbours share one.
    pinned_bytes: usize,
}

impl References {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Bytes that the references take themselves.
    pub(super) fn held_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Pending>()
    }

    /// The first run; its first message is the next.
    pub(super) fn front(&self) -> Option<&Pending> {
        self.runs.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.runs.iter()
    }

    pub(super) fn last(&self) -> Option<DeliveryRef> {
        self.runs.back().map(Pending::last)
    }

    /// Adds a run at the end. Beyond `pinned_bytes_max` its batch is let go, to be read again.
    pub(super) fn push(&mut self, mut pending: Pending, pinned_bytes_max: usize) {
        self.messages += pending.messages as usize;
        self.payload_bytes += pending.payload_bytes as usize;
        if let Some(last) = self.runs.back_mut()
            && last.is_continued_by(&pending)
        {
            last.messages += pending.messages;
            last.payload_bytes = last.payload_bytes.saturating_add(pending.payload_bytes);
            return;
        }
        if let Source::Pinned(pin, _) = &pending.source
            && !self.runs.back().is_some_and(|last| last.is_pinned_at(pin.batch.index))
        {
            if self.pinned_bytes + pin.batch.bytes() > pinned_bytes_max {
                pending.source = Source::Logged;
            } else {
                self.pinned_bytes += pin.batch.bytes();
            }
        }
        self.runs.push_back(pending);
    }

    /// Adds messages, which are in order, at the place of the first.
    pub(super) fn insert(&mut self, pending: impl IntoIterator<Item = Pending>) {
        let mut pending = pending.into_iter().peekable();
        let Some(first) = pending.peek() else { return };
        let at = self.runs.partition_point(|waiting| waiting.last() < first.message);
        let mut behind = self.runs.split_off(at);
        if let Some(next) = behind.front_mut()
            && let Some(before) = next.split_before(first.message)
        {
            self.runs.push_back(before);
        }
        for pending in pending {
            if let Source::Pinned(pin, _) = &pending.source {
                let index = pin.batch.index;
                let neighbours = [self.runs.back(), behind.front()];
                let is_held = neighbours.into_iter().flatten().any(|next| next.is_pinned_at(index));
                self.pinned_bytes += if is_held { 0 } else { pin.batch.bytes() };
            }
            self.messages += pending.messages as usize;
            self.payload_bytes += pending.payload_bytes as usize;
            self.runs.push_back(pending);
        }
        self.runs.append(&mut behind);
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let first = self.runs.front_mut()?;
        let Some(pending) = first.split_first() else { return self.pop_run() };
        self.count_off(&pending);
        Some(pending)
    }

    /// Takes the first messages of the first run, or all of it; `next` is the place of the one behind
    /// them in their batch.
    pub(super) fn skip(&mut self, messages: usize, next: Option<Fence>) {
        let Some(first) = self.runs.front_mut() else { return };
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        if messages >= first.messages {
            self.pop_run();
            return;
        }
        let before = first.cut(messages);
        if let Source::Pinned(_, place) = &mut first.source {
            match next {
                Some(next) => *place = next,
                None => first.source = Source::Logged,
            }
        }
        self.count_off(&before);
    }

    /// Takes the first run.
    fn pop_run(&mut self) -> Option<Pending> {
        let pending = self.runs.pop_front()?;
        self.count_off(&pending);
        if let Source::Pinned(pin, _) = &pending.source
            && !self.runs.front().is_some_and(|next| next.is_pinned_at(pin.batch.index))
        {
            self.pinned_bytes = self.pinned_bytes.saturating_sub(pin.batch.bytes());
        }
        if self.runs.is_empty() {
            (self.payload_bytes, self.pinned_bytes) = (0, 0);
            if self.runs.capacity() > KEPT_RUNS {
                self.runs = VecDeque::new();
            }
        }
        Some(pending)
    }

    fn count_off(&mut self, pending: &Pending) {
        self.messages -= pending.messages as usize;
        self.payload_bytes = self.payload_bytes.saturating_sub(pending.payload_bytes as usize);
    }
}

impl Pending {
    /// The last message of the run.
    fn last(&self) -> DeliveryRef {
        let mut last = self.message;
        last.at.ordinal += self.messages - 1;
        last
    }

    fn is_pinned_at(&self, index: Index) -> bool {
        matches!(&self.source, Source::Pinned(pin, _) if pin.batch.index == index)
    }

    /// Whether `next` is the rest of the same run: messages that follow each other in their batch, and
    /// differ in nothing else.
    fn is_continued_by(&self, next: &Self) -> bool {
        let is_batched = |pending: &Self| {
            matches!(pending.source, Source::Pinned(..) | Source::Logged)
                && (pending.message.nth, pending.identifier, pending.starting) == (0, None, None)
        };
        self.message.at.index == next.message.at.index
            && self.message.at.ordinal + self.messages == next.message.at.ordinal
            && (self.qos, self.retain) == (next.qos, next.retain)
            && is_batched(self)
            && is_batched(next)
    }

    /// Takes the first message out of a run of several.
    fn split_first(&mut self) -> Option<Self> {
        let mut second = self.message;
        second.at.ordinal += 1;
        self.split_before(second)
    }

    /// Takes the first messages, which are not all, but does not look for the content of the next.
    fn cut(&mut self, messages: u32) -> Self {
        let mut before = self.clone();
        before.messages = messages;
        // Of how many bytes which message is, nobody wrote down.
        let bytes = u64::from(self.payload_bytes) * u64::from(messages);
        let bytes = bytes / u64::from(self.messages);
        before.payload_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.payload_bytes -= before.payload_bytes;
        self.messages -= messages;
        self.message.at.ordinal += messages;
        before
    }

    /// Takes what lies before `message` out of a run that has it further back.
    fn split_before(&mut self, message: DeliveryRef) -> Option<Self> {
        if self.messages == 1 || message <= self.message || message > self.last() {
            return None;
        }
        let before = self.cut(message.at.ordinal - self.message.at.ordinal);
        if let Source::Pinned(pin, place) = &self.source {
            let mut records = pin.batch.batch().records_from(*place);
            let next = records.nth(before.messages as usize).and_then(Result::ok);
            self.source = match next {
                Some(record) => Source::Pinned(pin.clone(), record.place()),
                None => Source::Logged,
            };
        }
        Some(before)
    }
}
