use std::net::SocketAddr;
use std::process::Command;

use crate::support::broker::{Broker, Options};
use crate::support::certificates::Authority;

/// Runs the matrix against `address` with those further arguments of the script.
fn run(address: SocketAddr, arguments: &[&str]) {
    let python = std::env::var("LEDGERMQ_TEST_PYTHON").expect("./test.sh sets it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/paho_matrix.py");
    let output = Command::new(python)
        .args([script, &address.port().to_string()])
        .args(arguments)
        .output()
        .expect("python starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    // 2 x 2 versions, 3 x 3 levels; four more cases a version.
    assert_eq!(stdout.lines().filter(|line| line.starts_with("ok ")).count(), 44);
}

/// `[MQTT311-7.0.0-2]`
#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_at_every_qos_in_both_versions() {
    run(Broker::run().mqtt, &[]);
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_over_websocket_at_a_listener_and_at_the_http_port() {
    let broker = Options::default().listener("protocol = \"ws\"").start();
    run(broker.listeners[0], &["websockets"]);
    run(broker.http, &["websockets"]);
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_over_tls_and_websocket_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    authority.server("localhost").write(dir.path(), "server");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let path = dir.path().display();
    let keys = format!("certificate = \"{path}/server.pem\"\nkey = \"{path}/server.key\"\n");
    let broker =
        Options::default().listener(&keys).listener(format!("{keys}protocol = \"ws\"")).start();
    let ca = ca.to_str().unwrap();
    run(broker.listeners[0], &["tcp", ca]);
    run(broker.listeners[1], &["websockets", ca]);
}
