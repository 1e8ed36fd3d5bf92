//! Live delivery, the window, the output's bound, expiry.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::Packet;

use crate::shard::ShardLimits;

use super::client::{self, V3, V5};
use super::world::{Peer, World};

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

fn publish_all(world: &mut World, publisher: Peer, qos: u8, payloads: &[&str]) {
    for (id, payload) in (1..).zip(payloads) {
        world.publish(publisher, qos, if qos == 0 { 0 } else { id }, "t", payload);
    }
    world.settle();
}

#[test]
fn messages_reach_subscribers_of_other_shards_too() {
    let mut world = World::default();
    let elsewhere = world.add_shard(1, ShardLimits::default());
    let here = world.subscriber(client::connect(V3, "here"), "t", 0);
    let there = world.begin(elsewhere, client::connect(V5, "there"));
    world.settle();
    world.send(there, &client::subscribe(1, "t", 1));
    world.settle();
    world.read(there);
    let publisher = publisher(&mut world);
    publish_all(&mut world, publisher, 1, &["1", "2"]);
    assert_eq!(world.received(here), ["t=1", "t=2"]);
    assert_eq!(world.received(there), ["t=1 q1 #1", "t=2 q1 #2"]);
}

#[test]
fn subscribers_of_all_sorts_get_the_same_messages_each_in_its_own_form() {
    let mut world = World::default();
    let plain: Vec<_> =
        ["a", "b"].map(|id| world.subscriber(client::connect(V3, id), "t", 0)).into();
    let modern = world.subscriber(client::connect(V5, "c"), "t", 0);
    let mut connect = client::connect(V5, "d");
    connect.topic_alias_maximum = Some(5);
    world.shard().settings.topic_aliases = 5;
    let by_alias = world.subscriber(connect, "t", 0);
    let mut connect = client::connect(V5, "e");
    connect.maximum_packet_size = Some(100);
    let narrow = world.subscriber(connect, "t", 0);
    let acknowledging = world.subscriber(client::connect(V3, "f"), "t", 1);
    let mut own = client::subscribe(1, "t", 0);
    if let Packet::Subscribe(subscribe) = &mut own {
        subscribe.filters[0].1.no_local = true;
    }
    let publisher = publisher(&mut world);
    world.send(publisher, &own);
    world.settle();
    world.read(publisher);

    let long = "x".repeat(100);
    publish_all(&mut world, publisher, 0, &["1", &long, "3"]);
    publish_all(&mut world, publisher, 1, &["4", "5"]);
    for peer in plain.into_iter().chain([modern]) {
        assert_eq!(world.received(peer), ["t=1", &format!("t={long}"), "t=3", "t=4", "t=5"]);
    }
    assert_eq!(world.received(by_alias), ["t=1", &format!("={long}"), "=3", "=4", "=5"]);
    assert_eq!(world.received(narrow), ["t=1", "t=3", "t=4", "t=5"]);
    assert_eq!(
        world.received(acknowledging),
        ["t=1", &format!("t={long}"), "t=3", "t=4 q1 #1", "t=5 q1 #2"]
    );
    let sent = world.shard().stats().sent;
    assert_eq!(sent[..2], [27, 2], "{sent:?}");
    assert_eq!(world.received(publisher), ["PUBACK 1", "PUBACK 2"], "nothing of its own");
}

#[test]
fn a_full_window_holds_later_messages_of_any_qos_back_in_order() {
    let mut world = World::default();
    let mut connect = client::connect(V5, "c");
    connect.receive_maximum = Some(2);
    let peer = world.subscriber(connect, "t", 1);
    let publisher = publisher(&mut world);
    publish_all(&mut world, publisher, 1, &["1", "2", "3", "4"]);
    world.publish(publisher, 0, 0, "t", "5");
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q1 #1", "t=2 q1 #2"]);
    world.send(peer, &client::puback(2));
    assert_eq!(world.read(peer), ["t=3 q1 #3"]);
    world.send(peer, &client::puback(1));
    // The window is full again, yet QoS 0 needs no place in it.
    assert_eq!(world.read(peer), ["t=4 q1 #4", "t=5"]);
    // Nothing waits: the next one is live.
    publish_all(&mut world, publisher, 0, &["6"]);
    assert_eq!(world.received(peer), ["t=6"]);
}

