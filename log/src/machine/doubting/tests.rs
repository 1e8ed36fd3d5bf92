//! Who is told what before it takes part.

use ledgermq_core::event::Event;
use raft::eraftpb::Entry;

use super::*;
use crate::admission::of_a_later_version;
use crate::class::Class;
use crate::cluster::{ClusterId, Hello, JoinAnswer, Local, MemberChange, PeerInput, Role};
use crate::envelope;
use crate::log::Log;
use crate::machine::testing::{START, beginning, hello};
use crate::store::Configuration;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};

/// What leaves.
#[derive(Default)]
struct Sink(Vec<(u64, Frame)>);

impl Peers for Sink {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        self.0.push((to, frame.clone()));
        Sent::Taken
    }

    fn update(&mut self, _local: &Local) {}

    fn answer(&mut self, _id: u64, _answer: JoinAnswer) {}
}

struct World {
    log: Log,
    machine: LogMachine<SimulatedStore>,
    now: Now,
    sent: Sink,
}

impl World {
    /// Node 1 of three voters, as it starts again.
    fn new() -> Self {
        Self::of(Configuration::of_voters(&[1, 2, 3]))
    }

    fn of(configuration: Configuration) -> Self {
        let disk = SimulatedDisk::new(1, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let configuration = Some(configuration);
        store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
        let (log, machine) =
            LogMachine::recover(store, beginning(1, &disk), START).expect("an empty log");
        Self { log, machine, now: START, sent: Sink::default() }
    }

    fn turn(&mut self, millis: u64) -> Result<(), TurnError> {
        self.now.monotonic += Duration::from_millis(millis);
        self.machine.turn(self.now, &mut self.sent).map(drop)
    }

    /// `peer` greets, and says what it saw of the process that began as `start`.
    fn hear(&mut self, peer: u64, acked: Index, greeted: u64) {
        let hello = Hello { cluster: ClusterId([1; 16]), start: 40 + peer, ..hello(peer) };
        self.machine.receive(PeerInput::Connected { peer, hello });
        let pulse = Pulse { term: 4, acked, greeted, ..Pulse::default() };
        self.machine.receive(PeerInput::Frame { from: peer, frame: Frame::Pulse(Box::new(pulse)) });
    }

    /// `from` leads in `term`, and sends its log behind `before`, an entry of term 5: the terms of the
    /// entries.
    fn append(&mut self, from: u64, term: u64, before: Index, terms: &[u64], commit: Index) {
        let mut message = Message::new();
        (message.from, message.to, message.term, message.commit) = (from, 1, term, commit);
        (message.index, message.log_term) = (before, if before == 0 { 0 } else { 5 });
        message.set_msg_type(MessageType::MsgAppend);
        let entries = terms.iter().zip(before + 1..).map(|(term, index)| {
            let mut entry = Entry::new();
            (entry.index, entry.term) = (index, *term);
            entry
        });
        message.entries = entries.collect::<Vec<_>>().into();
        self.machine.receive(PeerInput::Frame { from, frame: Frame::raft(message) });
    }

    /// One of these voters, which follows node 2 in term 5 and has the entry 1.
    fn follower(voters: &[u64]) -> Self {
        let mut world = Self::of(Configuration::of_voters(voters));
        let start = world.log.start();
        voters[1..].iter().for_each(|peer| world.hear(*peer, 0, start));
        world.turn(1).expect("a good disk");
        world.append(2, 5, 0, &[5], 1);
        (0..2).for_each(|_| world.turn(1).expect("a good disk"));
        assert_eq!(world.log.status().leader, 2);
        world.machine.doubting.told = Arc::new(members_of(voters));
        world
    }

    /// `peer` says whom it follows; nobody if it is in doubt of its own log.
    fn follow(&mut self, peer: u64, leader: u64) {
        let pulse = Pulse { term: 5, leader, ..Pulse::default() };
        self.machine.receive(PeerInput::Frame { from: peer, frame: Frame::Pulse(Box::new(pulse)) });
    }

    /// Node 2 answers what raft asked.
    fn answer(&mut self, kind: MessageType, term: u64, index: Index) {
        let mut message = Message::new();
        (message.from, message.to, message.term, message.index) = (2, 1, term, index);
        message.set_msg_type(kind);
        self.machine.receive(PeerInput::Frame { from: 2, frame: Frame::raft(message) });
    }

    /// What this node has asked node 2 for itself.
    fn asked(&self) -> Option<(u64, Command)> {
        self.sent.0.iter().find_map(|(to, frame)| match frame {
            Frame::Command { id, command } if *to == 2 => Some((*id, command.clone())),
            _ => None,
        })
    }

    fn ask_for_vote(&mut self, term: u64) -> usize {
        self.ask_for_vote_with(term, (0, 0))
    }

    /// Node 2 asks, whose log ends with an entry of that index and term. Answers how often it gets it.
    fn ask_for_vote_with(&mut self, term: u64, last: (Index, u64)) -> usize {
        let mut message = Message::new();
        (message.from, message.to, message.term) = (2, 1, term);
        (message.index, message.log_term) = last;
        message.set_msg_type(MessageType::MsgRequestVote);
        message.context = bytes::Bytes::from_static(b"CampaignTransfer");
        self.machine.receive(PeerInput::Frame { from: 2, frame: Frame::raft(message) });
        self.sent.0.clear();
        self.turn(1).expect("a good disk");
        let answers = self.sent.0.iter().filter(|(_, frame)| match frame {
            Frame::Raft { message, .. } => {
                message.get_msg_type() == MessageType::MsgRequestVoteResponse && !message.reject
            }
            _ => false,
        });
        answers.count()
    }
}

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

/// Founded by node 1.
fn members() -> Members {
    let mut members = Members::default();
    assert!(members.apply(1, &founding()));
    members
}

/// Founded by node 1, which let the others in.
fn members_of(voters: &[u64]) -> Members {
    let mut members = members();
    for node in &voters[1..] {
        assert!(members.apply(*node, &joining(*node)));
    }
    assert!(members.apply(10, &MemberChange::Promote { nodes: voters[1..].to_vec() }));
    members
}

/// Cluster seed 25728: it waited for ever, for the others speak of the number with which they were greeted.
#[test]
fn what_is_heard_counts_when_the_process_has_taken_another_number_since() {
    let mut world = World::new();
    let first = world.log.incarnation();
    world.turn(1).expect("a good disk");
    world.log.renew_incarnation();
    world.turn(1).expect("a good disk");
    assert!(world.log.incarnation() > first);
    for peer in [2, 3] {
        // Of an earlier process nothing counts.
        world.hear(peer, 0, first - 1);
    }
    world.turn(1).expect("a good disk");
    assert!(world.machine.is_in_doubt());
    for peer in [2, 3] {
        world.hear(peer, 0, first);
    }
    world.turn(1).expect("a good disk");
    assert!(!world.machine.is_in_doubt());
}

#[test]
fn who_is_reserved_neither_votes_nor_stands_for_election() {
    let mut world = World::new();
    for _ in 0..100 {
        world.turn(100).expect("a good disk");
    }
    assert_eq!(world.log.status().term, 0, "it stood for election");
    assert_eq!(world.ask_for_vote(9), 0);
    assert!(world.machine.is_in_doubt());
    let start = world.log.start();
    world.hear(2, 0, start - 1);
    world.turn(1).expect("a good disk");
    assert!(world.machine.is_in_doubt(), "that was for an earlier process");
    world.hear(2, 0, start);
    world.hear(3, 0, start);
    world.turn(1).expect("a good disk");
    assert!(!world.machine.is_in_doubt());
    assert_eq!(world.ask_for_vote(4), 0, "an earlier process may have given that vote");
    assert_eq!(world.ask_for_vote(9), 1);
}

/// Either of two logs that both hold what was acknowledged may be the wrong one: people are asked, and
/// nothing is given up.
#[test]
fn who_is_told_another_entry_than_the_committed_one_ends_and_keeps_its_log() {
    let mut world = World::new();
    let start = world.log.start();
    (2..=3).for_each(|peer| world.hear(peer, 0, start));
    world.append(2, 5, 0, &[5, 5, 5], 2);
    world.turn(1).expect("a good disk");
    world.turn(1).expect("what was reserved is sound now");
    world.append(2, 5, 0, &[5, 5, 5], 2);
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    assert_eq!(world.log.status().commit_index, 2);
    world.append(3, 6, 2, &[6], 3);
    (0..2).for_each(|_| world.turn(1).expect("the third was not committed"));
    assert_eq!(world.log.status().commit_index, 3);
    world.append(2, 7, 1, &[7], 2);
    let error = world.turn(1).expect_err("the second was");
    assert!(matches!(error, TurnError::Contradicted { index: 2, from: 2 }), "{error}");
    assert!(world.turn(1).is_err(), "it does not go on");
    assert_eq!(world.machine.replica.last_index(), 3);
}

/// A node whose log is gone is connected, too; of three voters it and the damaged one were a majority
/// whose logs are given up.
#[test]
fn a_damaged_log_serves_until_the_leader_has_taken_the_node_out() {
    let mut world = World::follower(&[1, 2, 3]);
    world.machine.found_damaged(1, world.now.monotonic);
    (2..=3).for_each(|peer| world.follow(peer, 2));
    world.turn(1).expect("one of them may have died just now");
    world.turn(2_000).expect("they are not heard any more");
    assert_eq!(world.asked(), None);
    world.follow(2, 2);
    world.follow(3, 0);
    world.turn(1).expect("it cannot be let out");
    assert_eq!(world.asked(), None);
    world.follow(3, 2);
    world.turn(1).expect("it has to ask first");
    let (id, command) = world.asked().expect("it asks");
    assert_eq!(command, Command::Readmit { node: 1, joined: 1 });
    world.append(2, 5, 1, &[5], 2);
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    assert_eq!(world.log.status().commit_index, 2, "it takes part");
    let refused = Answer::Refused { text: "no".into() };
    for (id, answer) in [(id, refused), (id + 1, Answer::Done)] {
        world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::Answer { id, answer } });
        world.turn(2_000).expect("that admission is not ended");
    }
    let answer = Answer::Done;
    world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::Answer { id, answer } });
    let error = world.turn(1).expect_err("it is out");
    assert_eq!(error.to_string(), "entry 1 of the log is damaged");
    assert!(world.machine.must_make_way(&error));
}

