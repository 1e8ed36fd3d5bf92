//! Faults of a cluster of three processes under QoS 1 and 2 load: processes that are killed or
//! stopped, clocks that jump, files that are damaged.
//!
//! Nothing acknowledged is lost, nothing of QoS 2 comes twice, order is kept, groups get each message,
//! wills fire once, all nodes come back, and their projections are the same. How long acknowledgements
//! take to flow again is printed.
//!
//! What needs root is beside: [`crate::outage`], [`crate::netns`].

pub(crate) mod campaign;
pub(crate) mod cluster;
pub(crate) mod connection;
mod flip;
mod judge;
pub(crate) mod load;
pub(crate) mod network;
mod publisher;
mod replaced;
mod subscriber;
pub(crate) mod watch;
mod wills;

use std::path::Path;
use std::time::Duration;

use crate::support::broker::run_to_end;
use crate::support::count_of;
use crate::support::random::Random;
use crate::support::wall_clock::{Library, WallClock};

use campaign::Campaign;
use cluster::{Cluster, NODE_LOST, NODES};
use flip::Bit;

/// Kills in a run of `./test.sh`.
const KILLS: u64 = 6;
/// Jumps of clocks.
const JUMPS: u64 = 5;
/// Stops, and the longest one in seconds.
const STOPS: u64 = 3;
const STOP_SECONDS: u64 = 4;

#[test]
#[ignore = "part faults of ./test.sh"]
fn nodes_are_killed() {
    let kills = count_of("LEDGERMQ_TEST_KILLS", KILLS);
    let random = Random::announced("faults");
    let mut campaign = Campaign::start(Cluster::on_loopback("killed"), random);
    let mut is_whole = true;
    for _ in 0..kills {
        campaign.pause(200..1_500);
        kill(&mut campaign, is_whole);
        // Now and then the next one comes before all is well.
        is_whole = campaign.random.within(0..5) != 0;
        if is_whole {
            campaign.cluster.wait_whole();
        }
    }
    campaign.finish("kills");
}

/// Kills a node, or two, and starts them again.
fn kill(campaign: &mut Campaign, is_whole: bool) {
    let (victim, is_leader) = campaign.victim();
    let mut victims = vec![victim];
    if campaign.random.within(0..8) == 0 {
        victims.push((victim + 1) % campaign.cluster.nodes.len());
    }
    let names: Vec<usize> = victims.iter().map(|at| at + 1).collect();
    campaign.tell(&format!("SIGKILL of {names:?}{}", if is_leader { ", the leader" } else { "" }));
    campaign.watch().begin();
    for &at in &victims {
        campaign.cluster.nodes[at].kill();
    }
    let others = campaign.cluster.others(&victims);
    if victims.len() == 1 {
        let kind = match (is_whole, is_leader) {
            (true, true) => "the leader was killed",
            (true, false) => "a follower was killed",
            (false, _) => "a node was killed while another came back",
        };
        campaign.flows_at(&others, kind);
    }
    // Now and then it stays away until it is declared lost.
    let away = match campaign.random.within(0..6) {
        0 => NODE_LOST + Duration::from_secs(2),
        _ => Duration::from_millis(campaign.random.within(0..1_500)),
    };
    std::thread::sleep(away);
    for &at in &victims {
        campaign.cluster.nodes[at].spawn();
    }
    campaign.watch().begin();
    for &at in &victims {
        campaign.cluster.nodes[at].wait_ready();
    }
    campaign.flows_again("killed nodes were started again");
}

#[test]
#[ignore = "part faults of ./test.sh"]
fn nodes_are_stopped() {
    let stops = count_of("LEDGERMQ_TEST_STOPS", STOPS);
    let seconds = count_of("LEDGERMQ_TEST_STOP_SECONDS", STOP_SECONDS);
    let random = Random::announced("faults");
    let mut campaign = Campaign::start(Cluster::on_loopback("stopped"), random);
    for _ in 0..stops {
        campaign.pause(200..1_500);
        let (victim, is_leader) = campaign.victim();
        let millis = campaign.random.within(1_000..seconds * 1_000 + 1);
        let which = if is_leader { ", the leader" } else { "" };
        campaign.tell(&format!("SIGSTOP of {}{which}, for {millis} ms", victim + 1));
        campaign.watch().begin();
        campaign.cluster.nodes[victim].pause();
        std::thread::sleep(Duration::from_millis(millis));
        if millis > 3_500 {
            let others = campaign.cluster.others(&[victim]);
            let kind = if is_leader { "the leader stopped" } else { "a follower stopped" };
            campaign.flows_at(&others, kind);
        }
        campaign.watch().begin();
        campaign.cluster.nodes[victim].go_on();
        campaign.flows_again("a stopped node went on");
        campaign.cluster.wait_whole();
    }
    campaign.finish("stops");
}

