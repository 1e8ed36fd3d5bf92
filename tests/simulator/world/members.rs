//! A cluster that grows and shrinks while clients work: nodes are let in, are given and lose their
//! votes, are drained, hand leadership over, and leave.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::Membership;
use ledgermq_log::cluster::{Command, Member, MemberChange, Members, Role, Standing};

use crate::raft::members::{Standing as Place, address, membership};
use crate::rng::Rng;
use crate::world::World;

/// A command has its answer within it, and what was asked for is done then or never.
const ASKED: Duration = Duration::from_secs(31);
/// A node that was removed is ended by its operator within it.
const LEAVING_MAX_MS: u64 = 20_000;

/// How a cluster changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Nodes that there may ever be.
    pub(super) nodes_max: u64,
    /// Of a thousand steps, those in which somebody asks for a change.
    pub(super) asks: u32,
    /// Of a thousand changes, those by which a node leaves.
    pub(super) removals: u32,
}

impl Growth {
    /// For four seeds of ten, by a chance of its own: what other seeds draw does not depend on it.
    pub(super) fn draw(seed: u64, nodes: u64) -> Option<Self> {
        let mut rng = Rng::new(seed ^ 0x6d65_6d62_6572_7300);
        if nodes == 1 || !rng.permille(400) {
            return None;
        }
        let asks = u32::from(rng.small(2, 30));
        let removals = u32::from(rng.small(0, 200));
        Some(Self { nodes_max: nodes + rng.range(0, 3), asks, removals })
    }
}

/// Where a node of a cluster that grows stands.
#[derive(Debug)]
pub(crate) struct Membering {
    pub(super) place: Place,
    /// The least number of a start, as the files of the cluster note it.
    pub(super) start_min: u64,
    /// The members as it was told when it was let in, before its first process.
    told: Option<Arc<Members>>,
    /// It was removed, and its process is ended then.
    leaves_at: Option<Timestamp>,
}

impl Membering {
    /// The first node founds the cluster; the others wait to be let in.
    pub(super) fn new(id: u64) -> Self {
        let place = if id == 1 { Place::In } else { Place::Outside };
        Self { place, start_min: u64::from(id > 1), told: None, leaves_at: None }
    }

    /// Who it is, for a process that begins.
    pub(super) fn membership(&mut self, node: u64) -> Membership {
        membership(node, self.start_min, self.told.take())
    }
}

impl World {
    /// The members as they are known somewhere change, perhaps; and nodes come and go as they were told.
    pub(super) fn step_members(&mut self) {
        let Some(growth) = self.growth else { return };
        if self.rng.permille(growth.asks) {
            self.ask_for_change(growth);
        }
        self.look_at_members();
    }

    fn ask_for_change(&mut self, growth: Growth) {
        let at = self.pick_seat();
        let Some(membering) = &self.seats[at].membering else { return };
        let (node, place) = (self.seats[at].name.id, membering.place);
        match place {
            Place::Left => {}
            Place::Outside => self.let_in(node),
            Place::In => {
                let command = match self.rng.below(6) {
                    _ if self.rng.permille(growth.removals) => Command::Remove { node },
                    0 => Command::Demote { node },
                    1 | 2 => Command::Promote { node },
                    3 => Command::Transfer { to: node },
                    4 => Command::Drain { node },
                    _ => Command::Undrain { node },
                };
                let by = self.pick_seat();
                self.say_of(by, format_args!("{command:?} is asked for here"));
                if let Some(node) = &self.seats[by].node {
                    drop(node.log.log.command(command));
                }
            }
        }
    }

    /// The leader lets a node in, if there is one.
    fn let_in(&mut self, node: u64) {
        let change = MemberChange::Join {
            node,
            address: address(node),
            mqtt: vec![format!("node-{node}:1883")],
            role: Role::Log,
            key: [0; 32],
            token: self.tally.steps.to_le_bytes(),
            expires_s: 0,
            at_s: 0,
        };
        let mut nodes = self.seats.iter_mut().filter_map(|seat| seat.node.as_mut());
        if nodes.any(|node| node.log.propose_change(&change)) {
            self.trace.say(format_args!("node {node} asks to be let in"));
        }
    }

