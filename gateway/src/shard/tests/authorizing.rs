//! Who may come in, and what the access rules say of each delivery.

use ledgermq_core::access::{self, RuleList};
use ledgermq_core::connection::Authentication;
use ledgermq_core::connection::{Refusal, Request};
use ledgermq_core::event::{DropReason, Event, SessionOpened};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::packet::{Connect, QoS, Will};
use ledgermq_core::reason::ReasonCode;

use crate::shard::{PROGRESS_INTERVAL, ShardLimits};

use super::client::{self, V3, V5};
use super::world::{Peer, World};

const VIEWS: ProducerId = ProducerId { node: 1, start: 1, local: 900 };

fn rules(text: &str) -> Option<RuleList> {
    Some(access::parse(text).unwrap())
}

/// Replaces the rules, and lets everybody see it.
fn replace(world: &mut World, text: &str) {
    commit_rules(world, text);
    world.settle();
}

fn commit_rules(world: &mut World, text: &str) {
    let rules = rules(text);
    world.commit_from(VIEWS, |events| {
        events.push(None, None, &Event::AccessRulesReplaced { rules });
    });
}

fn guarded() -> World {
    let mut world = World::default();
    world.shard().settings.authentication =
        Authentication { has_passwords: true, takes_anonymous: true };
    world
}

fn named<'a>(connect: Connect<'a>, user: &'a str) -> Connect<'a> {
    Connect { username: Some(user), password: Some(b"secret"), ..connect }
}

/// Answers the one password that waits.
fn authenticate(world: &mut World, verdict: Result<(), ReasonCode>) {
    let (now, mut asked) = (world.now, Vec::new());
    world.shard().take_asked(&mut asked);
    assert_eq!(asked.len(), 1);
    let shard = &mut world.shards[0].shard;
    shard.on_authenticated(now, asked[0].token, verdict, &mut world.rest);
    world.settle();
}

fn open_named(world: &mut World, connect: Connect<'_>, user: &str) -> Peer {
    let peer = world.begin(0, named(connect, user));
    authenticate(world, Ok(()));
    peer
}

fn owed(world: &World, client: &str) -> usize {
    world.rest.views.session(client).unwrap().owed_messages()
}

#[test]
fn a_password_is_compared_before_the_session_is_opened() {
    let mut world = guarded();
    let peer = world.begin(0, named(client::connect(V5, "c"), "u"));
    world.commit();
    assert_eq!(world.events().len(), 0, "nothing of it is logged");
    assert!(!world.shard().takes_bytes(peer.token));
    assert!(!world.shard().is_idle(), "its driver has to compare it");
    authenticate(&mut world, Ok(()));
    assert_eq!(world.read(peer), ["CONNACK 0x00"]);
    let opened = world.events().remove(0).0;
    let Event::SessionOpened(opened) = opened else { panic!("{opened:?}") };
    let SessionOpened { username, is_proven, .. } = *opened;
    assert_eq!((username.as_deref(), is_proven), (Some("u"), true));
}

#[test]
fn a_refused_password_is_answered_and_counted_and_the_connection_ends() {
    for (verdict, code) in
        [(ReasonCode::BadUserNameOrPassword, "0x86"), (ReasonCode::ServerBusy, "0x89")]
    {
        let mut world = guarded();
        let peer = world.begin(0, named(client::connect(V5, "c"), "u"));
        authenticate(&mut world, Err(verdict));
        assert_eq!(world.read(peer), [format!("CONNACK {code}")]);
        assert!(world.is_closed(peer));
        assert_eq!(world.events().len(), 0);
        let stats = *world.shard().stats();
        assert_eq!((stats.refused_connects, stats.refused_busy), (1, u64::from(code == "0x89")));
    }
}

#[test]
fn an_answer_for_a_connection_that_ended_is_for_nobody() {
    let mut world = guarded();
    let peer = world.begin(0, named(client::connect(V5, "c"), "u"));
    world.lose(peer);
    authenticate(&mut world, Ok(()));
    assert_eq!(world.events().len(), 0);
    assert_eq!(world.shard().connections(), 0);
}

#[test]
fn a_session_is_not_taken_over_by_another_user() {
    let mut world = guarded();
    let owner = open_named(&mut world, client::persistent("c"), "u");
    world.read(owner);
    let thief = open_named(&mut world, client::persistent("c"), "v");
    assert_eq!(world.read(thief), ["CONNACK 0x87"]);
    assert!(world.is_closed(thief));
    let nameless = world.open(client::persistent("c"));
    assert_eq!(world.read(nameless), ["CONNACK 0x87"]);
    assert_eq!(world.read(owner), [""; 0]);
    assert!(!world.is_closed(owner));
    assert_eq!(world.shard().stats().refused_foreign, 2);
    // The session waits for its owner also while nobody is connected.
    world.lose(owner);
    world.settle();
    let thief =
        open_named(&mut world, Connect { clean_start: true, ..client::persistent("c") }, "v");
    assert_eq!(world.read(thief), ["CONNACK 0x87"]);
    let owner = open_named(&mut world, client::persistent("c"), "u");
    assert_eq!(world.read(owner), ["CONNACK 0x00 present"]);
}

