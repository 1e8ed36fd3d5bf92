use super::*;
use ledgermq_core::offset::Offset;

const LEFT: Slot = 1;
const STAYS: Slot = 2;
const MESSAGE: Offset = Offset::new(1, 0);

/// A group of two: one holds a message, and has unsubscribed since.
fn groups(dirty: &mut Dirty) -> Groups {
    let mut groups = Groups::default();
    let grant = Grant { qos: QoS::AtLeastOnce, retain_as_published: false, identifier: None };
    groups.add(0, Group::new(TopicFilter::new("$share/g/x").unwrap()));
    groups.join(0, LEFT, grant, true);
    let entry = Entry::message_at(MESSAGE, 1, QoS::AtLeastOnce, false, None);
    groups.publish(0, entry, QoS::AtLeastOnce, dirty);
    groups.join(0, STAYS, grant, true);
    groups.unsubscribe(0, LEFT, dirty);
    assert_eq!(groups.of(LEFT), [0], "it holds a message");
    groups
}

#[test]
fn who_unsubscribed_and_went_is_in_no_group() {
    let dirty = &mut Dirty::default();
    let mut groups = groups(dirty);
    groups.went(LEFT, dirty);
    assert_eq!(groups.of(LEFT), []);
}

#[test]
fn who_unsubscribed_and_gave_back_what_it_held_is_in_no_group() {
    let dirty = &mut Dirty::default();
    let mut groups = groups(dirty);
    assert!(groups.give_back(LEFT, DeliveryRef::shared(MESSAGE, 0), dirty));
    assert_eq!(groups.of(LEFT), []);
}

#[test]
fn nothing_is_left_of_a_session_that_ended_behind_its_group() {
    let dirty = &mut Dirty::default();
    let mut groups = groups(dirty);
    groups.went(LEFT, dirty);
    assert_eq!(groups.end(STAYS, dirty).1.len(), 1, "its last member is gone");
    assert_eq!(groups.end(LEFT, dirty).1.len(), 0);
    assert!(groups.groups.is_empty() && groups.by_filter.is_empty() && groups.of.is_empty());
    assert!(groups.given.is_empty());
}
