//! The cluster of one node, as operators see it.

use crate::support::broker::run_to_end;

#[test]
fn the_section_of_the_cluster_is_checked_and_the_token_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--cluster", "127.0.0.1:7000"][..], ""),
        (&["--cluster", "127.0.0.1"], "is not HOST:PORT"),
        (&["--join", "10.0.0.1:7000"], "--cluster HOST:PORT"),
        (&["--cluster", "127.0.0.1:7000", "--role", "edge"], "come later"),
        (&["--cluster", "0.0.0.0:7000"], "cluster.advertise"),
        (&["--join-token", "lmq1.secret"], "not a whole one (flag --join-token)"),
    ] {
        let arguments = [&["check-config"], arguments].concat();
        let (code, stdout, stderr) = run_to_end(dir.path(), &arguments);
        assert_eq!(code, if expected.is_empty() { 0 } else { 2 }, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(!format!("{stdout}{stderr}").contains("secret"), "{stdout}{stderr}");
    }
    let joining = "127.0.0.1:7001,127.0.0.1:7002";
    let arguments = ["check-config", "--cluster", "127.0.0.1:7000", "--join", joining, "--join"];
    let (_, stdout, _) = run_to_end(dir.path(), &[&arguments[..], &["127.0.0.1:7003"]].concat());
    for (nth, port) in [7001, 7002, 7003].into_iter().enumerate() {
        let line = format!("cluster.join[{nth}] = \"127.0.0.1:{port}\"");
        assert!(stdout.lines().any(|shown| shown.starts_with(&line)), "{stdout}");
    }
}
