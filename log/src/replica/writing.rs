//! Making durable what raft has ready, and what may only leave when it is.
//!
//! With others a write goes on beside the turns: while the disk syncs, a node hears that entries
//! are committed, hands them out, and sends what its peers wait for. One write is under way at a
//! time; what raft has ready meanwhile becomes the next one.
//!
//! ```text
//!  turn         1          2          3          4
//!  raft ready   a          b          c
//!  disk         |----- a -----|       |---- b and c ----|
//!  leaves                     what a promises           what b and c promise
//! ```

use raft::Ready;
use raft::eraftpb::{HardState, Message, MessageType};

use ledgermq_core::offset::Index;

use super::{MEMBERS_KEY, Replica, Send, Turned};
use crate::store::{LogStore, Recovered, StoreError, Unit};

/// When what a turn writes is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncing {
    /// Some time later; only votes, terms and who is in are at once.
    Later,
    /// When the turn returns.
    Within,
    /// In one of the next turns, and the turns go on.
    Beside,
}

/// What is being written, and what was.
pub(super) struct Writing {
    /// A write for which the disk had no space; it comes first when there is some. Until then raft
    /// must not be told anything: it waits for the end of what it had ready.
    stuck: Option<Stuck>,
    /// The write that is under way.
    begun: Option<Beside>,
    /// The one that comes next.
    next: Option<Beside>,
    /// Index and term of the last entry on the disk.
    last: (Index, u64),
    /// Term, vote and commit index on the disk.
    state: HardState,
    /// How many units of keys were taken over, and how many of them are on the disk.
    extras_taken: u64,
    extras_written: u64,
}

/// What waits for space.
enum Stuck {
    /// Raft waits for it.
    Within { ready: Box<Ready>, unit: Unit, sync: bool },
    /// Raft went on.
    Beside(Beside),
}

/// A write beside the turns, and what follows when it is durable.
#[derive(Default)]
struct Beside {
    unit: Unit,
    /// What raft calls the last of what it had ready; 0 if there is nothing of it.
    number: u64,
    /// What leaves then.
    messages: Vec<Message>,
    /// So many units of keys were taken over by then.
    extras: u64,
}

impl Writing {
    pub(super) fn new(recovered: &Recovered) -> Self {
        Self {
            stuck: None,
            begun: None,
            next: None,
            last: recovered.last,
            state: recovered.hard_state.clone(),
            extras_taken: 0,
            extras_written: 0,
        }
    }

    /// Takes note of what is on the disk now.
    fn wrote(&mut self, unit: &Unit, extras: u64) {
        if let Some(snapshot) = unit.snapshot {
            self.last = snapshot;
        }
        if let Some(entry) = unit.entries.last() {
            self.last = (entry.index, entry.term);
        }
        if let Some(state) = &unit.hard_state {
            self.state = state.clone();
        }
        self.extras_written = extras;
    }
}

impl<S: LogStore> Replica<S> {
    /// Index and term of the last entry that was written.
    pub(crate) fn last_durable(&self) -> (Index, u64) {
        self.writing.last
    }

    /// Whether a write waits for space on the disk.
    pub(crate) fn is_stuck(&self) -> bool {
        self.writing.stuck.is_some()
    }

    /// Bytes of the write that waits for space on the disk.
    pub(crate) fn stuck_bytes(&self) -> usize {
        self.writing.stuck.as_ref().map_or(0, |stuck| match stuck {
            Stuck::Within { unit, .. } | Stuck::Beside(Beside { unit, .. }) => unit.bytes(),
        })
    }

