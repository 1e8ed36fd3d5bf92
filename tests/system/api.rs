//! `/api/v1` of a running node.

use std::os::unix::fs::PermissionsExt;

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::client::{Options, message};

/// Waits until the answer at `path` holds: the views are a moment behind the log.
fn until(broker: &Broker, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..500 {
        let answer = broker.api(path);
        if holds(&answer) {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{path} stays {}", broker.api(path));
}

/// Status and `code` of a refusal, which is always problem+json.
fn refusal(broker: &Broker, path: &str) -> (u16, String) {
    let (status, body) = broker.get(path);
    let problem: Value = serde_json::from_str(&body).expect(&body);
    assert_eq!(problem["status"], status, "{body}");
    assert!(problem["detail"].is_string(), "{body}");
    (status, problem["code"].as_str().expect(&body).to_owned())
}

#[test]
fn the_node_says_what_it_is() {
    let broker = Broker::run();
    let node = broker.api("/node");
    assert_eq!(node["id"], 1);
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(node["ready"], true);
    assert!(node["log"]["commit_index"].as_u64() > Some(0));
    assert!(node["started"].as_str().is_some_and(|text| text.ends_with('Z')));
}

#[test]
fn the_metrics_tell_what_came_and_what_the_process_uses() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.publish("t", [b'x'; 10_000], QoS::AtLeastOnce);
    assert!(broker.metric("ledgermq_mqtt_bytes_received_total") > 10_000.0);
    assert!(broker.metric("ledgermq_mqtt_bytes_sent_total") > 10.0);
    assert_eq!(broker.metric("ledgermq_mqtt_packets_received_total"), 2.0);
    assert_eq!(broker.metric("ledgermq_mqtt_packets_sent_total"), 2.0);
    let megabytes = broker.metric("process_resident_memory_bytes") / 1e6;
    assert!((2.0..500.0).contains(&megabytes), "{megabytes}");
    assert!(broker.metric("process_open_fds") > 5.0);
    assert!(broker.get("/metrics").1.contains("\nprocess_cpu_seconds_total "));
}

#[test]
fn clients_are_listed_by_prefix_and_state_page_by_page() {
    let broker = Broker::run();
    for number in 0..5 {
        let id = format!("sensor-{number}");
        Options::v5(&id).persistent().connect(broker.mqtt).disconnect();
    }
    let _online = Options::v311("other").connect(broker.mqtt);
    until(&broker, "/clients?state=offline", |list| list["items"].as_array().unwrap().len() == 5);
    let ids = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&broker.api("/clients?state=online")), ["other"]);
    let first = broker.api("/clients?prefix=sensor-&limit=3");
    assert_eq!(ids(&first), ["sensor-0", "sensor-1", "sensor-2"]);
    let next = first["next"].as_str().unwrap();
    let second = broker.api(&format!("/clients?prefix=sensor-&limit=3&cursor={next}"));
    assert_eq!(ids(&second), ["sensor-3", "sensor-4"]);
    assert_eq!(second["next"], Value::Null);
    assert_eq!(ids(&broker.api("/clients?prefix=sensor-4")), ["sensor-4"]);
    assert_eq!(ids(&broker.api("/clients?prefix=zebra")), [""; 0]);
    assert_eq!(broker.api("/clients?prefix=other")["items"][0]["protocol"], "3.1.1");
    for query in ["state=asleep", "limit=0", "limit=1001", "cursor=*"] {
        let refused = refusal(&broker, &format!("/api/v1/clients?{query}"));
        assert_eq!(refused, (400, "invalid_parameter".to_owned()), "{query}");
    }
}

