//! What the driver does, without threads: when to apply, to append what is due, to write a
//! checkpoint, to keep owed messages before a purge.
//!
//! ```text
//! batches --turn--> views, notices, Output::{Append, Save, Keep, ..}
//!                     ^------- appended, saved, kept <-------'
//! ```

mod events;
mod open;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::access::RuleList;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::checkpoint::{Changes, StoreError};
use crate::notice::Notice;
use crate::reader::Reader;
use crate::views::{Broken, Limits};

pub use events::Events;
pub use open::OpenError;

/// Time between two looks for what is due.
const DUE_INTERVAL: Duration = Duration::from_millis(50);
/// Least pause before an instant of the log's time is looked for again.
const DUE_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Most events that are due in one append.
const DUE_EVENTS_MAX: usize = 1_000;
/// Changed rows at which a checkpoint does not wait for its time: bounds the work of one.
const UNSAVED_ROWS_MAX: usize = 20_000;
/// Time between two sweeps of the kept messages.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Time until something that was refused is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Settings of the projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// This node.
    pub node: u64,
    /// Start epoch of this process.
    pub start: u64,
    /// How much may be owed to one session.
    pub limits: Limits,
    /// Time between two checkpoints.
    pub checkpoint_interval: Duration,
}

/// Something that the projector wants done.
#[derive(Debug)]
pub enum Output {
    /// Append these events as one batch; answer by [`Projector::appended`]. There is no further
    /// one before the answer is applied.
    Append(Events),
    /// Make these changes durable ([`crate::checkpoint::Store::commit`]); answer by
    /// [`Projector::saved`]. There is no further one before the answer.
    Save(Arc<Changes>),
    /// Copy these messages from the log ([`crate::views::retained::RetainedMessage::copy`],
    /// [`crate::checkpoint::Store::keep`]); answer by [`Projector::kept`]. There is no further one before the answer.
    Keep {
        /// Everything owed up to here is among the messages or was kept before.
        upto: Index,
        /// Where the messages are, ascending.
        messages: Vec<Offset>,
    },
    /// Everything up to this index is in a durable checkpoint.
    Checkpointed(Index),
    /// Nothing up to this index is read from the log any more.
    PurgeAllowed(Index),
}

/// The projections' machine. Its `now` is any clock that runs evenly; what is due is judged by the
/// time of the log, which is another.
pub struct Projector {
    options: Options,
    reader: Reader,
    /// Whether the log was told what an earlier process saved and kept.
    is_log_told: bool,
    started: Started,
    append: Append,
    /// The access rules that are to be in force, until they are.
    rules_wanted: Option<Option<RuleList>>,
    next_due: Timestamp,
    saving: Option<Arc<Changes>>,
    is_save_running: bool,
    next_checkpoint: Timestamp,
    checkpointed: Index,
    purge_wanted: Option<Index>,
    is_keep_running: bool,
    next_keep: Timestamp,
    kept: BTreeSet<Offset>,
    kept_upto: Index,
    next_sweep: Timestamp,
}

/// Whether the log knows that this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    No,
    Sent,
    At(Index),
    Ready,
}

/// The append of what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Append {
    Idle,
    Sent,
    At(Index),
}

impl Projector {
    /// The handle to the views.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The first index that is not applied: where the log is to be read from.
    #[must_use]
    pub fn next_index(&self) -> Index {
        self.reader.applied() + 1
    }

    /// Applies `batches`, which follow each other in the log, and says what else is to be done.
    ///
    /// `log_time` is a time below which the log stamps no batch from now on
    /// ([`ledgermq_log::Status::time`]): what is due by it is due when it is appended.
    ///
    /// Notices appear from the moment on when the start of this process is applied: what came
    /// before concerns connections that are gone.
    ///
    /// # Errors
    ///
    /// [`Broken`]: the node has to stop.
    pub fn turn(
        &mut self,
        now: Timestamp,
        log_time: Timestamp,
        batches: &[Arc<CommittedBatch>],
        notices: &mut Vec<Notice>,
        out: &mut Vec<Output>,
    ) -> Result<(), Broken> {
        if !batches.is_empty() {
            self.apply(batches, notices)?;
        }
        if !std::mem::replace(&mut self.is_log_told, true) {
            out.push(Output::Checkpointed(self.checkpointed));
            out.push(Output::PurgeAllowed(self.kept_upto));
        }
        self.start(now, out);
        self.append_rules(now, out);
        self.append_due(now, log_time, out);
        self.checkpoint(now, out);
        self.keep(now, out);
        Ok(())
    }

