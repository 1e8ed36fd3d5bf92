//! What is no packet, and the Reason Code that says so, in the notation of `notation.rs`.

use ledgermq_core::codec::{PACKET_BYTES_MAX, decode};
use ledgermq_core::packet::{Packet, ProtocolVersion};
use ledgermq_core::reason::ReasonCode as R;
use ledgermq_core::reason::ReasonCode::{MalformedPacket, ProtocolError};

use ProtocolVersion::{V5, V311};

use super::notation::{bytes_of, refused, refused_in_both, taken};

/// `[MQTT-3.6.1-1]` `[MQTT-3.8.1-1]` `[MQTT-3.10.1-1]` `[MQTT-3.14.1-1]` `[MQTT-3.15.1-1]`
/// `[MQTT311-2.2.2-1]` `[MQTT311-3.3.1-2]` `[MQTT311-3.3.1-4]` `[MQTT311-3.6.1-1]`
/// `[MQTT311-3.8.1-1]` `[MQTT311-3.10.1-1]` `[MQTT311-3.14.1-1]`
#[test]
fn the_fixed_header_is_checked_before_the_rest_is_there() {
    refused_in_both("00", MalformedPacket);
    refused(V311, "F0", MalformedPacket);
    // [MQTT-2.1.3-1]
    for first in ["2F", "41", "58", "60", "63", "72", "80", "83", "91", "A0", "B4", "C1", "D8"] {
        refused_in_both(first, MalformedPacket);
    }
    // Only a CONNECT of 3.1 may have them, which is seen by its first bytes.
    refused_in_both("11 10 0004", MalformedPacket);
    refused_in_both("11 10 0006 'MQTT'", MalformedPacket);
    refused_in_both("1F r \"MQIsdp\" 04 02 0000 \"c\"", MalformedPacket);
    refused_in_both("E1", MalformedPacket);
    refused(V5, "F1", MalformedPacket);
    refused_in_both("36", MalformedPacket); // [MQTT-3.3.1-4]
    refused_in_both("3E", MalformedPacket);
    refused_in_both("38", MalformedPacket); // [MQTT-3.3.1-2]
    // Plain HTTP and TLS at the MQTT port end with their first byte.
    refused_in_both("'GET'", MalformedPacket);
    refused_in_both("16 03 01", MalformedPacket);
}

#[test]
fn the_remaining_length_is_checked_before_the_rest_is_there() {
    refused_in_both("30 80 80 80 80", MalformedPacket);
    refused_in_both("30 FF FF FF FF 01", MalformedPacket);
    refused_in_both("30 82 00", MalformedPacket); // [MQTT-1.5.5-1]
    refused_in_both("30 80 80 80 00", MalformedPacket);
    refused_in_both("C0 01", MalformedPacket);
    refused_in_both("D0 02", MalformedPacket);
    refused(V311, "E0 01", MalformedPacket);
    refused(V311, "40 03", MalformedPacket);
    refused(V311, "62 04", MalformedPacket);
    refused(V311, "20 03", MalformedPacket);
    refused(V311, "B0 03", MalformedPacket);
    refused_in_both("40 01", MalformedPacket);
    refused_in_both("30 01", MalformedPacket);
    refused(V5, "20 02", MalformedPacket);
    assert_eq!(decode(&bytes_of("30 FF FF FF 7F"), V5, PACKET_BYTES_MAX), Ok(None));
    let error = decode(&bytes_of("30 FF FF FF 7F"), V5, PACKET_BYTES_MAX - 1).unwrap_err();
    assert_eq!(error.reason, R::PacketTooLarge);
}

