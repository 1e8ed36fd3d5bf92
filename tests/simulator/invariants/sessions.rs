//! A session is present exactly if the log says so; what it subscribed to stands in the views.

use crate::invariants::{Facts, Invariant};
use crate::node::peer;
use crate::seen::Seen;

pub(crate) struct Sessions;

impl Invariant for Sessions {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::ConnAck { client, conn, session_present } => {
                let opened = facts.oracle.opened.get(&peer(*conn).to_string());
                let Some(opened) = opened else {
                    return Err(format!("client {client} got CONNACK, its session is not logged"));
                };
                if opened.is_resumed != *session_present {
                    return Err(format!(
                        "client {client} was told session present {session_present}, the log says {}",
                        opened.is_resumed
                    ));
                }
                Ok(())
            }
            Seen::Session { client, filters } => {
                let session = facts.oracle.sessions.get(&facts.clients[*client].id);
                let wanted: Option<Vec<String>> =
                    session.map(|session| session.subscriptions.keys().cloned().collect());
                if wanted == *filters {
                    return Ok(());
                }
                Err(format!("client {client} has subscriptions {filters:?}, not {wanted:?}"))
            }
            _ => Ok(()),
        }
    }
}
