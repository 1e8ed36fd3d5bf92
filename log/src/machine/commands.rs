//! Commands: the leader does them, or the node that they are for; every other node passes them on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::cluster::{Answer, Command, Frame, MemberChange, Members, Peers, Sent, Standing};
use crate::commanding::{COMMANDS_MAX, Place, refused, unsettled};
use crate::machine::LogMachine;
use crate::machine::doubting::OWN_ID;
use crate::shared::lock;
use crate::store::LogStore;

/// For so long a command may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that one start of the node has for its commands: as many as these bits can count.
const START_SHIFT: u32 = 24;

/// Commands that have no answer yet.
pub(super) struct Commands {
    pending: BTreeMap<u64, Pending>,
    last: u64,
}

struct Pending {
    command: Command,
    origin: Origin,
    until: Duration,
    stage: Stage,
}

/// Who is told the answer.
enum Origin {
    Here(Arc<Place>),
    Peer {
        node: u64,
        id: u64,
    },
    /// Nobody: the node looks by itself.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to be done here, or passed on.
    New,
    /// That node has it: it will answer, if it can.
    Passed { to: u64 },
    /// It is done here, in this term.
    Begun { term: u64 },
}

impl Drop for Commands {
    /// The log has stopped: nobody else answers what is on its way.
    fn drop(&mut self) {
        for pending in self.pending.values() {
            if let Origin::Here(place) = &pending.origin {
                place.give(unsettled("the log of this node has stopped: look whether it was done"));
            }
        }
    }
}

impl Commands {
    /// None yet, of that start of the node: other nodes know commands by their numbers, and the answer
    /// to one of an earlier start must not be taken for another one's.
    pub(super) fn new(start: u64) -> Self {
        Self { pending: BTreeMap::new(), last: (start << START_SHIFT) & !OWN_ID }
    }

    fn add(&mut self, command: Command, origin: Origin, now: Duration) {
        self.last += 1;
        let pending = Pending { command, origin, until: now + PATIENCE, stage: Stage::New };
        self.pending.insert(self.last, pending);
    }

