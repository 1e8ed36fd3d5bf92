//! The memory of what topics match.

use ledgermq_core::event::Subscription;
use ledgermq_core::packet::{QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;

use super::*;

fn subscription(filter: &str, qos: QoS) -> Subscription {
    let filter = TopicFilter::new(filter).expect("a filter");
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Subscription { filter, options, identifier: None }
}

#[test]
fn long_topics_are_remembered_within_a_bound_of_bytes() {
    let mut subscriptions = Subscriptions::default();
    subscriptions.insert(3, &subscription("#", QoS::AtLeastOnce));
    let long = "x".repeat(60_000);
    let mut most = 0;
    for number in 0..3_000 {
        let known = subscriptions.look_up(&format!("{number}/{long}"), |_| true);
        assert_eq!(known.matches.len(), 1);
        assert!(subscriptions.remembered.bytes() <= REMEMBERED.bytes);
        most = most.max(subscriptions.remembered.bytes());
    }
    assert!(most > REMEMBERED.bytes / 2, "it is used: {most}");
}

#[test]
fn topics_that_match_many_sessions_are_remembered_within_the_same_bound() {
    let mut subscriptions = Subscriptions::default();
    for slot in 0..20_000 {
        subscriptions.insert(slot, &subscription("#", QoS::AtLeastOnce));
    }
    for number in 0..300 {
        assert_eq!(subscriptions.look_up(&number.to_string(), |_| true).matches.len(), 20_000);
        assert!(subscriptions.remembered.bytes() <= REMEMBERED.bytes);
    }
    let before = subscriptions.remembered.bytes();
    // What is matched anew after a change is counted anew.
    for slot in 0..19_999 {
        subscriptions.remove(slot, &subscription("#", QoS::AtLeastOnce));
    }
    for number in 0..300 {
        assert_eq!(subscriptions.look_up(&number.to_string(), |_| true).matches.len(), 1);
    }
    assert!(subscriptions.remembered.bytes() < before / 100, "and what it was is not");
}

#[test]
fn the_node_of_a_topic_outlives_a_change_of_subscriptions() {
    let mut subscriptions = Subscriptions::default();
    subscriptions.look_up("t", |_| true).node = (7, Some(9));
    subscriptions.insert(1, &subscription("t", QoS::AtLeastOnce));
    let known = subscriptions.look_up("t", |_| true);
    assert_eq!((known.node, known.matches.len()), ((7, Some(9)), 1));
}
