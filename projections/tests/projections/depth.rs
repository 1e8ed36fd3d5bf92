//! What walks over topics level by level needs little of a thread's stack.

use std::thread;

use crate::support::{EPOCH, World, retained_message};
use ledgermq_core::offset::Timestamp;

/// Ten times the levels that a node takes at most (`gateway.limits.topic_levels`).
const LEVELS: usize = 10_000;
/// An eighth of what a thread has.
const STACK_BYTES: usize = 256 << 10;

#[test]
fn the_deepest_topics_and_filters_take_little_of_a_stack() {
    let walk = || {
        let topic = ["a"; LEVELS].join("/");
        let mut world = World::default();
        let mut batch = world.history.builder();
        batch.publish(None, None, &retained_message(&topic, b"x"));
        world.commit(&mut batch);
        let wild = ["+"; LEVELS].join("/");
        world.fold(&format!("open c expiry=9; open d expiry=9\n sub c {topic}\n sub d {wild}"));
        let below = format!("{}/#", ["+"; LEVELS - 1].join("/"));
        for filter in [topic, wild, below] {
            let mut found = 0;
            world.views.retained().for_each_match(&filter, &mut |_| found += 1);
            assert_eq!(found, 1);
            let rate = world.views.topics().rate(&filter, Timestamp::from_secs(EPOCH));
            assert_eq!(rate.messages, 1);
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(walk).unwrap().join().unwrap();
}
