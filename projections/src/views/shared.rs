//! The groups of Shared Subscriptions, and which member gets which message (MQTT 5 section 4.8.2).
//!
//! A group is a consumer like a session: it is owed references. Who gets them follows from the
//! order of the log alone, so that every node and every restart decides the same and an assignment
//! needs no event: whatever changes the group (a message, a member that comes or goes, an answer)
//! is folded, and then everything that waits is given to members that are online and have room, in
//! turn.

mod group;
mod member;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::packet::QoS;
use ledgermq_core::topic::TopicFilter;

use crate::notice::SharedDelivery;
use crate::views::dirty::Dirty;
use crate::views::owed::Entry;
use crate::views::sessions::Slot;

pub(crate) use group::{Group, Head};
pub(crate) use member::{Grant, Held};

/// Messages that a member of a group may have unsettled: beyond it others get them.
///
/// Part of what the fold is: it must be the same on every node, for the whole log.
pub const SHARED_WINDOW: usize = 256;

/// Number of a group, 31 bits.
pub(crate) type Number = u32;

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<Number, Group>,
    by_filter: BTreeMap<TopicFilter, Number>,
    /// The groups in which a session is a member or holds messages.
    of: BTreeMap<Slot, BTreeSet<Number>>,
    /// What sessions were given and were not yet told of.
    pub(crate) given: Given,
}

/// Messages for sessions that are online, in the order in which they were given.
pub(crate) type Given = BTreeMap<Slot, Vec<SharedDelivery>>;

