//! Many sessions and many events, as quickly as the cluster takes them.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;

use ledgermq_core::packet::{Packet, QoS};

use crate::support::client::{Client, Options, message};
use crate::support::packets::Received;

/// Clients that work at the same time.
const CLIENTS: u64 = 32;
/// Messages under way: the Receive Maximum that the broker gives.
const WINDOW: u64 = 20;
/// One message of so many is retained, on as many topics as there may be different ones.
const RETAINED_EVERY: u64 = 50;
const RETAINED_TOPICS: u64 = 20_000;
/// One session of so many is owed a message.
const OWED_EVERY: u64 = 10;
/// What it is owed.
pub(super) const OWED: &str = "owed";

pub(super) fn session(n: u64) -> String {
    format!("session-{n}")
}

/// Whether that session is owed a message.
pub(super) fn is_owed(n: u64) -> bool {
    n.is_multiple_of(OWED_EVERY)
}

/// Sessions with a subscription each, whose clients are gone.
pub(super) fn make_sessions(nodes: &[SocketAddr], sessions: u64) {
    in_parallel(nodes, sessions, |node, range| {
        for n in range {
            let name = session(n);
            let mut client = Options::v5(&name).persistent().connect(node);
            client.subscribe(&format!("to/{name}"), QoS::AtLeastOnce);
            client.disconnect();
        }
    });
}

/// Messages of QoS 1: one to every tenth session, the others to nobody.
pub(super) fn make_events(nodes: &[SocketAddr], events: u64, sessions: u64) {
    in_parallel(nodes, events, move |node, range| {
        let name = format!("filler-{}", range.start);
        let mut client = Options::v5(&name).connect(node);
        let mut open = 0;
        for n in range {
            let (topic, text) = match n * OWED_EVERY {
                owed if owed < sessions => (format!("to/{}", session(owed)), OWED.to_owned()),
                _ => (format!("plant/{}/value", n % RETAINED_TOPICS), format!("{n:0>100}")),
            };
            let mut publish = message(&topic, text.as_bytes(), QoS::AtLeastOnce);
            publish.retain = topic.starts_with("plant") && n.is_multiple_of(RETAINED_EVERY);
            publish.packet_id = Some(client.next_id());
            client.send(&Packet::Publish(publish));
            open += 1;
            if open == WINDOW {
                acknowledged(&mut client);
                open -= 1;
            }
        }
        (0..open).for_each(|_| acknowledged(&mut client));
    });
}

fn acknowledged(client: &mut Client) {
    match client.answer() {
        Received::PubAck(_, reason) => assert!(!reason.is_error(), "{reason:?}"),
        other => panic!("{other:?} instead of PUBACK"),
    }
}

/// Deals `count` things to clients of all nodes.
fn in_parallel(
    nodes: &[SocketAddr],
    count: u64,
    work: impl Fn(SocketAddr, Range<u64>) + Clone + Send + 'static,
) {
    let share = count.div_ceil(CLIENTS);
    let threads: Vec<_> = (0..CLIENTS)
        .zip(nodes.iter().copied().cycle())
        .map(|(n, node)| {
            let work = work.clone();
            let range = (n * share).min(count)..((n + 1) * share).min(count);
            thread::spawn(move || work(node, range))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client panicked"));
}
