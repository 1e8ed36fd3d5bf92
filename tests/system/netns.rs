//! Partitions of a cluster of three processes under load, each in a network namespace of its own; alone,
//! and together with other faults. Judged as [`crate::faults`]; and without a majority nobody acknowledges anything.

use std::thread;
use std::time::{Duration, Instant};

use crate::faults::campaign::Campaign;
use crate::faults::cluster::NODES;
use crate::faults::network::Network;
use crate::support::count_of;
use crate::support::random::Random;

/// Partitions in a run of `./test.sh`, and the longest one in seconds.
const PARTITIONS: u64 = 6;
const PARTITION_SECONDS: u64 = 5;
/// Rounds of faults that come together, and how many each has.
const ROUNDS: u64 = 3;
const FAULTS_A_ROUND: u64 = 8;
/// By then a leader is elected by those who hear each other.
const ELECTED: Duration = Duration::from_millis(3_500);

/// What is cut.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One node and the two others hear nothing of each other.
    Minority,
    /// The same, and clients do not reach it either.
    Unplugged,
    /// Nobody hears anybody.
    All,
    /// One node hears nothing of the others, which hear it.
    Deaf,
    /// The others hear nothing of one node, which hears them.
    Mute,
    /// Two nodes hear nothing of each other, and the third both.
    Pair,
    /// A minority that comes and goes.
    Flapping,
}

const KINDS: [Kind; 7] = [
    Kind::Minority,
    Kind::Flapping,
    Kind::Deaf,
    Kind::All,
    Kind::Mute,
    Kind::Unplugged,
    Kind::Pair,
];

#[test]
#[ignore = "part netns of ./test.sh"]
fn the_network_is_partitioned() {
    let partitions = count_of("LEDGERMQ_TEST_PARTITIONS", PARTITIONS);
    let seconds = count_of("LEDGERMQ_TEST_PARTITION_SECONDS", PARTITION_SECONDS);
    let mut random = Random::announced("netns");
    let network = Network::new();
    let first = usize::try_from(random.within(0..KINDS.len() as u64)).expect("small");
    let mut campaign = Campaign::start(network.cluster("partitioned"), random);
    for kind in KINDS.iter().cycle().skip(first).take(usize::try_from(partitions).expect("small")) {
        campaign.pause(200..1_500);
        let millis = campaign.random.within(500..seconds * 1_000);
        partition(&mut campaign, &network, *kind, Duration::from_millis(millis));
        campaign.cluster.wait_whole();
    }
    campaign.finish("partitions");
}

fn partition(campaign: &mut Campaign, network: &Network, kind: Kind, length: Duration) {
    let (victim, is_leader) = campaign.victim();
    let others = campaign.cluster.others(&[victim]);
    let which = if is_leader { ", the leader" } else { "" };
    campaign.tell(&format!("{kind:?} of {}{which}, for {length:?}", victim + 1));
    let end = Instant::now() + length;
    match kind {
        Kind::Minority | Kind::Unplugged => {
            isolate(campaign, network, kind, victim);
            if length > ELECTED {
                let kind = match is_leader {
                    true => "the leader was cut off",
                    false => "a follower was cut off",
                };
                campaign.flows_at(&others, kind);
            }
        }
        Kind::All => {
            (0..NODES).for_each(|at| network.cut(at, (at + 1) % NODES));
            campaign.watch().begin();
        }
        Kind::Deaf => others.iter().for_each(|of| network.deafen(victim, *of)),
        Kind::Mute => others.iter().for_each(|at| network.deafen(*at, victim)),
        Kind::Pair => network.cut(victim, others[0]),
        Kind::Flapping => {
            while Instant::now() < end {
                isolate(campaign, network, Kind::Minority, victim);
                campaign.pause(100..1_000);
                network.heal();
                campaign.pause(100..1_000);
            }
        }
    }
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let cut_off: &[usize] = match kind {
        Kind::Minority | Kind::Unplugged => &[victim],
        Kind::All => &[0, 1, 2],
        Kind::Deaf | Kind::Mute | Kind::Pair | Kind::Flapping => &[],
    };
    for &at in cut_off {
        assert!(
            !campaign.watch().has_acknowledged(at),
            "node {} acknowledged what was sent while it heard no majority",
            at + 1
        );
    }
    network.heal();
    network.plug_in(victim);
    campaign.watch().begin();
    campaign.flows_again("a partition healed");
}

/// Cuts a node off, then begins to watch.
fn isolate(campaign: &Campaign, network: &Network, kind: Kind, victim: usize) {
    match kind {
        Kind::Unplugged => network.unplug(victim),
        _ => campaign.cluster.others(&[victim]).iter().for_each(|at| network.cut(victim, *at)),
    }
    campaign.watch().begin();
}

#[test]
#[ignore = "part netns of ./test.sh"]
fn faults_come_together() {
    let rounds = count_of("LEDGERMQ_TEST_ROUNDS", ROUNDS);
    let random = Random::announced("netns");
    let network = Network::new();
    let mut campaign = Campaign::start(network.cluster("confused"), random);
    for _ in 0..rounds {
        let mut paused = [false; NODES];
        for _ in 0..FAULTS_A_ROUND {
            campaign.pause(50..1_500);
            let at = usize::try_from(campaign.random.within(0..NODES as u64)).expect("small");
            strike(&mut campaign, &network, at, &mut paused);
        }
        campaign.tell("everything is mended");
        network.heal();
        for at in 0..NODES {
            network.plug_in(at);
            let node = &mut campaign.cluster.nodes[at];
            match node.is_running() {
                true if paused[at] => node.go_on(),
                true => {}
                false => node.spawn(),
            }
        }
        campaign.watch().begin();
        campaign.flows_again("many faults were mended");
        campaign.cluster.wait_whole();
    }
    campaign.finish("faults");
}

/// One fault of any kind at a node, or the end of one.
fn strike(campaign: &mut Campaign, network: &Network, at: usize, paused: &mut [bool; NODES]) {
    campaign.count(false);
    let other = (at + 1) % NODES;
    let (one, two) = (at + 1, other + 1);
    match campaign.random.within(0..8) {
        0 | 1 => {
            campaign.tell(&format!("SIGKILL of {one}, or its start"));
            let node = &mut campaign.cluster.nodes[at];
            match node.is_running() {
                true => node.kill(),
                false => node.spawn(),
            }
            paused[at] = false;
        }
        2 | 3 if campaign.cluster.nodes[at].is_running() => {
            campaign.tell(&format!("SIGSTOP of {one}, or SIGCONT"));
            let node = &campaign.cluster.nodes[at];
            match paused[at] {
                true => node.go_on(),
                false => node.pause(),
            }
            paused[at] = !paused[at];
        }
        4 => {
            campaign.tell(&format!("{one} and {two} are cut off from each other"));
            network.cut(at, other);
        }
        5 => {
            campaign.tell(&format!("{one} hears nothing of {two}"));
            network.deafen(at, other);
        }
        6 => {
            campaign.tell(&format!("{one} is unplugged"));
            network.unplug(at);
        }
        _ => {
            campaign.tell("the network is mended");
            network.heal();
            (0..NODES).for_each(|at| network.plug_in(at));
        }
    }
}
