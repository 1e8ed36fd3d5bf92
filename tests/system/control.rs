//! `$CONTROL/cedalo/ha/v1`.

use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;
use serde_json::{Value, json};

use crate::support::QUIET;
use crate::support::access::Files;
use crate::support::broker::{Broker, free_address};
use crate::support::client::{Client, Options, message};

const TOPIC: &str = "$CONTROL/cedalo/ha/v1";
const RESPONSE: &str = "$CONTROL/cedalo/ha/v1/response";

/// A broker whose operators may use `$CONTROL`; the files must outlive it.
fn broker() -> (Files, Broker) {
    let files = Files::new();
    files.write_acl("topic readwrite #\npattern readwrite %c/#\nuser operator\ntopic $CONTROL/#\n");
    let broker = files.options().start();
    (files, broker)
}

fn operator(broker: &Broker, id: &str) -> Client {
    let mut options = Options::v5(id);
    options.connect.username = Some("operator");
    options.connect(broker.mqtt)
}

fn ask(client: &mut Client, command: &str, qos: QoS) {
    let body = json!({ "commands": [{ "command": command, "correlationData": "x" }] }).to_string();
    let reason = client.publish_packet(&message(TOPIC, body.as_bytes(), qos));
    assert_eq!(reason, ReasonCode::Success);
}

fn response(client: &mut Client) -> Value {
    let message = client.message();
    assert_eq!(
        (message.topic.as_str(), message.qos, message.retain),
        (RESPONSE, QoS::AtMostOnce, false)
    );
    let answer: Value = serde_json::from_str(message.text()).unwrap();
    answer["responses"][0].clone()
}

/// The commit index when nothing is on its way any more; it is shown a moment after acknowledgements.
fn index_at_rest(broker: &Broker) -> Value {
    let index = || broker.api("/node")["log"]["commit_index"].clone();
    for _ in 0..100 {
        let before = index();
        std::thread::sleep(QUIET);
        if index() == before {
            return before;
        }
    }
    panic!("something is appended all the time: {}", index());
}

#[test]
fn operators_are_answered_on_the_topic_of_responses_all_of_them() {
    let (_files, broker) = broker();
    let (mut one, mut other) = (operator(&broker, "one"), operator(&broker, "other"));
    for client in [&mut one, &mut other] {
        client.subscribe("$CONTROL/#", QoS::ExactlyOnce);
    }
    let before = index_at_rest(&broker);
    ask(&mut one, "isleader", QoS::AtLeastOnce);
    let expected = json!({
        "command": "isLeader", "data": { "isLeader": true }, "correlationData": "x",
    });
    assert_eq!(response(&mut one), expected);
    assert_eq!(response(&mut other), expected);
    ask(&mut one, "getRaftStatus", QoS::AtMostOnce);
    let status = response(&mut one)["data"].clone();
    assert_eq!((&status["state"], &status["syncmode"]), (&json!(3), &json!("full")));
    assert_eq!(status["nodes"][0]["role"], 1);
    assert_eq!(response(&mut other)["data"]["state"], 3);
    ask(&mut one, "getCluster", QoS::AtLeastOnce);
    assert_eq!(response(&mut one)["data"]["cluster"]["nodes"][0]["leader"], true);
    assert_eq!(response(&mut other)["command"], "getCluster");
    assert_eq!(index_at_rest(&broker), before, "questions are no events");
}

#[test]
fn a_token_is_told_to_who_asked_alone() {
    let files = Files::new();
    files.write_acl("topic readwrite #\nuser operator\ntopic $CONTROL/#\n");
    let mut broker = files.options().set("cluster.address", free_address()).start();
    broker.wait_for("the cluster is founded", |broker| broker.api("/cluster")["id"].is_string());
    let (mut one, mut other) = (operator(&broker, "one"), operator(&broker, "other"));
    for client in [&mut one, &mut other] {
        client.subscribe("$CONTROL/#", QoS::AtMostOnce);
    }
    let name = broker.api("/cluster")["id"].clone();
    let add = json!({
        "command": "addNode", "clustername": name, "address": "host", "port": 1, "nodeid": 2,
        "correlationData": "x",
    });
    let body = json!({ "commands": [add] }).to_string();
    one.publish(TOPIC, body, QoS::AtLeastOnce);
    let answer = response(&mut one);
    assert_eq!((&answer["command"], &answer["correlationData"]), (&json!("addNode"), &json!("x")));
    assert!(answer["data"]["token"].as_str().is_some_and(|token| token.starts_with("lmq1.")));
    // What the other one hears next is the answer to what is asked next.
    ask(&mut one, "getNode", QoS::AtLeastOnce);
    let answer = response(&mut one);
    assert_eq!(answer["data"]["node"]["nodeid"], 1, "{answer}");
    assert_eq!(response(&mut other), answer);
    other.no_message();
}

#[test]
fn a_node_alone_says_what_it_cannot_do() {
    let (_files, broker) = broker();
    let mut one = operator(&broker, "one");
    one.subscribe(RESPONSE, QoS::AtMostOnce);
    for (command, error) in [
        ("joinCluster", "A node joins when it is started"),
        ("createCluster", "createCluster is not supported here"),
        ("deleteCluster", "deleteCluster is not supported here"),
    ] {
        ask(&mut one, command, QoS::AtLeastOnce);
        let answer = response(&mut one);
        assert_eq!(answer["command"], command);
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(error)), "{answer}");
    }
}

#[test]
fn an_end_point_that_nobody_answers_is_told_to_who_asked_alone() {
    let (_files, broker) = broker();
    let (mut one, mut other) = (operator(&broker, "one"), operator(&broker, "other"));
    for client in [&mut one, &mut other] {
        client.subscribe("$CONTROL/#", QoS::AtMostOnce);
    }
    let question = message("$CONTROL/nothing/v1", b"{}", QoS::ExactlyOnce);
    assert_eq!(one.publish_packet(&question), ReasonCode::Success);
    let answer = one.message();
    assert_eq!(answer.topic, "$CONTROL/nothing/v1/response");
    assert_eq!(answer.text(), r#"{"error": "endpoint not available"}"#);
    other.no_message();
}

#[test]
fn nobody_else_asks_or_hears_the_answers() {
    let (_files, broker) = broker();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let question = message(TOPIC, b"{}", QoS::AtLeastOnce);
    assert_eq!(client.publish_packet(&question), ReasonCode::NotAuthorized);
    let options = SubscriptionOptions::default();
    let filters = ["$CONTROL/#", RESPONSE, "$share/g/$CONTROL/#", "#"].map(|it| (it, options));
    let [refused, granted] = [ReasonCode::NotAuthorized, ReasonCode::Success];
    assert_eq!(client.subscribe_with(&filters, None), [refused, refused, refused, granted]);
    let mut one = operator(&broker, "one");
    one.subscribe(RESPONSE, QoS::AtMostOnce);
    ask(&mut one, "isLeader", QoS::AtLeastOnce);
    assert_eq!(response(&mut one)["command"], "isLeader");
    client.no_message();
    // Without rules nobody does.
    let open = Broker::run();
    let mut client = Options::v5("client").connect(open.mqtt);
    assert_eq!(client.publish_packet(&question), ReasonCode::NotAuthorized);
}
