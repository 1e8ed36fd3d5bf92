//! Attacks by properties, flags and identifiers that do not belong where they stand, all without
//! authentication: numbers 7 and 8.

use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::reason::ReasonCode::{BadAuthenticationMethod, MalformedPacket, ProtocolError};

use super::hostile::Answer::{self, Disconnect, Refused, Served, Silence};
use super::hostile::{Target, VERSIONS, ended};
use crate::support::bytes::{
    Field, PROPERTIES, Raw, after_connect, auth, binary, connect, of_servers, packet,
    plain_connect, properties, property, raw, text, varint,
};

use ProtocolVersion::{V5, V31};

/// The properties that a packet of a client may have (MQTT 5 section 2.2.2.2, by packet).
fn allowed(place: &str) -> &'static [u8] {
    match place {
        "CONNECT" => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        "will" => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => &[0x1F, 0x26],
        "SUBSCRIBE" => &[0x0B, 0x26],
        "UNSUBSCRIBE" => &[0x26],
        "DISCONNECT" => &[0x11, 0x1C, 0x1F, 0x26],
        "AUTH" => &[0x15, 0x16, 0x1F, 0x26],
        _ => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
    }
}

/// Every packet of a client that has properties, by the name of the place where they stand, with
/// `block` instead of them.
fn each_place(block: &Field) -> Vec<(&'static str, Raw)> {
    let with = |packet: &Raw, number: usize| packet.each_block(block).swap_remove(number);
    let connect = connect(V5, "c");
    let mut places = vec![("CONNECT", with(&connect, 0)), ("will", with(&connect, 1))];
    for packet in after_connect(V5).iter().chain([&auth()]) {
        if packet.name != "PINGREQ" {
            places.push((packet.name, with(packet, 0)));
        }
    }
    places
}

/// The answer to a packet of [`each_place`].
fn answer(target: &Target, packet: &Raw) -> Answer {
    match packet.name {
        "CONNECT" => target.first(V5, &packet.bytes()),
        _ => target.then(V5, &packet.bytes()),
    }
}

/// How the packet at `place` is refused.
fn refused(place: &str, reason: ledgermq_core::reason::ReasonCode) -> Answer {
    if matches!(place, "CONNECT" | "will") { Refused(reason) } else { Disconnect(reason) }
}

#[test]
fn attack_7_a_property_is_taken_where_it_belongs_and_malformed_elsewhere() {
    let mut target = Target::new();
    let unknown = [0x00, 0x04, 0x0A, 0x0C, 0x14, 0x1B, 0x1D, 0x1E, 0x20, 0x2B, 0x7F];
    for id in PROPERTIES.into_iter().chain(unknown) {
        for (place, packet) in each_place(&properties(&[id])) {
            let expected = match (place, id) {
                (place, id) if !allowed(place).contains(&id) => refused(place, MalformedPacket),
                ("CONNECT", 0x15) => Refused(BadAuthenticationMethod),
                // Data without a method; AUTH without one, or with one that was not agreed on; a
                // Subscription Identifier of a client [MQTT-3.3.4-6]; an expiry for a session
                // that was to have none (section 3.14.2.2.2).
                ("CONNECT", 0x16) => Refused(ProtocolError),
                ("AUTH", _) | (_, 0x0B) if place != "SUBSCRIBE" => Disconnect(ProtocolError),
                ("DISCONNECT", 0x11) => Disconnect(ProtocolError),
                ("DISCONNECT", _) => Silence,
                _ => Served,
            };
            assert_eq!(answer(&target, &packet), expected, "{id:02X} in {place}");
        }
    }
    // An identifier of two bytes, and one byte in two.
    for block in [b"\x80\x01", b"\xA6\x00"] {
        for (place, packet) in each_place(&Field::Properties(vec![raw(block)])) {
            assert_eq!(answer(&target, &packet), refused(place, MalformedPacket), "{place}");
        }
    }
    target.serves();
}

