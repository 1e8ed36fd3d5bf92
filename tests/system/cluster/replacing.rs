//! A node whose disk is gone is replaced by one command, while clients work.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ledgermq_core::packet::QoS;
use serde_json::Value;

use super::several::Cluster;
use crate::support::client::Options as Connect;

/// A publisher that goes on until it is told to end; what was acknowledged, of what it is to be known
/// by.
fn publisher(
    name: &'static str,
    node: SocketAddr,
    runs: &Arc<AtomicBool>,
) -> JoinHandle<BTreeSet<String>> {
    let runs = Arc::clone(runs);
    thread::spawn(move || {
        let mut client = Connect::v5(name).connect(node);
        let mut acknowledged = BTreeSet::new();
        while runs.load(Ordering::Relaxed) {
            let text = format!("{name} {}", acknowledged.len());
            client.publish("t", &text, QoS::AtLeastOnce);
            acknowledged.insert(text);
        }
        acknowledged
    })
}

fn numbers(shown: &Value) -> Vec<u64> {
    let items = shown["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let voters = items.iter().filter(|node| node["standing"] == "voter");
    voters.filter_map(|node| node["node"].as_u64()).collect()
}

#[test]
fn a_node_without_its_disk_is_replaced_by_one_command_under_load() {
    let mut cluster = Cluster::of_three();
    assert_eq!(cluster.cluster(0, &["transfer-leader", "2"]).0, 0);
    let mut sleeper = Connect::v5("sleeper").session_expiry(3600).connect(cluster.nodes[1].mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.disconnect();
    let runs = Arc::new(AtomicBool::new(true));
    let publishers =
        [("one", 0), ("three", 2)].map(|(name, at)| publisher(name, cluster.nodes[at].mqtt, &runs));

    // Nobody takes the place of a node that serves.
    let replace = ["add", "4", "--replaces", "2"];
    let (code, said) = cluster.cluster(2, &replace);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("node 2 is there and serves"), "{said}");

    // The leader dies. Its disk comes back at the end, when nobody expects it any more.
    cluster.nodes[1].kill();
    let dir = cluster.nodes[1].dir.clone();
    let old = dir.with_file_name("old");
    std::fs::rename(&dir, &old).unwrap();
    cluster.nodes[2].wait_for("its connection is broken", |node| {
        node.api("/cluster")["items"][1]["connected"] == false
    });
    let (code, token) = cluster.cluster(2, &replace);
    assert_eq!(code, 0, "{token}");
    cluster.join_by(4, &token);
    cluster.wait("the new node votes instead", |shown| numbers(shown) == [1, 3, 4]);
    cluster.wait("the old one is no member", |shown| {
        shown["items"].as_array().is_some_and(|items| items.iter().all(|item| item["node"] != 2))
    });
    let (code, said) = cluster.cluster(0, &["add", "5", "--replaces", "2"]);
    assert!(code == 6 && said.contains("node 2 has left"), "{code}: {said}");

    thread::sleep(Duration::from_millis(200));
    runs.store(false, Ordering::Relaxed);
    let acknowledged: BTreeSet<String> =
        publishers.into_iter().flat_map(|it| it.join().expect("a publisher")).collect();
    // All that was acknowledged is owed by the new node.
    let mut sleeper = Connect::v5("sleeper")
        .clean_start(false)
        .session_expiry(3600)
        .connect(cluster.nodes[3].mqtt);
    assert!(sleeper.session_present());
    let mut came = BTreeSet::new();
    while !acknowledged.is_subset(&came) {
        let message = sleeper.message_within(Duration::from_secs(20));
        let lost = acknowledged.difference(&came).count();
        came.insert(
            message.unwrap_or_else(|| panic!("{lost} messages do not come")).text().to_owned(),
        );
    }
    // With one of the others away its vote counts.
    cluster.nodes[2].kill();
    Connect::v5("late").connect(cluster.nodes[3].mqtt).publish("t", "late", QoS::AtLeastOnce);

    // An old copy of the disk is let in by nobody.
    std::fs::rename(&old, &dir).unwrap();
    let back = &mut cluster.nodes[1];
    back.spawn();
    back.wait_for("it is refused", |node| node.stderr().contains("node 2 has left the cluster"));
    assert!(!back.stderr().lines().any(|line| line == "ready"));
}

#[test]
fn a_node_that_serves_again_stays() {
    let mut cluster = Cluster::of_three();
    assert_eq!(cluster.cluster(0, &["drain", "3"]).0, 0);
    cluster.wait("all know", |shown| shown["items"][2]["draining"] == true);
    let (code, token) = cluster.cluster(0, &["add", "4", "--replaces", "3"]);
    assert_eq!(code, 0, "{token}");
    assert_eq!(cluster.cluster(0, &["drain", "3", "--undo"]).0, 0);
    cluster.wait("all know", |shown| shown["items"][2]["draining"] == false);
    let mut late = cluster.joining(4, &token).prepare();
    late.spawn();
    assert!(!late.wait_end().success());
    assert!(late.stderr().contains("node 3 is there and serves"), "{}", late.stderr());
    assert_eq!(numbers(&cluster.nodes[0].api("/cluster")), [1, 2, 3]);
}

#[test]
fn a_node_that_is_drained_makes_way_for_another_one() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let number = (leader + 1).to_string();
    let at = (leader + 1) % 3;
    assert_eq!(cluster.cluster(at, &["drain", &number]).0, 0);
    cluster.wait("all know", |shown| shown["items"][leader]["draining"] == true);
    let (code, token) = cluster.cluster(at, &["add", "4", "--replaces", &number]);
    assert_eq!(code, 0, "{token}");
    let (code, second) = cluster.cluster(at, &["token", "--replaces", &number]);
    assert_eq!(code, 0, "{second}");
    cluster.join_by(4, &token);
    let mut expected = vec![1, 2, 3, 4];
    expected.remove(leader);
    cluster.nodes[at]
        .wait_for("it has its vote", |node| numbers(&node.api("/cluster")) == expected);
    // Who holds another token for the same place comes too late.
    let mut late = cluster.joining(5, &second).prepare();
    late.spawn();
    assert!(!late.wait_end().success());
    assert!(late.stderr().contains("has left the cluster"), "{}", late.stderr());
    Connect::v5("c").connect(cluster.nodes[3].mqtt).publish("t", "x", QoS::AtLeastOnce);
}
