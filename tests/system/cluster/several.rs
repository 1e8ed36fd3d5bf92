//! Three processes with sockets, certificates and disks of their own are one broker.

use std::path::Path;
use std::thread;
use std::time::Duration;

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::{Broker, Options, free_address, run_to_end};
use crate::support::client::{Options as Connect, Refused};
use crate::support::traffic::QUEUE;

/// Nodes that are members of one cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Broker>,
    /// Where the first one is reached by the others.
    address: String,
    /// What every node is started with besides.
    with: Box<dyn Fn(Options) -> Options>,
}

impl Cluster {
    /// One founds it, two join; all vote.
    pub(super) fn of_three() -> Self {
        Self::of_three_with(|options| options)
    }

    /// As [`Cluster::of_three`], each with these options.
    pub(super) fn of_three_with(with: impl Fn(Options) -> Options + 'static) -> Self {
        let mut cluster = Self::of_one_with(with);
        cluster.join_two();
        cluster
    }

    /// The founder, alone.
    pub(super) fn of_one_with(with: impl Fn(Options) -> Options + 'static) -> Self {
        let address = free_address().to_string();
        let first = with(node(1, &address)).start();
        Self { nodes: vec![first], address, with: Box::new(with) }
    }

    /// The founder, alone, with the data in `dir`.
    pub(super) fn of_one_in(dir: &Path) -> Self {
        let address = free_address().to_string();
        let first = node(1, &address).dir(dir).start();
        Self { nodes: vec![first], address, with: Box::new(|options| options) }
    }

    /// Two join the founder; all vote.
    pub(super) fn join_two(&mut self) {
        for id in [2, 3] {
            self.join(id);
        }
        self.wait("three voters", |shown| shown["quorum"]["online"] == 3);
    }

    /// A fresh node joins.
    pub(super) fn join(&mut self, id: u64) {
        let first = &self.nodes[0];
        let dir = first.dir.display().to_string();
        let (code, token, stderr) =
            run_to_end(&first.dir, &["cluster", "token", "--data-dir", &dir]);
        assert_eq!(code, 0, "{stderr}");
        self.join_by(id, &token);
    }

    /// A fresh node joins with this token.
    pub(super) fn join_by(&mut self, id: u64, token: &str) {
        let joining = self.joining(id, token);
        self.nodes.push(joining.start());
    }

    /// How a node is started that joins with this token.
    pub(super) fn joining(&self, id: u64, token: &str) -> Options {
        (self.with)(node(id, &free_address().to_string()))
            .argument("--join")
            .argument(&self.address)
            .variable("LEDGERMQ_JOIN_TOKEN", token.trim())
    }

    /// Waits until every node that runs shows the cluster so.
    pub(super) fn wait(&mut self, what: &str, mut is_so: impl FnMut(&serde_json::Value) -> bool) {
        for node in &mut self.nodes {
            if node.is_running() && node.ended().is_none() {
                node.wait_for(what, |node| is_so(&node.api("/cluster")));
            }
        }
    }

    pub(super) fn leader(&self) -> usize {
        let running = self.nodes.iter().find(|node| node.metric("ledgermq_raft_term") > 0.0);
        let leader = running.expect("one runs").api("/cluster")["leader"].as_u64();
        usize::try_from(leader.expect("a number")).expect("small") - 1
    }
}

pub(super) fn node(id: u64, address: &str) -> Options {
    Options::default()
        .argument("--node-id")
        .argument(id.to_string())
        .argument("--cluster")
        .argument(address)
        .set("cluster.node_lost", "6s")
        .set(QUEUE, 1_000_000)
}

