//! SUBACK, retained messages, and what is published meanwhile.

use std::time::Duration;

use ledgermq_core::connection::{Refusal, Request};
use ledgermq_core::packet::{Packet, QoS, RetainHandling, SubscriptionOptions};

use crate::shard::ShardLimits;

use super::client::{self, V3, V5};
use super::world::{Peer, World};

/// Publishes retained messages `name=name`.
fn retain(world: &mut World, topics: &[&str]) {
    let publisher = world.open(client::connect(V5, "retainer"));
    for (id, topic) in (1..).zip(topics) {
        let mut publish = client::publish(1, id, topic, topic);
        publish.retain = true;
        world.send(publisher, &Packet::Publish(publish));
    }
    world.settle();
    world.lose(publisher);
}

fn publisher(world: &mut World) -> Peer {
    let peer = world.open(client::connect(V5, "publisher"));
    world.read(peer);
    peer
}

#[test]
fn suback_comes_with_the_commit_and_what_follows_waits_for_the_retained_messages() {
    let mut world = World::default();
    retain(&mut world, &["a", "b"]);
    let publisher = publisher(&mut world);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    world.send(peer, &client::subscribe(1, "+", 1));
    world.commit();
    world.publish(publisher, 1, 1, "c", "live");
    world.publish(publisher, 0, 0, "c", "live too");
    world.commit();
    while world.feed() {}
    assert_eq!(world.read(peer), ["SUBACK 1 [01]"]);
    while world.fold() {}
    world.notify();
    assert_eq!(
        world.read(peer),
        ["a=a q1 #1 retain", "b=b q1 #2 retain", "c=live q1 #3", "c=live too"]
    );
}

#[test]
fn retained_messages_that_are_known_ahead_of_the_commit_come_behind_suback() {
    let mut world = World::default();
    retain(&mut world, &["a"]);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    world.send(peer, &client::subscribe(1, "+", 1));
    world.commit();
    while world.fold() {}
    world.notify();
    assert_eq!(world.read(peer), [""; 0]);
    while world.feed() {}
    assert_eq!(world.read(peer), ["SUBACK 1 [01]", "a=a q1 #1 retain"]);
}

#[test]
fn with_much_retained_one_subscription_waits_for_the_answer_to_the_other() {
    let limits = ShardLimits { awaited_messages_max: 3, ..ShardLimits::default() };
    let mut world = World::with_limits(limits);
    retain(&mut world, &["a", "b"]);
    world.shard().retained_messages = 2;
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    world.send(peer, &client::subscribe(1, "a", 0));
    world.send(peer, &client::subscribe(2, "b", 0));
    world.send(peer, &client::subscribe(3, "+", 0));
    world.send(peer, &Packet::PingReq);
    world.commit();
    while world.feed() {}
    // The third is not looked at: each of them may bring two messages.
    assert_eq!(world.read(peer), ["SUBACK 1 [00]", "SUBACK 2 [00]"]);
    world.settle();
    let rest =
        ["a=a retain", "b=b retain", "PINGRESP", "SUBACK 3 [00]", "a=a retain", "b=b retain"];
    assert_eq!(world.read(peer), rest);
}

#[test]
fn who_does_not_read_what_it_asked_for_asks_for_no_more() {
    let limits = ShardLimits {
        output_bytes_max: 1,
        unread_messages_max: 4,
        awaited_messages_max: 2,
        ..ShardLimits::default()
    };
    let mut world = World::with_limits(limits);
    retain(&mut world, &["a", "b"]);
    world.shard().retained_messages = 2;
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    world.block(peer, true);
    for id in 1..=5 {
        world.send(peer, &client::subscribe(id, "+", 0));
    }
    world.settle();
    // One message of the first answer fills the output, the others wait.
    world.block(peer, false);
    let lines = world.read(peer);
    let codes: Vec<_> = lines.iter().filter(|line| line.starts_with("SUBACK")).collect();
    let expected = [(1, "00"), (2, "00"), (3, "97"), (4, "97"), (5, "97")];
    let expected = expected.map(|(id, code)| format!("SUBACK {id} [{code}]"));
    assert_eq!(codes, expected.iter().collect::<Vec<_>>(), "{lines:?}");
    let refused = world.shard().stats().refused(Request::Subscribe, Refusal::Unread);
    assert_eq!(refused, 3);
    // Once it has read, it may again.
    world.send(peer, &client::subscribe(6, "a", 0));
    world.settle();
    assert_eq!(world.read(peer).last().unwrap(), "a=a retain");
}

