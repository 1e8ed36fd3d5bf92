//! Sessions that are resumed: what was under way first, with its identifiers, then the rest.

use std::time::Duration;

use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::packet::{Connect, Packet, QoS, SubscriptionOptions};

use crate::shard::ShardLimits;

use super::client::{self, V5};
use super::world::{Peer, World};

/// A producer that is none of the shards.
const OTHER: ProducerId = ProducerId { node: 2, start: 1, local: 0 };

fn publish(world: &mut World, qos: u8, numbers: impl IntoIterator<Item = u16>) {
    for n in numbers {
        let payload = n.to_string();
        world.commit_from(OTHER, |events| message(events, qos, &payload));
    }
    world.settle();
}

fn message(events: &mut BatchBuilder, qos: u8, payload: &str) {
    let publish = client::publish(qos, u16::from(qos > 0), "t", payload);
    events.publish(
        None,
        None,
        &ledgermq_core::event::MessagePublished {
            qos: publish.qos,
            retain: false,
            packet_id: None,
            topic: "t",
            message_expiry_interval: None,
            properties: &[],
            payload: payload.as_bytes(),
        },
    );
}

fn subscriber(world: &mut World, qos: u8) -> Peer {
    world.subscriber(client::persistent("c"), "t", qos)
}

/// `[MQTT-4.6.0-1]` `[MQTT311-4.6.0-1]`
#[test]
fn unacknowledged_messages_come_again_with_their_identifiers_then_new_ones() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    publish(&mut world, 1, 1..=3);
    assert_eq!(world.received(peer), ["t=1 q1 #1", "t=2 q1 #2", "t=3 q1 #3"]);
    world.send(peer, &client::puback(2));
    world.lose(peer);
    publish(&mut world, 1, 4..=5);
    let peer = world.open(client::persistent("c"));
    publish(&mut world, 1, [6]);
    assert_eq!(
        world.received(peer),
        [
            "CONNACK 0x00 present",
            "t=1 q1 #1 dup",
            "t=3 q1 #3 dup",
            "t=4 q1 #2",
            "t=5 q1 #4",
            "t=6 q1 #5"
        ]
    );
}

#[test]
fn a_clean_move_repeats_nothing_that_was_acknowledged() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    publish(&mut world, 1, 1..=2);
    world.send(peer, &client::puback(1));
    world.send(peer, &client::puback(2));
    world.send(peer, &client::disconnect());
    world.settle();
    let peer = world.open(client::persistent("c"));
    assert_eq!(world.received(peer), ["CONNACK 0x00 present"]);
}

#[test]
fn a_takeover_in_the_same_shard_repeats_nothing_that_was_acknowledged() {
    let mut world = World::default();
    let old = subscriber(&mut world, 1);
    publish(&mut world, 1, 1..=2);
    world.send(old, &client::puback(1));
    let new = world.open(client::persistent("c"));
    assert_eq!(world.received(old), ["t=1 q1 #1", "t=2 q1 #2", "DISCONNECT 0x8e"]);
    assert!(world.is_closed(old));
    assert_eq!(world.received(new), ["CONNACK 0x00 present", "t=2 q1 #2 dup"]);
}

/// `[MQTT-3.1.4-3]`
#[test]
fn a_takeover_from_elsewhere_ends_the_old_connection() {
    let mut world = World::default();
    let elsewhere = world.add_shard(1, ShardLimits::default());
    let old = subscriber(&mut world, 1);
    publish(&mut world, 1, [1]);
    let new = world.begin(elsewhere, client::persistent("c"));
    world.settle();
    publish(&mut world, 1, [2]);
    assert_eq!(world.received(old), ["t=1 q1 #1", "DISCONNECT 0x8e"]);
    assert_eq!(world.shard().connections(), 0);
    assert_eq!(world.shard().stats().taken_over, 1);
    // The old shard had logged no progress: a new identifier, no DUP.
    assert_eq!(world.received(new), ["CONNACK 0x00 present", "t=1 q1 #1", "t=2 q1 #2"]);
}

/// `[MQTT-3.1.2-4]` `[MQTT-3.2.2-2]` `[MQTT311-3.2.2-1]`
#[test]
fn clean_start_brings_nothing_along() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    publish(&mut world, 1, [1]);
    world.lose(peer);
    let clean = Connect { clean_start: true, ..client::persistent("c") };
    let peer = world.open(clean);
    publish(&mut world, 1, [2]);
    assert_eq!(world.received(peer), ["CONNACK 0x00"]);
}

#[test]
fn a_message_that_was_sent_is_sent_again_though_it_expired() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    let publisher = world.open(client::connect(V5, "p"));
    for id in [1, 2] {
        let payload = id.to_string();
        let mut publish = client::publish(1, id, "t", &payload);
        publish.message_expiry_interval = Some(5);
        world.send(publisher, &Packet::Publish(publish));
        world.settle();
        if id == 1 {
            world.lose(peer);
        }
    }
    world.wait(Duration::from_secs(10));
    let peer = world.open(client::persistent("c"));
    // [MQTT-4.3.3-7] [MQTT-4.4.0-1]; the second was not sent yet. [MQTT-3.3.2-5]
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "t=1 q1 #1 dup expiry=0"]);
}