/// `[MQTT311-1.5.3-1]` `[MQTT311-1.5.3-2]`
#[test]
fn strings_are_utf_8_without_control_characters() {
    for topic in [
        "0002 6100",     // U+0000 [MQTT-1.5.4-2]
        "0003 EDA080",   // a surrogate [MQTT-1.5.4-1]
        "0002 C080",     // U+0000 in too many bytes
        "0001 FF",       // no UTF-8 at all
        "0001 C3",       // half a character
        "0001 01",       // a control character
        "0001 7F",       // DEL
        "0002 C280",     // U+0080
        "0003 EFBFBE",   // U+FFFE, a non-character
        "0003 EFB790",   // U+FDD0, a non-character
        "0004 F09FBFBF", // U+1FFFF, a non-character
    ] {
        refused(V311, &format!("30 r {topic}"), MalformedPacket);
        refused(V5, &format!("30 r {topic} 00"), MalformedPacket);
        refused_in_both(&format!("10 r \"MQTT\" 04 02 0000 {topic}"), MalformedPacket);
    }
    taken(V5, "30 r \"ä€\" 00");
    // U+FEFF is a character, wherever it stands. [MQTT-1.5.4-3] [MQTT311-1.5.3-3]
    for (version, properties) in [(V5, "00"), (V311, "")] {
        let bytes = bytes_of(&format!("30 r 0007 EFBBBF 61 EFBBBF {properties}"));
        let decoded = decode(&bytes, version, PACKET_BYTES_MAX).unwrap();
        let Some((Packet::Publish(publish), _)) = decoded else { panic!("a PUBLISH") };
        assert_eq!(publish.topic, "\u{FEFF}a\u{FEFF}");
    }
}

/// `[MQTT-3.3.2-1]` `[MQTT311-2.3.1-1]` `[MQTT311-3.3.2-2]`
#[test]
fn a_publish_needs_a_topic_name() {
    refused_in_both("30 r \"a/+\" 00", MalformedPacket); // [MQTT-3.3.2-2]
    refused_in_both("30 r \"#\" 00", MalformedPacket);
    refused(V311, "30 r 0000", MalformedPacket); // [MQTT-4.7.3-1]
    refused(V5, "30 r 0000 00", ProtocolError);
    taken(V5, "30 r 0000 p{ 23 0001 }");
    refused_in_both("30 r 0003 'ab'", MalformedPacket);
    refused_in_both("32 r \"a\" 0000 00", ProtocolError); // [MQTT-2.2.1-3]
    refused_in_both("32 r \"a\" 00", MalformedPacket);
    refused(V5, "30 r \"a\"", MalformedPacket);
}

#[test]
fn properties_of_a_publish_are_checked() {
    let publish = |properties: &str| format!("30 r \"a\" p{{ {properties} }} 'p'");
    for good in [
        "01 00",
        "01 01",
        "02 00000000",
        "03 0000",
        "08 \"r/s\"",
        "09 0002 0001",
        "0B 01",
        "0B 01 0B 02",
        "23 0001",
        "26 \"k\" \"v\" 26 \"k\" \"v\"",
    ] {
        taken(V5, &publish(good));
    }
    refused(V5, &publish("23 0000"), R::TopicAliasInvalid); // [MQTT-3.3.2-8]
    refused(V5, &publish("0B 00"), ProtocolError);
    refused(V5, &publish("01 02"), ProtocolError);
    refused(V5, &publish("08 \"r/#\""), ProtocolError); // [MQTT-3.3.2-14]
    refused(V5, &publish("08 0000"), ProtocolError);
    for twice in [
        "01 00 01 00",
        "02 00000001 02 00000001",
        "03 0000 03 0000",
        "08 \"r\" 08 \"r\"",
        "09 0000 09 0000",
        "23 0001 23 0001",
    ] {
        refused(V5, &publish(twice), ProtocolError);
    }
    for foreign in
        ["11 00000001", "21 0001", "1F \"r\"", "18 00000001", "00", "7F", "80 01", "0A 00"]
    {
        refused(V5, &publish(foreign), MalformedPacket);
    }
    for cut in ["01", "02 000000", "03 00", "03 0002 'a'", "26 \"k\"", "0B", "0B 80", "0B 80 00"] {
        refused(V5, &publish(cut), MalformedPacket);
    }
    refused(V5, "30 r \"a\" 05 01 00", MalformedPacket);
    refused(V5, "30 r \"a\" 80", MalformedPacket);
    refused(V5, "30 r \"a\" 80 00", MalformedPacket);
}