#[test]
fn a_client_is_shown_with_session_subscriptions_inflight_and_queue() {
    let broker = Broker::run();
    let id = "a/b c+#";
    let mut client = Options::v5(id).persistent().manual_ack().connect(broker.mqtt);
    client.subscribe("t/#", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for number in 0..3 {
        publisher.publish("t/1", number.to_string(), QoS::AtLeastOnce);
    }
    let path = "/clients/a%2Fb%20c+%23";
    let shown = until(&broker, path, |shown| shown["queue"]["messages"] == 3);
    assert_eq!(shown["client"]["id"], id);
    assert_eq!(shown["client"]["state"], "offline");
    assert_eq!(shown["subscriptions"][0]["filter"], "t/#");
    assert_eq!(shown["subscriptions"][0]["qos"], 1);
    assert_eq!(shown["queue"]["head"].as_array().unwrap().len(), 3);
    assert_eq!(shown["inflight"]["to_client_total"], 0);
    assert!(shown["session"]["epoch"].as_str().unwrap().contains(':'));
    assert_eq!(refusal(&broker, "/api/v1/clients/nobody"), (404, "not_found".to_owned()));
}

#[test]
fn a_client_s_connection_is_counted() {
    let broker = Broker::run();
    let mut client = Options::v5("client").persistent().connect(broker.mqtt);
    client.subscribe("t", QoS::AtLeastOnce);
    for _ in 0..3 {
        client.publish("t", "x", QoS::AtLeastOnce);
    }
    let reason = client.publish_packet(&message("$SYS/x", b"x", QoS::AtLeastOnce));
    (0..3).for_each(|_| drop(client.message()));
    assert_eq!(reason, ReasonCode::NotAuthorized);
    let shown = until(&broker, "/clients/client", |shown| shown["counters"]["messages_sent"] == 3);
    let counters = &shown["counters"];
    assert_eq!(counters["messages_received"], 4);
    assert_eq!(counters["messages_refused"], 1);
    assert_eq!(counters["messages_dropped"], 0);
    assert!(counters["bytes_received"].as_u64().unwrap() > 50, "{counters}");
    assert!(counters["bytes_sent"].as_u64().unwrap() > 30, "{counters}");
    client.disconnect();
    until(&broker, "/clients/client", |shown| shown["counters"].is_null());
}

#[test]
fn topics_and_retained_messages_can_be_walked() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.publish_retained("plant/1/temp", "21.5", QoS::AtLeastOnce);
    client.publish_retained("plant/2/temp", [0xff, 0], QoS::AtLeastOnce);
    client.publish("plant/2/speed", "7", QoS::AtLeastOnce);
    // The last one published: what came before is there, too.
    let last = "/topics?parent=plant/2";
    until(&broker, last, |list| list["items"].as_array().unwrap().len() == 2);
    let roots = broker.api("/topics");
    assert_eq!(roots["items"][0]["topic"], "plant");
    assert_eq!(roots["items"][0]["has_children"], true);
    let plants = broker.api("/topics?parent=plant");
    assert_eq!(plants["items"][1]["topic"], "plant/2");
    assert!(plants["items"][1]["last"].is_null(), "nothing is published to it: {plants}");
    let below = broker.api("/topics?parent=plant/2");
    assert_eq!(below["items"][0]["level"], "speed");
    assert_eq!(below["items"][0]["last"]["payload"], "7");
    assert_eq!(below["items"][0]["last"]["qos"], 1);
    assert!(below["items"][0]["last"]["at"].is_string(), "{below}");
    assert!(below["items"][0]["retained"].is_null());
    assert_eq!(below["items"][1]["retained"]["payload_encoding"], "base64");
    assert_eq!(broker.api("/topics?parent=nowhere")["items"], json!([]));

    let retained = until(&broker, "/retained", |list| list["items"].as_array().unwrap().len() == 2);
    assert_eq!(retained["items"][0]["topic"], "plant/1/temp");
    assert_eq!(retained["items"][0]["payload"], "21.5");
    assert_eq!(retained["items"][0]["publisher"], "client");
    let one = broker.api("/retained?filter=plant/%2B/temp&limit=1");
    let next = one["next"].as_str().unwrap();
    let other = broker.api(&format!("/retained?filter=plant/%2B/temp&limit=1&cursor={next}"));
    assert_eq!(other["items"][0]["topic"], "plant/2/temp");
    assert_eq!(broker.api("/retained?filter=plant/1/temp")["items"].as_array().unwrap().len(), 1);
    let refused = refusal(&broker, "/api/v1/retained?filter=a/%23/b");
    assert_eq!(refused, (400, "invalid_parameter".to_owned()));
}

#[test]
fn the_rate_of_a_filter_is_estimated() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    for number in 0..20 {
        client.publish(&format!("rate/{}", number % 2), "x", QoS::AtLeastOnce);
    }
    let path = |filter: &str| format!("/subscriptions:estimate?filter={filter}");
    until(&broker, &path("rate/%23"), |estimate| estimate["messages"].as_u64() > Some(0));
    let all = broker.api(&path("rate/%23"))["messages"].as_u64();
    let half = broker.api(&path("rate/0"))["messages"].as_u64();
    assert!(half <= all && half > Some(0), "{half:?} of {all:?}");
    assert_eq!(broker.api(&path("other"))["messages"], 0);
    let refused = refusal(&broker, "/api/v1/subscriptions:estimate");
    assert_eq!(refused, (400, "invalid_parameter".to_owned()));
}

#[test]
fn what_is_not_there_and_what_may_not_be_is_said_in_json() {
    let broker = Broker::run();
    assert_eq!(refusal(&broker, "/api/v1/nothing"), (404, "not_found".to_owned()));
    assert_eq!(refusal(&broker, "/nothing"), (404, "not_found".to_owned()));
    let ask = |head: &str| broker.ask(&format!("{head}\r\nConnection: close\r\n\r\n"));
    for path in ["/api/v1/node", "/api/v1/clients/x", "/metrics"] {
        let (status, body) = ask(&format!("DELETE {path} HTTP/1.1\r\nHost: localhost"));
        assert_eq!(status, 405, "{body}");
        assert!(body.contains("method_not_allowed"), "{body}");
    }
    // A name that a page in a browser may point at us.
    let (status, body) = ask("GET /api/v1/node HTTP/1.1\r\nHost: evil.example");
    assert_eq!(status, 401, "{body}");
    assert!(body.contains("admin.token"), "{body}");
}

#[test]
fn the_token_is_made_once_and_opens_the_api() {
    let mut broker = Broker::run();
    let path = broker.dir.join("admin.token");
    let token = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let about = std::fs::read_to_string(broker.dir.join("admin.json")).unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["url"], format!("http://{}", broker.http));
    let ask = |broker: &Broker, token: &str| {
        let head = "GET /api/v1/node HTTP/1.1\r\nHost: broker.example\r\nConnection: close";
        broker.ask(&format!("{head}\r\nAuthorization: Bearer {token}\r\n\r\n")).0
    };
    assert_eq!(ask(&broker, token.trim()), 200);
    assert_eq!(ask(&broker, "no token of this node, but long enough"), 401);
    broker.restart();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
    assert!(!broker.stderr().contains(token.trim()));
}
