//! What persistent sessions are owed.

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_projections::views::Limits;

use crate::support::{EPOCH, World, check, owed};

/// `[MQTT-4.5.0-1]` `[MQTT311-4.5.0-1]`
#[test]
fn messages_above_qos_0_are_owed_online_or_not_with_the_lower_qos() {
    check(
        "open c expiry=9
         sub c a/+ qos=1
         sub c b qos=0
         pub p a/x 1 qos=2; pub p a/x 0 qos=0; pub p b 1 qos=2
         close c
         pub p a/y 2 qos=1; pub p z 2 qos=1",
        "c 1:0 offline until 9, a/+ qos 1, b qos 0, owed 4:0/1 6:0/1 (8 bytes)",
    );
}

#[test]
fn an_identifier_given_out_again_is_held_by_the_new_delivery_alone() {
    check(
        "open c expiry=9
         sub c a qos=2
         pub p a 1 qos=2; pub p a 2 qos=2
         start c 7=3:0
         receive c 7
         start c 7=3:1",
        "c 1:0 online, a qos 2, 7=3:1, owed 3:1/2 (2 bytes)",
    );
}

/// `[MQTT-3.3.4-2]` `[MQTT311-3.3.5-1]`
#[test]
fn overlapping_subscriptions_owe_once_with_the_highest_qos() {
    check(
        "open c expiry=9\n sub c # qos=1\n sub c a qos=2 rap\n pub p a 1 qos=2 retain",
        "c 1:0 online, # qos 1, a qos 2, owed 4:0/2r (2 bytes)
         a = 1",
    );
}

#[test]
fn retain_is_sent_only_as_published_to_those_who_want_it() {
    check(
        "open c expiry=9\n sub c a qos=1\n pub p a 1 qos=1 retain",
        "c 1:0 online, a qos 1, owed 3:0/1 (2 bytes)
         a = 1",
    );
}

/// `[MQTT-3.8.3-3]`
#[test]
fn no_local_concerns_only_its_own_subscription() {
    check(
        "open c expiry=9\n sub c a qos=2 nl\n pub c a 1 qos=2\n pub p a 2 qos=2",
        "c 1:0 online, a qos 2, owed 4:0/2 (2 bytes)",
    );
    check(
        "open c expiry=9\n sub c a qos=2 nl\n sub c # qos=1\n pub c a 1 qos=2",
        "c 1:0 online, # qos 1, a qos 2, owed 4:0/1 (2 bytes)",
    );
}

#[test]
fn wildcards_in_front_do_not_match_dollar_topics() {
    check(
        "open c expiry=9\n sub c # qos=1\n sub c $a/# qos=1\n pub p $a/b 1 qos=1; pub p $b 1 qos=1",
        "c 1:0 online, # qos 1, $a/# qos 1, owed 4:0/1 (5 bytes)",
    );
}

#[test]
fn a_subscription_counts_from_its_own_place_in_the_batch() {
    check(
        "open c expiry=9\n pub p a 1 qos=1; sub c a qos=1; pub p a 2 qos=1; unsub c a; pub p a 3 qos=1",
        "c 1:0 online, owed 2:2/1 (2 bytes)",
    );
}

#[test]
fn progress_settles_all_but_what_is_outstanding() {
    check(
        "open c expiry=9
         sub c a qos=2
         pub p a 1 qos=2; pub p a 2 qos=1; pub p a 3 qos=1; pub p a 4 qos=1
         progress c 3:2 5=3:0 6=3:2",
        "c 1:0 online, a qos 2, upto 3:2, 5=3:0, 6=3:2, owed 3:0/2 3:2/1 3:3/1 (6 bytes)",
    );
}

#[test]
fn a_received_message_is_no_longer_owed_but_holds_its_identifier() {
    check(
        "open c expiry=9
         sub c a qos=2
         pub p a 1 qos=2; pub p a 2 qos=2
         start c 5=3:0 6=3:1
         receive c 5
         progress c 3:0 5=3:0! 6=3:1",
        "c 1:0 online, a qos 2, upto 3:0, 5=3:0!, 6=3:1, owed 3:1/2 (2 bytes)",
    );
}

