//! A shard that cannot go on where it was: behind a gap, and as another incarnation of the node.

use ledgermq_core::event::{Event, MessagePublished, SessionOpened, Subscription};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;

use super::client::{self, V3, V5};
use super::world::World;

const OTHER: ProducerId = ProducerId { node: 2, start: 1, local: 0 };

fn publish_elsewhere(world: &mut World, payload: &[u8]) {
    publish_elsewhere_to(world, "t", false, payload);
}

fn publish_elsewhere_to(world: &mut World, topic: &str, retain: bool, payload: &[u8]) {
    let message = MessagePublished {
        qos: QoS::AtLeastOnce,
        retain,
        packet_id: None,
        topic,
        message_expiry_interval: None,
        properties: &[],
        payload,
    };
    world.commit_from(OTHER, |events| _ = events.publish(None, None, &message));
}

#[test]
fn behind_a_gap_every_connection_has_ended_and_the_log_goes_on() {
    let mut world = World::default();
    let newer = world.subscriber(client::persistent("newer"), "t", 1);
    let older = world.subscriber(client::connect(V3, "older"), "t", 1);
    // One is opened in the gap, one behind it; nobody knows.
    let skipped = world.begin(0, client::persistent("skipped"));
    world.commit();
    publish_elsewhere(&mut world, b"skipped");
    let staged = world.begin(0, client::persistent("staged"));
    let silent = world.accept(0);
    world.skip();
    world.settle();
    assert_eq!(world.received(newer), ["DISCONNECT 0x89"]);
    assert_eq!(world.received(older), [""; 0]);
    for peer in [newer, older, skipped, staged, silent] {
        assert!(world.is_closed(peer));
    }
    assert_eq!(world.shard().connections(), 0);
    // Sessions whose epoch it knew are closed, the others by the next start of the node.
    let is_online = |world: &World, client: &str| {
        world.rest.views.session(client).expect("it outlives it").presence().is_online()
    };
    assert!(!is_online(&world, "newer"));
    assert!(is_online(&world, "skipped") && is_online(&world, "staged"));
    publish_elsewhere(&mut world, b"owed");
    world.renew(2);
    world.settle();
    assert!(!is_online(&world, "skipped") && !is_online(&world, "staged"));
    // What was owed meanwhile is not lost, and it takes part again.
    let again = world.open(client::persistent("newer"));
    let received = world.read(again);
    assert_eq!(received.len(), 3, "{received:?}");
    assert!(received[0].starts_with("CONNACK 0x00"));
    let other = world.subscriber(client::connect(V5, "other"), "t", 0);
    publish_elsewhere(&mut world, b"now");
    world.settle();
    assert_eq!(world.received(other), ["t=now"]);
}

/// A session is opened on another node, which subscribes to `filter`.
fn open_elsewhere(world: &mut World, client: &str, filter: &str) {
    let id = ClientId::from(client);
    let epoch = Offset::new(world.last_index() + 1, 0);
    world.commit_from(OTHER, |events| {
        let opened = SessionOpened {
            client: client.into(),
            username: None,
            is_proven: false,
            node: OTHER.node,
            protocol: V5,
            clean_start: false,
            session_expiry_interval: 1_000,
            keep_alive: 0,
            peer: String::new(),
            will: None,
        };
        events.push(None, None, &Event::SessionOpened(Box::new(opened)));
    });
    world.commit_from(OTHER, |events| {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        let filter = TopicFilter::new(filter).expect("a filter");
        let subscriptions = vec![Subscription { filter, options, identifier: None }];
        events.push(Some((&id, epoch)), None, &Event::Subscribed { subscriptions });
    });
}

