//! Shared Subscriptions whose members are at several nodes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use super::several::Cluster;
use crate::support::client::{Client, Options as Connect};

const GROUP: &str = "$share/group/work";
/// By then a node that died is given up, and what its members had is another's.
const GIVEN_UP: Duration = Duration::from_secs(30);

fn publish(publisher: &mut Client, numbers: Range<u32>, qos: QoS) {
    for number in numbers {
        publisher.publish("work", number.to_string(), qos);
    }
}

/// Receives at all of them until so many different messages have come; how many each got, and how often
/// each message came.
fn share(
    members: &mut [Client],
    expected: usize,
    wait: Duration,
) -> (Vec<usize>, BTreeMap<u32, u32>) {
    let (mut shares, mut came) = (vec![0; members.len()], BTreeMap::new());
    let end = Instant::now() + wait;
    while came.len() < expected && Instant::now() < end {
        for (member, share) in members.iter_mut().zip(&mut shares) {
            while let Some(message) = member.message_within(Duration::from_millis(20)) {
                *share += 1;
                *came.entry(message.text().parse().expect("a number")).or_default() += 1;
            }
        }
    }
    // Nothing comes again.
    for member in members {
        member.no_message();
    }
    (shares, came)
}

/// Waits until it is logged that members have acknowledged everything.
fn wait_settled(cluster: &mut Cluster) {
    for node in &mut cluster.nodes {
        node.wait_for("everything to be settled", |node| {
            ["waiting", "held"].into_iter().all(|state| {
                node.metric(&format!("ledgermq_shared_messages{{state=\"{state}\"}}")) == 0.0
            })
        });
    }
}

fn once(numbers: Range<u32>) -> BTreeMap<u32, u32> {
    numbers.map(|number| (number, 1)).collect()
}

#[test]
fn a_group_is_one_on_all_nodes_and_keeps_its_place_while_nobody_is_there() {
    let mut cluster = Cluster::of_three();
    let nodes = [0, 1, 2].map(|at| cluster.nodes[at].mqtt);
    let member = |at: usize| Connect::v5(["one", "two", "three"][at]).persistent();
    let mut publishers = [0, 1, 2].map(|at| Connect::v5(["p1", "p2", "p3"][at]).connect(nodes[at]));
    let mut next = 0;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut members = [0, 1, 2].map(|at| member(at).connect(nodes[at]));
        members.iter_mut().for_each(|member| member.subscribe(GROUP, qos));
        for publisher in &mut publishers {
            publish(publisher, next..next + 30, qos);
            next += 30;
        }
        let (shares, came) = share(&mut members, 90, Duration::from_secs(20));
        assert_eq!(came, once(next - 90..next), "{qos:?}");
        println!("{qos:?}: shares of members at three nodes {shares:?}");
        assert!(shares.iter().all(|share| *share >= 10), "{qos:?}: {shares:?}");
        wait_settled(&mut cluster);
        members.into_iter().for_each(Client::disconnect);
        publish(&mut publishers[0], next..next + 10, qos);
        // One member comes back at another node, and has what waited.
        let mut back = [member(0).connect(nodes[2])];
        assert!(back[0].session_present());
        let (_, came) = share(&mut back, 10, Duration::from_secs(20));
        assert_eq!(came, once(next..next + 10), "{qos:?}");
        next += 10;
        wait_settled(&mut cluster);
        back.into_iter().for_each(Client::disconnect);
    }
}

#[test]
fn what_a_member_did_not_acknowledge_is_anothers_when_its_node_dies() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    // Its node leads, so that there is an election, too.
    let nodes = [0, 1, 2].map(|step| cluster.nodes[(leader + step) % 3].mqtt);
    let silent = Connect::v5("silent").persistent().manual_ack().connect(nodes[0]);
    let others = [("one", nodes[1]), ("two", nodes[2])]
        .map(|(name, node)| Connect::v5(name).persistent().connect(node));
    let mut members: Vec<Client> = [silent].into_iter().chain(others).collect();
    members.iter_mut().for_each(|member| member.subscribe(GROUP, QoS::AtLeastOnce));
    let [mut before, mut after] =
        [("before", nodes[1]), ("after", nodes[2])].map(|(name, at)| Connect::v5(name).connect(at));
    publish(&mut before, 0..30, QoS::AtLeastOnce);
    let (shares, came) = share(&mut members, 30, Duration::from_secs(20));
    assert_eq!(came, once(0..30));
    assert!(shares[0] > 0, "{shares:?}");
    cluster.nodes[leader].kill();
    publish(&mut after, 30..40, QoS::AtLeastOnce);
    let (later, came) = share(&mut members[1..], shares[0] + 10, GIVEN_UP);
    println!("shares before {shares:?} and after one died without acknowledging {later:?}");
    assert_eq!(came.len(), shares[0] + 10, "{came:?}");
    assert!(came.values().all(|times| *times == 1), "{came:?}");
    assert!((30..40).all(|number| came.contains_key(&number)), "{came:?}");
}