#[test]
fn a_full_output_holds_messages_back_until_it_is_written() {
    let limits = ShardLimits { output_bytes_max: 40, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::connect(V5, "c"), "t", 0);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish_all(&mut world, publisher, 0, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let output = world.shard().output(peer.token).len();
    assert!((40..50).contains(&output), "{output}");
    world.block(peer, false);
    let expected: Vec<_> = (0..10).map(|n| format!("t={n}")).collect();
    assert_eq!(world.read(peer), expected);
    publish_all(&mut world, publisher, 0, &["10"]);
    assert_eq!(world.received(peer), ["t=10"]);
}

#[test]
fn what_is_beyond_the_pinned_bytes_is_read_from_the_log_again() {
    let limits =
        ShardLimits { output_bytes_max: 1, pinned_bytes_max: 300, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::connect(V5, "c"), "t", 0);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 0..10 {
        publish_all(&mut world, publisher, 0, &[&format!("{n}")]);
    }
    world.rest.is_loading = true;
    world.block(peer, false);
    world.settle();
    let before = world.received(peer);
    assert!(before.len() < 10 && world.shard().is_starving(), "{before:?}");
    world.rest.is_loading = false;
    world.settle();
    let all = [before, world.received(peer)].concat();
    assert_eq!(all, (0..10).map(|n| format!("t={n}")).collect::<Vec<_>>());
    assert!(!world.shard().is_starving());
}

#[test]
fn a_transient_session_loses_the_newest_when_too_much_waits() {
    let limits =
        ShardLimits { output_bytes_max: 1, backlog_messages_max: 3, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::connect(V5, "c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish_all(&mut world, publisher, 1, &["1", "2", "3", "4", "5", "6"]);
    assert_eq!(world.shard().stats().dropped_queue_full, 2);
    world.block(peer, false);
    assert_eq!(world.read(peer), ["t=1 q1 #1", "t=2 q1 #2", "t=3 q1 #3", "t=4 q1 #4"]);
    publish_all(&mut world, publisher, 1, &["7"]);
    assert_eq!(world.received(peer), ["t=7 q1 #5"]);
}

#[test]
fn bytes_bound_what_waits_too() {
    let limits =
        ShardLimits { output_bytes_max: 1, backlog_bytes_max: 5, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::connect(V5, "c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish_all(&mut world, publisher, 1, &["1", "22", "333", "4", "5"]);
    assert_eq!(world.shard().stats().dropped_queue_full, 2);
    world.block(peer, false);
    assert_eq!(world.read(peer), ["t=1 q1 #1", "t=22 q1 #2", "t=333 q1 #3"]);
}

/// `[MQTT-3.3.2-5]` `[MQTT-3.3.2-6]`
#[test]
fn messages_expire_live_and_while_they_wait() {
    let limits = ShardLimits { output_bytes_max: 1, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    let expiring = |id: u16, payload: &'static str, interval: u32| {
        let mut publish = client::publish(1, id, "t", payload);
        publish.message_expiry_interval = Some(interval);
        Packet::Publish(publish)
    };
    world.block(peer, true);
    world.send(publisher, &expiring(1, "sent", 100));
    world.send(publisher, &expiring(2, "short", 5));
    world.send(publisher, &expiring(3, "long", 100));
    world.send(publisher, &expiring(4, "none", 0));
    world.settle();
    world.wait(Duration::from_secs(10));
    world.block(peer, false);
    assert_eq!(world.read(peer), ["t=sent q1 #1 expiry=100", "t=long q1 #2 expiry=90"]);
    assert_eq!(world.shard().stats().dropped_expired, 2);
    // Given up aloud: nothing is owed twice.
    world.send(peer, &client::puback(1));
    world.send(peer, &client::puback(2));
    world.wait(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 0);
}

#[test]
fn messages_expire_by_the_time_of_the_log() {
    let limits = ShardLimits { output_bytes_max: 1, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for id in 1..=2 {
        let mut publish = client::publish(1, id, "t", "m");
        publish.message_expiry_interval = Some(10);
        world.send(publisher, &Packet::Publish(publish));
    }
    world.settle();
    // The wall clock was ahead: the log's time goes at half the pace until they meet.
    world.now = world.now.plus(Duration::from_secs(12));
    let time = world.now.0 - 6_000_000;
    world.shard().set_log_time(Timestamp(time));
    world.block(peer, false);
    assert_eq!(world.read(peer), ["t=m q1 #1 expiry=10", "t=m q1 #2 expiry=4"]);
    assert_eq!(world.shard().stats().dropped_expired, 0);
}

#[test]
fn a_message_too_large_for_the_client_is_given_up() {
    let mut world = World::default();
    let mut connect = client::persistent("c");
    connect.maximum_packet_size = Some(64);
    let peer = world.subscriber(connect, "t", 1);
    let publisher = publisher(&mut world);
    let large = "x".repeat(100);
    publish_all(&mut world, publisher, 1, &["1", &large, "2"]);
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    assert_eq!(world.received(peer), ["t=1 q1 #1", "t=2 q1 #2"]);
    assert_eq!(world.shard().stats().dropped_too_large, 1);
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 2);
    // Through the backlog, too.
    world.block(peer, true);
    publish_all(&mut world, publisher, 2, &[&large]);
    world.block(peer, false);
    world.settle();
    assert_eq!(world.shard().stats().dropped_too_large, 2);
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 2);
}

#[test]
fn progress_is_logged_in_a_while_or_after_a_thousand() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    publish_all(&mut world, publisher, 1, &["1", "2"]);
    world.send(peer, &client::puback(1));
    world.settle();
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 2);
    assert!(world.shard().next_tick().is_some());
    world.wait(Duration::from_millis(150));
    world.settle();
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 1);
    // Nothing new: nothing is to be logged.
    world.wait(Duration::from_millis(150));
    assert!(world.shard().is_idle());
    for n in 0..1000 {
        publish_all(&mut world, publisher, 1, &["x"]);
        world.send(peer, &client::puback(n + 3));
    }
    world.settle();
    assert!(world.rest.views.session("c").unwrap().owed_messages() < 3);
}

#[test]
fn a_client_that_reads_slowly_but_always_something_holds_little() {
    let limits = ShardLimits { output_bytes_max: 1000, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::connect(V5, "c"), "t", 0);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    let payload = "x".repeat(100);
    for _ in 0..1000 {
        publish_all(&mut world, publisher, 0, &[&payload]);
        world.block(peer, false);
        let World { now, shards, rest } = &mut world;
        shards[0].write_some(*now, peer.token, 90, rest);
        world.block(peer, true);
        let client = world.shard().table.get(peer.token).unwrap();
        assert!(client.link.held_bytes() < 3000);
    }
}
