//! Attacks by packets that are well-formed and not allowed, all without authentication: numbers 9
//! to 14.

use std::time::Instant;

use ledgermq_core::packet::{Packet, ProtocolVersion, Publish, QoS, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode::{
    self, BadAuthenticationMethod, ClientIdentifierNotValid, GrantedQoS1, MalformedPacket,
    NotAuthorized, ProtocolError, TopicAliasInvalid, TopicFilterInvalid, TopicNameInvalid,
    UnsupportedProtocolVersion,
};

use super::hostile::Answer::{self, Disconnect, Refused, Served, Silence};
use super::hostile::{Target, VERSIONS, answer, ended};
use crate::support::DEADLINE;
use crate::support::access::Files;
use crate::support::broker::Options as BrokerOptions;
use crate::support::bytes::{
    Field, Raw, after_connect, auth, connect, of_servers, packet, plain_connect, properties, raw,
    text,
};
use crate::support::client::{Client, Options, message};

use ProtocolVersion::{V5, V31, V311};

/// No Topic Names.
const NO_NAMES: [&str; 9] =
    ["", "+", "#", "a/+", "a/#", "a+", "#a", "$SYS/broker/+", "a/b/c/d/e/f/g/+/h"];

/// No Topic Filters.
const NO_FILTERS: [&str; 20] = [
    "a/#/b",
    "#/a",
    "a#",
    "#a",
    "##",
    "a/##",
    "a+",
    "+a",
    "++",
    "a/+b/c",
    "a/b+/c",
    "$share",
    "$share/",
    "$share//x",
    "$share/g",
    "$share/g/",
    "$share/a+/x",
    "$share/#/x",
    "$share/+/x",
    "$share/g/a/#/b",
];

/// `[MQTT-4.12.0-7]`
#[test]
fn attack_9_what_only_servers_send_and_auth_end_the_connection() {
    let mut target = Target::new();
    for version in VERSIONS {
        for packet in of_servers(version) {
            let expected = ended(version, ProtocolError);
            let answer = target.then(version, &packet.bytes());
            assert_eq!(answer, expected, "{version:?} {}", packet.name);
        }
        // AUTH in each of its forms; before MQTT 5 there is no such packet.
        for reason in [0x00, 0x18, 0x19] {
            let mut sent = auth();
            sent.fields[0] = raw(&[reason]);
            for bytes in [sent.bytes(), packet(0xF0, &[])] {
                assert_eq!(target.then(version, &bytes), ended(version, ProtocolError));
            }
        }
    }
    for reason in [0x01, 0x80, 0xFF] {
        assert_eq!(target.then(V5, &packet(0xF0, &[reason, 0])), Disconnect(ProtocolError));
    }
    let mut enhanced = plain_connect(V5, "c");
    enhanced.fields[2] = properties(&[0x15, 0x16]);
    assert_eq!(target.first(V5, &enhanced.bytes()), Refused(BadAuthenticationMethod));
    target.is_unharmed();
}

/// `[MQTT-3.1.2-8]` `[MQTT-3.14.2-1]` `[MQTT-3.14.4-3]`
#[test]
fn attack_9_a_disconnect_with_the_code_of_a_server_keeps_no_will_and_no_session_back() {
    let mut target = Target::new();
    // Section 3.14.2.1; which side may send them changes nothing for the will.
    let known = |reason: u8| {
        let of_others = [0x84, 0x85, 0x86, 0x88, 0x8A, 0x91, 0x92];
        matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x87..=0xA2) && !of_others.contains(&reason)
    };
    let name = |reason: u8| format!("with {reason:02X}");
    for reason in 0..=0xFF {
        let name = name(reason);
        let options = Options::v5(&name).persistent().will(&name, b"x", QoS::AtMostOnce);
        let mut client = options.connect(target.broker.mqtt);
        client.send_bytes(&packet(0xE0, &[reason]));
        let expected = if known(reason) { Silence } else { Disconnect(ProtocolError) };
        assert_eq!(answer(&mut client), expected, "{reason:02X}");
    }
    let (mut wills, end) = (target.overheard(), Instant::now() + DEADLINE);
    while wills.len() < 255 && Instant::now() < end {
        wills.extend(target.overheard());
    }
    wills.sort_unstable();
    assert_eq!(wills, (1..=0xFF).map(name).collect::<Vec<_>>());
    for reason in 0..=0xFF {
        let client = Options::v5(&name(reason)).persistent().connect(target.broker.mqtt);
        assert!(client.session_present(), "{reason:02X}");
    }
    target.is_unharmed();
}

