//! Access rules: what the fold owes, publishes and gives to groups by them.

use crate::support::{World, owed, trim};

fn folded(given: &str) -> World {
    let mut world = World::default();
    world.fold(given);
    world
}

fn owed_messages(world: &World, client: &str) -> usize {
    owed(&world.views, client, Default::default()).len()
}

#[test]
fn nothing_is_owed_that_may_not_be_received_from_the_change_on() {
    let world = folded(
        "open c expiry=100
         sub c # qos=1
         pub - a 1 qos=1
         pub - b 1 qos=1
         rules read:a
         pub - a 2 qos=1
         pub - b 2 qos=1
         rules read:b
         pub - a 3 qos=1
         pub - b 3 qos=1
         rules open
         pub - a 4 qos=1",
    );
    // Both before any rules, one under each, and one after.
    assert_eq!(owed_messages(&world, "c"), 5);
    assert_eq!(world.views.access().since().map(|at| at.index), Some(11));
    assert!(world.views.access().rules().is_open());
}

#[test]
fn a_pattern_is_filled_with_the_names_of_each_session() {
    let world = folded(
        "rules read:for/%c
         open a expiry=100; open b expiry=100
         sub a for/# qos=1; sub b for/# qos=1
         pub - for/a 1 qos=1
         pub - for/b 1 qos=1
         pub - for/a 2 qos=1",
    );
    assert_eq!((owed_messages(&world, "a"), owed_messages(&world, "b")), (2, 1));
}

#[test]
fn retained_messages_that_may_not_be_received_answer_no_subscription() {
    let world = folded(
        "pub - a 1 qos=1 retain
         pub - b 1 qos=1 retain
         rules read:a,read:c
         open c expiry=100
         sub c # qos=1",
    );
    assert_eq!(owed_messages(&world, "c"), 1);
}

#[test]
fn a_will_that_may_not_be_published_is_called_off() {
    // When the rules change while it waits, and when it is armed.
    for given in [
        "open c expiry=100 will=w delay=30\n close c will\n rules write:x",
        "open c expiry=100 will=w delay=30\n rules write:x\n close c will",
        "open c will=w\n rules write:x\n open c will=w\n close c",
    ] {
        let mut world = folded(given);
        assert_eq!(world.views.pending_wills(), 0, "{given}");
        assert_eq!(world.views.counters().wills_forbidden, 1, "{given}");
        world.fold("rules open");
        assert!(!world.due(30).contains("will"), "it does not come back");
    }
    let mut world = folded("open c expiry=100 will=w delay=30\n close c will\n rules write:w");
    assert_eq!(world.due(30), "will w of 1:0 delayed");
}

#[test]
fn messages_given_up_for_want_of_rights_are_counted() {
    let world = folded(
        "open c expiry=100
         sub c # qos=1
         pub - a 1 qos=1
         drop c 3:0 3:0 rights",
    );
    assert_eq!(owed_messages(&world, "c"), 0);
    assert_eq!(world.views.counters().dropped, [0, 0, 0, 0, 1]);
}

/// Folds `lines`; the deliveries of groups must be those that are `expected`.
#[track_caller]
fn check_groups(lines: &str, expected: &str) {
    let mut world = folded(lines);
    let notices = world.notices();
    let told: Vec<_> = notices.lines().filter(|line| line.starts_with("shared ")).collect();
    assert_eq!(told.join("\n"), trim(expected));
}

#[test]
fn a_member_that_may_not_receive_all_of_its_group_is_passed_over() {
    check_groups(
        "rules read:x,deny:x/b,read:%c
         open x; open b
         sub x $share/g/x qos=1
         rules read:x
         sub b $share/g/x qos=1
         rules read:%c
         pub - x 1 qos=1
         pub - x 2 qos=1",
        "shared 2:0 by 7 7:0.g0/1
         shared 2:0 by 8 8:0.g0/1",
    );
}

#[test]
fn what_a_member_may_no_longer_receive_it_gives_back_for_others() {
    check_groups(
        "open x; open b
         sub x $share/g/x qos=1; sub b $share/g/x qos=1
         pub - x 1 qos=1; pub - x 2 qos=1
         rules read:%c
         drop b 3:1.g0 3:1.g0 rights
         pub - x 3 qos=1; pub - x 4 qos=1
         rules open
         pub - x 5 qos=1; pub - x 6 qos=1",
        "shared 1:0 by 3 3:0.g0/1
         shared 1:1 by 3 3:1.g0/1
         shared 1:0 by 5 3:1.g0/1
         shared 1:0 by 6 6:0.g0/1 6:1.g0/1
         shared 1:0 by 8 8:1.g0/1
         shared 1:1 by 8 8:0.g0/1",
    );
}

#[test]
fn what_is_bound_is_given_up_by_who_may_no_longer_receive_it() {
    let mut world = folded(
        "open x; open b
         sub x $share/g/x qos=2; sub b $share/g/x qos=2
         pub - x 1 qos=2; pub - x 2 qos=2
         start b 1=3:1.g0
         rules read:%c
         drop b 3:1.g0 3:1.g0 rights",
    );
    let notices = world.notices();
    let told: Vec<_> = notices.lines().filter(|line| line.starts_with("shared ")).collect();
    assert_eq!(told.join("\n"), "shared 1:0 by 3 3:0.g0/2\nshared 1:1 by 3 3:1.g0/2");
    assert_eq!(world.views.counters().dropped, [0, 0, 0, 0, 1]);
}

#[test]
fn a_group_waits_while_none_of_its_members_may_receive() {
    check_groups(
        "open a
         sub a $share/g/x qos=1
         rules read:y
         pub - x 1 qos=1
         rules read:x",
        "shared 1:0 by 5 4:0.g0/1",
    );
}
