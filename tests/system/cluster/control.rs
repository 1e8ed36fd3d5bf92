//! `$CONTROL/cedalo/ha/v1`, asked of a cluster of several processes.

use ledgermq_core::packet::QoS;
use serde_json::{Value, json};

use super::several::Cluster;
use crate::support::access::Files;
use crate::support::broker::Options;
use crate::support::client::{Client, Options as Connect};

/// A cluster whose operators may use `$CONTROL`; the files must outlive it.
fn cluster() -> (Files, Cluster) {
    let files = Files::new();
    files.write_acl("topic readwrite #\nuser operator\ntopic $CONTROL/#\n");
    let acl = files.acl().display().to_string();
    let with = move |options: Options| options.set("gateway.acl_file", &acl);
    (files, Cluster::of_three_with(with))
}

/// An operator at the node at `at`, who hears the answers.
fn operator(cluster: &Cluster, at: usize, id: &str) -> Client {
    let mut options = Connect::v5(id);
    options.connect.username = Some("operator");
    let mut client = options.connect(cluster.nodes[at].mqtt);
    client.subscribe("$CONTROL/#", QoS::AtMostOnce);
    client
}

/// Asks for one command of `$CONTROL/cedalo/ha/v1`.
fn ask(client: &mut Client, command: &Value) {
    let body = json!({ "commands": [command] }).to_string();
    client.publish("$CONTROL/cedalo/ha/v1", body, QoS::AtLeastOnce);
}

fn response(client: &mut Client) -> Value {
    let answer: Value = serde_json::from_str(client.message().text()).expect("JSON");
    answer["responses"][0].clone()
}

#[test]
fn the_vendors_commands_change_the_cluster_and_one_that_waits_holds_up_no_other() {
    let (_files, mut cluster) = cluster();
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let shown = cluster.nodes[leader].api("/cluster");
    let (name, taken) = (shown["id"].clone(), shown["items"][other]["address"].clone());
    let (host, port) = taken.as_str().expect("text").rsplit_once(':').expect("a port");
    let port: u64 = port.parse().expect("a number");
    let mut one = operator(&cluster, leader, "one");
    let mut two = operator(&cluster, other, "two");
    let named = |command: &str, node: usize, port: u64| {
        json!({
            "command": command, "clustername": name, "address": host, "port": port, "nodeid": node,
        })
    };
    // A token for a new node; neither its number nor its address is another's.
    ask(&mut one, &named("addNode", 9, 1));
    let answer = response(&mut one);
    assert_eq!(answer["data"]["node"]["nodeid"], 9, "{answer}");
    assert!(answer["data"]["token"].as_str().expect("a token").starts_with("lmq1."));
    for (node, port, error) in [(9, port, "this address"), (other + 1, 1, "is a member already")] {
        ask(&mut one, &named("addNode", node, port));
        let answer = response(&mut one);
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(error)), "{answer}");
    }
    let refused = [
        (named("removeNode", other + 1, port), "at least 3 nodes"),
        (named("leaveCluster", other + 1, port), "by itself"),
        (json!({"command": "joinCluster", "clustername": name, "nodes": []}), "already part of a"),
        (json!({"command": "setLeader", "clustername": "x", "nodeid": 1}), "Cluster not found"),
    ];
    for (command, error) in refused {
        ask(&mut one, &command);
        let answer = response(&mut one);
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(error)), "{answer}");
    }
    ask(&mut two, &named("addNode", 9, 1));
    assert_eq!(response(&mut two)["error"], "This broker is not the cluster leader.");
    // It counts what is folded there: what was acknowledged elsewhere may come a moment later.
    cluster.nodes[leader].wait_for("both clients to be counted", |_| {
        ask(&mut one, &json!({ "command": "getRaftStatus" }));
        let status = response(&mut one)["data"].clone();
        (&status["client"], &status["subscription"]) == (&json!(2), &json!(2))
    });
    // A node that does not run does not take over. Meanwhile others are answered.
    cluster.nodes[other].pause();
    let lead = json!({ "command": "setLeader", "clustername": name, "nodeid": other + 1 });
    ask(&mut one, &lead);
    ask(&mut one, &json!({ "command": "isLeader" }));
    assert_eq!(response(&mut one)["command"], "isLeader");
    let answer = response(&mut one);
    assert_eq!(answer["command"], "setLeader");
    assert!(answer["error"].is_string(), "{answer}");
    cluster.nodes[other].go_on();
    ask(&mut one, &lead);
    let answer = response(&mut one);
    // It may have been told to before, and have taken over by itself.
    let is_done = answer == json!({ "command": "setLeader" }) || cluster.leader() == other;
    assert!(is_done, "{answer}");
}

