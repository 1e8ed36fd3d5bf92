//! Attacks by packets that are malformed, all without authentication: numbers 1 to 6.

use ledgermq_core::packet::{ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode::{
    ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError,
};

use super::hostile::Answer::{self, Disconnect, Refused, Served, Silence};
use super::hostile::{Target, VERSIONS, ended};
use crate::support::broker::Options as BrokerOptions;
use crate::support::bytes::{
    Field, Raw, after_connect, auth, connect, of_servers, packet, plain_connect, property, raw,
};
use crate::support::client::{Client, Options};

use ProtocolVersion::{V5, V31};

/// What is no UTF-8 Encoded String (MQTT 5 section 1.5.4), and control characters, which we take for
/// malformed too.
const NO_TEXTS: [&[u8]; 14] = [
    b"a\0b",
    b"a\rb",
    b"a\nb",
    b"\x1B[2J",
    b"a\x7F",
    b"\xC2\x85",         // U+0085, a new line
    b"\xED\xA0\x80",     // a surrogate
    b"\xED\xBF\xBF",     // the last one
    b"\xC0\x80",         // U+0000 in too many bytes
    b"\xE0\x80\xAF",     // '/' in too many bytes
    b"\xF4\x90\x80\x80", // beyond U+10FFFF
    b"\xEF\xBF\xBF",     // U+FFFF, a non-character
    b"a\xC3",            // half a character
    b"\xFF",
];

/// Everything that can stand behind CONNECT in this version.
fn all(version: ProtocolVersion) -> Vec<Raw> {
    let auth = (version == V5).then(auth);
    after_connect(version).into_iter().chain(of_servers(version)).chain(auth).collect()
}

/// What a client hears whose CONNECT is wrong for `reason`: before MQTT 5 nothing.
fn refused(version: ProtocolVersion) -> Answer {
    if version == V5 { Refused(MalformedPacket) } else { Silence }
}

/// `[MQTT-3.1.0-1]` `[MQTT-3.14.0-1]` `[MQTT311-3.1.0-1]`
#[test]
fn attack_1_any_first_packet_but_connect_ends_the_connection_in_silence() {
    let mut target = Target::new();
    for version in VERSIONS {
        for packet in all(version).into_iter().chain([auth()]) {
            let bytes = packet.bytes();
            assert_eq!(target.first(version, &bytes), Silence, "{version:?} {}", packet.name);
            // Nor does a CONNECT behind it help.
            let both = [bytes, connect(version, "late").bytes()].concat();
            assert_eq!(target.first(version, &both), Silence, "{version:?} {}", packet.name);
        }
    }
    for first in 0..=0xFF {
        assert_eq!(target.first(V5, &[first, 0]), Silence, "{first:02X}");
    }
    for foreign in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n"] {
        assert_eq!(target.first(V5, foreign), Silence);
    }
    target.is_unharmed();
}

