//! What a client received, owned.

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{ConnAck, Packet, Publish, QoS};
use ledgermq_core::reason::ReasonCode;

/// A received Application Message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) identifiers: Vec<u32>,
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Vec<u8>,
}

impl Message {
    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests publish text")
    }
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        Self {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            identifiers: publish.subscription_identifiers.clone(),
            expiry: publish.message_expiry_interval,
            properties: publish.forwarded.0.to_vec(),
        }
    }
}

/// What a CONNACK said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) reason: ReasonCode,
    pub(crate) session_present: bool,
    pub(crate) assigned_client_id: Option<String>,
    pub(crate) server_keep_alive: Option<u16>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) session_expiry_interval: Option<u32>,
    pub(crate) response_information: Option<String>,
    pub(crate) reason_string: Option<String>,
    pub(crate) server_reference: Option<String>,
}

impl From<&ConnAck<'_>> for Connected {
    fn from(connack: &ConnAck<'_>) -> Self {
        Self {
            reason: connack.reason,
            session_present: connack.session_present,
            assigned_client_id: connack.assigned_client_identifier.map(str::to_owned),
            server_keep_alive: connack.server_keep_alive,
            receive_maximum: connack.receive_maximum,
            maximum_packet_size: connack.maximum_packet_size,
            session_expiry_interval: connack.session_expiry_interval,
            response_information: connack.response_information.map(str::to_owned),
            reason_string: connack.reason_string.map(str::to_owned),
            server_reference: connack.server_reference.map(str::to_owned),
        }
    }
}

/// A received Control Packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    ConnAck(Connected),
    Publish(Message),
    PubAck(PacketId, ReasonCode),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId, ReasonCode),
    PubComp(PacketId, ReasonCode),
    SubAck(PacketId, Vec<ReasonCode>),
    UnsubAck(PacketId, Vec<ReasonCode>),
    PingResp,
    Disconnect(ReasonCode),
    Auth(ReasonCode),
}

impl From<&Packet<'_>> for Received {
    fn from(packet: &Packet<'_>) -> Self {
        match packet {
            Packet::ConnAck(connack) => Self::ConnAck(connack.as_ref().into()),
            Packet::Publish(publish) => Self::Publish(publish.into()),
            Packet::PubAck(ack) => Self::PubAck(ack.packet_id, ack.reason),
            Packet::PubRec(ack) => Self::PubRec(ack.packet_id, ack.reason),
            Packet::PubRel(ack) => Self::PubRel(ack.packet_id, ack.reason),
            Packet::PubComp(ack) => Self::PubComp(ack.packet_id, ack.reason),
            Packet::SubAck(ack) => Self::SubAck(ack.packet_id, ack.reasons.clone()),
            Packet::UnsubAck(ack) => Self::UnsubAck(ack.packet_id, ack.reasons.clone()),
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(disconnect) => Self::Disconnect(disconnect.reason),
            Packet::Auth(auth) => Self::Auth(auth.reason),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => panic!("a server never sends {packet:?}"),
        }
    }
}
