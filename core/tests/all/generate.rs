//! Generated packets, topics and events.
//!
//! Packets borrow their texts; those of a generated packet are leaked, which a test can afford.

use std::borrow::Cow;

use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, ForwardedProperties, Packet, ProtocolVersion, Publish,
    QoS, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, UserProperties, Will,
};
use ledgermq_core::reason::ReasonCode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(super) mod events;

/// Reason Codes that a packet may carry.
const ACK: &[u8] = &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASE: &[u8] = &[0, 0x92];
const SUBACK: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const SUBACK_311: &[u8] = &[0, 1, 2, 0x80];
const UNSUBACK: &[u8] = &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
const CONNACK: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const CONNACK_311: &[u8] = &[0, 0x84, 0x85, 0x88, 0x86, 0x87];
const DISCONNECT: &[u8] = &[
    0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const AUTH: &[u8] = &[0, 0x18, 0x19];

pub(super) fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V311), Just(ProtocolVersion::V5)]
}

/// Any Control Packet that `version` can express without loss.
pub(super) fn packet(version: ProtocolVersion) -> BoxedStrategy<Packet<'static>> {
    let both = prop_oneof![
        2 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        2 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        4 => publish(version).prop_map(Packet::Publish),
        1 => ack(version, ACK).prop_map(Packet::PubAck),
        1 => ack(version, ACK).prop_map(Packet::PubRec),
        1 => ack(version, RELEASE).prop_map(Packet::PubRel),
        1 => ack(version, RELEASE).prop_map(Packet::PubComp),
        2 => subscribe(version).prop_map(Packet::Subscribe),
        1 => suback(version).prop_map(Packet::SubAck),
        1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => unsuback(version).prop_map(Packet::UnsubAck),
        1 => prop_oneof![Just(Packet::PingReq), Just(Packet::PingResp)],
        1 => disconnect(version).prop_map(Packet::Disconnect),
    ];
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => both.boxed(),
        ProtocolVersion::V5 => prop_oneof![20 => both, 1 => auth().prop_map(Packet::Auth)].boxed(),
    }
}

/// A version and a packet of it.
pub(super) fn versioned() -> impl Strategy<Value = (ProtocolVersion, Packet<'static>)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        20 => prop::char::range(' ', '~'),
        1 => Just('/'),
        1 => prop::char::range('\u{A0}', '\u{FFD}'),
        1 => prop::char::range('\u{E000}', '\u{F8FF}'),
        1 => prop::char::range('\u{10000}', '\u{1F6FF}'),
    ]
}

pub(super) fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => vec(character(), 0..16),
        1 => vec(character(), 120..140),
    ]
    .prop_map(|characters| characters.into_iter().collect())
}

pub(super) fn text() -> impl Strategy<Value = &'static str> {
    string().prop_map(|text| &*text.leak())
}

pub(super) fn binary() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![
        20 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 120..300),
        1 => vec(any::<u8>(), 16_000..17_000),
    ]
    .prop_map(|bytes| &*bytes.leak())
}

/// A Topic Name over few letters, so that filters match.
pub(super) fn topic_name() -> impl Strategy<Value = &'static str> {
    let level =
        prop_oneof![Just(""), Just("a"), Just("b"), Just("$x"), Just("level of more bytes")];
    prop_oneof![
        vec(level, 1..6).prop_map(|levels| levels.join("/")),
        string().prop_map(|text| text.replace(['+', '#'], "-")),
    ]
    .prop_map(|topic| if topic.is_empty() { "t" } else { &*topic.leak() })
}

/// A Topic Filter over few letters.
pub(super) fn topic_filter() -> impl Strategy<Value = &'static str> {
    let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("+"), Just("$x")];
    let levels = (vec(level, 1..6), any::<bool>()).prop_map(|(mut levels, multi)| {
        if multi {
            levels.push("#");
        }
        levels.join("/")
    });
    (levels, prop::bool::weighted(0.1))
        .prop_filter("at least one character", |(filter, _)| !filter.is_empty())
        .prop_map(|(filter, shared)| {
            &*if shared { format!("$share/g/{filter}") } else { filter }.leak()
        })
}

pub(super) fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

pub(super) fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn reason(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(codes).prop_map(|code| ReasonCode::try_from(code).unwrap())
}

fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    prop_oneof![3 => Just(Vec::new()), 1 => vec((text(), text()), 1..4)]
}

pub(super) fn forwarded() -> impl Strategy<Value = ForwardedProperties<'static>> {
    let properties = (
        option::of(any::<bool>().prop_map(ForwardedProperty::PayloadFormatIndicator)),
        option::of(text().prop_map(ForwardedProperty::ContentType)),
        option::of(topic_name().prop_map(ForwardedProperty::ResponseTopic)),
        option::of(binary().prop_map(ForwardedProperty::CorrelationData)),
        vec((text(), text()).prop_map(|(k, v)| ForwardedProperty::UserProperty(k, v)), 0..4),
    );
    properties
        .prop_map(|(format, kind, response, correlation, user)| {
            let single = [format, kind, response, correlation].into_iter().flatten();
            single.chain(user).collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|properties| ForwardedProperties::new(properties).unwrap())
}