/// `[MQTT-3.3.2-1]` `[MQTT-3.3.2-2]` `[MQTT-4.7.0-1]` `[MQTT-4.7.3-1]` `[MQTT311-3.3.2-2]`
/// `[MQTT311-4.7.1-1]` `[MQTT311-4.7.3-1]`
#[test]
fn attack_10_a_message_is_published_to_a_topic_name_and_to_nothing_else() {
    let mut target = Target::new();
    for version in VERSIONS {
        for name in NO_NAMES {
            for mut sent in after_connect(version).into_iter().take(3) {
                sent.fields[0] = text(name);
                // Without a topic and a Topic Alias MQTT 5 speaks of a Protocol Error.
                let reason = if name.is_empty() { ProtocolError } else { MalformedPacket };
                let answer = target.then(version, &sent.bytes());
                assert_eq!(answer, ended(version, reason), "{version:?} {} {name}", sent.name);
            }
        }
        let mut client = Options::new(version, &target.name()).connect(target.broker.mqtt);
        // Before MQTT 5 there is no word for it: it is acknowledged and goes nowhere.
        let expected = if version == V5 { NotAuthorized } else { ReasonCode::Success };
        for topic in ["$share/g/x", "$share//x"] {
            let answer = client.publish_packet(&message(topic, b"for none", QoS::ExactlyOnce));
            assert_eq!(answer, expected, "{version:?} {topic}");
        }
    }
    target.is_unharmed();
}

/// `[MQTT-3.8.3-4]` `[MQTT-4.7.1-1]` `[MQTT-4.7.1-2]` `[MQTT-4.7.3-1]` `[MQTT-4.8.2-1]`
/// `[MQTT-4.8.2-2]` `[MQTT311-4.7.1-2]` `[MQTT311-4.7.1-3]` `[MQTT311-4.7.3-1]`
#[test]
fn attack_10_a_filter_that_is_none_is_refused_alone_and_before_mqtt_5_by_the_end() {
    let mut target = Target::new();
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let mut client = Options::v5("attacker").connect(target.broker.mqtt);
    for filter in NO_FILTERS {
        let filters = [("good/1", options), (filter, options), ("good/2", options)];
        let reasons = client.subscribe_with(&filters, None);
        assert_eq!(reasons, [GrantedQoS1, TopicFilterInvalid, GrantedQoS1], "{filter}");
        let reasons = client.unsubscribe(&["good/1", filter]);
        assert_eq!(reasons, [ReasonCode::Success, TopicFilterInvalid], "{filter}");
    }
    for topic in ["x", "a", "a/b", "b", "good/1"] {
        client.publish(topic, "nobody's", QoS::AtLeastOnce);
    }
    client.publish("good/2", "mine", QoS::AtLeastOnce);
    assert_eq!(client.message().topic, "good/2");
    client.no_message();
    assert_eq!(target.overheard(), ["x", "a", "a/b", "b", "good/1", "good/2"]);

    let request = |version, first, filter: &str| {
        let mut fields = vec![raw(&[0, 9])];
        fields.extend((version == V5).then(|| properties(&[])));
        fields.push(text(filter));
        fields.extend((first == 0x82).then(|| raw(&[0])));
        Raw { name: "", first, fields }.bytes()
    };
    for first in [0x82, 0xA2] {
        for version in [V31, V311] {
            for filter in NO_FILTERS.into_iter().chain([""]) {
                let bytes = request(version, first, filter);
                assert_eq!(target.then(version, &bytes), Silence, "{version:?} {filter}");
            }
        }
        let nothing = request(V5, first, "");
        assert_eq!(target.then(V5, &nothing), Disconnect(MalformedPacket));
    }
    // No Local with a Shared Subscription, whatever else is wrong with it.
    for filter in ["$share/g/x", "$share//x", "$share/a+/x", "$share/g/a/#/b"] {
        let fields = vec![raw(&[0, 9]), properties(&[]), text(filter), raw(&[0b0000_0101])];
        let bytes = Raw { name: "", first: 0x82, fields }.bytes();
        assert_eq!(target.then(V5, &bytes), Disconnect(ProtocolError), "{filter}");
    }
    target.is_unharmed();
}

