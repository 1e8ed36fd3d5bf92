//! Members of groups (Shared Subscriptions): what the fold gives them is delivered, once.

use std::time::Duration;

use ledgermq_core::access;
use ledgermq_core::event::{DropReason, Event};
use ledgermq_core::identity::{PacketId, ProducerId};
use ledgermq_core::packet::{Ack, Connect, Packet, Publish, QoS, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::TopicFilter;

use crate::shard::{PROGRESS_INTERVAL, ShardLimits, shared};

use super::client::{self, V3, V5};
use super::world::{Peer, World};

const GROUP: &str = "$share/g/t";

/// A member that ends with its connection.
fn member(world: &mut World, name: &'static str, qos: u8) -> Peer {
    world.subscriber(client::connect(V5, name), GROUP, qos)
}

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

/// Publishes messages with these numbers at QoS 2, and lets everybody see them.
fn publish(world: &mut World, from: Peer, numbers: impl IntoIterator<Item = u16>) {
    for n in numbers {
        world.publish(from, 2, n, "t", &n.to_string());
    }
    world.settle();
}

/// Messages that the group owes, and of these those that no member has.
fn owed(world: &World) -> (usize, usize) {
    world.rest.views.shared_owed(&TopicFilter::new(GROUP).unwrap()).unwrap()
}

fn settle_progress(world: &mut World) {
    world.wait(PROGRESS_INTERVAL);
    world.settle();
}

fn replace_rules(world: &mut World, text: &str) {
    let rules = Some(access::parse(text).unwrap());
    let views = ProducerId { node: 1, start: 1, local: 900 };
    world.commit_from(views, |events| {
        events.push(None, None, &Event::AccessRulesReplaced { rules });
    });
}

#[test]
fn members_take_turns_and_what_they_answered_is_logged() {
    let mut world = World::default();
    let (a, b) = (member(&mut world, "a", 1), member(&mut world, "b", 1));
    let old = world.subscriber(client::connect(V3, "old"), GROUP, 1);
    let publisher = publisher(&mut world);
    publish(&mut world, publisher, 1..=6);
    assert_eq!(world.received(a), ["t=1 q1 #1", "t=4 q1 #2"]);
    assert_eq!(world.received(b), ["t=2 q1 #1", "t=5 q1 #2"]);
    assert_eq!(world.received(old), ["t=3 q1 #1", "t=6 q1 #2"]);
    world.send(a, &client::puback(1));
    world.send(a, &client::puback(2));
    settle_progress(&mut world);
    let Event::SharedSettled { deliveries } = world.last_event() else { panic!() };
    assert_eq!(deliveries.len(), 2);
    assert_eq!(owed(&world), (4, 0));
}

#[test]
fn of_qos_2_the_log_has_the_member_before_the_message_is_sent() {
    let mut world = World::default();
    let peer = member(&mut world, "c", 2);
    let publisher = publisher(&mut world);
    for n in 1..=2 {
        world.publish(publisher, 2, n, "t", &n.to_string());
    }
    world.commit();
    world.feed();
    world.fold();
    world.notify();
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    assert!(matches!(world.last_event(), Event::DeliveryStarted { .. }));
    assert_eq!(world.read(peer), [""; 0]);
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q2 #1", "t=2 q2 #2"]);
    world.send(peer, &client::pubrec(1));
    assert_eq!(world.read(peer), ["PUBREL 1"]);
    settle_progress(&mut world);
    assert_eq!(owed(&world), (1, 0));
}

/// `[MQTT-4.8.2-5]`
#[test]
fn who_goes_leaves_to_others_what_is_not_bound_to_it() {
    let mut world = World::default();
    let (a, b) = (member(&mut world, "a", 2), member(&mut world, "b", 1));
    let publisher = publisher(&mut world);
    let once = world.open(Connect { receive_maximum: Some(1), ..client::connect(V5, "d") });
    world.send(once, &client::subscribe(1, GROUP, 1));
    world.settle();
    world.read(once);
    publish(&mut world, publisher, 1..=6);
    assert_eq!(world.received(a), ["t=1 q2 #1", "t=4 q2 #2"]);
    assert_eq!(world.received(b), ["t=2 q1 #1", "t=5 q1 #2"]);
    assert_eq!(world.received(once), ["t=3 q1 #1"], "its window is full");
    world.lose(a);
    world.lose(once);
    world.settle();
    assert_eq!(world.received(b), ["t=3 q1 #3", "t=6 q1 #4"]);
    assert_eq!(world.rest.views.counters().shared_lost, 2);
}

/// `[MQTT-4.8.2-4]`
#[test]
fn what_was_bound_is_sent_again_by_its_session_before_all_else() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), GROUP, 2);
    let publisher = publisher(&mut world);
    publish(&mut world, publisher, 1..=3);
    world.send(peer, &client::pubrec(2));
    world.settle();
    world.received(peer);
    world.lose(peer);
    publish(&mut world, publisher, 4..=5);
    let connect = Connect { receive_maximum: Some(2), ..client::persistent("c") };
    let peer = world.open(connect);
    let lines = ["CONNACK 0x00 present", "PUBREL 2", "t=1 q2 #1 dup", "t=3 q2 #3 dup"];
    assert_eq!(world.received(peer), lines[..3], "two are under way");
    world.send(peer, &client::pubcomp(2));
    world.settle();
    assert_eq!(world.received(peer), lines[3..]);
    for id in [1, 3] {
        world.send(peer, &client::pubrec(id));
        world.settle();
        world.send(peer, &client::pubcomp(id));
    }
    world.settle();
    assert_eq!(world.received(peer), ["PUBREL 1", "t=4 q2 #1", "PUBREL 3", "t=5 q2 #2"]);
}

