//! A log's part of a snapshot that is too large to be read in one turn.

use ledgermq_core::event::{Event, SessionOpened};
use ledgermq_core::packet::ProtocolVersion;

use super::*;

/// Sessions whose state has some MiB.
const SESSIONS: u32 = 40_000;

impl World {
    fn with_sessions() -> Self {
        let mut world = World::new();
        for first in (0..SESSIONS).step_by(2_000) {
            let mut events = world.nodes[0].log.builder();
            for at in first..first + 2_000 {
                events.push(None, None, &opened(at));
            }
            drop(world.nodes[0].log.submit(Class::Open, events).expect("room"));
            world.run(2);
        }
        world.run(30);
        world
    }

    /// The last node has all chunks, and knows it.
    fn run_until_complete(&mut self) {
        self.come();
        let is_complete = |world: &World| {
            let told = world.nodes[2].out.frames.iter();
            told.into_iter().any(|(_, frame)| is_importing(frame))
        };
        for _ in 0..1_000 {
            self.step();
            if is_complete(self) {
                break;
            }
        }
        assert!(is_complete(self), "{} chunks", self.chunks.len());
    }
}

fn is_importing(frame: &Frame) -> bool {
    matches!(frame, Frame::SnapshotAck(ack) if ack.state == SnapshotState::Importing)
}

fn opened(at: u32) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: (*format!("a client with a name of some length, so that it is {at:06}")).into(),
        username: None,
        is_proven: false,
        node: 1,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: 3600,
        keep_alive: 0,
        peer: String::new(),
        will: None,
    }))
}

#[test]
fn a_large_state_is_read_in_many_turns() {
    let mut world = World::with_sessions();
    world.imports = false;
    world.run_until_complete();
    let mut turns = 1;
    while world.nodes[2].log.incoming().is_none() {
        assert!(world.nodes[2].machine.has_work(world.nodes[2].now), "it goes on at once");
        world.step();
        turns += 1;
    }
    assert!((3..10).contains(&turns), "{turns} turns");
    assert!(!world.nodes[2].machine.has_work(world.nodes[2].now));
    world.imports = true;
    world.run_until_arrived(100);
    let same = world.nodes.each_ref().map(|node| node.machine.admission_checksum());
    assert!(same[0] == same[2] && same[0] == same[1]);
}

#[test]
fn what_is_damaged_on_the_way_is_found_while_it_is_read_and_comes_again() {
    let mut world = World::with_sessions();
    world.imports = false;
    world.run_until_complete();
    assert!(world.nodes[2].log.incoming().is_none());
    let name = world.nodes[2].names()[0].clone();
    world.nodes[2].files.flip(&name, 9 * (256 << 10));
    world.run(1);
    assert_eq!((world.nodes[2].counts().failed, world.nodes[2].names()), (1, Vec::new()));
    world.imports = true;
    world.run_until_arrived(300);
}
