//! What is due is appended by the leader alone, so that it happens once.

use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_log::Leading;

use crate::projector::{Events, Output, Projector};

/// Time between two looks for what is due.
const INTERVAL: Duration = Duration::from_millis(50);
/// Most events in one batch.
const EVENTS_MAX: usize = 1_000;

/// Whether this node leads, and its batch of what is due.
#[derive(Debug, Default)]
pub(super) struct Lead {
    leading: Option<Leading>,
    /// Everything up to here was handed to the projector.
    reached: Index,
    batch: Batch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Batch {
    #[default]
    Idle,
    Sent,
    At(Index),
}

impl Lead {
    /// Whether no batch of what is due is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.batch == Batch::Idle
    }

    /// Everything up to here was handed to the projector.
    pub(super) fn reached(&self) -> Index {
        self.reached
    }

    /// The views hold everything up to `index`.
    pub(super) fn note_applied(&mut self, index: Index) {
        if matches!(self.batch, Batch::At(at) if at <= index) {
            self.batch = Batch::Idle;
        }
    }
}

impl Projector {
    /// Whether this node leads the log ([`ledgermq_log::Log::leading`]), and the last index that was
    /// read: batches up to it come with the next [`Projector::turn`] at the latest.
    ///
    /// Only a leader that knows everything before its term appends what is due. What was under way
    /// in another term is not waited for: if it is committed, the log has it before this term.
    pub fn set_lead(&mut self, leading: Option<Leading>, reached: Index) {
        let lead = &mut self.lead;
        if lead.leading != leading {
            lead.leading = leading;
            lead.batch = Batch::Idle;
        }
        lead.reached = reached;
    }

    /// The answer to [`Output::Derive`]: the index of the batch; none if this node leads that term
    /// no more, or could not append now. Then what is still due is derived again.
    pub fn derived(&mut self, term: u64, index: Option<Index>) {
        let is_of_now = self.lead.leading.is_some_and(|leading| leading.term == term);
        if is_of_now && self.lead.batch == Batch::Sent {
            self.lead.batch = index.map_or(Batch::Idle, Batch::At);
            self.note_applied();
        }
    }

    /// Whether what is due may be named at all.
    pub(super) fn may_derive(&self) -> bool {
        let lead = &self.lead;
        lead.leading.is_some_and(|leading| lead.reached >= leading.first)
    }

    pub(super) fn derive_due(
        &mut self,
        now: Timestamp,
        log_time: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let Some(Leading { term, .. }) = self.lead.leading.filter(|_| self.may_derive()) else {
            return;
        };
        if !self.is_free() || now < self.next_due {
            return;
        }
        let (time, next) = self.reader.with(|views| (views.time(), views.next_due()));
        let log_time = log_time.max(time);
        if next.is_none_or(|due| due > log_time) {
            return;
        }
        self.next_due = now.plus(INTERVAL);
        let mut due = Vec::new();
        self.reader.views_mut().due(log_time, EVENTS_MAX, &mut due);
        if !due.is_empty() {
            self.lead.batch = Batch::Sent;
            out.push(Output::Derive { term, events: Events::Due(due) });
        }
    }
}
