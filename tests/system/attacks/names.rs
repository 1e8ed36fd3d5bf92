//! Attacks by names that try to be more than a name where they are written down: number 53.

use std::io::{Read, Write};
use std::net::TcpStream;

use ledgermq_core::packet::QoS;
use serde_json::Value;

use super::hostile::Target;
use crate::access::with;
use crate::support::DEADLINE;
use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::Options;

/// Names that MQTT allows and that mean something to those who write them down: JSON, the text
/// format of the metrics, HTML, shells, terminals, paths, URLs. Control characters are not among
/// them: the codec takes none (attack 6).
const NAMES: [&str; 18] = [
    "quote\"} 1",
    "back\\slash\\",
    "\\n\\r\\u0000",
    "line\u{2028}para\u{2029}graph",
    "bidi\u{202E}txet",
    "\u{FEFF}bom",
    "<img src=x onerror=alert(1)>",
    "{\"level\":\"ERROR\"}",
    "%0D%0ASet-Cookie: a=b",
    "%00",
    "&limit=1",
    "a,b;c|d",
    "`id` $(id)",
    "..",
    "ledgermq_mqtt_connections 9",
    "* HELP",
    "=1*1",
    "\u{1F4A9}\u{E000}\u{10FFFD}",
];

/// Each byte as %XX.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The strings under `key` in all items of all pages.
fn listed(broker: &Broker, path: &str, key: &str) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = broker.api(&format!("{path}limit=7{after}"));
        let items = page["items"].as_array().unwrap().iter();
        found.extend(items.map(|item| item[key].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return found };
        after = format!("&cursor={next}");
    }
}

/// Every line is a comment or a name with labels and a number, and none holds a client's words.
fn check_metrics(page: &str) {
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect(line);
        let name = name.split('{').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        assert!(NAMES.iter().all(|name| !line.contains(name)), "{line}");
    }
}

/// Every line but `ready` is a JSON object.
fn check_log(text: &str) {
    let mut lines = 0;
    for line in text.lines().filter(|line| *line != "ready") {
        let event: Result<Value, _> = serde_json::from_str(line);
        assert!(event.is_ok_and(|event| event["level"].is_string()), "{line}");
        lines += 1;
    }
    assert!(lines >= 4, "{text}");
}

#[test]
fn attack_53_a_name_stays_a_name_in_the_log_the_metrics_and_the_api() {
    let mut target = Target::of(BrokerOptions::default().variable("RUST_LOG", "trace").start());
    let mut clients = Vec::new();
    for name in NAMES {
        let options = with(Options::v5(name).persistent(), name, "password");
        let mut client = options.connect(target.broker.mqtt);
        client.subscribe(&format!("{name}/+"), QoS::AtLeastOnce);
        client.publish_retained(name, name, QoS::AtLeastOnce);
        client.publish(&format!("{name}/{name}"), name, QoS::ExactlyOnce);
        assert_eq!(client.message().topic, format!("{name}/{name}"));
        clients.push(client);
    }
    target.overheard();
    let check = |broker: &mut Broker| {
        let sorted = |mut names: Vec<String>| {
            names.retain(|name| NAMES.contains(&&**name));
            names.sort_unstable();
            names
        };
        let expected = sorted(NAMES.map(str::to_owned).into());
        broker.wait_for("the views to follow", |broker| {
            sorted(listed(broker, "/retained?", "topic")).len() == NAMES.len()
        });
        assert_eq!(sorted(listed(broker, "/retained?", "topic")), expected);
        assert_eq!(sorted(listed(broker, "/clients?", "id")), expected);
        assert_eq!(sorted(listed(broker, "/topics?", "level")), expected);
        for name in NAMES {
            let client = broker.api(&format!("/clients/{}", escaped(name)));
            assert_eq!(client["client"]["id"], name);
            assert_eq!(client["client"]["username"], name);
            let filter = format!("{name}/+");
            let text = client["subscriptions"].to_string();
            assert!(text.contains(&Value::from(&*filter).to_string()), "{text}");
            let parent = format!("/topics?parent={}&", escaped(name));
            assert_eq!(listed(broker, &parent, "level"), [name]);
            let filter = format!("/retained?filter={}&", escaped(name));
            assert_eq!(listed(broker, &filter, "topic"), [name]);
        }
        check_metrics(&broker.get("/metrics").1);
        check_log(&broker.stderr());
    };
    check(&mut target.broker);
    target.serves();
    // The log and the checkpoints give back what they were given.
    target.broker.crash();
    check(&mut target.broker);
    target.broker.restart();
    check(&mut target.broker);
    let mut client = Options::v5("reader").connect(target.broker.mqtt);
    for name in NAMES {
        client.subscribe(name, QoS::AtLeastOnce);
        assert_eq!(client.message().text(), name);
    }
}

/// The answer to a request as it came.
fn ask(broker: &Broker, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(broker.http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn attack_53_control_characters_in_a_request_break_no_line_of_the_answer_or_the_log() {
    let mut target = Target::of(BrokerOptions::default().variable("RUST_LOG", "trace").start());
    // A header and a terminal's command; then no UTF-8, half an escape, and much of a character.
    let much = "%0A".repeat(500);
    let planted = ["%0D%0AX-Planted:%20yes%0D%0A%0D%0A%00%1B[2J", "a%FF%FE", "a%0", &much];
    let paths = [
        "/clients/{}",
        "/clients?prefix={}",
        "/clients?state={}",
        "/clients?cursor={}",
        "/clients?limit={}",
        "/topics?parent={}",
        "/topics?cursor={}",
        "/retained?filter={}",
        "/subscriptions:estimate?filter={}",
        "/topics?limit=1&limit={}",
        "/clients?{}={}",
        "/{}",
    ];
    let both = |path: &str| planted.map(|planted| path.replace("{}", planted));
    for path in paths.into_iter().flat_map(both) {
        let request =
            format!("GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = ask(&target.broker, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("Planted") && !head.contains('\u{1b}'), "{path}: {answer}");
        assert!(!body.contains(['\0', '\u{1b}', '\r']), "{path}: {answer}");
        let body: Result<Value, _> = serde_json::from_str(body);
        assert!(body.is_ok_and(|body| body.is_object()), "{path}: {answer}");
        assert!(!head.starts_with("HTTP/1.1 5") && !head.contains(" 401 "), "{path}: {answer}");
    }
    for raw in
        ["/api/v1/clients/a\rb", "/api/v1/clients/a\0b", "/api/v1/clients/\u{1b}[2J", "/\u{7f}"]
    {
        let request = format!("GET {raw} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = ask(&target.broker, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{raw:?}: {answer}");
    }
    check_log(&target.broker.stderr());
    let page = target.broker.get("/metrics").1;
    assert!(!page.contains("Planted"), "{page}");
    check_metrics(&page);
    target.is_unharmed();
}
