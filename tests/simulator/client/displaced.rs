//! Connections that the client left open when it connected anew: the node has to end them.

use std::collections::BTreeMap;

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::Packet;
use ledgermq_core::reason::ReasonCode;

use crate::book::Uid;
use crate::client::{Client, Surroundings};
use crate::network::{ConnId, Network, Read};
use crate::seen::Seen;

/// A connection of a session that another connection takes over. What still comes is thrown away, as
/// by a process that hangs; only the node's last word is heard, and whether it acknowledges what it did
/// not take.
#[derive(Debug)]
pub(super) struct Displaced {
    conn: ConnId,
    input: Vec<u8>,
    /// Messages that were sent by it and not answered.
    unanswered: BTreeMap<PacketId, Uid>,
}

impl Client {
    /// Leaves the connection as it is: another takes the session over.
    pub(super) fn abandon(&mut self, s: &mut Surroundings<'_>) {
        self.flush(s);
        if let Some(link) = self.link.take() {
            s.trace.say(format_args!("{} abandons connection {}", self.id, link.conn));
            let sent = self.outgoing.iter().filter(|message| message.sent == Some(link.conn));
            let unanswered = sent
                .filter(|message| !message.is_received)
                .filter_map(|message| Some((message.packet_id, message.uid?)));
            self.displaced.push(Displaced {
                conn: link.conn,
                input: link.input,
                unanswered: unanswered.collect(),
            });
        }
    }

    /// Hears the node out on the connections that were left open, until it ends them.
    pub(super) fn watch_displaced(&mut self, s: &mut Surroundings<'_>) {
        let mut displaced = std::mem::take(&mut self.displaced);
        displaced.retain_mut(|old| {
            let Some(connection) = s.network.get_mut(old.conn) else { return false };
            loop {
                match connection.down.read(usize::MAX) {
                    Read::Bytes(bytes) => old.input.extend_from_slice(&bytes),
                    Read::Nothing => break,
                    Read::Closed => {
                        connection.client_left = true;
                        connection.up.close();
                        return false;
                    }
                }
                self.hear(s.seen, old);
            }
            true
        });
        self.displaced = displaced;
    }

    fn hear(&self, seen: &mut Vec<Seen>, old: &mut Displaced) {
        let mut at = 0;
        while let Ok(Some((packet, bytes))) =
            codec::decode(&old.input[at..], self.version, u32::MAX)
        {
            at += bytes;
            match packet {
                Packet::Disconnect(disconnect) => {
                    let (client, conn, reason) = (self.number, old.conn, disconnect.reason);
                    seen.push(Seen::Displaced { client, conn, reason });
                }
                Packet::PubAck(ack) | Packet::PubRec(ack) if !ack.reason.is_error() => {
                    let is_unheard = ack.reason == ReasonCode::NoMatchingSubscribers;
                    let answered = old.unanswered.remove(&ack.packet_id);
                    seen.extend(answered.map(|uid| Seen::PubAcked { uid, is_unheard }));
                }
                _ => {}
            }
        }
        old.input.drain(..at);
    }

    /// Connections that were left open and that the node has not ended.
    pub(crate) fn left_open(&self, network: &Network) -> impl Iterator<Item = ConnId> {
        let is_open = |conn: &ConnId| {
            network.connections.get(conn).is_some_and(|connection| !connection.node_left)
        };
        self.displaced.iter().map(|old| old.conn).filter(is_open)
    }
}
