//! Messages from a client: acknowledged after the commit, refused or withheld while the log takes
//! none, routed once.

use std::time::Duration;

use ledgermq_core::connection::{Refusal, Request};
use ledgermq_core::packet::{Packet, QoS, SubscriptionOptions};

use super::client::{self, V3, V5};
use super::world::World;

/// `[MQTT-4.3.2-4]` `[MQTT-4.3.3-8]`
#[test]
fn puback_and_pubrec_come_with_the_commit() {
    let mut world = World::default();
    let peer = world.open(client::persistent("c"));
    world.read(peer);
    world.publish(peer, 1, 7, "a", "x");
    world.publish(peer, 2, 8, "a", "x");
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    world.feed();
    assert_eq!(world.read(peer), ["PUBACK 7 0x10", "PUBREC 8 0x10"]);
    world.send(peer, &client::pubrel(8));
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    world.feed();
    assert_eq!(world.read(peer), ["PUBCOMP 8"]);
}

#[test]
fn nobody_subscribes_is_said_only_if_it_is_certain() {
    let mut world = World::default();
    let elsewhere = world.add_shard(1, Default::default());
    let publisher = world.open(client::connect(V5, "p"));
    let answer = |world: &mut World, topic: &str| {
        world.publish(publisher, 1, 1, topic, "x");
        world.settle();
        world.read(publisher).pop().unwrap()
    };
    assert_eq!(answer(&mut world, "a"), "PUBACK 1 0x10");
    // A session that is not connected, and a connection of another worker.
    let sleeper = world.subscriber(client::persistent("sleeper"), "a/+", 1);
    world.send(sleeper, &client::disconnect());
    let other = world.begin(elsewhere, client::connect(V5, "other"));
    world.settle();
    world.send(other, &client::subscribe(1, "b", 0));
    world.settle();
    assert_eq!(answer(&mut world, "a/b"), "PUBACK 1");
    assert_eq!(answer(&mut world, "b"), "PUBACK 1");
    assert_eq!(answer(&mut world, "a"), "PUBACK 1 0x10");
    world.send(other, &client::unsubscribe(2, "b"));
    world.settle();
    assert_eq!(answer(&mut world, "b"), "PUBACK 1 0x10");
    // The views do not know of a subscription that is committed, or know of one that ended since.
    world.send(other, &client::subscribe(3, "b", 0));
    world.commit();
    world.publish(publisher, 1, 2, "b", "x");
    world.commit();
    while world.feed() {}
    assert_eq!(world.read(publisher), ["PUBACK 2"]);
    world.settle();
    world.publish(publisher, 1, 3, "b", "x");
    world.commit();
    world.send(other, &client::unsubscribe(4, "b"));
    world.commit();
    while world.fold() {}
    while world.feed() {}
    assert_eq!(world.read(publisher), ["PUBACK 3"]);
    // A client of 3.1.1 has no such answer.
    let old = world.open(client::connect(V3, "old"));
    world.publish(old, 1, 1, "nobody", "x");
    world.settle();
    assert_eq!(world.received(old), ["CONNACK 0x00", "PUBACK 1"]);
}

#[test]
fn a_fenced_message_is_neither_acknowledged_nor_delivered() {
    let mut world = World::default();
    let watcher = world.subscriber(client::connect(V5, "watcher"), "#", 1);
    let elsewhere = world.add_shard(1, Default::default());
    let old = world.open(client::connect(V5, "c"));
    world.read(old);
    // The other connection's opening is committed first.
    let new = world.begin(elsewhere, client::connect(V5, "c"));
    world.commit_of(elsewhere);
    world.publish(old, 1, 7, "a", "late");
    world.commit_of(0);
    world.settle();
    assert_eq!(world.received(watcher), [""; 0]);
    assert_eq!(world.received(old), ["DISCONNECT 0x8e"]);
    assert_eq!(world.received(new), ["CONNACK 0x00"]);
}