fn aliased(topic: &str, alias: u16) -> Publish<'_> {
    Publish { topic_alias: Some(alias), ..message(topic, b"x", QoS::AtLeastOnce) }
}

/// `[MQTT-3.3.2-7]` `[MQTT-3.3.2-8]` `[MQTT-3.3.2-9]`
#[test]
fn attack_11_a_topic_alias_that_is_0_too_large_or_unset_ends_the_connection() {
    for max in [0, 1, 10, 65_535_u16] {
        let mut target =
            Target::with(BrokerOptions::default().set("gateway.limits.topic_aliases", max));
        let publish = |topic: &str, alias: u16| {
            let alias = Field::Properties(vec![raw(&[0x23]), raw(&alias.to_be_bytes())]);
            let fields = vec![text(topic), raw(&[0, 9]), alias, raw(b"x")];
            Raw { name: "", first: 0x32, fields }.bytes()
        };
        for topic in ["", "t"] {
            assert_eq!(target.then(V5, &publish(topic, 0)), Disconnect(TopicAliasInvalid));
            if let Some(beyond) = max.checked_add(1) {
                let answer = target.then(V5, &publish(topic, beyond));
                assert_eq!(answer, Disconnect(TopicAliasInvalid), "{max}");
                assert_eq!(target.then(V5, &publish(topic, 65_535)), answer, "{max}");
            }
        }
        if max > 0 {
            assert_eq!(target.then(V5, &publish("", max)), Disconnect(ProtocolError), "{max}");
        }
        target.is_unharmed();
        if max > 0 {
            // It belongs to its connection: neither another one nor a later one knows it.
            let mut first = Options::v5("first").persistent().connect(target.broker.mqtt);
            first.publish_packet(&aliased("mine", max));
            first.publish_packet(&aliased("", max));
            assert_eq!(target.then(V5, &publish("", max)), Disconnect(ProtocolError), "{max}");
            drop(first);
            let mut first = Options::v5("first").persistent().connect(target.broker.mqtt);
            first.send_publish(&aliased("", max));
            assert_eq!(answer(&mut first), Disconnect(ProtocolError), "{max}");
            assert_eq!(target.overheard(), ["mine", "mine"]);
        }
    }
}

#[test]
fn attack_11_a_topic_alias_does_not_lead_around_the_access_rules() {
    let files = Files::new();
    files.write_acl("topic read #\ntopic readwrite open/#\ntopic readwrite bystander\n");
    let mut target = Target::with(files.options());
    let mut client = Options::v5("attacker").connect(target.broker.mqtt);
    for forbidden in ["secret/x", "$SYS/broker/uptime", "$CONTROL/dynamic-security/v1"] {
        assert_eq!(client.publish_packet(&aliased(forbidden, 1)), NotAuthorized, "{forbidden}");
        assert_eq!(client.publish_packet(&aliased("", 1)), NotAuthorized, "{forbidden}");
    }
    // What was allowed a moment ago under the same alias changes nothing.
    for (topic, expected) in [
        ("open/x", ReasonCode::Success),
        ("", ReasonCode::Success),
        ("secret/x", NotAuthorized),
        ("", NotAuthorized),
        ("open/y", ReasonCode::Success),
        ("", ReasonCode::Success),
    ] {
        assert_eq!(client.publish_packet(&aliased(topic, 1)), expected, "{topic}");
    }
    assert_eq!(target.overheard(), ["open/x", "open/x", "open/y", "open/y"]);
    target.serves();
}

