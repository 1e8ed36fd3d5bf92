//! A will is published once, at its time, if its connection ended without a normal DISCONNECT.
//!
//! Too early, twice or without cause is a fault that the oracle finds in the log; here: never. In
//! the end all clients have been connected for longer than a will may be delayed.

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct Wills;

impl Invariant for Wills {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let pending = &facts.oracle.wills.pending;
        match (seen, pending.first_key_value()) {
            (Seen::Settled, Some((epoch, will))) => {
                let (due, now) = (will.due, facts.oracle.time);
                Err(format!("the will of {epoch}, due at {due:?}, was not published at {now:?}"))
            }
            _ => Ok(()),
        }
    }
}
