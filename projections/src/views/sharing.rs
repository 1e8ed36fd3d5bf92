//! What events mean for the groups of Shared Subscriptions.

use ledgermq_core::event::{DeliveryPhase, DeliveryRef, DropReason, Outstanding, Subscription};
use ledgermq_core::offset::{Index, Offset};
use ledgermq_core::topic::TopicFilter;

use crate::notice::{Notice, SharedDelivery};
use crate::views::Views;
use crate::views::dirty::Row;
use crate::views::fold::Place;
use crate::views::sessions::Slot;
use crate::views::shared::{Grant, Group, Groups, Number};

/// Numbers of groups have 31 bits: the highest marks a reference as one of a group.
const NUMBERS: u64 = 1 << 31;

impl Views {
    /// The session is a member of the subscription's group, which begins with its first member.
    pub(super) fn join_group(&mut self, slot: Slot, subscription: &Subscription) {
        let filter = &subscription.filter;
        let is_serving = self.is_serving(slot, filter);
        let number = self.groups.number(filter).unwrap_or_else(|| self.begin_group(filter));
        self.groups.join(number, slot, Grant::from(subscription), is_serving);
        self.assign(number);
    }

    /// Gives what waits in the group to those who are ready.
    fn assign(&mut self, number: Number) {
        self.groups.assign(number, &mut self.dirty);
        if let Some(group) = self.groups.get_mut(number) {
            self.hints.group(number, group, None);
        }
    }

    fn begin_group(&mut self, filter: &TopicFilter) -> Number {
        let number = loop {
            let number = self.counters.shared_groups % NUMBERS;
            self.counters.shared_groups += 1;
            let number = Number::try_from(number).expect("it has 31 bits");
            // After two billion groups one of the first may still be there.
            if self.groups.get(number).is_none() {
                break number;
            }
        };
        self.groups.add(number, Group::new(filter.clone()));
        self.subscriptions.insert_group(filter, number);
        self.dirty.touch(Row::Group(number));
        number
    }

    /// The session gave a Shared Subscription up. What it holds it keeps until it settles it or
    /// goes, unless the group ends by that.
    pub(super) fn leave_group(&mut self, slot: Slot, filter: &TopicFilter) {
        let Some(number) = self.groups.number(filter) else { return };
        if let Some(group) = self.groups.unsubscribe(number, slot, &mut self.dirty) {
            self.group_is_over(number, &group);
        }
    }

    /// Nobody is left: what was owed is owed to nobody.
    fn group_is_over(&mut self, number: Number, group: &Group) {
        self.subscriptions.remove_group(group.filter(), number);
        self.hints.forget_group(number, group);
        for slot in group.holders() {
            self.forget_sent(slot, |_, message| {
                let held = group.held(slot, message.at).filter(|_| message.group() == Some(number));
                held.map(|held| held.is_started)
            });
        }
    }

    /// The session's client is connected: it gets what waits in its groups.
    pub(super) fn member_came(&mut self, slot: Slot) {
        for number in self.groups.of(slot) {
            self.judge_member(number, slot);
            self.assign(number);
        }
    }

    /// Whether a session can be given messages of a group: its client is connected and may receive
    /// them.
    fn is_serving(&self, slot: Slot, group: &TopicFilter) -> bool {
        let session = self.sessions.by_slot(slot);
        session.is_some_and(|session| {
            session.presence().is_online() && self.access.may_join(session, group)
        })
    }