/// `[MQTT-3.1.2-1]` `[MQTT-3.1.4-1]` `[MQTT311-3.1.2-1]` `[MQTT311-3.1.2-2]` `[MQTT311-3.1.2-3]`
/// `[MQTT311-3.1.2-11]` `[MQTT311-3.1.2-13]` `[MQTT311-3.1.2-14]` `[MQTT311-3.1.2-15]`
/// `[MQTT311-3.1.4-1]`
#[test]
fn a_connect_is_checked_in_the_order_of_its_bytes() {
    refused_in_both("10 r \"MQTX\" 04 02 0000 \"c\"", R::UnsupportedProtocolVersion);
    refused_in_both("10 r \"mqtt\" 04 02 0000 \"c\"", R::UnsupportedProtocolVersion);
    for level in ["02", "04", "05"] {
        let text = format!("10 r \"MQIsdp\" {level} 02 0000 \"c\"");
        refused_in_both(&text, R::UnsupportedProtocolVersion);
    }
    taken(V5, "10 r \"MQIsdp\" 03 02 0000 \"c\"");
    for level in ["00", "03", "06", "84"] {
        let text = format!("10 r \"MQTT\" {level} 02 0000 \"c\"");
        refused_in_both(&text, R::UnsupportedProtocolVersion); // [MQTT-3.1.2-2]
    }
    refused_in_both("10 r \"MQTT\" 04 03 0000 \"c\"", MalformedPacket); // [MQTT-3.1.2-3]
    refused_in_both("10 r \"MQTT\" 05 03 0000 00 \"c\"", MalformedPacket);
    refused_in_both("10 r \"MQTT\" 04 0A 0000 \"c\"", MalformedPacket); // [MQTT-3.1.2-11]
    refused_in_both("10 r \"MQTT\" 04 22 0000 \"c\"", MalformedPacket); // [MQTT-3.1.2-13]
    refused_in_both("10 r \"MQTT\" 04 1E 0000 \"c\" \"t\" \"p\"", MalformedPacket); // [MQTT-3.1.2-12]
    // A password without a user name: not in 3.1.1 [MQTT311-3.1.2-22], but in 5.
    refused_in_both("10 r \"MQTT\" 04 42 0000 \"c\" \"p\"", MalformedPacket);
    taken(V311, "10 r \"MQTT\" 05 42 0000 00 \"c\" \"p\"");
    refused_in_both("10 r \"MQTT\" 04 06 0000 \"c\" \"t/+\" \"p\"", R::TopicNameInvalid);
    refused_in_both("10 r \"MQTT\" 04 06 0000 \"c\" 0000 \"p\"", R::TopicNameInvalid);
    refused_in_both("10 r \"MQTT\" 04 02 0000 \"c\" 00", MalformedPacket);
    refused_in_both("10 r \"MQTT\" 04 82 0000 \"c\"", MalformedPacket);
    refused_in_both("10 r \"MQTT\" 04 02 0000", MalformedPacket);
    refused_in_both("10 r \"MQTT\" 04", MalformedPacket);
    refused_in_both("10 r 0005 'MQTT'", MalformedPacket);
    taken(V5, "10 r \"MQTT\" 04 02 0000 0000");
    taken(V311, "10 r \"MQTT\" 05 02 0000 00 0000");
}

