//! Every packet, in both versions.

use ledgermq_core::codec::{ForwardedProperty, PACKET_BYTES_MAX, decode, encode};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, Publish,
    QoS, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use ledgermq_core::reason::ReasonCode;

use super::Golden;

/// `[MQTT-2.1.3-1]` `[MQTT-2.2.1-2]` `[MQTT-3.2.2-1]` `[MQTT311-2.2.2-1]` `[MQTT311-2.3.1-5]`
#[test]
fn packets_keep_their_bytes() {
    for (file, version) in
        [("packets-v311.txt", ProtocolVersion::V311), ("packets-v5.txt", ProtocolVersion::V5)]
    {
        let golden = Golden::open(file);
        let lines = golden.lines();
        let mut today = Vec::new();
        for (name, packet) in packets(version) {
            if let Some(bytes) = lines.get(name) {
                let decoded = decode(bytes, version, PACKET_BYTES_MAX).unwrap();
                assert_eq!(decoded, Some((packet.clone(), bytes.len())), "{name}");
            }
            let mut bytes = Vec::new();
            encode(&packet, version, &mut bytes).unwrap();
            today.push((name.to_owned(), bytes));
        }
        golden.check(&today);
    }
}

const ID: PacketId = PacketId::new(0x1234).unwrap();

/// Every packet as short as it gets, and with everything that the version has.
fn packets(version: ProtocolVersion) -> Vec<(&'static str, Packet<'static>)> {
    let is_v5 = version == ProtocolVersion::V5;
    let mut packets = vec![
        ("connect", Packet::Connect(Box::new(connect(version)))),
        ("connect_full", Packet::Connect(Box::new(connect_full(version)))),
        ("connack", Packet::ConnAck(Box::new(ConnAck::new(false, ReasonCode::Success)))),
        ("connack_present", Packet::ConnAck(Box::new(ConnAck::new(true, ReasonCode::Success)))),
        (
            "connack_refused",
            Packet::ConnAck(Box::new(ConnAck::new(false, ReasonCode::NotAuthorized))),
        ),
        ("publish_qos0", Packet::Publish(publish(QoS::AtMostOnce))),
        ("publish_qos1", Packet::Publish(publish(QoS::AtLeastOnce))),
        (
            "publish_qos2_dup_retain",
            Packet::Publish(Publish { dup: true, retain: true, ..publish(QoS::ExactlyOnce) }),
        ),
        ("puback", Packet::PubAck(Ack::new(ID, ReasonCode::Success))),
        ("pubrec", Packet::PubRec(Ack::new(ID, ReasonCode::Success))),
        ("pubrel", Packet::PubRel(Ack::new(ID, ReasonCode::Success))),
        ("pubcomp", Packet::PubComp(Ack::new(ID, ReasonCode::Success))),
        ("subscribe", Packet::Subscribe(subscribe(is_v5))),
        (
            "suback",
            Packet::SubAck(suback(vec![ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError])),
        ),
        ("unsubscribe", Packet::Unsubscribe(unsubscribe(is_v5))),
        (
            "unsuback",
            Packet::UnsubAck(suback(if is_v5 { vec![ReasonCode::Success] } else { Vec::new() })),
        ),
        ("pingreq", Packet::PingReq),
        ("pingresp", Packet::PingResp),
        ("disconnect", Packet::Disconnect(Disconnect::new(ReasonCode::Success))),
    ];
    if is_v5 {
        packets.extend(packets_with_properties());
    }
    packets
}

fn packets_with_properties() -> Vec<(&'static str, Packet<'static>)> {
    let ack = |reason| Ack {
        reason_string: Some("why"),
        user_properties: vec![("key", "value")],
        ..Ack::new(ID, reason)
    };
    let suback = |reasons| SubAck {
        reason_string: Some("why"),
        user_properties: vec![("key", "value")],
        ..suback(reasons)
    };
    vec![
        ("connack_full", Packet::ConnAck(Box::new(connack_full()))),
        ("publish_full", Packet::Publish(publish_full())),
        (
            "publish_alias",
            Packet::Publish(Publish {
                topic: "",
                topic_alias: Some(9),
                ..publish(QoS::AtMostOnce)
            }),
        ),
        ("puback_reason", Packet::PubAck(Ack::new(ID, ReasonCode::NoMatchingSubscribers))),
        ("puback_full", Packet::PubAck(ack(ReasonCode::QuotaExceeded))),
        ("pubrec_full", Packet::PubRec(ack(ReasonCode::Success))),
        ("pubrel_full", Packet::PubRel(ack(ReasonCode::PacketIdentifierNotFound))),
        ("pubcomp_full", Packet::PubComp(ack(ReasonCode::Success))),
        ("suback_full", Packet::SubAck(suback(vec![ReasonCode::TopicFilterInvalid]))),
        ("unsuback_full", Packet::UnsubAck(suback(vec![ReasonCode::NoSubscriptionExisted]))),
        ("disconnect_reason", Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver))),
        (
            "disconnect_full",
            Packet::Disconnect(Disconnect {
                reason: ReasonCode::UseAnotherServer,
                session_expiry_interval: Some(60),
                reason_string: Some("why"),
                server_reference: Some("other:1883"),
                user_properties: vec![("key", "value")],
            }),
        ),
        ("auth", Packet::Auth(auth())),
    ]
}

