//! The replica machine: raft-rs turned over a [`LogStore`]. No thread, clock or socket.
//!
//! A turn takes what raft has ready, writes it as one unit with at most one sync, and hands out
//! what may leave: messages for peers and committed entries. What a leader sends leaves before its
//! own write, so that the followers' disks work beside its own; everything else promises something,
//! and leaves when that is durable.

mod election;
mod snapshots;
mod storage;
mod terms;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod writing;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use ledgermq_core::offset::Index;

use crate::cluster::{MemberChange, Members, conf_change};
use crate::deriving::Leading;
use crate::error::ReadError;
use crate::store::{Configuration, LogStore, StoreError, Unit};

pub(crate) use snapshots::Restored;
pub(crate) use writing::Syncing;

use storage::RaftStorage;
use writing::Writing;

/// Ticks between heartbeats.
const HEARTBEAT_TICKS: usize = 3;
/// Bytes of one append message to a follower.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages under way to a follower.
const INFLIGHT_MESSAGES_MAX: usize = 64;
/// Bytes proposed and not committed; what is beyond waits.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of committed entries handed out in one turn, about.
const COMMITTED_BYTES_MAX: u64 = 8 << 20;

/// Bytes of entries kept in memory for followers that are a little behind.
const CACHE_BYTES: usize = 32 << 20;
/// Key of the store under which the members stand.
pub(crate) const MEMBERS_KEY: &[u8] = b"C";

/// One raft replica over its store.
pub(crate) struct Replica<S> {
    raw: RawNode<RaftStorage>,
    store: S,
    writing: Writing,
    /// Peers that were lost meanwhile.
    lost: Vec<u64>,
    /// Snapshots that were taken by their receivers meanwhile, or were not.
    reports: Vec<(u64, bool)>,
    /// The snapshot that raft has taken and that is not written yet.
    restoring: Option<Restored>,
    /// Draws how long it waits before it stands for election.
    seed: u64,
    /// Who is in, as applied.
    configuration: Configuration,
    members: Members,
    /// They changed since the last write.
    is_configuration_unwritten: bool,
    /// The last term in which this node led, and its first entry of that term.
    led: Leading,
}

/// What a turn brought.
#[derive(Default)]
pub(crate) struct Turned {
    /// The log jumped to a snapshot at this index; what was committed before is not handed out.
    pub(crate) restored: Option<Index>,
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

/// Where messages for peers go.
pub(crate) type Send<'a> = &'a mut dyn FnMut(Message);

/// What a replica begins with besides its store.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    /// Number of the node.
    pub(crate) node: u64,
    /// Draws how long it waits before it stands for election.
    pub(crate) seed: u64,
    /// Entries up to here were applied by the caller.
    pub(crate) applied: Index,
    /// An empty log is the beginning of a cluster of one. If not, it waits to be told who is in.
    pub(crate) is_founder: bool,
    /// Who is in, as written with the configuration.
    pub(crate) members: Members,
}

/// Why a replica cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BirthError {
    /// The store cannot be written, or raft refuses what it holds.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry that may be committed, and is not folded yet, cannot be read.
    #[error("entry {index} cannot be read")]
    Unreadable {
        /// Which.
        index: Index,
        /// Why.
        #[source]
        error: ReadError,
    },
}

impl<S: LogStore> Replica<S> {
    /// A replica on what `store` recovered.
    ///
    /// # Errors
    ///
    /// If the store cannot be written or read, or raft refuses what was recovered.
    pub(crate) fn new(birth: Birth, mut store: S) -> Result<Self, BirthError> {
        let Birth { node, seed, applied, is_founder, members } = birth;
        let mut recovered = store.recovered();
        let writing = Writing::new(&recovered);
        // The commit index on disk lags behind; what was applied is committed.
        recovered.hard_state.commit = recovered.hard_state.commit.max(applied);
        if recovered.configuration.is_empty() && is_founder {
            recovered.configuration = Configuration::of_voters(&[node]);
            let configuration = Some(recovered.configuration.clone());
            store.write(&Unit { configuration, ..Unit::default() }, true)?;
        }
        let config = Config {
            id: node,
            applied,
            election_tick: election::TICKS_MIN,
            min_election_tick: election::TICKS_MIN,
            max_election_tick: election::TICKS_MAX,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            pre_vote: true,
            check_quorum: true,
            ..Config::default()
        };
        let configuration = recovered.configuration.clone();
        let mut storage = RaftStorage::new(&recovered, store.reader());
        storage
            .recall(applied)
            .map_err(|(index, error)| BirthError::Unreadable { index, error })?;
        let logger = Logger::root(Discard, o!());
        let raw =
            RawNode::new(&config, storage, &logger).map_err(|error| failed("start", error))?;
        let mut replica = Self {
            raw,
            store,
            writing,
            lost: Vec::new(),
            reports: Vec::new(),
            restoring: None,
            seed,
            configuration,
            members,
            is_configuration_unwritten: false,
            led: Leading { term: 0, first: 0 },
        };
        replica.settle();
        replica.settle_cache();
        Ok(replica)
    }

