//! Changes of the membership, and which fit.

use serde::{Deserialize, Serialize};

use super::{
    ADDRESS_BYTES_MAX, MQTT_ADDRESSES_MAX, Member, Members, NODES_MAX, Role, Standing, TokenId,
};
use crate::cluster::identity::ClusterId;

/// A change of the membership, as it stands in the context of a `ConfChangeV2`. New ones are
/// appended at the end: the order is the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// The first one: the cluster is founded by its only node.
    Found {
        /// Its name.
        cluster: ClusterId,
        /// Which life of it.
        generation: u64,
        /// The node that founds it.
        node: u64,
        /// Where other nodes will reach it.
        address: String,
        /// Where clients reach it.
        mqtt: Vec<String>,
        /// SHA-256 of its public key.
        key: [u8; 32],
    },
    /// A node comes in, without a vote.
    Join {
        /// Its number.
        node: u64,
        /// Where the other nodes reach it.
        address: String,
        /// Where clients reach it.
        mqtt: Vec<String>,
        /// What it is for.
        role: Role,
        /// SHA-256 of its public key.
        key: [u8; 32],
        /// The token that it spends.
        token: TokenId,
        /// Until when the token would be valid, in seconds since 1970.
        expires_s: u64,
        /// When the leader took it in: spent tokens that are no longer valid then are forgotten.
        at_s: u64,
    },
    /// A node is reached elsewhere.
    Address {
        /// The node.
        node: u64,
        /// Where the other nodes reach it from now on.
        address: String,
        /// Where clients reach it.
        mqtt: Vec<String>,
    },
    /// Learners get a vote.
    Promote {
        /// Which.
        nodes: Vec<u64>,
    },
    /// Nodes stay without a vote, which voters lose by it, until they are promoted.
    Demote {
        /// Which.
        nodes: Vec<u64>,
    },
    /// The joint configuration, with which a change of several votes begins, is left.
    LeaveJoint,
    /// A node's log is not what it promised: it is taken out of raft, to come back empty.
    Withdraw {
        /// The node.
        node: u64,
    },
    /// A withdrawn node comes back, without a vote and with an empty log.
    Readmit {
        /// The node.
        node: u64,
    },
    /// A node leaves for ever.
    Retire {
        /// The node.
        node: u64,
    },
    /// A node comes in, without a vote, to take the place of another one.
    JoinFor {
        /// Its number.
        node: u64,
        /// Where the other nodes reach it.
        address: String,
        /// Where clients reach it.
        mqtt: Vec<String>,
        /// What it is for.
        role: Role,
        /// SHA-256 of its public key.
        key: [u8; 32],
        /// The token that it spends.
        token: TokenId,
        /// Until when the token would be valid, in seconds since 1970.
        expires_s: u64,
        /// When the leader took it in: spent tokens that are no longer valid then are forgotten.
        at_s: u64,
        /// The member whose place it takes when it has caught up.
        replaces: u64,
    },
    /// A node takes the place of the one that it replaces: that one leaves for ever, and its vote goes
    /// over.
    Succeed {
        /// The node that replaces.
        node: u64,
        /// The one that leaves.
        replaces: u64,
    },
}

/// Why a change of the membership does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// It names no node, or several where one is meant.
    #[error("it names no node")]
    Nobody,
    /// The cluster was founded before.
    #[error("the cluster was founded already")]
    Founded,
    /// The cluster was not founded yet.
    #[error("the cluster was not founded yet")]
    Unfounded,
    /// The number is in use.
    #[error("node {0} is a member already")]
    Member(u64),
    /// The number was used by a node that left.
    #[error("node {0} has left the cluster; its number is not given again")]
    Retired(u64),
    /// No such node.
    #[error("node {0} is not a member")]
    Unknown(u64),
    /// The token was used.
    #[error("the token has been used")]
    Spent,
    /// As many nodes as there may be.
    #[error("a cluster has at most {NODES_MAX} nodes")]
    Full,
    /// An address is empty, too long, or no text that can be written down.
    #[error(
        "an address is 1 to {ADDRESS_BYTES_MAX} bytes without spaces, at most {MQTT_ADDRESSES_MAX} for clients"
    )]
    Address,
    /// Another node takes its place already.
    #[error("node {by} takes the place of node {node} already")]
    Replaced {
        /// The one that leaves.
        node: u64,
        /// The one that comes.
        by: u64,
    },
    /// It does not replace that node, or not any more.
    #[error("node {0} takes the place of no such node")]
    NoSuccessor(u64),
    /// The node is not what it would have to be.
    #[error("node {0} has another standing")]
    Standing(u64),
    /// Nobody would be left to vote.
    #[error("no voter would be left")]
    LastVoter,
    /// Bytes that are no members or no change.
    #[error("the bytes are no membership of this version")]
    Unreadable,
}

impl MemberChange {
    /// The form in a `ConfChangeV2`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a change can be written to memory")
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembersError> {
        match postcard::take_from_bytes(bytes) {
            Ok((change, [])) => Ok(change),
            _ => Err(MembersError::Unreadable),
        }
    }
}