/// Every node would throw away what all of them hold.
#[test]
fn an_entry_of_a_later_version_ends_the_process_and_keeps_its_log() {
    let mut world = World::follower(&[1, 2, 3]);
    (2..=3).for_each(|peer| world.follow(peer, 2));
    let mut message = Message::new();
    (message.from, message.to, message.term, message.commit) = (2, 1, 5, 2);
    (message.index, message.log_term) = (1, 5);
    message.set_msg_type(MessageType::MsgAppend);
    let mut bytes = of_a_later_version();
    envelope::stamp(&mut bytes, START.wall);
    let entry = Entry { index: 2, term: 5, data: bytes.into(), ..Entry::default() };
    message.entries = vec![entry].into();
    world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::raft(message) });
    let error = (0..3).find_map(|_| world.turn(1).err()).expect("it cannot be folded");
    assert!(matches!(error, TurnError::NotUnderstood { index: 2, .. }), "{error}");
    assert!(!world.machine.must_make_way(&error));
}

#[test]
fn what_a_fold_finds_damaged_is_given_up_only_where_the_others_can_do_without() {
    let mut world = World::follower(&[1, 2, 3]);
    let error = TurnError::Damaged { index: 1, what: "a flip" };
    world.follow(2, 2);
    world.follow(3, 0);
    world.turn(1).expect("a good disk");
    assert!(!world.machine.must_make_way(&error), "3 is in doubt of its own log");
    world.follow(3, 2);
    world.turn(1).expect("a good disk");
    assert!(world.machine.must_make_way(&error));
    let mut world = World::follower(&[1, 2]);
    world.follow(2, 2);
    world.turn(1).expect("a good disk");
    assert!(!world.machine.must_make_way(&error), "2 is no majority of the two");
}

