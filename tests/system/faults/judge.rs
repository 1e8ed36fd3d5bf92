//! The judgement of what the clients of a cluster did and saw.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use ledgermq_core::packet::{Packet, QoS};

use crate::support::client::{Client, Options, success};
use crate::support::history::{Delivered, Published, Verdict};
use crate::support::packets::{Message, Received};
use crate::support::traffic::{identify, is_kept, is_rare, payload, record, topic};

use super::connection;
use super::load::{Histories, Scene};
use super::wills;

/// How long the queue of one sleeping session may stand still.
const QUEUE_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the groups get that message.
fn is_shared(number: u64) -> bool {
    !is_kept(number) && !is_rare(number)
}

/// How many messages of that publisher the groups are due.
pub(crate) fn count_of_shared(published: &Published) -> usize {
    published.acknowledged.iter().filter(|number| is_shared(**number)).count()
}

/// Judges everything; the nodes that clients go to are asked for what is retained.
pub(crate) fn judge(histories: &Histories, scene: &Scene) -> Verdict {
    let Histories { published, delivered, groups, wills, watcher } = histories;
    let mut verdict = Verdict::default();
    verdict.published(published);
    for subscriber in delivered {
        let concerns = match subscriber.name.starts_with("sleeper") {
            true => |_: &Published, number| is_rare(number),
            false => |_: &Published, _| true,
        };
        verdict.delivered(subscriber, published, concerns);
    }
    for group in groups {
        judge_group(group, published, &mut verdict);
    }
    let fired = wills::judge(wills, watcher, &mut verdict);
    println!("{fired} wills fired");
    for at in scene.open_nodes() {
        check_retained(at, scene.nodes[at], published, &mut verdict);
    }
    verdict
}

/// Each message to one member at least; of QoS 2 to exactly one, once. (What a member has not
/// answered when its connection ends is another's, so QoS 1 may come twice.)
fn judge_group(members: &[Delivered], published: &[Published], verdict: &mut Verdict) {
    let group = &members[0].name;
    for member in members {
        member.violations.iter().cloned().for_each(|violation| verdict.violation(violation));
    }
    let mut again = 0;
    for publisher in published {
        let is_exact = publisher.qos.min(members[0].qos) == QoS::ExactlyOnce;
        let mut counts: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for member in members {
            for &number in member.numbers.get(&publisher.name).into_iter().flatten() {
                counts.entry(number).or_default().push(&member.name);
            }
        }
        let road = format!("{} to the group of {group}", publisher.name);
        for (number, by) in &counts {
            again += by.len() - 1;
            if is_exact && by.len() > 1 {
                verdict.violation(format!("{road}: QoS 2 message {number} came to {by:?}"));
            }
            if *number > publisher.sent || publisher.refused.contains(number) {
                verdict.violation(format!("{road}: {number} came but was never accepted"));
            }
        }
        let is_lost = |number: &&u64| is_shared(**number) && !counts.contains_key(*number);
        let lost: Vec<u64> = publisher.acknowledged.iter().filter(is_lost).copied().collect();
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            let count = lost.len();
            verdict.violation(format!("{road}: {count} messages lost, {first} to {last}"));
        }
    }
    println!("group of {group}: {again} messages came again");
}

/// Connects a sleeping session and receives what it is owed.
pub(crate) fn wake(address: SocketAddr, name: &str, published: &[Published]) -> Delivered {
    let rare = published.iter().flat_map(|it| &it.acknowledged).filter(|n| is_rare(**n)).count();
    let mut delivered =
        Delivered { name: name.to_owned(), qos: QoS::AtLeastOnce, ..Delivered::default() };
    let connect = connection::persistent(name);
    let (mut client, connected) = match connection::connect(address, &connect) {
        Ok(both) => both,
        Err(error) => {
            delivered.violations.push(format!("{name} cannot wake: {error:?}"));
            return delivered;
        }
    };
    if !connected.session_present {
        delivered.violations.push(format!("the session of {name} is gone"));
    }
    // What a publisher sent again may be there twice, so only different ones are counted.
    let mut different = HashSet::new();
    loop {
        let is_complete = different.len() >= rare;
        let patience = if is_complete { Duration::from_millis(200) } else { QUEUE_PATIENCE };
        let Some(message) = next_message(&mut client, patience) else { break };
        different.extend(identify(&message).ok());
        record(&mut delivered, &message);
    }
    delivered
}

fn next_message(client: &mut Client, patience: Duration) -> Option<Message> {
    match client.next(patience) {
        Ok(Some(Received::Publish(message))) => {
            let packet_id = message.packet_id?;
            client.try_send(&Packet::PubAck(success(packet_id))).ok()?;
            Some(message)
        }
        Ok(Some(other)) => panic!("{other:?} instead of a message"),
        Ok(None) | Err(_) => None,
    }
}

/// The retained message of each publisher is the last one that was acknowledged, on every node.
fn check_retained(at: usize, address: SocketAddr, published: &[Published], verdict: &mut Verdict) {
    let name = format!("retained-{at}");
    let mut client = Options::v5(&name).connect(address);
    for publisher in published {
        let last = publisher.acknowledged.iter().rev().find(|number| is_kept(**number));
        let Some(&last) = last else { continue };
        let topic = topic(&publisher.name, last);
        client.subscribe(&topic, QoS::AtMostOnce);
        match client.message_within(Duration::from_secs(5)) {
            Some(kept) if kept.retain && kept.payload == payload(last) => {}
            other => verdict.violation(format!(
                "node {}: {topic}: {last} was retained, but there is {:?}",
                at + 1,
                other.as_ref().map(identify)
            )),
        }
    }
}