#[test]
fn a_notice_that_runs_ahead_waits_for_the_batch() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    let publisher = publisher(&mut world);
    world.read(peer);
    world.send(peer, &client::subscribe(1, GROUP, 0));
    world.publish(publisher, 0, 0, "t", "1");
    world.commit();
    while world.fold() {}
    world.notify();
    assert_eq!(world.read(peer), [""; 0]);
    world.settle();
    assert_eq!(world.received(peer), ["SUBACK 1 [00]", "t=1"]);
}

#[test]
fn own_subscriptions_and_shared_ones_do_not_meet() {
    let mut world = World::default();
    let peer = world.open(client::persistent("c"));
    let publisher = publisher(&mut world);
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    world.send(peer, &client::subscribe_with(1, &[("t", options)], Some(1)));
    world.send(peer, &client::subscribe_with(2, &[(GROUP, options)], Some(2)));
    world.settle();
    world.read(peer);
    publish(&mut world, publisher, [1]);
    assert_eq!(world.received(peer), ["t=1 q1 #1 ids=[1]", "t=1 q1 #2 ids=[2]"]);
    // From the log, and by its own subscription the identifiers of no other.
    world.block(peer, true);
    world.lose(peer);
    publish(&mut world, publisher, [2]);
    let peer = world.open(client::persistent("c"));
    let mut lines = world.received(peer);
    lines.sort_unstable();
    let again =
        ["t=1 q1 #1 dup ids=[1]", "t=1 q1 #3 ids=[2]", "t=2 q1 #2 ids=[1]", "t=2 q1 #4 ids=[2]"];
    assert_eq!(lines[1..], again, "{lines:?}");
    world.send(peer, &client::unsubscribe(3, GROUP));
    world.settle();
    world.received(peer);
    publish(&mut world, publisher, [3]);
    assert_eq!(world.received(peer), ["t=3 q1 #5 ids=[1]"]);
}

/// One client's window does not stop what others of the group can have.
#[test]
fn much_that_is_answered_is_logged_before_its_time() {
    let mut world = World::default();
    let peer = member(&mut world, "c", 1);
    let publisher = publisher(&mut world);
    let count = u16::try_from(shared::SETTLED_MAX).unwrap();
    publish(&mut world, publisher, 1..=count);
    for id in 1..count {
        world.send(peer, &client::puback(id));
    }
    world.settle();
    assert_eq!(owed(&world), (usize::from(count), 0));
    world.send(peer, &client::puback(count));
    world.settle();
    assert_eq!(owed(&world), (0, 0));
}

#[test]
fn what_has_expired_is_given_up_for_the_group() {
    let mut world = World::default();
    let peer = world.open(Connect { receive_maximum: Some(1), ..client::connect(V5, "c") });
    world.send(peer, &client::subscribe(1, GROUP, 1));
    let publisher = publisher(&mut world);
    world.read(peer);
    for n in 1..=2 {
        let message = client::publish(1, n, "t", "x");
        let message = Publish { message_expiry_interval: Some(5), ..message };
        world.send(publisher, &Packet::Publish(message));
    }
    world.settle();
    assert_eq!(world.received(peer), ["t=x q1 #1 expiry=5"]);
    world.wait(Duration::from_secs(6));
    world.send(peer, &client::puback(1));
    world.settle();
    assert_eq!(world.received(peer), [""; 0]);
    assert!(world.events().iter().any(|(event, _)| matches!(
        event,
        Event::MessageDropped { from, upto, reason: DropReason::Expired }
            if from == upto && from.group().is_some()
    )));
    settle_progress(&mut world);
    assert_eq!(owed(&world), (0, 0));
}