#[test]
fn a_connect_that_waited_too_long_is_refused_and_takes_nobodys_session() {
    let mut world = World::default();
    world.add_shard(1, ShardLimits::default());
    let stale = world.begin(0, client::persistent("c"));
    let newer = world.begin(1, client::persistent("c"));
    world.commit_of(1);
    world.commit_late(0);
    world.settle();
    assert_eq!(world.read(newer), ["CONNACK 0x00"]);
    assert_eq!(world.read(stale), ["CONNACK 0x88"]);
    assert!(world.is_closed(stale) && !world.is_closed(newer));
    assert_eq!(world.shard().stats().refused_foreign, 0);
    let again = world.open(client::persistent("c"));
    assert_eq!(world.read(again), ["CONNACK 0x00 present"]);
    assert!(world.is_closed(newer), "that one is in time");
}

#[test]
fn two_users_that_open_the_same_session_at_once_are_told_apart_by_the_log() {
    let mut world = guarded();
    world.add_shard(1, ShardLimits::default());
    world.shards[1].shard.settings.authentication =
        Authentication { has_passwords: true, takes_anonymous: false };
    let one = world.begin(0, named(client::connect(V5, "c"), "u"));
    let other = world.begin(1, named(client::connect(V5, "c"), "v"));
    let now = world.now;
    for seat in &mut world.shards {
        let mut asked = Vec::new();
        seat.shard.take_asked(&mut asked);
        seat.shard.on_authenticated(now, asked[0].token, Ok(()), &mut world.rest);
    }
    world.settle();
    assert_eq!(world.read(one), ["CONNACK 0x00"]);
    assert_eq!(world.read(other), ["CONNACK 0x87"]);
    assert_eq!(world.shards[1].shard.connections(), 0);
}

#[test]
fn an_unproven_user_name_owns_nothing() {
    let mut world = World::default();
    let one = world.open(Connect { username: Some("u"), ..client::persistent("c") });
    world.read(one);
    let other = world.open(Connect { username: Some("v"), ..client::persistent("c") });
    assert_eq!(world.read(other), ["CONNACK 0x00 present"]);
    assert!(world.is_closed(one));
}

#[test]
fn what_may_not_be_received_is_neither_delivered_nor_owed() {
    let mut world = World::default();
    replace(&mut world, "topic write #\ntopic read a/#");
    let here = world.subscriber(client::persistent("here"), "#", 2);
    let away = world.subscriber(client::persistent("away"), "#", 2);
    world.lose(away);
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(publisher, 1, 1, "a/x", "yes");
    world.publish(publisher, 1, 2, "b/x", "no");
    world.publish(publisher, 0, 0, "b/x", "no");
    world.settle();
    assert_eq!(world.read(here), ["a/x=yes q1 #1"]);
    assert_eq!(owed(&world, "away"), 1);
    assert_eq!(world.shard().stats().dropped_not_authorized, 2);
}

#[test]
fn rules_change_at_one_place_in_the_log_for_everybody() {
    let mut world = World::default();
    replace(&mut world, "topic t");
    let subscriber = world.subscriber(client::connect(V5, "s"), "t", 1);
    let publisher = world.open(client::connect(V5, "p"));
    world.publish(publisher, 1, 1, "t", "before");
    world.commit();
    commit_rules(&mut world, "topic write t");
    // It was accepted by the rules that its shard knew, and stands behind those that forbid it.
    world.publish(publisher, 1, 2, "t", "behind");
    world.settle();
    assert_eq!(world.read(subscriber), ["t=before q1 #1"]);
    replace(&mut world, "topic t");
    world.publish(publisher, 1, 3, "t", "again");
    world.settle();
    assert_eq!(world.read(subscriber), ["t=again q1 #2"]);
}

