//! The replica machine: raft-rs turned over a [`LogStore`]. No thread, clock or socket.
//!
//! A turn takes what raft has ready, writes it as one unit with at most one sync, and hands out
//! what may leave: messages for peers (none with one voter) and committed entries.

mod leading;
mod storage;
#[cfg(all(test, feature = "testing"))]
mod tests;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use ledgermq_core::offset::Index;

use crate::store::{LogStore, StoreError, Unit};

use storage::RaftStorage;

/// Ticks between heartbeats.
const HEARTBEAT_TICKS: usize = 3;
/// Ticks before an election, at least; the seed adds up to as many again.
const ELECTION_TICKS: usize = 20;
/// Bytes of one append message to a follower.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages under way to a follower.
const INFLIGHT_MESSAGES_MAX: usize = 64;

/// One raft replica over its store.
pub(crate) struct Replica<S> {
    raw: RawNode<RaftStorage>,
    store: S,
    /// A write for which the disk had no space; it comes first when there is some.
    stuck: Option<Stuck>,
}

/// What raft had ready when the disk was full.
struct Stuck {
    ready: raft::Ready,
    unit: Unit,
    sync: bool,
}

/// What a turn brought.
#[derive(Default)]
pub(crate) struct Turned {
    /// Messages for peers.
    pub(crate) messages: Vec<Message>,
    /// Entries that are committed now, in order.
    pub(crate) committed: Vec<Entry>,
    /// Bytes written.
    pub(crate) written: usize,
    /// Whether something was written and not synced.
    pub(crate) is_unsynced: bool,
}

impl Turned {
    fn note(&mut self, unit: &Unit, sync: bool) {
        self.written += unit.bytes();
        self.is_unsynced |= !sync;
    }
}

impl<S: LogStore> Replica<S> {
    /// A replica of `node` on what `store` recovered. Entries up to `applied` were applied by the
    /// caller.
    ///
    /// # Errors
    ///
    /// If the store cannot be written, or raft refuses what was recovered.
    pub(crate) fn new(
        node: u64,
        seed: u64,
        mut store: S,
        applied: Index,
    ) -> Result<Self, StoreError> {
        let mut recovered = store.recovered();
        // The commit index on disk lags behind; what was applied is committed.
        recovered.hard_state.commit = recovered.hard_state.commit.max(applied);
        let mut conf_state = recovered.conf_state.clone();
        if conf_state.voters.is_empty() {
            conf_state = ConfState { voters: vec![node], ..ConfState::default() };
            let unit = Unit { conf_state: Some(conf_state.clone()), ..Unit::default() };
            store.write(&unit, true)?;
        }
        let election = ELECTION_TICKS + usize::try_from(seed % ELECTION_TICKS as u64).unwrap_or(0);
        let config = Config {
            id: node,
            applied,
            election_tick: election,
            min_election_tick: election,
            // raft-rs draws the timeout from a global generator: the range has one value.
            max_election_tick: election + 1,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            pre_vote: true,
            check_quorum: true,
            ..Config::default()
        };
        let storage = RaftStorage::new(&recovered, conf_state, store.reader());
        let logger = Logger::root(Discard, o!());
        let raw =
            RawNode::new(&config, storage, &logger).map_err(|error| failed("start", error))?;
        Ok(Self { raw, store, stuck: None })
    }

    /// Stands for election at once: right for the only voter.
    pub(crate) fn campaign(&mut self) -> Result<(), StoreError> {
        self.raw.campaign().map_err(|error| failed("campaign on", error))
    }

    /// A tenth of a second passed.
    pub(crate) fn tick(&mut self) {
        self.raw.tick();
    }

    /// Whether proposals are taken here.
    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Current term.
    pub(crate) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether a write waits for space on the disk.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Bytes of the write that waits for space on the disk.
    pub(crate) fn stuck_bytes(&self) -> usize {
        self.stuck.as_ref().map_or(0, |stuck| stuck.unit.bytes())
    }