/// Whether these can be addresses of a node.
pub(super) fn addresses(address: &str, mqtt: &[String]) -> Result<(), MembersError> {
    let is_usable = |address: &str| {
        (1..=ADDRESS_BYTES_MAX).contains(&address.len())
            && !address.contains(|char: char| char.is_control() || char.is_whitespace())
    };
    if mqtt.len() <= MQTT_ADDRESSES_MAX
        && is_usable(address)
        && mqtt.iter().all(|address| is_usable(address))
    {
        Ok(())
    } else {
        Err(MembersError::Address)
    }
}

impl Members {
    /// Whether `change` fits. The leader asks before it proposes; the fold asks again.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn check(&self, change: &MemberChange) -> Result<(), MembersError> {
        match change {
            MemberChange::Found { node, address, mqtt, .. } => {
                if self.is_founded() {
                    return Err(MembersError::Founded);
                }
                if *node == 0 {
                    return Err(MembersError::Nobody);
                }
                addresses(address, mqtt)
            }
            _ if !self.is_founded() => Err(MembersError::Unfounded),
            MemberChange::Join { node, address, mqtt, token, .. } => {
                self.check_join(*node, *token)?;
                addresses(address, mqtt)
            }
            MemberChange::JoinFor { node, address, mqtt, role, token, replaces, .. } => {
                self.check_join(*node, *token)?;
                self.check_replaced(*replaces)?;
                if self.member(*replaces)?.role != *role {
                    return Err(MembersError::Standing(*replaces));
                }
                addresses(address, mqtt)
            }
            MemberChange::Address { node, address, mqtt } => {
                self.member(*node)?;
                addresses(address, mqtt)
            }
            MemberChange::Promote { nodes } => {
                self.check_all(nodes, |member| member.standing == Standing::Learner)
            }
            MemberChange::Demote { nodes } => {
                self.check_all(nodes, |member| match member.standing {
                    Standing::Voter => true,
                    Standing::Learner => !member.is_held,
                    Standing::Away => false,
                })?;
                self.check_voters_without(nodes)
            }
            MemberChange::LeaveJoint => Ok(()),
            MemberChange::Withdraw { node } => match self.member(*node)?.standing {
                Standing::Away => Err(MembersError::Standing(*node)),
                Standing::Learner | Standing::Voter => self.check_voters_without(&[*node]),
            },
            MemberChange::Readmit { node } => match self.member(*node)?.standing {
                Standing::Away => Ok(()),
                Standing::Learner | Standing::Voter => Err(MembersError::Standing(*node)),
            },
            MemberChange::Retire { node } => {
                self.member(*node)?;
                self.check_voters_without(&[*node])
            }
            MemberChange::Succeed { node, replaces } => {
                let successor = self.member(*node)?;
                if successor.replaces != Some(*replaces) {
                    return Err(MembersError::NoSuccessor(*node));
                }
                if successor.standing != Standing::Learner || successor.is_held {
                    return Err(MembersError::Standing(*node));
                }
                self.member(*replaces).map(|_| ())
            }
        }
    }

    /// Whether a new node may take the place of `node`.
    ///
    /// # Errors
    ///
    /// If that is no member, has the only vote, or another one does already.
    pub fn check_replaced(&self, node: u64) -> Result<(), MembersError> {
        self.member(node)?;
        match self.successor(node) {
            // Who leads must not take part in its own removal, and nobody else could lead.
            None => self.check_voters_without(&[node]),
            Some(by) => Err(MembersError::Replaced { node, by }),
        }
    }

    /// Whether a new node may have that number.
    ///
    /// # Errors
    ///
    /// If it is 0, in use, or was ever used.
    pub fn check_number(&self, node: u64) -> Result<(), MembersError> {
        match node {
            0 => Err(MembersError::Nobody),
            _ if self.nodes.contains_key(&node) => Err(MembersError::Member(node)),
            _ if self.retired.contains(&node) => Err(MembersError::Retired(node)),
            _ => Ok(()),
        }
    }

    fn check_join(&self, node: u64, token: TokenId) -> Result<(), MembersError> {
        self.check_number(node)?;
        if self.spent.contains_key(&token) {
            return Err(MembersError::Spent);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(MembersError::Full);
        }
        Ok(())
    }

    fn member(&self, node: u64) -> Result<&Member, MembersError> {
        let unknown = || match self.retired.contains(&node) {
            true => MembersError::Retired(node),
            false => MembersError::Unknown(node),
        };
        self.nodes.get(&node).ok_or_else(unknown)
    }

    fn check_all(&self, nodes: &[u64], fits: impl Fn(&Member) -> bool) -> Result<(), MembersError> {
        if nodes.is_empty() {
            return Err(MembersError::Nobody);
        }
        for (at, node) in nodes.iter().enumerate() {
            let member = self.member(*node)?;
            if !fits(member) || member.role != Role::Log {
                return Err(MembersError::Standing(*node));
            }
            if nodes[..at].contains(node) {
                return Err(MembersError::Member(*node));
            }
        }
        Ok(())
    }

    fn check_voters_without(&self, nodes: &[u64]) -> Result<(), MembersError> {
        let mut left = self.voters().filter(|voter| !nodes.contains(voter));
        left.next().map(|_| ()).ok_or(MembersError::LastVoter)
    }
}
