//! Bytes to packets.

use ledgermq_core::packet::Packet;

use super::client::{self, V3, V5};
use super::world::World;
use crate::shard::ShardLimits;

#[test]
fn packets_may_come_byte_by_byte() {
    let mut world = World::default();
    let peer = world.accept(0);
    let mut bytes = client::bytes_of(&Packet::Connect(Box::new(client::connect(V5, "c"))), V5);
    bytes.extend(client::bytes_of(&client::subscribe(1, "t", 1), V5));
    bytes.extend(client::bytes_of(&Packet::Publish(client::publish(1, 2, "t", "hello")), V5));
    for byte in bytes {
        world.send_bytes(peer, &[byte]);
        world.settle();
    }
    assert_eq!(
        world.received(peer),
        ["CONNACK 0x00", "SUBACK 1 [01]", "PUBACK 2", "t=hello q1 #1"]
    );
}

#[test]
fn many_packets_may_come_at_once() {
    let mut world = World::default();
    let peer = world.subscriber(client::connect(V3, "c"), "t", 0);
    let mut bytes = Vec::new();
    for n in 0..1000 {
        let payload = n.to_string();
        bytes.extend(client::bytes_of(&Packet::Publish(client::publish(0, 0, "t", &payload)), V3));
    }
    let (head, tail) = bytes.split_at(bytes.len() / 2 + 1);
    world.send_bytes(peer, head);
    world.send_bytes(peer, tail);
    world.settle();
    let expected: Vec<_> = (0..1000).map(|n| format!("t={n}")).collect();
    assert_eq!(world.received(peer), expected);
}

#[test]
fn a_packet_that_is_too_large_is_refused_when_its_length_is_known() {
    let mut world = World::default();
    world.shard().settings.packet_bytes_max = 1000;
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    // A PUBLISH of 1,001 bytes, of which 5 came.
    world.send_bytes(peer, &[0x30, 0xe6, 0x07, 0, 1]);
    assert_eq!(world.read(peer), ["DISCONNECT 0x95"]);
    assert!(world.is_closed(peer));
}

#[test]
fn nothing_is_kept_of_packets_that_were_taken() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    let payload = "x".repeat(100_000);
    let bytes = client::bytes_of(&Packet::Publish(client::publish(0, 0, "t", &payload)), V5);
    let (head, tail) = bytes.split_at(70_000);
    world.send_bytes(peer, head);
    let held = |world: &mut World| world.shard().table.get(peer.token).unwrap().input.capacity();
    assert!(held(&mut world) >= 70_000);
    world.send_bytes(peer, tail);
    assert!(held(&mut world) <= 512);
}

#[test]
fn bytes_behind_the_end_of_a_connection_count_for_nothing() {
    let mut world = World::default();
    let peer = world.open(client::persistent("c"));
    world.read(peer);
    let mut bytes = client::bytes_of(&client::disconnect(), V5);
    bytes.extend(client::bytes_of(&Packet::Publish(client::publish(1, 1, "t", "x")), V5));
    world.send_bytes(peer, &bytes);
    world.settle();
    assert_eq!(world.received(peer), [""; 0]);
    assert!(world.is_closed(peer));
    assert_eq!(world.shard().stats().received, [0, 0, 0]);
}

