//! Ends of connections: silence, the server's own, what is left behind.

use std::time::Duration;

use ledgermq_core::event::Event;
use ledgermq_core::packet::Packet;
use ledgermq_core::reason::ReasonCode;

use super::client::{self, V3, V5};
use super::world::World;

fn with_keep_alive(version: ledgermq_core::packet::ProtocolVersion) -> World {
    let mut world = World::default();
    let mut connect = client::connect(version, "c");
    connect.keep_alive = 10;
    world.open(connect);
    world
}

/// `[MQTT-3.1.2-22]` `[MQTT-3.12.4-1]` `[MQTT311-3.1.2-24]` `[MQTT311-3.12.4-1]`
#[test]
fn a_silent_client_is_cut_after_one_and_a_half_times_its_keep_alive() {
    for (version, expected) in [(V5, vec!["DISCONNECT 0x8d"]), (V3, vec![])] {
        let mut world = World::default();
        let mut connect = client::connect(version, "c");
        connect.keep_alive = 10;
        let peer = world.open(connect);
        world.read(peer);
        world.wait(Duration::from_secs(14));
        world.send(peer, &Packet::PingReq);
        assert_eq!(world.read(peer), ["PINGRESP"]);
        world.wait(Duration::from_secs(14));
        assert!(!world.is_closed(peer));
        world.wait(Duration::from_secs(3));
        assert_eq!(world.received(peer), expected);
        assert!(world.is_closed(peer));
        let reason = ReasonCode::KeepAliveTimeout;
        world.settle();
        assert!(
            matches!(world.last_event(), Event::SessionClosed { reason: ended, .. } if ended == reason)
        );
    }
}

#[test]
fn a_connection_has_one_place_in_the_wheel() {
    let mut world = with_keep_alive(V5);
    for _ in 0..100 {
        world.wait(Duration::from_secs(1));
        let token = world.shard().table.tokens().pop();
        let Some(token) = token else { break };
        let peer = super::world::Peer { seat: 0, token };
        world.send(peer, &Packet::PingReq);
    }
    assert_eq!(world.shard().connections(), 1);
    assert_eq!(world.shard().wheel.entries(), 1);
}

#[test]
fn nobody_is_silent_while_the_process_does_not_run() {
    let mut world = with_keep_alive(V5);
    // What the client sent meanwhile lies in its socket.
    world.stall(Duration::from_secs(60));
    world.wait(Duration::from_secs(14));
    assert_eq!(world.shard().connections(), 1);
    world.wait(Duration::from_secs(3));
    assert_eq!(world.shard().connections(), 0);
}

#[test]
fn nobody_is_silent_while_the_log_takes_nothing_in() {
    let mut world = World::default();
    let mut connect = client::connect(V5, "c");
    connect.keep_alive = 2;
    let peer = world.open(connect);
    world.publish(peer, 0, 0, "t", "x");
    world.shard().stage().hand_over(|_, _| false);
    for _ in 0..10 {
        world.wait(Duration::from_secs(2));
    }
    assert!(!world.is_closed(peer));
    // The log takes them again; what the clients sent meanwhile is still to be read.
    world.settle();
    world.wait(Duration::from_millis(10));
    assert!(!world.is_closed(peer));
    world.wait(Duration::from_secs(5));
    assert!(world.is_closed(peer));
}

/// `[MQTT-3.14.4-2]`
#[test]
fn one_that_does_not_read_its_disconnect_is_closed_in_time() {
    let mut world = World::default();
    let peer = world.open(client::connect(V5, "c"));
    world.block(peer, true);
    let now = world.now;
    world.shard().end_all(now, ReasonCode::ServerShuttingDown);
    world.wait(Duration::from_secs(4));
    assert!(!world.is_closed(peer));
    world.wait(Duration::from_secs(3));
    assert!(world.is_closed(peer));
    assert_eq!(world.shard().connections(), 0);
}

#[test]
fn shutting_down_says_so_and_closes_every_session() {
    let mut world = World::default();
    let newer = world.open(client::persistent("newer"));
    let older = world.open(client::connect(V3, "older"));
    let opening = world.begin(0, client::persistent("opening"));
    let silent = world.accept(0);
    world.read(newer);
    world.read(older);
    let now = world.now;
    world.shard().end_all(now, ReasonCode::ServerShuttingDown);
    world.settle();
    assert_eq!(world.received(newer), ["DISCONNECT 0x8b"]);
    for peer in [newer, older, opening, silent] {
        assert!(world.is_closed(peer));
    }
    assert_eq!(world.shard().connections(), 0);
    for client in ["newer", "opening"] {
        assert!(!world.rest.views.session(client).unwrap().presence().is_online(), "{client}");
    }
    assert!(world.rest.views.session("older").is_none());
}

#[test]
fn a_client_that_broke_the_protocol_is_told_and_gets_nothing_more() {
    let mut world = World::default();
    let peer = world.subscriber(client::connect(V5, "c"), "t", 1);
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(peer, 1, 1, "t", "x");
    world.send_bytes(peer, &[0x00, 0x00]);
    world.publish(publisher, 0, 0, "t", "y");
    world.settle();
    // [MQTT-3.14.4-1]
    assert_eq!(world.received(peer), ["DISCONNECT 0x81"]);
    assert!(world.is_closed(peer));
    assert_eq!(world.shard().stats().malformed, 1);
}

#[test]
fn a_tokens_place_is_never_mistaken_for_a_later_connections() {
    let mut world = World::default();
    let first = world.subscriber(client::connect(V5, "c"), "t", 0);
    world.lose(first);
    let second = world.open(client::connect(V5, "d"));
    assert_eq!(first.token.slot, second.token.slot);
    assert_ne!(first.token, second.token);
    world.publish(second, 0, 0, "t", "x");
    world.settle();
    assert_eq!(world.shard().output(first.token), []);
    assert_eq!(world.received(second), ["CONNACK 0x00"]);
}

#[test]
fn nothing_is_left_of_connections_that_ended() {
    let mut world = World::default();
    for round in 0..3 {
        let name = format!("c{round}");
        let peer = world.subscriber(client::persistent(&name), "t", 1);
        let publisher = world.open(client::connect(V5, "p"));
        world.publish(publisher, 1, 1, "t", "x");
        world.settle();
        world.lose(peer);
        world.send(publisher, &client::disconnect());
        world.settle();
    }
    let shard = world.shard();
    assert_eq!(shard.connections(), 0);
    assert!(shard.by_epoch.is_empty() && shard.by_client.is_empty());
    assert!(shard.early_sessions.is_empty() && shard.early_retained.is_empty());
    assert!(shard.starving.is_empty() && shard.withheld.is_empty() && shard.is_idle());
    assert!(shard.stage().opening.is_empty());
}
