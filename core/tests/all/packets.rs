//! Round trips of packets, and bytes that are none.

use ledgermq_core::codec::{ForwardedProperty, PACKET_BYTES_MAX, decode, encode, encode_publish};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, ConnAck, Disconnect, ForwardedProperties, Packet, ProtocolVersion, Publish, QoS, SubAck,
};
use ledgermq_core::reason::ReasonCode;
use proptest::prelude::*;

use super::generate;

fn bytes_of(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded((version, packet) in generate::versioned()) {
        let bytes = bytes_of(&packet, version);
        let decoded = decode(&bytes, version, PACKET_BYTES_MAX).unwrap();
        prop_assert_eq!(decoded, Some((packet, bytes.len())));
    }

    #[test]
    fn what_follows_a_packet_is_left_alone(
        (version, packet) in generate::versioned(),
        more in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = vec![1, 2, 3];
        encode(&packet, version, &mut bytes).unwrap();
        prop_assert_eq!(&bytes[..3], &[1, 2, 3]);
        let length = bytes.len() - 3;
        bytes.extend(more);
        let decoded = decode(&bytes[3..], version, PACKET_BYTES_MAX).unwrap();
        prop_assert_eq!(decoded, Some((packet, length)));
    }

    #[test]
    fn no_packet_is_found_in_a_part_of_it((version, packet) in generate::versioned()) {
        let bytes = bytes_of(&packet, version);
        let step = bytes.len() / 512 + 1;
        for end in (0..bytes.len()).step_by(step).chain(bytes.len() - 1..bytes.len()) {
            prop_assert_eq!(decode(&bytes[..end], version, PACKET_BYTES_MAX), Ok(None), "{}", end);
        }
    }

    #[test]
    fn a_packet_is_too_large_exactly_beyond_the_limit((version, packet) in generate::versioned()) {
        let bytes = bytes_of(&packet, version);
        let length = u32::try_from(bytes.len()).unwrap();
        prop_assert!(decode(&bytes, version, length).unwrap().is_some());
        // Known as soon as the length is.
        let header = &bytes[..5.min(bytes.len())];
        let error = decode(header, version, length - 1).unwrap_err();
        prop_assert_eq!(error.reason, ReasonCode::PacketTooLarge);
    }

    #[test]
    fn any_bytes_give_a_packet_or_an_error(
        version in generate::version(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(&bytes, version, PACKET_BYTES_MAX);
    }

    #[test]
    fn what_is_decoded_of_damaged_bytes_is_a_packet_that_encodes(
        (version, packet) in generate::versioned(),
        changes in generate::mutation(),
    ) {
        let bytes = generate::mutated(&bytes_of(&packet, version), &changes);
        if let Ok(Some((packet, length))) = decode(&bytes, version, PACKET_BYTES_MAX) {
            prop_assert!(length <= bytes.len());
            let again = bytes_of(&packet, version);
            let decoded = decode(&again, version, PACKET_BYTES_MAX).unwrap();
            prop_assert_eq!(decoded, Some((packet, again.len())));
        }
    }

    /// `[MQTT-3.3.2-18]`
    #[test]
    fn forwarded_properties_keep_their_order_between_others(
        forwarded in generate::forwarded(),
        places in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        // The other properties of a PUBLISH are put between the forwarded ones.
        let mut parts: Vec<Vec<u8>> = forwarded
            .iter()
            .map(|property| ForwardedProperties::new([property]).unwrap().0.into_owned())
            .collect();
        parts.insert(places.0.index(parts.len() + 1), vec![0x02, 0, 0, 0, 9]);
        parts.insert(places.1.index(parts.len() + 1), vec![0x23, 0, 7]);
        let properties = parts.concat();
        let length = u32::try_from(properties.len()).unwrap();
        let mut body = vec![0, 1, b't'];
        put_varint(length, &mut body);
        body.extend(properties);
        let mut bytes = vec![0x30];
        put_varint(u32::try_from(body.len()).unwrap(), &mut bytes);
        bytes.extend(body);
        let (packet, _) = decode(&bytes, ProtocolVersion::V5, PACKET_BYTES_MAX).unwrap().unwrap();
        let Packet::Publish(publish) = packet else { panic!("a PUBLISH") };
        prop_assert_eq!(publish.forwarded, forwarded);
        prop_assert_eq!(publish.message_expiry_interval, Some(9));
        prop_assert_eq!(publish.topic_alias, Some(7));
    }

    #[test]
    fn forwarded_properties_are_parsed_as_written(forwarded in generate::forwarded()) {
        let parsed = ForwardedProperties::parse(&forwarded.0).unwrap();
        prop_assert_eq!(&parsed, &forwarded);
        let again = ForwardedProperties::new(parsed.iter()).unwrap();
        prop_assert_eq!(again, forwarded);
    }
}

fn put_varint(mut value: u32, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(value % 128).unwrap();
        value /= 128;
        out.push(byte | if value > 0 { 0x80 } else { 0 });
        if value == 0 {
            return;
        }
    }
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload,
    }
}