/// `[MQTT-3.3.4-3]` `[MQTT311-3.3.5-1]`
#[test]
fn overlapping_subscriptions_bring_one_message_with_all_identifiers() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    let qos = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    for (id, filter, granted) in
        [(1, "a/+", QoS::AtMostOnce), (2, "#", QoS::ExactlyOnce), (3, "a/b", QoS::AtLeastOnce)]
    {
        let identifier = Some(u32::from(id) * 10);
        world.send(peer, &client::subscribe_with(id, &[(filter, qos(granted))], identifier));
    }
    world.settle();
    world.read(peer);
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(publisher, 2, 1, "a/b", "x");
    world.publish(publisher, 1, 2, "a/b", "y");
    world.publish(publisher, 1, 3, "z", "z");
    world.settle();
    let received = world.received(peer);
    assert_eq!(received.len(), 3);
    // [MQTT-3.3.4-2] [MQTT-3.3.4-4]
    assert!(received[0].starts_with("a/b=x q2 #1 ids="), "{received:?}");
    for identifier in ["10", "20", "30"] {
        assert!(received[1].starts_with("a/b=y q1 #2"));
        assert!(received[1].contains(identifier), "{received:?}");
    }
    assert_eq!(received[2], "z=z q1 #3 ids=[20]");
}

/// `[MQTT-3.8.3-3]`
#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    let no_local = SubscriptionOptions { no_local: true, ..SubscriptionOptions::default() };
    world.send(peer, &client::subscribe_with(1, &[("#", no_local)], None));
    world.settle();
    let other = world.open(client::connect(V5, "other"));
    world.read(peer);
    world.publish(peer, 0, 0, "a", "mine");
    world.publish(other, 0, 0, "a", "yours");
    world.settle();
    assert_eq!(world.received(peer), ["a=yours"]);
}

#[test]
fn retain_is_told_only_to_whom_wants_it_as_published() {
    let mut world = World::default();
    let plain = world.subscriber(client::connect(V5, "plain"), "t", 0);
    let options =
        SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::default() };
    let as_published = world.open(client::connect(V5, "rap"));
    world.send(as_published, &client::subscribe_with(1, &[("t", options)], None));
    world.settle();
    world.read(as_published);
    let publisher = world.open(client::connect(V5, "p"));
    let mut publish = client::publish(0, 0, "t", "x");
    publish.retain = true;
    world.send(publisher, &Packet::Publish(publish));
    world.settle();
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    assert_eq!(world.received(plain), ["t=x"]);
    assert_eq!(world.received(as_published), ["t=x retain"]);
}

#[test]
fn while_the_log_takes_nothing_mqtt_5_is_refused_and_3_1_1_is_not_read() {
    let mut world = World::default();
    let watcher = world.subscriber(client::connect(V5, "watcher"), "#", 1);
    let newer = world.open(client::connect(V5, "newer"));
    let mut connect = client::connect(V3, "older");
    connect.keep_alive = 10;
    let older = world.open(connect);
    world.shard().settings.takes_publishes = false;
    world.publish(newer, 1, 1, "a", "newer");
    world.publish(older, 0, 0, "a", "dropped");
    world.publish(older, 1, 1, "a", "older");
    world.send(older, &Packet::PingReq);
    world.settle();
    assert_eq!(world.received(newer), ["CONNACK 0x00", "PUBACK 1 0x97"]);
    assert_eq!(world.received(older), ["CONNACK 0x00"]);
    assert_eq!(world.shard().stats().refused(Request::Publish, Refusal::Storage), 2);
    assert!(!world.shard().takes_bytes(older.token));
    assert!(world.shard().is_withholding());
    // Its silence is ours.
    for _ in 0..10 {
        world.wait(Duration::from_secs(10));
    }
    assert!(!world.is_closed(older));
    world.shard().settings.takes_publishes = true;
    let now = world.now;
    world.open_gate(now);
    world.settle();
    assert_eq!(world.received(older), ["PUBACK 1", "PINGRESP"]);
    assert_eq!(world.received(watcher), ["a=older q1 #1"]);
    assert!(!world.shard().is_withholding());
}

