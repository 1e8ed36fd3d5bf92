use std::process::Command;

use crate::support::broker::Broker;

#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_at_every_qos_in_both_versions() {
    let broker = Broker::run();
    let python = std::env::var("LEDGERMQ_TEST_PYTHON").expect("./test.sh sets it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/paho_matrix.py");
    let output = Command::new(python)
        .args([script, &broker.mqtt.port().to_string()])
        .output()
        .expect("python starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    // 2 x 2 versions, 3 x 3 levels; four more cases a version.
    assert_eq!(stdout.lines().filter(|line| line.starts_with("ok ")).count(), 44);
}
