//! Producers: the way of one thread into the log.

use std::sync::Arc;

use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;

use crate::class::Class;
use crate::envelope::ENVELOPE_BYTES;
use crate::error::Full;
use crate::receipt::Pushed;
use crate::shared::Shared;

/// One thread's way into the log. Its batches are committed in the order of its pushes.
pub struct Producer {
    id: ProducerId,
    shared: Arc<Shared>,
}

impl Producer {
    pub(crate) fn new(id: ProducerId, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// Name of the producer in its batches.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.id
    }

    pub(crate) fn set_id(&mut self, id: ProducerId) {
        self.id = id;
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// An empty batch with room for the envelope.
    #[must_use]
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(ENVELOPE_BYTES)
    }

    /// Hands the events over and leaves `events` empty: merged into the last waiting batch if both
    /// fit 64 KiB, else as a batch of their own. One lock, no copy but for the merge.
    ///
    /// Every pushed batch is committed, in the order of the pushes, or the log stops, or the cluster
    /// gives this process up: see [`Producer::renew`]. The producer finds its receipt in its tail: the admitted batch with its [`Producer::id`] and
    /// [`Pushed::sequence`].
    ///
    /// # Errors
    ///
    /// [`Full`] if more than the class's share of 8 MiB waits, or the log is about to stop. Nothing
    /// was taken; the producer is woken when there is room or the log has stopped. Nothing is taken
    /// either before [`Producer::renew`], if it is due.
    pub fn push(&mut self, class: Class, events: &mut BatchBuilder) -> Result<Pushed, Full> {
        self.shared.push(self.id, class, events)
    }
}
