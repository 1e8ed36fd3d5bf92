//! Retained messages.

use std::collections::BTreeMap;

use ledgermq_core::topic::TopicFilter;
use proptest::prelude::*;

use crate::support::{World, check, trim};

/// `[MQTT-3.3.1-5]` `[MQTT-3.3.1-7]` `[MQTT311-3.3.1-7]` `[MQTT311-3.3.1-11]`
#[test]
fn a_retained_message_is_replaced_and_removed() {
    check("pub p a 1 retain\n pub p b 1 retain\n pub p a 2 retain", "a = 2\nb = 1");
    let world = check("pub p a 1 retain\n pub p a empty retain\n pub p x empty retain", "");
    assert_eq!(world.views.retained().bytes(), 0);
}

#[test]
fn an_expired_message_is_not_handed_out_and_goes_with_a_later_batch() {
    let mut world = check("pub p a 1 retain expiry=10\n time 9", "a = 1");
    world.fold("open c\n time 10\n sub c a");
    assert!(world.notices().ends_with("retained 2:0 at 3:0"));
    assert_eq!(world.views.retained().len(), 0);
}

#[test]
fn a_replacement_outlives_the_expiry_of_what_it_replaced() {
    check("pub p a 1 retain expiry=10\n pub p a 2 retain\n time 10\n pub p x 1", "a = 2");
}

#[test]
fn a_subscription_is_answered_in_the_order_of_publication_with_the_lower_qos() {
    let mut world = World::default();
    world.fold(
        "pub p a/2 x qos=2 retain
         pub p a/1 x retain; pub p $a/1 x retain
         pub p a/3 x qos=1 retain
         pub p b x retain
         open c
         sub c a/# qos=1 id=5",
    );
    let expected = "
        ready c 5:0 present=false subs=0 inbound=0 outstanding=0 upto=0:0 owed=0
        retained 5:0 at 6:0 1:a/2/1[5] 2:a/1/0[5] 3:a/3/1[5]";
    assert_eq!(world.notices(), trim(expected));
}

#[test]
fn retain_handling_and_no_local_are_honoured() {
    let mut world = World::default();
    world.fold("open c\n pub c a 1 retain\n pub p b 1 retain\n sub c # nl rh=1");
    assert!(world.notices().ends_with("retained 1:0 at 4:0 1:b/0[]"));
    world.fold("sub c # rh=1\n sub c b rh=2");
    assert!(world.notices().ends_with("retained 1:0 at 5:0\nretained 1:0 at 6:0"));
    world.fold("sub c #");
    assert!(world.notices().ends_with("retained 1:0 at 7:0 1:a/0[] 2:b/0[]"));
}

#[test]
fn answers_above_qos_0_are_owed_to_a_persistent_session() {
    check(
        "pub p a x qos=1 retain; pub p b y qos=2 retain; pub p c z retain
         open c expiry=9
         sub c # qos=2
         pub p a n qos=1 retain
         pub p b empty retain
         progress c 3:0.1",
        "c 2:0 online, # qos 2, upto 3:0.1, owed 3:0.2/2r=y 4:0/1 (4 bytes)
         a = n
         c = z",
    );
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", "", "$s", "a\u{1}", "!"])
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has a character", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 2 => Just("+")];
    (prop::collection::vec(level, 0..5), prop::bool::ANY)
        .prop_map(|(mut levels, hash)| {
            if hash || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter has a character", |filter| !filter.is_empty())
}

proptest! {
    #[test]
    fn the_tree_finds_what_a_walk_over_all_finds(
        topics in prop::collection::vec((topic(), prop::bool::weighted(0.2)), 0..40),
        filters in prop::collection::vec(filter(), 1..10),
    ) {
        let mut world = World::default();
        let mut naive = BTreeMap::new();
        for (topic, removes) in topics {
            let mut batch = world.history.builder();
            let payload: &[u8] = if removes { &[] } else { b"x" };
            batch.publish(None, None, &crate::support::retained_message(&topic, payload));
            world.commit(&mut batch);
            if removes { naive.remove(&topic); } else { naive.insert(topic, ()); }
        }
        for filter in filters {
            let mut found = Vec::new();
            world.views.retained().for_each_match(&filter, &mut |held| {
                found.push(held.topic.to_string());
            });
            found.sort();
            let filter = TopicFilter::new(&filter).expect("a filter");
            let expected: Vec<String> =
                naive.keys().filter(|topic| filter.matches(topic)).cloned().collect();
            prop_assert_eq!(&found, &expected, "{}", filter);
        }
    }
}

/// A thread of a node has 2 MiB of stack.
#[test]
fn tens_of_thousands_of_levels_are_no_danger() {
    let mut world = World::default();
    let topic = "/".repeat(65_534);
    let mut batch = world.history.builder();
    batch.publish(None, None, &crate::support::retained_message(&topic, b"x"));
    world.commit(&mut batch);
    let wild = format!("{}#", "+/".repeat(32_767));
    for (filter, count) in [(&*topic, 1), (&*wild, 1), (&wild[..65_533], 0)] {
        let mut found = 0;
        world.views.retained().for_each_match(filter, &mut |_| found += 1);
        assert_eq!(found, count);
        let rate = world.views.topics().rate(filter, ledgermq_core::offset::Timestamp::default());
        assert_eq!(rate.messages, count);
    }
}

/// `[MQTT-3.3.1-8]` `[MQTT311-3.3.1-12]`
#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    check("pub p a 1 retain\n pub p a 2\n pub p a empty\n pub p b 3", "a = 1");
}

/// `[MQTT311-3.1.2-7]`
#[test]
fn a_retained_message_outlives_the_session_of_its_publisher() {
    check("open c\n pub c a 1 retain\n close c", "a = 1");
    let mut world =
        check("open c expiry=5\n pub c a 1 retain\n close c\n open c clean", "c 4:0 online\na = 1");
    assert_eq!(world.due(1_000), "");
}
