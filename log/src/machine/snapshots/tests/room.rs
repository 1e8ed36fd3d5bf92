//! Disks that have no room for a snapshot.

use super::*;
use crate::cluster::{ClusterId, MemberChange, Role};
use crate::snapshots::CutWriter;

/// Node 1 founds the cluster, whose log votes already.
fn founding() -> MemberChange {
    let (cluster, generation, node, key) = (ClusterId([1; 16]), 1, 1, [0; 32]);
    let (address, mqtt) = ("one:1".to_owned(), Vec::new());
    MemberChange::Found { cluster, generation, node, address, mqtt, key }
}

fn joining(node: u64) -> MemberChange {
    let (address, mqtt) = (format!("node:{node}"), Vec::new());
    let (role, key, token) = (Role::Log, [0; 32], node.to_le_bytes());
    let (expires_s, at_s) = (1, 0);
    MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s }
}

impl World {
    /// Leaves the node so many bytes beyond what its log keeps for itself.
    fn leave(&self, node: u64, bytes: u64) {
        let disk = &self.nodes[at(node)].disk;
        let free = config().reserve_publish_bytes() + bytes;
        disk.set_capacity(Some(disk.used() + free));
    }

    /// The last node comes, and the first one wants a cut, of which something is written.
    fn begin_cut(&mut self) -> CutWriter {
        self.come();
        loop {
            self.carry();
            for node in &mut self.nodes {
                node.turn();
            }
            if let Some(index) = self.nodes[0].log.cut_wanted() {
                let mut writer = self.nodes[0].log.begin_cut(index, 1).expect("room");
                writer.write_all(&vec![7; 1 << 20]).expect("room");
                return writer;
            }
            self.nodes.iter_mut().for_each(|node| node.project(false));
        }
    }

    fn turn_for(&mut self, time: Duration) {
        let end = self.nodes[0].now + time;
        while self.nodes[0].now < end {
            self.carry();
            self.nodes.iter_mut().for_each(Node::turn);
        }
    }
}

#[test]
fn a_full_disk_takes_no_snapshot() {
    let mut world = World::new();
    let free = config().reserve_publish_bytes() + (1 << 20);
    let used = world.nodes[2].disk.used();
    world.nodes[2].disk.set_capacity(Some(used + free));
    world.come();
    world.run(20);
    assert!(world.chunks.is_empty() && world.nodes[2].names().is_empty());
    world.nodes[2].disk.set_capacity(None);
    world.run_until_arrived(300);
}

#[test]
fn a_snapshot_is_not_taken_where_there_is_no_room_for_what_is_made_of_it() {
    let mut world = World::new();
    world.leave(3, 2 * VIEWS as u64);
    world.come();
    world.run(20);
    assert!(world.chunks.is_empty() && world.nodes[2].names().is_empty());
    world.leave(3, 5 * VIEWS as u64 / 2);
    world.run_until_arrived(300);
}

#[test]
fn no_cut_is_begun_where_there_is_no_room_for_it() {
    let mut world = World::new();
    world.leave(1, VIEWS as u64 - 1);
    world.come();
    world.run(20);
    assert_eq!((world.nodes[0].counts().made, world.nodes[0].names()), (0, Vec::new()));
    let refusal = world.nodes[0].refusals.first().expect("it was refused");
    assert!(refusal.contains("bytes, and the disk has room for"), "{refusal}");
    // The next one comes after a second, and after two, and after four.
    assert!((1..=2).contains(&world.nodes[0].refusals.len()));
    world.nodes[0].disk.set_capacity(None);
    world.run_until_arrived(300);
}

#[test]
fn a_cut_that_has_more_than_was_said_takes_no_more_room_than_there_is() {
    let mut world = World::new();
    world.nodes[0].claimed = 1;
    world.leave(1, VIEWS as u64 / 2);
    world.come();
    world.run(20);
    assert_eq!((world.nodes[0].counts().made, world.nodes[0].names()), (0, Vec::new()));
    let refusal = world.nodes[0].refusals.first().expect("it failed");
    assert!(refusal.contains("it has more than"), "{refusal}");
    world.nodes[0].disk.set_capacity(None);
    world.run_until_arrived(300);
}