#[test]
fn owed_answers_from_a_place_on_and_no_more_than_asked() {
    let world = check(
        "open c expiry=9\n sub c a qos=1\n pub p a 1 qos=1; pub p a 2 qos=1\n pub p a 3 qos=1",
        "c 1:0 online, a qos 1, owed 3:0/1 3:1/1 4:0/1 (6 bytes)",
    );
    let after = DeliveryRef::from(Offset::new(3, 0));
    assert_eq!(owed(&world.views, "c", after).len(), 2);
    let mut out = Vec::new();
    world.views.owed("c", DeliveryRef::default(), 1, &mut out);
    assert_eq!(out.len(), 1);
    assert!(owed(&world.views, "nobody", after).is_empty());
}

#[test]
fn beyond_a_limit_the_oldest_go_and_what_is_under_way_stays() {
    let mut world =
        World::new(Limits { queued_messages: 2, queued_bytes: 1 << 20, ..Limits::default() });
    world.fold(
        "open c expiry=9
         sub c a qos=1
         pub p a 1 qos=1; pub p a 2 qos=1; pub p a 3 qos=1; pub p a 4 qos=1; pub p a 5 qos=1
         progress c 3:0 1=3:0",
    );
    assert_eq!(world.due(0), "dropped c 3:1 3:2 QueueFull");
    assert_eq!(world.due(0), "");
    let expected = "c 1:0 online, a qos 1, upto 3:0, 1=3:0, owed 3:0/1 3:3/1 3:4/1 (6 bytes)\n";
    assert_eq!(world.table(), expected);
    assert_eq!(world.views.counters().dropped, [2, 0, 0, 0, 0]);
}

#[test]
fn bytes_are_limited_as_messages_are() {
    let mut world = World::new(Limits { queued_messages: 9, queued_bytes: 6, ..Limits::default() });
    world.fold(
        "open c expiry=9\n sub c a qos=1\n pub p a 123 qos=1\n pub p a 1 qos=1\n pub p a 2 qos=1",
    );
    assert_eq!(world.due(0), "dropped c 3:0 3:0 QueueFull");
    assert_eq!(world.due(0), "");
}

#[test]
fn beyond_what_all_may_be_owed_those_with_most_of_it_lose_their_oldest() {
    let mut world = World::new(Limits { owed_messages: 16, ..Limits::default() });
    world.fold("open fat expiry=9\n sub fat a qos=1\n open thin expiry=9\n sub thin b qos=1");
    for _ in 0..15 {
        world.fold("pub p a 1 qos=1");
    }
    assert_eq!((world.due(0), world.views.owed_messages()), (String::new(), 15));
    // It is the thin one that grows, and the fat one that has more than its half.
    world.fold("pub p b 1 qos=1\n pub p b 2 qos=1");
    assert_eq!(world.views.owed_messages(), 17);
    assert_eq!(world.due(0), "dropped fat 5:0 12:0 QueueFull");
    assert_eq!((world.due(0), world.views.owed_messages()), (String::new(), 9));
    // A session that ends leaves its part to the others.
    world.fold("close fat expiry=0");
    assert_eq!(world.views.owed_messages(), 2);
}

#[test]
fn what_expires_is_dropped_in_runs() {
    let mut world = World::default();
    world.fold(
        "open c expiry=never
         sub c a qos=1
         pub p a 1 qos=1 expiry=10; pub p a 2 qos=1 expiry=10; pub p a 3 qos=1; pub p a 4 qos=1 expiry=10
         pub p a 5 qos=1 expiry=20",
    );
    assert_eq!(world.views.next_due(), Some(Timestamp::from_secs(EPOCH + 10)));
    assert_eq!(world.due(9), "");
    assert_eq!(world.due(10), "dropped c 3:0 3:1 Expired\ndropped c 3:3 3:3 Expired");
    assert_eq!(world.due(10), "");
    assert_eq!(world.views.next_due(), Some(Timestamp::from_secs(EPOCH + 20)));
    assert_eq!(world.due(20), "dropped c 4:0 4:0 Expired");
    assert_eq!(world.due(20), "");
    assert_eq!(world.views.next_due(), None);
    assert_eq!(world.views.counters().dropped, [0, 4, 0, 0, 0]);
}

#[test]
fn an_expired_answer_to_a_subscription_is_dropped_too() {
    let mut world = World::default();
    world.fold("pub p a 1 qos=1 retain expiry=10\n open c expiry=99\n sub c a qos=1");
    assert_eq!(world.due(10), "dropped c 3:0.1 3:0.1 Expired");
    assert_eq!(world.views.session("c").expect("open").owed_bytes(), 0);
}

