//! One group: what it owes, who has it.

mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};

use crate::bytes::Cut;
use crate::notice::SharedDelivery;
use crate::views::dirty::GroupRows;
use crate::views::owed::{Entry, OwedSet};
use crate::views::sessions::Slot;
use crate::views::shared::member::{Grant, Held, Member};
use crate::views::shared::{Given, Number, SHARED_WINDOW};

/// A group. Everything that is owed and not held by a member waits: what was never given to
/// anybody, and what came back.
#[derive(Debug)]
pub(crate) struct Group {
    head: Head,
    members: BTreeMap<Slot, Member>,
    /// Everything unsettled, oldest first.
    owed: OwedSet,

    // Derived: in no row.
    /// Of what was given to somebody: what came back. At most the members' windows.
    returned: BTreeSet<Offset>,
    online: BTreeSet<Slot>,
    /// Of those online, who has room.
    ready: BTreeSet<Slot>,
    /// Members that may be given QoS 1 or 2.
    acknowledging: usize,
    held: usize,
    held_bytes: u64,
    /// The expiry under which the group stands in the table of expiries: a lower bound for
    /// all that is unsettled, so that what comes back needs no look at it.
    pub(crate) expiry: Option<Timestamp>,
}

/// What of a group stands in its own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    filter: TopicFilter,
    /// Everything up to here was given to somebody once.
    upto: Offset,
    /// Who was given something last.
    turn: Slot,
}

impl Group {
    pub(crate) fn new(filter: TopicFilter) -> Self {
        Self::from_head(Head { filter, upto: Offset::ZERO, turn: Slot::MAX })
    }

    pub(crate) fn from_head(head: Head) -> Self {
        Self {
            head,
            members: BTreeMap::new(),
            owed: OwedSet::default(),
            returned: BTreeSet::new(),
            online: BTreeSet::new(),
            ready: BTreeSet::new(),
            acknowledging: 0,
            held: 0,
            held_bytes: 0,
            expiry: None,
        }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Its Shared Subscription.
    pub(crate) fn filter(&self) -> &TopicFilter {
        &self.head.filter
    }

    /// Everything unsettled.
    pub(crate) fn owed(&self) -> &OwedSet {
        &self.owed
    }

    pub(crate) fn owed_mut(&mut self) -> &mut OwedSet {
        &mut self.owed
    }

    /// How the session holds the message at `at`, if it does.
    pub(crate) fn held(&self, slot: Slot, at: Offset) -> Option<Held> {
        self.members.get(&slot)?.held.get(&at).copied()
    }

    /// Sessions that hold messages.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Slot> {
        let holders = self.members.iter().filter(|(_, member)| !member.held.is_empty());
        holders.map(|(slot, _)| *slot)
    }

