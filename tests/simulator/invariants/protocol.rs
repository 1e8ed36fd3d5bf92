//! What the node sends is valid: packets, identifiers, the client's Receive Maximum, DUP.

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

pub(crate) struct Protocol;

impl Invariant for Protocol {
    fn see(&mut self, seen: &Seen, _: &Facts<'_>) -> Result<(), String> {
        match seen {
            Seen::Broken(what) => Err(what.clone()),
            // These clients keep the protocol: nobody may tell them that they broke it.
            Seen::Disconnected {
                client,
                reason:
                    reason @ (ReasonCode::ProtocolError
                    | ReasonCode::MalformedPacket
                    | ReasonCode::ReceiveMaximumExceeded
                    | ReasonCode::PacketTooLarge
                    | ReasonCode::TopicAliasInvalid
                    | ReasonCode::TopicNameInvalid),
            } => Err(format!("client {client} kept the protocol and was told {reason:?}")),
            Seen::Received(receipt) => {
                let who = receipt.client;
                if receipt.qos > QoS::AtMostOnce && receipt.in_flight >= receipt.receive_maximum {
                    return Err(format!("the Receive Maximum of client {who} was passed"));
                }
                if receipt.is_id_taken {
                    return Err(format!(
                        "m{} came to client {who} by an identifier that is in use",
                        receipt.uid
                    ));
                }
                if receipt.dup && receipt.is_fresh {
                    return Err(format!("m{} came to a new session with DUP", receipt.uid));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
