//! What a client answers, whatever it is there for.

use ledgermq_core::packet::{Ack, Packet, QoS};
use ledgermq_core::reason::ReasonCode;

use super::BenchError;
use super::connection::Output;

/// Answers `packet` as the protocol demands, if it does: the steps of QoS 1 and 2 in both
/// directions.
pub(super) fn answer(packet: &Packet<'_>, output: &mut Output) -> Result<(), BenchError> {
    let success = |id| Ack::new(id, ReasonCode::Success);
    match packet {
        Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => output.send(&Packet::PubAck(success(id))),
            (QoS::ExactlyOnce, Some(id)) => output.send(&Packet::PubRec(success(id))),
            _ => Ok(()),
        },
        Packet::PubRec(ack) if !ack.reason.is_error() => {
            output.send(&Packet::PubRel(success(ack.packet_id)))
        }
        Packet::PubRel(ack) => output.send(&Packet::PubComp(success(ack.packet_id))),
        Packet::Disconnect(disconnect) => {
            Err(BenchError::Refused { client: "a client".to_owned(), reason: disconnect.reason })
        }
        _ => Ok(()),
    }
}

/// The acknowledgement that ends the sending of a message, if `packet` is one.
pub(super) fn settled<'p, 'a>(packet: &'p Packet<'a>) -> Option<&'p Ack<'a>> {
    match packet {
        Packet::PubAck(ack) | Packet::PubComp(ack) => Some(ack),
        Packet::PubRec(ack) => ack.reason.is_error().then_some(ack),
        _ => None,
    }
}