#[test]
fn a_session_resumed_for_the_last_time_gets_the_old_before_the_new() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    publish(&mut world, 1, [1]);
    world.lose(peer);
    publish(&mut world, 1, [2]);
    let last = Connect { clean_start: false, ..client::connect(V5, "c") };
    let peer = world.begin(0, last);
    world.commit();
    // Before the shard knows the subscriptions.
    world.commit_from(OTHER, |events| message(events, 1, "2b"));
    while world.feed() {}
    while world.fold() {}
    world.notify();
    // Published before the old ones were read from the view.
    world.commit_from(OTHER, |events| message(events, 1, "3"));
    while world.feed() {}
    world.settle();
    publish(&mut world, 1, [4]);
    assert_eq!(
        world.received(peer),
        [
            "CONNACK 0x00 present",
            "t=1 q1 #1 dup",
            "t=2 q1 #2",
            "t=2b q1 #3",
            "t=3 q1 #4",
            "t=4 q1 #5"
        ]
    );
    world.lose(peer);
    world.settle();
    assert!(world.rest.views.session("c").is_none());
}

#[test]
fn a_small_window_takes_what_was_under_way_one_by_one() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 1);
    publish(&mut world, 1, 1..=3);
    world.lose(peer);
    let peer = world.open(Connect { receive_maximum: Some(1), ..client::persistent("c") });
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "t=1 q1 #1 dup"]);
    world.send(peer, &client::puback(1));
    assert_eq!(world.read(peer), ["t=2 q1 #2 dup"]);
    world.send(peer, &client::puback(2));
    assert_eq!(world.read(peer), ["t=3 q1 #3 dup"]);
}

#[test]
fn a_crash_that_lost_progress_holds_nothing_up() {
    let mut world = World::default();
    let peer =
        world.subscriber(Connect { receive_maximum: Some(2), ..client::persistent("c") }, "t", 2);
    publish(&mut world, 1, 1..=2);
    world.send(peer, &client::puback(1));
    world.send(peer, &client::puback(2));
    // Their identifiers are logged, the acknowledgements before them are not.
    publish(&mut world, 2, 3..=4);
    assert_eq!(world.received(peer), ["t=1 q1 #1", "t=2 q1 #2", "t=3 q2 #3", "t=4 q2 #4"]);
    let seat = world.add_shard(2, ShardLimits::default());
    world.shards.swap(0, seat);
    world.shards.truncate(1);
    world.commit_from(ProducerId { node: 1, start: 2, local: 9 }, |events| {
        events.push(None, None, &Event::NodeStarted { node: 1, start: 2 });
    });
    world.settle();
    let peer = world.open(Connect { receive_maximum: Some(2), ..client::persistent("c") });
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "t=1 q1 #1", "t=2 q1 #2"]);
    world.send(peer, &client::puback(1));
    world.send(peer, &client::puback(2));
    world.settle();
    assert_eq!(world.received(peer), ["t=3 q2 #3 dup", "t=4 q2 #4 dup"]);
}

/// `[MQTT-3.3.2-7]`
#[test]
fn topic_aliases_end_with_their_connection() {
    let mut world = World::default();
    let connect = || Connect { topic_alias_maximum: Some(1), ..client::persistent("c") };
    let aliased = |topic| {
        Packet::Publish(ledgermq_core::packet::Publish {
            topic_alias: Some(1),
            ..client::publish(0, 0, topic, "x")
        })
    };
    let peer = world.subscriber(connect(), "t", 0);
    world.send(peer, &aliased("t"));
    world.send(peer, &aliased(""));
    world.settle();
    assert_eq!(world.received(peer), ["t=x", "=x"], "the second by the alias of the first");
    world.lose(peer);
    // The broker's are given anew, and the client's mean nothing any more.
    let peer = world.open(connect());
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(publisher, 0, 0, "t", "y");
    world.settle();
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "t=y"]);
    world.send(peer, &aliased(""));
    assert_eq!(world.read(peer), ["DISCONNECT 0x82"]);
}

/// `[MQTT-4.4.0-1]`
#[test]
fn nothing_is_sent_again_as_long_as_the_connection_lasts() {
    let mut world = World::default();
    let peer = subscriber(&mut world, 2);
    publish(&mut world, 1, [1]);
    publish(&mut world, 2, [2, 3]);
    world.send(peer, &client::pubrec(3));
    world.settle();
    assert_eq!(world.received(peer).len(), 4);
    for _ in 0..60 {
        world.wait(Duration::from_secs(60));
        world.settle();
    }
    assert_eq!(world.received(peer), [""; 0]);
    assert!(!world.is_closed(peer));
}

/// `[MQTT-3.3.4-3]`
#[test]
fn what_waited_for_a_session_bears_its_subscription_identifiers() {
    let mut world = World::default();
    let peer = world.open(client::persistent("c"));
    let qos = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    for (id, filter) in [(1, "t"), (2, "#")] {
        let filters = [(filter, qos(QoS::AtLeastOnce))];
        world.send(peer, &client::subscribe_with(id, &filters, Some(u32::from(id) * 10)));
    }
    world.settle();
    publish(&mut world, 1, [1]);
    world.received(peer);
    world.lose(peer);
    publish(&mut world, 1, [2]);
    let peer = world.open(client::persistent("c"));
    let mut received = world.received(peer);
    received.iter_mut().for_each(|line| *line = line.replace("[20, 10]", "[10, 20]"));
    assert_eq!(
        received,
        ["CONNACK 0x00 present", "t=1 q1 #1 dup ids=[10, 20]", "t=2 q1 #2 ids=[10, 20]"]
    );
}