/// It acknowledges the change that takes its vote.
#[test]
fn of_two_voters_the_damaged_one_asks_to_be_taken_out() {
    let mut world = World::follower(&[1, 2]);
    world.machine.found_damaged(1, world.now.monotonic);
    world.turn(2_000).expect("it looks who is there");
    world.follow(2, 2);
    world.turn(1).expect("it has to ask first");
    assert!(world.asked().is_some());
}

#[test]
fn a_leader_whose_log_is_damaged_hands_over_first() {
    let mut world = World::follower(&[1, 2]);
    world.machine.replica.campaign().expect("a good disk");
    let answers = [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse];
    for kind in answers {
        world.turn(1).expect("a good disk");
        world.answer(kind, 6, 0);
    }
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    assert!(world.machine.replica.is_leader());
    world.answer(MessageType::MsgAppendResponse, 6, 2);
    world.turn(1).expect("a good disk");
    world.machine.found_damaged(1, world.now.monotonic);
    world.turn(2_000).expect("nobody is there who could lead");
    assert!(!world.machine.replica.is_transferring());
    world.follow(2, 1);
    world.turn(1).expect("it is still in");
    assert!(world.machine.replica.is_transferring());
    assert_eq!(world.asked(), None);
}

/// To when nobody else had a vote: nobody could tell it before they dial, and by then it leads alone.
#[test]
fn a_founder_that_was_rolled_back_takes_no_part_once_it_meets_the_others() {
    let mut world = World::of(Configuration::of_voters(&[1]));
    world.turn(1).expect("a good disk");
    assert_eq!(world.log.status().leader, 1);
    let last = world.machine.replica.last_index();
    let hello = Hello { members_index: 10, ..hello(2) };
    world.machine.receive(PeerInput::Connected { peer: 2, hello: hello.clone() });
    assert_eq!(world.ask_for_vote(9), 0, "its vote would be that of another log");
    assert_eq!(world.log.status().leader, 0);
    let mut events = world.log.builder();
    events.push(None, None, &Event::NodeStarted { node: 1, start: world.log.start() });
    let _ticket = world.log.submit(Class::Progress, events).expect("there is room");
    // Whoever told it may be gone for good: alone it would lead on by a log that is not that of others.
    world.machine.receive(PeerInput::Disconnected { peer: 2 });
    (0..100).for_each(|_| world.turn(100).expect("it waits to hear who is in"));
    assert_eq!((world.log.status().leader, world.machine.replica.last_index()), (0, last));
    world.machine.receive(PeerInput::Connected { peer: 2, hello });
    world.machine.doubting.told = Arc::new(members_of(&[1, 2, 3]));
    world.turn(1).expect("it keeps its log");
    (0..20).for_each(|_| world.turn(100).expect("it keeps its log"));
    let (id, command) = world.asked().expect("it asks");
    assert_eq!(command, Command::Readmit { node: 1, joined: 1 });
    let answer = Answer::Done;
    world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::Answer { id, answer } });
    let error = world.turn(1).expect_err("it is out");
    assert!(error.to_string().contains("the members changed at 10"), "{error}");
    assert!(world.machine.must_make_way(&error));
}

