//! Members as they were written before a node could be held without a vote.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::offset::Index;
use serde::Deserialize;

use super::{Member, Members, Role, Standing, TokenId};
use crate::cluster::identity::ClusterId;

/// First byte of that form.
pub(super) const VERSION: u8 = 1;

#[derive(Deserialize)]
pub(super) struct MembersV1 {
    cluster: ClusterId,
    generation: u64,
    index: Index,
    nodes: BTreeMap<u64, MemberV1>,
    retired: BTreeSet<u64>,
    spent: BTreeMap<TokenId, u64>,
}

#[derive(Deserialize)]
struct MemberV1 {
    address: String,
    mqtt: Vec<String>,
    role: Role,
    standing: Standing,
    key: [u8; 32],
    joined: Index,
}

impl From<MembersV1> for Members {
    fn from(old: MembersV1) -> Self {
        let MembersV1 { cluster, generation, index, nodes, retired, spent } = old;
        let nodes = nodes.into_iter().map(|(node, member)| (node, member.into())).collect();
        Self { cluster, generation, index, nodes, retired, spent }
    }
}

impl From<MemberV1> for Member {
    fn from(old: MemberV1) -> Self {
        let MemberV1 { address, mqtt, role, standing, key, joined } = old;
        Self { address, mqtt, role, standing, key, joined, is_held: false, replaces: None }
    }
}
