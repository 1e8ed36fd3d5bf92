//! The machine's part of `deriving.rs`: it knows who leads, proposes, and sees what is committed.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Timestamp;

use crate::committed::CommittedBatch;
use crate::deriving::{DERIVED, Slot, Stage};
use crate::envelope;
use crate::machine::proposing::check_foldable;
use crate::machine::{LogMachine, TurnError};
use crate::shared::lock;
use crate::staging;
use crate::store::LogStore;

impl<S: LogStore> LogMachine<S> {
    /// Looks whether this node leads, and proposes what was derived if it does. What it cannot
    /// propose is answered; only a write that waits for the disk, so that it may not propose, is
    /// waited for.
    pub(super) fn derive(&mut self, time: Timestamp, may_propose: bool) -> Result<(), TurnError> {
        let shared = Arc::clone(&self.shared);
        let mut deriving = lock(&shared.deriving);
        let leading = self.replica.leading();
        deriving.leading = leading;
        deriving.is_sole_member = self.replica.is_sole_member();
        let Some(slot) = &mut deriving.slot else { return Ok(()) };
        let is_ours = leading.is_some_and(|leading| {
            leading.term == slot.term && self.admission.applied() >= leading.first
        });
        if !is_ours {
            // A batch that was proposed may be committed all the same: by a leader whose first
            // entry comes behind it.
            deriving.refuse();
            return Ok(());
        }
        if !may_propose || self.replica.is_stuck() {
            return Ok(());
        }
        let Stage::Waiting(events) = &mut slot.stage else { return Ok(()) };
        let producer = ProducerId { node: shared.node, start: shared.start(), local: DERIVED };
        let sequence = self.admission.last(producer) + 1;
        let mut bytes = staging::close(events, producer, sequence, time);
        check_foldable(&bytes)?;
        envelope::stamp(&mut bytes, time);
        slot.stage = Stage::Proposed(sequence);
        if !self.replica.propose(Bytes::from(bytes)) {
            // Leadership is on its way to another.
            deriving.refuse();
        }
        Ok(())
    }

    /// Answers for a derived batch of this process that is committed, and in the ring.
    pub(super) fn answer_derived(&self, batch: &CommittedBatch) {
        let ProducerId { node, start, local } = batch.producer;
        if local != DERIVED || (node, start) != (self.shared.node, self.shared.start()) {
            return;
        }
        let mut deriving = lock(&self.shared.deriving);
        let is_it = |slot: &mut Slot| matches!(slot.stage, Stage::Proposed(sequence) if sequence == batch.sequence);
        if let Some(slot) = deriving.slot.take_if(is_it) {
            drop(deriving);
            slot.answer(batch.is_admitted().then_some(batch.index));
        }
    }
}