impl Groups {
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Number, &Group)> {
        self.groups.iter().map(|(number, group)| (*number, group))
    }

    pub(crate) fn get(&self, number: Number) -> Option<&Group> {
        self.groups.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: Number) -> Option<&mut Group> {
        self.groups.get_mut(&number)
    }

    /// The group of a Shared Subscription.
    pub(crate) fn number(&self, filter: &TopicFilter) -> Option<Number> {
        self.by_filter.get(filter).copied()
    }

    /// The groups in which a session is a member or holds messages.
    pub(crate) fn of(&self, slot: Slot) -> Vec<Number> {
        self.of.get(&slot).into_iter().flatten().copied().collect()
    }

    /// A new group, or one of a checkpoint.
    pub(crate) fn add(&mut self, number: Number, group: Group) {
        self.by_filter.insert(group.filter().clone(), number);
        self.groups.insert(number, group);
    }

    /// The session is a member from here on, with these rights.
    pub(crate) fn join(&mut self, number: Number, slot: Slot, grant: Grant, is_online: bool) {
        if let Some(group) = self.groups.get_mut(&number) {
            group.join(slot, grant, is_online);
            self.of.entry(slot).or_default().insert(number);
        }
    }

    /// The session holds messages of the group, as a checkpoint says.
    pub(crate) fn hold(&mut self, number: Number, slot: Slot) {
        self.of.entry(slot).or_default().insert(number);
    }

    /// The session gave its subscription up; it keeps what it holds. Says whether that was the
    /// last member: then the group is over, and is returned.
    pub(crate) fn unsubscribe(
        &mut self,
        number: Number,
        slot: Slot,
        dirty: &mut Dirty,
    ) -> Option<Group> {
        self.groups.get_mut(&number)?.unsubscribe(slot);
        self.tidy(number, slot, dirty)
    }

    /// The session can be given messages of the group.
    pub(crate) fn came(&mut self, number: Number, slot: Slot) {
        if let Some(group) = self.groups.get_mut(&number) {
            group.came(slot);
        }
    }

    /// The session is given no more of the group; it keeps what it holds.
    pub(crate) fn pass_over(&mut self, number: Number, slot: Slot) {
        if let Some(group) = self.groups.get_mut(&number) {
            group.pass_over(slot);
        }
    }

    /// The session's connection ended: what it holds is given to others, but for what is bound.
    pub(crate) fn went(&mut self, slot: Slot, dirty: &mut Dirty) {
        // What it was not told of is returned as well.
        self.given.remove(&slot);
        for number in self.of(slot) {
            if let Some(group) = self.groups.get_mut(&number) {
                group.went(slot, &mut dirty.group(number));
                self.forget(number, slot);
            }
        }
    }

    /// Nothing of the session is left: what is bound to it is gone with it, and counted. Returns
    /// the groups that are over by that.
    pub(crate) fn end(&mut self, slot: Slot, dirty: &mut Dirty) -> (u32, Vec<(Number, Group)>) {
        self.went(slot, dirty);
        let (mut lost, mut over) = (0, Vec::new());
        for number in self.of(slot) {
            let Some(group) = self.groups.get_mut(&number) else { continue };
            lost += group.end(slot, &mut dirty.group(number));
            over.extend(self.tidy(number, slot, dirty).map(|group| (number, group)));
        }
        self.of.remove(&slot);
        (lost, over)
    }

    /// A message for the group. Says false if it is QoS 0 at most and no member is connected.
    pub(crate) fn publish(
        &mut self,
        number: Number,
        entry: Entry,
        qos: QoS,
        dirty: &mut Dirty,
    ) -> bool {
        let Some(group) = self.groups.get_mut(&number) else { return true };
        let (rows, given) = (&mut dirty.group(number), &mut self.given);
        if qos == QoS::AtMostOnce || group.is_at_most_once() {
            return group.give_at_most_once(number, entry, rows, given);
        }
        group.push(entry, rows);
        group.assign(number, rows, given);
        true
    }

    /// Gives what waits in the group to those who are ready.
    pub(crate) fn assign(&mut self, number: Number, dirty: &mut Dirty) {
        if let Some(group) = self.groups.get_mut(&number) {
            group.assign(number, &mut dirty.group(number), &mut self.given);
        }
    }

    /// The session has settled a message, or its receipt is logged. Says whether it held it.
    pub(crate) fn settle(&mut self, slot: Slot, message: DeliveryRef, dirty: &mut Dirty) -> bool {
        let Some(number) = message.group() else { return false };
        let Some(group) = self.groups.get_mut(&number) else { return false };
        let is_held = group.settle(slot, message.at, &mut dirty.group(number));
        if is_held {
            self.tidy(number, slot, dirty);
        }
        is_held
    }

    /// The session cannot have a message that it holds: others are given it, if it is not bound.
    /// Says whether it is given back.
    pub(crate) fn give_back(
        &mut self,
        slot: Slot,
        message: DeliveryRef,
        dirty: &mut Dirty,
    ) -> bool {
        let Some(number) = message.group() else { return false };
        let Some(group) = self.groups.get_mut(&number) else { return false };
        let is_returned = group.give_back(slot, message.at, &mut dirty.group(number));
        if is_returned {
            self.forget(number, slot);
        }
        is_returned
    }

    /// Binds a QoS 2 message to the session that holds it. Says whether it does.
    pub(crate) fn start(&mut self, slot: Slot, message: DeliveryRef, dirty: &mut Dirty) -> bool {
        let Some(number) = message.group() else { return false };
        let group = self.groups.get_mut(&number);
        group.is_some_and(|group| group.start(slot, message.at, &mut dirty.group(number)))
    }

    /// How the session holds `message`, if it does and it is one of a group.
    pub(crate) fn held(&self, slot: Slot, message: DeliveryRef) -> Option<Held> {
        self.get(message.group()?)?.held(slot, message.at)
    }

    /// What is left of a session in a group, and of a group, when either is over.
    fn tidy(&mut self, number: Number, slot: Slot, dirty: &mut Dirty) -> Option<Group> {
        self.forget(number, slot);
        if self.groups.get(&number)?.has_members() {
            return None;
        }
        let group = self.groups.remove(&number)?;
        self.by_filter.remove(group.filter());
        group.holders().for_each(|holder| self.forget(number, holder));
        group.ended(&mut dirty.group(number));
        Some(group)
    }

    /// The session is in the group no more, if that does not know of it.
    fn forget(&mut self, number: Number, slot: Slot) {
        let is_known = self.groups.get(&number).is_some_and(|group| group.knows(slot));
        if !is_known && let Some(of) = self.of.get_mut(&slot) {
            of.remove(&number);
            if of.is_empty() {
                self.of.remove(&slot);
            }
        }
    }
}
