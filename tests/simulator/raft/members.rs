//! A cluster that grows and shrinks: nodes join, are given and lose their votes, and leave.

use std::sync::Arc;

use ledgermq_log::Membership;
use ledgermq_log::cluster::{ClusterId, Command, Identity, MemberChange, Members, Role};

use crate::raft::options::FIRST_NODES;
use crate::raft::world::World;

/// Whether a seat's node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be let in.
    Outside,
    /// It is a member.
    In,
    /// It has left, for ever.
    Left,
}

/// Who a node is.
pub(crate) fn membership(node: u64, start_min: u64, told: Option<Arc<Members>>) -> Membership {
    Membership {
        identity: Identity { cluster: ClusterId([7; 16]), node, generation: 1, start_min },
        address: address(node),
        mqtt: Vec::new(),
        key: [u8::try_from(node).expect("few nodes"); 32],
        authority: None,
        told,
        known: None,
        why: None,
    }
}

/// Where the other nodes reach it.
pub(crate) fn address(node: u64) -> String {
    format!("node-{node}:1")
}

impl World {
    /// Somebody asks for a change of the members.
    pub(crate) fn change_members(&mut self) {
        let at = self.rng.size(0, self.seats.len() - 1);
        let (id, standing) = (self.seats[at].id, self.seats[at].standing);
        let by = self.rng.size(0, self.seats.len() - 1);
        let kind = self.rng.below(4);
        let number = self.tally.steps;
        let Some(process) = &mut self.seats[by].process else { return };
        let command = match (standing, kind) {
            (Standing::Left, _) => return,
            // It comes for another one, and nobody decides about it otherwise.
            _ if self.options.replace > 0 && id > FIRST_NODES => return,
            (Standing::Outside, _) => {
                let change = MemberChange::Join {
                    node: id,
                    address: address(id),
                    mqtt: Vec::new(),
                    role: Role::Log,
                    key: [0; 32],
                    token: number.to_le_bytes(),
                    expires_s: 0,
                    at_s: 0,
                };
                let is_asked = process.machine.propose_change(&change);
                // It asks everybody where three have to come before one can go.
                let mut others = self.seats.iter_mut().filter_map(|seat| seat.process.as_mut());
                let is_asked = is_asked
                    || self.options.replace > 0
                        && others.any(|process| process.machine.propose_change(&change));
                if is_asked {
                    self.trace.say(format_args!("node {id} asks to be let in"));
                }
                return;
            }
            // Of two voters the other one could neither repair a damaged one nor do without a lost one.
            (Standing::In, 0 | 1) if self.options.damage > 0 || self.options.replace > 0 => return,
            (Standing::In, 0) => Command::Remove { node: id },
            (Standing::In, 1) => Command::Demote { node: id },
            (Standing::In, _) => Command::Promote { node: id },
        };
        self.trace.say(format_args!("{command:?} is asked for at node {}", by + 1));
        drop(process.log.command(command));
    }

    /// Lets nodes begin that were let in, and ends those that have left, when one that stays and has a
    /// vote says so.
    ///
    /// Who leads when its own leaving is committed may be the only one who knows: raft changes who has a
    /// vote when an entry is applied, not when it is written. Of two voters the other one needs it to
    /// learn that, and has nobody else to elect it.
    pub(crate) fn look_at_members(&mut self, at: usize) {
        let own = self.seats[at].id;
        let Some(process) = &self.seats[at].process else { return };
        let members = process.log.members();
        // Until the change is finished, who leaves is needed for it.
        let may_leave = !process.machine.is_joint() && process.machine.voters().contains(&own);
        for seat in &mut self.seats {
            if seat.standing == Standing::Outside && members.nodes.contains_key(&seat.id) {
                self.trace.say(format_args!("node {} is let in", seat.id));
                seat.standing = Standing::In;
                seat.told = Some(Arc::clone(&members));
            }
            let has_left = may_leave && seat.id != own && members.retired.contains(&seat.id);
            if seat.standing != Standing::Left && has_left {
                self.trace.say(format_args!("node {} has left", seat.id));
                seat.standing = Standing::Left;
                if seat.process.take().is_some() {
                    self.net.links.died(seat.id, self.now, &mut self.rng);
                }
            }
        }
    }
}