/// `[MQTT-3.1.4-1]`
#[test]
fn properties_of_a_connect_are_checked() {
    let connect = |properties: &str| format!("10 r \"MQTT\" 05 02 0000 p{{ {properties} }} \"c\"");
    for good in [
        "11 FFFFFFFF",
        "21 0001",
        "27 00000001",
        "22 0000",
        "19 01",
        "17 00",
        "26 0000 0000",
        "15 \"m\" 16 \"d\"",
        "16 \"d\" 15 \"m\"",
    ] {
        taken(V5, &connect(good));
    }
    refused(V5, &connect("21 0000"), ProtocolError);
    refused(V5, &connect("27 00000000"), ProtocolError);
    refused(V5, &connect("19 02"), ProtocolError);
    refused(V5, &connect("17 02"), ProtocolError);
    refused(V5, &connect("16 \"d\""), ProtocolError);
    for twice in [
        "11 00000000 11 00000000",
        "21 0001 21 0001",
        "27 00000001 27 00000001",
        "22 0000 22 0000",
        "19 00 19 00",
        "17 00 17 00",
        "15 \"m\" 15 \"m\"",
        "15 \"m\" 16 \"d\" 16 \"d\"",
    ] {
        refused(V5, &connect(twice), ProtocolError);
    }
    for foreign in ["01 00", "02 00000000", "23 0001", "24 01", "12 \"i\"", "1F \"r\""] {
        refused(V5, &connect(foreign), MalformedPacket);
    }
    let will = |properties: &str| {
        format!("10 r \"MQTT\" 05 06 0000 00 \"c\" p{{ {properties} }} \"t\" \"p\"")
    };
    for good in ["18 00000001", "01 01 02 00000001 03 \"c\" 08 \"r\" 09 \"d\" 26 \"k\" \"v\""] {
        taken(V5, &will(good));
    }
    refused(V5, &will("18 00000001 18 00000001"), ProtocolError);
    refused(V5, &will("08 \"r/+\""), ProtocolError);
    for foreign in ["23 0001", "0B 01", "11 00000001"] {
        refused(V5, &will(foreign), MalformedPacket);
    }
}

#[test]
fn acknowledgements_are_checked() {
    for first in ["40", "50", "62", "70"] {
        refused_in_both(&format!("{first} r 0000"), ProtocolError);
        taken(V311, &format!("{first} r 0001"));
        for good in ["", "00", "00 00", "92", "1F", "80"] {
            let text = format!("{first} r 0001 {good}");
            let is_release = matches!(first, "62" | "70");
            match good {
                "92" if !is_release => refused(V5, &text, ProtocolError),
                "80" if is_release => refused(V5, &text, ProtocolError),
                "1F" => refused(V5, &text, ProtocolError),
                _ => taken(V5, &text),
            }
        }
        taken(V5, &format!("{first} r 0001 00 p{{ 1F \"r\" 26 \"k\" \"v\" }}"));
        refused(V5, &format!("{first} r 0001 00 p{{ 1F \"r\" 1F \"r\" }}"), ProtocolError);
        refused(V5, &format!("{first} r 0001 00 p{{ 11 00000001 }}"), MalformedPacket);
        refused(V5, &format!("{first} r 0001 00 00 00"), MalformedPacket);
        refused(V5, &format!("{first} r 0001 00 01"), MalformedPacket);
    }
}

#[test]
fn a_refused_connect_says_in_which_version_it_is_answered() {
    let connect = |text: &str| {
        decode(&bytes_of(text), V5, PACKET_BYTES_MAX).expect_err("it is refused").connect
    };
    assert_eq!(connect("10 r \"MQTT\" 05 03 0000 00 \"c\""), Some(V5));
    assert_eq!(connect("10 r \"MQTT\" 04 03 0000 \"c\""), Some(V311));
    assert_eq!(connect("10 r \"MQTT\" 06 02 0000 00 \"c\""), Some(V5));
    assert_eq!(connect("10 r \"MQTT\" 03 02 0000 \"c\""), Some(V311));
    assert_eq!(connect("10 r \"MQIsdp\" 02 02 0000 \"c\""), Some(V311));
    assert_eq!(connect("10 r 0004 'MQ'"), None);
    assert_eq!(connect("32 r \"a\" 0000 00"), None);
}

