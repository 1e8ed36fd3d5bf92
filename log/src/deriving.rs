//! Derived events: what follows from the log itself and the time, such as wills, expiries and lost
//! nodes. Every node could name them; only the leader appends them, so that each is there once.
//!
//! - They are batches of a producer of their own, [`DERIVED`] of the process, numbered after the
//!   last one that was admitted.
//! - They are proposed in the term in which they were derived, by its leader, when everything up to
//!   the first entry of that term is applied: what earlier leaders derived lies before it.
//! - One is in flight at a time, and none is ever sent again: what is lost is derived again.
//!
//! So who derives has seen all that was derived before. Admission needs no rule of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ledgermq_core::event::BatchBuilder;
use ledgermq_core::offset::Index;

use crate::log::Log;
use crate::shared::lock;

/// Number, in each process, of the producer of derived events.
pub(crate) const DERIVED: u16 = u16::MAX;

/// This node is the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leading {
    /// Of this term.
    pub term: u64,
    /// The first entry of that term. Whoever derives events has seen everything up to it.
    pub first: Index,
}

/// Derived events on their way.
#[derive(Debug)]
pub struct Derivation {
    answer: Arc<Answer>,
}

/// `None` until it is there; then the index, or none if the events are not to be waited for.
#[derive(Debug, Default)]
struct Answer {
    outcome: Mutex<Option<Option<Index>>>,
    given: Condvar,
}

impl Answer {
    fn give(&self, outcome: Option<Index>) {
        lock(&self.outcome).get_or_insert(outcome);
        self.given.notify_all();
    }
}

impl Derivation {
    /// The answer, if it is there: the index at which the events are, or none if this node does not
    /// lead in their term (any more), or they came in between others. They are not sent again: what
    /// still follows from the log is to be derived again.
    #[must_use]
    pub fn outcome(&self) -> Option<Option<Index>> {
        *lock(&self.answer.outcome)
    }

    /// Waits for the answer, which also comes when the log stops. Never to be called by the thread
    /// that turns the log.
    #[must_use]
    pub fn wait(self) -> Option<Index> {
        let mut outcome = lock(&self.answer.outcome);
        loop {
            if let Some(outcome) = *outcome {
                return outcome;
            }
            outcome = self.answer.given.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Log {
    /// The term that this node leads, if it leads one.
    #[must_use]
    pub fn leading(&self) -> Option<Leading> {
        lock(&self.shared().deriving).leading
    }

    /// Whether this node is the only member: nobody else has a say in what it logs.
    #[must_use]
    pub fn is_sole_member(&self) -> bool {
        lock(&self.shared().deriving).is_sole_member
    }

    /// Appends events that were derived from the log as leader of `term`, as one batch; see the
    /// answer in [`Derivation::outcome`]. Without waiting, and whatever room there is: one such
    /// batch is on its way at a time, and a second one is answered by none.
    #[must_use]
    pub fn derive(&self, term: u64, events: BatchBuilder) -> Derivation {
        let answer = Arc::new(Answer::default());
        let mut deriving = lock(&self.shared().deriving);
        let is_leading = deriving.leading.is_some_and(|leading| leading.term == term);
        if is_leading && deriving.slot.is_none() {
            let stage = Stage::Waiting(Box::new(events));
            deriving.slot = Some(Slot { term, answer: Arc::clone(&answer), stage });
            drop(deriving);
            self.shared().wake_thread();
        } else {
            drop(deriving);
            answer.give(None);
        }
        Derivation { answer }
    }
}

/// What the log thread and those who derive share.
#[derive(Default)]
pub(crate) struct Deriving {
    pub(crate) leading: Option<Leading>,
    pub(crate) is_sole_member: bool,
    pub(crate) slot: Option<Slot>,
}

/// The batch on its way.
pub(crate) struct Slot {
    pub(crate) term: u64,
    answer: Arc<Answer>,
    pub(crate) stage: Stage,
}

impl Slot {
    pub(crate) fn answer(self, outcome: Option<Index>) {
        self.answer.give(outcome);
    }
}

pub(crate) enum Stage {
    Waiting(Box<BatchBuilder>),
    /// It is in raft's log with this sequence, and not committed.
    Proposed(u64),
}

impl Deriving {
    /// Puts a batch of the log's own on its way; nothing may be.
    pub(crate) fn put(&mut self, term: u64, events: BatchBuilder) {
        let stage = Stage::Waiting(Box::new(events));
        self.slot = Some(Slot { term, answer: Arc::default(), stage });
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.slot.is_none()
    }

    /// Whether a batch waits to be proposed.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.slot, Some(Slot { stage: Stage::Waiting(_), .. }))
    }

    /// The log has stopped: nothing is derived any more.
    pub(crate) fn stop(&mut self) {
        self.leading = None;
        self.refuse();
    }

    /// Answers by none, whatever is on its way.
    pub(crate) fn refuse(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.answer(None);
        }
    }
}