/// `strategy` in MQTT 5, the default in 3.1.1, which has no properties.
fn only_v5<T: Clone + Default + std::fmt::Debug + 'static>(
    version: ProtocolVersion,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => Just(T::default()).boxed(),
        ProtocolVersion::V5 => strategy.boxed(),
    }
}

fn will(version: ProtocolVersion) -> impl Strategy<Value = Will<'static>> {
    (
        (topic_name(), binary(), qos(), any::<bool>()),
        only_v5(version, any::<u32>()),
        only_v5(version, option::of(any::<u32>())),
        only_v5(version, forwarded()),
    )
        .prop_map(
            |(
                (topic, payload, qos, retain),
                delay_interval,
                message_expiry_interval,
                forwarded,
            )| {
                Will {
                    topic,
                    payload,
                    qos,
                    retain,
                    delay_interval,
                    message_expiry_interval,
                    forwarded,
                }
            },
        )
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect<'static>> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
    );
    let authentication = option::of((text(), option::of(binary())));
    (
        (any::<bool>(), any::<u16>(), text(), option::of(text()), option::of(binary())),
        option::of(will(version)),
        only_v5(version, numbers),
        only_v5(version, authentication),
        only_v5(version, user_properties()),
    )
        .prop_map(move |(fixed, will, numbers, authentication, user_properties)| {
            let (clean_start, keep_alive, client_id, username, password) = fixed;
            Connect {
                version,
                clean_start,
                keep_alive,
                client_id,
                username,
                password: password.filter(|_| version == ProtocolVersion::V5 || username.is_some()),
                will,
                session_expiry_interval: numbers.0,
                receive_maximum: numbers.1,
                maximum_packet_size: numbers.2,
                topic_alias_maximum: numbers.3,
                request_response_information: numbers.4,
                request_problem_information: numbers.5,
                authentication_method: authentication.map(|(method, _)| method),
                authentication_data: authentication.and_then(|(_, data)| data),
                user_properties,
            }
        })
}

fn connack(version: ProtocolVersion) -> impl Strategy<Value = ConnAck<'static>> {
    let codes = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => CONNACK_311,
        ProtocolVersion::V5 => CONNACK,
    };
    let below_two = prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)];
    let flag = || option::of(any::<bool>());
    let string = || option::of(text());
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(below_two),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    (
        (any::<bool>(), reason(codes)),
        only_v5(version, numbers),
        only_v5(version, (flag(), flag(), flag(), flag())),
        only_v5(version, (string(), string(), string(), string(), string())),
        only_v5(version, option::of(binary())),
        only_v5(version, user_properties()),
    )
        .prop_map(
            |((session_present, reason), numbers, flags, texts, data, user_properties)| ConnAck {
                session_present: session_present && reason == ReasonCode::Success,
                reason,
                session_expiry_interval: numbers.0,
                receive_maximum: numbers.1,
                maximum_qos: numbers.2,
                retain_available: flags.0,
                maximum_packet_size: numbers.3,
                assigned_client_identifier: texts.0,
                topic_alias_maximum: numbers.4,
                reason_string: texts.1,
                wildcard_subscription_available: flags.1,
                subscription_identifiers_available: flags.2,
                shared_subscription_available: flags.3,
                server_keep_alive: numbers.5,
                response_information: texts.2,
                server_reference: texts.3,
                authentication_method: texts.4,
                authentication_data: data,
                user_properties,
            },
        )
}

fn publish(version: ProtocolVersion) -> impl Strategy<Value = Publish<'static>> {
    (
        (any::<bool>(), qos(), any::<bool>(), topic_name(), packet_id(), binary()),
        only_v5(version, option::of(any::<u32>())),
        only_v5(version, option::of((1..=u16::MAX, any::<bool>()))),
        only_v5(version, vec(1..=268_435_455_u32, 0..3)),
        only_v5(version, prop_oneof![Just(ForwardedProperties::default()), forwarded()]),
    )
        .prop_map(
            |(fixed, message_expiry_interval, alias, subscription_identifiers, forwarded)| {
                let (dup, qos, retain, topic, packet_id, payload) = fixed;
                let is_acknowledged = qos != QoS::AtMostOnce;
                Publish {
                    dup: dup && is_acknowledged,
                    qos,
                    retain,
                    topic: if alias.is_some_and(|(_, alone)| alone) { "" } else { topic },
                    packet_id: is_acknowledged.then_some(packet_id),
                    message_expiry_interval,
                    topic_alias: alias.map(|(alias, _)| alias),
                    subscription_identifiers,
                    forwarded,
                    payload,
                }
            },
        )
}