/// How the vendor's tools name a node, as `shown` has it.
fn named(command: &str, shown: &Value, node: usize) -> Value {
    let items = shown["items"].as_array().expect("nodes");
    let item = items.iter().find(|item| item["node"] == node).expect("a member");
    let address = item["address"].as_str().expect("text");
    let (host, port) = address.rsplit_once(':').expect("a port");
    let port: u64 = port.parse().expect("a number");
    let name = &shown["id"];
    json!({ "command": command, "clustername": name, "address": host, "port": port, "nodeid": node })
}

/// The numbers of the nodes that `getCluster` tells.
fn numbers(client: &mut Client) -> Vec<u64> {
    ask(client, &json!({ "command": "getCluster" }));
    let answer = response(client);
    let nodes = answer["data"]["cluster"]["nodes"].as_array().cloned();
    let nodes = nodes.unwrap_or_else(|| panic!("{answer}"));
    nodes.iter().filter_map(|node| node["nodeid"].as_u64()).collect()
}

#[test]
fn the_vendors_commands_let_nodes_leave() {
    let (_files, mut cluster) = cluster();
    cluster.join(4);
    cluster.wait("four nodes", |shown| shown["items"].as_array().map(Vec::len) == Some(4));
    let leader = cluster.leader();
    let [other, third] = [1, 2].map(|step| (leader + step) % 3);
    let shown = cluster.nodes[leader].api("/cluster");
    let mut one = operator(&cluster, leader, "one");
    let mut there = operator(&cluster, other, "there");
    // Each node tells of itself.
    for (at, client) in [(leader, &mut one), (other, &mut there)] {
        ask(client, &json!({ "command": "getNode" }));
        let fields = named("", &shown, at + 1);
        let (address, port) = (&fields["address"], &fields["port"]);
        let expected = json!({
            "command": "getNode",
            "data": { "node": {
                "address": address, "port": port, "nodeid": at + 1, "mynode": true,
                "leader": at == leader,
            } },
        });
        assert_eq!(response(client), expected);
    }
    ask(&mut one, &named("removeNode", &shown, third + 1));
    assert_eq!(response(&mut one), json!({ "command": "removeNode" }), "done");
    let mut left = vec![1, 2, 3, 4];
    left.retain(|number| *number != third as u64 + 1);
    cluster.nodes[leader].wait_for("three nodes", |_| numbers(&mut one) == left);
    cluster.nodes[third].kill();
    // The fourth gets the vote.
    cluster.wait("three voters", |shown| shown["quorum"]["online"] == 3);
    // Now there are too few for that, but any may leave by itself.
    ask(&mut one, &named("removeNode", &shown, other + 1));
    let answer = response(&mut one);
    let is_refused = |text: &str| text.contains("at least 3 nodes");
    assert!(answer["error"].as_str().is_some_and(is_refused), "{answer}");
    ask(&mut there, &named("leaveCluster", &shown, other + 1));
    assert_eq!(response(&mut there), json!({ "command": "leaveCluster" }), "done");
    assert!(there.wait_closed().is_some(), "its clients are sent away a moment later");
    left.retain(|number| *number != other as u64 + 1);
    cluster.nodes[leader].wait_for("two nodes", |_| numbers(&mut one) == left);
}
