//! The command line, configuration and HTTP of the binary.

use crate::support::broker::{Broker, Options, run_to_end};

#[test]
fn the_version_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, _) = run_to_end(dir.path(), &["--version"]);
    assert_eq!((code, stdout), (0, format!("ledgermq {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn check_config_prints_values_with_their_origins() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("l.toml"), "[log]\ndurability = \"os-cache\"\n").unwrap();
    let (code, stdout, _) = run_to_end(dir.path(), &["check-config", "--config", "l.toml"]);
    assert_eq!(code, 0);
    let line = stdout.lines().find(|line| line.starts_with("log.durability")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["log.durability", "=", "\"os-cache\"", "#", "l.toml:2"]);

    let (code, stdout, _) = run_to_end(
        dir.path(),
        &["check-config", "--output", "json", "--config", "l.toml", "--node-id", "9"],
    );
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let items = json["items"].as_array().unwrap();
    let id = items.iter().find(|item| item["key"] == "node.id").unwrap();
    assert_eq!(id["value"], 9);
    assert_eq!(id["origin"]["name"], "--node-id");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("l.toml"), "[log]\ndurabilty = \"fsync\"\n").unwrap();
    for (arguments, expected) in [
        (&["--nonsense"][..], 2),
        (&["check-config", "--config", "l.toml"], 2),
        (&["--config", "nowhere.toml"], 3),
        (&["--mqtt", "0.0.0.0:0"], 4),
        (&["check-config", "--mqtt", "0.0.0.0:0", "--allow-anonymous"], 0),
    ] {
        let (code, _, stderr) = run_to_end(dir.path(), arguments);
        assert_eq!(code, expected, "{arguments:?}: {stderr}");
    }
    assert!(!dir.path().join("ledgermq-data").exists(), "nothing was started");
}

#[test]
fn a_node_is_ready_and_stops_with_0_on_sigterm() {
    let mut broker = Broker::run();
    let (status, body) = broker.get("/readyz");
    assert_eq!(status, 200, "{body}");
    assert_eq!(broker.get("/healthz").0, 200);
    assert_eq!(broker.get("/metrics").0, 200);
    broker.terminate();
    assert!(broker.wait_end().success(), "{}", broker.stderr());
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let first = Broker::run();
    let mut second = Options::default().dir(&first.dir).prepare();
    second.spawn();
    let status = second.wait_end();
    assert_eq!(status.code(), Some(6), "{}", second.stderr());
    assert!(second.stderr().contains("in use by another ledgermq process"));
    assert_eq!(first.get("/readyz").0, 200);
}

#[test]
fn metrics_have_the_prefix_and_no_label_of_a_client_or_topic() {
    let broker = Broker::run();
    let (_, metrics) = broker.get("/metrics");
    let samples: Vec<&str> =
        metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(samples.len() > 20, "{metrics}");
    for sample in samples {
        // The last ones are the vendor's own names, of `api.vendor_metrics`.
        let prefixes = ["ledgermq_", "process_", "mosquitto_"];
        let is_named = prefixes.iter().any(|prefix| sample.starts_with(prefix));
        assert!(is_named, "{sample}");
        let Some((_, labels)) = sample.split_once('{') else { continue };
        for label in labels.split('}').next().unwrap().split(',') {
            let name = label.split('=').next().unwrap();
            let known = [
                "node",
                "listener",
                "peer",
                "reason",
                "qos",
                "class",
                "state",
                "version",
                "direction",
                "lane",
                "le",
            ];
            assert!(known.contains(&name), "{sample}");
        }
    }
}