#[test]
fn attack_7_a_property_that_stands_twice_is_a_protocol_error() {
    let mut target = Target::new();
    for id in PROPERTIES {
        // Where the first alone is refused for another reason, it gets what it needs.
        let twice = match id {
            0x16 => properties(&[0x15, id, id]),
            _ => properties(&[id, id]),
        };
        for (place, packet) in each_place(&twice) {
            let expected = match (place, id) {
                _ if !allowed(place).contains(&id) => refused(place, MalformedPacket),
                ("AUTH", 0x26) => Disconnect(ProtocolError),
                ("DISCONNECT", 0x26) => Silence,
                (_, 0x26) => Served,
                _ => refused(place, ProtocolError),
            };
            if id != 0x26 || expected != Served {
                assert_eq!(answer(&target, &packet), expected, "{id:02X} twice in {place}");
            }
        }
    }
    target.is_unharmed();
    for (place, packet) in each_place(&properties(&[0x26, 0x26, 0x26])) {
        if !matches!(place, "AUTH" | "DISCONNECT") {
            assert_eq!(answer(&target, &packet), Served, "{place}");
        }
    }
    target.serves();
}

#[test]
fn attack_7_values_that_a_property_must_not_have_are_refused() {
    let mut target = Target::new();
    for (id, value, expected) in [
        (0x01, &b"\x02"[..], ProtocolError),
        (0x17, b"\x02", ProtocolError),
        (0x19, b"\xFF", ProtocolError),
        (0x0B, b"\x00", ProtocolError),
        (0x21, b"\x00\x00", ProtocolError),
        (0x27, b"\x00\x00\x00\x00", ProtocolError),
        (0x08, b"\x00\x03a/#", ProtocolError),
        (0x08, b"\x00\x00", ProtocolError),
    ] {
        for (place, packet) in each_place(&Field::Properties(vec![raw(&[id]), raw(value)])) {
            if allowed(place).contains(&id) {
                assert_eq!(answer(&target, &packet), refused(place, expected), "{id:02X} {place}");
            }
        }
    }
    target.is_unharmed();
}

#[test]
fn attack_7_the_length_of_the_properties_is_that_of_the_properties() {
    let mut target = Target::new();
    for id in PROPERTIES {
        let bytes = Raw { name: "", first: 0, fields: property(id) }.body();
        for (place, packet) in each_place(&properties(&[])) {
            if !allowed(place).contains(&id) {
                continue;
            }
            // One byte less than there are, which cuts the value, and one more: what comes next is
            // no property, or the packet ends.
            for length in [bytes.len() - 1, bytes.len() + 1] {
                let mut packet = packet.clone();
                let at =
                    packet.fields.iter().position(|field| matches!(field, Field::Properties(_)));
                let second =
                    packet.fields.iter().rposition(|it| matches!(it, Field::Properties(_)));
                let at = if place == "will" { second } else { at }.unwrap();
                packet.fields[at] = raw(&[varint(length), bytes.clone()].concat());
                let expected = refused(place, MalformedPacket);
                assert_eq!(answer(&target, &packet), expected, "{id:02X} {length} {place}");
            }
        }
    }
    target.is_unharmed();
}

/// `[MQTT-2.1.3-1]` `[MQTT-3.3.1-2]` `[MQTT-3.3.1-4]` `[MQTT-3.6.1-1]` `[MQTT-3.8.1-1]`
/// `[MQTT-3.10.1-1]` `[MQTT-3.14.1-1]` `[MQTT-3.15.1-1]` `[MQTT311-2.2.2-2]` `[MQTT311-3.3.1-2]`
/// `[MQTT311-3.3.1-4]` `[MQTT311-3.6.1-1]` `[MQTT311-3.8.1-1]` `[MQTT311-3.10.1-1]`
/// `[MQTT311-3.14.1-1]`
#[test]
fn attack_8_reserved_flags_and_qos_3_are_malformed() {
    let mut target = Target::new();
    for version in VERSIONS {
        let auth = (version == V5).then(auth);
        for sent in after_connect(version).into_iter().chain(of_servers(version)).chain(auth) {
            for flags in 0..16 {
                let first = sent.first & 0xF0 | flags;
                let is_wrong = match sent.name {
                    "PUBLISH" => matches!(flags, 0b0110 | 0b0111 | 0b1000 | 0b1001 | 0b1110..),
                    "PUBLISH of QoS 1" | "PUBLISH of QoS 2" => false,
                    // In 3.1 what is answered has QoS 1; no other flag is looked at.
                    "PUBREL" | "SUBSCRIBE" | "UNSUBSCRIBE" if version == V31 => {
                        flags & 0b0110 != 0b0010
                    }
                    _ if version == V31 => false,
                    _ => first != sent.first,
                };
                if is_wrong {
                    let expected = ended(version, MalformedPacket);
                    let answer = target.then(version, &packet(first, &sent.body()));
                    assert_eq!(answer, expected, "{version:?} {} {first:02X}", sent.name);
                }
            }
        }
        for first in (0x11..=0x1F).filter(|_| version != V31) {
            let bytes = packet(first, &plain_connect(version, "c").body());
            assert_eq!(target.first(version, &bytes), Silence, "{version:?} {first:02X}");
        }
    }
    target.is_unharmed();
}

