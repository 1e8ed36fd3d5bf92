//! Power cuts of one, two and all nodes of a cluster under load: what they had not synced is gone. Judged
//! as [`crate::faults`].

use crate::faults::campaign::Campaign;
use crate::faults::cluster::{Cluster, NODES};
use crate::support::count_of;
use crate::support::disk::Disk;
use crate::support::random::Random;

/// Cuts in a run of `./test.sh`.
const CUTS: u64 = 5;
const DISK_MIB: u64 = 2_048;

#[test]
#[ignore = "part faults of ./test.sh, and needs root"]
fn the_power_fails() {
    let cuts = count_of("LEDGERMQ_TEST_CUTS", CUTS);
    let random = Random::announced("faults");
    let disks: Vec<Disk> = (0..NODES).map(|_| Disk::new(DISK_MIB)).collect();
    let dir = |id: u64| disks[usize::try_from(id).expect("small") - 1].path().join("data");
    let cluster = Cluster::equipped("powerless", |id, options| options.dir(dir(id)));
    let mut campaign = Campaign::start(cluster, random);
    for _ in 0..cuts {
        campaign.pause(500..2_500);
        cut(&mut campaign, &disks);
        campaign.cluster.wait_whole();
    }
    campaign.finish("power cuts");
}

fn cut(campaign: &mut Campaign, disks: &[Disk]) {
    let (victim, is_leader) = campaign.victim();
    let count = [1, 2, 3, 3][usize::try_from(campaign.random.within(0..4)).expect("small")];
    let mut victims: Vec<usize> = (0..count).map(|step| (victim + step) % NODES).collect();
    let names: Vec<usize> = victims.iter().map(|at| at + 1).collect();
    campaign
        .tell(&format!("power cut of {names:?}{}", if is_leader { ", the leader" } else { "" }));
    campaign.watch().begin();
    // See `power` for why the processes end first.
    for &at in &victims {
        campaign.cluster.nodes[at].kill();
    }
    for &at in &victims {
        disks[at].cut_power();
    }
    if count == 1 {
        let others = campaign.cluster.others(&victims);
        let kind = if is_leader { "the leader lost power" } else { "a follower lost power" };
        campaign.flows_at(&others, kind);
    }
    for &at in &victims {
        disks[at].remount();
    }
    // In any order, and not at once.
    if campaign.random.within(0..2) == 0 {
        victims.reverse();
    }
    for &at in &victims {
        campaign.cluster.nodes[at].spawn();
        campaign.pause(0..700);
    }
    campaign.watch().begin();
    for &at in &victims {
        campaign.cluster.nodes[at].wait_ready();
    }
    campaign.flows_again("the power came back");
}
