use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::packet::{ForwardedProperties, QoS};

use crate::support::access::Files;
use crate::support::broker::{Broker, Options};
use crate::support::certificates::Authority;
use crate::support::client::Options as Client;

/// A `mosquitto_sub` whose subscription was acknowledged; it ends after `count` messages.
fn subscribe(broker: &Broker, version: &str, qos: &str, count: &str) -> (Child, impl BufRead) {
    let port = broker.mqtt.port().to_string();
    // Without stdbuf it keeps its lines to itself until it ends.
    let mut child = Command::new("stdbuf")
        .args([
            "-oL",
            "mosquitto_sub",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            version,
            "-q",
            qos,
            "-t",
            "m/#",
        ])
        .args(["-C", count, "-W", "20", "-d", "-F", "message %t %q %r %p"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("SUBACK") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "mosquitto_sub ended before SUBACK");
    }
    (child, lines)
}

fn publish(broker: &Broker, version: &str, arguments: &[&str]) {
    let port = broker.mqtt.port().to_string();
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", version])
        .args(arguments)
        .status()
        .expect("mosquitto_pub starts");
    assert!(status.success(), "{arguments:?}: {status}");
}

fn messages(lines: impl BufRead) -> Vec<String> {
    let lines = lines.lines().map(Result::unwrap);
    lines.filter_map(|line| Some(line.strip_prefix("message ")?.to_owned())).collect()
}

/// `[MQTT311-7.0.0-2]`
#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_pub_and_sub_at_every_qos_in_both_versions() {
    let broker = Broker::run();
    for from in ["311", "5"] {
        for to in ["311", "5"] {
            for qos in ["0", "1", "2"] {
                let (mut child, lines) = subscribe(&broker, to, qos, "1");
                publish(&broker, from, &["-q", qos, "-t", "m/x", "-m", "hello"]);
                assert_eq!(messages(lines), [format!("m/x {qos} 0 hello")], "{from} to {to}");
                assert!(child.wait().unwrap().success());
            }
        }
    }
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_sub_is_greeted_with_retained_messages() {
    let broker = Broker::run();
    for version in ["311", "5"] {
        publish(&broker, version, &["-q", "1", "-r", "-t", "m/kept", "-m", version]);
        let (mut child, lines) = subscribe(&broker, version, "1", "1");
        assert_eq!(messages(lines), [format!("m/kept 1 1 {version}")]);
        assert!(child.wait().unwrap().success());
    }
}

