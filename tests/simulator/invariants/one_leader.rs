//! At most one node leads in a term.

use std::collections::BTreeMap;

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

/// Who led, by term.
#[derive(Default)]
pub(crate) struct OneLeader {
    leaders: BTreeMap<u64, u64>,
}

impl Invariant for OneLeader {
    fn see(&mut self, seen: &Seen, _: &Facts<'_>) -> Result<(), String> {
        let Seen::Leads { term, node } = *seen else { return Ok(()) };
        match *self.leaders.entry(term).or_insert(node) {
            first if first == node => Ok(()),
            first => Err(format!("{first} and {node} lead in term {term}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Book;
    use crate::oracle::Oracle;

    #[test]
    fn two_leaders_of_a_term_are_found_out() {
        let facts = Facts { oracle: &Oracle::default(), book: &Book::default(), clients: &[] };
        let mut invariant = OneLeader::default();
        let mut see = |term, node| invariant.see(&Seen::Leads { term, node }, &facts);
        assert_eq!(see(1, 1), Ok(()));
        assert_eq!(see(2, 2), Ok(()));
        assert_eq!(see(1, 1), Ok(()));
        assert!(see(2, 1).is_err());
    }
}