/// They know a later start of it, and refuse it before all lanes are up.
#[test]
fn a_founder_that_was_rolled_back_takes_no_part_though_no_session_comes_up() {
    let mut world = World::of(Configuration::of_voters(&[1]));
    world.turn(1).expect("a good disk");
    assert_eq!(world.log.status().leader, 1);
    world.machine.receive(PeerInput::Greeted { peer: 2, members: 10 });
    (0..100).for_each(|_| world.turn(100).expect("it waits to hear who is in"));
    assert_eq!((world.log.status().leader, world.machine.is_in_doubt()), (0, true));
    let reason = world.machine.doubting.reason().expect("it says so");
    assert!(reason.contains("as of 10") && reason.contains("rolled back"), "{reason}");
}

/// Whoever has changed the members knows what the others were told.
#[test]
fn a_founder_that_let_others_in_leads_on() {
    let mut world = World::of(Configuration::of_voters(&[1]));
    world.turn(1).expect("a good disk");
    for change in [founding(), joining(2)] {
        assert!(world.machine.propose_change(&change));
        world.turn(1).expect("a good disk");
    }
    let members_index = world.machine.replica.members().index;
    assert!(members_index > 1);
    let hello = Hello { members_index, ..hello(2) };
    world.machine.receive(PeerInput::Greeted { peer: 2, members: members_index });
    world.machine.receive(PeerInput::Connected { peer: 2, hello });
    (0..3).for_each(|_| world.turn(100).expect("a good disk"));
    assert_eq!((world.log.status().leader, world.machine.is_in_doubt()), (1, false));
}