#[test]
fn a_message_and_a_session_are_the_same_on_every_node() {
    let cluster = Cluster::of_three();
    let [one, two, three] = [0, 1, 2].map(|at| cluster.nodes[at].mqtt);
    // Subscribed here, published there.
    let mut subscriber = Connect::v5("s").session_expiry(3600).connect(two);
    subscriber.subscribe("a/#", QoS::ExactlyOnce);
    let mut publisher = Connect::v5("p").connect(three);
    publisher.publish("a/1", "one", QoS::AtLeastOnce);
    publisher.publish_retained("a/kept", "kept", QoS::ExactlyOnce);
    assert_eq!(subscriber.message().payload, b"one");
    assert_eq!(subscriber.message().payload, b"kept");
    // Its acknowledgements are logged by then: what is not may come again after a move.
    thread::sleep(Duration::from_millis(500));
    // The same client elsewhere takes the session over, with what it missed.
    let mut moved = Connect::v5("s").clean_start(false).session_expiry(3600).connect(one);
    assert!(moved.session_present());
    let reason = subscriber.wait_closed().map(u8::from);
    assert_eq!(reason, Some(0x8E), "Session taken over");
    publisher.publish("a/2", "two", QoS::ExactlyOnce);
    assert_eq!(moved.message().payload, b"two");
    moved.disconnect();
    publisher.publish("a/3", "three", QoS::AtLeastOnce);
    let mut back = Connect::v5("s").clean_start(false).connect(three);
    assert!(back.session_present());
    assert_eq!(back.message().payload, b"three");
    // What is retained is retained everywhere.
    let mut reader = Connect::v5("r").connect(one);
    reader.subscribe("a/kept", QoS::AtMostOnce);
    assert_eq!(reader.message().payload, b"kept");
}

#[test]
fn the_leader_dies_and_the_others_go_on_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let others = [0, 1, 2].map(|step| (leader + step) % 3);
    let (first, second) = (others[1], others[2]);
    let mut subscriber = Connect::v5("s").session_expiry(3600).connect(cluster.nodes[first].mqtt);
    subscriber.subscribe("t", QoS::AtLeastOnce);
    subscriber.disconnect();
    // A client of the node that dies leaves a will.
    let watched = cluster.nodes[first].mqtt;
    let mut watcher = Connect::v5("w").connect(watched);
    watcher.subscribe("will", QoS::AtLeastOnce);
    let _left = Connect::v5("left")
        .will("will", b"gone", QoS::AtLeastOnce)
        .connect(cluster.nodes[leader].mqtt);
    let mut publisher = Connect::v5("p").connect(cluster.nodes[second].mqtt);
    for number in 0..50 {
        if number == 20 {
            cluster.nodes[leader].kill();
        }
        publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
    }
    let mut subscriber = Connect::v5("s")
        .clean_start(false)
        .session_expiry(3600)
        .connect(cluster.nodes[second].mqtt);
    assert!(subscriber.session_present());
    for number in 0..50 {
        let message = subscriber.message_within(Duration::from_secs(20));
        let message = message.unwrap_or_else(|| panic!("message {number} does not come"));
        assert_eq!(message.payload, number.to_string().as_bytes());
    }
    // Once the others have given it up, its clients' wills come, once.
    let will = watcher.message_within(Duration::from_secs(20)).expect("its will");
    assert_eq!(will.payload, b"gone");
    watcher.no_message();
    // It comes back and is one of them again.
    cluster.nodes[leader].start();
    cluster.wait("all are back", |shown| shown["quorum"]["online"] == 3);
    let mut late = Connect::v5("late").connect(cluster.nodes[leader].mqtt);
    late.subscribe("t", QoS::AtLeastOnce);
    publisher.publish("t", "last", QoS::AtLeastOnce);
    assert_eq!(late.message().payload, b"last");
}

#[test]
fn without_a_majority_clients_are_told_and_nothing_is_acknowledged() {
    let mut cluster = Cluster::of_three();
    let mut last = Connect::v5("p").connect(cluster.nodes[0].mqtt);
    last.publish("t", "before", QoS::AtLeastOnce);
    for at in [1, 2] {
        cluster.nodes[at].kill();
    }
    let first = &mut cluster.nodes[0];
    first.wait_for("it says that it is not ready", |node| node.get("/readyz").0 == 503);
    // Reading goes on.
    assert_eq!(first.get("/healthz").0, 200);
    assert_ne!(first.api("/cluster")["state"], "stable");
    first.wait_for("a new client is told", |node| {
        let answer = Connect::v5("new").try_connect(node.mqtt);
        matches!(answer, Err(Refused::ConnAck(answer)) if answer.reason == ReasonCode::ServerUnavailable)
    });
    // Who was there is sent away, after half the time in which a node is given up.
    assert!(last.wait_closed().is_some());
    cluster.nodes[1].start();
    thread::sleep(Duration::from_millis(100));
    let first = &mut cluster.nodes[0];
    first.wait_for("it is ready again", |node| node.get("/readyz").0 == 200);
    Connect::v5("new").connect(first.mqtt).publish("t", "after", QoS::AtLeastOnce);
}