fn connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "client",
        username: None,
        password: None,
        will: None,
        session_expiry_interval: None,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: None,
        request_response_information: None,
        request_problem_information: None,
        authentication_method: None,
        authentication_data: None,
        user_properties: Vec::new(),
    }
}

fn connect_full(version: ProtocolVersion) -> Connect<'static> {
    let will = Will {
        topic: "will/topic",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval: 0,
        message_expiry_interval: None,
        forwarded: ForwardedProperties::default(),
    };
    let full = Connect {
        clean_start: false,
        username: Some("user"),
        password: Some(b"\x00secret"),
        will: Some(will.clone()),
        ..connect(version)
    };
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => full,
        ProtocolVersion::V5 => Connect {
            will: Some(Will {
                delay_interval: 5,
                message_expiry_interval: Some(3600),
                forwarded: forwarded(),
                ..will
            }),
            session_expiry_interval: Some(86_400),
            receive_maximum: Some(20),
            maximum_packet_size: Some(1 << 20),
            topic_alias_maximum: Some(10),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            authentication_method: Some("SCRAM-SHA-256"),
            authentication_data: Some(b"data"),
            user_properties: vec![("key", "value"), ("key", "again")],
            ..full
        },
    }
}

fn connack_full() -> ConnAck<'static> {
    ConnAck {
        session_expiry_interval: Some(60),
        receive_maximum: Some(20),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(true),
        maximum_packet_size: Some(1 << 20),
        assigned_client_identifier: Some("assigned"),
        topic_alias_maximum: Some(10),
        reason_string: Some("why"),
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(true),
        shared_subscription_available: Some(false),
        server_keep_alive: Some(30),
        response_information: Some("response"),
        server_reference: Some("other:1883"),
        authentication_method: Some("method"),
        authentication_data: Some(b"data"),
        user_properties: vec![("key", "value")],
        ..ConnAck::new(true, ReasonCode::Success)
    }
}

fn forwarded() -> ForwardedProperties<'static> {
    ForwardedProperties::new([
        ForwardedProperty::PayloadFormatIndicator(true),
        ForwardedProperty::ContentType("text/plain"),
        ForwardedProperty::ResponseTopic("answer/here"),
        ForwardedProperty::CorrelationData(b"\x01\x02"),
        ForwardedProperty::UserProperty("key", "value"),
    ])
    .unwrap()
}

fn publish(qos: QoS) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "some/topic",
        packet_id: (qos != QoS::AtMostOnce).then_some(ID),
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload: b"payload",
    }
}

fn publish_full() -> Publish<'static> {
    Publish {
        message_expiry_interval: Some(3600),
        topic_alias: Some(9),
        subscription_identifiers: vec![1, 268_435_455],
        forwarded: forwarded(),
        ..publish(QoS::AtLeastOnce)
    }
}

fn subscribe(is_v5: bool) -> Subscribe<'static> {
    let plain = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let full = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: is_v5,
        retain_as_published: is_v5,
        retain_handling: if is_v5 { RetainHandling::DoNotSend } else { RetainHandling::Send },
    };
    Subscribe {
        packet_id: ID,
        subscription_identifier: is_v5.then_some(77),
        user_properties: if is_v5 { vec![("key", "value")] } else { Vec::new() },
        filters: vec![("a/+/b", plain), ("#", full)],
    }
}

fn suback(reasons: Vec<ReasonCode>) -> SubAck<'static> {
    SubAck { packet_id: ID, reason_string: None, user_properties: Vec::new(), reasons }
}

fn unsubscribe(is_v5: bool) -> Unsubscribe<'static> {
    Unsubscribe {
        packet_id: ID,
        user_properties: if is_v5 { vec![("key", "value")] } else { Vec::new() },
        filters: vec!["a/+/b", "#"],
    }
}

fn auth() -> Auth<'static> {
    Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some("method"),
        authentication_data: Some(b"data"),
        reason_string: Some("why"),
        user_properties: vec![("key", "value")],
    }
}
