//! CONNECT to CONNACK, with the notice before or behind the committed batch.

use std::time::Duration;

use ledgermq_core::event::Event;
use ledgermq_core::packet::Packet;
use ledgermq_core::reason::ReasonCode;

use super::client::{self, V5};
use super::world::World;

/// `[MQTT-3.1.4-5]`
#[test]
fn connack_waits_for_the_commit_and_then_for_the_fold() {
    let mut world = World::default();
    let peer = world.begin(0, client::connect(V5, "c"));
    assert_eq!(world.read(peer), [""; 0]);
    world.commit();
    world.feed();
    assert_eq!(world.read(peer), [""; 0]);
    world.fold();
    world.notify();
    assert_eq!(world.read(peer), ["CONNACK 0x00"]);
}

#[test]
fn a_notice_ahead_of_the_committed_batch_waits_for_it() {
    let mut world = World::default();
    let peer = world.begin(0, client::connect(V5, "c"));
    world.commit();
    world.fold();
    world.notify();
    assert_eq!(world.read(peer), [""; 0]);
    world.feed();
    assert_eq!(world.read(peer), ["CONNACK 0x00"]);
}

/// `[MQTT-3.2.0-1]` `[MQTT311-3.2.0-1]`
#[test]
fn what_a_client_sends_ahead_of_connack_is_taken_after_it() {
    for is_early in [false, true] {
        let mut world = World::default();
        let peer = world.accept(0);
        let mut bytes = client::bytes_of(&Packet::Connect(Box::new(client::connect(V5, "c"))), V5);
        bytes.extend(client::bytes_of(&client::subscribe(1, "t", 1), V5));
        world.send_bytes(peer, &bytes);
        assert!(!world.shard().takes_bytes(peer.token));
        // These stay in the socket.
        world.publish(peer, 1, 2, "t", "hello");
        world.commit();
        if is_early {
            world.fold();
            world.notify();
        }
        world.settle();
        assert_eq!(
            world.received(peer),
            ["CONNACK 0x00", "SUBACK 1 [01]", "PUBACK 2", "t=hello q1 #1"]
        );
    }
}

#[test]
fn a_driver_is_told_to_read_on_after_the_session_is_open() {
    let mut world = World::default();
    let peer = world.begin(0, client::connect(V5, "c"));
    world.commit();
    world.fold();
    world.notify();
    world.feed();
    assert!(!world.shard().is_idle());
    let mut resumed = Vec::new();
    world.shard().take_resumed(&mut resumed);
    assert_eq!(resumed, [peer.token]);
    assert!(world.shard().takes_bytes(peer.token));
}

#[test]
fn a_session_whose_connection_was_lost_before_the_commit_is_closed() {
    let mut world = World::default();
    let peer = world.begin(0, client::persistent("c"));
    world.lose(peer);
    assert_eq!(world.shard().connections(), 1);
    world.settle();
    assert_eq!(world.shard().connections(), 0);
    let closed = Event::SessionClosed {
        reason: ReasonCode::UnspecifiedError,
        publish_will: false,
        session_expiry_interval: 3600,
    };
    assert_eq!(world.last_event(), closed);
    assert!(!world.rest.views.session("c").unwrap().presence().is_online());
}

#[test]
fn a_session_whose_connection_was_lost_between_commit_and_fold_is_closed() {
    let mut world = World::default();
    let peer = world.begin(0, client::persistent("c"));
    world.commit();
    world.feed();
    world.lose(peer);
    assert_eq!(world.shard().connections(), 0);
    world.settle();
    assert!(!world.rest.views.session("c").unwrap().presence().is_online());
}

