//! The members of the cluster: a fold over the changes of membership in the log.
//!
//! A [`MemberChange`] stands in the context of raft's `ConfChangeV2` (`conf_change.rs`), so that
//! who is a member and whose vote counts change at one index. The fold is total: a change that does
//! not fit what came before is of no effect, the same on every node, and then raft's configuration
//! must not be changed either ([`Members::apply`] says so).

mod change;
mod fold;
#[cfg(test)]
mod tests;
mod version_1;

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::offset::Index;
use serde::{Deserialize, Serialize};

use crate::cluster::identity::ClusterId;

pub use change::{MemberChange, MembersError};

/// Nodes of a cluster, at most.
pub const NODES_MAX: usize = 64;
/// Bytes of an address, at most.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Addresses for clients that a node may announce.
pub const MQTT_ADDRESSES_MAX: usize = 8;
const VERSION: u8 = 2;
/// The form in which somebody replaces another one: who replaces whom stands behind the rest. Whoever
/// does not know of it must not take them for ordinary members.
const VERSION_REPLACING: u8 = 3;

/// Who replaces whom, as it is written.
type Replacing = BTreeMap<u64, u64>;

/// The random name of a token to join with.
pub type TokenId = [u8; 8];

/// What a node is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It keeps the log, votes and leads.
    #[default]
    Log,
    /// It only holds connections.
    Edge,
}

/// How a node takes part in raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is sent the log and has no vote.
    Learner,
    /// It has a vote.
    Voter,
    /// It was taken out of raft since its log is not what it promised, and will come back empty.
    Away,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where the other nodes reach it, `HOST:PORT`.
    pub address: String,
    /// Where clients reach it, to be told to those who must go elsewhere.
    pub mqtt: Vec<String>,
    /// What it is for.
    pub role: Role,
    /// How it takes part in raft.
    pub standing: Standing,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub key: [u8; 32],
    /// Index of the change with which its present log began: its joining, or its re-admission.
    pub joined: Index,
    /// An operator took its vote: it stays without one until an operator gives it back.
    pub is_held: bool,
    /// The member whose place it takes when it has caught up.
    #[serde(skip)]
    pub replaces: Option<u64>,
}

/// All members, and what must not come again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The cluster; zero before it was founded.
    pub cluster: ClusterId,
    /// Which life of the cluster.
    pub generation: u64,
    /// Index of the last change that counted.
    pub index: Index,
    /// The nodes by number.
    pub nodes: BTreeMap<u64, Member>,
    /// Numbers of nodes that left: never given again.
    pub retired: BTreeSet<u64>,
    /// Tokens with which a node has joined, with the time (seconds since 1970) from which they are
    /// no longer valid anyway.
    pub spent: BTreeMap<TokenId, u64>,
}

impl Members {
    /// Folds the change at `index`. Answers whether it counts: if not, nothing has changed, and
    /// raft's configuration must stay as it is.
    pub fn apply(&mut self, index: Index, change: &MemberChange) -> bool {
        if self.check(change).is_err() {
            return false;
        }
        self.change(index, change);
        self.index = index;
        true
    }

    /// Nodes with a vote, ascending.
    pub fn voters(&self) -> impl Iterator<Item = u64> {
        let is_voter = |(_, member): &(&u64, &Member)| member.standing == Standing::Voter;
        self.nodes.iter().filter(is_voter).map(|(node, _)| *node)
    }

    /// The node that was let in to take the place of `node`, if there is one.
    #[must_use]
    pub fn successor(&self, node: u64) -> Option<u64> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, member)| member.replaces == Some(node)).map(|(successor, _)| *successor)
    }

    /// Whether the cluster was founded.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.index > 0
    }

    /// The form in the store, in snapshots and between nodes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pairs = self.nodes.iter();
        let pairs = pairs.filter_map(|(node, member)| Some((*node, member.replaces?)));
        let replacing: Replacing = pairs.collect();
        let bytes = match replacing.is_empty() {
            true => postcard::to_extend(self, vec![VERSION]),
            false => postcard::to_extend(&(self, replacing), vec![VERSION_REPLACING]),
        };
        bytes.expect("members can be written to memory")
    }

    /// Reads what [`Self::encode`] wrote, or wrote in an earlier version.
    ///
    /// # Errors
    ///
    /// If it is something else, of a later version, or beyond the bounds that the fold keeps.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembersError> {
        let read = match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::take_from_bytes::<Self>(rest),
            Some((&version_1::VERSION, rest)) => {
                postcard::take_from_bytes::<version_1::MembersV1>(rest)
                    .map(|(members, rest)| (members.into(), rest))
            }
            Some((&VERSION_REPLACING, rest)) => postcard::take_from_bytes::<(Self, Replacing)>(
                rest,
            )
            .map(|((mut members, pairs), rest)| {
                for (node, member) in &mut members.nodes {
                    member.replaces = pairs.get(node).copied();
                }
                (members, rest)
            }),
            _ => return Err(MembersError::Unreadable),
        };
        let (members, rest) = read.map_err(|_| MembersError::Unreadable)?;
        let is_bounded = members.nodes.len() <= NODES_MAX
            && members
                .nodes
                .values()
                .all(|node| change::addresses(&node.address, &node.mqtt).is_ok())
            && members.nodes.keys().all(|node| *node != 0 && !members.retired.contains(node))
            && members.nodes.iter().all(|(node, member)| {
                let is_other =
                    |replaced| replaced != *node && members.nodes.contains_key(&replaced);
                member.replaces.is_none_or(is_other)
            });
        // One form only: nobody who is no member replaces anybody.
        let is_plain = bytes[0] != VERSION_REPLACING || members.encode() == bytes;
        if !rest.is_empty() || !is_bounded || !is_plain {
            return Err(MembersError::Unreadable);
        }
        Ok(members)
    }
}
