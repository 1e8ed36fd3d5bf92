//! The log grows while a node is sent a snapshot, and takes what follows it.

use super::*;

/// Entries that are kept; half as many more are for who is a little behind.
const HOT: u64 = 20;

fn world() -> World {
    World::with(&Config { hot_entries_max: HOT, ..config() })
}

impl World {
    fn load(&mut self, entries: usize) {
        (0..entries).for_each(|_| self.nodes[0].append());
        self.step();
    }

    /// Entries that the leader has, and the last node has not.
    fn lack(&self) -> u64 {
        let last = self.nodes[0].machine.replica.last_index();
        last - self.nodes[2].machine.replica.last_index()
    }

    fn first(&self) -> Index {
        self.nodes[0].log.status().first_index
    }

    /// Until the last node stands at the snapshot, and knows nothing that follows.
    fn run_until_jumped(&mut self) {
        for _ in 0..500 {
            self.load(4);
            self.is_starved = !self.chunks.is_empty();
            if !self.nodes[2].jumps.is_empty() {
                break;
            }
        }
        let counts = self.nodes.each_ref().map(Node::counts);
        let chunks = self.chunks.len();
        assert!(!self.nodes[2].jumps.is_empty(), "it did not jump: {chunks} chunks, {counts:?}");
    }
}

#[test]
fn one_snapshot_is_made_for_who_asks_again_while_it_is() {
    let mut world = world();
    world.come();
    world.run_until_jumped();
    assert_eq!((world.nodes[0].counts().made, world.nodes[0].counts().failed), (1, 0));
}

#[test]
fn who_stands_at_a_snapshot_gets_what_follows_it_under_load() {
    let mut world = world();
    world.come();
    world.run_until_jumped();
    let jumped = world.nodes[2].jumps[0];
    let behind = world.lack();
    assert!(behind > 2 * HOT, "more than is kept for those who are a little behind: {behind}");
    // The leader hears of it, and looks whether something can be dropped.
    for _ in 0..100 {
        world.step();
    }
    assert!(world.first() <= jumped + 1, "{} is dropped, {jumped} was sent", world.first());
    world.is_starved = false;
    for _ in 0..500 {
        world.load(1);
    }
    assert!(world.lack() < HOT, "{}", world.lack());
    assert_eq!((world.nodes[0].counts().made, world.nodes[2].jumps.len()), (1, 1));
    // Who has caught up is waited for no longer than any other.
    assert!(world.first() > jumped + 100, "{}", world.first());
}

#[test]
fn who_takes_what_follows_slower_than_it_comes_is_not_waited_for() {
    let mut world = world();
    world.come();
    world.run_until_jumped();
    let jumped = world.nodes[2].jumps[0];
    let behind = usize::try_from(world.lack()).expect("few");
    for _ in 0..100 {
        world.step();
    }
    assert!(world.first() <= jumped + 1);
    // Half as much as the log may have is what it may grow by meanwhile.
    for _ in 0..HOT {
        world.load(1);
    }
    world.run(20);
    assert!(world.first() > jumped + 1, "{} is kept, {behind} entries behind", world.first());
    world.is_starved = false;
    world.run(100);
    assert_eq!((world.lack(), world.nodes[2].jumps.len()), (0, 2), "by another snapshot");
}

#[test]
fn who_takes_nothing_of_what_follows_is_waited_for_ten_minutes() {
    let mut world = world();
    world.come();
    world.run_until_jumped();
    let jumped = world.nodes[2].jumps[0];
    world.run(5900);
    assert!(world.first() <= jumped + 1);
    world.run(200);
    assert!(world.first() > jumped + 1);
}
