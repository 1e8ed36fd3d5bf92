//! A node that was alone grows to five and shrinks to one again, while clients work.

use std::path::Path;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;
use serde_json::{Value, json};

use super::several::Cluster;
use crate::faults::load::Load;
use crate::support::broker::{Broker, Options};
use crate::support::client::{Options as Connect, Refused};
use crate::support::random::Random;
use crate::support::traffic::QUEUE;

/// Clients of a node that is removed are sent away within a second; a busy machine takes longer, and first
/// hands over leadership.
const SENT_AWAY: Duration = Duration::from_secs(10);

/// Messages that a session is owed from before there was a cluster.
const OWED: u64 = 20;

/// What `dir` holds of the time when its node was alone.
fn fill(dir: &Path) {
    let mut alone = Options::default().dir(dir).set(QUEUE, 1_000_000).start();
    let mut sleeper = Connect::v5("old").persistent().connect(alone.mqtt);
    sleeper.subscribe("old/#", QoS::ExactlyOnce);
    sleeper.disconnect();
    let mut publisher = Connect::v5("publisher").connect(alone.mqtt);
    for number in 0..OWED {
        publisher.publish("old/t", number.to_string(), qos_of(number));
    }
    publisher.publish_retained("before", "kept", QoS::ExactlyOnce);
    alone.terminate();
    let status = alone.wait_end();
    assert!(status.success(), "{status}: {}", alone.stderr());
}

fn qos_of(number: u64) -> QoS {
    if number.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce }
}

/// Checks at `node` that what was before the cluster is there.
fn check_filled(node: &Broker) {
    let mut sleeper = Connect::v5("old").persistent().connect(node.mqtt);
    assert!(sleeper.session_present());
    let came: Vec<_> = (0..OWED).map(|_| sleeper.message()).collect();
    // Each QoS has an order of its own.
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let came: Vec<_> = came.iter().filter(|it| it.qos == qos).map(|it| it.text()).collect();
        let owed = (0..OWED).filter(|number| qos_of(*number) == qos);
        assert_eq!(came, owed.map(|number| number.to_string()).collect::<Vec<_>>(), "{qos:?}");
    }
    sleeper.no_message();
    sleeper.disconnect();
    let mut reader = Connect::v5("reader").connect(node.mqtt);
    reader.subscribe("before", QoS::AtLeastOnce);
    let kept = reader.message();
    assert_eq!((kept.text(), kept.retain), ("kept", true));
}

impl Cluster {
    /// Nodes of these numbers that are to join, not started yet.
    fn prepare(&mut self, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            // One of them may be another node's, the other one not.
            let number = id.to_string();
            let answer = match id % 2 {
                0 => self.done(0, &["add", &number]),
                _ => self.done(0, &["token"]),
            };
            let token = answer["token"].as_str().expect("a token");
            assert!(token.starts_with("lmq1."), "{answer}");
            let joining = self.joining(id, token).prepare();
            self.nodes.push(joining);
        }
    }

    /// Waits until the node at `at` shows so many voters, all of them there.
    fn wait_voters(&mut self, at: usize, count: usize) {
        self.nodes[at].wait_for("the voters", |node| {
            let shown = node.api("/cluster");
            let quorum = &shown["quorum"];
            shown["state"] == "stable" && quorum["voters"] == count && quorum["online"] == count
        });
    }

    /// The leader that the node at `at` knows.
    fn leader_at(&mut self, at: usize) -> usize {
        let mut leader = 0;
        self.nodes[at].wait_for("a leader", |node| {
            leader = node.api("/cluster")["leader"].as_u64().unwrap_or(0);
            leader != 0
        });
        usize::try_from(leader).expect("small") - 1
    }

    /// Removes the node at `gone`, asked of the one at `by`, while it runs: its clients are sent away,
    /// their wills fire once, and their sessions are found at `by`. Before, `first` is done to it.
    fn remove(&mut self, gone: usize, by: usize, first: Option<&str>) {
        let number = (gone + 1).to_string();
        let (name, topic) = (format!("guest-{number}"), format!("gone/{number}"));
        let guest = || Connect::v5(&name).persistent().will(&topic, b"gone", QoS::ExactlyOnce);
        let mut watcher = Connect::v5("watcher of one").connect(self.nodes[by].mqtt);
        watcher.subscribe("gone/#", QoS::ExactlyOnce);
        let mut there = guest().connect(self.nodes[gone].mqtt);
        there.subscribe("guest/#", QoS::ExactlyOnce);
        let done = json!({ "node": gone + 1, "result": "done" });
        if let Some(verb) = first {
            assert_eq!(self.done(by, &[verb, &number]), done);
        }
        if first == Some("transfer-leader") {
            self.nodes[by].wait_for("it leads", |node| node.api("/cluster")["leader"] == gone + 1);
        }
        let since = Instant::now();
        assert_eq!(self.done(by, &["remove", &number]), done);
        let reason = there.wait_closed();
        let took = since.elapsed();
        println!("node {number} was removed: clients sent away after {took:.1?} with {reason:?}");
        assert!(reason.is_some(), "a DISCONNECT says why");
        assert!(took < SENT_AWAY, "{took:?}");
        let will = watcher.message();
        assert_eq!((will.topic.as_str(), will.text()), (topic.as_str(), "gone"));
        let mut publisher = Connect::v5("publisher").connect(self.nodes[by].mqtt);
        publisher.publish("guest/t", "meanwhile", QoS::ExactlyOnce);
        let mut here = guest().connect(self.nodes[by].mqtt);
        assert!(here.session_present());
        assert_eq!(here.message().text(), "meanwhile");
        watcher.no_message();
        here.disconnect();
        Connect::v5(&name).connect(self.nodes[by].mqtt).disconnect();
    }

    /// The process of a node that was removed says so and takes nobody. It is started again.
    fn check_gone(&mut self, at: usize, was_drained: bool) {
        let gone = &mut self.nodes[at];
        gone.wait_for("it says so", |node| {
            let (status, body) = node.get("/readyz");
            status == 503 && body.contains("has left the cluster")
        });
        assert!(gone.stderr().contains("has left the cluster"), "{}", gone.stderr());
        match Connect::v5("late").try_connect(gone.mqtt) {
            Err(Refused::ConnAck(told)) if was_drained => {
                assert_eq!(told.reason, ReasonCode::UseAnotherServer);
            }
            Err(Refused::ConnAck(told)) => assert_eq!(told.reason, ReasonCode::ServerUnavailable),
            other => panic!("{other:?} instead of a refusal"),
        }
        // What its clients sent last is not waited for.
        gone.terminate();
        assert!(gone.wait_end().success());
        assert!(!gone.stderr().contains("before everything was handed over"), "{}", gone.stderr());
        gone.spawn();
    }

    /// Nobody lets it in again.
    fn check_refused(&mut self, at: usize) {
        let gone = &mut self.nodes[at];
        let refused = format!("node {} has left the cluster", at + 1);
        gone.wait_for("it is refused", |node| node.stderr().contains(&refused));
        assert!(!gone.stderr().lines().any(|line| line == "ready"));
        gone.kill();
    }
}