    /// When [`Projector::turn`] wants to be called at the latest, though no batch comes.
    #[must_use]
    pub fn wake_at(&self, now: Timestamp, log_time: Timestamp) -> Option<Timestamp> {
        let due = (self.started == Started::Ready && self.append == Append::Idle)
            .then(|| self.reader.with(|views| views.next_due()))
            .flatten()
            .map(|due| now.plus(pause_until(due, log_time)).max(self.next_due));
        let has_rules = self.rules_wanted.is_some()
            && self.started == Started::Ready
            && self.append == Append::Idle;
        let rules = has_rules.then_some(self.next_due);
        let is_unsaved = self.saving.is_some() || self.reader.applied() > self.checkpointed;
        let checkpoint = (is_unsaved && !self.is_save_running).then_some(self.next_checkpoint);
        let start = (self.started == Started::No).then_some(self.next_due);
        let keep = (self.keep_upto().is_some() && !self.is_keep_running).then_some(self.next_keep);
        [due, rules, checkpoint, start, keep].into_iter().flatten().min()
    }

    /// The answer to [`Output::Append`]: the index of the batch, or none if it was refused and
    /// will never be in the log.
    pub fn appended(&mut self, now: Timestamp, index: Option<Index>) {
        if index.is_none() {
            self.next_due = now.plus(RETRY_INTERVAL);
        }
        if self.started == Started::Sent {
            self.started = index.map_or(Started::No, Started::At);
        } else if self.append == Append::Sent {
            self.append = index.map_or(Append::Idle, Append::At);
        }
        self.note_applied();
    }

    /// The answer to [`Output::Save`]. After an error the same changes are tried again.
    pub fn saved(&mut self, now: Timestamp, result: Result<(), StoreError>, out: &mut Vec<Output>) {
        self.is_save_running = false;
        if result.is_err() {
            self.next_checkpoint = now.plus(self.options.checkpoint_interval);
            return;
        }
        if let Some(changes) = self.saving.take() {
            for offset in &changes.forget {
                self.kept.remove(offset);
            }
            self.checkpointed = changes.applied;
            self.reader.set_checkpointed(changes.applied);
            out.push(Output::Checkpointed(changes.applied));
        }
    }

    /// Puts access rules in force, by an event, if others are. None: no rules, everything is open
    /// that needs none.
    ///
    /// It is the projector's business since it also publishes the wills: one append is under way at
    /// a time, so a will that was found allowed does not come behind rules that forbid it.
    pub fn set_rules(&mut self, rules: Option<RuleList>) {
        self.rules_wanted = Some(rules);
    }

    /// The log would like to drop everything up to this index.
    pub fn purge_wanted(&mut self, upto: Option<Index>) {
        self.purge_wanted = upto;
    }

    /// The answer to [`Output::Keep`]: what was copied, and up to where; none if that failed.
    pub fn kept(
        &mut self,
        now: Timestamp,
        upto: Option<Index>,
        messages: &[Offset],
        out: &mut Vec<Output>,
    ) {
        self.is_keep_running = false;
        let Some(upto) = upto else {
            self.next_keep = now.plus(RETRY_INTERVAL);
            return;
        };
        self.kept.extend(messages);
        self.kept_upto = self.kept_upto.max(upto);
        self.reader.views_mut().set_kept(self.kept_upto);
        out.push(Output::PurgeAllowed(upto));
    }

    /// The last checkpoint before a clean stop; none if everything is saved or a save is running.
    pub fn last_checkpoint(&mut self) -> Option<Arc<Changes>> {
        if self.is_save_running {
            return None;
        }
        self.take_changes(false)
    }

    /// Whether [`Output::Save`] was given out and not answered.
    #[must_use]
    pub fn is_save_running(&self) -> bool {
        self.is_save_running
    }

    fn apply(
        &mut self,
        batches: &[Arc<CommittedBatch>],
        notices: &mut Vec<Notice>,
    ) -> Result<(), Broken> {
        let reader = self.reader.clone();
        let mut views = reader.views_mut();
        for batch in batches {
            views.apply(batch, notices)?;
            if self.is_before_start(batch.index) {
                notices.clear();
            }
        }
        reader.publish(&views);
        drop(views);
        self.note_applied();
        Ok(())
    }