#[test]
fn long_connects_that_do_not_come_whole_share_a_bound_and_short_ones_are_not_concerned() {
    let limits = ShardLimits { unfinished_bytes_max: 10_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    // The head of a CONNECT of 100,000 bytes, and 5,000 bytes of it.
    let mut part = vec![0x10, 0xA0, 0x8D, 0x06];
    part.extend([0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0]);
    part.resize(5_000, 0);
    let first: Vec<_> = (0..5).map(|_| world.accept(0)).collect();
    for peer in &first {
        world.send_bytes(*peer, &part);
    }
    world.write();
    assert!(first.iter().all(|peer| !world.is_closed(*peer)), "3 KiB of each are its own");
    let (last, short) = (world.accept(0), world.accept(0));
    world.send_bytes(last, &part);
    world.write();
    assert!(world.is_closed(last));
    world.send_bytes(short, &part[..1_000]);
    world.write();
    assert!(!world.is_closed(short));
    assert_eq!(world.shard().stats().unfinished, 1);
    // What the given up one held is free again.
    let next = world.accept(0);
    world.send_bytes(next, &part[..3_200]);
    world.write();
    assert!(!world.is_closed(next));
    let peer = world.open(client::connect(V5, "c"));
    assert!(!world.is_closed(peer));
}

/// `[MQTT-4.13.1-1]` `[MQTT311-4.8.0-1]`
#[test]
fn what_is_malformed_ends_the_connection() {
    let bytes_of = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    };
    for (version, statements, packet) in [
        (V5, "[MQTT-1.5.4-1]", "30 06 0003 EDA080 00"),
        (V5, "[MQTT-1.5.4-2]", "30 04 0001 00 00"),
        (V5, "[MQTT-1.5.5-1]", "30 84 00 0001 74 00"),
        (V5, "[MQTT-2.1.3-1]", "C1 00"),
        (V5, "[MQTT-3.3.1-2]", "38 04 0001 74 00"),
        (V5, "[MQTT-3.3.1-4]", "36 06 0001 74 0001 00"),
        (V5, "[MQTT-3.3.2-2] [MQTT-4.7.0-1]", "30 04 0001 2B 00"),
        (V5, "[MQTT-3.6.1-1]", "60 02 0001"),
        (V5, "[MQTT-3.8.1-1]", "80 07 0001 00 0001 74 00"),
        (V5, "[MQTT-3.8.3-5]", "82 07 0001 00 0001 74 40"),
        (V5, "[MQTT-3.10.1-1]", "A0 06 0001 00 0001 74"),
        (V5, "[MQTT-3.14.1-1]", "E1 00"),
        (V5, "[MQTT-3.15.1-1]", "F1 00"),
        (V3, "[MQTT311-1.5.3-1]", "30 05 0003 EDA080"),
        (V3, "[MQTT311-1.5.3-2]", "30 03 0001 00"),
        (V3, "[MQTT311-2.2.2-1] [MQTT311-2.2.2-2]", "C1 00"),
        (V3, "[MQTT311-3.3.1-2]", "38 03 0001 74"),
        (V3, "[MQTT311-3.3.1-4]", "36 05 0001 74 0001"),
        (V3, "[MQTT311-3.3.2-2] [MQTT311-4.7.1-1]", "30 03 0001 2B"),
        (V3, "[MQTT311-3.6.1-1]", "60 02 0001"),
        (V3, "[MQTT311-3.8.1-1]", "80 06 0001 0001 74 00"),
        (V3, "[MQTT311-3.8.3-4]", "82 06 0001 0001 74 03"),
        (V3, "[MQTT311-3.8.3-4]", "82 06 0001 0001 74 04"),
        (V3, "[MQTT311-3.10.1-1]", "A0 05 0001 0001 74"),
        (V3, "[MQTT311-3.14.1-1]", "E1 00"),
    ] {
        println!("{statements}");
        let mut world = World::default();
        let peer = world.open(client::connect(version, "c"));
        world.read(peer);
        world.send_bytes(peer, &bytes_of(packet));
        let expected: &[&str] = if version == V5 { &["DISCONNECT 0x81"] } else { &[] };
        assert_eq!(world.read(peer), expected);
        assert!(world.is_closed(peer));
    }
}

/// `[MQTT-3.1.0-2]`
#[test]
fn a_second_connect_that_is_malformed_is_answered_in_the_version_of_the_connection() {
    for second in [
        // MQTT 3.1.1 with a reserved flag, a version that there is not, and a will without a topic.
        b"\x10\x0C\0\x04MQTT\x04\x03\0\0\0\0",
        b"\x10\x0C\0\x04MQTT\x07\x02\0\0\0\0",
        b"\x10\x0C\0\x04MQTT\x04\x06\0\0\0\0",
    ] {
        let mut world = World::default();
        let peer = world.open(client::connect(V5, "c"));
        world.read(peer);
        world.send_bytes(peer, second);
        assert_eq!(world.read(peer), ["DISCONNECT 0x82"], "{second:?}");
        assert!(world.is_closed(peer));
        let older = world.open(client::connect(V3, "older"));
        world.read(older);
        world.send_bytes(older, second);
        assert_eq!(world.read(older), [""; 0], "{second:?}");
        assert!(world.is_closed(older));
    }
}
