//! Nobody receives what no rules allowed since the message was committed and the connection opened.

use crate::invariants::{Facts, Invariant};
use crate::node::peer;
use crate::seen::Seen;

pub(crate) struct Access;

impl Invariant for Access {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Received(receipt) = seen else { return Ok(()) };
        let oracle = facts.oracle;
        let Some(committed) = oracle.rules_at.get(&receipt.uid) else { return Ok(()) };
        let opened = oracle.opened.get(&peer(receipt.conn).to_string());
        let since = opened.map_or(0, |opened| opened.rules).max(*committed);
        let client = &facts.clients[receipt.client];
        let topic = facts.book.get(receipt.uid).topic;
        let receiver = (client.id.as_str(), client.username());
        if oracle.access.may_since(since, receiver, "read", topic) {
            return Ok(());
        }
        Err(format!("{} was sent m{} of {topic}, which it may not receive", client.id, receipt.uid))
    }
}
