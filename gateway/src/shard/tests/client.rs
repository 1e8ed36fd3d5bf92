//! What a client sends, and what it received as lines.

use ledgermq_core::codec;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, Publish, QoS,
    Subscribe, SubscriptionOptions, Unsubscribe,
};
use ledgermq_core::reason::ReasonCode;

pub(super) const V3: ProtocolVersion = ProtocolVersion::V311;
pub(super) const V5: ProtocolVersion = ProtocolVersion::V5;

/// CONNECT without a session that outlives the connection.
pub(super) fn connect(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect::new(version, client_id, version == V3)
}

/// CONNECT with a session that outlives the connection.
pub(super) fn persistent(client_id: &str) -> Connect<'_> {
    Connect { session_expiry_interval: Some(3600), ..connect(V5, client_id) }
}

pub(super) fn publish<'a>(qos: u8, id: u16, topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::from_bits(qos).unwrap(),
        retain: false,
        topic,
        packet_id: PacketId::new(id),
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload: payload.as_bytes(),
    }
}

pub(super) fn subscribe(id: u16, filter: &str, qos: u8) -> Packet<'_> {
    let options =
        SubscriptionOptions { qos: QoS::from_bits(qos).unwrap(), ..SubscriptionOptions::default() };
    subscribe_with(id, &[(filter, options)], None)
}

pub(super) fn subscribe_with<'a>(
    id: u16,
    filters: &[(&'a str, SubscriptionOptions)],
    subscription_identifier: Option<u32>,
) -> Packet<'a> {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(id).unwrap(),
        subscription_identifier,
        user_properties: Vec::new(),
        filters: filters.to_vec(),
    })
}

pub(super) fn unsubscribe(id: u16, filter: &str) -> Packet<'_> {
    let packet_id = PacketId::new(id).unwrap();
    Packet::Unsubscribe(Unsubscribe {
        packet_id,
        user_properties: Vec::new(),
        filters: vec![filter],
    })
}

pub(super) fn puback(id: u16) -> Packet<'static> {
    Packet::PubAck(ack(id))
}

pub(super) fn pubrec(id: u16) -> Packet<'static> {
    Packet::PubRec(ack(id))
}

pub(super) fn pubrel(id: u16) -> Packet<'static> {
    Packet::PubRel(ack(id))
}

pub(super) fn pubcomp(id: u16) -> Packet<'static> {
    Packet::PubComp(ack(id))
}

pub(super) fn disconnect() -> Packet<'static> {
    Packet::Disconnect(Disconnect::new(ReasonCode::Success))
}

fn ack(id: u16) -> Ack<'static> {
    Ack::new(PacketId::new(id).unwrap(), ReasonCode::Success)
}

pub(super) fn bytes_of(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(packet, version, &mut bytes).unwrap();
    bytes
}

/// Takes whole packets from the front of `bytes`, as lines.
pub(super) fn lines(bytes: &mut Vec<u8>, version: ProtocolVersion) -> Vec<String> {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some((packet, length)) = codec::decode(&bytes[at..], version, u32::MAX).unwrap() {
        lines.push(line(&packet));
        at += length;
    }
    bytes.drain(..at);
    lines
}

fn line(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(connack) => {
            let present = if connack.session_present { " present" } else { "" };
            format!("CONNACK {:#04x}{present}", connack.reason as u8)
        }
        Packet::Publish(publish) => publish_line(publish),
        Packet::PubAck(ack) => ack_line("PUBACK", ack),
        Packet::PubRec(ack) => ack_line("PUBREC", ack),
        Packet::PubRel(ack) => ack_line("PUBREL", ack),
        Packet::PubComp(ack) => ack_line("PUBCOMP", ack),
        Packet::SubAck(suback) => format!("SUBACK {} {:02x?}", suback.packet_id, codes(suback)),
        Packet::UnsubAck(suback) => format!("UNSUBACK {} {:02x?}", suback.packet_id, codes(suback)),
        Packet::PingResp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:#04x}", disconnect.reason as u8),
        other => panic!("a server does not send {other:?}"),
    }
}

fn codes(suback: &ledgermq_core::packet::SubAck<'_>) -> Vec<u8> {
    suback.reasons.iter().map(|reason| *reason as u8).collect()
}

fn ack_line(name: &str, ack: &Ack<'_>) -> String {
    match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {:#04x}", ack.packet_id, reason as u8),
    }
}

/// `t=payload q1 #7 dup retain expiry=9 ids=[1]`
fn publish_line(publish: &Publish<'_>) -> String {
    let mut line = format!("{}={}", publish.topic, String::from_utf8_lossy(publish.payload));
    if let Some(id) = publish.packet_id {
        line += &format!(" q{} #{id}", publish.qos as u8);
    }
    for (word, is_set) in [(" dup", publish.dup), (" retain", publish.retain)] {
        line += if is_set { word } else { "" };
    }
    if let Some(expiry) = publish.message_expiry_interval {
        line += &format!(" expiry={expiry}");
    }
    if !publish.subscription_identifiers.is_empty() {
        line += &format!(" ids={:?}", publish.subscription_identifiers);
    }
    line
}
