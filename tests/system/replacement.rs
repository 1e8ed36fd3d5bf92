//! A node with many events and sessions loses its disk and is replaced by one command under load.
//!
//! Its successor stands at the same addresses. Nothing acknowledged is lost, the projections are the same
//! in the end, and what publishers noticed is printed.

mod filling;
mod meter;

use std::thread;
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use crate::faults::cluster::Cluster;
use crate::support::broker::Options as Equipment;
use crate::support::client::Options;
use crate::support::count_of;
use crate::support::history::Verdict;

use meter::Meter;

/// Events and sessions if nothing else is said.
const EVENTS: u64 = 100_000;
const SESSIONS: u64 = 2_000;
/// Messages a second while the node is replaced.
const RATE: u64 = 2_000;
/// Events for each MiB of log that nodes keep, so that most of what there is has to come in a snapshot.
const EVENTS_PER_MIB: u64 = 50_000;
/// How long the load runs before and after.
const CALM: Duration = Duration::from_secs(10);
/// By then the new node has its vote, or never.
const LIMIT: Duration = Duration::from_secs(1_800);

#[test]
#[ignore = "part long-replace of ./test.sh"]
fn a_node_that_lost_its_disk_is_replaced_under_load() {
    let events = count_of("LEDGERMQ_TEST_EVENTS", EVENTS);
    let sessions = count_of("LEDGERMQ_TEST_SESSIONS", SESSIONS);
    let rate = count_of("LEDGERMQ_TEST_RATE", RATE);
    let kept = count_of("LEDGERMQ_TEST_LOG_MIB", (events / EVENTS_PER_MIB).max(2));
    let equip = |_, options: Equipment| {
        options
            .set("log.hot_bytes_max", format!("{kept}MiB"))
            .set("log.file_bytes", format!("{}MiB", (kept / 8).clamp(1, 64)))
    };
    let mut cluster = Cluster::equipped("replaced", equip);
    let started = Instant::now();
    filling::make_sessions(&cluster.addresses(), sessions);
    println!("{sessions} sessions after {:?}", started.elapsed());
    // Each of them was opened, subscribed and closed.
    filling::make_events(&cluster.addresses(), events.saturating_sub(3 * sessions), sessions);
    println!("{events} events after {:?}", started.elapsed());

    // The node that leads goes: publishers notice most of it.
    let goes = cluster.leader();
    let [survivor, _] = [1, 2].map(|step| (goes + step) % cluster.nodes.len());
    let meter = Meter::start(&cluster.addresses(), rate);
    thread::sleep(CALM);
    let lost_at = Instant::now();
    cluster.lose(goes);
    let token = cluster.replacing_token(survivor, goes, 4, LIMIT);
    println!("the token was given {:?} after the loss", lost_at.elapsed());
    cluster.put(goes, 4, &token, equip);
    cluster.wait_voter(survivor, 4, LIMIT);
    let voter_at = Instant::now();
    println!("node 4 votes instead of node {} {:?} after the loss", goes + 1, voter_at - lost_at);
    thread::sleep(CALM);
    let mut verdict = Verdict::default();
    let measured = meter.finish(&cluster.addresses(), &mut verdict);
    measured.print("before", None, Some(lost_at));
    measured.print("meanwhile", Some(lost_at), Some(voter_at));
    measured.print("after", Some(voter_at), None);

    cluster.wait_whole();
    println!("all nodes are ready {:?} after the loss", lost_at.elapsed());
    cluster.print_snapshots();
    let fresh = cluster.nodes[goes].mqtt;
    for n in [0, sessions / 2, sessions - 1] {
        let name = filling::session(n);
        let mut client = Options::v5(&name).persistent().connect(fresh);
        assert!(client.session_present(), "{name}");
        client.publish(&format!("to/{name}"), "still subscribed", QoS::AtLeastOnce);
        let mut texts = vec![client.message().text().to_owned()];
        if filling::is_owed(n) {
            texts.push(client.message().text().to_owned());
        }
        let mut expected = vec!["still subscribed".to_owned()];
        if filling::is_owed(n) {
            expected.insert(0, filling::OWED.to_owned());
        }
        assert_eq!(texts, expected, "{name}");
        client.disconnect();
    }
    cluster.compare_views(&mut verdict);
    verdict.announce("1 node was replaced");
}
