//! The cluster of one node, as operators see it.

use ledgermq_core::packet::QoS;
use serde_json::{Value, json};

use crate::support::broker::{Broker, Options, run_to_end};
use crate::support::client;

/// Status and JSON of the answer to a request with the token of the node.
fn ask(broker: &Broker, method: &str, path: &str, body: &str) -> (u16, Value) {
    let token = std::fs::read_to_string(broker.dir.join("admin.token")).unwrap();
    ask_as(broker, method, path, body, &format!("Authorization: Bearer {}\r\n", token.trim()))
}

fn ask_as(broker: &Broker, method: &str, path: &str, body: &str, header: &str) -> (u16, Value) {
    let length = body.len();
    let (status, body) = broker.ask(&format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\
         Content-Length: {length}\r\n\r\n{body}"
    ));
    (status, serde_json::from_str(&body).expect(&body))
}

/// Exit code, stdout and stderr of `ledgermq cluster` for this node.
fn cluster(broker: &Broker, arguments: &[&str]) -> (i32, String, String) {
    let dir = broker.dir.display().to_string();
    let arguments = [&["cluster"], arguments, &["--data-dir", &dir]].concat();
    run_to_end(&broker.dir, &arguments)
}

#[test]
fn a_node_alone_is_a_cluster_of_one() {
    let broker = Broker::run();
    let shown = broker.api("/cluster");
    assert_eq!(shown["state"], "stable");
    assert_eq!(shown["leader"], 1);
    assert_eq!(shown["quorum"], json!({ "voters": 1, "online": 1, "needed": 1, "reached": true }));
    assert_eq!(shown["term"], broker.api("/node")["log"]["term"]);
    assert_eq!(shown["next"], Value::Null);
    let [item] = shown["items"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    for (key, value) in [
        ("node", json!(1)),
        ("role", json!("log")),
        ("standing", json!("voter")),
        ("leader", json!(true)),
        ("connected", json!(true)),
        ("lag_entries", json!(0)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(item[key], value, "{key} of {item}");
    }
    assert!(item["matched"].as_u64() > Some(0) && item["bytes_free"].as_u64() > Some(0), "{item}");
}

#[test]
fn changes_need_the_token_and_name_a_node_that_is_there() {
    let broker = Broker::run();
    let header = "Authorization: Bearer no token of this node, but a long one\r\n";
    for header in ["", header] {
        let (status, problem) = ask_as(&broker, "DELETE", "/cluster/nodes/1", "", header);
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{problem}");
    }
    for (method, path, body) in [
        ("DELETE", "/cluster/nodes/7", ""),
        ("POST", "/cluster/nodes/7/promote", ""),
        ("POST", "/cluster/nodes/7/demote", ""),
        ("POST", "/cluster/leader", r#"{"node":7}"#),
    ] {
        let (status, problem) = ask(&broker, method, path, body);
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{path}: {problem}");
    }
    for (method, path, body) in [
        ("POST", "/cluster/leader", ""),
        ("POST", "/cluster/leader", "{"),
        ("POST", "/cluster/leader", r#"{"node":1,"now":true}"#),
        ("DELETE", "/cluster/nodes/one", ""),
        ("POST", "/cluster/tokens", r#"{"role":"edge"}"#),
        ("POST", "/cluster/tokens", r#"{"ttl":"soon"}"#),
    ] {
        let (status, problem) = ask(&broker, method, path, body);
        let expected = (400, &json!("invalid_parameter"));
        assert_eq!((status, &problem["code"]), expected, "{path} {body}: {problem}");
    }
    let (status, problem) = ask(&broker, "POST", "/cluster/nodes/1", "");
    assert_eq!(status, 405, "{problem}");
}

#[test]
fn what_one_node_cannot_do_is_a_conflict_with_a_reason() {
    let broker = Broker::run();
    for (method, path) in [("DELETE", "/cluster/nodes/1"), ("POST", "/cluster/nodes/1/demote")] {
        let (status, problem) = ask(&broker, method, path, "");
        assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{path}: {problem}");
    }
    // Nobody can reach it, so nobody can join it.
    let (status, problem) = ask(&broker, "POST", "/cluster/tokens", "");
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("cluster.address"), "{problem}");
    // It leads already.
    let (status, answer) = ask(&broker, "POST", "/cluster/leader", r#"{"node":1}"#);
    assert_eq!((status, &answer["result"]), (200, &json!("done")), "{answer}");
    assert_eq!(broker.api("/cluster")["state"], "stable");
}

#[test]
fn the_command_line_shows_the_cluster() {
    let broker = Broker::run();
    let (code, stdout, stderr) = cluster(&broker, &["status"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("quorum   reached: 1 of 1 voters online, 1 needed"), "{stdout}");
    let row: Vec<&str> = stdout.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..6], ["1", "-", "log", "voter", "yes", "yes"], "{stdout}");
    let (code, stdout, _) = cluster(&broker, &["status", "--output", "json"]);
    assert_eq!(code, 0);
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(shown["items"][0]["node"], 1);
    let url = format!("http://{}", broker.http);
    let (code, stdout, _) = run_to_end(&broker.dir, &["cluster", "status", "--url", &url]);
    assert_eq!(code, 0, "reading is open on this machine");
    assert!(stdout.starts_with("cluster  "), "{stdout}");
}

#[test]
fn exit_codes_of_the_command_line_tell_what_is_wrong() {
    let mut broker = Broker::run();
    let url = format!("http://{}", broker.http);
    for (arguments, expected) in [
        (&["promote", "7"][..], 3),
        (&["remove", "1"], 6),
        (&["token"], 6),
        (&["add", "2"], 6),
        (&["token", "--role", "edge"], 2),
        (&["remove", "0"], 2),
        (&["transfer-leader", "1"], 0),
    ] {
        let (code, stdout, stderr) = cluster(&broker, arguments);
        assert_eq!(code, expected, "{arguments:?}: {stderr}");
        assert_eq!(stdout.is_empty(), expected != 0, "{arguments:?}: {stdout}");
    }
    let ask = |arguments: &[&str]| run_to_end(&broker.dir, &[&["cluster"], arguments].concat());
    assert_eq!(ask(&["demote", "1", "--url", &url]).0, 4);
    let wrong = "0123456789abcdef0123456789abcdef";
    assert_eq!(ask(&["status", "--url", &url, "--token", wrong]).0, 4);
    assert_eq!(ask(&["status", "--url", "ftp://x"]).0, 2);
    assert_eq!(ask(&["status"]).0, 3, "no node has run in ./ledgermq-data there");
    broker.terminate();
    broker.wait_end();
    let (code, _, stderr) = cluster(&broker, &["status"]);
    assert_eq!(code, 5, "{stderr}");
}

#[test]
fn the_metrics_of_raft_are_there_without_peers() {
    let mut broker = Broker::run();
    broker.wait_for("a leader to be counted", |broker| {
        broker.metric("ledgermq_raft_leader_changes_total") == 1.0
    });
    for (name, value) in [
        ("ledgermq_raft_is_leader", 1.0),
        ("ledgermq_raft_voters", 1.0),
        ("ledgermq_raft_voters_online", 1.0),
        ("ledgermq_peer_forwarded_batches_total{direction=\"sent\"}", 0.0),
        ("ledgermq_peer_forwarded_bytes_total{direction=\"received\"}", 0.0),
        ("ledgermq_outbox_resends_total", 0.0),
        ("ledgermq_snapshots_made_total", 0.0),
        ("ledgermq_snapshot_failures_total", 0.0),
    ] {
        assert_eq!(broker.metric(name), value, "{name}");
    }
    assert!(broker.metric("ledgermq_raft_term") > 0.0);
    assert!(broker.metric("ledgermq_raft_commit_index") > 0.0);
    assert!(broker.metric("ledgermq_outbox_bytes") >= 0.0);
    assert!(!broker.get("/metrics").1.contains("peer="));
}

/// What a node alone shows of raft, of what goes between nodes, and of its disk.
const NAMES: [&str; 20] = [
    "ledgermq_raft_term",
    "ledgermq_raft_is_leader",
    "ledgermq_raft_commit_index",
    "ledgermq_raft_applied_index",
    "ledgermq_raft_last_index",
    "ledgermq_raft_leader_changes_total",
    "ledgermq_raft_voters",
    "ledgermq_raft_voters_online",
    "ledgermq_raft_proposals_dropped_total",
    "ledgermq_raft_uncommitted_bytes",
    "ledgermq_node_lost_total",
    "ledgermq_outbox_bytes",
    "ledgermq_outbox_resends_total",
    "ledgermq_log_void_batches_total",
    "ledgermq_log_fsyncs_total",
    "ledgermq_log_last_fsync_seconds",
    "ledgermq_log_fsync_seconds_sum",
    "ledgermq_log_fsync_seconds_count",
    "ledgermq_log_fsync_seconds_bucket{le=\"0.001\"}",
    "ledgermq_mqtt_messages_received_total{qos=\"1\"}",
];

/// The vendor's, each with its value beside ours.
const VENDOR: [&str; 32] = [
    "mosquitto_version",
    "mosquitto_sessions",
    "mosquitto_clients_online",
    "mosquitto_clients_offline",
    "mosquitto_clients_expired",
    "mosquitto_subscriptions",
    "mosquitto_shared_subscriptions",
    "mosquitto_retained_messages",
    "mosquitto_bytes_received",
    "mosquitto_bytes_sent",
    "mosquitto_pub_bytes_received",
    "mosquitto_pub_bytes_sent",
    "mosquitto_mqtt_packets_received",
    "mosquitto_mqtt_packets_sent",
    "mosquitto_mqtt_publish_received",
    "mosquitto_mqtt_publish_sent",
    "mosquitto_mqtt_publish_dropped",
    "mosquitto_socket_connections",
    "mosquitto_basic_auth_success",
    "mosquitto_basic_auth_fail",
    "mosquitto_session_take_over",
    "mosquitto_heap_memory",
    "mosquitto_heap_memory_max",
    "mosquitto_ha_voting_nodes",
    "mosquitto_ha_voting_nodes_online",
    "mosquitto_cluster_stored_clients",
    "mosquitto_cluster_stored_subscriptions",
    "mosquitto_cluster_stored_retain_messages",
    "mosquitto_cluster_stored_client_messages",
    "mosquitto_cluster_stored_wills",
    "mosquitto_cluster_raft_commit_pending",
    "process_open_fds",
];

#[test]
fn every_metric_is_there_by_its_name_and_the_vendors_tell_the_same() {
    let broker = Broker::run();
    let mut client = client::Options::v5("c").persistent();
    client = client.will("w", b"gone", QoS::AtMostOnce);
    let mut client = client.connect(broker.mqtt);
    client.subscribe("a/#", QoS::AtLeastOnce);
    client.publish("a", "1", QoS::AtLeastOnce);
    client.publish_retained("kept", "2", QoS::AtLeastOnce);
    for name in NAMES.into_iter().chain(VENDOR) {
        assert!(broker.metric(name) >= 0.0, "{name}");
    }
    for (name, value) in [
        ("mosquitto_sessions", 1.0),
        ("mosquitto_clients_online", 1.0),
        ("mosquitto_clients_offline", 0.0),
        ("mosquitto_subscriptions", 1.0),
        ("mosquitto_retained_messages", 1.0),
        ("mosquitto_mqtt_publish_received", 2.0),
        ("mosquitto_ha_voting_nodes", 1.0),
        ("mosquitto_ha_voting_nodes_online", 1.0),
        ("mosquitto_cluster_stored_clients", 1.0),
        ("mosquitto_cluster_stored_wills", 1.0),
    ] {
        assert_eq!(broker.metric(name), value, "{name}");
    }
    let (count, syncs) = ("ledgermq_log_fsync_seconds_count", "ledgermq_log_fsyncs_total");
    assert!(broker.metric(count) > 0.0 && broker.metric(count) <= broker.metric(syncs));
    let sum = broker.metric("ledgermq_log_fsync_seconds_sum");
    assert!(sum > 0.0, "{sum}");
    let without = Options::default().set("api.vendor_metrics", false).start();
    assert!(!without.get("/metrics").1.contains("mosquitto_"));
}

#[test]
fn readiness_tells_of_the_quorum() {
    let broker = Broker::run();
    let (status, body) = broker.get("/readyz");
    assert_eq!(status, 200, "{body}");
    let readiness: Value = serde_json::from_str(&body).unwrap();
    let checks = readiness["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "cluster").unwrap();
    assert_eq!(check["ready"], true);
    assert_eq!(
        check["details"],
        json!({ "leader": 1, "voters": 1, "voters_online": 1, "voters_needed": 1 })
    );
}

#[test]
fn the_cluster_is_told_under_sys() {
    let broker = Broker::run();
    let mut client = client::Options::v5("client").connect(broker.mqtt);
    for (topic, value) in [
        ("$SYS/broker/cedalo/ha/voting_nodes/total", "1"),
        ("$SYS/broker/cedalo/ha/voting_nodes/online", "1"),
        ("$SYS/broker/cluster/leader", "1"),
        ("$SYS/broker/cluster/nodes", "1"),
    ] {
        client.subscribe(topic, QoS::AtMostOnce);
        let message = client.message();
        assert_eq!((message.topic.as_str(), message.text()), (topic, value));
    }
}

#[test]
fn the_section_of_the_cluster_is_checked_and_the_token_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--cluster", "127.0.0.1:7000"][..], ""),
        (&["--cluster", "127.0.0.1"], "is not HOST:PORT"),
        (&["--join", "10.0.0.1:7000"], "--cluster HOST:PORT"),
        (&["--cluster", "127.0.0.1:7000", "--role", "edge"], "come later"),
        (&["--cluster", "0.0.0.0:7000"], "cluster.advertise"),
        (&["--join-token", "lmq1.secret"], "not a whole one (flag --join-token)"),
    ] {
        let arguments = [&["check-config"], arguments].concat();
        let (code, stdout, stderr) = run_to_end(dir.path(), &arguments);
        assert_eq!(code, if expected.is_empty() { 0 } else { 2 }, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(!format!("{stdout}{stderr}").contains("secret"), "{stdout}{stderr}");
    }
    let joining = "127.0.0.1:7001,127.0.0.1:7002";
    let arguments = ["check-config", "--cluster", "127.0.0.1:7000", "--join", joining, "--join"];
    let (_, stdout, _) = run_to_end(dir.path(), &[&arguments[..], &["127.0.0.1:7003"]].concat());
    for (nth, port) in [7001, 7002, 7003].into_iter().enumerate() {
        let line = format!("cluster.join[{nth}] = \"127.0.0.1:{port}\"");
        assert!(stdout.lines().any(|shown| shown.starts_with(&line)), "{stdout}");
    }
}

#[test]
fn a_node_with_an_address_for_others_is_ready_and_says_if_it_is_insecure() {
    let broker = Options::default()
        .set("cluster.address", crate::support::broker::free_address())
        .set("cluster.insecure", true)
        .start();
    let (_, body) = broker.get("/readyz");
    assert!(body.contains("speak in the clear"), "{body}");
}