    /// Lets nodes begin that were let in, and ends those that have left, some time after one that stays
    /// and has a vote says so.
    pub(super) fn look_at_members(&mut self) {
        for by in 0..self.seats.len() {
            let Some(node) = &self.seats[by].node else { continue };
            // Until the change is finished, who leaves is needed for it.
            let own = self.seats[by].name.id;
            let (members, is_final) = (node.log.log.members(), node.log.is_final(own));
            for at in 0..self.seats.len() {
                let seat = &mut self.seats[at];
                let id = seat.name.id;
                let Some(membering) = &mut seat.membering else { continue };
                if membering.place == Place::Outside && members.nodes.contains_key(&id) {
                    membering.place = Place::In;
                    membering.told = Some(Arc::clone(&members));
                    self.tally.joined += 1;
                    self.trace.say(format_args!("node {id} is let in"));
                    seat.restart_at = self.now;
                }
                // Its own word is not enough (`raft/members.rs`).
                let is_told = at != by && is_final && members.retired.contains(&id);
                if membering.place == Place::In && is_told {
                    let after = self.rng.below(LEAVING_MAX_MS);
                    let leaves_at = self.now.plus(Duration::from_millis(after));
                    let known = membering.leaves_at.unwrap_or(leaves_at);
                    membering.leaves_at = Some(known.min(leaves_at));
                }
            }
        }
        for at in 0..self.seats.len() {
            let membering = self.seats[at].membering.as_ref();
            if membering.is_some_and(|it| it.leaves_at.is_some_and(|then| then <= self.now)) {
                self.leave(at);
            }
            let seat = &self.seats[at];
            if seat.membering.as_ref().is_some_and(|it| it.place == Place::Left) {
                self.network.refuse(seat.name.id);
            }
        }
    }

    /// A node has left, for ever.
    fn leave(&mut self, at: usize) {
        self.crash(at, "it has left the cluster");
        self.seats[at].remains = None;
        if let Some(membering) = &mut self.seats[at].membering {
            membering.place = Place::Left;
            membering.leaves_at = None;
        }
        self.tally.left += 1;
    }

    /// Nobody asks for anything any more: who leaves does so at once, and nobody is drained.
    pub(super) fn settle_members(&mut self) {
        let now = self.now;
        for seat in &mut self.seats {
            if let Some(leaves_at) = seat.membering.as_mut().and_then(|it| it.leaves_at.as_mut()) {
                *leaves_at = now;
            }
        }
        self.undrain();
    }

    /// Asks for everybody to let clients in: as well when all is done that was asked for before, which
    /// may have been done behind the first time.
    pub(super) fn undrain(&self) {
        for seat in &self.seats {
            if let Some(node) = &seat.node {
                drop(node.log.log.command(Command::Undrain { node: seat.name.id }));
            }
        }
    }

    /// For so long, what was asked for before may still be done.
    pub(super) fn asked(&self) -> Duration {
        if self.growth.is_some() { ASKED } else { Duration::ZERO }
    }

    /// Whether every learner has its vote that is to have one, but for an odd one.
    pub(super) fn are_members_settled(&self) -> bool {
        let is_settled = |members: &Members| {
            let voters = members.voters().count();
            let waits = |member: &&Member| member.standing != Standing::Voter && !member.is_held;
            let learners = members.nodes.values().filter(waits).count();
            members.is_founded() && (learners == 0 || learners == 1 && !voters.is_multiple_of(2))
        };
        self.growth.is_none()
            || self.nodes().all(|node| is_settled(&node.log.log.members()) && !node.log.is_joint())
    }
}