    fn is_before_start(&self, index: Index) -> bool {
        match self.started {
            Started::No | Started::Sent => true,
            Started::At(start) => index < start,
            Started::Ready => false,
        }
    }

    fn note_applied(&mut self) {
        let applied = self.reader.applied();
        if let Started::At(index) = self.started
            && applied >= index
        {
            self.started = Started::Ready;
            self.reader.set_ready();
        }
        if let Append::At(index) = self.append
            && applied >= index
        {
            self.append = Append::Idle;
        }
    }

    fn start(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.started == Started::No && now >= self.next_due {
            self.started = Started::Sent;
            let Options { node, start, .. } = self.options;
            out.push(Output::Append(Events::NodeStarted { node, start }));
        }
    }

    fn append_rules(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.started != Started::Ready || self.append != Append::Idle {
            return;
        }
        let Some(wanted) = &self.rules_wanted else { return };
        if self.reader.with(|views| views.access().rules().list() == wanted.as_ref()) {
            self.rules_wanted = None;
        } else if now >= self.next_due {
            self.append = Append::Sent;
            out.push(Output::Append(Events::AccessRules(wanted.clone())));
        }
    }

    fn append_due(&mut self, now: Timestamp, log_time: Timestamp, out: &mut Vec<Output>) {
        if self.started != Started::Ready || self.append != Append::Idle || now < self.next_due {
            return;
        }
        let (time, next) = self.reader.with(|views| (views.time(), views.next_due()));
        let log_time = log_time.max(time);
        if next.is_none_or(|due| due > log_time) {
            return;
        }
        self.next_due = now.plus(DUE_INTERVAL);
        let mut due = Vec::new();
        self.reader.views_mut().due(log_time, DUE_EVENTS_MAX, &mut due);
        if !due.is_empty() {
            self.append = Append::Sent;
            out.push(Output::Append(Events::Due(due)));
        }
    }

    fn checkpoint(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.is_save_running {
            return;
        }
        let is_large = || self.reader.with(|views| views.unsaved_rows()) >= UNSAVED_ROWS_MAX;
        if now < self.next_checkpoint && (self.saving.is_some() || !is_large()) {
            return;
        }
        let is_time_to_sweep = now >= self.next_sweep;
        if let Some(changes) = self.take_changes(is_time_to_sweep) {
            if is_time_to_sweep {
                self.next_sweep = now.plus(SWEEP_INTERVAL);
            }
            self.is_save_running = true;
            out.push(Output::Save(changes));
        }
        self.next_checkpoint = now.plus(self.options.checkpoint_interval);
    }

    /// What is to be saved: the changes that failed last time, else the new ones.
    fn take_changes(&mut self, sweeps: bool) -> Option<Arc<Changes>> {
        if self.saving.is_none() && self.reader.applied() > self.checkpointed {
            let mut views = self.reader.views_mut();
            let mut changes = views.changes();
            if sweeps && !self.kept.is_empty() {
                let owed = views.owed_between(0, self.kept_upto);
                changes.forget = self.kept.difference(&owed).copied().collect();
            }
            self.saving = Some(Arc::new(changes));
        }
        self.saving.clone()
    }

    /// Up to where owed messages are to be kept: no further than the checkpoint, since a restart
    /// reads the log from there.
    fn keep_upto(&self) -> Option<Index> {
        let upto = self.purge_wanted?.min(self.checkpointed);
        (upto > self.kept_upto).then_some(upto)
    }

    fn keep(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.is_keep_running || now < self.next_keep {
            return;
        }
        let Some(upto) = self.keep_upto() else {
            return;
        };
        let owed = self.reader.with(|views| views.owed_between(self.kept_upto, upto));
        self.is_keep_running = true;
        out.push(Output::Keep { upto, messages: owed.into_iter().collect() });
    }
}

/// How long to wait for an instant of the log's time. That may run half as fast again as the clock
/// of the waiting, or half as fast: half of the way is never too long, and who is there soon looks
/// again.
fn pause_until(due: Timestamp, log_time: Timestamp) -> Duration {
    match due.since(log_time) {
        Duration::ZERO => Duration::ZERO,
        left => (left / 2).max(DUE_PAUSE_MIN),
    }
}
