//! The fields of packets: strings, what the flags of CONNECT announce, lengths of properties.

use ledgermq_core::codec::{PACKET_BYTES_MAX, decode, encode};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, ProtocolVersion, Publish, QoS, SubAck,
};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::reason::ReasonCode::MalformedPacket;

use ProtocolVersion::{V5, V311};

use super::notation::{bytes_of, refused, taken};

/// Bytes that are no string, each with its length: U+0000, a surrogate, half a character.
const NO_STRINGS: [&str; 3] = ["0001 00", "0003 EDA080", "0001 C3"];

#[test]
fn every_string_of_a_packet_is_utf_8() {
    for (version, statement, packet) in [
        (V5, "[MQTT-3.1.3-4]", "10 r \"MQTT\" 05 02 0000 00 S"),
        (V5, "[MQTT-3.1.3-11]", "10 r \"MQTT\" 05 06 0000 00 \"c\" 00 S \"p\""),
        (V5, "[MQTT-3.1.3-12]", "10 r \"MQTT\" 05 82 0000 00 \"c\" S"),
        (V5, "[MQTT-3.3.2-1]", "30 r S 00"),
        (V5, "[MQTT-3.3.2-13]", "30 r \"t\" p{ 08 S }"),
        (V5, "[MQTT-3.3.2-19]", "30 r \"t\" p{ 03 S }"),
        (V5, "[MQTT-1.5.7-1]", "30 r \"t\" p{ 26 S \"value\" }"),
        (V5, "[MQTT-1.5.7-1]", "30 r \"t\" p{ 26 \"key\" S }"),
        (V5, "[MQTT-3.8.3-1]", "82 r 0001 00 S 00"),
        (V5, "[MQTT-3.10.3-1]", "A2 r 0001 00 S"),
        (V311, "[MQTT311-3.1.3-4]", "10 r \"MQTT\" 04 02 0000 S"),
        (V311, "[MQTT311-3.1.3-10]", "10 r \"MQTT\" 04 06 0000 \"c\" S \"p\""),
        (V311, "[MQTT311-3.1.3-11]", "10 r \"MQTT\" 04 82 0000 \"c\" S"),
        (V311, "[MQTT311-3.3.2-1]", "30 r S"),
        (V311, "[MQTT311-3.8.3-1]", "82 r 0001 S 00"),
        (V311, "[MQTT311-3.10.3-1]", "A2 r 0001 S"),
    ] {
        println!("{statement}");
        taken(version, &packet.replace('S', "\"s\""));
        for bad in NO_STRINGS {
            refused(version, &packet.replace('S', bad), MalformedPacket);
        }
    }
}

#[test]
fn a_connect_has_the_fields_that_its_flags_announce_in_their_order() {
    // [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
    // [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT311-3.1.2-9] [MQTT311-3.1.2-11] [MQTT311-3.1.2-18]
    // [MQTT311-3.1.2-19] [MQTT311-3.1.2-20] [MQTT311-3.1.2-21] [MQTT311-3.1.3-1] [MQTT311-3.1.3-3]
    for (level, properties) in [("05", "00"), ("04", "")] {
        for flags in 0..8_u8 {
            let (will, username, password) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            if level == "04" && password && !username {
                continue;
            }
            let byte =
                0x02 | u8::from(will) << 2 | u8::from(password) << 6 | u8::from(username) << 7;
            let fields = [
                (true, "\"c\"".to_owned()),
                (will, format!("{properties} \"w\" 0002 0001")),
                (username, "\"u\"".to_owned()),
                (password, "0001 FF".to_owned()),
            ];
            let announced: Vec<&str> =
                fields.iter().filter(|(is_there, _)| *is_there).map(|(_, text)| &**text).collect();
            let packet = |fields: &[&str]| {
                format!("10 r \"MQTT\" {level} {byte:02X} 0000 {properties} {}", fields.join(" "))
            };
            let bytes = bytes_of(&packet(&announced));
            let decoded = decode(&bytes, V5, PACKET_BYTES_MAX).unwrap();
            let Some((Packet::Connect(connect), _)) = decoded else { panic!("a CONNECT") };
            assert_eq!(connect.client_id, "c");
            let will_message = connect.will.as_ref().map(|will| (will.topic, will.payload));
            assert_eq!(will_message, will.then_some(("w", &b"\0\x01"[..])));
            assert_eq!(connect.username, username.then_some("u"));
            assert_eq!(connect.password, password.then_some(&b"\xFF"[..]));
            // One field fewer, and one more, than the flags announce.
            refused(V5, &packet(&announced[..announced.len() - 1]), MalformedPacket);
            refused(V5, &packet(&[&announced[..], &["\"x\""]].concat()), MalformedPacket);
        }
    }
}

