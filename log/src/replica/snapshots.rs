//! Snapshots as raft knows them: which one can be sent, what became of it, and jumping to one.

use ledgermq_core::offset::Index;
use raft::eraftpb::{Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{Ready, SnapshotStatus};

use super::{Replica, Turned};
use crate::cluster::Members;
use crate::store::{Configuration, LogStore, Unit};

/// What a log goes on from after a jump.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Everything up to here is in it.
    pub(crate) index: Index,
    /// Term of the entry there.
    pub(crate) term: u64,
    /// Who was in then.
    pub(crate) configuration: Configuration,
    /// The members then.
    pub(crate) members: Members,
    /// Keys to be written and to be forgotten with the jump.
    pub(crate) unit: Unit,
}

fn metadata(index: Index, term: u64, configuration: &Configuration) -> SnapshotMetadata {
    let mut metadata = SnapshotMetadata::default();
    (metadata.index, metadata.term) = (index, term);
    metadata.set_conf_state(configuration.state.clone());
    metadata
}

impl<S: LogStore> Replica<S> {
    /// Whether raft asked for a snapshot that is not there since the last call.
    pub(crate) fn take_snapshot_wanted(&self) -> bool {
        self.raw.store().take_wanted()
    }

    /// The snapshot that raft may send from now on: its index and term, and who was in then.
    pub(crate) fn offer_snapshot(&mut self, snapshot: Option<(Index, u64, &Configuration)>) {
        let offered =
            snapshot.map(|(index, term, configuration)| metadata(index, term, configuration));
        self.raw.mut_store().offer(offered);
    }

    /// Tells raft what became of the snapshot that it sent to `peer`: it waits for that.
    pub(crate) fn report_snapshot(&mut self, peer: u64, is_there: bool) {
        if self.is_stuck() {
            self.reports.push((peer, is_there));
            return;
        }
        let status = if is_there { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(peer, status);
    }

    pub(super) fn report_late(&mut self) {
        for (peer, is_there) in std::mem::take(&mut self.reports) {
            self.report_snapshot(peer, is_there);
        }
    }

    /// Term of the entry at `index`, if it is known.
    pub(crate) fn term_of(&self, index: Index) -> Option<u64> {
        self.raw.raft.raft_log.term(index).ok().filter(|term| *term > 0)
    }

    /// Lets raft jump to a snapshot, in the name of the leader of now: what is committed is so for
    /// every leader. `false` if raft has no use for it: its log goes as far.
    pub(crate) fn restore(&mut self, restored: Restored) -> bool {
        let mut message = Message::new();
        message.set_msg_type(MessageType::MsgSnapshot);
        (message.from, message.to) = (self.leader(), self.raw.raft.id);
        message.term = self.term();
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata(restored.index, restored.term, &restored.configuration));
        message.set_snapshot(snapshot);
        let is_taken = self.step(message)
            && self
                .raw
                .raft
                .raft_log
                .unstable_snapshot()
                .as_ref()
                .is_some_and(|snapshot| snapshot.get_metadata().index == restored.index);
        if is_taken {
            self.restoring = Some(restored);
        }
        is_taken
    }

    /// Puts the snapshot that raft has ready into its write, which jumps there; says whether there is
    /// one.
    pub(super) fn add_snapshot(
        &mut self,
        ready: &Ready,
        unit: &mut Unit,
        turned: &mut Turned,
    ) -> bool {
        if ready.snapshot().get_metadata().index == 0 {
            return false;
        }
        // Raft takes a snapshot by `restore` alone.
        let Some(restored) = self.restoring.take() else { return false };
        turned.committed.clear();
        unit.snapshot = Some((restored.index, restored.term));
        unit.puts.extend(restored.unit.puts);
        unit.deletes.extend(restored.unit.deletes);
        (self.configuration, self.members) = (restored.configuration, restored.members);
        self.is_configuration_unwritten = false;
        unit.configuration = Some(self.configuration.clone());
        unit.puts.push((super::MEMBERS_KEY.to_vec(), self.members.encode()));
        self.settle_cache();
        true
    }
}