#[test]
fn answers_to_several_subscriptions_come_in_their_order() {
    let mut world = World::default();
    retain(&mut world, &["a", "b"]);
    let publisher = publisher(&mut world);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    world.send(peer, &client::subscribe(1, "a", 0));
    world.publish(publisher, 0, 0, "a", "between");
    world.send(peer, &client::subscribe(2, "b", 0));
    world.publish(publisher, 0, 0, "b", "after");
    world.commit();
    while world.feed() {}
    while world.fold() {}
    let late = world.rest.notices.pop().unwrap();
    world.notify();
    assert_eq!(world.read(peer), ["SUBACK 1 [00]", "SUBACK 2 [00]"]);
    world.rest.notices.push(late);
    world.notify();
    assert_eq!(world.read(peer), ["a=a retain", "a=between", "b=b retain", "b=after"]);
}

#[test]
fn a_retained_message_bears_the_identifiers_of_those_that_brought_it() {
    let mut world = World::default();
    retain(&mut world, &["a"]);
    let peer = world.open(client::connect(V5, "c"));
    let options = SubscriptionOptions::default();
    world.send(peer, &client::subscribe_with(1, &[("a", options)], Some(1)));
    world.settle();
    world.read(peer);
    world.send(peer, &client::subscribe_with(2, &[("+", options), ("#", options)], Some(2)));
    world.settle();
    assert_eq!(world.received(peer), ["SUBACK 2 [00, 00]", "a=a retain ids=[2]"]);
}

/// `[MQTT-3.3.1-9]` `[MQTT-3.3.1-10]` `[MQTT-3.3.1-11]` `[MQTT311-3.8.4-3]`
#[test]
fn retain_handling_is_the_folds_answer() {
    let mut world = World::default();
    retain(&mut world, &["a"]);
    let peer = world.subscriber(client::connect(V5, "c"), "a", 0);
    for (handling, expected) in [
        (RetainHandling::Send, vec!["SUBACK 2 [00]", "a=a retain"]),
        (RetainHandling::SendIfNew, vec!["SUBACK 2 [00]"]),
        (RetainHandling::DoNotSend, vec!["SUBACK 2 [00]"]),
    ] {
        let options =
            SubscriptionOptions { retain_handling: handling, ..SubscriptionOptions::default() };
        world.send(peer, &client::subscribe_with(2, &[("a", options)], None));
        world.settle();
        assert_eq!(world.received(peer), expected);
    }
}

#[test]
fn an_expired_retained_message_is_not_sent() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let mut publish = client::publish(0, 0, "a", "x");
    publish.retain = true;
    publish.message_expiry_interval = Some(10);
    world.send(publisher, &Packet::Publish(publish));
    world.settle();
    world.wait(Duration::from_secs(4));
    let first = world.open(client::connect(V5, "first"));
    world.send(first, &client::subscribe(1, "a", 0));
    world.settle();
    // [MQTT-3.3.2-6]
    assert_eq!(world.received(first)[2..], ["a=x retain expiry=6"]);
    world.wait(Duration::from_secs(6));
    let second = world.open(client::connect(V5, "second"));
    world.send(second, &client::subscribe(1, "a", 0));
    world.settle();
    assert_eq!(world.received(second)[2..], [""; 0]);
}

/// `[MQTT-3.10.4-2]`
#[test]
fn unsubscribing_ends_matching_and_says_what_existed() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let peer = world.subscriber(client::connect(V5, "c"), "a", 1);
    world.publish(publisher, 1, 1, "a", "1");
    world.send(peer, &client::unsubscribe(2, "a"));
    world.publish(publisher, 1, 2, "a", "2");
    world.send(peer, &client::unsubscribe(3, "a"));
    world.settle();
    assert_eq!(world.received(peer), ["a=1 q1 #1", "UNSUBACK 2 [00]", "UNSUBACK 3 [11]"]);
}

#[test]
fn a_subscription_that_is_made_again_is_replaced() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let peer = world.subscriber(client::connect(V5, "c"), "a", 0);
    world.send(peer, &client::subscribe(2, "a", 1));
    world.publish(publisher, 1, 1, "a", "1");
    world.settle();
    assert_eq!(world.received(peer), ["SUBACK 2 [01]", "a=1 q1 #1"]);
}

