//! For tests of other crates: what a fold of the log came to.

use ledgermq_core::offset::Index;

use crate::machine::LogMachine;
use crate::store::LogStore;

impl<S: LogStore> LogMachine<S> {
    /// The index that admission passed last, and a checksum of its state there: equal on all nodes,
    /// and that of [`crate::testing::Admitted`].
    #[must_use]
    pub fn admission_checksum(&self) -> (Index, u64) {
        (self.admission.applied(), self.admission.checksum())
    }
}
