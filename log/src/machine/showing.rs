//! What this node shows of the cluster, to whoever asks in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::cluster::Standing;
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::status::{ClusterStatus, NodeStatus};
use crate::store::LogStore;

impl<S: LogStore> LogMachine<S> {
    /// Shows the members to everybody, if they changed. That somebody has left only when it is on the
    /// disk: it is ended then, and of two voters the other one could not go on without it if a crash
    /// took back what it had applied.
    pub(super) fn show_members(&self) {
        let members = self.replica.members();
        let mut shown = lock(&self.shared.members);
        let may_be_told = shown.retired == members.retired || self.replica.is_configuration_kept();
        if shown.index != members.index && may_be_told {
            *shown = Arc::new(members.clone());
        }
    }

    /// Shows what this node knows of the cluster.
    pub(super) fn show_cluster(&self, now: Duration) {
        let own = self.shared.node;
        let state = &self.replica.configuration().state;
        let members = self.replica.members();
        let followers: BTreeMap<u64, Index> =
            self.replica.followers().map(|(id, matched, _)| (id, matched)).collect();
        let ids = self.replica.configuration().members();
        let nodes = ids.into_iter().chain(members.nodes.keys().copied()).collect::<BTreeSet<_>>();
        let is_heard = |node: u64| node == own || self.peers.is_connected(node);
        let nodes = nodes.into_iter().map(|node| self.node_status(node, now, &followers));
        let status = ClusterStatus {
            nodes: nodes.collect(),
            needed: state.voters.len() / 2 + 1,
            online: state.voters.iter().filter(|node| is_heard(**node)).count(),
            leader_changes: self.policy.leader_changes(),
            forwarded: (
                self.proposing.counts.forwarded_batches,
                self.proposing.counts.forwarded_bytes,
            ),
            taken: (self.proposing.counts.taken_batches, self.proposing.counts.taken_bytes),
            resends: self.proposing.counts.begun_again,
            outbox_bytes: self.proposing.outbox_bytes() as u64,
            doubt: self.doubting.reason(),
            snapshots: self.snapshots.counts,
            snapshots_running: self.snapshots_running(),
            last_index: self.replica.last_index(),
            proposals_dropped: self.proposing.counts.dropped,
            uncommitted_bytes: self.replica.uncommitted_bytes() as u64,
            nodes_lost: self.policy.nodes_lost(),
        };
        *lock(&self.shared.cluster) = status;
    }

    fn node_status(
        &self,
        node: u64,
        now: Duration,
        followers: &BTreeMap<u64, Index>,
    ) -> NodeStatus {
        let is_own = node == self.shared.node;
        let member = self.replica.members().nodes.get(&node);
        let is_voter = self.replica.configuration().state.voters.contains(&node);
        let known = self.peers.get(node);
        let pulse = known.and_then(|known| known.pulse).unwrap_or_default();
        let hello = known.and_then(|known| known.hello.as_ref());
        let standing = if is_voter { Standing::Voter } else { Standing::Learner };
        let version = hello.map(|hello| hello.version.clone()).unwrap_or_default();
        let last = self.replica.last_index();
        let matched = if is_own { Some(last) } else { followers.get(&node).copied() };
        NodeStatus {
            node,
            address: member.map(|member| member.address.clone()).unwrap_or_default(),
            standing: member.map_or(standing, |member| member.standing),
            held: member.is_some_and(|member| member.is_held),
            replaces: member.and_then(|member| member.replaces),
            draining: if is_own { self.is_draining() } else { self.peers.is_draining(node) },
            connected: is_own || hello.is_some(),
            refusal: known.and_then(|known| known.refusal.clone()),
            silence: known.map(|known| now.saturating_sub(known.heard_at)),
            version: if is_own { env!("CARGO_PKG_VERSION").to_owned() } else { version },
            start: self.admission.start_of(node),
            matched,
            lag: matched.filter(|_| self.replica.is_leader()).map(|matched| match is_own {
                true => Duration::ZERO,
                false => self.peers.lags.of(now, matched),
            }),
            traffic: known.map(|known| known.traffic).unwrap_or_default(),
            applied: if is_own { self.admission.applied() } else { pulse.applied },
            last_fsync: match is_own {
                true => self.counts.last_sync,
                false => Duration::from_micros(pulse.fsync_us),
            },
            bytes_free: if is_own { self.space.free() } else { pulse.bytes_free },
        }
    }
}