#[test]
fn in_3_1_what_is_sent_again_may_say_so() {
    use ProtocolVersion::V31;
    for text in ["8A r 0001 \"a\" 00", "AA r 0001 \"a\"", "6A r 0001"] {
        taken(V31, text);
        refused_in_both(text, MalformedPacket);
    }
}

#[test]
fn in_3_1_flags_that_are_not_used_say_nothing() {
    use ProtocolVersion::V31;
    for text in
        ["43 r 0001", "59 r 0001", "7F r 0001", "8B r 0001 \"a\" 00", "63 r 0001", "CF 00", "E4 00"]
    {
        taken(V31, text);
        refused_in_both(text, MalformedPacket);
    }
    // What is answered has QoS 1.
    for text in ["80 r 0001 \"a\" 00", "84 r 0001 \"a\" 00", "A0 r 0001 \"a\"", "60 r 0001"] {
        refused(V31, text, MalformedPacket);
    }
    // Those of the fixed header of CONNECT, and its reserved Connect Flag (section 3.1).
    taken(V5, "14 r \"MQIsdp\" 03 01 0000 \"c\"");
    taken(V5, "1F r \"MQIsdp\" 03 03 0000 \"c\"");
    for unfinished in ["1F", "14 0F 0006 'MQI'", "14 0F 0006 'MQIsdp' 03"] {
        assert_eq!(decode(&bytes_of(unfinished), V5, PACKET_BYTES_MAX), Ok(None), "{unfinished}");
    }
}

/// `[MQTT311-2.3.1-1]` `[MQTT311-4.7.3-1]`
#[test]
fn subscribe_and_unsubscribe_are_checked() {
    refused(V311, "82 r 0000 \"a\" 00", ProtocolError);
    refused(V311, "82 r 0001", ProtocolError); // [MQTT311-3.8.3-3]
    refused(V5, "82 r 0001 00", ProtocolError); // [MQTT-3.8.3-2]
    refused(V5, "82 r 0001", MalformedPacket);
    refused(V311, "82 r 0001 \"a\"", MalformedPacket);
    refused(V311, "82 r 0001 \"a\" 03", MalformedPacket); // [MQTT311-3.8.3-4]
    refused(V311, "82 r 0001 \"a\" 04", MalformedPacket);
    refused(V5, "82 r 0001 00 \"a\" 03", ProtocolError);
    refused(V5, "82 r 0001 00 \"a\" 40", MalformedPacket); // [MQTT-3.8.3-5]
    refused(V5, "82 r 0001 00 \"a\" 80", MalformedPacket);
    refused(V5, "82 r 0001 00 \"a\" 30", ProtocolError);
    refused(V5, "82 r 0001 00 \"$share/g/a\" 04", ProtocolError); // [MQTT-3.8.3-4]
    taken(V5, "82 r 0001 00 \"$share/g/a\" 2A \"a\" 2E");
    taken(V5, "82 r 0001 p{ 0B FFFFFF7F 26 \"k\" \"v\" } \"a\" 02");
    refused(V5, "82 r 0001 p{ 0B 00 } \"a\" 02", ProtocolError);
    refused(V5, "82 r 0001 p{ 0B 01 0B 02 } \"a\" 02", ProtocolError);
    refused(V5, "82 r 0001 p{ 1F \"r\" } \"a\" 02", MalformedPacket);
    // A wrong filter is answered by its own Reason Code.
    taken(V5, "82 r 0001 00 \"a/#/b\" 00");
    taken(V5, "A2 r 0001 00 \"a/#/b\"");
    // An empty one is none. [MQTT-4.7.3-1]
    refused(V5, "82 r 0001 00 0000 00", MalformedPacket);
    refused(V5, "82 r 0001 00 \"a\" 00 0000 00", MalformedPacket);
    refused(V311, "82 r 0001 0000 00", MalformedPacket);
    refused(V5, "A2 r 0001 00 \"a\" 0000", MalformedPacket);
    refused(V311, "A2 r 0001 0000", MalformedPacket);
    refused(V311, "A2 r 0001", ProtocolError); // [MQTT311-3.10.3-2]
    refused(V5, "A2 r 0001 00", ProtocolError); // [MQTT-3.10.3-2]
    refused(V311, "A2 r 0000 \"a\"", ProtocolError);
    refused(V5, "A2 r 0001 p{ 0B 01 } \"a\"", MalformedPacket);
    refused(V311, "A2 r 0001 \"a\" 00", MalformedPacket);
    taken(V5, "A2 r 0001 p{ 26 \"k\" \"v\" } \"a\" \"b/#\"");
}

