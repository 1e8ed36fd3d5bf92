//! The topic tree and its rates.

use std::collections::BTreeMap;

use ledgermq_core::offset::Timestamp;
use ledgermq_core::topic::TopicFilter;
use ledgermq_projections::views::topics::{LEVEL_BYTES_MAX, NODES_MAX, Rate};
use proptest::prelude::*;

use crate::support::{EPOCH, World};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(EPOCH + seconds)
}

fn rate(world: &World, filter: &str, seconds: u64) -> (u64, u64) {
    let Rate { messages, bytes } = world.views.topics().rate(filter, at(seconds));
    (messages, bytes)
}

#[test]
fn a_filter_has_the_rate_of_all_topics_that_it_matches() {
    let mut world = World::default();
    world.fold("pub p a/b 1; pub p a/b 22; pub p a/c 1; pub p a 1; pub p $s/x 1; pub p /a 1");
    assert_eq!(rate(&world, "a/b", 0), (2, 9));
    assert_eq!(rate(&world, "a/+", 0), (3, 13));
    assert_eq!(rate(&world, "a/#", 0), (4, 15));
    assert_eq!(rate(&world, "#", 0), (5, 18));
    assert_eq!(rate(&world, "+/a", 0), (1, 3));
    assert_eq!(rate(&world, "$s/#", 0), (1, 5));
    assert_eq!(rate(&world, "+/x", 0), (0, 0));
    assert_eq!(rate(&world, "nowhere", 0), (0, 0));
}

#[test]
fn a_rate_slides_out_of_its_window() {
    let mut world = World::default();
    world.fold("time 0\n pub p a 1; pub p a 2\n time 10\n pub p a 3");
    assert_eq!(rate(&world, "a", 10), (3, 6));
    assert_eq!(rate(&world, "a", 15), (2, 4));
    assert_eq!(rate(&world, "a", 20), (1, 2));
    assert_eq!(rate(&world, "a", 25), (0, 1));
    assert_eq!(rate(&world, "a", 30), (0, 0));
    world.fold("time 100\n pub p a 3");
    assert_eq!(rate(&world, "a", 100), (1, 2));
}

#[test]
fn children_are_listed_in_order_from_a_place_on() {
    let mut world = World::default();
    world.fold("pub p b 1; pub p a/x 1; pub p a 1; pub p $s 1; pub p a/y 1");
    let list = |parent: Option<&str>, after: Option<&str>| {
        let children = world.views.topics().children(parent, after, at(0));
        let text = children.map(|child| {
            let mark = if child.has_children { "/" } else { "" };
            format!("{}{mark} {} {}", child.level, child.own.messages, child.subtree.messages)
        });
        text.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(list(None, None), "a/ 1 3, b 1 1, $s 1 1");
    assert_eq!(list(Some("a"), None), "x 1 1, y 1 1");
    assert_eq!(list(Some("a"), Some("x")), "y 1 1");
    assert_eq!(list(Some("b"), None), "");
}

#[test]
fn a_full_tree_counts_above_and_makes_room_for_new_topics_after_an_hour() {
    let mut world = World::default();
    let fill = u32::try_from(NODES_MAX).expect("small") - 2;
    let mut batch = world.history.builder();
    for number in 0..fill {
        let topic = format!("t{number}");
        batch.publish(None, None, &crate::support::retained_message(&topic, b""));
        if batch.len() == 10_000 {
            world.commit(&mut batch);
        }
    }
    world.commit(&mut batch);
    assert_eq!(world.views.topics().len(), NODES_MAX);
    world.fold("pub p new 1");
    assert_eq!(rate(&world, "new", 0).0, 0);
    assert_eq!(rate(&world, "#", 0).0, u64::from(fill) + 1);
    world.fold("time 5000\n pub p new 1\n pub p t7 1");
    assert_eq!(rate(&world, "new", 5_000).0, 1);
    assert_eq!(world.views.topics().len(), 2 + 2);
    let before = world.views.checksum();
    assert_eq!(before, world.views.checksum());
}

#[test]
fn a_tree_is_full_by_the_bytes_of_its_levels_too_and_counts_above_then() {
    let mut world = World::default();
    let long = "x".repeat(60_000);
    let messages = 2 * LEVEL_BYTES_MAX / long.len();
    for number in 0..messages {
        world.fold(&format!("pub p {number}{long} 1"));
    }
    let nodes = world.views.topics().len();
    assert!(nodes - 2 <= LEVEL_BYTES_MAX / long.len(), "{nodes}");
    assert_eq!(rate(&world, "#", 0).0, messages as u64);
    assert_eq!(rate(&world, &format!("0{long}"), 0).0, 1);
    assert_eq!(rate(&world, &format!("new{long}"), 0).0, 0);
    world.fold("pub p short 1");
    assert_eq!(rate(&world, "short", 0).0, 1, "there is room for a little");
    world.fold(&format!("time 5000\n pub p new{long} 1"));
    assert_eq!(rate(&world, &format!("new{long}"), 5_000).0, 1);
    assert_eq!(world.views.topics().len(), 2 + 1);
}

proptest! {
    #[test]
    fn subtree_sums_are_the_sums_of_their_topics(
        messages in prop::collection::vec(("(a|b|\\$c)(/(a|b)){0,3}", 0..40_u64), 1..60),
        filters in prop::collection::vec("(a|b|\\+|\\$c)(/(a|b|\\+)){0,3}(/#)?|#", 1..8),
    ) {
        let mut world = World::default();
        let mut now = 0;
        let mut all = BTreeMap::<String, Vec<u64>>::new();
        for (topic, passes) in messages {
            now += passes / 10;
            world.fold(&format!("time {now}\n pub p {topic} m"));
            all.entry(topic).or_default().push(now);
        }
        // At the end of a bucket the window is that bucket.
        let end = (EPOCH + now) / 10 * 10 + 10 - EPOCH;
        for filter in filters {
            let of = TopicFilter::new(&filter).expect("a filter");
            let matching = all.iter().filter(|(topic, _)| of.matches(topic));
            let times = matching.flat_map(|(_, times)| times);
            let expected = times.filter(|time| **time + 10 >= end).count() as u64;
            prop_assert_eq!(rate(&world, &filter, end).0, expected, "{}", filter);
        }
    }
}
