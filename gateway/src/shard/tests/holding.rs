//! What all connections hold together, and what one leaves to the others.

use std::time::Duration;

use ledgermq_core::packet::{Packet, SubscriptionOptions};

use crate::shard::{Held, ShardLimits};

use super::client::{self, V3, V5};
use super::world::{Peer, World};

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

/// Publishes `count` messages to `topic` in one batch.
fn publish(world: &mut World, publisher: Peer, topic: &str, count: usize) {
    for n in 0..count {
        world.publish(publisher, 0, 0, topic, &n.to_string());
    }
    world.settle();
}

/// The client does not read, and its socket has told so.
fn block(world: &mut World, peer: Peer) {
    world.block(peer, true);
    world.shard().set_blocked(peer.token);
}

fn lines(topic: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{topic}={n}")).collect()
}

#[test]
fn messages_that_follow_each_other_wait_as_one_reference() {
    let mut world = World::default();
    let peer = world.subscriber(client::connect(V5, "c"), "#", 0);
    let publisher = publisher(&mut world);
    block(&mut world, peer);
    publish(&mut world, publisher, "t", 5_000);
    let Held { references_bytes, output_bytes, .. } = world.shard().held();
    assert!(references_bytes < 2_000, "{references_bytes} for {output_bytes}");
    // Topics in turn, and a subscriber of all: they follow each other, too.
    for n in 0..1_000 {
        world.publish(publisher, 0, 0, ["a", "b"][n % 2], &n.to_string());
    }
    world.settle();
    assert!(world.shard().held().references_bytes < 4_000);
    world.block(peer, false);
    let received = world.read(peer);
    assert_eq!(received[..5_000], lines("t", 5_000));
    let expected: Vec<_> = (0..1_000).map(|n| format!("{}={n}", ["a", "b"][n % 2])).collect();
    assert_eq!(received[5_000..], expected);
}

