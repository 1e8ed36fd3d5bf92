//! The retained message of a topic is the last that was committed for it.

use crate::book::uid_of;
use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct RetainedValue;

impl Invariant for RetainedValue {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Retained { topic, payload } = seen else { return Ok(()) };
        let is_there = |retained: &&crate::oracle::Retained| {
            retained.expires.is_none_or(|expires| expires > facts.oracle.time)
        };
        let wanted = facts.oracle.retained.get(*topic).filter(is_there).and_then(|held| held.uid);
        let held = payload.as_deref().and_then(uid_of);
        if wanted == held {
            return Ok(());
        }
        Err(format!("{topic} retains m{held:?}, the last committed is m{wanted:?}"))
    }
}