#[test]
fn a_node_alone_grows_to_five_and_shrinks_to_one_while_clients_work() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let mut cluster = Cluster::of_one_in(dir.path());
    cluster.prepare(2..=5);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.mqtt).collect();
    let mut random = Random::announced("system");
    let load = Load::start_at(&addresses, &[0], &mut random);
    let mut open = vec![0];
    let began = Instant::now();
    let tell = |what: &str| println!("{what} after {:.1?}", began.elapsed());

    for pair in [[1, 2], [3, 4]] {
        for at in pair {
            cluster.nodes[at].start();
            if at == pair[0] {
                // An even number of voters bears no more losses than one less.
                cluster.nodes[0].wait_for("it has caught up", |node| {
                    let item = node.api("/cluster")["items"][at].clone();
                    item["lag_entries"].as_u64().is_some_and(|lag| lag < 100)
                });
                assert_eq!(cluster.nodes[0].api("/cluster")["quorum"]["voters"], open.len());
            }
            open.push(at);
        }
        for &at in &open {
            cluster.wait_voters(at, open.len());
        }
        load.go_to(&open);
        load.watch().begin();
        let took = load.watch().until(&open);
        tell(&format!("{} nodes acknowledge (within {took:.1?})", open.len()));
    }
    let shown = cluster.done(4, &["status"]);
    let numbers: Vec<&Value> =
        shown["items"].as_array().unwrap().iter().map(|item| &item["node"]).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    check_filled(&cluster.nodes[4]);
    tell("all is there");

    // The leader's peer, one that is drained, the leader, and the leader's only peer.
    for first in [None, Some("drain"), Some("transfer-leader"), None] {
        let leader = cluster.leader_at(open[0]);
        let gone = *open.iter().rev().find(|at| **at != leader).expect("a peer");
        open.retain(|at| *at != gone);
        load.go_to(&open);
        let by = open[0];
        cluster.remove(gone, by, first);
        cluster.check_gone(gone, first == Some("drain"));
        cluster.wait_voters(by, open.len());
        load.watch().begin();
        let took = load.watch().until(&open);
        tell(&format!("{} nodes acknowledge (within {took:.1?})", open.len()));
    }
    load.finish().announce("a node that grew to five and shrank to one");
    (0..5).filter(|at| *at != open[0]).for_each(|at| cluster.check_refused(at));
}

#[test]
fn a_node_that_is_started_before_the_member_it_asks_comes_in_when_that_is_there() {
    let mut cluster = Cluster::of_one_with(|options| options);
    cluster.prepare(2..=3);
    cluster.nodes[0].kill();
    for at in [1, 2] {
        let asking = &mut cluster.nodes[at];
        asking.spawn();
        asking.wait_for("it asks", |node| node.stderr().contains("asking again"));
    }
    cluster.nodes[0].start();
    for at in [1, 2] {
        cluster.nodes[at].wait_ready();
    }
    for at in [0, 1, 2] {
        cluster.wait_voters(at, 3);
    }
    let mut subscriber = Connect::v5("s").connect(cluster.nodes[1].mqtt);
    subscriber.subscribe("t", QoS::ExactlyOnce);
    Connect::v5("p").connect(cluster.nodes[2].mqtt).publish("t", "in", QoS::ExactlyOnce);
    assert_eq!(subscriber.message().text(), "in");
    // What the vendor shows of voters is known to the leader alone.
    let leader = cluster.leader_at(0);
    let mut reader = Connect::v5("r").connect(cluster.nodes[(leader + 1) % 3].mqtt);
    for what in ["total", "online"] {
        let topic = format!("$SYS/broker/cedalo/ha/voting_nodes/{what}");
        reader.subscribe(&topic, QoS::AtMostOnce);
        let message = reader.message();
        assert_eq!((message.topic, message.payload), (topic, b"-1".to_vec()));
    }
}