#[test]
fn a_run_is_cut_where_the_window_or_the_limit_ends() {
    let limits = ShardLimits { backlog_messages_max: 7, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let mut connect = client::connect(V5, "c");
    connect.receive_maximum = Some(3);
    let peer = world.subscriber(connect, "t", 1);
    let publisher = publisher(&mut world);
    for n in 1..=15 {
        world.publish(publisher, 1, n, "t", &n.to_string());
    }
    world.settle();
    assert_eq!(world.shard().stats().dropped_queue_full, 5);
    let mut received = world.received(peer);
    for n in 1..=10 {
        world.send(peer, &client::puback(n));
        received.extend(world.read(peer));
    }
    let expected: Vec<_> = (1..=10).map(|n| format!("t={n} q1 #{n}")).collect();
    assert_eq!(received, expected);
}

#[test]
fn who_does_not_read_leaves_output_to_those_who_do() {
    let limits = ShardLimits { output_bytes_all_max: 4_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let names: Vec<String> = (0..20).map(|n| format!("stuck-{n}")).collect();
    let stuck: Vec<_> =
        names.iter().map(|name| world.subscriber(client::connect(V5, name), "t", 0)).collect();
    let good = world.subscriber(client::connect(V5, "good"), "t", 0);
    let publisher = publisher(&mut world);
    stuck.iter().for_each(|peer| block(&mut world, *peer));
    for _ in 0..20 {
        publish(&mut world, publisher, "t", 100);
        assert_eq!(world.read(good), lines("t", 100));
    }
    let held = world.shard().held();
    assert!(held.output_bytes + held.blocked_bytes < 5_000, "{held:?}");
    for peer in stuck {
        world.block(peer, false);
        world.settle();
        assert_eq!(world.read(peer).len(), 2_000);
    }
}

#[test]
fn who_has_few_references_gets_more_when_others_have_as_many_as_they_may() {
    let limits = ShardLimits { references_bytes_max: 200_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let names: Vec<String> = (0..10).map(|n| format!("stuck-{n}")).collect();
    let stuck: Vec<_> =
        names.iter().map(|name| world.subscriber(client::connect(V5, name), "t", 0)).collect();
    let publisher = publisher(&mut world);
    stuck.iter().for_each(|peer| block(&mut world, *peer));
    // One a batch: each is a reference of its own.
    for _ in 0..1_000 {
        publish(&mut world, publisher, "t", 1);
    }
    assert!(world.shard().stats().dropped_queue_full > 0);
    let held = world.shard().held().references_bytes;
    assert!(held < 200_000, "{held}");
    let other = world.subscriber(client::connect(V5, "other"), "t", 0);
    block(&mut world, other);
    for _ in 0..20 {
        publish(&mut world, publisher, "t", 1);
    }
    world.block(other, false);
    assert_eq!(world.read(other).len(), 20);
}

#[test]
fn batches_that_many_hold_count_once_and_what_is_beyond_is_read_again() {
    let limits = ShardLimits { pinned_bytes_all_max: 1_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let names: Vec<String> = (0..10).map(|n| format!("stuck-{n}")).collect();
    let stuck: Vec<_> =
        names.iter().map(|name| world.subscriber(client::connect(V5, name), "t", 0)).collect();
    let publisher = publisher(&mut world);
    stuck.iter().for_each(|peer| block(&mut world, *peer));
    for _ in 0..50 {
        publish(&mut world, publisher, "t", 1);
    }
    let pinned = world.shard().held().pinned_bytes;
    assert!((100..=1_000).contains(&pinned), "{pinned}");
    for peer in stuck {
        world.block(peer, false);
        world.settle();
        assert_eq!(world.read(peer).len(), 50);
    }
    publish(&mut world, publisher, "nobody", 1);
    assert!(world.shard().held().pinned_bytes < 300, "the last one may stay");
}

#[test]
fn a_long_packet_waits_until_there_is_memory_for_it() {
    let limits = ShardLimits { input_bytes_all_max: 50_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let watcher = world.subscriber(client::connect(V5, "watcher"), "t", 0);
    let peers = ["a", "b", "c"].map(|name| world.open(client::connect(V3, name)));
    let bytes = |name: &str| {
        let payload = name.repeat(40_000);
        client::bytes_of(&Packet::Publish(client::publish(0, 0, "t", &payload)), V3)
    };
    for (peer, name) in peers.into_iter().zip(["a", "b", "c"]) {
        world.send_bytes(peer, &bytes(name)[..20_000]);
    }
    let takes = |world: &mut World| peers.map(|peer| world.shard().takes_bytes(peer.token));
    assert_eq!(takes(&mut world), [true, false, false]);
    // Its rest comes, and the next may go on; who goes makes room, too.
    world.send_bytes(peers[0], &bytes("a")[20_000..]);
    world.settle();
    assert_eq!(takes(&mut world), [true, true, false]);
    world.lose(peers[1]);
    world.settle();
    assert!(world.shard().takes_bytes(peers[2].token));
    world.send_bytes(peers[2], &bytes("c")[20_000..]);
    world.settle();
    let received = world.read(watcher);
    let firsts: Vec<_> = received.iter().map(|line| &line[..4]).collect();
    assert_eq!(firsts, ["t=aa", "t=cc"]);
}

#[test]
fn who_begins_a_long_packet_and_stops_does_not_hold_others_up_for_ever() {
    let limits = ShardLimits { input_bytes_all_max: 50_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let [stalled, waiting] = ["a", "b"].map(|name| world.open(client::connect(V5, name)));
    let payload = "x".repeat(40_000);
    let packet = client::bytes_of(&Packet::Publish(client::publish(0, 0, "t", &payload)), V5);
    world.send_bytes(stalled, &packet[..20_000]);
    world.send_bytes(waiting, &packet[..20_000]);
    world.wait(Duration::from_secs(9));
    // Something comes, if little.
    world.send_bytes(stalled, &packet[20_000..20_001]);
    world.wait(Duration::from_secs(9));
    assert!(!world.shard().takes_bytes(waiting.token) && !world.is_closed(stalled));
    world.wait(Duration::from_secs(2));
    world.settle();
    assert!(world.is_closed(stalled));
    assert!(world.shard().takes_bytes(waiting.token));
}

#[test]
fn what_is_set_aside_for_one_packet_is_not_enough_for_a_longer_one_behind_it() {
    let limits = ShardLimits { input_bytes_all_max: 100_000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let [other, peer] = ["a", "b"].map(|name| world.open(client::connect(V3, name)));
    let bytes = |length: usize| {
        let payload = "x".repeat(length);
        client::bytes_of(&Packet::Publish(client::publish(0, 0, "t", &payload)), V3)
    };
    world.send_bytes(other, &bytes(40_000)[..20_000]);
    world.send_bytes(peer, &bytes(20_000)[..17_000]);
    assert!(world.shard().takes_bytes(peer.token));
    let rest = [&bytes(20_000)[17_000..], &bytes(90_000)[..18_000]].concat();
    world.send_bytes(peer, &rest);
    assert!(!world.shard().takes_bytes(peer.token), "40,000 and 90,000 are too much");
    world.lose(other);
    world.settle();
    assert!(world.shard().takes_bytes(peer.token));
}

#[test]
fn nothing_is_held_for_connections_that_are_gone() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let mut peers = Vec::new();
    for (n, version) in (0_u8..6).zip([V3, V5].into_iter().cycle()) {
        let name = format!("c{n}");
        let peer = world.subscriber(client::connect(version, &name), "t", n % 3);
        block(&mut world, peer);
        world.send_bytes(peer, &[0x30, 0xff, 0xff, 0x01, 0, 1]);
        world.send_bytes(peer, &[0; 17_000]);
        peers.push(peer);
    }
    publish(&mut world, publisher, "t", 100);
    assert!(world.shard().held().bytes() > 1_000);
    peers.into_iter().for_each(|peer| world.lose(peer));
    world.lose(publisher);
    world.settle();
    let held = world.shard().held();
    assert_eq!(held, Held { pinned_bytes: held.pinned_bytes, ..Held::default() });
}

/// More batches than are kept encoded, topics in turn, and subscribers that get them in different forms.
#[test]
fn what_waits_for_many_is_what_each_would_get_by_itself() {
    let limits = ShardLimits { output_bytes_max: 70, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let versions = [V3, V5, V3, V5];
    let peers = ["a", "b", "c", "d"]
        .into_iter()
        .zip(versions)
        .map(|(client_id, version)| world.subscriber(client::connect(version, client_id), "#", 0));
    let peers: Vec<_> = peers.collect();
    let publisher = publisher(&mut world);
    peers.iter().for_each(|peer| block(&mut world, *peer));
    let mut expected = Vec::new();
    for batch in 0..40 {
        for n in 0..20 {
            let topic = ["t", "t", "t", "u", "a/longer/topic/than/the/others"][n % 5];
            let payload = format!("{batch}.{n}");
            world.publish(publisher, 0, 0, topic, &payload);
            expected.push(format!("{topic}={payload}"));
        }
        world.settle();
    }
    let sent = world.shard().stats().payload_bytes_sent;
    let payload_bytes: usize =
        expected.iter().map(|line| line.split_once('=').unwrap().1.len()).sum();
    for peer in &peers {
        world.block(*peer, false);
        assert_eq!(world.read(*peer), expected);
    }
    let stats = world.shard().stats();
    let rest = stats.payload_bytes_sent - sent;
    // A few were in the outputs before they were blocked.
    let all = (payload_bytes * peers.len()) as u64;
    assert!(rest <= all && rest > all / 4 * 3, "{rest} of {all}");
    assert_eq!(stats.sent[0], (expected.len() * peers.len()) as u64);
}

/// Clients that get the same messages in ways of their own: what they read, at once or after waiting.
fn read_by_each(limits: ShardLimits, waits: bool) -> Vec<Vec<String>> {
    let mut world = World::with_limits(limits);
    let mut small = client::connect(V5, "small");
    small.maximum_packet_size = Some(40);
    let mut aliases = client::connect(V5, "aliases");
    aliases.topic_alias_maximum = Some(3);
    let plain = SubscriptionOptions::default();
    let as_published = SubscriptionOptions { retain_as_published: true, ..plain };
    let no_local = SubscriptionOptions { no_local: true, ..plain };
    let subscribers = [
        (client::connect(V5, "plain"), plain, None),
        (client::connect(V3, "older"), plain, None),
        (client::connect(V5, "as published"), as_published, None),
        (client::connect(V5, "identified"), plain, Some(7)),
        (client::connect(V5, "local"), no_local, None),
        (small, plain, None),
        (aliases, plain, None),
    ];
    let mut peers = Vec::new();
    for (connect, options, identifier) in subscribers {
        let peer = world.open(connect);
        world.send(peer, &client::subscribe_with(1, &[("t/#", options)], identifier));
        world.settle();
        world.read(peer);
        peers.push(peer);
    }
    // One that takes a part of what the others take.
    let part = world.subscriber(client::connect(V5, "part"), "t/b", 0);
    peers.push(part);
    let publisher = publisher(&mut world);
    if waits {
        peers.iter().for_each(|peer| block(&mut world, *peer));
    }
    let long = "x".repeat(50);
    for batch in 0..3 {
        for n in 0..30_u32 {
            let topic = ["t/a", "t/b", "t/b"][n as usize / 10];
            let payload = if n % 8 == 7 { long.clone() } else { format!("{batch}.{n}") };
            let mut publish = client::publish(0, 0, topic, &payload);
            publish.retain = n % 10 == 4;
            publish.message_expiry_interval = (n % 10 == 6).then_some(100);
            // "local" hears of itself only what others said.
            let from = if n % 10 == 2 { peers[4] } else { publisher };
            world.send(from, &Packet::Publish(publish));
        }
        world.settle();
    }
    let mut all = Vec::new();
    for peer in peers {
        world.block(peer, false);
        all.push(world.read(peer));
    }
    all
}

#[test]
fn who_waits_reads_what_it_had_read_at_once() {
    let at_once = read_by_each(ShardLimits::default(), false);
    assert_eq!(at_once.iter().map(Vec::len).collect::<Vec<_>>(), [90, 90, 90, 90, 81, 81, 90, 60]);
    for output_bytes_max in [1, 30, 100, 700, 1 << 20] {
        let limits = ShardLimits { output_bytes_max, ..ShardLimits::default() };
        assert_eq!(read_by_each(limits, true), at_once, "with {output_bytes_max} bytes of output");
    }
}
