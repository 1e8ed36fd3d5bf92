//! A node whose log is not what it promised says so, becomes a learner, and is repaired from the others.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use super::several::Cluster;
use crate::support::broker::Broker;
use crate::support::client::Options as Connect;
use crate::support::wall_clock::{Library, WallClock};

/// Messages that the subscriber is owed.
const MESSAGES: usize = 200;

/// Three nodes; a sleeping session is owed the first messages. Answers the place of a follower.
fn prepared() -> (Cluster, usize) {
    let mut cluster = Cluster::of_three();
    // With an even number of voters there would be nobody to lose.
    cluster.wait("three voters", |shown| voters(shown) == 3);
    let follower = (cluster.leader() + 1) % 3;
    let mut sleeper =
        Connect::v5("sleeper").session_expiry(3600).connect(cluster.nodes[follower].mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.disconnect();
    publish(&cluster.nodes[follower], 0..MESSAGES / 2);
    (cluster, follower)
}

fn publish(node: &Broker, numbers: std::ops::Range<usize>) {
    let mut publisher = Connect::v5("p").connect(node.mqtt);
    for number in numbers {
        publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
    }
}

fn voters(shown: &serde_json::Value) -> usize {
    let items = shown["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter(|node| node["standing"] == "voter").count()
}

/// The node at `at` comes back, says `what`, votes again, and serves all that was acknowledged.
fn is_repaired(cluster: &mut Cluster, at: usize, what: &str) {
    let dir = cluster.nodes[at].dir.clone();
    cluster.nodes[at].spawn();
    publish(&cluster.nodes[(at + 1) % 3], MESSAGES / 2..MESSAGES);
    let node = &mut cluster.nodes[at];
    node.wait_for("it says what is wrong", |node| node.stderr().contains(what));
    node.wait_for("it is let in again", |node| node.stderr().contains("was let in again"));
    node.wait_for("it is ready", |node| node.stderr().lines().any(|line| line == "ready"));
    cluster.wait("all vote again", |shown| {
        voters(shown) == 3 && shown["quorum"]["online"] == 3 && shown["doubt"].is_null()
    });
    let away = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let away = away.filter(|name| name.to_string_lossy().starts_with("log.damaged-")).count();
    assert_eq!(away, 1, "what it had is kept");
    assert!(!dir.join("cluster/repair").exists(), "it is over");
    let mut sleeper = Connect::v5("sleeper")
        .clean_start(false)
        .session_expiry(3600)
        .connect(cluster.nodes[at].mqtt);
    assert!(sleeper.session_present());
    for number in 0..MESSAGES {
        let message = sleeper.message_within(Duration::from_secs(20));
        let message = message.unwrap_or_else(|| panic!("message {number} does not come"));
        assert_eq!(message.payload, number.to_string().as_bytes());
    }
    // With one of the others away, its vote counts.
    let other = (at + 2) % 3;
    cluster.nodes[other].kill();
    publish(&cluster.nodes[at], 0..1);
}

#[test]
fn a_byte_flipped_in_the_middle_of_a_log_is_repaired() {
    let (mut cluster, at) = prepared();
    cluster.nodes[at].kill();
    let file = newest_file(&cluster.nodes[at].dir);
    let bytes = std::fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    let middle = end as u64 / 2;
    let opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.write_all_at(&[!bytes[end / 2]], middle).unwrap();
    is_repaired(&mut cluster, at, "is damaged at byte");
}

#[test]
fn a_log_that_is_gone_is_repaired() {
    let (mut cluster, at) = prepared();
    cluster.nodes[at].kill();
    std::fs::remove_dir_all(cluster.nodes[at].dir.join("log")).unwrap();
    is_repaired(&mut cluster, at, "the log was moved away");
}

/// Nothing on the disk tells that it is one of before; the others do.
#[test]
fn a_disk_that_was_rolled_back_is_repaired() {
    let (mut cluster, at) = prepared();
    cluster.nodes[at].kill();
    let dir = cluster.nodes[at].dir.clone();
    let image = tempfile::tempdir().unwrap();
    let parts = ["log", "projections.redb"];
    parts.iter().for_each(|part| copy(&dir.join(part), &image.path().join(part)));
    cluster.nodes[at].start();
    cluster.wait("it is back", |shown| shown["quorum"]["online"] == 3);
    publish(&cluster.nodes[at], 1_000..1_050);
    cluster.nodes[at].kill();
    std::fs::remove_dir_all(dir.join("log")).unwrap();
    parts.iter().for_each(|part| copy(&image.path().join(part), &dir.join(part)));
    let mut sleeper = Connect::v5("sleeper")
        .clean_start(false)
        .session_expiry(3600)
        .connect(cluster.nodes[(at + 1) % 3].mqtt);
    // What came between is taken, so that what is owed is what the others expect.
    for number in (0..MESSAGES / 2).chain(1_000..1_050) {
        assert_eq!(sleeper.message().payload, number.to_string().as_bytes());
    }
    sleeper.disconnect();
    publish(&cluster.nodes[(at + 1) % 3], 0..MESSAGES / 2);
    is_repaired(&mut cluster, at, "acknowledged");
}

/// To when the founder was alone, and its clock with it: the others do not let it in, for they know a
/// later start of it.
#[test]
fn a_founder_that_is_refused_since_it_was_rolled_back_takes_no_part() {
    let clock = WallClock::new(&Library::build(), "all");
    let clock = Rc::new(clock);
    let given = Rc::clone(&clock);
    let mut cluster = Cluster::of_one_with(move |options| given.given_to(options));
    publish(&cluster.nodes[0], 0..1);
    cluster.nodes[0].kill();
    let dir = cluster.nodes[0].dir.clone();
    let image = tempfile::tempdir().unwrap();
    let parts = ["log", "projections.redb", "cluster"];
    parts.iter().for_each(|part| copy(&dir.join(part), &image.path().join(part)));
    clock.set_ahead(600);
    cluster.nodes[0].start();
    cluster.join_two();
    cluster.wait("three voters", |shown| voters(shown) == 3);
    cluster.nodes[0].kill();
    clock.set_ahead(0);
    for part in ["log", "cluster"] {
        std::fs::remove_dir_all(dir.join(part)).unwrap();
    }
    parts.iter().for_each(|part| copy(&image.path().join(part), &dir.join(part)));
    let first = &mut cluster.nodes[0];
    first.spawn();
    let begun = Instant::now();
    first.wait_for("it meets them", |node| node.stderr().contains("others know of members"));
    // Whoever has refused it comes again after half a minute.
    assert!(begun.elapsed() < Duration::from_secs(15), "when they dial for the first time");
    first.wait_for("it takes no part", |node| node.get("/readyz").0 == 503);
    first.kill();
    clock.set_ahead(1200);
    first.spawn();
    first.wait_for("it is let in again", |node| node.stderr().contains("was let in again"));
    cluster.wait("all vote again", |shown| {
        voters(shown) == 3 && shown["quorum"]["online"] == 3 && shown["doubt"].is_null()
    });
}

/// The newest log file that has more than its head.
fn newest_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("log/raft")).unwrap().map(|entry| entry.unwrap().path());
    let has_content = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "raftlog")
            && std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0) > Some(1_024)
    };
    files.filter(has_content).max().expect("a log file")
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}
