//! Writing batches.

use hashbrown::HashMap;

use crate::event::batch::{Footer, HAS_CAUSE, KIND_MESSAGE, KIND_OTHER, NO_SESSION, RECORD_HEADER};
use crate::event::{Event, MessagePublished, SessionRef};
use crate::identity::ClientId;
use crate::offset::Offset;

/// Bytes of a session in the table, without its Client Identifier.
const SESSION_BYTES: usize = 14;
/// Bytes of a fence.
const FENCE_BYTES: usize = 8;

/// A batch that is being written. Reused from batch to batch, it does not allocate.
///
/// The first `headroom` bytes of the buffer are left to the log's envelope, so that nothing is
/// copied when the batch becomes a raft entry.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    headroom: usize,
    count: u32,
    namespace: u32,
    sessions: Vec<SessionRef>,
    slots: HashMap<Offset, u16>,
    last: Option<(Offset, u16)>,
    fences: Vec<(u32, u32)>,
    /// Bytes of the sessions and fences.
    tables_bytes: usize,
}

impl BatchBuilder {
    /// An empty batch that leaves `headroom` bytes free in front.
    #[must_use]
    pub fn new(headroom: usize) -> Self {
        Self {
            buffer: vec![0; headroom],
            headroom,
            count: 0,
            namespace: 0,
            sessions: Vec::new(),
            slots: HashMap::new(),
            last: None,
            fences: Vec::new(),
            tables_bytes: 0,
        }
    }

    /// Bytes left free in front.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.headroom
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the events so far, with what they add to the batch's tables (a session with a long
    /// Client Identifier may be larger than its event).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records_bytes() + self.tables_bytes
    }

    fn records_bytes(&self) -> usize {
        self.buffer.len() - self.headroom
    }

    /// Appends a published message and returns its ordinal.
    pub fn publish(
        &mut self,
        session: Option<(&ClientId, Offset)>,
        cause: Option<Offset>,
        message: &MessagePublished<'_>,
    ) -> u32 {
        let slot = self.slot(session);
        self.record(KIND_MESSAGE, message.flags(), slot, cause, |out| message.encode(out))
    }

    /// Appends any other event and returns its ordinal.
    pub fn push(
        &mut self,
        session: Option<(&ClientId, Offset)>,
        cause: Option<Offset>,
        event: &Event,
    ) -> u32 {
        if event.is_fence() {
            let position = u32_of(self.records_bytes());
            self.fences.push((self.count, position));
            self.tables_bytes += FENCE_BYTES;
        }
        let slot = self.slot(session);
        self.record(KIND_OTHER, 0, slot, cause, |out| {
            postcard::to_io(event, out).expect("a Vec takes every event");
        })
    }

    /// Takes all events of `other` behind its own and leaves `other` empty. Returns the ordinal
    /// of the first of them.
    pub fn absorb(&mut self, other: &mut Self) -> u32 {
        let first = self.count;
        let base = self.records_bytes();
        for &(ordinal, position) in &other.fences {
            self.fences.push((first + ordinal, u32_of(base) + position));
            self.tables_bytes += FENCE_BYTES;
        }
        let remap: Vec<u16> = other
            .sessions
            .iter()
            .map(|session| self.slot(Some((&session.client, session.epoch))))
            .collect();
        let mut at = self.buffer.len();
        self.buffer.extend_from_slice(&other.buffer[other.headroom..]);
        for _ in 0..other.count {
            let length = u32::from_le_bytes([0, 1, 2, 3].map(|i| self.buffer[at + i]));
            let slot = u16::from_le_bytes([self.buffer[at + 6], self.buffer[at + 7]]);
            if slot != NO_SESSION {
                let slot = remap[usize::from(slot)].to_le_bytes();
                self.buffer[at + 6..at + 8].copy_from_slice(&slot);
            }
            at += length as usize;
        }
        self.count += other.count;
        other.clear();
        first
    }

    /// Closes the batch: appends the tables, hands the bytes (headroom first) over and takes
    /// `spare` as the buffer of the next batch.
    pub fn finish(&mut self, spare: Vec<u8>) -> Vec<u8> {
        self.close();
        let done = std::mem::replace(&mut self.buffer, spare);
        self.clear();
        done
    }

    /// Closes the batch like [`BatchBuilder::finish`], but hands over a copy that has no room for
    /// more, and keeps its buffer: for small batches of which many are kept.
    pub fn finish_copied(&mut self) -> Vec<u8> {
        self.close();
        let done = self.buffer.as_slice().to_vec();
        self.clear();
        done
    }

    /// Appends the tables.
    fn close(&mut self) {
        let records_bytes = self.records_bytes();
        let before_sessions = self.buffer.len();
        for session in &self.sessions {
            self.buffer.extend_from_slice(&session.epoch.index.to_le_bytes());
            self.buffer.extend_from_slice(&session.epoch.ordinal.to_le_bytes());
            let length = u16::try_from(session.client.len()).expect("an MQTT string");
            self.buffer.extend_from_slice(&length.to_le_bytes());
            self.buffer.extend_from_slice(session.client.as_bytes());
        }
        let sessions_bytes = self.buffer.len() - before_sessions;
        for (ordinal, position) in &self.fences {
            self.buffer.extend_from_slice(&ordinal.to_le_bytes());
            self.buffer.extend_from_slice(&position.to_le_bytes());
        }
        Footer {
            records_bytes: u32_of(records_bytes),
            records: self.count,
            sessions_bytes: u32_of(sessions_bytes),
            sessions: u16::try_from(self.sessions.len()).expect("bounded by the batch's bytes"),
            fences: u16::try_from(self.fences.len()).expect("bounded by the batch's bytes"),
            namespace: self.namespace,
        }
        .encode(&mut self.buffer);
    }

    /// Forgets all events.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.resize(self.headroom, 0);
        self.count = 0;
        self.sessions.clear();
        self.slots.clear();
        self.last = None;
        self.fences.clear();
        self.tables_bytes = 0;
    }

    fn slot(&mut self, session: Option<(&ClientId, Offset)>) -> u16 {
        let Some((client, epoch)) = session else {
            return NO_SESSION;
        };
        if let Some((last, slot)) = self.last
            && last == epoch
        {
            return slot;
        }
        let slot = *self.slots.entry(epoch).or_insert_with(|| {
            self.sessions.push(SessionRef { client: client.clone(), epoch });
            self.tables_bytes += SESSION_BYTES + client.len();
            u16::try_from(self.sessions.len() - 1).expect("bounded by the batch's bytes")
        });
        self.last = Some((epoch, slot));
        slot
    }

    fn record(
        &mut self,
        kind: u8,
        flags: u8,
        slot: u16,
        cause: Option<Offset>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        let start = self.buffer.len();
        let flags = flags | if cause.is_some() { HAS_CAUSE } else { 0 };
        let [slot_low, slot_high] = slot.to_le_bytes();
        let header: [u8; RECORD_HEADER] = [0, 0, 0, 0, kind, flags, slot_low, slot_high];
        self.buffer.extend_from_slice(&header);
        if let Some(cause) = cause {
            self.buffer.extend_from_slice(&cause.index.to_le_bytes());
            self.buffer.extend_from_slice(&cause.ordinal.to_le_bytes());
        }
        body(&mut self.buffer);
        let length = u32_of(self.buffer.len() - start);
        self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self.count - 1
    }
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is smaller than 4 GiB")
}