#[test]
fn without_properties_their_length_is_0() {
    // [MQTT-2.2.2-1]
    let id = PacketId::new(1).unwrap();
    let suback = |reason| SubAck {
        packet_id: id,
        reason_string: None,
        user_properties: Vec::new(),
        reasons: vec![reason],
    };
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t",
        packet_id: None,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ledgermq_core::packet::ForwardedProperties::default(),
        payload: b"p",
    };
    for (packet, expected, without) in [
        (
            Packet::Connect(Box::new(Connect::new(V5, "c", true))),
            "10 r \"MQTT\" 05 02 0000 00 \"c\"",
            "",
        ),
        (
            Packet::ConnAck(Box::new(ConnAck::new(false, ReasonCode::Success))),
            "20 r 00 00 00",
            "20 r 00 00",
        ),
        (Packet::Publish(publish), "30 r \"t\" 00 'p'", "30 r \"t\""),
        (Packet::SubAck(suback(ReasonCode::GrantedQoS1)), "90 r 0001 00 01", "90 r 0001"),
        (Packet::UnsubAck(suback(ReasonCode::Success)), "B0 r 0001 00 00", "B0 r 0001"),
    ] {
        let mut bytes = Vec::new();
        encode(&packet, V5, &mut bytes).unwrap();
        assert_eq!(bytes, bytes_of(expected));
        if !without.is_empty() {
            refused(V5, without, MalformedPacket);
        }
    }
    // Three packets are shorter still, as the specification allows.
    for (packet, expected) in [
        (Packet::PubAck(Ack::new(id, ReasonCode::NotAuthorized)), "40 r 0001 87"),
        (Packet::PubRel(Ack::new(id, ReasonCode::Success)), "62 r 0001"),
        (Packet::Disconnect(Disconnect::new(ReasonCode::ServerBusy)), "E0 r 89"),
    ] {
        let mut bytes = Vec::new();
        encode(&packet, V5, &mut bytes).unwrap();
        assert_eq!(bytes, bytes_of(expected));
    }
}

#[test]
fn a_packet_has_only_its_own_reason_codes() {
    // A transcript of the connection machine decodes what it sends, so that it sends no other.
    let acknowledged = "00 10 80 83 87 90 91 97 99";
    for (statements, packet, codes) in [
        (
            "[MQTT-3.2.2-8]",
            "20 r 00 C 00",
            "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F",
        ),
        ("[MQTT-3.4.2-1]", "40 r 0001 C", acknowledged),
        ("[MQTT-3.5.2-1]", "50 r 0001 C", acknowledged),
        ("[MQTT-3.6.2-1]", "62 r 0001 C", "00 92"),
        ("[MQTT-3.7.2-1]", "70 r 0001 C", "00 92"),
        ("[MQTT-3.9.3-2]", "90 r 0001 00 C", "00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        ("[MQTT-3.11.3-2]", "B0 r 0001 00 C", "00 11 80 83 87 8F 91"),
        // 0x8C stands in the table of all codes (section 2.4) alone.
        (
            "[MQTT-3.14.2-1]",
            "E0 r C",
            "00 04 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2",
        ),
        ("[MQTT-3.15.2-1]", "F0 r C p{ 15 \"m\" }", "00 18 19"),
    ] {
        println!("{statements}");
        for code in 0..=u8::MAX {
            let code = format!("{code:02X}");
            let bytes = packet.replace('C', &code);
            if codes.split(' ').any(|known| known == code) {
                taken(V5, &bytes);
            } else {
                refused(V5, &bytes, ReasonCode::ProtocolError);
            }
        }
    }
}