#[test]
fn whoever_comes_is_told_what_it_was_seen_to_acknowledge() {
    let mut world = World::new();
    world.machine.doubting.acked.insert(2, (0, 17));
    world.hear(2, 0, 0);
    world.turn(1).expect("a good disk");
    let told = world.sent.0.iter().find_map(|(to, frame)| match frame {
        Frame::Pulse(pulse) if *to == 2 => Some((pulse.acked, pulse.greeted)),
        _ => None,
    });
    assert_eq!(told, Some((17, 42)));
}

#[test]
fn a_log_that_is_short_is_kept_until_the_node_is_out() {
    let mut world = World::new();
    let start = world.log.start();
    world.hear(2, 5, start);
    world.turn(1).expect("a good disk");
    let why = "the log ends at 0, node 2 saw 5 acknowledged";
    assert!(world.machine.doubting.reason().is_some_and(|reason| reason.starts_with(why)));
    world.machine.doubting.told = Arc::new(members());
    world.turn(1).expect("a good disk");
    let (id, command) = world.asked().expect("it asks");
    assert_eq!(command, Command::Readmit { node: 1, joined: 1 });
    for answer in [Answer::NotLeader { leader: 3 }, Answer::Refused { text: "no".into() }] {
        world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::Answer { id, answer } });
        world.turn(2_000).expect("it asks again, with its log");
    }
    assert_eq!(world.ask_for_vote(9), 0);
    let answer = Answer::Done;
    world.machine.receive(PeerInput::Frame { from: 3, frame: Frame::Answer { id, answer } });
    assert_eq!(world.turn(1).expect_err("it is out").to_string(), why);
}

/// Raft seed 4083: a node that was away took it for the voter that it had been, and came to lead with a
/// log that lacked what was committed meanwhile.
#[test]
fn whoever_begins_again_gives_no_vote_before_its_log_has_come_to_where_it_was_let_in() {
    let mut world = World::new();
    let why = "the log is gone".to_owned();
    world.machine.doubting.phase = Phase::Short(Short { why, shortness: None });
    world.machine.doubting.told = Arc::new(members_of(&[1, 2, 3]));
    world.hear(2, 0, world.log.start());
    world.turn(1).expect("a good disk");
    let (id, _) = world.asked().expect("it asks");
    let answer = Answer::Done;
    world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::Answer { id, answer } });
    let mut told = members_of(&[1, 2, 3]);
    (told.index, told.nodes.get_mut(&1).expect("itself").joined) = (12, 12);
    world.machine.doubting.told = Arc::new(told);
    for (applied, is_in_doubt) in [(11, true), (12, false)] {
        let pulse = Pulse { term: 7, applied, ..Pulse::default() };
        let frame = Frame::Pulse(Box::new(pulse));
        world.machine.receive(PeerInput::Frame { from: 2, frame });
        world.turn(1).expect("a good disk");
        assert_eq!(world.machine.is_in_doubt(), is_in_doubt, "{applied}");
    }
    assert_eq!(world.ask_for_vote(9), 0, "its log says nothing");
    // Of an earlier leader that does not know yet that it was replaced it takes nothing.
    world.append(3, 6, 0, &[6; 13], 0);
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    assert_eq!(world.machine.replica.last_index(), 0);
    world.append(2, 7, 0, &[7; 11], 0);
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    assert_eq!(world.ask_for_vote(9), 0, "it is too short still");
    world.append(2, 7, 0, &[7; 12], 0);
    (0..2).for_each(|_| world.turn(1).expect("a good disk"));
    let last = (12, 7);
    // Once what it has is durable.
    let given = world.ask_for_vote_with(9, last) + world.ask_for_vote_with(9, last);
    assert!(given > 0, "it has what was committed when it was let in");
}
