//! What is refused, and what is asked again.

use super::*;
use crate::cluster::{LEAVING, PeerInput};
use crate::commanding::Commanded;
use crate::machine::leaving::tests::World;
use crate::machine::testing::hello;

impl World {
    fn command(&mut self, command: Command) -> Commanded {
        let commanded = self.log.command(command);
        self.turn();
        commanded
    }

    fn commands(&mut self) -> Vec<(u64, u64, Command)> {
        let said = std::mem::take(&mut self.said.frames);
        let commands = said.into_iter().filter_map(|(to, frame)| match frame {
            Frame::Command { id, command } => Some((to, id, command)),
            _ => None,
        });
        commands.collect()
    }

    fn answers(&mut self) -> Vec<(u64, Answer)> {
        let said = std::mem::take(&mut self.said.frames);
        let answers = said.into_iter().filter_map(|(_, frame)| match frame {
            Frame::Answer { id, answer } => Some((id, answer)),
            _ => None,
        });
        answers.collect()
    }
}

fn text(commanded: &Commanded) -> String {
    let answer = commanded.answer();
    assert!(matches!(answer, Some(Answer::Refused { .. })), "{answer:?}");
    match answer {
        Some(Answer::Refused { text }) => text,
        _ => String::new(),
    }
}

/// Of three, one is gone: to take out another one leaves two votes of which one is there.
#[test]
fn what_would_end_the_quorum_for_good_is_refused() {
    let mut world = World::of_three();
    world.machine.receive(PeerInput::Disconnected { peer: 3 });
    world.turn();
    for command in [Command::Remove { node: 2 }, Command::Demote { node: 2 }] {
        let commanded = world.command(command);
        assert!(text(&commanded).starts_with("of the 2 voters then 1 could be reached"));
    }
    let last = world.machine.replica.last_index();
    let commanded = world.command(Command::Remove { node: 3 });
    assert_eq!(commanded.answer(), None, "it is begun: the two that are there go on");
    assert!(world.machine.replica.last_index() > last);
}

#[test]
fn a_vote_goes_only_to_whom_is_reached_and_has_caught_up() {
    let mut world = World::new();
    world.machine.receive(PeerInput::Disconnected { peer: 3 });
    world.turn();
    let commanded = world.command(Command::Promote { node: 3 });
    assert_eq!(text(&commanded), "node 3 cannot be reached");
    let last = world.machine.replica.last_index();
    let commanded = world.command(Command::Promote { node: 2 });
    assert_eq!(commanded.answer(), None);
    assert_eq!(world.machine.replica.last_index(), last, "nobody knows yet what it has");
    // A log of before it was let in, or one that it gives up as soon as it hears that it was.
    for (applied, gate) in [(1, 0), (2, LEAVING)] {
        (world.applied, world.gate) = (applied, gate);
        world.turn();
        world.acknowledge(last);
        world.turn();
        assert_eq!(world.machine.replica.last_index(), last, "{applied}");
    }
    (world.applied, world.gate) = (2, 0);
    (0..2).for_each(|_| world.turn());
    assert!(world.machine.replica.last_index() > last);
}

/// The answer of a leader, or the command, is lost with the connection.
#[test]
fn a_command_is_passed_on_again_when_the_connection_was_another() {
    let mut world = World::of_three();
    // A drain is done by the node itself, as everything else by a leader.
    let commanded = world.command(Command::Drain { node: 2 });
    let first = world.commands();
    assert!(matches!(first[..], [(2, _, Command::Drain { node: 2 })]));
    world.turn();
    assert_eq!(world.commands(), [], "once is enough");
    world.machine.receive(PeerInput::Disconnected { peer: 2 });
    world.machine.receive(PeerInput::Connected { peer: 2, hello: hello(2) });
    world.turn();
    assert_eq!(world.commands(), first);
    let answer = Frame::Answer { id: first[0].1, answer: Answer::Done };
    world.machine.receive(PeerInput::Frame { from: 2, frame: answer });
    world.turn();
    assert_eq!(commanded.answer(), Some(Answer::Done));
}

#[test]
fn an_answer_waits_for_room_on_its_lane() {
    let mut world = World::of_three();
    world.said.is_full = true;
    let frame = Frame::Command { id: 9, command: Command::Undrain { node: 1 } };
    world.machine.receive(PeerInput::Frame { from: 2, frame });
    (0..5).for_each(|_| world.turn());
    assert_eq!(world.answers(), []);
    world.said.is_full = false;
    world.turn();
    assert_eq!(world.answers(), [(9, Answer::Done)]);
    world.turn();
    assert_eq!(world.answers(), []);
}

/// Other nodes know a command by its number only.
#[test]
fn another_start_of_the_node_has_other_numbers() {
    let first = |start| {
        let mut commands = Commands::new(start);
        commands.add(Command::Remove { node: 1 }, Origin::Nobody, Duration::ZERO);
        *commands.pending.keys().next().expect("one")
    };
    let start = 1_700_000_000_000;
    assert!(first(start + 1) >= first(start) + (1 << START_SHIFT));
    assert_eq!(first(u64::MAX) & OWN_ID, 0);
}
