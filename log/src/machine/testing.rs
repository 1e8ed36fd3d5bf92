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

    /// Whether a change of the members is under way, for which those who leave are needed, too.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.replica.configuration().state.voters_outgoing.is_empty()
    }

    /// The index that admission passed last, and a checksum of its state there: equal on all nodes,
    /// and that of [`crate::testing::Admitted`].
    #[must_use]
    pub fn admission_checksum(&self) -> (Index, u64) {
        (self.admission.applied(), self.admission.checksum())
    }
}
