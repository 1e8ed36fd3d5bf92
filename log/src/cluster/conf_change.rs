//! Changes of raft's configuration as entries carry them: protobuf's form of `ConfChangeV2`.
//!
//! The proposer writes them with raft's own types. They come back from peers, too, and protobuf
//! parses nothing that a peer sent: [`decode`] is a reader of its own, for exactly the bytes that
//! the proposer writes (fields 1, 2 and 3 in order, numbers in their shortest form, nothing that
//! protobuf leaves out). Anything else is refused.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, EntryType,
};

use crate::cluster::members::{MemberChange, Members, Standing};

#[cfg(test)]
mod tests;

/// Nodes that one change may concern.
const CHANGES_MAX: usize = 16;

/// A change of raft's configuration, and what it means for the membership.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfChange {
    /// For raft.
    pub raft: ConfChangeV2,
    /// For the members. An entry that another version of raft made of itself has none.
    pub members: Option<MemberChange>,
}

/// Bytes that are no change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a change of the configuration {0}")]
pub struct ConfChangeError(pub(crate) &'static str);

/// What the leader proposes so that `change` comes to pass.
///
/// One changed vote needs no joint configuration (quorums before and after overlap), several do,
/// and it is left by a [`MemberChange::LeaveJoint`] of its own: raft's automatic leaving is lost when
/// the leader changes. A change that does not touch raft repeats what holds for the node, for raft
/// takes an entry without changes as the leaving.
#[must_use]
pub fn propose(change: &MemberChange, members: &Members) -> ConfChangeV2 {
    let standing = |node: &u64| match members.nodes.get(node).map(|member| member.standing) {
        Some(Standing::Voter) => ConfChangeType::AddNode,
        Some(Standing::Learner) => ConfChangeType::AddLearnerNode,
        Some(Standing::Away) | None => ConfChangeType::RemoveNode,
    };
    let all = |kind, nodes: &[u64]| nodes.iter().map(|node| (kind, *node)).collect::<Vec<_>>();
    let singles = match change {
        MemberChange::Found { node, .. } => all(ConfChangeType::AddNode, &[*node]),
        MemberChange::Join { node, .. }
        | MemberChange::JoinFor { node, .. }
        | MemberChange::Readmit { node } => all(ConfChangeType::AddLearnerNode, &[*node]),
        MemberChange::Address { node, .. } => all(standing(node), &[*node]),
        MemberChange::Promote { nodes } => all(ConfChangeType::AddNode, nodes),
        MemberChange::Demote { nodes } => all(ConfChangeType::AddLearnerNode, nodes),
        MemberChange::LeaveJoint => Vec::new(),
        MemberChange::Withdraw { node } | MemberChange::Retire { node } => {
            all(ConfChangeType::RemoveNode, &[*node])
        }
        MemberChange::Succeed { node, replaces } => {
            let goes = (ConfChangeType::RemoveNode, *replaces);
            match standing(replaces) {
                ConfChangeType::AddNode => vec![goes, (ConfChangeType::AddNode, *node)],
                // It had no vote that could go over.
                ConfChangeType::AddLearnerNode | ConfChangeType::RemoveNode => vec![goes],
            }
        }
    };
    let mut raft = ConfChangeV2::new();
    if singles.len() > 1 {
        raft.set_transition(ConfChangeTransition::Explicit);
    }
    for (kind, node) in singles {
        let mut single = ConfChangeSingle::new();
        single.set_change_type(kind);
        single.node_id = node;
        raft.mut_changes().push(single);
    }
    raft.context = Bytes::from(change.encode());
    raft
}

/// The data of the entry.
#[must_use]
pub fn encode(change: &ConfChangeV2) -> Vec<u8> {
    change.write_to_bytes().expect("a change can be written to memory")
}

/// Reads the data of an entry of kind [`EntryType::EntryConfChangeV2`].
///
/// # Errors
///
/// If it is anything but what [`encode`] writes of what [`propose`] made.
pub fn decode(data: &[u8]) -> Result<ConfChange, ConfChangeError> {
    let mut rest = data;
    let mut raft = ConfChangeV2::new();
    if take_tag(&mut rest, 0x08) {
        let transition = match number(&mut rest)? {
            1 => ConfChangeTransition::Implicit,
            2 => ConfChangeTransition::Explicit,
            _ => return Err(ConfChangeError("has an unknown transition")),
        };
        raft.set_transition(transition);
    }
    while take_tag(&mut rest, 0x12) {
        let single = single(slice(&mut rest)?)?;
        if raft.changes.len() == CHANGES_MAX {
            return Err(ConfChangeError("concerns too many nodes"));
        }
        if raft.changes.iter().any(|other| other.node_id == single.node_id) {
            return Err(ConfChangeError("names a node twice"));
        }
        raft.mut_changes().push(single);
    }
    let mut members = None;
    if take_tag(&mut rest, 0x1A) {
        let context = slice(&mut rest)?;
        let change = MemberChange::decode(context);
        members = Some(change.map_err(|_| ConfChangeError("has an unknown context"))?);
        raft.context = Bytes::copy_from_slice(context);
    }
    if !rest.is_empty() {
        return Err(ConfChangeError("has bytes that are not expected"));
    }
    Ok(ConfChange { raft, members })
}

fn single(mut rest: &[u8]) -> Result<ConfChangeSingle, ConfChangeError> {
    let mut single = ConfChangeSingle::new();
    if take_tag(&mut rest, 0x08) {
        let kind = match number(&mut rest)? {
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            _ => return Err(ConfChangeError("is of an unknown type")),
        };
        single.set_change_type(kind);
    }
    if !take_tag(&mut rest, 0x10) {
        return Err(ConfChangeError("names no node"));
    }
    single.node_id = number(&mut rest)?;
    if single.node_id == 0 || !rest.is_empty() {
        return Err(ConfChangeError("has bytes that are not expected"));
    }
    Ok(single)
}

/// Takes the tag of a field if it comes next.
fn take_tag(rest: &mut &[u8], tag: u8) -> bool {
    let is_next = rest.first() == Some(&tag);
    if is_next {
        *rest = &rest[1..];
    }
    is_next
}

/// A number in its shortest form.
fn number(rest: &mut &[u8]) -> Result<u64, ConfChangeError> {
    let mut number = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7F);
        if at == 9 && bits > 1 {
            break;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                break;
            }
            *rest = &rest[at + 1..];
            return Ok(number);
        }
    }
    Err(ConfChangeError("has a number that is none"))
}

fn slice<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ConfChangeError> {
    let length = usize::try_from(number(rest)?).unwrap_or(usize::MAX);
    let (slice, after) =
        rest.split_at_checked(length).ok_or(ConfChangeError("ends before its end"))?;
    if slice.is_empty() {
        return Err(ConfChangeError("has bytes that are not expected"));
    }
    *rest = after;
    Ok(slice)
}

/// The entry type of these changes.
pub const ENTRY_TYPE: EntryType = EntryType::EntryConfChangeV2;
