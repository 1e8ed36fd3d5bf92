//! Clients of other languages, each with a script that does the same: `tests/clients/`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::support::broker::{Broker, Options};
use crate::support::certificates::Authority;

/// A client's script, and how it is run.
struct Script {
    name: &'static str,
    /// The variable in which ./test.sh names the interpreter.
    interpreter: &'static str,
    /// The variable that names what is given to the script before all else.
    first: Option<&'static str>,
    /// Cases that it tells of.
    cases: usize,
}

// Two versions, three by three levels, and both ways across versions for paho; four more a version.
const PAHO: Script = python("paho_matrix.py", 48);
const AIOMQTT: Script = python("aiomqtt_matrix.py", 26);
const GMQTT: Script = python("gmqtt_matrix.py", 26);
const MQTTJS: Script = Script {
    name: "mqttjs_matrix.cjs",
    interpreter: "LEDGERMQ_TEST_NODE",
    first: Some("LEDGERMQ_TEST_NODE_MODULES"),
    cases: 26,
};

const fn python(name: &'static str, cases: usize) -> Script {
    Script { name, interpreter: "LEDGERMQ_TEST_PYTHON", first: None, cases }
}

impl Script {
    /// Runs the matrix against `address` with those further arguments of the script.
    fn run(&self, address: SocketAddr, arguments: &[&OsStr]) {
        let set = |name| std::env::var_os(name).expect("./test.sh sets it");
        let path = format!("{}/tests/clients/{}", env!("CARGO_MANIFEST_DIR"), self.name);
        let output = Command::new(set(self.interpreter))
            .arg(path)
            .args(self.first.map(set))
            .arg(address.port().to_string())
            .args(arguments)
            .output()
            .expect("the interpreter starts");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stdout}\n{stderr}");
        let cases = stdout.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(cases, self.cases, "{stdout}");
    }

    fn run_plain(&self) {
        self.run(Broker::run().mqtt, &[]);
    }

    fn run_web_socket(&self) {
        let broker = Options::default().listener("protocol = \"ws\"").start();
        self.run(broker.listeners[0], &["websockets".as_ref()]);
        self.run(broker.http, &["websockets".as_ref()]);
    }
}

/// A broker whose listeners speak TLS: MQTT, and MQTT over WebSocket; with the folder in which the
/// authority's certificate is.
fn secure() -> (Broker, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    authority.server("localhost").write(dir.path(), "server");
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    let path = dir.path().display();
    let keys = format!("certificate = \"{path}/server.pem\"\nkey = \"{path}/server.key\"\n");
    let web_socket = format!("{keys}protocol = \"ws\"");
    (Options::default().listener(&keys).listener(web_socket).start(), dir)
}

/// `[MQTT311-7.0.0-2]`
#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_at_every_qos_in_both_versions() {
    PAHO.run_plain();
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn paho_mqtt_over_websocket_at_a_listener_and_at_the_http_port() {
    PAHO.run_web_socket();
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn aiomqtt_over_tcp_and_websocket() {
    AIOMQTT.run_plain();
    AIOMQTT.run_web_socket();
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn gmqtt_over_tcp() {
    GMQTT.run_plain();
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn mqtt_js_over_tcp_and_websocket() {
    MQTTJS.run_plain();
    MQTTJS.run_web_socket();
}

#[test]
#[ignore = "part clients of ./test.sh"]
fn all_of_them_over_tls_and_those_that_can_over_websocket_in_tls() {
    let (broker, dir) = secure();
    let ca = dir.path().join("ca.pem");
    for script in [PAHO, AIOMQTT, GMQTT, MQTTJS] {
        script.run(broker.listeners[0], &["tcp".as_ref(), ca.as_ref()]);
    }
    for script in [PAHO, AIOMQTT, MQTTJS] {
        script.run(broker.listeners[1], &["websockets".as_ref(), ca.as_ref()]);
    }
}
