//! What can be asked about a running log.

use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};

use crate::class::Gate;
use crate::cluster::{Standing, Traffic};

/// State and counters of the log at one moment. Counters count since the process started.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What is accepted.
    pub gate: Gate,
    /// First index of the hot log.
    pub first_index: Index,
    /// Last committed index. One of several members may know of less behind a restart than before.
    pub commit_index: Index,
    /// Last index, committed or not.
    pub last_index: Index,
    /// At the opening something that had been acknowledged may have been lost: the log was kept with
    /// `durability = "os-cache"` and did not come to an orderly end.
    pub unclean: bool,
    /// Raft term.
    pub term: u64,
    /// The node that leads in this term; 0 if this node knows of none.
    pub leader: u64,
    /// The log's time, read in every turn, at least ten times a second. No batch that is pushed from
    /// now on is stamped with less.
    pub time: Timestamp,
    /// Time of the last committed batch.
    pub last_time: Timestamp,
    /// The wall clock is this far from the log's time, and the log goes on by the monotonic clock.
    /// Set only while it is an alarm.
    pub clock_jumped: Option<Duration>,
    /// Bytes of the log's files.
    pub disk_bytes: u64,
    /// Free bytes on the file system.
    pub free_bytes: u64,
    /// Whether the ballast file is in place.
    pub ballast: bool,
    /// What the log would like to drop: everything up to here ([`crate::Log::purge_wanted`]).
    pub purge_wanted: Option<Index>,
    /// Everything up to here may be dropped.
    pub purge_allowed: Index,
    /// Entries in the hot log.
    pub entries: u64,
    /// Batches committed.
    pub committed_batches: u64,
    /// Bytes committed.
    pub committed_bytes: u64,
    /// Batches of which something was void.
    pub void_batches: u64,
    /// Pushes refused because of [`crate::Full`], by class.
    pub refused: [u64; 3],
    /// Writes that found the disk full.
    pub no_space: u64,
    /// Bytes waiting for the log thread.
    pub waiting_bytes: u64,
    /// Duration of the last durable write: the write and its fsync.
    pub last_sync: Duration,
    /// Durations of all durable writes.
    pub syncs: Buckets,
}

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// How many took at most [`Buckets::BOUNDS_MICROS`] of the same place (and more than the one
    /// before); the last counts everything above.
    pub counts: [u64; 13],
    /// Sum of all durations in microseconds.
    pub sum_micros: u64,
}

impl Buckets {
    /// Upper bounds in microseconds.
    pub const BOUNDS_MICROS: [u64; 12] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000,
    ];

    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let at = Self::BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.counts[at] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }
}

/// What this node knows of the cluster, as of its last tick.
#[derive(Clone, Debug, Default)]
pub struct ClusterStatus {
    /// The nodes by number.
    pub nodes: Vec<NodeStatus>,
    /// Voters that are needed for a quorum.
    pub needed: usize,
    /// Voters that are heard, this node among them.
    pub online: usize,
    /// Leaders that this node has seen since its process started.
    pub leader_changes: u64,
    /// Batches that this node sent to leaders, and their bytes.
    pub forwarded: (u64, u64),
    /// Batches that this node took from others, and their bytes.
    pub taken: (u64, u64),
    /// How often batches were sent again.
    pub resends: u64,
    /// Bytes of batches of this node that are not admitted yet.
    pub outbox_bytes: u64,
    /// Why this node takes no part in raft; none if it does.
    pub doubt: Option<String>,
    /// What became of snapshots.
    pub snapshots: SnapshotStatus,
    /// Those on their way: one that is made, one that is received, one to each node that lacks what is
    /// purged.
    pub snapshots_running: Vec<RunningSnapshot>,
    /// Last entry of this node's log, committed or not.
    pub last_index: Index,
    /// How often this node's raft, as the leader, took a batch not, so that it had to wait.
    pub proposals_dropped: u64,
    /// Bytes of what was proposed here and is not committed.
    pub uncommitted_bytes: u64,
    /// Nodes that this one, as the leader, declared lost.
    pub nodes_lost: u64,
}

/// Snapshots for nodes that lack what is purged, since this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// Made by this node.
    pub made: u64,
    /// Sent by this node, whole.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// How long these took until their receivers were there.
    pub sent_time: Duration,
    /// Bytes of the last of them, and how long it took.
    pub last_sent: Option<(u64, Duration)>,
    /// Received by this node, whole, and gone on from.
    pub received: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// How long these took until this node was there.
    pub received_time: Duration,
    /// Bytes of the last of them, and how long it took.
    pub last_received: Option<(u64, Duration)>,
    /// Cuts and transfers that failed, on either side. They are tried again.
    pub failed: u64,
}

/// A snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningSnapshot {
    /// What is done with it.
    pub step: SnapshotStep,
    /// Everything up to here is in it.
    pub index: Index,
    /// Bytes of it that were written, or have arrived.
    pub bytes: u64,
    /// Bytes that it has; not known while it is made.
    pub bytes_total: Option<u64>,
}

