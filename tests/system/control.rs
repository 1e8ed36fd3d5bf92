//! `$CONTROL/cedalo/ha/v1`.

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;
use serde_json::{Value, json};

use crate::support::access::Files;
use crate::support::broker::Broker;
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

#[test]
fn operators_are_answered_on_the_topic_of_responses_all_of_them() {
    let (_files, broker) = broker();
    let (mut one, mut other) = (operator(&broker, "one"), operator(&broker, "other"));
    for client in [&mut one, &mut other] {
        client.subscribe("$CONTROL/#", QoS::ExactlyOnce);
    }
    let before = broker.api("/node")["log"]["commit_index"].clone();
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
    assert_eq!(broker.api("/node")["log"]["commit_index"], before, "questions are no events");
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
    // Without rules nobody does.
    let open = Broker::run();
    let mut client = Options::v5("client").connect(open.mqtt);
    assert_eq!(client.publish_packet(&question), ReasonCode::NotAuthorized);
}
