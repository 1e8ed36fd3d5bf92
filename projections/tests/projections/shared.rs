//! Groups of Shared Subscriptions: who gets what.

mod model;

use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::topic::TopicFilter;
use ledgermq_projections::views::Limits;
use ledgermq_projections::views::shared::SHARED_WINDOW;

use crate::support::{EPOCH, World, trim};

use model::given;

fn group() -> TopicFilter {
    TopicFilter::new("$share/g/x").expect("a filter")
}

/// Folds `lines` and compares the notices of deliveries and of sessions with `expected`.
#[track_caller]
fn check(lines: &str, expected: &str) -> World {
    let mut world = World::default();
    world.fold(lines);
    let notices = world.notices();
    let told = notices.lines().filter(|line| {
        line.starts_with("shared ") || (line.starts_with("ready ") && line.contains("present=true"))
    });
    let told: Vec<&str> = told.collect();
    assert_eq!(told.join("\n"), trim(expected));
    world
}

#[test]
fn members_are_served_in_turn() {
    check(
        "open a; open b
         sub a $share/g/x qos=1 id=7
         sub b $share/g/x qos=2 rap
         pub - x 1 qos=2 retain
         pub - x 2 qos=1
         pub - x 3
         pub - x 4 qos=1; pub - x 5 qos=2",
        "shared 1:0 by 4 4:0.g0/1#7
         shared 1:1 by 5 5:0.g0/1
         shared 1:0 by 6 6:0.g0/0#7
         shared 1:0 by 7 7:1.g0/1#7
         shared 1:1 by 7 7:0.g0/1",
    );
}

#[test]
fn what_a_lost_member_did_not_answer_goes_to_another() {
    check(
        "open a; open b expiry=100
         sub a $share/g/x qos=1; sub b $share/g/x qos=1
         pub - x 1 qos=1; pub - x 2 qos=1; pub - x 3 qos=1
         settle b 3:1.g0
         close a",
        "shared 1:0 by 3 3:0.g0/1 3:2.g0/1
         shared 1:1 by 3 3:1.g0/1
         shared 1:1 by 5 3:0.g0/1 3:2.g0/1",
    );
}

#[test]
fn a_group_keeps_its_place_while_all_are_away() {
    let world = check(
        "open a expiry=100
         sub a $share/g/x qos=1
         pub - x 1 qos=1
         close a expiry=100
         pub - x 2 qos=1
         pub - x 3
         open a expiry=100",
        "shared 1:0 by 3 3:0.g0/1
         ready a 7:0 present=true subs=1 inbound=0 outstanding=0 upto=0:0 owed=0
         shared 7:0 by 7 3:0.g0/1 5:0.g0/1",
    );
    assert_eq!(world.views.counters().shared_unheard, 1, "nobody was there for QoS 0");
}

#[test]
fn qos_2_that_was_begun_is_sent_again_to_its_session_only() {
    let world = check(
        "open a expiry=100; open b
         sub a $share/g/x qos=2; sub b $share/g/x qos=2
         pub - x 1 qos=2; pub - x 2 qos=2; pub - x 3 qos=2
         start a 5=3:0.g0
         close a expiry=100
         open a expiry=100
         receive a 5",
        "shared 1:0 by 3 3:0.g0/2 3:2.g0/2
         shared 1:1 by 3 3:1.g0/2
         shared 1:1 by 5 3:2.g0/2
         ready a 6:0 present=true subs=1 inbound=0 outstanding=1 upto=0:0 owed=0 3:0.g0/2",
    );
    assert_eq!(world.views.shared_owed(&group()), Some((2, 0)));
}

#[test]
fn qos_2_that_was_begun_ends_with_its_session() {
    let world = check(
        "open a; open b
         sub a $share/g/x qos=2; sub b $share/g/x qos=2
         pub - x 1 qos=2
         start a 5=3:0.g0
         close a",
        "shared 1:0 by 3 3:0.g0/2",
    );
    assert_eq!(world.views.shared_owed(&group()), Some((0, 0)));
    assert_eq!(world.views.counters().shared_lost, 1);
}

#[test]
fn a_member_that_answers_nothing_holds_a_window() {
    let mut world = World::default();
    world.fold("open a; open b; sub a $share/g/x qos=1; sub b $share/g/x qos=1");
    for _ in 0..2 * SHARED_WINDOW + 5 {
        world.fold("pub - x m qos=1");
    }
    assert_eq!(world.views.shared_owed(&group()), Some((2 * SHARED_WINDOW + 5, 5)));
    world.notices.clear();
    world.fold("settle b 3:0.g0");
    let next = 2 + 2 * SHARED_WINDOW;
    assert_eq!(given(&mut world), format!("1:1 {next}:0.g0/1\n"));
}

#[test]
fn the_oldest_of_what_waits_goes_when_too_much_does() {
    let limits = Limits { queued_messages: 2, ..Limits::default() };
    let mut world = World::new(limits);
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=1
         pub - x 1 qos=1
         close a expiry=100
         pub - x 2 qos=1; pub - x 3 qos=1; pub - x 4 qos=1",
    );
    assert_eq!(world.due(1), "dropped $share/g/x 4:0 QueueFull");
    assert_eq!(world.due(2), "");
    world.notices.clear();
    world.fold("open a expiry=100");
    assert_eq!(given(&mut world), "6:0 4:1.g0/1 4:2.g0/1\n");
    assert_eq!(world.views.counters().dropped[0], 2);
}

