//! Nobody receives what no rules allowed since the message was committed.

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct Access;

impl Invariant for Access {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Received(receipt) = seen else { return Ok(()) };
        let Some(since) = facts.oracle.rules_at.get(&receipt.uid) else { return Ok(()) };
        let client = &facts.clients[receipt.client];
        let topic = facts.book.get(receipt.uid).topic;
        let receiver = (client.id.as_str(), client.username());
        if facts.oracle.access.may_since(*since, receiver, "read", topic) {
            return Ok(());
        }
        Err(format!("{} was sent m{} of {topic}, which it may not receive", client.id, receipt.uid))
    }
}