    /// Takes a peer's message; `false` if it makes no sense to raft now.
    pub(crate) fn step(&mut self, message: Message) -> bool {
        self.raw.step(message).is_ok()
    }

    /// Proposes a batch; `false` if raft does not take it now.
    pub(crate) fn propose(&mut self, batch: Bytes) -> bool {
        let mut entry = Entry::new();
        entry.data = batch;
        let mut message = Message::new();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(vec![entry].into());
        self.raw.step(message).is_ok()
    }

    /// Does all that is ready, and writes the keys of `extra` in the same unit. With `sync` what is
    /// written is durable before anything leaves; without, only votes and terms are.
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
        sync: bool,
        turned: &mut Turned,
    ) -> Result<(), StoreError> {
        if let Some(stuck) = self.stuck.take() {
            self.persist(stuck, turned)?;
        }
        if !extra.is_empty() && !self.raw.has_ready() {
            self.store.write(extra, sync)?;
            turned.note(extra, sync);
            *extra = Unit::default();
        }
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            turned.messages.append(&mut ready.take_messages());
            turned.committed.append(&mut ready.take_committed_entries());
            let state = self.hard_state(ready.hs());
            // A vote or a term must hold whatever comes with it.
            let sync = sync || self.is_vote_or_term(&state);
            let entries = ready.take_entries();
            let unit = Unit { entries, hard_state: Some(state), ..std::mem::take(extra) };
            self.persist(Stuck { ready, unit, sync }, turned)?;
        }
        Ok(())
    }

    /// The state to write: raft tells only changes of term and vote, and its commit index with the
    /// [`raft::LightReady`] of the turn before.
    fn hard_state(&self, changed: Option<&HardState>) -> HardState {
        let known = self.raw.store().hard_state();
        let mut state = changed.unwrap_or(known).clone();
        state.commit = state.commit.max(known.commit);
        state
    }

    /// Whether `state` brings another term or vote than what is written.
    fn is_vote_or_term(&self, state: &HardState) -> bool {
        let known = self.raw.store().hard_state();
        (state.term, state.vote) != (known.term, known.vote)
    }

    fn persist(&mut self, stuck: Stuck, turned: &mut Turned) -> Result<(), StoreError> {
        let Stuck { mut ready, unit, sync } = stuck;
        // A commit index alone needs no write of its own: it goes with the next one, and what is
        // lost of it by a crash is found again by the election.
        let is_needed = !unit.entries.is_empty()
            || !unit.puts.is_empty()
            || !unit.deletes.is_empty()
            || unit.hard_state.as_ref().is_some_and(|state| self.is_vote_or_term(state));
        if is_needed {
            match self.store.write(&unit, sync) {
                Ok(()) => {}
                Err(StoreError::NoSpace) => {
                    self.stuck = Some(Stuck { ready, unit, sync });
                    return Err(StoreError::NoSpace);
                }
                Err(error) => return Err(error),
            }
            turned.note(&unit, sync);
        }
        if let Some(state) = unit.hard_state {
            self.raw.mut_store().set_hard_state(state);
        }
        self.raw.mut_store().append(unit.entries);
        turned.messages.append(&mut ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        turned.messages.append(&mut light.take_messages());
        turned.committed.append(&mut light.take_committed_entries());
        self.raw.advance_apply();
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().applied(applied);
        Ok(())
    }

    /// The store, for what is beside the entries.
    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// The store, for what is beside the entries.
    pub(crate) fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Purges up to `upto`; see [`LogStore::purge`].
    pub(crate) fn purge(&mut self, upto: Index) -> Result<(Index, u64), StoreError> {
        let truncated = self.store.purge(upto)?;
        self.raw.mut_store().truncate(truncated);
        Ok(truncated)
    }
}

fn failed(action: &'static str, error: raft::Error) -> StoreError {
    StoreError::Failed { action, source: std::io::Error::other(error) }
}
