//! The world of several nodes: what befalls it, and that what it does is seen.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::network::Network;
use crate::node::{Node, Remains};
use crate::peers::Links;
use crate::rng::Rng;
use crate::world::cluster::{Cluster, KINDS};
use crate::world::members::Growth;
use crate::world::{Tally, World};

/// A world of three nodes that know each other from the beginning.
fn of_three(seed: u64) -> World {
    World::with(seed, (3, None), false)
}

fn links(world: &World) -> &Links<Vec<u8>> {
    &world.cluster.as_ref().expect("there are several nodes").net.links
}

fn is_any_path_cut(world: &World) -> bool {
    let paths = [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)];
    paths.iter().any(|(from, to)| links(world).is_cut(*from, *to))
}

/// Each believes that it is alone and commits what it likes: the oracle, told by every tail, sees that
/// one index has two batches.
#[test]
fn nodes_that_do_not_agree_are_found_out() {
    for seed in 1..=20 {
        let mut world = of_three(seed);
        for seat in &mut world.seats {
            seat.remains = Some(Remains::default());
        }
        // That all of them lead is seen before that.
        world.invariants.retain(|(name, _)| *name != "one leader");
        let fault = world.run().expect_err("they cannot agree");
        assert!(fault.starts_with("history: "), "seed {seed}: {fault}");
    }
}

/// All of them have clients, lead, are killed, stopped, paused and cut off, and come back.
#[test]
fn every_node_takes_part_and_meets_faults() {
    let (mut crashes, mut led, mut served) = (0, BTreeSet::new(), BTreeSet::new());
    for seed in 1..=10 {
        let mut world = of_three(seed);
        world.options.faults.rate = 100;
        for _ in 0..3_000 {
            world.step().unwrap();
            let connections = world.network.connections.values();
            served.extend(connections.filter(|it| it.is_accepted).map(|it| it.node));
            led.extend(world.leader().map(|(_, leader, _)| leader));
        }
        crashes += world.tally.crashes;
    }
    assert_eq!(served, BTreeSet::from([1, 2, 3]));
    assert!(crashes > 10, "{crashes}");
    assert_eq!(led, BTreeSet::from([1, 2, 3]));
}

/// Nodes come in, lead, serve, are drained and leave, and the others go on.
#[test]
fn nodes_come_and_go() {
    let (mut led, mut served, mut drained) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut sum = Tally::default();
    for seed in 1..=10 {
        let growth = Growth { nodes_max: 5, asks: 30, removals: 50 };
        let mut world = World::with(seed, (3, Some(growth)), false);
        for _ in 0..3_000 {
            world.step().unwrap();
            let connections = world.network.connections.values();
            served.extend(connections.filter(|it| it.is_accepted).map(|it| it.node));
            led.extend(world.leading.keys().copied());
            drained += world.nodes().filter(|node| node.log.log.is_draining()).count();
        }
        sum.add(&world.tally);
    }
    assert!(served.len() > 3 && led.len() > 2, "{served:?} {led:?}");
    assert!(drained > 0 && sum.joined > 3 && sum.left > 0, "{drained} {sum:?}");
}

#[test]
fn a_node_that_dies_breaks_its_own_connections() {
    let (mut network, mut rng) = (Network::default(), Rng::new(1));
    let (own, other) = (network.connect(1), network.connect(2));
    network.node_died(1, &mut rng);
    assert!(network.connections[&own].node_left);
    assert!(!network.connections[&other].node_left);
}

#[test]
fn a_paused_node_takes_no_turn() {
    let mut world = of_three(1);
    world.revive().unwrap();
    (0..3).for_each(|at| assert!(world.inside(at).is_some(), "{at}"));
    world.strike_cluster(1);
    assert_eq!((0..3).filter(|at| world.inside(*at).is_none()).count(), 1);
    world.heal();
    (0..3).for_each(|at| assert!(world.inside(at).is_some(), "{at}"));
}

#[test]
fn partitions_come_and_are_mended() {
    let mut cut = 0;
    for seed in 1..=20 {
        let mut world = of_three(seed);
        world.revive().unwrap();
        // A process is there for the others when it has said who it is.
        (0..3).for_each(|at| world.turn_by(at, Node::turn_log).unwrap());
        world.strike_cluster(0);
        cut += u32::from(is_any_path_cut(&world));
        world.heal();
        assert!(!is_any_path_cut(&world), "seed {seed}");
    }
    assert!(cut > 10, "{cut}");
}

#[test]
fn clocks_of_nodes_drift_apart_and_never_run_backwards() {
    let mut world = of_three(1);
    let minute = Duration::from_secs(60);
    let read = |world: &World| -> Vec<_> {
        world.seats.iter().map(|seat| seat.monotonic(world.now)).collect()
    };
    let before = read(&world);
    assert!(before.iter().all(|shown| *shown == world.now));
    world.strike_cluster(2);
    world.advance(minute);
    let after = read(&world);
    assert!(after.iter().zip(&before).all(|(after, before)| after > before));
    assert!(after.iter().any(|shown| *shown != world.now));
}

#[test]
fn every_kind_of_fault_is_drawn() {
    let mut rng = Rng::new(1);
    let drawn: Vec<_> = (0..50).map(|_| Cluster::draw(&mut rng).weights).collect();
    for kind in 0..KINDS {
        assert!(drawn.iter().any(|weights| weights[kind] > 0), "{kind}");
        assert!(drawn.iter().any(|weights| weights[kind] == 0), "{kind}");
    }
}