    /// Stands for election at once: right for the only voter.
    pub(crate) fn campaign(&mut self) -> Result<(), StoreError> {
        self.raw.campaign().map_err(|error| failed("campaign on", error))?;
        self.settle();
        Ok(())
    }

    /// A tenth of a second passed.
    pub(crate) fn tick(&mut self) {
        // The only voter leads as soon as it stands for election, and raft ends the process if a part
        // of its log is not on the disk then.
        let is_alone = self.configuration.is_sole_voter(self.raw.raft.id);
        if self.raw.raft.state == StateRole::Follower && !self.raw.raft.promotable() {
            // Raft has those without a vote keep the leader they heard of, for ever.
            return self.tick_without_standing();
        }
        if !is_alone || !self.has_unwritten() {
            self.raw.tick();
        }
        self.settle();
    }

    /// A peer is reached that was not. It may not have heard that this node would stand, and would hear the next
    /// one only when another election timeout has passed.
    pub(crate) fn reached(&mut self) {
        let (seed, raft) = (self.seed, &mut self.raw.raft);
        if raft.state == StateRole::PreCandidate {
            let soon = election::ticks_once_reached(seed, raft.term);
            let due = raft.randomized_election_timeout().saturating_sub(soon);
            raft.election_elapsed = raft.election_elapsed.max(due);
        }
    }

    /// A tenth of a second passed for a node that must not stand for election. In time it forgets a
    /// leader of which it hears nothing: as long as it hears one, raft gives no vote to others.
    pub(crate) fn tick_without_standing(&mut self) {
        let raft = &mut self.raw.raft;
        raft.election_elapsed += 1;
        if raft.state == StateRole::Follower
            && raft.election_elapsed >= raft.randomized_election_timeout()
        {
            raft.become_follower(raft.term, 0);
        }
        self.settle();
    }

    /// Whether proposals are taken here.
    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The leader of the term, as far as it is known; 0 if it is not.
    pub(crate) fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// Current term.
    pub(crate) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leading(&self) -> Option<Leading> {
        self.is_leader().then_some(self.led)
    }

    /// Whether there is no other member, be it a voter or not.
    pub(crate) fn is_sole_member(&self) -> bool {
        self.configuration.members() == [self.raw.raft.id]
    }

    /// Who is in, as applied.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether a change of several votes is under way, for which a majority of the voters before it
    /// is needed as well.
    pub(crate) fn is_joint(&self) -> bool {
        !self.configuration.state.voters_outgoing.is_empty()
    }

    /// What the nodes of the cluster are, as applied.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// The last entry, which may be neither durable nor committed.
    pub(crate) fn last_index(&self) -> Index {
        self.raw.raft.raft_log.last_index()
    }

    /// How far the log is known to be committed.
    pub(crate) fn committed(&self) -> Index {
        self.raw.raft.raft_log.committed
    }

    /// An entry that could not be read for a follower.
    pub(crate) fn take_unreadable(&self) -> Option<Index> {
        self.raw.store().take_unreadable()
    }

    /// Takes a peer's message; `false` if it makes no sense to raft now.
    pub(crate) fn step(&mut self, message: Message) -> bool {
        let is_taken = self.raw.step(message).is_ok();
        self.settle();
        is_taken
    }

    /// The first entry of an append of this term that is another than the one that is committed here:
    /// raft would end the process.
    pub(crate) fn contradiction(&self, message: &Message) -> Option<Index> {
        let log = &self.raw.raft.raft_log;
        let is_taken = message.get_msg_type() == MessageType::MsgAppend
            && message.term >= self.raw.raft.term
            && message.index >= log.first_index().saturating_sub(1)
            && log.match_term(message.index, message.log_term);
        let committed = message.entries.iter().take_while(|entry| entry.index <= log.committed);
        let other = |entry: &&Entry| !log.match_term(entry.index, entry.term);
        if is_taken { committed.filter(other).map(|entry| entry.index).next() } else { None }
    }

    /// What was sent to `peer` last was lost, as far as is known.
    pub(crate) fn unreachable(&mut self, peer: u64) {
        if self.is_stuck() {
            if !self.lost.contains(&peer) {
                self.lost.push(peer);
            }
        } else {
            self.raw.report_unreachable(peer);
        }
    }

    /// Begins to hand leadership over to `peer`, and says whether it did. Not if it is not here, if
    /// nothing can be stepped, or if it is being handed over already: to begin anew, to another one,
    /// would end what is under way. Nothing tells whether it works but the next term; raft gives it
    /// up after the time of an election.
    pub(crate) fn transfer(&mut self, peer: u64) -> bool {
        // A follower's raft would ask the leader for it.
        if !self.is_leader() || self.is_stuck() || self.raw.raft.lead_transferee.is_some() {
            return false;
        }
        self.raw.transfer_leader(peer);
        self.raw.raft.lead_transferee == Some(peer)
    }