    /// Sessions that subscribed, or hold messages.
    pub(crate) fn members(&self) -> Vec<Slot> {
        self.members.keys().copied().collect()
    }

    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.members.contains_key(&slot)
    }

    pub(super) fn has_members(&self) -> bool {
        self.members.values().any(|member| member.grant.is_some())
    }

    /// Whether a message that it is for is given at QoS 0 at most.
    pub(crate) fn is_at_most_once(&self) -> bool {
        self.acknowledging == 0
    }

    pub(super) fn join(&mut self, slot: Slot, grant: Grant, is_online: bool) {
        let member = self.members.entry(slot).or_default();
        let old = member.grant.replace(grant);
        member.is_online = is_online;
        self.acknowledging -= usize::from(is_acknowledging(old));
        self.acknowledging += usize::from(is_acknowledging(Some(grant)));
        self.refresh(slot);
    }

    pub(super) fn unsubscribe(&mut self, slot: Slot) {
        let Some(member) = self.members.get_mut(&slot) else { return };
        let old = member.grant.take();
        self.acknowledging -= usize::from(is_acknowledging(old));
        self.refresh(slot);
    }

    pub(crate) fn came(&mut self, slot: Slot) {
        if let Some(member) = self.members.get_mut(&slot) {
            member.is_online = true;
            self.refresh(slot);
        }
    }

    /// The session gets no more, and keeps what it holds.
    pub(super) fn pass_over(&mut self, slot: Slot) {
        if let Some(member) = self.members.get_mut(&slot) {
            member.is_online = false;
            self.refresh(slot);
        }
    }

    /// A message that the session holds comes back, if it is not bound. Says whether it does.
    pub(super) fn give_back(&mut self, slot: Slot, at: Offset, rows: &mut GroupRows<'_>) -> bool {
        let Some(member) = self.members.get_mut(&slot) else { return false };
        if member.held.get(&at).is_none_or(|held| held.is_started) {
            return false;
        }
        member.held.remove(&at);
        rows.held(slot);
        self.returned.insert(at);
        self.held -= 1;
        self.held_bytes -= self.owed.bytes_of(at.into()).unwrap_or_default();
        self.refresh(slot);
        true
    }

    /// What is not bound to the session comes back.
    pub(super) fn went(&mut self, slot: Slot, rows: &mut GroupRows<'_>) {
        let Some(member) = self.members.get_mut(&slot) else { return };
        member.is_online = false;
        let (held, returned) = (&mut self.held, &mut self.returned);
        let (owed, held_bytes) = (&self.owed, &mut self.held_bytes);
        let before = member.held.len();
        member.held.retain(|at, is_held| {
            if !is_held.is_started {
                returned.insert(*at);
                *held -= 1;
                *held_bytes -= owed.bytes_of((*at).into()).unwrap_or_default();
            }
            is_held.is_started
        });
        if member.held.len() < before {
            rows.held(slot);
        }
        self.refresh(slot);
    }

    /// The session is over; answers how much was bound to it.
    pub(super) fn end(&mut self, slot: Slot, rows: &mut GroupRows<'_>) -> u32 {
        self.unsubscribe(slot);
        let Some(member) = self.members.get(&slot) else { return 0 };
        let bound: Vec<Offset> = member.held.keys().copied().collect();
        for at in &bound {
            self.settle(slot, *at, rows);
        }
        u32::try_from(bound.len()).unwrap_or(u32::MAX)
    }

    /// A message of QoS 1 or 2 for the group.
    pub(crate) fn push(&mut self, entry: Entry, rows: &mut GroupRows<'_>) {
        self.owed.push(entry).into_iter().for_each(rows.owed());
    }

    /// Gives what waits to those who are ready, in turn, the oldest first.
    pub(super) fn assign(&mut self, number: Number, rows: &mut GroupRows<'_>, given: &mut Given) {
        while let Some(slot) = in_turn(&self.ready, self.head.turn)
            && let Some(entry) = self.next()
        {
            self.give(number, slot, entry, rows, given);
        }
    }

    /// Gives a message at QoS 0 to a member that is online, if there is one.
    pub(crate) fn give_at_most_once(
        &mut self,
        number: Number,
        entry: Entry,
        rows: &mut GroupRows<'_>,
        given: &mut Given,
    ) -> bool {
        let Some(slot) = in_turn(&self.online, self.head.turn) else { return false };
        self.head.turn = slot;
        rows.head();
        self.tell(number, slot, entry, QoS::AtMostOnce, given);
        true
    }

    /// The session is done with a message. Says whether it held it.
    pub(crate) fn settle(&mut self, slot: Slot, at: Offset, rows: &mut GroupRows<'_>) -> bool {
        let Some(member) = self.members.get_mut(&slot) else { return false };
        if member.held.remove(&at).is_none() {
            return false;
        }
        rows.held(slot);
        self.held -= 1;
        self.held_bytes -= self.owed.bytes_of(at.into()).unwrap_or_default();
        self.owed.remove(at.into(), at.into(), |_| false, &mut rows.owed());
        self.refresh(slot);
        true
    }

    /// Binds a message to the session that holds it.
    pub(super) fn start(&mut self, slot: Slot, at: Offset, rows: &mut GroupRows<'_>) -> bool {
        let member = self.members.get_mut(&slot);
        let Some(held) = member.and_then(|member| member.held.get_mut(&at)) else { return false };
        held.is_started = true;
        rows.held(slot);
        true
    }

    /// A message that is bound to the session, as it is sent again.
    pub(crate) fn bound(&self, slot: Slot, message: DeliveryRef) -> Option<SharedDelivery> {
        let member = self.members.get(&slot)?;
        let held = member.held.get(&message.at)?;
        let entry = self.owed.get(message.at.into())?;
        let retain = member.grant.is_some_and(|grant| grant.retain_as_published) && entry.retain();
        let identifier = member.grant.and_then(|grant| grant.identifier);
        Some(SharedDelivery { message, qos: held.qos, retain, identifier })
    }

    fn next(&mut self) -> Option<Entry> {
        while let Some(at) = self.returned.first() {
            if let Some(entry) = self.owed.get((*at).into()) {
                return Some(entry);
            }
            self.returned.pop_first();
        }
        self.owed.after(self.head.upto.into()).next()
    }

    fn give(
        &mut self,
        number: Number,
        slot: Slot,
        entry: Entry,
        rows: &mut GroupRows<'_>,
        given: &mut Given,
    ) {
        let message = entry.message();
        let at = message.at;
        self.returned.remove(&at);
        self.head.upto = self.head.upto.max(at);
        self.head.turn = slot;
        rows.head();
        let granted = self.members.get(&slot).and_then(|member| member.grant);
        let qos = granted.map_or(QoS::AtMostOnce, |grant| grant.qos).min(entry.qos());
        if qos == QoS::AtMostOnce {
            self.owed.remove(message, message, |_| false, &mut rows.owed());
        } else {
            let member = self.members.entry(slot).or_default();
            member.held.insert(at, Held { qos, is_started: false });
            rows.held(slot);
            self.held += 1;
            self.held_bytes += u64::from(entry.bytes());
            self.refresh(slot);
        }
        self.tell(number, slot, entry, qos, given);
    }

    fn tell(&self, number: Number, slot: Slot, entry: Entry, qos: QoS, given: &mut Given) {
        let Some(grant) = self.members.get(&slot).and_then(|member| member.grant) else { return };
        given.entry(slot).or_default().push(SharedDelivery {
            message: DeliveryRef::shared(entry.message().at, number),
            qos,
            retain: entry.retain() && grant.retain_as_published,
            identifier: grant.identifier,
        });
    }

    /// Puts right what is derived of a member; forgets it if nothing is left of it.
    fn refresh(&mut self, slot: Slot) {
        let member = self.members.get(&slot);
        let is_online = member.is_some_and(|member| member.is_online && member.grant.is_some());
        let has_room = member.is_some_and(|member| member.held.len() < SHARED_WINDOW);
        let is_known = member.is_some_and(Member::is_known);
        put(&mut self.online, slot, is_online);
        put(&mut self.ready, slot, is_online && has_room);
        if !is_known {
            self.members.remove(&slot);
        }
    }
}