#[test]
fn the_last_cut_says_how_large_the_next_one_is() {
    let mut world = World::new();
    world.come();
    world.run_until_arrived(100);
    // The file of the store is as large as it ever was.
    world.nodes[0].claimed = 100 * VIEWS as u64;
    world.leave(1, 2 * VIEWS as u64);
    world.run(5);
    let now = world.nodes[0].now;
    world.nodes[0].append();
    world.run(1);
    world.nodes[0].machine.begin_cut(now);
    world.run(5);
    assert_eq!((world.nodes[0].counts().made, world.nodes[0].refusals.len()), (2, 0));
}

#[test]
fn a_cut_is_given_up_when_the_log_needs_the_room() {
    let mut world = World::new();
    let mut writer = world.begin_cut();
    assert_eq!(world.nodes[0].names().len(), 1);
    let disk = world.nodes[0].disk.clone();
    disk.set_capacity(Some(disk.used() + config().reserve_publish_bytes() / 2));
    world.turn_for(Duration::from_millis(500));
    assert_eq!((world.nodes[0].counts().failed, world.nodes[0].names()), (1, Vec::new()));
    writer.write_all(&[7]).expect_err("the log has given it up");
    drop(writer);
    disk.set_capacity(None);
    world.run_until_arrived(300);
}

#[test]
fn nothing_is_written_into_a_cut_that_was_given_up() {
    let mut world = World::new();
    let mut writer = world.begin_cut();
    world.turn_for(Duration::from_secs(59));
    writer.write_all(&vec![7; 1 << 20]).expect("it goes on");
    world.turn_for(Duration::from_secs(59));
    writer.write_all(&[7]).expect("it goes on");
    world.turn_for(Duration::from_secs(61));
    writer.write_all(&[7]).expect_err("the log has given it up");
    assert!(writer.finish(7).is_err());
    assert_eq!((world.nodes[0].counts().failed, world.nodes[0].names()), (1, Vec::new()));
    world.run_until_arrived(300);
}

#[test]
fn the_projections_refuse_a_cut_that_they_cannot_make() {
    let mut world = World::new();
    world.come();
    while world.nodes[0].log.cut_wanted().is_none() {
        world.carry();
        for node in &mut world.nodes {
            node.turn();
            if node.log.cut_wanted().is_none() {
                node.project(false);
            }
        }
    }
    let index = world.nodes[0].log.cut_wanted().expect("wanted");
    world.nodes[0].log.refuse_cut(index + 1, "another one");
    world.turn_for(STEP);
    assert_eq!(world.nodes[0].counts().failed, 0);
    // No file is made for that, which may not be possible.
    world.nodes[0].files.set_fails_after(Some(0));
    world.nodes[0].log.refuse_cut(index, "the views are beyond");
    world.turn_for(STEP);
    assert_eq!(world.nodes[0].counts().failed, 1);
    world.nodes[0].files.set_fails_after(None);
    world.run_until_arrived(300);
}

/// What is offered is of before a second one was let in, and nobody takes it.
#[test]
fn another_snapshot_is_made_while_one_is_refused() {
    let mut world = World::new();
    world.leave(3, 2 * VIEWS as u64);
    world.come();
    world.run(20);
    assert!(world.chunks.is_empty(), "the disk of its receiver is full");
    for change in [founding(), joining(4)] {
        assert!(world.nodes[0].machine.propose_change(&change));
        world.run(2);
    }
    world.nodes[0].connect(4);
    world.run(10);
    assert_eq!(world.nodes[0].counts().made, 1, "its receiver may take it yet");
    world.run(40);
    assert_eq!((world.nodes[0].counts().made, world.nodes[0].counts().failed), (2, 0));
    let sent = world.nodes[0].machine.snapshots_running();
    assert!(sent.iter().any(|running| running.step == SnapshotStep::Sent { to: 4 }), "{sent:?}");
    world.nodes[2].disk.set_capacity(None);
    world.run_until_arrived(300);
}
