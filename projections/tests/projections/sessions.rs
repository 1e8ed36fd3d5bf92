//! Sessions: life, presence, subscriptions.

use crate::support::{World, check, trim};

#[test]
fn a_session_without_an_interval_ends_with_its_connection() {
    check("open c", "c 1:0 online");
    check("open c\n close c", "");
}

/// `[MQTT-3.1.2-23]` `[MQTT-4.1.0-2]`
#[test]
fn a_persistent_session_waits_for_its_client_until_its_interval_passes() {
    let mut world = check("open c expiry=100\n time 10\n close c", "c 1:0 offline until 110");
    assert_eq!(world.due(109), "");
    assert_eq!(world.due(110), "expired c");
    assert_eq!(world.table(), "");
    assert!(world.notices().ends_with("ended c 1:0 Success"));
}

#[test]
fn the_interval_of_the_disconnect_counts() {
    check("open c expiry=100\n close c expiry=5", "c 1:0 offline until 5");
    check("open c expiry=100\n close c expiry=0", "");
    check("open c expiry=never\n close c", "c 1:0 offline");
}

#[test]
fn a_session_is_resumed_with_all_that_it_holds() {
    let mut world = check(
        "open c expiry=100
         sub c a qos=2
         pub c x 1 qos=2 id=7
         pub p a 1 qos=2
         start c 1=4:0
         pub p a 2 qos=1
         progress c 4:0 1=4:0
         close c
         open c expiry=50",
        "c 9:0 online, a qos 2, inbound [7], upto 4:0, 1=4:0, owed 4:0/2 6:0/1 (4 bytes)",
    );
    let ready = "ready c 9:0 present=true subs=1 inbound=1 outstanding=1 upto=4:0 owed=2";
    assert!(world.notices().ends_with(ready));
}

/// `[MQTT-3.1.2-4]` `[MQTT-3.1.4-4]` `[MQTT-3.2.2-2]` `[MQTT311-3.1.2-6]` `[MQTT311-3.1.4-3]`
/// `[MQTT311-3.2.2-1]`
#[test]
fn clean_start_leaves_nothing_of_the_old_session() {
    let mut world = check(
        "open c expiry=100
         sub c a qos=1
         pub p a 1 qos=1
         close c
         open c expiry=100 clean",
        "c 5:0 online",
    );
    let ready = "ready c 5:0 present=false subs=0 inbound=0 outstanding=0 upto=0:0 owed=0";
    assert!(world.notices().ends_with(ready));
    assert_eq!(world.views.persistent_subscriptions(), 0);
}

#[test]
fn an_expired_session_is_not_resumed_even_before_its_expiry_is_logged() {
    check(
        "open c expiry=10\n sub c a qos=1\n close c\n time 10\n open c expiry=10",
        "c 4:0 online",
    );
    check(
        "open c expiry=10\n sub c a qos=1\n close c\n time 9\n open c expiry=10",
        "c 4:0 online, a qos 1",
    );
}

#[test]
fn a_connected_session_without_an_interval_is_not_resumed_by_a_takeover() {
    let mut world = check("open c\n sub c a qos=1\n open c", "c 3:0 online");
    let expected = "
        ready c 1:0 present=false subs=0 inbound=0 outstanding=0 upto=0:0 owed=0
        retained 1:0 at 2:0
        ended c 1:0 SessionTakenOver
        ready c 3:0 present=false subs=0 inbound=0 outstanding=0 upto=0:0 owed=0";
    assert_eq!(world.notices(), trim(expected));
}

#[test]
fn a_session_resumed_without_an_interval_is_owed_what_comes_until_it_ends() {
    let mut world = check(
        "open c expiry=10\n sub c a qos=1\n pub p a 1 qos=1\n open c\n pub p a 2 qos=1",
        "c 4:0 online, a qos 1, owed 3:0/1 5:0/1 (4 bytes)",
    );
    world.fold("close c\n pub p a 3 qos=1");
    assert!(world.views.session("c").is_none());
    // Its interval is 0: there is nothing to resume when it is taken over.
    check("open c expiry=10\n sub c a qos=1\n open c\n open c", "c 4:0 online");
}

#[test]
fn two_openings_of_a_client_in_one_batch_leave_the_second() {
    let mut world = check("open c expiry=9; open c expiry=9", "c 1:1 online");
    let expected = "
        ready c 1:0 present=false subs=0 inbound=0 outstanding=0 upto=0:0 owed=0
        ended c 1:0 SessionTakenOver
        ready c 1:1 present=true subs=0 inbound=0 outstanding=0 upto=0:0 owed=0";
    assert_eq!(world.notices(), trim(expected));
}

