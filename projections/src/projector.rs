//! What the driver does, without threads: when to apply, to append what is due, to write a
//! checkpoint, to keep owed messages before a purge.
//!
//! ```text
//! batches --turn--> views, notices, Output::{Append, Derive, Save, Keep, ..}
//!                     ^------- appended, derived, saved, kept <-------'
//! ```

mod cut;
mod events;
mod install;
mod lead;
mod open;
mod rules;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::checkpoint::{Changes, StoreError};
use crate::notice::Notice;
use crate::reader::Reader;
use crate::views::{Broken, Limits, Views};

pub use events::Events;
pub use install::InstallError;
pub use open::OpenError;

/// Least pause before an instant of the log's time is looked for again.
const DUE_PAUSE_MIN: Duration = Duration::from_millis(20);
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
    /// Append these events as one batch if this node still leads `term`
    /// ([`ledgermq_log::Log::derive`]); answer by [`Projector::derived`]. In that term there is no
    /// further one before the answer is applied.
    Derive {
        /// The term in which they were derived.
        term: u64,
        /// What is due.
        events: Events,
    },
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
    /// Write the checkpoint out ([`crate::checkpoint::export()`]), which stands at this index and keeps all
    /// that is owed up to there, before anything else is saved. The answer goes to the log.
    Cut(Index),
    /// The cut that the log wants at this index cannot be had.
    CutFailed(Index),
    /// Take the snapshot in that the log has here ([`crate::checkpoint::import()`]); answer by
    /// [`Projector::imported`].
    Import {
        /// Its index.
        index: Index,
        /// Its row checksum.
        checksum: u64,
    },
    /// Tell the log that the snapshot of this index was taken in, or why it was not.
    Imported {
        /// Its index.
        index: Index,
        /// Why it was not.
        result: Result<(), String>,
    },
    /// Put what was taken in in place of the store ([`crate::checkpoint::Store::take_place`]); answer by
    /// [`Projector::took_place`].
    TakePlace,
    /// What was taken in is not needed ([`crate::checkpoint::Beside::discard`]).
    Discard,
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
    asked: Asked,
    lead: lead::Lead,
    rules: rules::Wanted,
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
    cut: cut::Cut,
    install: install::Install,
}

/// Whether the log knows that this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    No,
    Sent,
    At(Index),
    Ready,
}

/// Whether an answer to [`Output::Append`] is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
    /// It is for what an earlier incarnation appended, and says nothing.
    InVain,
}

/// The append of access rules.
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
        let (before, behind) = batches.split_at(self.before_cut(batches));
        if !before.is_empty() {
            self.apply(before, notices)?;
        }
        self.take_cut(!behind.is_empty());
        if !behind.is_empty() {
            self.apply(behind, notices)?;
        }
        self.install(now, out);
        if self.is_installing() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_log_told, true) {
            out.push(Output::Checkpointed(self.checkpointed));
            out.push(Output::PurgeAllowed(self.kept_upto));
        }
        self.append_start(now, out);
        self.append_rules(now, out);
        self.derive_due(now, log_time, out);
        self.checkpoint(now, out);
        self.keep_cut(now, out);
        self.keep(now, out);
        Ok(())
    }

    /// When [`Projector::turn`] wants to be called at the latest, though no batch comes.
    #[must_use]
    pub fn wake_at(&self, now: Timestamp, log_time: Timestamp) -> Option<Timestamp> {
        if self.is_installing() {
            return self.install_at();
        }
        let due = (self.is_free() && self.may_derive())
            .then(|| self.reader.with(|views| views.next_due()))
            .flatten()
            .map(|due| now.plus(pause_until(due, log_time)).max(self.next_due));
        let rules = (self.is_free() && self.rules.is_any()).then_some(self.next_due);
        let is_unsaved = self.saving.is_some() || self.reader.applied() > self.checkpointed;
        let may_save = !self.is_save_running && !self.cut.holds_store();
        let checkpoint = (is_unsaved && may_save).then_some(self.next_checkpoint);
        let start = (self.started == Started::No).then_some(self.next_due);
        let is_keep_due = self.keep_upto().is_some() || self.cut.is_keep_due();
        let keep = (is_keep_due && !self.is_keep_running).then_some(self.next_keep);
        let install = self.install_at();
        [due, rules, checkpoint, start, keep, install].into_iter().flatten().min()
    }

    /// The answer to [`Output::Append`]: the index of the batch, or none if it was refused and
    /// will never be in the log.
    pub fn appended(&mut self, now: Timestamp, index: Option<Index>) {
        if std::mem::replace(&mut self.asked, Asked::No) == Asked::InVain {
            return;
        }
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

    /// This process begins anew as `start`, another incarnation ([`ledgermq_log::Log::incarnation`]):
    /// its start is appended again, and the views are not ready before that is applied.
    pub fn renew(&mut self, start: u64) {
        self.options.start = start;
        self.reader.set_ready(0);
        (self.started, self.append) = (Started::No, Append::Idle);
        if self.asked == Asked::Yes {
            self.asked = Asked::InVain;
        }
    }

    /// The start as which it writes.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.options.start
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
            self.cut.saved(changes.applied);
            out.push(Output::Checkpointed(changes.applied));
        }
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
        if let Some(upto) = upto {
            self.note_kept(upto, messages);
            out.push(Output::PurgeAllowed(upto));
        } else {
            self.next_keep = now.plus(RETRY_INTERVAL);
        }
        self.cut_kept(upto, out);
    }

    fn note_kept(&mut self, upto: Index, messages: &[Offset]) {
        self.kept.extend(messages);
        self.kept_upto = self.kept_upto.max(upto);
        self.reader.views_mut().set_kept(self.kept_upto);
    }

    /// The last checkpoint before a clean stop; none if everything is saved, a save is running, or the
    /// store is that of another state by now.
    pub fn last_checkpoint(&mut self) -> Option<Arc<Changes>> {
        if self.is_save_running || self.is_installing() {
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
            self.reader.set_ready(self.options.start);
        }
        if let Append::At(index) = self.append
            && applied >= index
        {
            self.append = Append::Idle;
        }
        self.lead.note_applied(applied);
    }

    /// Whether something new may be appended: one batch is under way at a time, so that a will that
    /// was found allowed does not come behind rules of this node that forbid it.
    fn is_free(&self) -> bool {
        self.started == Started::Ready && self.append == Append::Idle && self.lead.is_idle()
    }

    fn append_start(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.started == Started::No && self.asked == Asked::No && now >= self.next_due {
            self.started = Started::Sent;
            self.asked = Asked::Yes;
            let Options { node, start, .. } = self.options;
            out.push(Output::Append(Events::NodeStarted { node, start }));
        }
    }

    fn checkpoint(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.is_save_running || self.cut.holds_store() {
            return;
        }
        let is_large = || {
            self.cut.has_queued()
                || self.reader.with(|views| views.unsaved_rows()) >= UNSAVED_ROWS_MAX
        };
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
        if self.saving.is_none() {
            self.saving = self.cut.take_queued();
        }
        if self.saving.is_none() && self.reader.applied() > self.checkpointed {
            let mut views = self.reader.views_mut();
            let mut changes = views.changes();
            if sweeps {
                changes.forget = self.owed_by_none(&views);
            }
            self.saving = Some(Arc::new(changes));
        }
        self.saving.clone()
    }

    /// The copies that nobody is owed any more.
    fn owed_by_none(&self, views: &Views) -> Vec<Offset> {
        if self.kept.is_empty() {
            return Vec::new();
        }
        let owed = views.owed_between(0, self.kept_upto);
        self.kept.difference(&owed).copied().collect()
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