/// `[MQTT-1.5.5-1]`
#[test]
fn lengths_take_the_fewest_bytes_at_every_limit() {
    for (body, header) in
        [(127, 2), (128, 3), (16_383, 3), (16_384, 4), (2_097_151, 4), (2_097_152, 5)]
    {
        let payload = vec![b'p'; body - 3];
        let mut bytes = Vec::new();
        encode_publish(&publish("t", &payload), ProtocolVersion::V311, &mut bytes).unwrap();
        assert_eq!(bytes.len(), body + header);
        let decoded = decode(&bytes, ProtocolVersion::V311, PACKET_BYTES_MAX).unwrap();
        assert_eq!(decoded, Some((Packet::Publish(publish("t", &payload)), bytes.len())));
    }
}

#[test]
fn payloads_and_topics_are_borrowed() {
    let mut bytes = Vec::new();
    encode_publish(&publish("topic", b"payload"), ProtocolVersion::V5, &mut bytes).unwrap();
    let range = bytes.as_ptr_range();
    let decoded = decode(&bytes, ProtocolVersion::V5, PACKET_BYTES_MAX).unwrap();
    let Some((Packet::Publish(publish), _)) = decoded else { panic!("a PUBLISH") };
    assert!(range.contains(&publish.topic.as_ptr()) && range.contains(&publish.payload.as_ptr()));
}

/// `[MQTT-3.3.1-2]`
#[test]
fn a_failed_encode_leaves_the_buffer_as_it_was() {
    let long = "a".repeat(65_536);
    let property = "b".repeat(65_536);
    let check = |packet: &Publish<'_>, version| {
        let mut out = vec![1, 2, 3];
        assert!(encode_publish(packet, version, &mut out).is_err());
        assert!(encode(&Packet::Publish(packet.clone()), version, &mut out).is_err());
        assert_eq!(out, [1, 2, 3]);
    };
    check(&publish(&long, b""), ProtocolVersion::V5);
    check(&publish("", b""), ProtocolVersion::V5);
    check(&Publish { topic_alias: Some(1), ..publish("", b"") }, ProtocolVersion::V311);
    check(&Publish { qos: QoS::AtLeastOnce, ..publish("t", b"") }, ProtocolVersion::V5);
    check(&Publish { dup: true, ..publish("t", b"") }, ProtocolVersion::V5);
    let identifiers = Publish { subscription_identifiers: vec![0], ..publish("t", b"") };
    check(&identifiers, ProtocolVersion::V5);
    let error = ForwardedProperties::new([ForwardedProperty::UserProperty("k", &property)]);
    assert!(error.is_err());
}

#[test]
fn only_forwarded_properties_are_taken_as_such() {
    let twice = [ForwardedProperty::ContentType("a"), ForwardedProperty::ContentType("b")];
    assert!(ForwardedProperties::new(twice).is_err());
    assert!(ForwardedProperties::new([ForwardedProperty::ResponseTopic("a/+")]).is_err());
    assert!(ForwardedProperties::parse(&[0x02, 0, 0, 0, 1]).is_err(), "message expiry interval");
    assert!(ForwardedProperties::parse(&[0x18, 0, 0, 0, 1]).is_err(), "will delay interval");
    assert!(ForwardedProperties::parse(&[0x01, 1, 0x26]).is_err(), "cut");
    assert!(ForwardedProperties::parse(&[]).is_ok());
}

/// `[MQTT311-3.1.3-8]` `[MQTT311-3.1.3-9]`
#[test]
fn reason_codes_become_return_codes_in_3_1_1() {
    let return_code = |reason| {
        let packet = Packet::ConnAck(Box::new(ConnAck::new(false, reason)));
        bytes_of(&packet, ProtocolVersion::V311)[3]
    };
    for (reason, code) in [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::ConnectionRateExceeded, 3),
        (ReasonCode::UseAnotherServer, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ] {
        assert_eq!(return_code(reason), code, "{reason:?}");
    }
}

/// `[MQTT311-2.3.1-5]` `[MQTT311-3.9.3-2]`
#[test]
fn what_3_1_1_cannot_carry_is_left_out() {
    let id = PacketId::new(1).unwrap();
    let v311 = |packet| bytes_of(&packet, ProtocolVersion::V311);
    let ack = Ack {
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
        ..Ack::new(id, ReasonCode::QuotaExceeded)
    };
    assert_eq!(v311(Packet::PubAck(ack)), [0x40, 2, 0, 1]);
    let suback = SubAck {
        packet_id: id,
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
        reasons: vec![ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized],
    };
    assert_eq!(v311(Packet::SubAck(suback.clone())), [0x90, 4, 0, 1, 2, 0x80]);
    assert_eq!(v311(Packet::UnsubAck(suback)), [0xB0, 2, 0, 1]);
    let disconnect = Disconnect::new(ReasonCode::ServerShuttingDown);
    assert_eq!(v311(Packet::Disconnect(disconnect)), [0xE0, 0]);
    let full = Publish {
        message_expiry_interval: Some(1),
        topic_alias: Some(1),
        subscription_identifiers: vec![1],
        forwarded: ForwardedProperties::new([ForwardedProperty::ContentType("c")]).unwrap(),
        ..publish("t", b"p")
    };
    assert_eq!(v311(Packet::Publish(full)), [0x30, 4, 0, 1, b't', b'p']);
}
