//! What operators do to a cluster of several processes.

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;
use serde_json::{Value, json};

use super::several::Cluster;
use crate::support::broker::run_to_end;
use crate::support::client::{Options as Connect, Refused};

impl Cluster {
    /// Runs `ledgermq cluster` at the node at `at`; its exit code and what it printed.
    pub(super) fn cluster(&self, at: usize, arguments: &[&str]) -> (i32, String) {
        let node = &self.nodes[at];
        let dir = node.dir.display().to_string();
        let arguments = [&["cluster"], arguments, &["--data-dir", &dir]].concat();
        let (code, stdout, stderr) = run_to_end(&node.dir, &arguments);
        (code, stdout + &stderr)
    }

    /// The same for programs: what was answered, if it was done.
    pub(super) fn done(&self, at: usize, arguments: &[&str]) -> Value {
        let (code, said) = self.cluster(at, &[arguments, &["--output", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }
}

#[test]
fn a_node_that_is_drained_sends_clients_elsewhere_until_it_is_undrained() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let [other, third] = [1, 2].map(|step| (leader + step) % 3);
    let number = (leader + 1).to_string();
    let (drained, elsewhere) = (cluster.nodes[leader].mqtt, cluster.nodes[other].mqtt);
    let mut here = Connect::v5("here").connect(drained);
    // Any node passes it on to the one that it is for.
    assert_eq!(cluster.cluster(other, &["drain", &number]).0, 0);
    assert_ne!(cluster.leader(), leader);
    let Err(Refused::ConnAck(told)) = Connect::v5("new").try_connect(drained) else {
        panic!("it lets clients in")
    };
    assert_eq!(told.reason, ReasonCode::UseAnotherServer);
    let servers = told.server_reference.expect("the others have addresses");
    let mut servers: Vec<&str> = servers.split(' ').collect();
    servers.sort_unstable();
    let mut expected = [other, third].map(|at| cluster.nodes[at].mqtt.to_string());
    expected.sort_unstable();
    assert_eq!(servers, expected);
    let Err(Refused::ConnAck(told)) = Connect::v311("old").try_connect(drained) else {
        panic!("it lets clients in")
    };
    assert_eq!(told.reason, ReasonCode::ServerUnavailable, "code 3 of 3.1.1");
    // Whoever is in stays, and others serve.
    here.publish("t", "here", QoS::AtLeastOnce);
    Connect::v5("new").connect(elsewhere).publish("t", "there", QoS::AtLeastOnce);
    let (status, body) = cluster.nodes[leader].get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("draining"), "{body}");
    cluster.wait("all say so", |shown| shown["items"][leader]["draining"] == true);
    let (_, shown) = cluster.cluster(third, &["status"]);
    assert!(shown.contains("voter, draining"), "{shown}");
    // It is not to lead, whoever asks.
    let (code, said) = cluster.cluster(third, &["transfer-leader", &number]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("drained"), "{said}");
    assert_eq!(cluster.cluster(third, &["drain", &number, "--undo"]).0, 0);
    Connect::v5("new").connect(drained);
    assert_eq!(cluster.nodes[leader].get("/readyz").0, 200);
    cluster.wait("all say so", |shown| shown["items"][leader]["draining"] == false);
    // What is drained does not outlive the process.
    assert_eq!(cluster.cluster(leader, &["drain", &number]).0, 0);
    cluster.nodes[leader].restart();
    Connect::v5("new").connect(drained);
}

#[test]
fn a_node_whose_vote_was_taken_gets_it_back_from_an_operator_only() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let number = (other + 1).to_string();
    assert_eq!(cluster.cluster(leader, &["demote", &number]).0, 0);
    let held = |shown: &Value| {
        let item = &shown["items"][other];
        item["standing"] == "learner" && item["held"] == true
    };
    cluster.wait("it has no vote", held);
    // The policy looks ten times a second whom to give a vote.
    let first = cluster.nodes[leader].metric("ledgermq_raft_commit_index");
    let mut client = Connect::v5("c").connect(cluster.nodes[leader].mqtt);
    for _ in 0..30 {
        client.publish("t", "x", QoS::AtLeastOnce);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(cluster.nodes[leader].metric("ledgermq_raft_commit_index") > first);
    cluster.wait("it still has none", held);
    cluster.nodes[leader].restart();
    cluster.wait("nor after a restart", held);
    assert_eq!(cluster.cluster(other, &["promote", &number]).0, 0);
    cluster.wait("three voters", |shown| shown["quorum"]["voters"] == 3);
}

#[test]
fn what_goes_between_nodes_is_counted_by_peer_direction_and_lane() {
    let cluster = Cluster::of_three();
    let leader = cluster.leader();
    let [other, third] = [1, 2].map(|step| (leader + step) % 3);
    let mut client = Connect::v5("c").connect(cluster.nodes[other].mqtt);
    for _ in 0..10 {
        client.publish("t", [b'x'; 1_000], QoS::AtLeastOnce);
    }
    let value = |at: usize, name: &str, peer: usize, labels: &str| {
        cluster.nodes[at].metric(&format!("{name}{{peer=\"{}\"{labels}}}", peer + 1))
    };
    let bytes = |at, peer, direction: &str, lane: &str| {
        let labels = format!(",direction=\"{direction}\",lane=\"{lane}\"");
        value(at, "ledgermq_peer_bytes_total", peer, &labels)
    };
    // The pages are of the last tick.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(bytes(leader, other, "received", "log") > 10_000.0, "what was forwarded");
    assert!(bytes(leader, third, "sent", "log") > 10_000.0, "what was replicated");
    assert!(bytes(other, leader, "received", "pulse") > 0.0);
    let frames = ",direction=\"sent\",lane=\"log\"";
    assert!(value(leader, "ledgermq_peer_frames_total", third, frames) >= 1.0);
    for peer in [other, third] {
        assert_eq!(value(leader, "ledgermq_peer_connected", peer, ""), 1.0);
        assert!(value(leader, "ledgermq_raft_follower_lag_seconds", peer, "") < 5.0);
        assert!(value(leader, "ledgermq_raft_follower_lag_entries", peer, "") < 1_000.0);
        assert!(value(other, "ledgermq_raft_follower_lag_seconds", leader, "").is_nan());
    }
    assert!(cluster.nodes[leader].metric("mosquitto_ha_voting_nodes") >= 3.0);
    assert_eq!(cluster.nodes[other].metric("mosquitto_ha_voting_nodes"), -1.0);
}

#[test]
fn a_node_that_was_given_up_is_one_of_them_again_when_it_goes_on() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let mut client = Connect::v5("c").connect(cluster.nodes[leader].mqtt);
    cluster.nodes[other].pause();
    cluster.nodes[leader]
        .wait_for("it is given up", |node| node.metric("ledgermq_node_lost_total") > 0.0);
    client.publish("t", "meanwhile", QoS::AtLeastOnce);
    cluster.nodes[other].go_on();
    // Until it hears of its loss it seems ready, and then its clients are sent away.
    cluster.nodes[other].wait_for("it begins anew", |node| node.stderr().contains("begins anew"));
    cluster.wait("all are back", |shown| shown["quorum"]["online"] == 3);
    cluster.nodes[other].wait_for("it takes clients", |node| {
        node.get("/readyz").0 == 200 && Connect::v5("again").try_connect(node.mqtt).is_ok()
    });
    Connect::v5("again").connect(cluster.nodes[other].mqtt).publish("t", "x", QoS::AtLeastOnce);
}