#[test]
fn what_a_member_may_no_longer_receive_others_get() {
    let mut world = World::default();
    let a = world.open(Connect { receive_maximum: Some(1), ..client::connect(V5, "a") });
    world.send(a, &client::subscribe(1, GROUP, 2));
    world.settle();
    let b = world.subscriber(client::connect(V5, "b"), GROUP, 2);
    let publisher = publisher(&mut world);
    world.read(a);
    publish(&mut world, publisher, 1..=4);
    assert_eq!(world.received(a), ["t=1 q2 #1"]);
    assert_eq!(world.received(b), ["t=2 q2 #1", "t=4 q2 #2"]);
    replace_rules(&mut world, "topic write t\npattern deny t/%c\ntopic t\ntopic deny t\n");
    replace_rules(&mut world, "topic write t\npattern read %c\n");
    world.settle();
    replace_rules(&mut world, "topic write t\ntopic read t\n");
    world.settle();
    // It was passed over, but what it holds it may receive now.
    world.send(a, &client::pubrec(1));
    world.send(a, &client::pubcomp(1));
    world.settle();
    assert_eq!(world.received(a), ["PUBREL 1", "t=3 q2 #2"]);
    publish(&mut world, publisher, [5]);
    assert_eq!(owed(&world).1, 0);
}

#[test]
fn what_a_member_may_not_have_at_its_turn_it_gives_back() {
    let mut world = World::default();
    let a = world.open(Connect { receive_maximum: Some(1), ..client::connect(V5, "a") });
    world.send(a, &client::subscribe(1, GROUP, 1));
    world.settle();
    let named = Connect { username: Some("b"), ..client::connect(V5, "b") };
    let b = world.subscriber(named, GROUP, 1);
    let publisher = publisher(&mut world);
    world.read(a);
    publish(&mut world, publisher, 1..=4);
    assert_eq!(world.received(a), ["t=1 q1 #1"]);
    assert_eq!(world.received(b), ["t=2 q1 #1", "t=4 q1 #2"]);
    replace_rules(&mut world, "topic write t\nuser b\ntopic read t\n");
    world.settle();
    assert_eq!(world.received(b), [""; 0], "it may still come to have a right to it");
    world.send(a, &client::puback(1));
    world.settle();
    assert_eq!(world.received(a), [""; 0]);
    assert_eq!(world.received(b), ["t=3 q1 #3"]);
    assert_eq!(world.shard().stats().dropped_not_authorized, 0, "nothing is lost by that");
    publish(&mut world, publisher, 5..=6);
    assert_eq!(world.received(b), ["t=5 q1 #4", "t=6 q1 #5"]);
}

#[test]
fn of_qos_0_the_newest_are_dropped_when_too_much_waits() {
    let limits = ShardLimits { backlog_messages_max: 2, output_bytes_max: 1, ..Default::default() };
    let mut world = World::with_limits(limits);
    let slow = member(&mut world, "slow", 0);
    let publisher = publisher(&mut world);
    world.block(slow, true);
    for n in 1..=5 {
        publish(&mut world, publisher, [n]);
    }
    assert_eq!(world.shard().stats().dropped_queue_full, 2);
    world.block(slow, false);
    world.settle();
    assert_eq!(world.received(slow), ["t=1", "t=2", "t=3"]);
}

#[test]
fn older_messages_come_from_the_log_or_from_what_was_kept_of_it() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), GROUP, 1);
    let publisher = publisher(&mut world);
    world.lose(peer);
    publish(&mut world, publisher, 1..=2);
    let last = world.shard().position();
    world.purge(last);
    publish(&mut world, publisher, 3..=3);
    world.rest.is_loading = true;
    let kept = world.rest.kept.take();
    let peer = world.open(client::persistent("c"));
    assert_eq!(world.received(peer), ["CONNACK 0x00 present"]);
    world.rest.kept = kept;
    world.settle();
    assert_eq!(world.received(peer), ["t=1 q1 #1", "t=2 q1 #2"]);
    world.rest.is_loading = false;
    world.settle();
    assert_eq!(world.received(peer), ["t=3 q1 #3"]);
}

