//! For tests of other crates: what a fold of the log came to.

use ledgermq_core::offset::Index;

use crate::cluster::MemberChange;
use crate::machine::LogMachine;
use crate::store::LogStore;

impl<S: LogStore> LogMachine<S> {
    /// Proposes a change of the members as if somebody had been let in; `false` if this node does
    /// not lead, or another change is not applied yet.
    pub fn propose_change(&mut self, change: &MemberChange) -> bool {
        let fits = self.replica.members().check(change).is_ok();
        fits && !self.replica.is_stuck() && self.replica.propose_change(change)
    }

    /// Whether this node leads, and is handing that over.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.replica.is_transferring()
    }

    /// How far the log is known to be committed here; not all of that is folded.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.replica.committed()
    }

    /// Who has a vote, as applied here; of a change of several votes, after it.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        self.replica.configuration().state.voters.clone()
    }

    /// Who had a vote before a change of several votes that is not finished.
    #[must_use]
    pub fn outgoing_voters(&self) -> Vec<u64> {
        self.replica.configuration().state.voters_outgoing.clone()
    }

    /// The index that admission passed last, and a checksum of its state there: equal on all nodes,
    /// and that of [`crate::testing::Admitted`].
    #[must_use]
    pub fn admission_checksum(&self) -> (Index, u64) {
        (self.admission.applied(), self.admission.checksum())
    }
}

#[cfg(test)]
pub(super) use alone::{START, beginning, hello};

/// One node's machine, for the tests of its parts.
#[cfg(test)]
mod alone {
    use std::sync::Arc;
    use std::time::Duration;

    use ledgermq_core::offset::Timestamp;

    use crate::clock::Now;
    use crate::cluster::frame::Lane;
    use crate::cluster::{ClusterId, Hello};
    use crate::config::Config;
    use crate::machine::Beginning;
    use crate::snapshots::MemoryFiles;
    use crate::space::Monitor;
    use crate::store::simulated::SimulatedDisk;

    /// When the process starts.
    pub(in crate::machine) const START: Now =
        Now { wall: Timestamp::from_secs(1_700_000_000), monotonic: Duration::ZERO };

    /// What a log with the values that configurations begin with begins with.
    pub(in crate::machine) fn beginning(node: u64, disk: &SimulatedDisk) -> Beginning {
        let config = Config::default();
        Beginning {
            node,
            seed: 7,
            membership: None,
            node_lost: Duration::from_secs(10),
            space: Monitor::new(&config, Box::new(disk.clone())),
            config,
            snapshots: Arc::new(MemoryFiles::default()),
            catch_up_rate: 64 << 20,
            stopwatch: Box::new(|| Duration::ZERO),
        }
    }

    /// What `node` says when it greets, of a log that is empty.
    pub(in crate::machine) fn hello(node: u64) -> Hello {
        Hello {
            lane: Lane::Log,
            cluster: ClusterId::default(),
            boot: 1,
            session: 1,
            generation: 1,
            node,
            start: 1,
            last: (0, 0),
            commit: 0,
            first: 1,
            members_index: 0,
            version: String::new(),
            address: "node:1".to_owned(),
        }
    }
}