#[test]
fn every_verb_tells_programs_what_it_did() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let [other, third] = [1, 2].map(|step| (leader + step) % 3);
    for arguments in [&["token"][..], &["token", "--node", "9", "--ttl", "10m"], &["add", "9"]] {
        let answer = cluster.done(other, arguments);
        let token = answer["token"].as_str().expect("a token");
        assert!(token.starts_with("lmq1."), "{arguments:?}: {answer}");
        assert_eq!(answer, json!({ "token": token }), "{arguments:?}");
    }
    let number = (third + 1).to_string();
    let done = json!({ "node": third + 1, "result": "done" });
    let item = |cluster: &Cluster| cluster.done(other, &["status"])["items"][third].clone();
    for (arguments, key, value) in [
        (&["demote", &number][..], "standing", json!("learner")),
        (&["promote", &number], "standing", json!("voter")),
        (&["drain", &number], "draining", json!(true)),
        (&["drain", &number, "--undo"], "draining", json!(false)),
        (&["transfer-leader", &number], "leader", json!(true)),
    ] {
        assert_eq!(cluster.done(leader, arguments), done, "{arguments:?}");
        // Others hear of it a moment later.
        cluster.wait(arguments[0], |shown| shown["items"][third][key] == value);
        assert_eq!(item(&cluster)[key], value, "{arguments:?}");
    }
    assert_eq!(cluster.done(other, &["remove", &number]), done);
    cluster.nodes[third].kill();
    cluster.wait("two nodes", |shown| {
        let nodes = shown["items"].as_array().expect("nodes");
        nodes.len() == 2 && nodes.iter().all(|item| item["node"] != third + 1)
    });
}