    /// Whether one more may be under way.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < COMMANDS_MAX
    }

    /// Whether one is to be looked at in every turn.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl<S: LogStore> LogMachine<S> {
    /// The node itself wants something, unless it is on its way already.
    pub(super) fn add_own_command(&mut self, command: Command, now: Duration) {
        let mut pending = self.commands.pending.values();
        if pending.all(|pending| pending.command != command) {
            self.commands.add(command, Origin::Nobody, now);
        }
    }

    /// A peer passes a command on.
    pub(super) fn take_command(
        &mut self,
        (node, id): (u64, u64),
        command: Command,
        now: Now,
        peers: &mut dyn Peers,
    ) {
        let is_same = |pending: &Pending| {
            pending.command == command
                && matches!(&pending.origin, Origin::Peer { node: by, id: of } if (*by, *of) == (node, id))
        };
        let answer = if !self.does(&command) {
            self.not_here(&command)
        } else if self.commands.pending.values().any(is_same) {
            // It asks again before it was answered.
            return;
        } else if self.commands.pending.len() >= COMMANDS_MAX {
            unsettled("too many commands are waiting: try again in a moment")
        } else {
            return self.commands.add(command, Origin::Peer { node, id }, now.monotonic);
        };
        let _ = peers.send(node, &Frame::Answer { id, answer });
    }

    /// Whoever does it has answered what was passed on.
    pub(super) fn take_answer(&mut self, from: u64, id: u64, answer: Answer) {
        if self.take_readmission(id, &answer) {
            return;
        }
        let Some(pending) = self.commands.pending.get_mut(&id) else { return };
        if pending.stage != (Stage::Passed { to: from }) {
            return;
        }
        if let Answer::NotLeader { .. } = answer {
            // It is passed on again when it is known to whom.
            pending.stage = Stage::New;
            return;
        }
        if let Some(Pending { origin: Origin::Here(place), .. }) = self.commands.pending.remove(&id)
        {
            place.give(answer);
        }
    }

    /// Does what can be done of the commands, and answers what is done.
    pub(super) fn do_commands(&mut self, now: Now, peers: &mut dyn Peers) {
        let room = COMMANDS_MAX.saturating_sub(self.commands.pending.len());
        let mut commanding = lock(&self.shared.commanding);
        let taken = room.min(commanding.waiting.len());
        for (command, place) in commanding.waiting.drain(..taken) {
            self.commands.add(command, Origin::Here(place), now.monotonic);
        }
        drop(commanding);
        let mut pending = std::mem::take(&mut self.commands.pending);
        pending.retain(|id, pending| match self.advance(*id, pending, now.monotonic, peers) {
            None => true,
            Some(answer) => {
                match &pending.origin {
                    Origin::Nobody => {}
                    Origin::Here(place) => place.give(answer),
                    // It is found again in the next turn, until there is room for it on the lane.
                    Origin::Peer { node, id } => {
                        return peers.send(*node, &Frame::Answer { id: *id, answer }) == Sent::Full;
                    }
                }
                false
            }
        });
        self.commands.pending = pending;
    }

    /// One step of a command; its answer if that was the last.
    fn advance(
        &mut self,
        id: u64,
        pending: &mut Pending,
        now: Duration,
        peers: &mut dyn Peers,
    ) -> Option<Answer> {
        let term = self.replica.term();
        if now >= pending.until {
            return Some(late(pending));
        }
        if let Stage::Begun { term: begun } = pending.stage {
            return self.outcome(&pending.command, begun);
        }
        if self.does(&pending.command) {
            let answer = self.begin(&pending.command);
            if answer == Begin::Begun {
                pending.stage = Stage::Begun { term };
            }
            return match answer {
                Begin::Answer(answer) => Some(answer),
                Begin::Begun | Begin::Later => None,
            };
        }
        if let Origin::Peer { .. } = pending.origin {
            return Some(self.not_here(&pending.command));
        }
        // Whoever leaves may be sent the end of its connections before the answer.
        if let Stage::Passed { .. } = pending.stage
            && is_done(&pending.command, &lock(&self.shared.members))
        {
            return Some(Answer::Done);
        }
        let to = self.doer(&pending.command);
        if to != 0 && pending.stage != (Stage::Passed { to }) {
            let frame = Frame::Command { id, command: pending.command.clone() };
            match peers.send(to, &frame) {
                Sent::Taken => pending.stage = Stage::Passed { to },
                // It does not change who does it: nobody need wait.
                Sent::Down if is_of_node(&pending.command) => {
                    return Some(refused(format!("node {to} cannot be reached from this node")));
                }
                Sent::Down | Sent::Full => {}
            }
        }
        None
    }

    /// A session with `peer` begins: what was on its way in the last one, there or back, may be lost, and
    /// is passed on again. To ask twice does no harm. Not when the last one ends: a node that drains would
    /// be told to be out of reach, though it may have done what was asked.
    pub(super) fn pass_again(&mut self, peer: u64) {
        for pending in self.commands.pending.values_mut() {
            if pending.stage == (Stage::Passed { to: peer }) {
                pending.stage = Stage::New;
            }
        }
    }

    /// Who does a command; 0 if that is not known.
    fn doer(&self, command: &Command) -> u64 {
        match command {
            Command::Drain { node } | Command::Undrain { node } => *node,
            _ => self.replica.leader(),
        }
    }

    /// Whether it is done here.
    fn does(&self, command: &Command) -> bool {
        match is_of_node(command) {
            true => self.doer(command) == self.shared.node,
            false => self.replica.is_leader(),
        }
    }

    /// The answer to who thinks that it is done here.
    fn not_here(&self, command: &Command) -> Answer {
        match is_of_node(command) {
            true => refused("another node is to do this"),
            false => Answer::NotLeader { leader: self.replica.leader() },
        }
    }

    /// Begins a command, as the one who does it.
    fn begin(&mut self, command: &Command) -> Begin {
        if let Command::Drain { .. } | Command::Undrain { .. } = command {
            self.set_draining(matches!(command, Command::Drain { .. }));
            return Begin::Begun;
        }
        let members = self.replica.members();
        if is_done(command, members) {
            return match is_done(command, &lock(&self.shared.members)) {
                true => Begin::Answer(Answer::Done),
                // A crash may yet take it back.
                false => Begin::Later,
            };
        }
        if let Command::Readmit { node, joined } = command
            && members.nodes.get(node).is_some_and(|member| member.joined > *joined)
        {
            let text = format!("node {node} was let in again since entry {joined}");
            return Begin::Answer(refused(text));
        }
        let change = match command {
            Command::Transfer { to } => return self.begin_transfer(*to),
            // A node that leads must not take part in its own removal.
            Command::Remove { node } | Command::Demote { node } | Command::Readmit { node, .. }
                if *node == self.shared.node =>
            {
                return self.begin_transfer_away();
            }
            Command::Remove { node } => MemberChange::Retire { node: *node },
            Command::Promote { node } => MemberChange::Promote { nodes: vec![*node] },
            Command::Demote { node } => MemberChange::Demote { nodes: vec![*node] },
            Command::Readmit { node, .. } => MemberChange::Withdraw { node: *node },
            Command::Address { node, address, mqtt } => {
                MemberChange::Address { node: *node, address: address.clone(), mqtt: mqtt.clone() }
            }
            Command::Drain { .. } | Command::Undrain { .. } => return Begin::Begun,
        };
        if let Err(error) = members.check(&change) {
            return Begin::Answer(refused(error.to_string()));
        }
        if let Command::Readmit { node, .. } = command
            && !self.may_let_out(*node)
        {
            return Begin::Later;
        }
        if let Command::Remove { .. } | Command::Demote { .. } | Command::Promote { .. } = command
            && let Some(answer) = self.outvoted(command)
        {
            return answer;
        }
        match self.replica.propose_change(&change) {
            true => Begin::Begun,
            false => Begin::Later,
        }
    }

    /// Why the voters behind `command` could decide nothing, if so: by the present ones it would be
    /// done, and never undone.
    fn outvoted(&self, command: &Command) -> Option<Begin> {
        let mut voters: BTreeSet<u64> = self.replica.members().voters().collect();
        match command {
            Command::Promote { node } => {
                if !self.peers.is_connected(*node) {
                    return Some(Begin::Answer(refused(format!("node {node} cannot be reached"))));
                }
                if !self.caught_up().contains(node) {
                    // The votes of nodes without the log would keep everything waiting for it.
                    return Some(Begin::Later);
                }
                voters.insert(*node);
            }
            Command::Remove { node } | Command::Demote { node } => {
                voters.remove(node);
            }
            _ => return None,
        }
        let count = |is_there: &dyn Fn(u64) -> bool| {
            voters.iter().filter(|voter| **voter == self.shared.node || is_there(**voter)).count()
        };
        let needed = voters.len() / 2 + 1;
        let there = count(&|voter| self.peers.is_connected(voter));
        if there >= needed {
            // One in doubt of its own log is connected as well; and a new leader hears who follows it.
            return (count(&|voter| self.takes_part(voter)) < needed).then_some(Begin::Later);
        }
        let text = format!(
            "of the {} voters then {there} could be reached, and {needed} are needed: bring others back \
             first, or replace them",
            voters.len()
        );
        Some(Begin::Answer(refused(text)))
    }

    fn begin_transfer(&mut self, to: u64) -> Begin {
        if to == self.shared.node {
            return Begin::Answer(Answer::Done);
        }
        if !self.replica.configuration().state.voters.contains(&to) {
            return Begin::Answer(refused(format!("node {to} has no vote")));
        }
        if !self.peers.is_connected(to) {
            return Begin::Answer(refused(format!("node {to} cannot be reached")));
        }
        if self.peers.is_draining(to) {
            return Begin::Answer(refused(format!("node {to} is being drained")));
        }
        match self.replica.transfer(to) {
            true => Begin::Begun,
            // The disk is full, or leadership is on its way to another one.
            false => Begin::Later,
        }
    }

    /// Lets the voter lead that has most of the log; the command is done by the next leader.
    fn begin_transfer_away(&mut self) -> Begin {
        match self.best_successor() {
            None => Begin::Answer(refused("no other voter can be reached that could lead")),
            Some(to) => {
                self.replica.transfer(to);
                Begin::Later
            }
        }
    }

    /// What became of a command that was begun in `begun`.
    fn outcome(&self, command: &Command, begun: u64) -> Option<Answer> {
        let term = self.replica.term();
        match command {
            Command::Drain { .. } => return self.drained(),
            Command::Undrain { .. } => return Some(Answer::Done),
            _ => {}
        }
        if let Command::Transfer { to } = command {
            return match self.replica.leader() {
                leader if leader == *to => Some(Answer::Done),
                0 => None,
                leader if leader == self.shared.node && !self.replica.is_transferring() => {
                    Some(unsettled(format!("node {to} did not take over in time")))
                }
                leader if term > begun => {
                    Some(unsettled(format!("node {leader} became the leader instead")))
                }
                _ => None,
            };
        }
        // As they are shown: what is not on the disk yet a crash may take back.
        let members = Arc::clone(&lock(&self.shared.members));
        // It may be in again by now.
        let is_over = matches!(command, Command::Readmit { node, joined }
            if members.nodes.get(node).is_some_and(|member| member.joined > *joined));
        if is_over || is_done(command, &members) {
            return Some(Answer::Done);
        }
        // What a former leader proposed may still come, or not: whoever asks looks again.
        (term > begun || !self.replica.is_leader())
            .then(|| unsettled("the leader changed meanwhile: look whether it was done"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Begin {
    Begun,
    /// Raft does not take it now.
    Later,
    Answer(Answer),
}

/// Whether a node does it for itself, whoever leads.
fn is_of_node(command: &Command) -> bool {
    matches!(command, Command::Drain { .. } | Command::Undrain { .. })
}

/// The answer to what took too long.
fn late(pending: &Pending) -> Answer {
    let is_begun = matches!(pending.stage, Stage::Begun { .. });
    unsettled(match pending.command {
        Command::Drain { .. } if is_begun => {
            "it lets no new clients in, but leads on: no other voter that could lead is reached \
             and not drained itself"
        }
        Command::Drain { .. } | Command::Undrain { .. } => {
            "the node did not answer within half a minute: look whether it was done"
        }
        Command::Promote { .. } => {
            "it was not done within half a minute: is there a quorum, and has the node caught up?"
        }
        _ => "it was not done within half a minute: is there a quorum?",
    })
}

/// Whether the members are as the command wants them.
fn is_done(command: &Command, members: &Members) -> bool {
    let standing = |node: &u64| members.nodes.get(node).map(|member| member.standing);
    match command {
        Command::Remove { node } => members.retired.contains(node),
        Command::Promote { node } => standing(node) == Some(Standing::Voter),
        Command::Demote { node } => {
            let member = members.nodes.get(node);
            member.is_some_and(|member| member.standing == Standing::Learner && member.is_held)
        }
        Command::Readmit { node, .. } => standing(node) == Some(Standing::Away),
        Command::Address { node, address, mqtt } => members
            .nodes
            .get(node)
            .is_some_and(|member| member.address == *address && member.mqtt == *mqtt),
        Command::Transfer { .. } | Command::Drain { .. } | Command::Undrain { .. } => false,
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