/// Exit code and stderr of `mosquitto_pub` with a user.
fn publish_as(broker: &Broker, user: &str, password: &str, arguments: &[&str]) -> (i32, String) {
    let port = broker.mqtt.port().to_string();
    let output = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-u", user, "-P", password, "-t", "m/x", "-m", "x"])
        .args(arguments)
        .output()
        .expect("mosquitto_pub starts");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_pub_and_sub_give_their_passwords_and_are_told_what_they_may_not() {
    let files = Files::new();
    // One user of our own, one of Mosquitto's.
    files.add("alice", "secret");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", files.passwords().to_str().unwrap(), "bob", "other"])
        .status()
        .expect("mosquitto_passwd starts");
    assert!(made.success());
    files.write_acl("user alice\ntopic m/#\nuser bob\ntopic read m/#\n");
    let broker = files.options().start();
    let port = broker.mqtt.port().to_string();
    let mut child = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-u", "bob", "-P", "other", "-i", "bob", "-c"])
        .args(["-q", "1", "-t", "m/#", "-C", "1", "-W", "20", "-E"])
        .spawn()
        .expect("mosquitto_sub starts");
    assert!(child.wait().unwrap().success(), "it is subscribed");
    assert_eq!(publish_as(&broker, "alice", "secret", &["-q", "1", "-V", "5"]).0, 0);
    let (code, stderr) = publish_as(&broker, "alice", "wrong", &["-V", "311"]);
    assert_ne!(code, 0);
    assert!(stderr.contains("not authorised") || stderr.contains("bad user"), "{stderr}");
    let (_, stderr) = publish_as(&broker, "bob", "other", &["-q", "1", "-V", "5"]);
    assert!(stderr.contains("Not authorized"), "{stderr}");
    let received = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-u", "bob", "-P", "other", "-i", "bob", "-c"])
        .args(["-q", "1", "-t", "m/#", "-C", "1", "-W", "20"])
        .output()
        .expect("mosquitto_sub starts");
    assert_eq!(String::from_utf8_lossy(&received.stdout), "x\n");
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_pub_sends_many_lines_and_all_arrive_in_order() {
    let broker = Broker::run();
    let (mut child, lines) = subscribe(&broker, "5", "2", "1000");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    let text: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    std::fs::write(&path, text.join("\n")).unwrap();
    let port = broker.mqtt.port().to_string();
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "2", "-t", "m/many", "-l"])
        .stdin(std::fs::File::open(path).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let expected: Vec<String> = (0..1_000).map(|n| format!("m/many 2 0 {n}")).collect();
    assert!(messages(lines) == expected, "1,000 lines in their order");
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_pub_and_sub_over_tls_with_and_without_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, devices) = (Authority::new("servers"), Authority::new("devices"));
    servers.server("localhost").write(dir.path(), "server");
    devices.client("device-1").write(dir.path(), "device");
    std::fs::write(dir.path().join("servers.pem"), servers.pem()).unwrap();
    std::fs::write(dir.path().join("devices.pem"), devices.pem()).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let keys = format!(
        "certificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        path("server.pem"),
        path("server.key"),
        path("devices.pem")
    );
    let broker = Options::default()
        .listener(&keys)
        .listener(format!("{keys}client_certificate = \"required\""))
        .start();
    let (ca, cert, key) = (path("servers.pem"), path("device.pem"), path("device.key"));
    let with = ["--cert", &cert, "--key", &key];
    let publish = |at: usize, topic: &str, certificate: &[&str]| {
        let port = broker.listeners[at].port().to_string();
        Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "--cafile", &ca, "-q", "1", "-r"])
            .args(["-t", topic, "-m", topic])
            .args(certificate)
            .stderr(Stdio::null())
            .status()
            .expect("mosquitto_pub starts")
    };
    assert!(publish(0, "tls/open", &[]).success());
    assert!(publish(1, "tls/device", &with).success());
    assert!(!publish(1, "tls/nobody", &[]).success());
    let port = broker.listeners[1].port().to_string();
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "--cafile", &ca, "-t", "tls/+"])
        .args(["-C", "2", "-W", "20"])
        .args(with)
        .output()
        .expect("mosquitto_sub starts");
    let mut topics: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    topics.sort_unstable();
    assert_eq!(topics, ["tls/device", "tls/open"]);
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mosquitto_rr_gets_the_answer_to_its_request() {
    let broker = Broker::run();
    let port = broker.mqtt.port().to_string();
    let mut answerer = Client::v5("answerer").connect(broker.mqtt);
    answerer.subscribe("ask/#", QoS::AtLeastOnce);
    let asking = Command::new("mosquitto_rr")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-t", "ask/time"])
        .args(["-e", "answer/rr", "-m", "when?", "-W", "20", "-F", "%t %p"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_rr starts");
    let request = answerer.message();
    assert_eq!(request.payload, b"when?");
    let properties = ForwardedProperties::parse(&request.properties).unwrap();
    let named = properties.iter().find_map(|property| match property {
        ForwardedProperty::ResponseTopic(topic) => Some(topic.to_owned()),
        _ => None,
    });
    assert_eq!(named.as_deref(), Some("answer/rr"));
    answerer.publish("answer/rr", "now", QoS::AtLeastOnce);
    let output = asking.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "answer/rr now");
}
