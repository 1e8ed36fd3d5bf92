//! A persistent session that falls behind reads the owed view until it is live again.

use crate::shard::ShardLimits;

use super::client::{self, V5};
use super::world::{Peer, World};

const TIGHT: fn() -> ShardLimits =
    || ShardLimits { output_bytes_max: 1, persistent_messages_max: 3, ..ShardLimits::default() };

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

fn publish(world: &mut World, publisher: Peer, numbers: impl IntoIterator<Item = u16>) {
    for n in numbers {
        world.publish(publisher, 1, n, "t", &n.to_string());
    }
}

fn lines(numbers: impl IntoIterator<Item = u16>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("t={n} q1 #{n}")).collect()
}

#[test]
fn nothing_is_missing_or_repeated() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 1..=20 {
        publish(&mut world, publisher, [n]);
        world.settle();
    }
    world.block(peer, false);
    world.settle();
    publish(&mut world, publisher, [21]);
    world.settle();
    assert_eq!(world.received(peer), lines(1..=21));
    assert_eq!(world.shard().stats().dropped_queue_full, 0);
}

#[test]
fn qos_0_is_dropped_meanwhile_and_counted() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish(&mut world, publisher, 1..=6);
    world.publish(publisher, 0, 0, "t", "lost");
    world.settle();
    assert_eq!(world.shard().stats().dropped_catching_up, 1);
    world.block(peer, false);
    world.settle();
    world.publish(publisher, 0, 0, "t", "live");
    world.settle();
    let received = world.received(peer);
    assert_eq!(received[..6], lines(1..=6));
    assert_eq!(received[6..], ["t=live"]);
}

#[test]
fn a_view_that_lags_is_waited_for() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish(&mut world, publisher, 1..=10);
    world.commit();
    while world.feed() {}
    // The view knows nothing of these yet.
    world.block(peer, false);
    world.write();
    publish(&mut world, publisher, [11]);
    world.commit();
    while world.feed() {}
    world.write();
    assert!(world.shard().is_starving());
    assert_eq!(world.received(peer), lines(1..=4));
    world.settle();
    assert_eq!(world.received(peer), lines(5..=11));
}

#[test]
fn a_view_that_runs_ahead_brings_nothing_twice() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    publish(&mut world, publisher, 1..=10);
    world.commit();
    while world.feed() {}
    publish(&mut world, publisher, 11..=12);
    world.commit();
    while world.fold() {}
    world.block(peer, false);
    world.write();
    world.retry();
    world.write();
    assert_eq!(world.received(peer), lines(1..=10));
    world.settle();
    assert_eq!(world.received(peer), lines(11..=12));
}

#[test]
fn going_live_in_the_middle_of_a_batch_misses_nothing_of_it() {
    let mut world = World::with_limits(ShardLimits {
        output_bytes_max: 30,
        persistent_messages_max: 1,
        pinned_bytes_max: 0,
        ..ShardLimits::default()
    });
    let peer = world.subscriber(client::persistent("c"), "t", 2);
    let publisher = publisher(&mut world);
    world.publish(publisher, 2, 1, "t", "started");
    world.publish(publisher, 0, 0, "t", &"x".repeat(40));
    world.publish(publisher, 1, 2, "t", "waits");
    world.commit();
    // This one stands in a batch before the identifier of the first.
    world.publish(publisher, 1, 3, "t", "left to the view");
    world.block(peer, true);
    world.feed();
    world.fold();
    world.rest.is_loading = true;
    world.block(peer, false);
    world.write();
    assert!(world.shard().is_starving());
    world.commit();
    world.rest.is_loading = false;
    // Half way through it all that waited is sent, and the view does not know the batch.
    world.feed();
    world.settle();
    let received = world.received(peer);
    assert_eq!(received[1..], ["t=started q2 #1", "t=waits q1 #2", "t=left to the view q1 #3"]);
}

#[test]
fn a_window_that_is_full_is_no_reason_to_forget() {
    let mut world =
        World::with_limits(ShardLimits { persistent_messages_max: 2, ..ShardLimits::default() });
    let mut connect = client::persistent("c");
    connect.receive_maximum = Some(1);
    let peer = world.subscriber(connect, "t", 1);
    let publisher = publisher(&mut world);
    publish(&mut world, publisher, 1..=600);
    world.settle();
    for n in 1..=600 {
        assert_eq!(world.received(peer), lines([n]));
        world.send(peer, &client::puback(n));
        world.settle();
    }
    assert_eq!(world.received(peer), [""; 0]);
}

#[test]
fn retained_messages_of_a_subscription_made_meanwhile_come_once() {
    let mut world = World::with_limits(TIGHT());
    let publisher = publisher(&mut world);
    let mut retained = client::publish(1, 100, "r", "r");
    retained.retain = true;
    world.send(publisher, &ledgermq_core::packet::Packet::Publish(retained));
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    world.block(peer, true);
    publish(&mut world, publisher, 1..=6);
    world.send(peer, &client::subscribe(2, "r", 1));
    publish(&mut world, publisher, 7..=9);
    world.settle();
    world.block(peer, false);
    world.settle();
    let mut received = world.received(peer);
    received.retain(|line| !line.starts_with("SUBACK"));
    assert_eq!(received[..6], lines(1..=6));
    assert_eq!(received[6], "r=r q1 #7 retain");
    let topics: Vec<_> = received[7..].iter().map(|line| &line[..3]).collect();
    assert_eq!(topics, ["t=7", "t=8", "t=9"]);
}

#[test]
fn what_was_purged_and_not_kept_is_given_up_aloud() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 1..=8 {
        publish(&mut world, publisher, [n]);
        world.settle();
    }
    let position = world.shard().position();
    world.rest.purged_below = position;
    world.block(peer, false);
    world.settle();
    assert_eq!(world.received(peer), lines(1..=4));
    assert_eq!(world.shard().stats().dropped_purged, 4);
    for n in 1..=4 {
        world.send(peer, &client::puback(n));
    }
    world.wait(std::time::Duration::from_secs(1));
    world.settle();
    assert_eq!(world.rest.views.session("c").unwrap().owed_messages(), 0);
}

#[test]
fn what_was_kept_before_a_purge_waits_until_it_can_be_read() {
    let mut world = World::with_limits(TIGHT());
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 1..=8 {
        publish(&mut world, publisher, [n]);
        world.settle();
    }
    let position = world.shard().position();
    world.purge(position);
    let kept = world.rest.kept.take();
    world.block(peer, false);
    world.settle();
    assert_eq!(world.received(peer), lines(1..=4));
    assert!(world.shard().is_starving());
    assert_eq!(world.shard().stats().dropped_purged, 0);
    world.rest.kept = kept;
    world.settle();
    assert_eq!(world.received(peer), lines(5..=8));
}

#[test]
fn what_the_log_lost_while_it_waited_is_taken_from_what_was_kept() {
    let mut world = World::with_limits(ShardLimits { pinned_bytes_max: 0, ..TIGHT() });
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = publisher(&mut world);
    world.block(peer, true);
    for n in 1..=8 {
        publish(&mut world, publisher, [n]);
        world.settle();
    }
    let position = world.shard().position();
    // References that point into the log wait in the backlog already.
    world.purge(position);
    world.block(peer, false);
    world.settle();
    assert_eq!(world.received(peer), lines(1..=8));
}
