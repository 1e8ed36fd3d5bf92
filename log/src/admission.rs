//! Admission: which batches and events count, decided from log order alone.
//!
//! A small fold over the committed entries, the same on every node. It admits each producer's
//! batches exactly once and in sequence, and it fences: an event of a session whose epoch is not
//! the client's current one is void, from the very event that moved the epoch on.

mod snapshot;

use std::sync::Arc;

use hashbrown::HashMap;
use ledgermq_core::event::batch::{Batch, Fence};
use ledgermq_core::event::{Event, EventError, EventRef, SessionOpened};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::{Index, Offset};

use crate::committed::{CommittedBatch, Voids};

pub(crate) use snapshot::SnapshotError;

/// No record of the session is void.
const NEVER: u32 = u32::MAX;

/// The fold. Its size grows with the sessions that are not over, about 60 bytes each and the
/// Client Identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Everything up to here was folded.
    applied: Index,
    /// Sequence of the last admitted batch of each producer.
    producers: HashMap<ProducerId, u64>,
    /// Current epoch of each client whose session is not over.
    epochs: HashMap<ClientId, Epoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    opened: Offset,
    node: u64,
    /// The session ends with its connection.
    is_transient: bool,
}

impl Admission {
    /// Everything up to this index was folded.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Notes an entry that carries no batch.
    pub(crate) fn skip(&mut self, index: Index) {
        debug_assert!(index > self.applied, "entries are folded in order");
        self.applied = index;
    }

    /// Folds the next batch and says what of it is void.
    ///
    /// # Errors
    ///
    /// If the batch is damaged behind its checksum: a broken invariant that must stop the node.
    pub(crate) fn apply(&mut self, committed: &CommittedBatch) -> Result<Voids, EventError> {
        debug_assert!(committed.index > self.applied, "entries are folded in order");
        self.applied = committed.index;
        let last = self.producers.entry(committed.producer).or_insert(0);
        if committed.sequence != *last + 1 {
            if *last == 0 {
                self.producers.remove(&committed.producer);
            }
            return Ok(Voids::All);
        }
        *last = committed.sequence;
        let batch = committed.batch();
        let mut void_from = Vec::new();
        for session in batch.sessions() {
            let session = session?;
            let current = self.epochs.get(session.client).map(|epoch| epoch.opened);
            void_from.push(if current == Some(session.epoch) { NEVER } else { 0 });
        }
        for fence in batch.fences() {
            self.pass(committed.index, &batch, fence, &mut void_from)?;
        }
        let is_clean = void_from.iter().all(|from| *from == NEVER);
        Ok(if is_clean { Voids::None } else { Voids::Sessions(Arc::from(void_from)) })
    }

    /// Lets one fence move the epochs on.
    fn pass(
        &mut self,
        index: Index,
        batch: &Batch<'_>,
        fence: Fence,
        void_from: &mut [u32],
    ) -> Result<(), EventError> {
        let record = batch.record_at(fence)?;
        let EventRef::Other(event) = record.event()? else { return Ok(()) };
        match event {
            Event::SessionOpened(opened) => {
                self.open(Offset::new(index, fence.ordinal), &opened);
                for (from, session) in void_from.iter_mut().zip(batch.sessions()) {
                    if session?.client == opened.client.as_str() {
                        *from = (*from).min(fence.ordinal);
                    }
                }
            }
            Event::SessionExpired | Event::SessionClosed { session_expiry_interval: 0, .. } => {
                let Some(slot) = record.session else { return Ok(()) };
                let slot = usize::from(slot);
                if void_from.get(slot).is_none_or(|from| *from <= fence.ordinal) {
                    return Ok(());
                }
                if let Some(session) = batch.sessions().nth(slot) {
                    self.epochs.remove(session?.client);
                }
                void_from[slot] = fence.ordinal + 1;
            }
            Event::NodeStarted { node, start } => {
                let is_alive =
                    |producer: &ProducerId| producer.node != node || producer.start >= start;
                self.producers.retain(|producer, _| is_alive(producer));
                self.epochs.retain(|_, epoch| epoch.node != node || !epoch.is_transient);
            }
            Event::SessionClosed { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::MessageReleased { .. }
            | Event::DeliveryStarted { .. }
            | Event::DeliveryReceived { .. }
            | Event::DeliveryProgressed { .. }
            | Event::MessageDropped { .. } => {}
        }
        Ok(())
    }

    fn open(&mut self, opened: Offset, event: &SessionOpened) {
        let epoch =
            Epoch { opened, node: event.node, is_transient: event.session_expiry_interval == 0 };
        self.epochs.insert(event.client.clone(), epoch);
    }
}

#[cfg(test)]
mod tests;