#[test]
fn a_shortage_of_memory_is_told_apart_from_one_of_the_disk() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    let settings = &mut world.shard().settings;
    (settings.takes_publishes, settings.takes_sessions) = (false, false);
    settings.shortage = Refusal::Memory;
    world.publish(peer, 1, 1, "a", "x");
    world.send(peer, &client::subscribe(2, "a", 1));
    let other = world.begin(0, client::connect(V3, "other"));
    world.settle();
    assert_eq!(world.read(peer), ["CONNACK 0x00", "PUBACK 1 0x97", "SUBACK 2 [97]"]);
    // Code 3 of 3.1.1.
    assert_eq!(world.read(other), ["CONNACK 0x88"]);
    for request in [Request::Connect, Request::Publish, Request::Subscribe] {
        assert_eq!(world.shard().stats().refused(request, Refusal::Memory), 1, "{request:?}");
    }
}

#[test]
fn without_a_quorum_packets_wait_and_only_connect_is_answered() {
    for version in [V5, V3] {
        let mut world = World::default();
        let peer = world.subscriber(client::connect(version, "c"), "t", 0);
        let settings = &mut world.shard().settings;
        (settings.takes_publishes, settings.takes_sessions) = (false, false);
        settings.shortage = Refusal::Quorum;
        world.publish(peer, 0, 0, "t", "0");
        world.send(peer, &client::subscribe(2, "a", 1));
        world.publish(peer, 1, 1, "t", "1");
        let other = world.begin(0, client::connect(version, "other"));
        world.settle();
        assert_eq!(world.received(peer), [""; 0]);
        assert!(world.shard().is_withholding());
        // Server unavailable: 0x88, and code 3 of 3.1.1.
        assert_eq!(world.read(other), ["CONNACK 0x88"]);
        let settings = &mut world.shard().settings;
        (settings.takes_publishes, settings.takes_sessions) = (true, true);
        settings.shortage = Refusal::Storage;
        let now = world.now;
        world.open_gate(now);
        world.settle();
        assert_eq!(world.received(peer), ["t=0", "SUBACK 2 [01]", "PUBACK 1", "t=1"]);
        let refused = |request| world.shards[0].shard.stats().refused(request, Refusal::Quorum);
        assert_eq!(refused(Request::Connect), 1);
        assert_eq!(refused(Request::Publish) + refused(Request::Subscribe), 0);
    }
}

#[test]
fn a_withheld_clients_acknowledgements_go_on_when_the_gate_opens() {
    let mut world = World::default();
    world.shard().settings.inflight_out = 1;
    let peer = world.subscriber(client::connect(V3, "c"), "t", 1);
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(publisher, 1, 1, "t", "1");
    world.publish(publisher, 1, 2, "t", "2");
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q1 #1"]);
    world.shard().settings.takes_publishes = false;
    // The acknowledgement stands behind a message that is withheld.
    world.publish(peer, 1, 9, "other", "x");
    world.send(peer, &client::puback(1));
    world.shard().settings.takes_publishes = true;
    let now = world.now;
    world.open_gate(now);
    world.settle();
    assert_eq!(world.received(peer), ["PUBACK 9", "t=2 q1 #2"]);
}

#[test]
fn a_withheld_client_that_goes_leaves_nothing_behind() {
    let mut world = World::default();
    world.shard().settings.takes_publishes = false;
    let peer = world.open(client::connect(V3, "c"));
    world.publish(peer, 1, 1, "a", "x");
    assert!(world.shard().is_withholding());
    world.lose(peer);
    assert!(!world.shard().is_withholding());
}

#[test]
fn a_large_message_is_a_batch_of_its_own() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    let large = "x".repeat(300 << 10);
    world.publish(peer, 0, 0, "a", "before");
    world.publish(peer, 0, 0, "a", &large);
    world.publish(peer, 0, 0, "a", "after");
    let mut counts = Vec::new();
    world.shard().stage().hand_over(|_, events| {
        counts.push(events.len());
        events.clear();
        true
    });
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read() {
    let limits = crate::shard::ShardLimits { answers_bytes_max: 100, ..Default::default() };
    let mut world = World::with_limits(limits);
    let mut connect = client::connect(V5, "c");
    connect.keep_alive = 10;
    let peer = world.open(connect);
    world.read(peer);
    world.block(peer, true);
    for _ in 0..200 {
        world.send(peer, &Packet::PingReq);
    }
    assert_eq!(world.shard().output(peer.token).len(), 100);
    assert!(!world.shard().takes_bytes(peer.token));
    // It reads again: all is answered.
    world.block(peer, false);
    world.settle();
    let mut pings = world.received(peer).len();
    while world.shard().takes_bytes(peer.token) && pings < 200 {
        world.settle();
        pings += world.received(peer).len();
    }
    assert_eq!(pings, 200);
    // One that never does is silent.
    world.block(peer, true);
    for _ in 0..200 {
        world.send(peer, &Packet::PingReq);
    }
    world.wait(Duration::from_secs(20));
    world.wait(Duration::from_secs(20));
    assert!(world.is_closed(peer) || world.shard().connections() == 0);
}