#[test]
fn what_comes_behind_the_end_of_a_session_changes_nothing() {
    check("open c\n close c; sub c a qos=1; progress c 1:0; close c", "");
}

#[test]
fn a_restart_of_a_node_closes_what_its_predecessor_left_open() {
    let world = check(
        "open a expiry=10
         open b
         open c expiry=10 node=2
         open d expiry=10
         close d
         time 5
         node 1 2",
        "a 1:0 offline until 15
         c 3:0 online
         d 4:0 offline until 10",
    );
    assert_eq!(world.views.sessions().present().online(), 1);
    assert_eq!(world.views.sessions().present().online_at(2), 1);
    assert_eq!(world.views.node_start(1), Some(2));
}

#[test]
fn the_start_of_a_node_leaves_its_own_sessions_alone() {
    check("open a\n node 1 1", "a 1:0 online");
}

#[test]
fn of_a_lost_node_every_session_closes_as_if_its_connection_had_broken() {
    let mut world = World::default();
    world.fold(
        "open a expiry=10 node=2 will=w delay=4
         open b node=2 will=v
         open c expiry=10
         open d expiry=10 node=2
         sub d $share/g/t qos=1
         open e expiry=10
         sub e $share/g/t qos=1
         open f expiry=10 node=2
         close f
         time 5
         lost 2 1
         pub - t 1 qos=1",
    );
    let expected = "
        a 1:0 offline until 15
        c 3:0 online
        d 4:0 offline until 15, $share/g/t qos 1
        e 6:0 online, $share/g/t qos 1
        f 8:0 offline until 10";
    assert_eq!(world.table().trim(), trim(expected));
    assert_eq!(world.views.sessions().present().online_at(2), 0);
    assert_eq!(world.views.sessions().present().online(), 2);
    assert!(world.notices().contains("shared 6:0"), "whoever is left gets it");
    assert_eq!(world.views.counters().sessions_lost, 3);
    assert_eq!(world.due(5), "will v of 2:0");
    assert_eq!(world.due(8), "");
    assert_eq!(world.due(9), "will w of 1:0 delayed");
    assert_eq!(world.due(9), "", "each fires once");
    // Whoever is told twice closes nothing twice.
    world.fold("lost 2 1");
    assert_eq!(world.due(9), "");
    assert_eq!(world.views.counters().sessions_lost, 3);
}

#[test]
fn the_loss_of_an_earlier_start_of_a_node_leaves_what_a_later_one_holds() {
    let mut world = check("open a node=2 will=w\n lost 2 0", "a 1:0 online");
    assert_eq!(world.due(1_000), "");
    check("open a node=2\n lost 1 1", "a 1:0 online");
}

/// `[MQTT-3.8.4-3]`
#[test]
fn a_subscription_is_replaced_by_its_like_and_gone_when_given_up() {
    check("open c\n sub c b qos=1\n sub c a\n sub c b qos=2", "c 1:0 online, a qos 0, b qos 2");
    check("open c\n sub c b qos=1\n unsub c b\n unsub c x", "c 1:0 online");
}

#[test]
fn released_identifiers_are_free() {
    check(
        "open c expiry=9
         pub c a 1 qos=2 id=9; pub c a 2 qos=2 id=4
         pub c a 1 qos=2 id=5
         release c 9 5",
        "c 1:0 online, inbound [4]",
    );
}

#[test]
fn counters_say_what_happened() {
    let world: World = check(
        "open c expiry=10 will=w
         pub c a 123 qos=1
         pub c a 1 qos=2 id=1; pub c r x retain
         close c will
         open c expiry=10
         close c
         pub - w x cause=1:0",
        "c 5:0 offline until 10, inbound [1]
         r = x",
    );
    let counters = world.views.counters();
    assert_eq!(counters.messages, [2, 1, 1]);
    assert_eq!(counters.message_bytes, 4 + 2 + 2 + 2);
    assert_eq!((counters.retained, counters.wills), (1, 1));
    assert_eq!((counters.sessions_opened, counters.sessions_resumed), (2, 1));
    assert_eq!((counters.sessions_closed, counters.sessions_lost), (1, 1));
}

/// `[MQTT-4.1.0-1]` `[MQTT311-4.1.0-1]` `[MQTT311-4.1.0-2]`
#[test]
fn a_session_lasts_as_long_as_its_connection_whatever_its_interval() {
    for opened in ["open c", "open c expiry=5"] {
        let mut world = World::default();
        world.fold(&format!("{opened}\n sub c a qos=1\n pub c x 1 qos=2 id=7\n time 100"));
        assert_eq!(world.due(1_000), "");
        let session = world.views.session("c").expect("its connection is open");
        assert!(session.presence().is_online());
        assert!(world.table().contains("online, a qos 1"), "{}", world.table());
    }
}