#[test]
fn two_connections_of_one_client_that_open_together_leave_the_later_one() {
    for is_early in [false, true] {
        let mut world = World::default();
        let first = world.begin(0, client::persistent("c"));
        let second = world.begin(0, client::persistent("c"));
        world.commit();
        if is_early {
            world.fold();
            world.notify();
        }
        world.settle();
        assert!(world.is_closed(first));
        // [MQTT-3.14.0-1]: no DISCONNECT before CONNACK.
        let expected: &[&str] = if is_early { &["CONNACK 0x00", "DISCONNECT 0x8e"] } else { &[] };
        assert_eq!(world.received(first), expected);
        assert_eq!(world.received(second), ["CONNACK 0x00 present"]);
        assert!(world.rest.views.session("c").unwrap().presence().is_online());
    }
}

#[test]
fn a_batch_that_was_sent_twice_opens_its_sessions_once() {
    let mut world = World::default();
    let first = world.begin(0, client::connect(V5, "a"));
    world.commit();
    world.commit_again();
    let second = world.begin(0, client::connect(V5, "b"));
    world.settle();
    assert_eq!(world.received(first), ["CONNACK 0x00"]);
    assert_eq!(world.received(second), ["CONNACK 0x00"]);
    assert!(world.rest.views.session("b").unwrap().presence().is_online());
}

#[test]
fn a_client_without_connect_is_dropped_in_time() {
    let mut world = World::default();
    let peer = world.accept(0);
    world.wait(Duration::from_secs(9));
    assert!(!world.is_closed(peer));
    world.wait(Duration::from_secs(3));
    assert!(world.is_closed(peer));
    assert_eq!(world.shard().connections(), 0);
    assert_eq!(world.shard().stats().silent, 1);
}

#[test]
fn no_time_is_counted_while_a_session_is_being_opened() {
    let mut world = World::default();
    let mut connect = client::connect(V5, "c");
    connect.keep_alive = 10;
    let peer = world.begin(0, connect);
    world.wait(Duration::from_secs(100));
    world.settle();
    assert_eq!(world.received(peer), ["CONNACK 0x00"]);
    world.wait(Duration::from_secs(14));
    assert!(!world.is_closed(peer));
}

/// `[MQTT-3.1.2-1]` `[MQTT-3.1.2-2]` `[MQTT-3.1.2-3]` `[MQTT-3.1.4-1]` `[MQTT-3.2.2-6]`
/// `[MQTT-3.2.2-7]` `[MQTT311-3.1.2-1]` `[MQTT311-3.1.2-2]` `[MQTT311-3.1.2-3]` `[MQTT311-3.1.4-1]`
/// `[MQTT311-3.2.2-4]` `[MQTT311-3.2.2-5]`
#[test]
fn a_connect_that_is_wrong_is_refused_in_its_own_version() {
    let answer = |bytes: &[u8]| {
        let mut world = World::default();
        let peer = world.accept(0);
        world.send_bytes(peer, bytes);
        let answer = world.take_bytes(peer);
        assert!(world.is_closed(peer));
        answer
    };
    // MQTT 5 is told why: a reserved flag, Receive Maximum 0.
    let flag = b"\x10\x0e\0\x04MQTT\x05\x03\0\0\0\0\x01c";
    assert_eq!(answer(flag), [0x20, 3, 0, 0x81, 0]);
    let zero = b"\x10\x11\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01c";
    assert_eq!(answer(zero), [0x20, 3, 0, 0x82, 0]);
    // A later version understands the newest that we know.
    let later = b"\x10\x0e\0\x04MQTT\x06\x02\0\0\0\0\x01c";
    assert_eq!(answer(later), [0x20, 3, 0, 0x84, 0]);
    // 3.1.1 knows one code, for the version.
    assert_eq!(answer(b"\x10\x0d\0\x04MQTT\x03\x02\0\0\0\x01c"), [0x20, 2, 0, 1]);
    assert_eq!(answer(b"\x10\x0d\0\x04MQTX\x04\x02\0\0\0\x01c"), [0x20, 2, 0, 1]);
    assert_eq!(answer(b"\x10\x0d\0\x04MQTT\x04\x03\0\0\0\x01c"), [0; 0]);
}
