//! The check `cluster` of `/readyz`: whether what comes can become durable.

use ledgermq_api::readiness::Check;
use ledgermq_log::{ClusterStatus, Health, Log};
use serde_json::{Map, Value};

const INSECURE: &str = "cluster.insecure: nodes speak in the clear, and whoever reaches the \
    cluster's address can read and change everything";

/// The check; `is_insecure` if this node speaks with others in the clear.
pub(super) fn check(log: &Log, is_insecure: bool) -> Check {
    judge(&log.cluster_status(), log.node(), log.status().leader, is_insecure)
}

fn judge(status: &ClusterStatus, own: u64, leader: u64, is_insecure: bool) -> Check {
    let health = status.health(own, leader);
    let (voters, online, needed) = (status.voters().count(), status.online, status.needed);
    let missing: Vec<u64> = status.missing().collect();
    let mut check = match health {
        _ if status.doubt.is_some() => {
            Check::failed("cluster", status.doubt.clone().unwrap_or_default())
        }
        Health::Stable | Health::Degraded => Check::ready("cluster"),
        Health::Offline => Check::failed(
            "cluster",
            format!(
                "no leader that most of the cluster follows is known here: {online} of {voters} \
                 voters are reached, {needed} are needed"
            ),
        ),
    };
    check = check
        .with("leader", leader)
        .with("voters", voters)
        .with("voters_online", online)
        .with("voters_needed", needed);
    if !missing.is_empty() {
        check = check.with("missing_nodes", missing);
    }
    let refusals: Map<String, Value> = status
        .nodes
        .iter()
        .filter_map(|node| Some((node.node.to_string(), node.refusal.clone()?.into())))
        .collect();
    if !refusals.is_empty() {
        check = check.with("refused_by", refusals);
    }
    if is_insecure {
        check = check.with("warning", INSECURE);
    }
    check
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ledgermq_log::NodeStatus;
    use ledgermq_log::cluster::{Standing, Traffic};

    use super::*;

    /// Three voters, of which as many are reached.
    fn three(online: usize) -> ClusterStatus {
        let node = |at: usize| NodeStatus {
            node: at as u64 + 1,
            address: String::new(),
            standing: Standing::Voter,
            held: false,
            replaces: None,
            draining: false,
            connected: at < online,
            refusal: None,
            silence: Some(Duration::ZERO),
            version: String::new(),
            start: 1,
            matched: None,
            lag: None,
            traffic: Traffic::default(),
            applied: 0,
            last_fsync: Duration::ZERO,
            bytes_free: 0,
        };
        let nodes = (0..3).map(node).collect();
        ClusterStatus { nodes, needed: 2, online, ..ClusterStatus::default() }
    }

    #[test]
    fn a_node_is_ready_with_a_quorum_and_names_who_is_missing() {
        let check = judge(&three(3), 1, 1, false);
        assert!(check.ready && !check.details.contains_key("missing_nodes"), "{check:?}");
        let check = judge(&three(2), 1, 1, false);
        assert!(check.ready, "{check:?}");
        assert_eq!(check.details["missing_nodes"], serde_json::json!([3]));
        let check = judge(&three(1), 1, 0, false);
        assert!(!check.ready);
        assert!(check.reason.as_ref().unwrap().contains("1 of 3 voters are reached, 2 are needed"));
        assert_eq!(check.details["missing_nodes"], serde_json::json!([2, 3]));
        assert!(!check.details.contains_key("refused_by"), "{check:?}");
        let mut refused = three(1);
        refused.nodes[2].refusal = Some("node 1 has left the cluster".to_owned());
        let check = judge(&refused, 1, 0, false);
        let expected = serde_json::json!({ "3": "node 1 has left the cluster" });
        assert_eq!(check.details["refused_by"], expected);
    }

    #[test]
    fn a_node_in_doubt_is_not_ready_and_says_why() {
        let doubt = Some("the log ends at 90, node 1 saw 100 acknowledged".to_owned());
        let check = judge(&ClusterStatus { doubt: doubt.clone(), ..three(3) }, 1, 2, false);
        assert!(!check.ready);
        assert_eq!(check.reason, doubt);
    }

    #[test]
    fn speaking_in_the_clear_is_a_warning() {
        let check = judge(&three(3), 1, 2, true);
        assert!(check.ready);
        assert!(check.details["warning"].as_str().unwrap().contains("in the clear"));
    }
}
