//! The load generator: every load against a real broker, counted exactly.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::{Broker, Options, run_to_end};
use crate::support::certificates::Authority;

/// What a load measured, as JSON. The arguments are those of `ledgermq bench`, in one text.
fn bench(broker: &Broker, arguments: &str) -> Value {
    let url = format!("mqtt://{}", broker.mqtt);
    let pid = broker.id().to_string();
    let (load, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let mut all = vec!["bench", load, "--url", &url, "--pid", &pid, "--output", "json"];
    all.extend(rest.split_whitespace());
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run_to_end(dir.path(), &all);
    assert_eq!(code, 0, "{arguments}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// As [`bench`], again if nothing was sent: a disk of a busy machine takes longer for one sync now and
/// then than so short a load lasts.
fn bench_sent(broker: &Broker, arguments: &str) -> Value {
    let mut reports = (0..10).map(|_| bench(broker, arguments));
    reports.find(|report| count(report, "sent") > 0).expect("a load that sends something")
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

fn assert_exact(report: &Value, what: &str) {
    assert!(count(report, "delivered") > 0, "{what}: {report}");
    for key in ["lost", "duplicates", "refused", "unsent"] {
        assert_eq!(count(report, key), 0, "{what}: {key} in {report}");
    }
    // Nobody can see an order among those who share.
    let expected = if what.contains("shared") { Value::Null } else { 0.into() };
    assert_eq!(report["out_of_order"], expected, "{what}: {report}");
    assert!(report["effort"]["broker_resident_bytes"].as_u64() > Some(1 << 20), "{report}");
}

#[test]
fn traffic_of_every_layout_qos_and_version_is_counted_without_loss() {
    let broker = Broker::run();
    for (number, layout) in [
        "--layout pairs --publishers 2",
        "--layout fan-in --publishers 5",
        "--layout fan-out --subscribers 7",
        "--layout shared --publishers 2 --subscribers 3",
        "--layout pairs --topics 9",
        "--layout fan-in --publishers 3 --topics 5 --wildcard",
    ]
    .into_iter()
    .enumerate()
    {
        for qos in 0..=2 {
            let version = if (number + qos) % 2 == 0 { "3.1.1" } else { "5" };
            let what =
                format!("pubsub {layout} --qos {qos} --mqtt {version} --seconds 0.2 --warm-up 0.1");
            let report = bench_sent(&broker, &what);
            assert_exact(&report, &what);
            assert_eq!(qos > 0, count(&report, "acknowledged") > 0, "{what}: {report}");
        }
    }
}

#[test]
fn a_fixed_rate_is_kept_and_measured_from_when_messages_were_due() {
    let broker = Broker::run();
    let report = bench(&broker, "pubsub --publishers 2 --rate 200 --seconds 1 --warm-up 0.2");
    assert_exact(&report, "200 a second");
    // Messages that wait for a busy machine are sent late, but sent.
    let sent = count(&report, "sent");
    assert!((100..=300).contains(&sent), "{report}");
    for key in ["latency_us", "ack_latency_us", "send_lag_us"] {
        let told = &report[key];
        assert!(told["count"].as_u64() > Some(0), "{key}: {report}");
        assert!(told["p50"].as_f64() <= told["p99"].as_f64(), "{key}: {report}");
    }
}

#[test]
fn a_broker_that_stands_still_is_seen_in_the_latencies_at_the_end_of_the_run_too() {
    let broker = Broker::run();
    // 100 messages fit into the window; the other ones that are due wait with the generator.
    let load = "pubsub --rate 1000 --seconds 1.5 --warm-up 0 --window 100";
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| bench(&broker, load));
        std::thread::sleep(Duration::from_millis(900));
        broker.pause();
        std::thread::sleep(Duration::from_millis(1200));
        broker.go_on();
        running.join().expect("the load ends")
    });
    assert_eq!(count(&report, "lost"), 0, "{report}");
    // It stood still over the end: what was sent came late, the rest was not sent at all.
    assert!(count(&report, "unsent") > 100, "{report}");
    for key in ["latency_us", "ack_latency_us"] {
        assert!(report[key]["max"].as_f64() > Some(500_000.0), "{key}: {report}");
        // Some 500 of 1,500 messages were due while it stood still.
        assert!(report[key]["p90"].as_f64() > Some(200_000.0), "{key}: {report}");
    }
}

#[test]
fn publishers_without_acknowledgements_send_as_fast_as_their_sockets_take_it() {
    let broker = Broker::run();
    // In 256 KiB a tenth of a second, the generator's longest wait, there are 10,000 of these a second.
    let report = bench(&broker, "pub --qos 0 --size 256 --seconds 1 --warm-up 0.2");
    assert!(count(&report, "sent") > 15_000, "{report}");
    let report = bench(&broker, "pub --qos 0 --size 300000 --rate 40 --seconds 1 --warm-up 0");
    assert!(count(&report, "sent") >= 35, "{report}");
}

#[test]
fn clients_that_say_nothing_stay_connected() {
    let broker = Broker::run();
    let report = bench(&broker, "connect --count 20 --keep-alive 1 --hold 2.5");
    assert_eq!(count(&report, "connected"), 20);
    let report = bench(&broker, "pubsub --qos 0 --keep-alive 1 --rate 20 --seconds 3");
    assert_exact(&report, "quiet subscribers");
}

#[test]
fn publishers_and_subscribers_in_two_processes_see_each_other() {
    let mut broker = Broker::run();
    let url = format!("mqtt://{}", broker.mqtt);
    let listener = Command::new(env!("CARGO_BIN_EXE_ledgermq"))
        .args(["bench", "sub", "--url", &url, "--count", "500", "--qos", "1"])
        .args(["--output", "json", "--seconds", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its subscription follows at once; half of what is sent is enough.
    broker.wait_for("the subscriber", |broker| broker.metric("ledgermq_sessions") > 0.0);
    let report = bench(&broker, "pub --publishers 2 --rate 1000 --seconds 1 --warm-up 0");
    assert!(count(&report, "acknowledged") > 500, "{report}");
    let output = listener.wait_with_output().unwrap();
    assert!(output.status.success());
    let heard: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(count(&heard, "received") >= 500, "{heard}");
    for key in ["lost", "duplicates", "out_of_order", "not_followed"] {
        assert_eq!(count(&heard, key), 0, "{key} in {heard}");
    }
    assert!(heard["latency_us"]["p50"].as_f64() > Some(0.0), "{heard}");
}

#[test]
fn connections_retained_messages_and_sessions_are_counted() {
    let mut broker = Broker::run();
    let report = bench(&broker, "connect --count 300 --persistent --subscriptions 2 --leave");
    assert_eq!(count(&report, "connected"), 300);
    let counted = |broker: &mut Broker, what, name: &str, value| {
        // What is acknowledged is committed, and folded a moment later.
        broker.wait_for(what, |broker| broker.metric(name) == value);
    };
    counted(&mut broker, "the sessions", "ledgermq_persistent_sessions", 300.0);

    let report = bench(&broker, "retained --count 700 --keep");
    assert_eq!((count(&report, "count"), count(&report, "lost")), (700, 0));
    counted(&mut broker, "what is kept", "ledgermq_retained_messages", 700.0);
    bench(&broker, "retained --count 50");
    counted(&mut broker, "what was not to be kept to be gone", "ledgermq_retained_messages", 700.0);

    for qos in 1..=2 {
        for publishers in 1..=3 {
            let load = format!("offline --sessions 3 --publishers {publishers} --count 1000");
            let report = bench(&broker, &format!("{load} --qos {qos}"));
            assert_eq!(count(&report, "count"), 1000);
            for key in ["lost", "duplicates", "out_of_order"] {
                assert_eq!(count(&report, key), 0, "{key} in {report}");
            }
        }
    }
    counted(&mut broker, "its own sessions to be gone", "ledgermq_persistent_sessions", 300.0);
}

#[test]
fn tls_is_spoken_with_whom_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    authority.server("localhost").write(dir.path(), "server");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let keys = format!(
        "certificate = \"{0}/server.pem\"\nkey = \"{0}/server.key\"\n",
        dir.path().display()
    );
    let broker = Options::default().listener(keys).start();
    let url = format!("mqtts://localhost:{}", broker.listeners[0].port());
    let mut load = vec!["bench", "pubsub", "--url", &url, "--seconds", "0.2", "--output", "json"];
    // More than the socket and TLS take at once.
    load.extend(["--size", "300000", "--window", "2"]);
    let (code, _, stderr) = run_to_end(dir.path(), &load);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--ca FILE"), "{stderr}");

    let trusting = [&["--ca", ca.to_str().unwrap()][..], &["--insecure"]];
    for trust in trusting {
        let with = [&load[..], trust].concat();
        let (code, stdout, stderr) = run_to_end(dir.path(), &with);
        assert_eq!(code, 0, "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert!(count(&report, "delivered") > 0 && count(&report, "lost") == 0, "{report}");
    }

    let other = dir.path().join("other.pem");
    std::fs::write(&other, Authority::new("others").pem()).unwrap();
    load.extend(["--ca", other.to_str().unwrap()]);
    let (code, _, stderr) = run_to_end(dir.path(), &load);
    assert_eq!(code, 1, "a broker that is not trusted: {stderr}");
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected, hint) in [
        (&["pubsub", "--url", "127.0.0.1:1883"][..], 2, "write mqtt://HOST:PORT"),
        (&["pubsub", "--url", "mqtt://127.0.0.1:1"], 1, "failed"),
        (&["pubsub", "--rate", "0"], 2, "above 0"),
        (&["offline", "--qos", "0"], 2, "say 1 or 2"),
        (&["connect", "--count", "0"], 2, "at least 1"),
        (&["pubsub", "--subscribers", "7"], 2, "--layout fan-out"),
        (&["pubsub", "--pid", "4194304"], 2, "no such process"),
    ] {
        let all = [&["bench"], arguments].concat();
        let (code, _, stderr) = run_to_end(dir.path(), &all);
        assert_eq!(code, expected, "{arguments:?}: {stderr}");
        assert!(stderr.contains(hint), "{arguments:?}: {stderr}");
    }
}