#[test]
fn what_comes_back_while_a_drop_is_on_its_way_counts_for_the_limit() {
    let limits = Limits { queued_messages: 2, ..Limits::default() };
    let mut world = World::new(limits);
    // Who unsubscribed holds five; who stays is away.
    world.fold(
        "open a; open b expiry=100
         sub a $share/g/x qos=1
         pub - x 1 qos=1; pub - x 2 qos=1; pub - x 3 qos=1; pub - x 4 qos=1; pub - x 5 qos=1
         sub b $share/g/x qos=1; close b expiry=100; unsub a $share/g/x
         pub - x 6 qos=1; pub - x 7 qos=1; pub - x 8 qos=1",
    );
    let mut due = Vec::new();
    world.views.due(Timestamp::from_secs(EPOCH), 9, &mut due);
    world.fold("close a");
    assert_eq!(world.views.shared_owed(&group()), Some((8, 8)));
    let mut batch = world.history.builder();
    due.iter().for_each(|due| due.write(&mut batch));
    world.commit(&mut batch);
    assert_eq!(world.views.shared_owed(&group()), Some((2, 2)), "no more than the limit demands");
    assert_eq!(world.due(1), "", "and no less");
}

#[test]
fn a_group_ends_with_its_last_member_and_a_new_one_has_another_number() {
    check(
        "open a; sub a $share/g/x qos=1
         pub - x 1 qos=1
         unsub a $share/g/x
         pub - x 2 qos=1
         sub a $share/g/x qos=1
         settle a 2:0.g0
         pub - x 3 qos=1",
        "shared 1:0 by 2 2:0.g0/1
         shared 1:0 by 7 7:0.g1/1",
    );
}

#[test]
fn what_groups_owe_is_kept_before_a_purge() {
    let mut world = World::default();
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=1
         pub - x 1 qos=1
         close a expiry=100
         pub - x 2 qos=1",
    );
    let owed: Vec<Offset> = world.views.owed_between(0, 3).into_iter().collect();
    assert_eq!(owed, [Offset::new(2, 0)]);
}

#[test]
fn what_waits_in_a_group_that_nobody_serves_goes_when_it_has_expired() {
    let mut world = World::default();
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=1
         close a expiry=100
         pub - x 1 qos=1 expiry=9
         pub - x 2 qos=1
         pub - x 3 qos=1 expiry=5; pub - x 4 qos=1 expiry=60",
    );
    assert_eq!(world.due(4), "");
    assert_eq!(world.due(5), "dropped $share/g/x 5:0 Expired");
    assert_eq!(world.views.shared_owed(&group()), Some((3, 3)), "the older ones have not expired");
    assert_eq!(world.due(8), "");
    assert_eq!(world.due(9), "dropped $share/g/x 3:0 Expired");
    assert_eq!(world.views.counters().dropped[1], 2);
    world.notices.clear();
    world.fold("open a expiry=100");
    assert_eq!(given(&mut world), "8:0 4:0.g0/1 5:1.g0/1\n");
}

#[test]
fn the_time_of_the_batch_says_what_of_a_group_has_expired() {
    let mut world = World::default();
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=1
         close a expiry=100
         pub - x 1 qos=1 expiry=5; pub - x 2 qos=1 expiry=6; pub - x 3 qos=1 expiry=5
         time 4
         sdrop $share/g/x 3:2 expired",
    );
    assert_eq!(world.views.shared_owed(&group()), Some((3, 3)));
    world.fold("time 5\n sdrop $share/g/x 3:1 expired");
    assert_eq!(world.views.shared_owed(&group()), Some((2, 2)), "the last is behind `upto`");
    world.fold("time 6\n sdrop $share/g/x 3:2 expired");
    assert_eq!(world.views.shared_owed(&group()), Some((0, 0)));
}

#[test]
fn what_a_member_holds_is_not_given_up_before_it_comes_back() {
    let mut world = World::default();
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=2
         pub - x 1 qos=1 expiry=5; pub - x 2 qos=2 expiry=5
         start a 7=2:1.g0",
    );
    assert_eq!(world.due(20), "");
    assert_eq!(world.views.next_due(), Some(Timestamp::from_secs(EPOCH + 21)), "looked at again");
    world.fold("close a expiry=100");
    assert_eq!(world.due(21), "dropped $share/g/x 2:0 Expired");
    assert_eq!(world.views.shared_owed(&group()), Some((1, 0)), "bound to its session");
    assert_eq!(world.due(22), "");
}

#[test]
fn a_group_that_owes_nothing_waits_for_no_time() {
    let mut world = World::default();
    world.fold(
        "open a expiry=100; sub a $share/g/x qos=1
         pub - x 1 qos=1 expiry=5
         pub - x 2 expiry=3
         settle a 2:0.g0",
    );
    let _ = world.due(5);
    assert_eq!(world.views.next_due(), None);
    world.fold("pub - x 1 qos=1 expiry=5");
    assert!(world.views.next_due().is_some());
    world.fold("unsub a $share/g/x");
    assert_eq!(world.views.next_due(), None, "the group is over");
}
