//! Raft, the other nodes, and what goes to and fro between them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ledgermq_log::cluster::{Lane, Traffic, Volume};
use ledgermq_log::{ClusterStatus, Log, NodeStatus, SnapshotStatus};
use metrics::{Counter, Gauge, counter, gauge};

use super::float;

/// Handles, registered once; those of a peer when it is first seen.
pub(super) struct Cluster {
    is_leader: Gauge,
    leader_changes: Counter,
    voters: Gauge,
    voters_online: Gauge,
    forwarded_batches: [Counter; 2],
    forwarded_bytes: [Counter; 2],
    outbox_bytes: Gauge,
    resends: Counter,
    snapshots: Snapshots,
    last_index: Gauge,
    uncommitted_bytes: Gauge,
    proposals_dropped: Counter,
    nodes_lost: Counter,
    /// Numbers of nodes are never given again, and a cluster has few.
    peers: Mutex<BTreeMap<u64, Peer>>,
}

/// Snapshots for nodes that lack what is purged.
struct Snapshots {
    made: Counter,
    failures: Counter,
    /// Sent and received.
    whole: [Counter; 2],
    bytes: [Counter; 2],
    seconds: [Gauge; 2],
}

impl Snapshots {
    fn new() -> Self {
        Self {
            made: counter!("ledgermq_snapshots_made_total"),
            failures: counter!("ledgermq_snapshot_failures_total"),
            whole: by_direction("ledgermq_snapshots_total"),
            bytes: by_direction("ledgermq_snapshot_bytes_total"),
            seconds: ["sent", "received"]
                .map(|to| gauge!("ledgermq_snapshot_seconds", "direction" => to)),
        }
    }

    fn set(&self, status: &SnapshotStatus) {
        self.made.absolute(status.made);
        self.failures.absolute(status.failed);
        let sent = (status.sent, status.sent_bytes, status.sent_time);
        let received = (status.received, status.received_bytes, status.received_time);
        for (at, (whole, bytes, time)) in [sent, received].into_iter().enumerate() {
            self.whole[at].absolute(whole);
            self.bytes[at].absolute(bytes);
            self.seconds[at].set(time.as_secs_f64());
        }
    }
}

fn by_direction(name: &'static str) -> [Counter; 2] {
    ["sent", "received"].map(|to| counter!(name, "direction" => to))
}

struct Peer {
    lag: Gauge,
    lag_seconds: Gauge,
    /// By direction and lane.
    frames: [[Counter; 3]; 2],
    bytes: [[Counter; 3]; 2],
    connected: Gauge,
    silence: Gauge,
}

impl Peer {
    fn new(node: u64) -> Self {
        let node = node.to_string();
        let by_lane = |name: &'static str| {
            ["sent", "received"].map(|to| {
                Lane::ALL.map(|lane| {
                    let (peer, lane) = (node.clone(), lane.to_string());
                    counter!(name, "peer" => peer, "direction" => to, "lane" => lane)
                })
            })
        };
        Self {
            frames: by_lane("ledgermq_peer_frames_total"),
            bytes: by_lane("ledgermq_peer_bytes_total"),
            lag_seconds: gauge!("ledgermq_raft_follower_lag_seconds", "peer" => node.clone()),
            lag: gauge!("ledgermq_raft_follower_lag_entries", "peer" => node.clone()),
            connected: gauge!("ledgermq_peer_connected", "peer" => node.clone()),
            silence: gauge!("ledgermq_peer_silence_seconds", "peer" => node),
        }
    }

    /// What is not known is not a number, and no alarm compares with it.
    /// A node that has left is neither connected nor missed.
    fn left(&self) {
        self.set(false, None, None);
        self.connected.set(f64::NAN);
    }

    fn set(&self, is_connected: bool, lag: Option<(u64, f64)>, silence: Option<f64>) {
        self.connected.set(if is_connected { 1.0 } else { 0.0 });
        self.lag.set(lag.map_or(f64::NAN, |(entries, _)| float(entries)));
        self.lag_seconds.set(lag.map_or(f64::NAN, |(_, seconds)| seconds));
        self.silence.set(silence.unwrap_or(f64::NAN));
    }
}

impl Peer {
    fn count(&self, traffic: &Traffic) {
        let Traffic { sent, received } = traffic;
        for (direction, lanes) in [sent, received].into_iter().enumerate() {
            for (lane, Volume { frames, bytes }) in lanes.iter().enumerate() {
                self.frames[direction][lane].absolute(*frames);
                self.bytes[direction][lane].absolute(*bytes);
            }
        }
    }
}

/// Entries and seconds that a node is behind; the leader knows it.
fn lag(node: &NodeStatus, last: Option<u64>) -> Option<(u64, f64)> {
    let entries = last?.saturating_sub(node.matched?);
    Some((entries, node.lag?.as_secs_f64()))
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            is_leader: gauge!("ledgermq_raft_is_leader"),
            leader_changes: counter!("ledgermq_raft_leader_changes_total"),
            voters: gauge!("ledgermq_raft_voters"),
            voters_online: gauge!("ledgermq_raft_voters_online"),
            forwarded_batches: by_direction("ledgermq_peer_forwarded_batches_total"),
            forwarded_bytes: by_direction("ledgermq_peer_forwarded_bytes_total"),
            outbox_bytes: gauge!("ledgermq_outbox_bytes"),
            resends: counter!("ledgermq_outbox_resends_total"),
            snapshots: Snapshots::new(),
            last_index: gauge!("ledgermq_raft_last_index"),
            uncommitted_bytes: gauge!("ledgermq_raft_uncommitted_bytes"),
            proposals_dropped: counter!("ledgermq_raft_proposals_dropped_total"),
            nodes_lost: counter!("ledgermq_node_lost_total"),
            peers: Mutex::default(),
        }
    }

    /// Brings the handles up to the moment.
    pub(super) fn gather(&self, log: &Log) {
        let (own, leader, status) = (log.node(), log.status().leader, log.cluster_status());
        self.is_leader.set(if leader == own { 1.0 } else { 0.0 });
        self.leader_changes.absolute(status.leader_changes);
        self.voters.set(float(status.voters().count() as u64));
        self.voters_online.set(float(status.online as u64));
        let [sent, received] = [status.forwarded, status.taken];
        for (at, (batches, bytes)) in [sent, received].into_iter().enumerate() {
            self.forwarded_batches[at].absolute(batches);
            self.forwarded_bytes[at].absolute(bytes);
        }
        self.outbox_bytes.set(float(status.outbox_bytes));
        self.resends.absolute(status.resends);
        self.snapshots.set(&status.snapshots);
        self.last_index.set(float(log.status().last_index));
        self.uncommitted_bytes.set(float(status.uncommitted_bytes));
        self.proposals_dropped.absolute(status.proposals_dropped);
        self.nodes_lost.absolute(status.nodes_lost);
        self.gather_peers(own, leader, &status);
    }

    fn gather_peers(&self, own: u64, leader: u64, status: &ClusterStatus) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = status.nodes.iter().find(|node| node.node == own);
        let last = last.and_then(|node| node.matched).filter(|_| leader == own);
        let others = || status.nodes.iter().filter(|node| node.node != own);
        for (node, peer) in &*peers {
            if others().all(|other| other.node != *node) {
                peer.left();
            }
        }
        for node in others() {
            let silence = node.silence.map(|silence| silence.as_secs_f64());
            let peer = peers.entry(node.node).or_insert_with(|| Peer::new(node.node));
            peer.set(node.connected, lag(node, last), silence);
            peer.count(&node.traffic);
        }
    }
}