    /// Other access rules are in force: members that may no longer serve their groups are passed
    /// over. What they hold they deliver, or give back one by one, as the rules say of its topic.
    pub(super) fn judge_members(&mut self) {
        let numbers: Vec<Number> = self.groups.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let members = self.groups.get(number).map(Group::members).unwrap_or_default();
            members.into_iter().for_each(|slot| self.judge_member(number, slot));
            self.assign(number);
        }
    }

    fn judge_member(&mut self, number: Number, slot: Slot) {
        let Some(group) = self.groups.get(number) else { return };
        if self.is_serving(slot, group.filter()) {
            self.groups.came(number, slot);
        } else {
            self.groups.pass_over(number, slot);
        }
    }

    /// The session's connection is gone: others get what it held and what is not bound to it.
    pub(super) fn member_went(&mut self, slot: Slot) {
        let numbers = self.groups.of(slot);
        self.groups.went(slot, &mut self.dirty);
        self.forget_sent(slot, |groups, message| {
            groups.held(slot, message).is_none().then_some(false)
        });
        for number in numbers {
            self.assign(number);
        }
    }

    /// Nothing of the session is left. `[MQTT-4.8.2-5]`
    pub(super) fn member_ended(&mut self, slot: Slot) {
        let numbers = self.groups.of(slot);
        let (lost, over) = self.groups.end(slot, &mut self.dirty);
        self.counters.shared_lost += u64::from(lost);
        for (number, group) in over {
            self.group_is_over(number, &group);
        }
        for number in numbers {
            self.assign(number);
        }
    }

    pub(super) fn shared_settled(&mut self, slot: Slot, deliveries: &[DeliveryRef]) {
        for message in deliveries {
            self.settle_shared(slot, *message);
        }
        if let Some(session) = self.sessions.by_slot_mut(slot)
            && !session.head.outstanding.is_empty()
        {
            session.head.outstanding.retain(|held| !deliveries.contains(&held.message));
            self.dirty.touch(Row::Session(slot));
        }
    }

    /// The client has a message of a group, or it is given up: there is room for another.
    pub(super) fn settle_shared(&mut self, slot: Slot, message: DeliveryRef) {
        if self.groups.settle(slot, message, &mut self.dirty)
            && let Some(number) = message.group()
        {
            self.assign(number);
        }
    }

    /// A message of a group was given up by the session that holds it: for all, unless it is this
    /// session that may not have it, and no other was bound to it.
    pub(super) fn shared_given_up(&mut self, slot: Slot, message: DeliveryRef, why: DropReason) {
        let Some(held) = self.groups.held(slot, message) else { return };
        if why == DropReason::NotAuthorized
            && self.groups.give_back(slot, message, &mut self.dirty)
            && let Some(number) = message.group()
        {
            return self.assign(number);
        }
        self.counters.drop_messages(why, 1);
        self.settle_shared(slot, message);
        self.forget_sent(slot, |_, sent| (sent == message).then_some(held.is_started));
    }

    /// Messages that waited in a group were given up. The batch's time says which have expired.
    pub(super) fn shared_dropped(
        &mut self,
        place: &Place,
        filter: &TopicFilter,
        upto: Offset,
        reason: DropReason,
    ) {
        let Some(number) = self.groups.number(filter) else { return };
        let Some(group) = self.groups.get_mut(number) else { return };
        let rows = &mut self.dirty.group(number);
        let count = group.drop_waiting(upto, reason, place.time, rows);
        self.counters.drop_messages(reason, count);
    }

    /// Messages that the session was sent and holds no longer are not sent again. `fate` says of one
    /// whether it was bound to the session: the client may have received it in part, and a later
    /// connection releases its identifier. None is for those that stay as they are.
    fn forget_sent(&mut self, slot: Slot, fate: impl Fn(&Groups, DeliveryRef) -> Option<bool>) {
        let groups = &self.groups;
        let Some(session) = self.sessions.by_slot_mut(slot) else { return };
        let mut is_changed = false;
        session.head.outstanding.retain_mut(|held| {
            if held.phase == DeliveryPhase::Received || held.message.group().is_none() {
                return true;
            }
            let Some(is_bound) = fate(groups, held.message) else { return true };
            is_changed = true;
            held.phase = DeliveryPhase::Received;
            is_bound
        });
        if is_changed {
            self.dirty.touch(Row::Session(slot));
        }
    }

    /// Messages bound to the session, in the order of their identifiers.
    pub(super) fn bound(&self, slot: Slot, outstanding: &[Outstanding]) -> Vec<SharedDelivery> {
        let published = outstanding.iter().filter(|held| held.phase == DeliveryPhase::Published);
        let bound = published.filter_map(|held| {
            let group = self.groups.get(held.message.group()?)?;
            group.bound(slot, held.message)
        });
        bound.collect()
    }

    /// Tells the gateway what was given to its connections in the batch `index`.
    pub(super) fn tell_given(&mut self, index: Index, notices: &mut Vec<Notice>) {
        for (slot, deliveries) in std::mem::take(&mut self.groups.given) {
            let Some(session) = self.sessions.by_slot(slot) else { continue };
            let (producer, epoch) = (session.head.producer, session.epoch());
            notices.push(Notice::Shared { producer, epoch, index, deliveries });
        }
    }
}
