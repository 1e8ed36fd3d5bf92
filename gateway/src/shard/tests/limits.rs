//! The node's limits of sessions and retained messages, with what is under way.

use ledgermq_core::connection::{Refusal, Request};
use ledgermq_core::packet::{Connect, Packet};

use crate::shard::Volume;

use super::client::{self, V3, V5};
use super::world::{Peer, World};

const MAX: Volume = Volume { sessions: 2, retained_messages: 3, retained_bytes: 1000 };

/// What a worker does at each turn.
fn refresh(world: &mut World) -> Volume {
    let views = &world.rest.views;
    let held = Volume {
        sessions: views.sessions().persistent(),
        retained_messages: views.retained().len(),
        retained_bytes: views.retained().bytes(),
    };
    let applied = views.applied();
    let under_way = world.shard().set_applied(applied);
    world.shard().room = MAX.minus(held);
    under_way
}

fn retain(world: &mut World, peer: Peer, id: u16, topic: &str, payload: &str) {
    let mut publish = client::publish(1, id, topic, payload);
    publish.retain = true;
    world.send(peer, &Packet::Publish(publish));
}

#[test]
fn retained_messages_on_their_way_count() {
    let mut world = World::default();
    refresh(&mut world);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    for (id, topic) in (1..).zip(["a", "b", "c", "d", "e"]) {
        retain(&mut world, peer, id, topic, "x");
    }
    assert_eq!(refresh(&mut world).retained_messages, 3);
    world.settle();
    let lines = world.read(peer);
    let refused = lines.iter().filter(|line| line.ends_with("0x97")).count();
    assert_eq!((lines.len(), refused), (5, 2), "{lines:?}");
    assert_eq!(world.rest.views.retained().len(), 3);
    // What is there may be replaced and removed, which makes room.
    assert_eq!(refresh(&mut world), Volume::default());
    retain(&mut world, peer, 6, "d", "x");
    retain(&mut world, peer, 7, "a", "y");
    retain(&mut world, peer, 8, "b", "");
    world.settle();
    assert_eq!(world.read(peer), ["PUBACK 6 0x97", "PUBACK 7 0x10", "PUBACK 8 0x10"]);
    refresh(&mut world);
    retain(&mut world, peer, 9, "d", "x");
    world.settle();
    assert_eq!(world.read(peer), ["PUBACK 9 0x10"]);
}

#[test]
fn so_do_their_bytes() {
    let mut world = World::default();
    refresh(&mut world);
    let peer = world.open(client::connect(V5, "c"));
    world.read(peer);
    let payload = "x".repeat(1000);
    retain(&mut world, peer, 1, "a", &payload);
    retain(&mut world, peer, 2, "b", "x");
    world.settle();
    assert_eq!(world.read(peer), ["PUBACK 1 0x10", "PUBACK 2 0x97"]);
}

/// Answers of CONNECTs that came together.
fn connacks(world: &mut World, connects: Vec<Connect<'_>>) -> Vec<String> {
    let peers: Vec<_> = connects.into_iter().map(|connect| world.begin(0, connect)).collect();
    world.settle();
    refresh(world);
    let lines = peers.into_iter().flat_map(|peer| {
        let lines = world.read(peer);
        world.lose(peer);
        lines
    });
    let lines = lines.collect();
    world.settle();
    lines
}

#[test]
fn sessions_that_stay_are_bounded_and_may_be_resumed() {
    let mut world = World::default();
    refresh(&mut world);
    let older = |client| Connect { clean_start: false, ..client::connect(V3, client) };
    let connects = ["a", "b", "c"].map(client::persistent);
    let lines = connacks(&mut world, connects.to_vec());
    assert_eq!(lines, ["CONNACK 0x00", "CONNACK 0x00", "CONNACK 0x97"]);
    let refused = world.shard().stats().refused(Request::Connect, Refusal::Sessions);
    assert_eq!(refused, 1);
    // Full: none is added, those that are there are resumed, and one that does not stay is let in.
    let lines = connacks(&mut world, vec![older("c"), client::persistent("c")]);
    assert_eq!(lines, ["CONNACK 0x88", "CONNACK 0x97"]);
    let resumed = vec![client::persistent("a"), older("b")];
    assert_eq!(connacks(&mut world, resumed), ["CONNACK 0x00 present"; 2]);
    let clean = Connect { clean_start: true, ..client::persistent("a") };
    let lines = connacks(&mut world, vec![client::connect(V5, "c"), clean]);
    assert_eq!(lines, ["CONNACK 0x00"; 2]);
    // Who ends its session makes room.
    assert_eq!(connacks(&mut world, vec![client::connect(V3, "b")]), ["CONNACK 0x00"]);
    assert_eq!(connacks(&mut world, vec![client::persistent("c")]), ["CONNACK 0x00"]);
    assert_eq!(world.rest.views.sessions().persistent(), 2);
}