/// `[MQTT-3.1.2-3]` `[MQTT-3.1.2-11]` `[MQTT-3.1.2-12]` `[MQTT-3.1.2-13]` `[MQTT311-3.1.2-3]`
/// `[MQTT311-3.1.2-13]` `[MQTT311-3.1.2-14]` `[MQTT311-3.1.2-15]` `[MQTT311-3.1.2-22]`
#[test]
fn attack_8_connect_flags_say_what_follows() {
    let mut target = Target::new();
    for version in VERSIONS {
        for flags in 0..=0xFF_u8 {
            let has = |bit: u8| flags & 1 << bit != 0;
            let name = target.name();
            let mut sent = plain_connect(version, &name);
            let level = sent.body()[if version == V31 { 8 } else { 6 }];
            sent.fields[1] = raw(&[level, flags, 0, 0]);
            if has(2) {
                sent.fields.extend((version == V5).then(|| properties(&[])));
                sent.fields.extend([text("will"), binary("of a client")]);
            }
            sent.fields.extend(has(7).then(|| text("user")));
            sent.fields.extend(has(6).then(|| binary("password")));
            let is_wrong = (has(0) && version != V31)
                || (has(3) && has(4))
                || (!has(2) && (has(3) || has(4) || has(5)))
                || (has(6) && !has(7) && version != V5);
            let expected = match version {
                _ if !is_wrong => Served,
                V5 => Refused(MalformedPacket),
                _ => Silence,
            };
            assert_eq!(target.first(version, &sent.bytes()), expected, "{version:?} {flags:08b}");
        }
    }
    // The wills of those that were served and went without a word.
    assert!(target.overheard().iter().all(|topic| topic == "will"));
    target.serves();
}

/// `[MQTT-2.2.1-3]` `[MQTT311-2.3.1-1]`
#[test]
fn attack_8_there_is_no_packet_identifier_0() {
    let mut target = Target::new();
    for version in VERSIONS {
        for mut sent in after_connect(version) {
            let identifier = sent.fields.iter_mut().find(
                |field| matches!(field, Field::Bytes(bytes) if bytes.as_slice() == b"\x00\x09"),
            );
            if let Some(identifier) = identifier {
                *identifier = raw(&[0, 0]);
                let expected = ended(version, ProtocolError);
                let answer = target.then(version, &sent.bytes());
                assert_eq!(answer, expected, "{version:?} {}", sent.name);
            }
        }
    }
    target.is_unharmed();
}

/// `[MQTT-3.8.3-5]` `[MQTT311-3.8.3-4]`
#[test]
fn attack_8_subscription_options_have_reserved_bits() {
    let mut target = Target::new();
    for version in VERSIONS {
        for options in 0..=0xFF_u8 {
            let mut fields = vec![raw(&[0, 9])];
            fields.extend((version == V5).then(|| properties(&[])));
            fields.extend([text("a/b"), raw(&[options])]);
            let sent = Raw { name: "SUBSCRIBE", first: 0x82, fields };
            let expected = match (version, options) {
                (V5, 0b0100_0000..) => Disconnect(MalformedPacket),
                (V5, _) if options & 0b11 == 3 || options >> 4 == 3 => Disconnect(ProtocolError),
                (V5, _) | (_, 0..=2) => Served,
                _ => Silence,
            };
            let answer = target.then(version, &sent.bytes());
            assert_eq!(answer, expected, "{version:?} {options:08b}");
        }
    }
    target.is_unharmed();
}
