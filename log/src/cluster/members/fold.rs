//! What the changes of the membership do.

use ledgermq_core::offset::Index;

use super::{Member, MemberChange, Members, Role, Standing, TokenId};

impl Members {
    /// Does what [`Self::check`] found to fit.
    pub(super) fn change(&mut self, index: Index, change: &MemberChange) {
        match change {
            MemberChange::Found { cluster, generation, node, address, mqtt, key } => {
                self.cluster = *cluster;
                self.generation = *generation;
                let (address, mqtt, key, joined) = (address.clone(), mqtt.clone(), *key, index);
                let (role, standing, is_held, replaces) = (Role::Log, Standing::Voter, false, None);
                let member =
                    Member { address, mqtt, role, standing, key, joined, is_held, replaces };
                self.nodes.insert(*node, member);
            }
            MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s } => {
                let (address, mqtt, key, joined) = (address.clone(), mqtt.clone(), *key, index);
                let (role, standing, is_held, replaces) = (*role, Standing::Learner, false, None);
                let member =
                    Member { address, mqtt, role, standing, key, joined, is_held, replaces };
                self.nodes.insert(*node, member);
                self.spend(*token, *expires_s, *at_s);
            }
            MemberChange::JoinFor {
                node,
                address,
                mqtt,
                role,
                key,
                token,
                expires_s,
                at_s,
                replaces,
            } => {
                let (address, mqtt, key, joined) = (address.clone(), mqtt.clone(), *key, index);
                let (role, standing, is_held) = (*role, Standing::Learner, false);
                let replaces = Some(*replaces);
                let member =
                    Member { address, mqtt, role, standing, key, joined, is_held, replaces };
                self.nodes.insert(*node, member);
                self.spend(*token, *expires_s, *at_s);
            }
            MemberChange::Address { node, address, mqtt } => {
                if let Some(member) = self.nodes.get_mut(node) {
                    member.address.clone_from(address);
                    member.mqtt.clone_from(mqtt);
                }
            }
            MemberChange::Promote { nodes } => self.decide(nodes, Standing::Voter, false),
            MemberChange::Demote { nodes } => self.decide(nodes, Standing::Learner, true),
            MemberChange::LeaveJoint => {}
            MemberChange::Withdraw { node } => {
                if let Some(member) = self.nodes.get_mut(node) {
                    member.standing = Standing::Away;
                }
            }
            MemberChange::Readmit { node } => {
                if let Some(member) = self.nodes.get_mut(node) {
                    (member.standing, member.joined) = (Standing::Learner, index);
                }
            }
            MemberChange::Retire { node } => {
                self.retire(*node);
            }
            MemberChange::Succeed { node, replaces } => {
                let former = self.retire(*replaces);
                if let (Some(former), Some(member)) = (former, self.nodes.get_mut(node)) {
                    member.replaces = former.replaces;
                    member.is_held = former.is_held;
                    if former.standing == Standing::Voter {
                        member.standing = Standing::Voter;
                    }
                }
            }
        }
    }

    fn spend(&mut self, token: TokenId, expires_s: u64, at_s: u64) {
        self.spent.retain(|_, expires_s| *expires_s > at_s);
        self.spent.insert(token, expires_s);
    }

    /// Somebody has decided whether they vote: they take nobody else's place any more.
    fn decide(&mut self, nodes: &[u64], standing: Standing, is_held: bool) {
        for node in nodes {
            if let Some(member) = self.nodes.get_mut(node) {
                (member.standing, member.is_held, member.replaces) = (standing, is_held, None);
            }
        }
    }

    /// Takes a node out for ever. Its place is nobody's to take then.
    fn retire(&mut self, node: u64) -> Option<Member> {
        self.retired.insert(node);
        for member in self.nodes.values_mut().filter(|member| member.replaces == Some(node)) {
            member.replaces = None;
        }
        self.nodes.remove(&node)
    }
}