/// Bits that flip.
const FLIPS: u64 = 4;
/// Seconds of full load without a fault.
const LOAD_SECONDS: u64 = 8;

#[test]
#[ignore = "part faults of ./test.sh"]
fn full_load_changes_no_leader() {
    let seconds = count_of("LEDGERMQ_TEST_LOAD_SECONDS", LOAD_SECONDS).to_string();
    let cluster = Cluster::on_loopback("undisturbed");
    let before: Vec<_> = (0..NODES).map(|at| cluster.lead(at)).collect();
    let urls = cluster.addresses().into_iter().map(|address| format!("--url=mqtt://{address}"));
    let urls: Vec<String> = urls.collect();
    let mut arguments = vec!["bench", "pubsub", "--layout", "pairs", "--publishers", "9"];
    arguments.extend(["--qos", "1", "--seconds", &seconds, "--output", "json"]);
    arguments.extend(urls.iter().map(String::as_str));
    let (code, report, stderr) = run_to_end(&std::env::temp_dir(), &arguments);
    assert_eq!(code, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&report).expect(&report);
    println!("{seconds} s of full load: {report}");
    for key in ["lost", "duplicates", "refused", "out_of_order"] {
        assert_eq!(report[key], 0, "{key} in {report}");
    }
    let after: Vec<_> = (0..NODES).map(|at| cluster.lead(at)).collect();
    assert_eq!(before, after, "term and leader that each node knows");
}

/// How far clocks jump, in seconds: by a little, by more than sessions live, and to before they began.
const AHEAD: [i64; 6] = [0, 10, 3_600, -3_600, 400 * 86_400, -86_400];

#[test]
#[ignore = "part faults of ./test.sh"]
fn wall_clocks_jump() {
    let jumps = count_of("LEDGERMQ_TEST_JUMPS", JUMPS);
    let random = Random::announced("faults");
    let library = Library::build();
    let clocks = [1, 2, 3].map(|id| WallClock::new(&library, &format!("clock-{id}")));
    let cluster = Cluster::equipped("jumped", |id, options| {
        clocks[usize::try_from(id).expect("small") - 1].given_to(options)
    });
    let mut campaign = Campaign::start(cluster, random);
    for _ in 0..jumps {
        campaign.pause(500..1_500);
        let (victim, is_leader) = campaign.victim();
        let choice = campaign.random.within(0..AHEAD.len() as u64);
        let ahead = AHEAD[usize::try_from(choice).expect("small")];
        let which = if is_leader { ", the leader" } else { "" };
        campaign.tell(&format!("the clock of {}{which}, is {ahead} s ahead", victim + 1));
        campaign.watch().begin();
        clocks[victim].set_ahead(ahead);
        campaign.flows_again("a clock jumped");
        campaign.pause(1_000..3_000);
        // Now and then the node is started again with that clock.
        if campaign.random.within(0..3) == 0 {
            campaign.tell(&format!("SIGKILL of {} with that clock", victim + 1));
            campaign.watch().begin();
            campaign.cluster.nodes[victim].crash();
            campaign.flows_again("a node with another clock was killed");
        }
        campaign.cluster.wait_whole();
    }
    clocks.iter().for_each(|clock| clock.set_ahead(0));
    campaign.finish("jumps");
}

#[test]
#[ignore = "part faults of ./test.sh"]
fn bits_of_a_node_that_is_down_flip() {
    let flips = count_of("LEDGERMQ_TEST_FLIPS", FLIPS);
    let random = Random::announced("faults");
    let mut campaign = Campaign::start(Cluster::on_loopback("flipped"), random);
    let mut repaired = 0;
    for n in 0..flips {
        // The checkpoint is written every three seconds.
        campaign.pause(1_000..5_000);
        let (victim, is_leader) = campaign.victim();
        campaign.cluster.nodes[victim].kill();
        let dir = campaign.cluster.nodes[victim].dir.clone();
        let bit = match n % 2 {
            0 => Bit::of_projections(&dir, &mut campaign.random),
            _ => Bit::of_log(&dir, &mut campaign.random),
        };
        let which = if is_leader { ", the leader" } else { "" };
        campaign.tell(&format!("SIGKILL of {}{which}, {} flips", victim + 1, bit.describe()));
        bit.flip();
        let before = given_up(&dir);
        campaign.cluster.nodes[victim].start();
        campaign.watch().begin();
        campaign.flows_again("a damaged node was started again");
        campaign.cluster.wait_whole();
        repaired += given_up(&dir) - before;
    }
    println!("{repaired} of {flips} times the node gave its log up, and was filled by the others");
    campaign.finish("flips");
}

/// How many logs were moved away since they were damaged.
fn given_up(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("log.damaged-")).count()
}
