//! A will is published once, at its time, if its connection ended without a normal DISCONNECT.
//!
//! Too early, twice or without cause is a fault that the oracle finds in the log; here: never.

use std::time::Duration;

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

/// Time that a due will may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Wills;

impl Invariant for Wills {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        if !matches!(seen, Seen::Settled) {
            return Ok(());
        }
        let oracle = facts.oracle;
        for (epoch, pending) in &oracle.wills.pending {
            if pending.due.plus(PATIENCE) < oracle.time {
                return Err(format!("the will of {epoch} is due and was not published"));
            }
        }
        Ok(())
    }
}
