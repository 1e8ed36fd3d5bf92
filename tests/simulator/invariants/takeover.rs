//! A session has one connection: the older one is ended, and told why only if a newer one was there.
//! (That nothing of the older one counts from then on is judged with what is void.)

use ledgermq_core::reason::ReasonCode;

use crate::invariants::{Facts, Invariant};
use crate::node::peer;
use crate::seen::Seen;

pub(crate) struct Takeover;

impl Invariant for Takeover {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::Displaced { client, conn, reason: ReasonCode::SessionTakenOver } => {
                let id = &facts.clients[*client].id;
                let opened = facts.oracle.opened.get(&peer(*conn).to_string());
                match opened {
                    Some(opened) if !facts.oracle.is_connected(opened) => Ok(()),
                    Some(_) => Err(format!("{id} was told on {conn} of another, and has none")),
                    None => Err(format!("{id} was told on {conn} of another before it was open")),
                }
            }
            Seen::LeftOpen { client, conn } => {
                let id = &facts.clients[*client].id;
                Err(format!("{id} has another connection, and {conn} is still open"))
            }
            _ => Ok(()),
        }
    }
}