/// Rows.
impl Group {
    /// The group is no more, and none of its rows.
    pub(super) fn ended(&self, rows: &mut GroupRows<'_>) {
        rows.head();
        self.owed.ended().for_each(rows.owed());
        self.holders().for_each(|slot| rows.held(slot));
    }

    /// The row of what a session holds.
    pub(crate) fn held_row(&self, slot: Slot) -> Option<Vec<u8>> {
        self.members.get(&slot)?.row()
    }

    pub(crate) fn load_held(&mut self, slot: Slot, row: &[u8]) -> Result<(), Cut> {
        self.members.entry(slot).or_default().held = Member::load(row)?;
        Ok(())
    }

    /// Derives what is in no row, when members joined and all rows are there. What is held and not
    /// owed cannot be.
    pub(crate) fn finish_load(&mut self) -> Result<(), Cut> {
        self.owed.finish_load();
        let mut given = BTreeSet::new();
        for member in self.members.values() {
            for at in member.held.keys() {
                self.held_bytes += self.owed.bytes_of((*at).into()).ok_or(Cut)?;
                given.insert(*at);
            }
        }
        self.held = given.len();
        let once = self.owed.iter().map(|entry| entry.message().at);
        let once = once.take_while(|at| *at <= self.head.upto);
        self.returned = once.filter(|at| !given.contains(at)).collect();
        let slots: Vec<Slot> = self.members.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.refresh(slot));
        Ok(())
    }
}

fn is_acknowledging(grant: Option<Grant>) -> bool {
    grant.is_some_and(|grant| grant.qos > QoS::AtMostOnce)
}

/// Who comes behind `turn`, round and round.
fn in_turn(slots: &BTreeSet<Slot>, turn: Slot) -> Option<Slot> {
    let behind = slots.range((Bound::Excluded(turn), Bound::Unbounded)).next();
    behind.or_else(|| slots.first()).copied()
}

fn put(set: &mut BTreeSet<Slot>, slot: Slot, is_in: bool) {
    if is_in {
        set.insert(slot);
    } else {
        set.remove(&slot);
    }
}
