//! Every fold of the log is in the same state at the same index, on every node and in every process:
//! the rows of the views, and who is admitted; and that is the state folded from the beginning.

use std::collections::BTreeMap;

use ledgermq_core::offset::Index;

use crate::invariants::{Facts, Invariant};
use crate::seen::{Fold, Seen};

/// What each fold was first seen to be, by whom.
#[derive(Default)]
pub(crate) struct ViewsEqual {
    states: BTreeMap<(Fold, Index), (u64, u64)>,
}

impl Invariant for ViewsEqual {
    fn see(&mut self, seen: &Seen, _: &Facts<'_>) -> Result<(), String> {
        let Seen::State { node, fold, index, checksum } = *seen else { return Ok(()) };
        let (first, known) = *self.states.entry((fold, index)).or_insert((node, checksum));
        if known == checksum {
            return Ok(());
        }
        Err(format!(
            "{fold:?} at {index} has checksum {checksum:x} on node {node}, and had {known:x} on node \
             {first}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Book;
    use crate::oracle::Oracle;

    #[test]
    fn states_are_compared_at_the_same_index_of_the_same_fold() {
        let facts = Facts { oracle: &Oracle::default(), book: &Book::default(), clients: &[] };
        let mut invariant = ViewsEqual::default();
        let mut see = |node, fold, index, checksum| {
            invariant.see(&Seen::State { node, fold, index, checksum }, &facts)
        };
        assert_eq!(see(1, Fold::Views, 7, 100), Ok(()));
        assert_eq!(see(1, Fold::Admission, 7, 200), Ok(()));
        assert_eq!(see(2, Fold::Views, 8, 300), Ok(()));
        assert_eq!(see(2, Fold::Views, 7, 100), Ok(()));
        assert!(see(3, Fold::Views, 7, 101).is_err());
        assert!(see(1, Fold::Admission, 7, 100).is_err());
    }
}
