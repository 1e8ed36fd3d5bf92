//! Nodes whose disk is gone, or who are to leave, and those that take their place.

use ledgermq_log::cluster::{MemberChange, Role};

use crate::raft::fold::Saved;
use crate::raft::members::{Standing, address};
use crate::raft::options::FIRST_NODES;
use crate::raft::world::World;

/// A replacement that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacing {
    /// The seat of the node that comes.
    comes: usize,
    /// That of the one that goes.
    goes: usize,
}

impl World {
    /// Begins a replacement, perhaps. One at a time: of three voters that are left by two nobody could
    /// let anybody in.
    pub(crate) fn replace(&mut self) {
        self.go_on_replacing();
        let is_struck = self.struck.is_some() || self.second.is_some();
        let is_free = self.replacing.is_none() && !is_struck;
        if !is_free || !self.rng.permille(self.options.replace) || !self.has_three_voters() {
            return;
        }
        let goes = self.rng.size(0, self.seats.len() - 1);
        let is_fresh = |seat: &crate::raft::seat::Seat| {
            seat.standing == Standing::Outside && seat.id > FIRST_NODES
        };
        let Some(comes) = self.seats.iter().position(is_fresh) else { return };
        if self.seats[goes].standing != Standing::In {
            return;
        }
        let is_lost = self.rng.permille(700);
        let ids = (self.seats[comes].id, self.seats[goes].id);
        self.trace.say(format_args!("node {} comes for node {}, lost: {is_lost}", ids.0, ids.1));
        if is_lost {
            self.take_down(goes);
            let seat = &mut self.seats[goes];
            seat.disk.wipe();
            (seat.saved, seat.remembered_at, seat.is_lost) = (Saved::default(), None, true);
        }
        self.replacing = Some(Replacing { comes, goes });
    }

    /// Has the node let in, again if that was lost, and sees when its place is its own.
    pub(crate) fn go_on_replacing(&mut self) {
        let Some(Replacing { comes, goes }) = self.replacing else { return };
        if self.seats[goes].standing == Standing::Left {
            self.tally.replaced += 1;
            self.replacing = None;
            return;
        }
        if self.seats[comes].standing != Standing::Outside {
            // Where the other one is alive this may take for ever: what else may happen does.
            if !self.seats[goes].is_lost {
                self.replacing = None;
            }
            return;
        }
        let (node, replaces) = (self.seats[comes].id, self.seats[goes].id);
        let change = MemberChange::JoinFor {
            node,
            address: address(node),
            mqtt: Vec::new(),
            role: Role::Log,
            key: [0; 32],
            token: self.tally.steps.to_le_bytes(),
            expires_s: 0,
            at_s: 0,
            replaces,
        };
        let processes = self.seats.iter_mut().filter_map(|seat| seat.process.as_mut());
        for process in processes {
            if process.machine.propose_change(&change) {
                self.trace.say(format_args!("node {node} asks to be let in for node {replaces}"));
            }
        }
    }
}