/// `[MQTT311-3.2.2-6]`
#[test]
fn attack_12_a_will_goes_nowhere_where_its_client_may_not_publish() {
    let mut target = Target::new();
    let deep = "a/".repeat(200);
    let is_reserved = |topic: &str| topic.starts_with('$');
    let reserved =
        ["$SYS", "$SYS/broker/uptime", "$CONTROL", "$CONTROL/x/v1", "$replay/1/a", "$share/g/x"];
    for topic in NO_NAMES[..7].iter().chain(&reserved).chain([&&*deep]) {
        for version in VERSIONS {
            let mut sent = connect(version, "attacker");
            // Behind it come the will's payload, User Name and Password.
            let at = sent.fields.len() - 4;
            sent.fields[at] = text(topic);
            let expected = match version {
                _ if is_reserved(topic) => Refused(NotAuthorized),
                V5 => Refused(TopicNameInvalid),
                _ => Silence,
            };
            assert_eq!(target.first(version, &sent.bytes()), expected, "{version:?} {topic}");
        }
    }
    target.is_unharmed();
}

#[test]
fn attack_12_a_will_has_the_properties_and_the_qos_of_a_will() {
    let mut target = Target::new();
    let with = |block: Field| connect(V5, "attacker").each_block(&block).swap_remove(1).bytes();
    for (ids, expected) in [
        (&[0x18, 0x18][..], ProtocolError),
        (&[0x02, 0x02], ProtocolError),
        (&[0x01, 0x01], ProtocolError),
        (&[0x0B], MalformedPacket),
        (&[0x23], MalformedPacket),
        (&[0x11], MalformedPacket),
    ] {
        assert_eq!(target.first(V5, &with(properties(ids))), Refused(expected), "{ids:02X?}");
    }
    for version in VERSIONS {
        let mut sent = connect(version, "attacker");
        let Field::Bytes(head) = &mut sent.fields[1] else { panic!("level and flags") };
        head[1] |= 0b0001_1000;
        let expected = if version == V5 { Refused(MalformedPacket) } else { Silence };
        assert_eq!(target.first(version, &sent.bytes()), expected, "{version:?}");
    }
    target.is_unharmed();
}

/// `[MQTT-3.3.2-14]` `[MQTT-3.3.4-6]`
#[test]
fn attack_13_response_topics_are_names_and_subscription_identifiers_begin_with_1() {
    let mut target = Target::new();
    let block = |id: u8, value: Field| Field::Properties(vec![raw(&[id]), value]);
    for name in NO_NAMES {
        for sent in after_connect(V5).iter().take(3) {
            let bytes = sent.each_block(&block(0x08, text(name)))[0].bytes();
            assert_eq!(target.then(V5, &bytes), Disconnect(ProtocolError), "{name}");
        }
        let sent = &connect(V5, "attacker").each_block(&block(0x08, text(name)))[1];
        assert_eq!(target.first(V5, &sent.bytes()), Refused(ProtocolError), "{name}");
    }
    for sent in after_connect(V5) {
        let is_publish = sent.name.starts_with("PUBLISH");
        if !is_publish && sent.name != "SUBSCRIBE" {
            continue;
        }
        for identifier in [&b"\x00"[..], b"\x01", b"\xFF\xFF\xFF\x7F"] {
            let bytes = sent.each_block(&block(0x0B, raw(identifier)))[0].bytes();
            let is_wrong = is_publish || identifier == b"\x00";
            let expected = if is_wrong { Disconnect(ProtocolError) } else { Served };
            assert_eq!(target.then(V5, &bytes), expected, "{} {identifier:02X?}", sent.name);
        }
    }
    target.is_unharmed();
}

