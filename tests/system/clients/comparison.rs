//! `benches/compare`, which puts the load generator on several brokers.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;

/// Runs Python in `benches`, and says what it printed.
fn python(arguments: &[&OsStr]) -> String {
    let interpreter = std::env::var_os("LEDGERMQ_TEST_PYTHON").expect("run by ./test.sh clients");
    let output = Command::new(interpreter)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(arguments)
        .output()
        .expect("Python starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
#[ignore = "needs Python and Mosquitto, see ./test.sh clients"]
fn the_comparison_counts_as_it_should() {
    python(&["-m", "unittest", "discover", "-t", ".", "-s", "."].map(OsStr::new));
}

#[test]
#[ignore = "needs Python and Mosquitto, see ./test.sh clients"]
fn the_comparison_measures_us_the_relay_and_mosquitto() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("results.json");
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("compare"), OsStr::new("--ledgermq")];
    arguments.push(OsStr::new(env!("CARGO_BIN_EXE_ledgermq")));
    arguments.extend(["--brokers", "ledgermq,relay,mosquitto"].map(OsStr::new));
    arguments.extend(["--cases", "q1-10pairs,latency,retained"].map(OsStr::new));
    arguments.extend(["--repetitions", "1", "--seconds", "0.5"].map(OsStr::new));
    arguments.extend([OsStr::new("--scratch"), dir.path().as_os_str()]);
    arguments.extend([OsStr::new("--json"), json.as_os_str()]);
    let tables = python(&arguments);
    for told in ["ledgermq", "relay", "mosquitto", "QoS 1, 10 pairs", "fsync"] {
        assert!(tables.contains(told), "{told} in {tables}");
    }
    let raw: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let runs = raw["runs"].as_array().expect("the runs");
    // The relay keeps nothing that could be retained.
    assert_eq!(runs.len(), 8, "{raw}");
    for run in runs {
        assert!(run["error"].is_null(), "{run}");
        assert_eq!(run["result"]["lost"], 0, "{run}");
    }
}