    /// Whether a write goes on beside the turns.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.begun.is_some()
    }

    /// Whether something of what was taken from raft or a caller is not known to be on the disk yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.is_writing() || self.writing.next.is_some()
    }

    /// Whether who is in, as applied, is on the disk.
    pub(crate) fn is_configuration_kept(&self) -> bool {
        let Writing { stuck, begun, next, .. } = &self.writing;
        let stuck = stuck.as_ref().map(|stuck| match stuck {
            Stuck::Within { unit, .. } | Stuck::Beside(Beside { unit, .. }) => unit,
        });
        let mut units = stuck.into_iter().chain(begun.iter().chain(next).map(|write| &write.unit));
        !self.is_configuration_unwritten && units.all(|unit| unit.configuration.is_none())
    }

    /// Whether that write has ended, and the next turn goes on from there.
    pub(crate) fn has_written(&self) -> bool {
        self.is_writing() && self.store.has_ended()
    }

    /// How many units of keys turns have taken over from their callers.
    pub(crate) fn extras_taken(&self) -> u64 {
        self.writing.extras_taken
    }

    /// How many of them are on the disk: the oldest ones.
    pub(crate) fn extras_written(&self) -> u64 {
        self.writing.extras_written
    }

    /// Goes on from a write beside the turns, if that has ended.
    ///
    /// # Errors
    ///
    /// See [`Replica::turn`].
    pub(crate) fn resume(&mut self, send: Send<'_>, turned: &mut Turned) -> Result<(), StoreError> {
        self.end_begun(false, send, turned)
    }

    /// Does all that is ready, and writes the keys of `extra` in the same unit. Nothing leaves that
    /// promises something before that is as durable as `syncing` says; votes, terms and who is in are
    /// always synced before.
    ///
    /// A write is always synced before the next begins (recovery counts on it), so nothing may be
    /// written to the store beside this.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSpace`]: nothing is lost, and the next turn tries the same write again.
    /// Any other error is final.
    pub(crate) fn turn(
        &mut self,
        extra: &mut Unit,
        syncing: Syncing,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        self.unstick(send, turned)?;
        if syncing == Syncing::Beside {
            self.end_begun(false, send, turned)?;
            self.take_ready_beside(extra, send, turned)?;
            self.begin_next()?;
        } else {
            self.finish_beside(send, turned)?;
            self.turn_within(extra, syncing == Syncing::Within, send, turned)?;
        }
        self.step_down_if_removed();
        Ok(())
    }

    /// Writes what found no space before.
    fn unstick(&mut self, send: Send<'_>, turned: &mut Turned) -> Result<(), StoreError> {
        match self.writing.stuck.take() {
            None => return Ok(()),
            Some(Stuck::Within { ready, unit, sync }) => {
                self.persist(*ready, unit, sync, send, turned)?;
            }
            Some(Stuck::Beside(beside)) => self.write_now(beside, send, turned)?,
        }
        std::mem::take(&mut self.lost).into_iter().for_each(|peer| self.unreachable(peer));
        self.report_late();
        Ok(())
    }

    // ---- within the turn ------------------------------------------------------------------------

    fn turn_within(
        &mut self,
        extra: &mut Unit,
        sync: bool,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        if !self.raw.has_ready() && (!extra.is_empty() || self.is_configuration_unwritten) {
            self.add_configuration(extra);
            let sync = sync || extra.configuration.is_some();
            if let Err(error) = self.store.write(extra, sync) {
                self.take_configuration_back(extra);
                return Err(error);
            }
            turned.note(extra, sync);
            self.writing.extras_taken += 1;
            self.writing.wrote(extra, self.writing.extras_taken);
            *extra = Unit::default();
        }
        while self.raw.has_ready() {
            self.do_ready(extra, sync, send, turned)?;
        }
        Ok(())
    }

    /// Does what raft has ready, and waits for the disk.
    fn do_ready(
        &mut self,
        extra: &mut Unit,
        sync: bool,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        let mut ready = self.raw.ready();
        ready.take_messages().into_iter().for_each(&mut *send);
        let committed = ready.take_committed_entries();
        self.apply(committed, turned);
        let state = self.hard_state(ready.hs());
        // A vote, a term, and who is in must hold whatever comes with it.
        let sync = sync || self.is_vote_or_term(&state) || self.is_configuration_unwritten;
        let entries = ready.take_entries();
        let mut unit = Unit { entries, hard_state: Some(state), ..self.take_extra(extra) };
        let sync = self.add_snapshot(&ready, &mut unit, turned) || sync;
        self.add_configuration(&mut unit);
        self.persist(ready, unit, sync, send, turned)
    }

    fn persist(
        &mut self,
        mut ready: Ready,
        unit: Unit,
        sync: bool,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        if self.is_needed(&unit) {
            match self.store.write(&unit, sync) {
                Ok(()) => {}
                Err(StoreError::NoSpace) => {
                    let ready = Box::new(ready);
                    self.writing.stuck = Some(Stuck::Within { ready, unit, sync });
                    return Err(StoreError::NoSpace);
                }
                Err(error) => return Err(error),
            }
            turned.note(&unit, sync);
            self.writing.wrote(&unit, self.writing.extras_taken);
        }
        if let Some(state) = unit.hard_state {
            self.raw.mut_store().set_hard_state(state);
        }
        if let Some(snapshot) = unit.snapshot {
            self.raw.mut_store().install(snapshot);
            turned.restored = Some(snapshot.0);
        }
        self.raw.mut_store().append(unit.entries);
        ready.take_persisted_messages().into_iter().for_each(&mut *send);
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        light.take_messages().into_iter().for_each(send);
        let committed = light.take_committed_entries();
        self.apply(committed, turned);
        self.was_applied();
        Ok(())
    }

    // ---- beside the turns -----------------------------------------------------------------------

    /// Takes what raft has ready into the next write, and does what need not wait for it.
    fn take_ready_beside(
        &mut self,
        extra: &mut Unit,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        while self.raw.has_ready() {
            if self.raw.raft.raft_log.unstable_snapshot().is_some() {
                // What is written before it is something else than what is written behind it.
                if self.has_unwritten() {
                    break;
                }
                self.do_ready(extra, true, send, turned)?;
                continue;
            }
            let mut ready = self.raw.ready();
            without_notices(ready.take_messages()).for_each(&mut *send);
            let committed = ready.take_committed_entries();
            self.apply(committed, turned);
            let state = self.hard_state(ready.hs());
            let mut unit = Unit { entries: ready.take_entries(), ..self.take_extra(extra) };
            unit.hard_state = Some(state.clone());
            self.add_configuration(&mut unit);
            let (number, messages) = (ready.number(), ready.take_persisted_messages());
            let is_needed = self.is_needed(&unit);
            // Raft asks the storage for these entries from now on.
            let storage = self.raw.mut_store();
            storage.set_hard_state(state);
            storage.append(unit.entries.clone());
            self.raw.advance_append_async(ready);
            self.was_applied();
            self.follow(if is_needed { unit } else { Unit::default() }, number, messages, send);
        }
        if !extra.is_empty() || self.is_configuration_unwritten {
            let mut unit = self.take_extra(extra);
            self.add_configuration(&mut unit);
            self.follow(unit, 0, Vec::new(), send);
        }
        Ok(())
    }

    /// Has `unit` written, and after it, and whatever is written before, the rest done. At once if there
    /// is nothing to wait for.
    fn follow(&mut self, unit: Unit, number: u64, messages: Vec<Message>, send: Send<'_>) {
        let extras = self.writing.extras_taken;
        let Writing { begun, next, .. } = &mut self.writing;
        let last = match (begun, &mut *next) {
            // Nothing is written: it follows upon what is under way.
            (Some(begun), None) if unit.is_empty() => begun,
            (None, None) if unit.is_empty() => {
                return self.leave(Beside { unit, number, messages, extras }, send);
            }
            _ => next.get_or_insert_default(),
        };
        last.unit.add(unit);
        last.number = last.number.max(number);
        last.messages.extend(messages);
        last.extras = extras;
    }

    /// Begins the next write, if none is under way.
    fn begin_next(&mut self) -> Result<(), StoreError> {
        if self.writing.begun.is_some() {
            return Ok(());
        }
        let Some(next) = self.writing.next.take() else { return Ok(()) };
        match self.store.begin(&next.unit) {
            Ok(()) => self.writing.begun = Some(next),
            Err(error) => return self.failed(next, error),
        }
        Ok(())
    }

    /// Goes on from the write under way, if that has ended; with `wait` it is waited for.
    fn end_begun(
        &mut self,
        wait: bool,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        if self.writing.begun.is_none() {
            return Ok(());
        }
        let Some(outcome) = self.store.end(wait) else { return Ok(()) };
        let Some(begun) = self.writing.begun.take() else { return Ok(()) };
        match outcome {
            Ok(()) => self.is_durable(begun, send, turned),
            Err(error) => return self.failed(begun, error),
        }
        Ok(())
    }

    /// Waits for all writes beside the turns.
    fn finish_beside(&mut self, send: Send<'_>, turned: &mut Turned) -> Result<(), StoreError> {
        self.end_begun(true, send, turned)?;
        match self.writing.next.take() {
            Some(next) => self.write_now(next, send, turned),
            None => Ok(()),
        }
    }

    fn write_now(
        &mut self,
        beside: Beside,
        send: Send<'_>,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        match self.store.write(&beside.unit, true) {
            Ok(()) => self.is_durable(beside, send, turned),
            Err(error) => return self.failed(beside, error),
        }
        Ok(())
    }

    fn failed(&mut self, beside: Beside, error: StoreError) -> Result<(), StoreError> {
        if matches!(error, StoreError::NoSpace) {
            self.writing.stuck = Some(Stuck::Beside(beside));
        }
        Err(error)
    }

    /// The write is on the disk.
    fn is_durable(&mut self, beside: Beside, send: Send<'_>, turned: &mut Turned) {
        turned.note(&beside.unit, true);
        self.writing.wrote(&beside.unit, beside.extras);
        self.leave(beside, send);
    }

    /// What promises it may leave now, and raft goes on from there.
    fn leave(&mut self, beside: Beside, send: Send<'_>) {
        beside.messages.into_iter().for_each(send);
        // Who has become the leader meanwhile is told nothing of the time before.
        if beside.number > 0 {
            self.raw.on_persist_ready(beside.number);
            self.settle();
        }
    }

    // ---- both -----------------------------------------------------------------------------------

    fn take_extra(&mut self, extra: &mut Unit) -> Unit {
        self.writing.extras_taken += u64::from(!extra.is_empty());
        std::mem::take(extra)
    }

    fn was_applied(&mut self) {
        self.raw.advance_apply();
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().applied(applied);
        self.settle();
    }

    /// Whether the unit needs a write of its own. A commit index alone does not: it goes with the next
    /// one, and what is lost of it by a crash is found again by the election.
    fn is_needed(&self, unit: &Unit) -> bool {
        !unit.entries.is_empty()
            || unit.snapshot.is_some()
            || unit.configuration.is_some()
            || !unit.puts.is_empty()
            || !unit.deletes.is_empty()
            || unit.hard_state.as_ref().is_some_and(|state| self.is_vote_or_term(state))
    }

    fn add_configuration(&mut self, unit: &mut Unit) {
        if std::mem::take(&mut self.is_configuration_unwritten) {
            unit.configuration = Some(self.configuration.clone());
            unit.puts.push((MEMBERS_KEY.to_vec(), self.members.encode()));
        }
    }

    /// It was not written with the caller's keys, which the caller still has.
    fn take_configuration_back(&mut self, unit: &mut Unit) {
        if unit.configuration.take().is_some() {
            unit.puts.retain(|(key, _)| key != MEMBERS_KEY);
            self.is_configuration_unwritten = true;
        }
    }

    /// The state to write: raft tells only changes of term and vote, and its commit index with the
    /// [`raft::LightReady`] of the turn before.
    fn hard_state(&self, changed: Option<&HardState>) -> HardState {
        let known = self.raw.store().hard_state();
        let mut state = changed.unwrap_or(known).clone();
        state.commit = state.commit.max(known.commit);
        state
    }

    /// Whether `state` brings another term or vote than what is written, or about to be.
    fn is_vote_or_term(&self, state: &HardState) -> bool {
        let known = self.raw.store().hard_state();
        (state.term, state.vote) != (known.term, known.vote)
    }

    /// Writes down how far the log is committed, if less is on the disk: a process that starts again
    /// knows it then before it hears of anybody.
    pub(crate) fn keep_commit(&mut self) -> Result<(), StoreError> {
        // The newest term and vote, which a write that is under way may bring: the store puts this one
        // behind it.
        let mut state = self.raw.store().hard_state().clone();
        // Others may have committed more than is on this disk, and other entries than those that stand
        // there.
        state.commit = state.commit.min(self.raw.raft.raft_log.persisted);
        if !self.is_stuck() && state.commit > self.writing.state.commit {
            self.store.write(&Unit { hard_state: Some(state.clone()), ..Unit::default() }, true)?;
            let next = self.writing.next.as_mut();
            if let Some(next) = next.and_then(|next| next.unit.hard_state.as_mut()) {
                next.commit = next.commit.max(state.commit);
            }
            self.writing.state = state;
        }
        Ok(())
    }
}

/// The messages without those that tell a peer nothing but how far the log is committed, if entries
/// follow that tell it, too.
fn without_notices(mut messages: Vec<Message>) -> impl Iterator<Item = Message> {
    let mut told: Vec<u64> = Vec::new();
    for message in messages.iter_mut().rev() {
        if message.get_msg_type() != MessageType::MsgAppend {
            continue;
        }
        if !told.contains(&message.to) {
            told.push(message.to);
        } else if message.entries.is_empty() {
            message.to = raft::INVALID_ID;
        }
    }
    messages.into_iter().filter(|message| message.to != raft::INVALID_ID)
}