/// The answer to a CONNECT with that protocol name and level, read as `version` has it.
fn named(target: &Target, version: ProtocolVersion, name: &str, level: u8) -> Answer {
    let fields = vec![text(name), raw(&[level, 2, 0, 0]), raw(&[0, 1]), raw(b"c")];
    target.first(version, &Raw { name: "", first: 0x10, fields }.bytes())
}

/// `[MQTT-3.1.2-1]` `[MQTT-3.1.2-2]` `[MQTT311-3.1.2-1]` `[MQTT311-3.1.2-2]`
#[test]
fn attack_14_a_protocol_that_is_none_of_mqtt_is_refused_by_its_code() {
    let mut target = Target::new();
    // A later version, or a bridge of Mosquitto that asks for more than the protocol has.
    for level in [6, 7, 0x7F, 0x83, 0x84, 0x85, 0xFF] {
        let expected = Refused(UnsupportedProtocolVersion);
        assert_eq!(named(&target, V5, "MQTT", level), expected, "{level}");
    }
    let longest = "M".repeat(65_535);
    let names = ["", "M", "mqtt", "MQTX", "MQTT ", "MQTTT", "MQISDP", "mqisdp", "MQIsdp\u{FEFF}"];
    for level in 0..=6 {
        for name in names.into_iter().chain(["MQTT", "MQIsdp", &longest]) {
            if matches!((name, level), ("MQTT", 4..) | ("MQIsdp", 3)) {
                continue;
            }
            let expected = Refused(UnsupportedProtocolVersion);
            assert_eq!(named(&target, V311, name, level), expected, "{name:.10} {level}");
        }
    }
    assert_eq!(named(&target, V311, "MQTT", 4), Served);
    assert_eq!(named(&target, V31, "MQIsdp", 3), Served);
    target.is_unharmed();
}

/// `[MQTT311-3.1.3-6]` `[MQTT311-3.1.3-8]` `[MQTT311-3.1.3-9]`
#[test]
fn attack_14_a_client_identifier_fits_its_version() {
    let mut target = Target::new();
    let (ascii, wide) = ("x".repeat(24), "\u{20AC}".repeat(24));
    for version in VERSIONS {
        for longest in [&ascii, &wide] {
            let shorter: String = longest.chars().skip(1).collect();
            for clean in [true, false] {
                for (id, fits_31) in [(&**longest, false), (&*shorter, true), ("", false)] {
                    let expected = match (version, id) {
                        (V31, _) if !fits_31 => Refused(ClientIdentifierNotValid),
                        (V311, "") if !clean => Refused(ClientIdentifierNotValid),
                        _ => Served,
                    };
                    let mut sent = plain_connect(version, id);
                    let Field::Bytes(head) = &mut sent.fields[1] else { panic!("level and flags") };
                    head[1] = u8::from(clean) << 1;
                    let answer = target.first(version, &sent.bytes());
                    assert_eq!(answer, expected, "{version:?} {clean} {id}");
                }
            }
        }
    }
    target.is_unharmed();
}

/// Nobody gets the session of another client that has no name either. `[MQTT-3.1.3-6]`
/// `[MQTT-3.1.3-7]` `[MQTT-3.2.2-16]`
#[test]
fn attack_14_an_assigned_client_identifier_is_nobody_elses() {
    let mut target = Target::new();
    let mut seen = Vec::new();
    for clean in [true, false] {
        for _ in 0..10 {
            let options = Options::v5("").persistent().clean_start(clean);
            let client = options.connect(target.broker.mqtt);
            assert!(!client.session_present());
            let name = client.connected().assigned_client_id.clone().unwrap();
            let groups: Vec<_> = name.split('-').map(str::len).collect();
            assert_eq!(groups, [4, 8, 4, 4, 4, 12], "auto- and a UUID: {name}");
            assert!(name.starts_with("auto-") && !seen.contains(&name), "{name}");
            seen.push(name);
        }
    }
    let mut client = Client::open(target.broker.mqtt, V311).unwrap();
    client.send(&Packet::Connect(Box::new(Options::v311("").connect)));
    assert_eq!(answer(&mut client), Served);
    target.is_unharmed();
}
