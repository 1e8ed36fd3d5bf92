//! fold(all) == fold(rest) after a checkpoint: recovered views are those folded from the beginning.

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct Fold;

impl Invariant for Fold {
    fn see(&mut self, seen: &Seen, _: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::Views { applied, node, scratch } if node != scratch => Err(format!(
                "the views at {applied} have checksum {node:x}, folded from the beginning {scratch:x}"
            )),
            _ => Ok(()),
        }
    }
}