fn ack(version: ProtocolVersion, codes: &'static [u8]) -> impl Strategy<Value = Ack<'static>> {
    let codes = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => &codes[..1],
        ProtocolVersion::V5 => codes,
    };
    let properties = (option::of(text()), user_properties());
    (packet_id(), reason(codes), only_v5(version, properties)).prop_map(
        |(packet_id, reason, (reason_string, user_properties))| Ack {
            packet_id,
            reason,
            reason_string,
            user_properties,
        },
    )
}

fn options(version: ProtocolVersion) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    (qos(), only_v5(version, (any::<bool>(), any::<bool>(), handling))).prop_map(
        |(qos, (no_local, retain_as_published, retain_handling))| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

fn subscribe(version: ProtocolVersion) -> impl Strategy<Value = Subscribe<'static>> {
    let filter = (topic_filter(), options(version)).prop_map(|(filter, mut options)| {
        options.no_local &= !filter.starts_with("$share/");
        (filter, options)
    });
    let properties = (option::of(1..=268_435_455_u32), user_properties());
    (packet_id(), only_v5(version, properties), vec(filter, 1..5)).prop_map(
        |(packet_id, (subscription_identifier, user_properties), filters)| Subscribe {
            packet_id,
            subscription_identifier,
            user_properties,
            filters,
        },
    )
}

fn suback(version: ProtocolVersion) -> impl Strategy<Value = SubAck<'static>> {
    let codes = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => SUBACK_311,
        ProtocolVersion::V5 => SUBACK,
    };
    acknowledged(version, vec(reason(codes), 1..5).boxed())
}

fn unsuback(version: ProtocolVersion) -> impl Strategy<Value = SubAck<'static>> {
    let reasons = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => Just(Vec::new()).boxed(),
        ProtocolVersion::V5 => vec(reason(UNSUBACK), 1..5).boxed(),
    };
    acknowledged(version, reasons)
}

fn acknowledged(
    version: ProtocolVersion,
    reasons: BoxedStrategy<Vec<ReasonCode>>,
) -> impl Strategy<Value = SubAck<'static>> {
    let properties = (option::of(text()), user_properties());
    (packet_id(), only_v5(version, properties), reasons).prop_map(
        |(packet_id, (reason_string, user_properties), reasons)| SubAck {
            packet_id,
            reason_string,
            user_properties,
            reasons,
        },
    )
}

fn unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Unsubscribe<'static>> {
    (packet_id(), only_v5(version, user_properties()), vec(topic_filter(), 1..5)).prop_map(
        |(packet_id, user_properties, filters)| Unsubscribe { packet_id, user_properties, filters },
    )
}

fn disconnect(version: ProtocolVersion) -> impl Strategy<Value = Disconnect<'static>> {
    let codes = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => &DISCONNECT[..1],
        ProtocolVersion::V5 => DISCONNECT,
    };
    let properties =
        (option::of(any::<u32>()), option::of(text()), option::of(text()), user_properties());
    (reason(codes), only_v5(version, properties)).prop_map(
        |(reason, (session_expiry_interval, reason_string, server_reference, user_properties))| {
            Disconnect {
                reason,
                session_expiry_interval,
                reason_string,
                server_reference,
                user_properties,
            }
        },
    )
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    let full = (reason(AUTH), text(), option::of(binary()), option::of(text()), user_properties())
        .prop_map(|(reason, method, authentication_data, reason_string, user_properties)| Auth {
            reason,
            authentication_method: Some(method),
            authentication_data,
            reason_string,
            user_properties,
        });
    let short = Auth {
        reason: ReasonCode::Success,
        authentication_method: None,
        authentication_data: None,
        reason_string: None,
        user_properties: Vec::new(),
    };
    prop_oneof![4 => full, 1 => Just(short)]
}

/// One or more changes to bytes: a bit, a byte, a length.
pub(super) fn mutation() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let change = prop_oneof![
        4 => any::<u8>().prop_map(Change::Set),
        2 => (0_u8..8).prop_map(Change::Flip),
        1 => Just(Change::Remove),
        1 => any::<u8>().prop_map(Change::Insert),
        1 => Just(Change::Cut),
    ];
    vec((any::<prop::sample::Index>(), change), 1..4)
}

/// One change at one place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Set(u8),
    Flip(u8),
    Remove,
    Insert(u8),
    Cut,
}

pub(super) fn mutated(bytes: &[u8], changes: &[(prop::sample::Index, Change)]) -> Vec<u8> {
    let mut bytes = Cow::Borrowed(bytes);
    for (at, change) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        let bytes = bytes.to_mut();
        match change {
            Change::Set(byte) => bytes[at] = *byte,
            Change::Flip(bit) => bytes[at] ^= 1 << bit,
            Change::Remove => {
                bytes.remove(at);
            }
            Change::Insert(byte) => bytes.insert(at, *byte),
            Change::Cut => bytes.truncate(at),
        }
    }
    bytes.into_owned()
}