/// The views come by a snapshot, and nothing is in the log of what they are made of.
#[test]
fn behind_a_snapshot_new_connections_find_what_was_skipped() {
    let mut world = World::default();
    let local = world.subscriber(client::persistent("c"), "t", 1);
    let transient = world.subscriber(client::connect(V5, "transient"), "gone", 1);
    publish_elsewhere(&mut world, b"one");
    open_elsewhere(&mut world, "far", "far/#");
    open_elsewhere(&mut world, "moving", "m");
    publish_elsewhere_to(&mut world, "r", true, b"kept");
    publish_elsewhere_to(&mut world, "m", false, b"two");
    while world.fold() {}
    world.rest.notices.clear();
    let last = world.last_index();
    world.purge(last + 1);
    world.skip();
    world.renew(2);
    world.settle();
    assert!(world.is_closed(local) && world.is_closed(transient));
    assert_eq!(world.shard().connections(), 0);

    // What they are owed, wherever it was owed.
    let again = world.open(client::persistent("c"));
    assert_eq!(world.read(again).last().unwrap(), "t=one q1 #1");
    let moved = world.open(client::persistent("moving"));
    let received = world.read(moved);
    assert!(received[0].starts_with("CONNACK 0x00"), "{received:?}");
    assert_eq!(received.last().unwrap(), "m=two q1 #1");
    // What is retained, and who subscribes.
    let reader = world.subscriber(client::connect(V5, "reader"), "other", 1);
    world.send(reader, &client::subscribe(2, "r", 1));
    world.settle();
    assert_eq!(world.read(reader), ["SUBACK 2 [01]", "r=kept q1 #1 retain"]);
    for (number, (topic, answer)) in
        [("far/x", "PUBACK 1"), ("gone", "PUBACK 2 0x10"), ("other", "PUBACK 3")].iter().enumerate()
    {
        let id = u16::try_from(number + 1).unwrap();
        world.publish(reader, 1, id, topic, "m");
        world.settle();
        assert_eq!(world.read(reader)[0], *answer, "{topic}");
    }
    // And what comes from now on.
    publish_elsewhere(&mut world, b"three");
    publish_elsewhere_to(&mut world, "m", false, b"four");
    world.settle();
    assert_eq!(world.read(again), ["t=three q1 #2"]);
    assert_eq!(world.read(moved), ["m=four q1 #2"]);
}

#[test]
fn what_an_earlier_incarnation_had_under_way_is_nobodys() {
    let mut world = World::default();
    let peer = world.subscriber(client::persistent("c"), "t", 1);
    let publisher = world.open(client::connect(V5, "p"));
    world.read(publisher);
    // One message is in the log and not read, one is not handed over.
    world.publish(publisher, 1, 1, "t", "committed");
    world.commit();
    world.publish(publisher, 1, 2, "t", "staged");
    let opening = world.begin(0, client::persistent("d"));
    world.renew(2);
    assert!(world.shard().stage().is_empty());
    world.settle();
    assert_eq!(world.received(publisher), ["DISCONNECT 0x89"], "neither is acknowledged");
    for peer in [peer, publisher, opening] {
        assert!(world.is_closed(peer));
    }
    assert!(world.rest.views.session("d").is_none());
    assert!(!world.rest.views.session("c").expect("it waits").presence().is_online());
    let opens =
        |(event, is_void): &(Event, bool)| matches!(event, Event::SessionOpened(_)) && !is_void;
    assert_eq!(world.events().iter().filter(|event| opens(event)).count(), 2);
    let again = world.open(client::persistent("c"));
    assert_eq!(world.read(again).last().unwrap(), "t=committed q1 #1");
    world.publish(again, 1, 7, "x", "new");
    world.settle();
    assert_eq!(world.received(again), ["PUBACK 7 0x10"]);
}

#[test]
fn clients_of_a_node_that_is_cut_off_are_sent_away() {
    let mut world = World::default();
    let newer = world.open(client::connect(V5, "newer"));
    let older = world.open(client::connect(V3, "older"));
    world.read(newer);
    world.read(older);
    let now = world.now;
    world.shard().end_cut_off(now);
    assert_eq!(world.read(newer), ["DISCONNECT 0x89"]);
    assert_eq!(world.read(older), [""; 0]);
    assert!(world.is_closed(newer) && world.is_closed(older));
}

#[test]
fn a_connect_that_is_under_way_when_the_node_is_cut_off_is_answered() {
    for version in [V5, V3] {
        let mut world = World::default();
        let peer = world.begin(0, client::connect(version, "c"));
        let now = world.now;
        world.shard().end_cut_off(now);
        // Server unavailable: 0x88, and code 3 of 3.1.1.
        assert_eq!(world.read(peer), ["CONNACK 0x88"]);
        assert!(world.is_closed(peer));
        // What comes of its session after all is closed again.
        world.settle();
        assert!(world.rest.views.session("c").is_none_or(|it| !it.presence().is_online()));
    }
}
