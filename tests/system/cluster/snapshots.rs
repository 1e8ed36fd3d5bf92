//! Who lacks what the others have purged gets a snapshot, and serves its clients from there.

use std::thread;
use std::time::Duration;

use ledgermq_core::packet::QoS;

use crate::support::broker::{Broker, Options};
use crate::support::client::{Client, Options as Connect};

use super::several::Cluster;

/// Bytes of a message that fills the log.
const FILLER: usize = 200_000;
/// Messages of that size within which a log that keeps 2 MiB has purged.
const FILLERS_MAX: u32 = 200;
/// Between two of them: nothing is purged before the next checkpoint, every five seconds.
const PAUSE: Duration = Duration::from_millis(200);

/// What is retained in the end, in the order of publication.
const KEPT: [(&str, &str); 3] = [("kept/b", "b"), ("kept/a", "a"), ("kept/c", "c")];

/// Three nodes that keep as little of the log as may be configured.
fn cluster() -> Cluster {
    Cluster::of_three_with(|options: Options| {
        options.set("log.file_bytes", "1MiB").set("log.hot_bytes_max", "2MiB")
    })
}

fn index(node: &Broker, name: &str) -> u64 {
    node.api("/node")["log"][name].as_u64().expect("a number")
}

/// Publishes until both nodes have purged everything up to `upto`.
fn fill(publisher: &mut Client, nodes: [&Broker; 2], upto: u64) {
    let filler = vec![7; FILLER];
    for _ in 0..FILLERS_MAX {
        publisher.publish("filler", &filler, QoS::AtLeastOnce);
        if nodes.iter().all(|node| index(node, "first_index") > upto) {
            return;
        }
        thread::sleep(PAUSE);
    }
    let firsts = nodes.map(|node| index(node, "first_index"));
    panic!("the log is not purged up to {upto}: it begins at {firsts:?}");
}

fn session(node: &Broker) -> Client {
    let connect = Connect::v5("s").clean_start(false).session_expiry(3600);
    let client = connect.connect(node.mqtt);
    assert!(client.session_present());
    client
}

/// The messages of the session, in order, and no more.
fn check_owed(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = client.message_within(Duration::from_secs(20));
        let message = message.unwrap_or_else(|| panic!("message {number} does not come"));
        assert_eq!(message.payload, number.to_string().as_bytes());
    }
    client.no_message();
}

fn check_retained(node: &Broker) {
    let mut reader = Connect::v5("reader").connect(node.mqtt);
    reader.subscribe("kept/#", QoS::AtMostOnce);
    for (topic, payload) in KEPT {
        let message = reader.message();
        assert_eq!((message.topic.as_str(), message.text()), (topic, payload));
    }
    reader.no_message();
}

#[test]
fn a_node_that_was_away_and_a_fresh_one_get_what_was_purged() {
    let mut cluster = cluster();
    let leader = cluster.leader();
    let [first, second] = [1, 2].map(|step| (leader + step) % 3);
    let mut subscriber = Connect::v5("s").session_expiry(3600).connect(cluster.nodes[second].mqtt);
    subscriber.subscribe("owed", QoS::ExactlyOnce);
    subscriber.disconnect();
    let mut publisher = Connect::v5("p").connect(cluster.nodes[first].mqtt);
    publisher.publish_retained("kept/a", "old", QoS::AtLeastOnce);
    publisher.publish_retained("kept/b", "b", QoS::AtLeastOnce);
    for number in 0..20 {
        publisher.publish("owed", number.to_string(), QoS::ExactlyOnce);
    }
    let known = index(&cluster.nodes[second], "commit_index");
    cluster.nodes[second].terminate();
    cluster.nodes[second].wait_end();
    for number in 20..40 {
        publisher.publish("owed", number.to_string(), QoS::ExactlyOnce);
    }
    publisher.publish_retained("kept/a", "a", QoS::AtLeastOnce);
    publisher.publish_retained("kept/c", "c", QoS::ExactlyOnce);
    let upto = index(&cluster.nodes[leader], "commit_index");
    assert!(upto > known);
    fill(&mut publisher, [&cluster.nodes[leader], &cluster.nodes[first]], upto);

    // It comes back, and the log begins behind what it had.
    cluster.nodes[second].start();
    cluster.wait("it has caught up", |shown| shown["quorum"]["online"] == 3);
    let back = &cluster.nodes[second];
    assert!(index(back, "first_index") > upto, "it was fed from the log");
    check_retained(back);
    let mut subscriber = session(back);
    check_owed(&mut subscriber, 0..40);
    publisher.publish("owed", "40", QoS::AtLeastOnce);
    check_owed(&mut subscriber, 40..41);
    subscriber.disconnect();

    // A fresh one joins behind a log that has no beginning any more.
    for number in 41..60 {
        publisher.publish("owed", number.to_string(), QoS::ExactlyOnce);
    }
    let upto = index(&cluster.nodes[leader], "commit_index");
    fill(&mut publisher, [&cluster.nodes[leader], &cluster.nodes[first]], upto);
    cluster.join(4);
    let fresh = &cluster.nodes[3];
    assert!(index(fresh, "first_index") > upto);
    check_retained(fresh);
    let mut subscriber = session(fresh);
    check_owed(&mut subscriber, 41..60);
    publisher.publish("owed", "60", QoS::ExactlyOnce);
    check_owed(&mut subscriber, 60..61);

    // Both know what they know also after a crash.
    subscriber.disconnect();
    publisher.publish("owed", "61", QoS::ExactlyOnce);
    for at in [second, 3] {
        cluster.nodes[at].crash();
        check_retained(&cluster.nodes[at]);
    }
    check_owed(&mut session(&cluster.nodes[3]), 61..62);
}