#[test]
fn a_started_delivery_goes_though_an_older_message_of_a_group_waits_for_its_place() {
    let mut world = World::default();
    let connect = Connect { receive_maximum: Some(1), ..client::persistent("c") };
    let other = member(&mut world, "other", 1);
    let publisher = publisher(&mut world);
    publish(&mut world, publisher, [1]);
    assert_eq!(world.received(other), ["t=1 q1 #1"]);
    let peer = world.subscriber(connect, "own", 2);
    world.send(peer, &client::subscribe(2, GROUP, 1));
    world.settle();
    world.read(peer);
    world.publish(publisher, 1, 2, "own", "2");
    world.publish(publisher, 2, 3, "own", "3");
    world.settle();
    assert_eq!(world.received(peer), ["own=2 q1 #1"]);
    // Its place is taken by a delivery whose start is on its way to the log when it gets another.
    world.send(peer, &client::puback(1));
    world.lose(other);
    world.settle();
    assert_eq!(world.received(peer), ["own=3 q2 #2"]);
    world.send(peer, &client::pubrec(2));
    world.settle();
    world.send(peer, &client::pubcomp(2));
    world.settle();
    assert_eq!(world.received(peer), ["PUBREL 2", "t=1 q1 #3"]);
}

/// `[MQTT-4.8.2-6]`
#[test]
fn what_a_member_refuses_is_settled() {
    let mut world = World::default();
    let (a, b) = (member(&mut world, "a", 2), member(&mut world, "b", 2));
    let publisher = publisher(&mut world);
    publish(&mut world, publisher, [1]);
    assert_eq!(world.received(a), ["t=1 q2 #1"]);
    let refusal = Ack::new(PacketId::MIN, ReasonCode::ImplementationSpecificError);
    world.send(a, &Packet::PubRec(refusal));
    settle_progress(&mut world);
    assert_eq!(owed(&world), (0, 0));
    world.lose(a);
    world.settle();
    assert_eq!(world.received(b), [""; 0]);
}

#[test]
fn what_a_group_gives_does_not_wait_for_a_view_that_lags() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let old = world.subscriber(client::persistent("c"), GROUP, 1);
    world.lose(old);
    world.settle();
    let peer = world.begin(0, client::persistent("c"));
    let mut lines = Vec::new();
    for n in 1..=20 {
        world.publish(publisher, 1, n, "t", "x");
        world.commit();
        while world.feed() {}
        // The views are a batch behind the shard, all the time.
        while world.rest.views.applied() + 2 < world.shard().position() {
            assert!(world.fold());
        }
        world.notify();
        world.retry();
        lines.extend(world.read(peer));
    }
    assert!(lines.iter().filter(|line| line.starts_with("t=")).count() > 10, "{lines:?}");
}

#[test]
fn of_qos_0_no_more_is_kept_for_a_batch_to_come_than_may_wait() {
    let limits = ShardLimits { backlog_messages_max: 2, ..Default::default() };
    let mut world = World::with_limits(limits);
    let peer = member(&mut world, "c", 0);
    let publisher = publisher(&mut world);
    for n in 1..=5 {
        world.publish(publisher, 0, 0, "t", &n.to_string());
        world.commit();
    }
    while world.fold() {}
    world.notify();
    assert_eq!(world.shard().stats().dropped_queue_full, 3);
    world.settle();
    assert_eq!(world.received(peer), ["t=1", "t=2"]);
}

/// A source remembers that there is no copy, and the log may lose the message before it is needed.
#[test]
fn no_copy_is_asked_for_of_what_the_log_still_has() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), GROUP, 1);
    let publisher = publisher(&mut world);
    world.lose(peer);
    publish(&mut world, publisher, 1..=2);
    let purged = world.shard().position();
    world.purge(purged);
    publish(&mut world, publisher, 3..=4);
    world.rest.is_loading = true;
    let peer = world.open(client::persistent("c"));
    assert_eq!(world.received(peer), ["CONNACK 0x00 present", "t=1 q1 #1", "t=2 q1 #2"]);
    assert_eq!(world.rest.asked.len(), 2, "{:?}", world.rest.asked);
    assert!(world.rest.asked.iter().all(|at| at.index < purged));
    world.rest.is_loading = false;
    world.settle();
    assert_eq!(world.received(peer), ["t=3 q1 #3", "t=4 q1 #4"]);
}