/// `[MQTT-3.3.1-3]` `[MQTT311-3.3.1-3]`
#[test]
fn that_a_message_came_again_is_not_passed_on() {
    for version in [V3, V5] {
        let mut world = World::default();
        let peer = world.subscriber(client::connect(version, "c"), "t", 2);
        let publisher = world.open(client::connect(version, "p"));
        for (qos, id) in [(1, 1), (2, 2)] {
            let again =
                ledgermq_core::packet::Publish { dup: true, ..client::publish(qos, id, "t", "x") };
            world.send(publisher, &Packet::Publish(again));
        }
        world.settle();
        assert_eq!(world.received(peer), ["t=x q1 #1", "t=x q2 #2"]);
    }
}

#[test]
fn a_3_1_1_client_that_is_too_fast_is_not_read_until_it_may_go_on() {
    let mut world = World::default();
    world.shard().settings.publish_rate.messages = 1;
    let watcher = world.subscriber(client::connect(V5, "watcher"), "#", 1);
    let mut connect = client::connect(V3, "fast");
    connect.keep_alive = 1;
    let fast = world.open(connect);
    for number in 1..=4 {
        world.publish(fast, 1, number, "a", "x");
    }
    world.send(fast, &Packet::PingReq);
    world.settle();
    // One second's worth, and the one that fills the bucket.
    assert_eq!(world.received(fast), ["CONNACK 0x00", "PUBACK 1", "PUBACK 2"]);
    assert!(!world.shard().takes_bytes(fast.token));
    // Its silence is ours.
    world.wait(Duration::from_millis(990));
    world.settle();
    assert_eq!(world.received(fast), [""; 0]);
    for answers in [&["PUBACK 3"][..], &["PINGRESP", "PUBACK 4"]] {
        world.wait(Duration::from_secs(1));
        world.settle();
        assert_eq!(world.received(fast), answers);
    }
    assert!(world.shard().takes_bytes(fast.token));
    assert_eq!(world.shard().stats().throttled, 2);
    assert_eq!(world.received(watcher).len(), 4);
}

#[test]
fn a_client_that_waits_for_its_rate_may_go_away() {
    let mut world = World::default();
    world.shard().settings.publish_rate.bytes = 1;
    let fast = world.open(client::connect(V3, "fast"));
    world.publish(fast, 1, 1, "a", "much more than a second's worth");
    world.publish(fast, 1, 2, "a", "x");
    world.settle();
    let now = world.now;
    world.shard().on_transport_closed(now, fast.token);
    world.settle();
    assert_eq!(world.shard().connections(), 0);
    assert!(world.shard().throttled.is_empty());
}

#[test]
fn an_mqtt_5_client_that_is_too_fast_is_refused_and_with_qos_0_cut_off() {
    let mut world = World::default();
    world.shard().settings.publish_rate.messages = 1;
    let fast = world.open(client::connect(V5, "fast"));
    for number in 1..=3 {
        world.publish(fast, 2, number, "a", "x");
    }
    world.settle();
    assert_eq!(world.received(fast)[1..], ["PUBREC 1 0x10", "PUBREC 2 0x10", "PUBREC 3 0x97"]);
    world.publish(fast, 0, 0, "a", "x");
    world.settle();
    assert_eq!(world.received(fast), ["DISCONNECT 0x96"]);
    assert_eq!(world.shard().stats().refused(Request::Publish, Refusal::PublishRate), 2);
}