#[test]
fn what_waits_for_a_client_is_judged_when_it_is_sent() {
    for is_persistent in [false, true] {
        let mut world = World::default();
        let connect =
            if is_persistent { client::persistent("s") } else { client::connect(V5, "s") };
        let connect = Connect { receive_maximum: Some(1), ..connect };
        let subscriber = world.subscriber(connect, "#", 1);
        let publisher = world.open(client::connect(V5, "p"));
        for id in 1..=3 {
            world.publish(publisher, 1, id, if id == 2 { "b" } else { "a" }, "x");
        }
        world.settle();
        assert_eq!(world.read(subscriber), ["a=x q1 #1"]);
        replace(&mut world, "topic a");
        world.send(subscriber, &client::puback(1));
        world.settle();
        assert_eq!(world.read(subscriber), ["a=x q1 #2"]);
        assert_eq!(world.shard().stats().dropped_not_authorized, 1);
        let given_up = |(event, _): &(Event, bool)| {
            matches!(event, Event::MessageDropped { reason: DropReason::NotAuthorized, .. })
        };
        assert_eq!(world.events().iter().any(given_up), is_persistent);
        if is_persistent {
            world.wait(PROGRESS_INTERVAL);
            world.settle();
            assert_eq!(owed(&world, "s"), 1, "only what is under way");
        }
    }
}

#[test]
fn what_a_resumed_session_is_owed_is_judged_too_and_what_is_sent_again() {
    for qos in [1, 2] {
        let mut world = World::default();
        let first = world.subscriber(client::persistent("s"), "#", 2);
        let publisher = world.open(client::connect(V5, "p"));
        world.publish(publisher, qos, 1, "secret", "sent");
        world.settle();
        assert_eq!(world.read(first).len(), 1);
        world.lose(first);
        world.publish(publisher, qos, 2, "secret", "queued");
        world.publish(publisher, qos, 3, "open", "queued");
        world.settle();
        replace(&mut world, "topic open");
        let again = world.open(client::persistent("s"));
        let received = world.read(again);
        assert!(received.iter().all(|line| !line.contains("secret")), "{received:?}");
        assert!(received.iter().any(|line| line.contains("open=queued")), "{received:?}");
        assert_eq!(world.shard().stats().dropped_not_authorized, 2);
    }
}

#[test]
fn retained_messages_are_judged() {
    let mut world = World::default();
    let publisher = world.open(client::connect(V5, "p"));
    for (id, topic) in [(1, "a"), (2, "b")] {
        let publish = client::publish(1, id, topic, "kept");
        let publish = ledgermq_core::packet::Publish { retain: true, ..publish };
        world.send(publisher, &ledgermq_core::packet::Packet::Publish(publish));
    }
    world.settle();
    replace(&mut world, "topic read a\ntopic read c");
    let subscriber = world.open(client::persistent("s"));
    world.read(subscriber);
    world.send(subscriber, &client::subscribe(1, "#", 1));
    world.send(subscriber, &client::subscribe(2, "b", 1));
    world.settle();
    assert_eq!(world.read(subscriber), ["SUBACK 2 [87]", "SUBACK 1 [01]", "a=kept q1 #1 retain"]);
    assert_eq!(owed(&world, "s"), 1);
}

#[test]
fn a_will_is_judged_when_it_is_published() {
    let will = Will {
        topic: "w",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 60,
        message_expiry_interval: None,
        forwarded: ledgermq_core::packet::ForwardedProperties::default(),
    };
    for is_closed_first in [false, true] {
        let mut world = World::default();
        let mortal = world.open(Connect { will: Some(will.clone()), ..client::persistent("c") });
        world.read(mortal);
        if is_closed_first {
            world.lose(mortal);
            world.settle();
            assert_eq!(world.rest.views.pending_wills(), 1);
        }
        replace(&mut world, "topic read #");
        if !is_closed_first {
            world.lose(mortal);
            world.settle();
        }
        assert_eq!(world.rest.views.pending_wills(), 0, "closed first: {is_closed_first}");
        assert_eq!(world.rest.views.counters().wills_forbidden, 1);
    }
}

/// `[MQTT311-3.3.5-2]`
#[test]
fn a_refused_publish_of_any_version_goes_nowhere() {
    let mut world = World::default();
    replace(&mut world, "topic read #");
    let subscriber = world.subscriber(client::connect(V5, "s"), "#", 2);
    for (version, answer) in [(V3, "PUBACK 1"), (V5, "PUBACK 1 0x87")] {
        let publisher = world.open(client::connect(version, "p"));
        world.read(publisher);
        world.publish(publisher, 0, 0, "t", "x");
        world.publish(publisher, 1, 1, "t", "x");
        world.settle();
        assert_eq!(world.read(publisher), [answer]);
        assert!(!world.is_closed(publisher));
    }
    assert_eq!(world.read(subscriber), [""; 0]);
    assert_eq!(world.shard().stats().refused(Request::Publish, Refusal::NotAuthorized), 4);
}