#[test]
fn a_subscriber_that_went_before_its_answer_leaves_nothing_behind() {
    for is_early in [false, true] {
        let mut world = World::default();
        retain(&mut world, &["a"]);
        let peer = world.open(client::connect(V3, "c"));
        world.send(peer, &client::subscribe(1, "a", 0));
        world.commit();
        if is_early {
            while world.fold() {}
            world.notify();
        }
        world.lose(peer);
        world.settle();
        assert!(world.shard().early_retained.is_empty());
        let publisher = publisher(&mut world);
        world.publish(publisher, 0, 0, "a", "x");
        world.settle();
        assert_eq!(world.shard().stats().sent, [0, 0, 0]);
    }
}

/// `[MQTT-3.8.4-8]`
#[test]
fn the_lower_qos_counts() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    for (granted, expected) in [(0, "a=x"), (1, "a=x q1 #1"), (2, "a=x q2 #1")] {
        let name = format!("c{granted}");
        let peer = world.subscriber(client::connect(V5, &name), "a", granted);
        world.publish(publisher, 2, u16::from(granted) + 1, "a", "x");
        world.settle();
        assert_eq!(world.received(peer), [expected]);
    }
}

/// `[MQTT-3.10.4-3]` `[MQTT311-3.10.4-3]`
#[test]
fn what_was_sent_is_completed_after_unsubscribing() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let peer = world.subscriber(client::persistent("c"), "a", 2);
    world.publish(publisher, 1, 1, "a", "1");
    world.publish(publisher, 2, 2, "a", "2");
    world.publish(publisher, 2, 3, "a", "3");
    world.settle();
    world.send(peer, &client::pubrec(2));
    world.send(peer, &client::unsubscribe(2, "a"));
    world.publish(publisher, 1, 4, "a", "4");
    world.settle();
    let before =
        ["a=1 q1 #1", "a=2 q2 #2", "a=3 q2 #3", "UNSUBACK 2 [00]", "PUBREL 2"].map(str::to_owned);
    let mut received = world.received(peer);
    received.sort_by_key(|line| before.iter().position(|known| known == line));
    assert_eq!(received, before);
    world.lose(peer);
    let peer = world.open(client::persistent("c"));
    assert_eq!(
        world.received(peer),
        ["CONNACK 0x00 present", "PUBREL 2", "a=1 q1 #1 dup", "a=3 q2 #3 dup"]
    );
}

/// `[MQTT-3.10.4-1]` `[MQTT311-3.10.4-1]`
#[test]
fn only_the_very_same_filter_is_unsubscribed() {
    let mut world = World::default();
    let publisher = publisher(&mut world);
    let peer = world.subscriber(client::connect(V5, "c"), "a/+", 0);
    for (id, filter) in [(2, "a/b"), (3, "A/+"), (4, "a/#"), (5, "+/+"), (6, "a/+/")] {
        world.send(peer, &client::unsubscribe(id, filter));
        world.settle();
        assert_eq!(world.received(peer), [format!("UNSUBACK {id} [11]")]);
    }
    world.publish(publisher, 0, 0, "a/b", "x");
    world.settle();
    assert_eq!(world.received(peer), ["a/b=x"]);
}

/// `[MQTT-3.8.4-5]` `[MQTT311-3.8.4-4]`
#[test]
fn the_filters_of_one_subscribe_count_one_behind_the_other() {
    let mut world = World::default();
    retain(&mut world, &["b"]);
    let publisher = publisher(&mut world);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    let qos = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let filters = [
        ("a", qos(QoS::ExactlyOnce)),
        ("b", qos(QoS::AtMostOnce)),
        ("a/#/b", qos(QoS::AtMostOnce)),
        ("a", qos(QoS::AtLeastOnce)),
    ];
    world.send(peer, &client::subscribe_with(7, &filters, None));
    world.settle();
    world.publish(publisher, 2, 1, "a", "x");
    world.settle();
    // Of two that are the same, the later one replaces the earlier.
    assert_eq!(world.received(peer), ["SUBACK 7 [02, 00, 8f, 01]", "b=b retain", "a=x q1 #1"]);
}
