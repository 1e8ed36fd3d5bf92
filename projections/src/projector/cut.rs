//! A cut: the state as of one index, whole and durable, to be given to other nodes.
//!
//! The changes up to the index are taken as soon as the views have come as far; folding goes on at once.
//! They are saved behind what waits to be saved already, then what was owed at that moment is kept, and
//! from the save until the store was told to write everything out nothing else is saved.

use std::sync::Arc;

use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::checkpoint::Changes;
use crate::projector::{Output, Projector};

/// The cut that is wanted, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// The log's wish, which may have been met already.
    wanted: Option<Index>,
    step: Step,
    /// Changes up to a cut, also one that was given up, that wait for others to be saved.
    queued: Option<Arc<Changes>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing to do, or nothing more.
    #[default]
    Idle,
    /// The views have not come as far.
    Ahead(Index),
    /// What is owed at the index is known, and the changes up to it are taken.
    Taken(Index, Vec<Offset>),
    /// They are durable.
    Saved(Index, Vec<Offset>),
    /// The copies are being made.
    Keeping(Index, Vec<Offset>),
}

impl Cut {
    /// Whether the store has to stay as it is but for what the cut adds.
    pub(super) fn holds_store(&self) -> bool {
        matches!(self.step, Step::Saved(..) | Step::Keeping(..))
    }

    /// The changes that are to be saved next, before any later ones.
    pub(super) fn take_queued(&mut self) -> Option<Arc<Changes>> {
        self.queued.take()
    }

    /// Whether changes wait to be saved.
    pub(super) fn has_queued(&self) -> bool {
        self.queued.is_some()
    }

    /// Whether there is a step to take at once.
    pub(super) fn is_keep_due(&self) -> bool {
        matches!(self.step, Step::Saved(..))
    }

    /// The store holds everything up to `index`.
    pub(super) fn saved(&mut self, index: Index) {
        if let Step::Taken(at, owed) = &mut self.step
            && *at == index
        {
            self.step = Step::Saved(index, std::mem::take(owed));
        }
    }

    /// Nothing of it counts any more: the state is another.
    pub(super) fn reset(&mut self) {
        (self.step, self.queued) = (Step::Idle, None);
    }
}

impl Projector {
    /// The log wants a cut at this index ([`ledgermq_log::Log::cut_wanted`]), or no longer one. To be told
    /// before each [`Projector::turn`], with the batches that it gets in hand. It is answered by
    /// [`Output::Cut`], or by [`Output::CutFailed`] if the views have gone beyond.
    pub fn cut_wanted(&mut self, wanted: Option<Index>, out: &mut Vec<Output>) {
        if self.cut.wanted == wanted {
            return;
        }
        self.cut.wanted = wanted;
        // What was taken for another one is still saved.
        self.cut.step = Step::Idle;
        let Some(index) = wanted else { return };
        if self.is_installing() || self.cut.has_queued() || self.reader.applied() > index {
            out.push(Output::CutFailed(index));
        } else {
            self.cut.step = Step::Ahead(index);
        }
    }

    /// How many of `batches` belong to the state that is wanted: all, if none is.
    pub(super) fn before_cut(&self, batches: &[Arc<CommittedBatch>]) -> usize {
        match self.cut.step {
            Step::Ahead(index) => batches.partition_point(|batch| batch.index <= index),
            _ => batches.len(),
        }
    }

    /// Takes the changes, if the views stand where the cut is wanted: everything up to there was
    /// applied, and `reaches_beyond` says that nothing more of it will come.
    pub(super) fn take_cut(&mut self, reaches_beyond: bool) {
        let Step::Ahead(index) = self.cut.step else { return };
        if !reaches_beyond && self.lead.reached() < index {
            return;
        }
        let mut views = self.reader.views_mut();
        views.pass(index);
        let owed = views.owed_between(self.kept_upto, index);
        self.cut.step = if index > self.checkpointed {
            let mut changes = views.changes();
            changes.forget = self.owed_by_none(&views);
            self.cut.queued = Some(Arc::new(changes));
            Step::Taken(index, owed.into_iter().collect())
        } else {
            Step::Saved(index, owed.into_iter().collect())
        };
        self.reader.publish(&views);
    }

    /// Has the owed messages of a cut copied, which the purge of the log needs no more than others.
    pub(super) fn keep_cut(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.is_keep_running || now < self.next_keep {
            return;
        }
        if let Step::Saved(index, owed) = &mut self.cut.step {
            let (upto, messages) = (*index, std::mem::take(owed));
            self.cut.step = Step::Keeping(upto, messages.clone());
            self.is_keep_running = true;
            out.push(Output::Keep { upto, messages });
        }
    }

    /// Copies were made up to here, or were not.
    pub(super) fn cut_kept(&mut self, upto: Option<Index>, out: &mut Vec<Output>) {
        let Step::Keeping(index, owed) = &mut self.cut.step else { return };
        let index = *index;
        if upto == Some(index) {
            self.cut.step = Step::Idle;
            out.push(Output::Cut(index));
        } else {
            self.cut.step = Step::Saved(index, std::mem::take(owed));
        }
    }
}
