//! The log only grows: what was committed is found again, byte by byte; nothing void counts.

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct History;

impl Invariant for History {
    fn see(&mut self, _: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        facts.oracle.faults.first().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}