/// `[MQTT-3.1.0-2]` `[MQTT311-3.1.0-2]`
#[test]
fn attack_2_a_second_connect_ends_the_connection_and_changes_nothing() {
    let mut target = Target::new();
    for version in VERSIONS {
        // Of every version, another client's, and with every fault that a CONNECT can have.
        let mut seconds: Vec<_> = VERSIONS.map(|second| connect(second, "bystander")).into();
        for second in seconds.clone() {
            seconds.extend(second.each_text(b"#").into_iter().skip(1));
            seconds.extend(second.each_text(b"a\0"));
        }
        for second in seconds {
            let bytes = second.bytes();
            let expected = ended(version, ProtocolError);
            assert_eq!(target.then(version, &bytes), expected, "{version:?} {bytes:02X?}");
        }
        for (second, reason) in [
            (&b"\x10\x00"[..], MalformedPacket),
            (b"\x10\x02\x00\x04", MalformedPacket),
            (b"\x10\x0C\x00\x04MQTT\x06\x02\x00\x00\x00\x00", ProtocolError),
            (b"\x10\x0C\x00\x04MQTX\x05\x02\x00\x00\x00\x00", ProtocolError),
            (b"\x10\x0C\x00\x04MQTT\x04\x03\x00\x00\x00\x00", ProtocolError),
            (b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x01", ProtocolError),
        ] {
            let expected = ended(version, reason);
            assert_eq!(target.then(version, second), expected, "{version:?} {second:02X?}");
        }
        // Before the first is answered.
        let twice = plain_connect(version, &target.name()).bytes().repeat(2);
        assert_eq!(target.first(version, &twice), ended(version, ProtocolError), "{version:?}");
    }
    target.is_unharmed();
}

/// `[MQTT-1.5.5-1]`
#[test]
fn attack_3_lengths_of_five_bytes_or_in_more_bytes_than_needed_are_malformed() {
    let mut target = Target::new();
    let lengths: [&[u8]; 6] = [
        b"\x80\x80\x80\x80\x00",
        b"\x80\x80\x80\x80\x01",
        b"\xFF\xFF\xFF\xFF\x7F",
        b"\xFF\xFF\xFF\xFF\xFF",
        b"\x80\x00",
        b"\x85\x80\x00",
    ];
    for length in lengths {
        for version in VERSIONS {
            for packet in all(version) {
                let bytes = [&[packet.first], length, &packet.body()].concat();
                let expected = ended(version, MalformedPacket);
                assert_eq!(target.then(version, &bytes), expected, "{bytes:02X?}");
            }
            let body = connect(version, "c").body();
            assert_eq!(target.first(version, &[&[0x10], length, &body].concat()), Silence);
        }
        for packet in all(V5).iter().flat_map(|packet| packet.each_block(&raw(length))) {
            let bytes = packet.bytes();
            assert_eq!(target.then(V5, &bytes), Disconnect(MalformedPacket), "{bytes:02X?}");
        }
        for packet in connect(V5, "c").each_block(&raw(length)) {
            assert_eq!(target.first(V5, &packet.bytes()), Refused(MalformedPacket));
        }
        // The one property whose value is such a length.
        let identifier = Field::Properties(vec![raw(&[0x0B]), raw(length)]);
        for packet in after_connect(V5) {
            if packet.name == "SUBSCRIBE" {
                let bytes = packet.each_block(&identifier)[0].bytes();
                assert_eq!(target.then(V5, &bytes), Disconnect(MalformedPacket), "{bytes:02X?}");
            }
        }
    }
    target.is_unharmed();
}

#[test]
fn attack_4_an_empty_packet_is_taken_only_where_there_is_one() {
    let mut target = Target::new();
    for version in VERSIONS {
        for packet in all(version).into_iter().chain([connect(version, "c")]) {
            let expected = match packet.name {
                "PINGREQ" => Served,
                "DISCONNECT" => Silence,
                "PINGRESP" | "AUTH" => ended(version, ProtocolError),
                _ => ended(version, MalformedPacket),
            };
            let name = packet.name;
            assert_eq!(target.then(version, &[packet.first, 0]), expected, "{version:?} {name}");
        }
        assert_eq!(target.first(version, &[0x10, 0]), Silence);
    }
    target.is_unharmed();
}

#[test]
fn attack_4_a_packet_beyond_the_limit_is_refused_by_its_head() {
    let options = BrokerOptions::default().set("gateway.limits.packet_bytes", "1KiB");
    let mut target = Target::with(options);
    // The largest that is taken, one byte more, and the largest that there is.
    for version in VERSIONS {
        for packet in all(version) {
            for length in [&b"\xFE\x07"[..], b"\xFF\xFF\xFF\x7F"] {
                let bytes = [&[packet.first], length].concat();
                let expected = ended(version, PacketTooLarge);
                assert_eq!(target.then(version, &bytes), expected, "{version:?} {bytes:02X?}");
            }
        }
        let mut largest = connect(version, "c");
        for (more, expected) in [(0, Served), (1, Silence)] {
            while largest.bytes().len() < 1024 + more {
                largest.prefixed().pop().unwrap().content.push(b'x');
            }
            assert_eq!(target.first(version, &largest.bytes()), expected, "{version:?}");
        }
    }
    target.serves();
}

#[test]
fn attack_4_a_packet_that_does_not_come_whole_does_nothing_and_costs_nothing() {
    let mut target = Target::new();
    for version in VERSIONS {
        for packet in all(version) {
            let bytes = packet.bytes();
            let name = target.name();
            let mut client = Options::new(version, &name).connect(target.broker.mqtt);
            client.send_bytes(&bytes[..bytes.len() - 1]);
        }
        let bytes = connect(version, "c").bytes();
        let mut client = Client::open(target.broker.mqtt, version).unwrap();
        client.send_bytes(&bytes[..bytes.len() - 1]);
    }
    target.is_unharmed();
    // Each says that it sends a megabyte, together more than half a gigabyte.
    let before = target.broker.memory();
    let claim = b"\x32\x80\x80\x3F\x00\x05topic";
    let clients: Vec<_> = (0..600)
        .map(|_| {
            let name = target.name();
            let mut client = Options::v5(&name).connect(target.broker.mqtt);
            client.send_bytes(claim);
            client
        })
        .collect();
    target.is_unharmed();
    let after = target.broker.memory();
    assert!(after < before + (32 << 20), "from {before} to {after} bytes");
    drop(clients);
}

#[test]
fn attack_5_a_length_past_the_end_is_malformed_wherever_it_stands() {
    let mut target = Target::new();
    for version in VERSIONS {
        for beyond in [1, 2, 60_000] {
            for packet in all(version).iter().flat_map(|packet| packet.each_overlong(beyond)) {
                let bytes = packet.bytes();
                let expected = ended(version, MalformedPacket);
                assert_eq!(target.then(version, &bytes), expected, "{version:?} {bytes:02X?}");
            }
            let connects = connect(version, "c").each_overlong(beyond);
            // Without the protocol name nobody knows how to answer.
            assert_eq!(target.first(version, &connects[0].bytes()), Silence);
            for packet in &connects[1..] {
                let bytes = packet.bytes();
                assert_eq!(target.first(version, &bytes), refused(version), "{bytes:02X?}");
            }
        }
    }
    // Beyond the properties, though not beyond the packet.
    for id in [0x03, 0x08, 0x09, 0x0B, 0x15, 0x16, 0x1C, 0x1F, 0x26] {
        let mut long = Raw { name: "", first: 0, fields: property(id) };
        match long.prefixed().pop() {
            Some(last) => last.told = Some(u16::try_from(last.content.len()).unwrap() + 1),
            None => long.fields[1] = raw(&[0x80]),
        }
        let long = Field::Properties(long.fields);
        for packet in all(V5).iter().flat_map(|packet| packet.each_block(&long)) {
            let bytes = packet.bytes();
            assert_eq!(target.then(V5, &bytes), Disconnect(MalformedPacket), "{bytes:02X?}");
        }
        for packet in connect(V5, "c").each_block(&long) {
            assert_eq!(target.first(V5, &packet.bytes()), Refused(MalformedPacket), "{id:02X}");
        }
    }
    target.is_unharmed();
}

/// What a packet is answered by of which only so much came, under a Remaining Length that is right.
fn cut(version: ProtocolVersion, whole: &Raw, bytes: usize) -> Answer {
    let ends: Vec<usize> = (0..=whole.fields.len())
        .map(|fields| Raw { fields: whole.fields[..fields].to_vec(), ..whole.clone() }.body().len())
        .collect();
    let is_v5 = version == V5;
    let malformed = ended(version, MalformedPacket);
    match whole.name {
        // The payload may have any length.
        name if name.starts_with("PUBLISH") && bytes >= ends[ends.len() - 2] => Served,
        // Reason Code and properties may be left out, here and in DISCONNECT.
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" if is_v5 && [2, 3].contains(&bytes) => Served,
        "DISCONNECT" if bytes < 2 => Silence,
        "AUTH" if bytes == 0 => Disconnect(ProtocolError),
        // No Topic Filter at all.
        "SUBSCRIBE" | "UNSUBSCRIBE" if bytes == ends[if is_v5 { 2 } else { 1 }] => {
            ended(version, ProtocolError)
        }
        _ => malformed,
    }
}

/// `[MQTT-3.8.3-2]` `[MQTT-3.10.3-2]` `[MQTT311-3.8.3-3]` `[MQTT311-3.10.3-2]`
#[test]
fn attack_5_a_packet_that_ends_early_is_malformed_wherever_it_ends() {
    let mut target = Target::new();
    for version in VERSIONS {
        let auth = (version == V5).then(auth);
        for whole in after_connect(version).into_iter().chain(auth) {
            let body = whole.body();
            for bytes in 0..body.len() {
                let expected = cut(version, &whole, bytes);
                let sent = packet(whole.first, &body[..bytes]);
                let answer = target.then(version, &sent);
                assert_eq!(answer, expected, "{version:?} {} {sent:02X?}", whole.name);
            }
        }
        let body = connect(version, "c").body();
        let named = if version == V31 { 9 } else { 7 };
        for bytes in 0..body.len() {
            let sent = packet(0x10, &body[..bytes]);
            let expected = if bytes < named { Silence } else { refused(version) };
            assert_eq!(target.first(version, &sent), expected, "{version:?} {sent:02X?}");
        }
    }
    assert!(target.overheard().iter().all(|topic| topic == "topic"));
    target.serves();
}

#[test]
fn attack_5_bytes_behind_the_last_field_are_malformed() {
    let mut target = Target::new();
    for version in VERSIONS {
        for whole in after_connect(version).iter().filter(|it| !it.name.starts_with("PUBLISH")) {
            let bytes = packet(whole.first, &[&whole.body()[..], &[0]].concat());
            let answer = target.then(version, &bytes);
            assert_eq!(answer, ended(version, MalformedPacket), "{version:?} {}", whole.name);
        }
        let bytes = packet(0x10, &[&connect(version, "c").body()[..], &[0]].concat());
        assert_eq!(target.first(version, &bytes), refused(version), "{version:?}");
        // A length that the packet never has is refused without waiting for so many bytes.
        for whole in all(version) {
            let has_one_length = match whole.name {
                "PINGREQ" | "PINGRESP" => true,
                "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => version != V5,
                "CONNACK" | "UNSUBACK" | "DISCONNECT" => version != V5,
                _ => false,
            };
            if has_one_length {
                let answer = target.then(version, &[whole.first, 100]);
                assert_eq!(answer, ended(version, MalformedPacket), "{version:?} {}", whole.name);
            }
        }
    }
    target.is_unharmed();
}

/// `[MQTT-1.5.4-1]` `[MQTT-1.5.4-2]` `[MQTT-1.5.7-1]` `[MQTT-4.7.3-2]` `[MQTT311-1.5.3-1]`
/// `[MQTT311-1.5.3-2]` `[MQTT311-4.7.3-2]`
#[test]
fn attack_6_a_text_that_is_no_utf_8_or_holds_control_characters_is_malformed_everywhere() {
    let mut target = Target::new();
    for bad in NO_TEXTS {
        for version in VERSIONS {
            for packet in all(version).iter().flat_map(|packet| packet.each_text(bad)) {
                let bytes = packet.bytes();
                let expected = ended(version, MalformedPacket);
                assert_eq!(target.then(version, &bytes), expected, "{version:?} {bytes:02X?}");
            }
            for packet in connect(version, "c").each_text(bad).iter().skip(1) {
                let bytes = packet.bytes();
                assert_eq!(target.first(version, &bytes), refused(version), "{bytes:02X?}");
            }
        }
    }
    target.is_unharmed();
    // Binary Data may be anything.
    for version in VERSIONS {
        for mut packet in after_connect(version).into_iter().chain([connect(version, "c")]) {
            let data = packet.prefixed().into_iter().filter(|prefixed| !prefixed.is_text);
            let count = data.map(|prefixed| prefixed.content = b"\0\n\xFF".into()).count();
            if count > 0 && packet.name == "CONNECT" {
                assert_eq!(target.first(version, &packet.bytes()), Served, "{version:?}");
            } else if count > 0 {
                assert_eq!(target.then(version, &packet.bytes()), Served, "{version:?}");
            }
        }
    }
    target.serves();
}

/// `[MQTT-4.7.3-3]`
#[test]
fn attack_6_texts_may_have_65_535_bytes() {
    let mut target = Target::new();
    let longest = "x".repeat(65_535);
    for version in VERSIONS {
        for packet in after_connect(version).iter().flat_map(|it| it.each_text(longest.as_bytes()))
        {
            let expected = if packet.name == "DISCONNECT" { Silence } else { Served };
            let answer = target.then(version, &packet.bytes());
            assert_eq!(answer, expected, "{version:?} {}", packet.name);
        }
        for (at, packet) in connect(version, "c").each_text(longest.as_bytes()).iter().enumerate() {
            let expected = match at {
                0 => continue,
                1 if version == V31 => Refused(ClientIdentifierNotValid),
                _ => Served,
            };
            assert_eq!(target.first(version, &packet.bytes()), expected, "{version:?} {at}");
        }
    }
    let mut client = Options::v5(&longest).connect(target.broker.mqtt);
    client.subscribe(&longest, QoS::ExactlyOnce);
    client.publish(&longest, "far", QoS::ExactlyOnce);
    assert_eq!(client.message().topic, longest);
    target.serves();
}