#[test]
fn progress_forgets_a_qos_1_delivery_that_was_given_up_meanwhile() {
    check(
        "open c expiry=9\n sub c a qos=1\n pub p a 1 qos=1; pub p a 2 qos=1\n drop c 3:0 3:0 full
         progress c 3:1 1=3:0 2=3:1",
        "c 1:0 online, a qos 1, upto 3:1, 2=3:1, owed 3:1/1 (2 bytes)",
    );
}

#[test]
fn a_qos_2_delivery_that_was_given_up_before_its_start_is_only_released() {
    check(
        "open c expiry=9\n sub c a qos=2\n pub p a 1 qos=2\n drop c 3:0 3:0 full\n start c 1=3:0
         progress c 3:0 1=3:0",
        "c 1:0 online, a qos 2, upto 3:0, 1=3:0!",
    );
}

#[test]
fn an_identifier_that_is_given_out_again_settles_its_former_message() {
    check(
        "open c expiry=9\n sub c a qos=2\n pub p a 1 qos=2; pub p a 2 qos=2\n start c 1=3:0
         receive c 1\n start c 1=3:1",
        "c 1:0 online, a qos 2, 1=3:1, owed 3:1/2 (2 bytes)",
    );
}

#[test]
fn a_message_that_is_too_large_is_settled_though_it_is_under_way() {
    check(
        "open c expiry=9\n sub c a qos=1\n pub p a 1 qos=1; pub p a 2 qos=1\n progress c 3:1 1=3:0 2=3:1\n drop c 3:0 3:0 large",
        "c 1:0 online, a qos 1, upto 3:1, 2=3:1, owed 3:1/1 (2 bytes)",
    );
}

#[test]
fn the_identifier_of_a_message_that_is_too_large_is_released_at_qos_2() {
    // The client may have received it when it still took larger ones.
    check(
        "open c expiry=9\n sub c a qos=2\n pub p a 1 qos=2; pub p a 2 qos=2\n start c 1=3:0 2=3:1\n drop c 3:0 3:0 large",
        "c 1:0 online, a qos 2, 1=3:0!, 2=3:1, owed 3:1/2 (2 bytes)",
    );
}

#[test]
fn many_messages_pass_from_chunk_to_chunk() {
    let mut world = World::default();
    world.fold("open c expiry=9\n sub c a qos=1");
    for _ in 0..1_000 {
        world.fold("pub p a 1 qos=1; pub p a 2 qos=1");
    }
    assert_eq!(owed(&world.views, "c", DeliveryRef::default()).len(), 2_000);
    let after = DeliveryRef::from(Offset::new(502, 1));
    assert_eq!(owed(&world.views, "c", after).len(), 1_000);
    world.fold("drop c 300:0 700:1 purged\n progress c 900:0 1=5:0 2=800:1");
    let left = owed(&world.views, "c", DeliveryRef::default());
    let ends = [left[0].message.at, left[1].message.at, left[2].message.at];
    assert_eq!(ends, [Offset::new(5, 0), Offset::new(800, 1), Offset::new(900, 1)]);
    assert_eq!(left.len(), 2 + 1 + 2 * 102);
    assert_eq!(world.views.owed_between(799, 900).len(), 2);
}

#[test]
fn an_earlier_expiry_that_comes_later_is_heeded() {
    let mut world = World::default();
    world.fold("open c expiry=never\n sub c a qos=1\n pub p a 1 qos=1 expiry=20; pub p a 2 qos=1 expiry=10");
    assert_eq!(world.due(10), "dropped c 3:1 3:1 Expired");
    assert_eq!(world.due(20), "dropped c 3:0 3:0 Expired");
}

#[test]
fn what_is_under_way_when_it_expires_is_spared_until_it_is_settled() {
    let mut world = World::default();
    world.fold(
        "open c expiry=never
         sub c a qos=1
         pub p a 1 qos=1 expiry=10; pub p a 2 qos=1 expiry=10; pub p a 3 qos=1 expiry=10
         progress c 3:1 1=3:1",
    );
    assert_eq!(world.due(10), "dropped c 3:2 3:2 Expired");
    assert_eq!(world.due(12), "");
    world.fold("progress c 3:2");
    assert_eq!(world.due(99), "");
    assert_eq!(world.views.next_due(), None);
}
