//! The section `[cluster]` of the configuration.

use std::path::PathBuf;

use ledgermq_core::quantity::Span;
use serde::{Deserialize, Serialize};

use crate::cluster::members::Role;

/// The section `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where other nodes come in, `HOST:PORT`; empty = this node is alone, and nobody can join it.
    pub address: String,
    /// Where other nodes reach it, if that is another address (behind a translation, or if `address`
    /// is that of all interfaces).
    pub advertise: String,
    /// Members to ask to be let in, at the first start; a member needs them no more.
    pub join: Vec<String>,
    /// File with the token to join with; `--join-token` and `LEDGERMQ_JOIN_TOKEN` override it.
    pub join_token_file: PathBuf,
    /// What the node is for.
    pub role: Role,
    /// A node that the leader does not hear for so long is declared lost: its sessions end, their
    /// wills come due. The same on all nodes.
    pub node_lost: Span,
    /// Nodes speak in the clear and believe what everybody says of itself. Whoever reaches the
    /// address can then read and change everything.
    pub insecure: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            advertise: String::new(),
            join: Vec::new(),
            join_token_file: PathBuf::new(),
            role: Role::Log,
            node_lost: Span::secs(10),
            insecure: false,
        }
    }
}

impl ClusterConfig {
    /// Whether other nodes can reach this one.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.address.is_empty()
    }

    /// Where other nodes reach it.
    #[must_use]
    pub fn reached_at(&self) -> &str {
        if self.advertise.is_empty() { &self.address } else { &self.advertise }
    }
}
