//! QoS 2 to persistent sessions: identifiers are logged first, receipts too.

use std::time::Duration;

use ledgermq_core::event::Event;

use super::client::{self, V5};
use super::world::{Peer, World};

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

#[test]
fn publish_waits_for_the_commit_of_its_identifier_and_pubrel_for_that_of_the_receipt() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    world.publish(publisher, 2, 1, "t", "1");
    world.publish(publisher, 2, 2, "t", "2");
    world.commit();
    world.feed();
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    assert!(matches!(world.last_event(), Event::DeliveryStarted { .. }));
    world.feed();
    assert_eq!(world.read(peer), ["t=1 q2 #1", "t=2 q2 #2"]);
    world.send(peer, &client::pubrec(1));
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    assert!(matches!(world.last_event(), Event::DeliveryReceived { .. }));
    world.feed();
    assert_eq!(world.read(peer), ["PUBREL 1"]);
    world.send(peer, &client::pubcomp(1));
    world.settle();
    world.wait(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 1);
}

#[test]
fn order_is_kept_when_later_messages_find_room_at_once() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    for n in 1..=3 {
        world.publish(publisher, 2, n, "t", &n.to_string());
        world.commit();
        world.feed();
    }
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q2 #1", "t=2 q2 #2", "t=3 q2 #3"]);
}

#[test]
fn a_started_delivery_waits_for_room_in_the_output() {
    let limits = crate::shard::ShardLimits { output_bytes_max: 1, ..Default::default() };
    let mut world = World::with_limits(limits);
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 1..=3 {
        world.publish(publisher, 2, n, "t", &n.to_string());
    }
    world.settle();
    world.block(peer, false);
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q2 #1", "t=2 q2 #2", "t=3 q2 #3"]);
}

/// `[MQTT-4.3.3-5]` `[MQTT-4.3.3-6]`
#[test]
fn what_was_received_is_not_sent_again() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    for n in 1..=3 {
        world.publish(publisher, 2, n, "t", &n.to_string());
    }
    world.settle();
    world.send(peer, &client::pubrec(2));
    world.settle();
    world.lose(peer);
    let peer = world.open(client::persistent("c"));
    assert_eq!(
        world.received(peer),
        ["CONNACK 0x00 present", "PUBREL 2", "t=1 q2 #1 dup", "t=3 q2 #3 dup"]
    );
    for id in [1, 3] {
        world.send(peer, &client::pubrec(id));
    }
    world.settle();
    world.send(peer, &client::pubcomp(2));
    world.send(peer, &client::disconnect());
    world.settle();
    let peer = world.open(client::persistent("c"));
    assert_eq!(world.received(peer)[1..], ["PUBREL 1", "PUBREL 3"]);
}

#[test]
fn a_receipt_that_came_too_late_is_asked_for_again() {
    let mut world = World::default();
    let elsewhere = world.add_shard(1, Default::default());
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    world.publish(publisher, 2, 1, "t", "1");
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q2 #1"]);
    // The other connection's opening is committed ahead of the receipt, which is void then.
    let new = world.begin(elsewhere, client::persistent("c"));
    world.commit_of(elsewhere);
    world.send(peer, &client::pubrec(1));
    world.commit_of(0);
    world.settle();
    assert_eq!(world.received(peer), ["DISCONNECT 0x8e"]);
    assert_eq!(world.received(new), ["CONNACK 0x00 present", "t=1 q2 #1 dup"]);
}

#[test]
fn qos_1_is_not_held_up_by_an_identifier_that_is_being_logged() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    world.publish(publisher, 2, 1, "t", "1");
    world.publish(publisher, 1, 2, "t", "2");
    world.settle();
    assert_eq!(world.received(peer), ["t=2 q1 #2", "t=1 q2 #1"]);
}

#[test]
fn inbound_duplicates_are_known_across_connections() {
    let mut world = World::default();
    let watcher = world.subscriber(client::connect(V5, "watcher"), "t", 0);
    let peer = world.open(client::persistent("c"));
    world.publish(peer, 2, 7, "t", "once");
    world.settle();
    world.lose(peer);
    let peer = world.open(client::persistent("c"));
    let mut again = client::publish(2, 7, "t", "once");
    again.dup = true;
    world.send(peer, &ledgermq_core::packet::Packet::Publish(again));
    world.send(peer, &client::pubrel(7));
    world.settle();
    // [MQTT-4.3.3-10]
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "PUBREC 7", "PUBCOMP 7"]);
    assert_eq!(world.received(watcher), ["t=once"]);
}