/// What is done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    /// This node makes it.
    Made,
    /// It is sent to a node.
    Sent {
        /// Its number.
        to: u64,
    },
    /// It comes from a node.
    Received {
        /// Its number.
        from: u64,
    },
    /// It has come from a node as a whole, and is taken in.
    Imported {
        /// Its number.
        from: u64,
    },
}

/// What this node knows of one.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its number.
    pub node: u64,
    /// Where it is reached; empty if the cluster was not founded.
    pub address: String,
    /// Whether it votes, or learns, or is away.
    pub standing: Standing,
    /// An operator took its vote, and it gets none by itself.
    pub held: bool,
    /// The node whose place it takes when it has caught up and that one is not there.
    pub replaces: Option<u64>,
    /// An operator drains it: it lets no new clients in and leads no more.
    pub draining: bool,
    /// Whether its lanes to this node are up; of this node itself always.
    pub connected: bool,
    /// Why it does not speak with this node, if it has said so since they spoke last.
    pub refusal: Option<String>,
    /// How long ago anything came from it; none of this node itself.
    pub silence: Option<Duration>,
    /// Its version, as it said.
    pub version: String,
    /// Its start epoch, as the log knows it.
    pub start: u64,
    /// How far its log is known to be that of the leader; the leader knows it.
    pub matched: Option<Index>,
    /// For how long the leader has had the first entry that this node lacks; the leader knows it.
    pub lag: Option<Duration>,
    /// What went to it from this node, and came from it.
    pub traffic: Traffic,
    /// How far it has folded, as it said last.
    pub applied: Index,
    /// How long its last fsync took, as it said last.
    pub last_fsync: Duration,
    /// Free bytes on its disk, as it said last.
    pub bytes_free: u64,
}

/// How well the cluster is, as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every node can be reached.
    Stable,
    /// There is a quorum, and a node is missing.
    Degraded,
    /// There is none: nothing becomes durable.
    Offline,
}

impl ClusterStatus {
    /// How well it is for the node `own`, which knows of this `leader` (0 = none).
    ///
    /// A leader that reaches too few steps down within the time of an election, and a follower that
    /// does not hear it forgets it as fast: so a follower with a leader has a quorum, even where it
    /// reaches too few of the others itself.
    #[must_use]
    pub fn health(&self, own: u64, leader: u64) -> Health {
        let is_there = |node: &NodeStatus| node.connected && node.standing != Standing::Away;
        match leader {
            0 => Health::Offline,
            _ if leader == own && self.online < self.needed => Health::Offline,
            _ if self.nodes.iter().all(is_there) => Health::Stable,
            _ => Health::Degraded,
        }
    }

    /// Nodes with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter(|node| node.standing == Standing::Voter)
    }

    /// Nodes that this one does not reach.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter(|node| !node.connected).map(|node| node.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u64, connected: bool, standing: Standing) -> NodeStatus {
        NodeStatus {
            node,
            address: String::new(),
            standing,
            held: false,
            replaces: None,
            draining: false,
            connected,
            refusal: None,
            silence: None,
            version: String::new(),
            start: 1,
            matched: None,
            lag: None,
            traffic: Traffic::default(),
            applied: 0,
            last_fsync: Duration::ZERO,
            bytes_free: 0,
        }
    }

    /// Three voters of which the node 1 reaches those.
    fn three(second: bool, third: bool) -> ClusterStatus {
        let connected = [true, second, third];
        let nodes =
            (1..).zip(connected).map(|(id, connected)| node(id, connected, Standing::Voter));
        let online = connected.into_iter().filter(|connected| *connected).count();
        ClusterStatus { nodes: nodes.collect(), needed: 2, online, ..ClusterStatus::default() }
    }

    #[test]
    fn a_cluster_is_as_well_as_its_nodes_are_reached() {
        assert_eq!(three(true, true).health(1, 1), Health::Stable);
        assert_eq!(three(true, true).health(1, 2), Health::Stable);
        assert_eq!(three(true, false).health(1, 1), Health::Degraded);
        assert_eq!(three(false, false).health(1, 1), Health::Offline);
        assert_eq!(three(true, true).health(1, 0), Health::Offline);
        assert_eq!(three(true, false).missing().collect::<Vec<_>>(), [3]);
        let mut away = three(true, true);
        away.nodes[2].standing = Standing::Away;
        assert_eq!(away.health(1, 1), Health::Degraded);
        assert_eq!(away.voters().count(), 2);
    }

    #[test]
    fn a_follower_with_a_leader_has_a_quorum_though_it_reaches_nobody_else() {
        let mut five = three(true, false);
        five.nodes.extend([4, 5].map(|id| node(id, false, Standing::Voter)));
        five.needed = 3;
        assert_eq!(five.health(1, 2), Health::Degraded);
        assert_eq!(five.health(1, 1), Health::Offline);
    }
}