/// `[MQTT311-3.9.3-2]`
#[test]
fn what_servers_send_is_checked() {
    refused_in_both("20 r 02 00 00", MalformedPacket);
    refused(V311, "20 r 02 00", MalformedPacket); // [MQTT-3.2.2-1]
    refused(V311, "20 r 01 05", ProtocolError); // [MQTT-3.2.2-6]
    refused(V5, "20 r 01 87 00", ProtocolError);
    refused(V311, "20 r 00 06", ProtocolError);
    refused(V5, "20 r 00 01 00", ProtocolError);
    refused(V5, "20 r 00 00 p{ 24 02 }", ProtocolError);
    refused(V5, "20 r 00 00 p{ 21 0000 }", ProtocolError);
    refused(V5, "20 r 00 00 p{ 23 0001 }", MalformedPacket);
    refused(V5, "20 r 00 00 00 00", MalformedPacket);
    taken(V5, "20 r 00 00 p{ 12 \"id\" 13 003C 1A \"i\" 1C \"s\" 24 01 25 00 28 00 29 00 2A 00 }");
    refused(V311, "90 r 0001", ProtocolError);
    refused(V311, "90 r 0001 03", ProtocolError);
    refused(V311, "90 r 0001 87", ProtocolError);
    refused(V5, "90 r 0001 00 03", ProtocolError);
    refused(V5, "90 r 0001 00 11", ProtocolError);
    taken(V5, "90 r 0001 00 00 01 02 87 8F 9E A1 A2");
    refused(V5, "B0 r 0001 00 01", ProtocolError);
    refused(V5, "B0 r 0001 00", ProtocolError);
    taken(V5, "B0 r 0001 00 00 11 87");
    taken(V311, "B0 r 0001");
}

#[test]
fn disconnect_and_auth_are_checked() {
    taken(V311, "E0 r");
    for good in ["", "00", "04", "8E", "00 00", "00 p{ 11 00000001 1F \"r\" 1C \"s\" }"] {
        taken(V5, &format!("E0 r {good}"));
    }
    for bad in ["01", "85", "92", "FF"] {
        refused(V5, &format!("E0 r {bad}"), ProtocolError);
    }
    refused(V5, "E0 r 00 p{ 11 00000001 11 00000001 }", ProtocolError);
    refused(V5, "E0 r 00 p{ 21 0001 }", MalformedPacket);
    refused(V5, "E0 r 00 00 00", MalformedPacket);
    taken(V5, "F0 r");
    taken(V5, "F0 r 18 p{ 15 \"m\" 16 \"d\" }");
    refused(V5, "F0 r 18", MalformedPacket);
    refused(V5, "F0 r 18 00", ProtocolError);
    refused(V5, "F0 r 01 p{ 15 \"m\" }", ProtocolError);
    refused(V5, "F0 r 18 p{ 11 00000001 15 \"m\" }", MalformedPacket);
}

#[test]
fn a_connect_is_decoded_by_the_version_that_it_names() {
    for version in [V311, V5] {
        let bytes = bytes_of("10 r \"MQTT\" 05 02 000A 00 \"c\"");
        let decoded = decode(&bytes, version, PACKET_BYTES_MAX).unwrap();
        let Some((Packet::Connect(connect), _)) = decoded else { panic!("a CONNECT") };
        assert_eq!((connect.version, connect.client_id, connect.keep_alive), (V5, "c", 10));
    }
}
