//! Nothing acknowledged is missing: PUBACK, PUBREC, SUBACK, UNSUBACK, PUBCOMP come after the commit.

use std::collections::BTreeMap;

use ledgermq_core::packet::ProtocolVersion;

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

/// Acknowledgements counted.
#[derive(Default)]
pub(crate) struct Acknowledged {
    subscribed: BTreeMap<(usize, &'static str), u32>,
    unsubscribed: BTreeMap<(usize, &'static str), u32>,
    released: BTreeMap<usize, u32>,
}

impl Invariant for Acknowledged {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let oracle = facts.oracle;
        let client_of = |client: &usize| facts.clients[*client].id.clone();
        match seen {
            Seen::PubAcked { uid, is_unheard: true } if !oracle.unheard.contains(uid) => {
                return Err(format!("m{uid} was said to be for nobody, but somebody subscribed"));
            }
            Seen::PubAcked { uid, .. } if !oracle.published.contains_key(uid) => {
                let message = facts.book.get(*uid);
                let author = &facts.clients[message.client];
                // 3.1.1 has no other answer to what may not be published.
                if author.version != ProtocolVersion::V5 && oracle.access.count() > 0 {
                    return Ok(());
                }
                return Err(format!("m{uid} was acknowledged and is not in the log"));
            }
            Seen::SubAck { client, filter } => {
                let acked = self.subscribed.entry((*client, filter)).or_default();
                *acked += 1;
                let name = (client_of(client), (*filter).to_owned());
                if oracle.subscribed.get(&name).is_none_or(|logged| logged < acked) {
                    return Err(format!("SUBACK of {name:?} is not in the log"));
                }
            }
            Seen::UnsubAck { client, filter } => {
                let acked = self.unsubscribed.entry((*client, filter)).or_default();
                *acked += 1;
                let name = (client_of(client), (*filter).to_owned());
                if oracle.unsubscribed.get(&name).is_none_or(|logged| logged < acked) {
                    return Err(format!("UNSUBACK of {name:?} is not in the log"));
                }
            }
            Seen::PubComp { client } => {
                let acked = self.released.entry(*client).or_default();
                *acked += 1;
                let name = client_of(client);
                // Of a message that went nowhere (see above) nothing is known after a reconnect.
                let is_old = facts.clients[*client].version != ProtocolVersion::V5;
                if is_old && oracle.access.count() > 0 {
                    return Ok(());
                }
                if oracle.released.get(&name).is_none_or(|logged| logged < acked) {
                    return Err(format!("a PUBCOMP to {name} is not in the log"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