    /// Whether leadership is being handed over.
    pub(crate) fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// What is here up to `index` is committed, as the leader knows from what an earlier process of it has
    /// folded: of what that had learned the disk may tell less.
    pub(crate) fn know_committed(&mut self, index: Index) {
        let log = &mut self.raw.raft.raft_log;
        if index <= log.persisted {
            log.commit_to(index);
        }
    }

    /// Bytes of what was proposed here and is not committed.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.raw.raft.uncommitted_size()
    }

    /// Proposes a batch; `false` if raft does not take it now.
    pub(crate) fn propose(&mut self, batch: Bytes) -> bool {
        let mut entry = Entry::new();
        entry.data = batch;
        self.propose_entry(entry)
    }

    /// Proposes a change of the members; `false` if raft does not take it now, or another is not
    /// applied yet. Whether it counts is known when it is applied.
    pub(crate) fn propose_change(&mut self, change: &MemberChange) -> bool {
        // Raft takes a change that must wait for another, and makes an empty entry of it.
        let must_wait = self.is_joint() != matches!(change, MemberChange::LeaveJoint);
        if self.is_stuck() || must_wait || self.raw.raft.has_pending_conf() {
            return false;
        }
        let mut entry = Entry::new();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = conf_change::encode(&conf_change::propose(change, &self.members)).into();
        self.propose_entry(entry)
    }

    fn propose_entry(&mut self, entry: Entry) -> bool {
        // A follower's raft would forward it: what is lost on the way then would be lost for good.
        if !self.is_leader() || self.is_stuck() {
            return false;
        }
        let mut message = Message::new();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(vec![entry].into());
        self.raw.step(message).is_ok()
    }

    /// How far each peer's log is known to be the same as this leader's, and whether it was heard of
    /// lately; empty if this node does not lead.
    pub(crate) fn followers(&self) -> impl Iterator<Item = (u64, Index, bool)> {
        let node = self.raw.raft.id;
        let progress = self.is_leader().then(|| self.raw.raft.prs().iter()).into_iter().flatten();
        progress
            .filter(move |(id, _)| **id != node)
            .map(|(id, progress)| (*id, progress.matched, progress.recent_active))
    }

    /// What raft would draw by lot, and what it does not say.
    fn settle(&mut self) {
        let raft = &mut self.raw.raft;
        let ticks = election::ticks(self.seed, raft.term);
        if raft.randomized_election_timeout() != ticks {
            raft.set_randomized_election_timeout(ticks);
        }
        if raft.state == StateRole::Leader && self.led.term != raft.term {
            self.led = Leading { term: raft.term, first: raft.raft_log.last_index() };
        }
    }

    /// Hands out committed entries; a change of the configuration holds from its entry on.
    fn apply(&mut self, mut committed: Vec<Entry>, turned: &mut Turned) {
        committed.iter().for_each(|entry| self.apply_change(entry));
        turned.committed.append(&mut committed);
    }

    /// Applies the entry if it is a change of the configuration that is not applied yet.
    pub(crate) fn apply_change(&mut self, entry: &Entry) {
        let is_change = entry.get_entry_type() == EntryType::EntryConfChangeV2;
        if !is_change || entry.index <= self.configuration.index {
            return;
        }
        self.configuration.index = entry.index;
        self.is_configuration_unwritten = true;
        // One that makes no sense, or that cannot be read, is refused by every node alike.
        let Ok(change) = conf_change::decode(&entry.data) else { return };
        let counts = change.members.is_none_or(|change| self.members.apply(entry.index, &change));
        if counts && let Ok(state) = self.raw.apply_conf_change(&change.raft) {
            self.configuration.state = state;
            self.settle_cache();
            // What it writes as a leader next would be counted where it does not stand any more.
            let raft = &mut self.raw.raft;
            if raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none() {
                raft.become_follower(raft.term, 0);
            }
        }
    }

    /// With others, somebody may be a little behind: what is applied is kept for a while.
    fn settle_cache(&mut self) {
        let is_alone = self.configuration.is_sole_voter(self.raw.raft.id);
        let has_learners = !self.configuration.state.learners.is_empty();
        let bytes = if is_alone && !has_learners { 0 } else { CACHE_BYTES };
        self.raw.mut_store().set_cache_bytes(bytes);
    }

    /// A leader that has no vote any more leads no longer: raft would let it.
    fn step_down_if_removed(&mut self) {
        let is_stuck = self.is_stuck();
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader
            && !is_stuck
            && !self.configuration.is_empty()
            && !self.configuration.is_voter(raft.id)
        {
            raft.become_follower(raft.term, 0);
        }
    }

    /// Gives leadership up, to nobody: this node takes no part any more.
    pub(crate) fn stop_leading(&mut self) {
        let is_stuck = self.is_stuck();
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !is_stuck {
            raft.become_follower(raft.term, 0);
            self.settle();
        }
    }

    /// Whoever is in an earlier term than this one is not heard any more.
    pub(crate) fn raise_term(&mut self, term: u64) {
        let raft = &mut self.raw.raft;
        if raft.term < term {
            raft.become_follower(term, 0);
            self.settle();
        }
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
