//! What the groups of Shared Subscriptions are owed.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::event::{DeliveryRef, DropReason, MessagePublished};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

use crate::book::Uid;
use crate::oracle::owing::matches;
use crate::oracle::{Oracle, OwedEntry};

/// The groups that have members, and what all were ever owed.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By Shared Subscription: what the group must get to a member.
    pub(crate) owed: BTreeMap<String, Vec<OwedEntry>>,
    /// Number of groups that were owed a message, for all its copies.
    pub(crate) counts: BTreeMap<Uid, u32>,
    /// What any group was owed: not messages that have no number, or that may be lost.
    all: BTreeSet<Offset>,
    /// By Shared Subscription: all that the group ever matched, what may be lost included.
    matched: BTreeMap<String, Vec<Offset>>,
    /// The same of groups that ended: nobody keeps it, but a member may still hold it.
    over: BTreeSet<Offset>,
    /// Messages bound to sessions, by life.
    bound: BTreeMap<usize, BTreeSet<Offset>>,
}

/// What a filter matches topics by.
pub(super) fn pattern(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, pattern)| pattern)
}

fn is_shared(filter: &str) -> bool {
    pattern(filter).len() < filter.len()
}

impl Oracle {
    pub(super) fn owe_to_groups(
        &mut self,
        at: Offset,
        now: Timestamp,
        uid: Uid,
        expires: Option<Timestamp>,
        message: &MessagePublished<'_>,
    ) {
        for (filter, granted) in self.members() {
            if !matches(pattern(&filter), message.topic) {
                continue;
            }
            *self.groups.counts.entry(uid).or_default() += 1;
            self.groups.matched.entry(filter.clone()).or_default().push(at);
            // A member that was granted QoS 0 may be given it, and that may be lost.
            let qos = granted.into_iter().min().unwrap_or(QoS::AtMostOnce).min(message.qos);
            if qos > QoS::AtMostOnce {
                let entry = OwedEntry::new(at.into(), uid, qos, false, expires, now);
                self.groups.all.insert(at);
                self.groups.owed.entry(filter).or_default().push(entry);
            }
        }
    }

    /// The groups, with what their members are granted.
    fn members(&self) -> BTreeMap<String, Vec<QoS>> {
        let mut members: BTreeMap<String, Vec<QoS>> = BTreeMap::new();
        for session in self.sessions.values() {
            for (filter, subscription) in &session.subscriptions {
                if is_shared(filter) {
                    members.entry(filter.clone()).or_default().push(subscription.options.qos);
                }
            }
        }
        members
    }

    /// Groups end with their last member, and what is bound to a session with that; who joins at QoS
    /// 0 may lose what waits.
    pub(super) fn tidy_groups(&mut self) {
        let members = self.members();
        let Groups { owed, matched, over, .. } = &mut self.groups;
        matched.retain(|filter, at| {
            if !members.contains_key(filter) {
                over.extend(at.drain(..));
            }
            !at.is_empty()
        });
        owed.retain(|filter, owed| {
            let granted = members.get(filter);
            if granted.is_some_and(|granted| granted.contains(&QoS::AtMostOnce)) {
                owed.iter_mut().for_each(|entry| entry.is_dropped = true);
            }
            granted.is_some()
        });
        let lives = &self.lives;
        let over: Vec<usize> =
            self.groups.bound.keys().copied().filter(|life| lives[*life].is_over).collect();
        for life in over {
            for at in self.groups.bound.remove(&life).unwrap_or_default() {
                self.excuse(at);
            }
        }
    }

    /// Messages of QoS 2 are bound to the session from here on.
    pub(super) fn on_started(&mut self, client: &str, messages: impl Iterator<Item = DeliveryRef>) {
        let Some(session) = self.sessions.get(client) else { return };
        let bound = self.groups.bound.entry(session.life).or_default();
        bound
            .extend(messages.filter(|message| message.group().is_some()).map(|message| message.at));
    }

    /// A member gave a message of its group up.
    pub(super) fn on_shared_dropped(
        &mut self,
        client: &str,
        now: Timestamp,
        at: Offset,
        reason: DropReason,
    ) {
        let life = self.sessions.get(client).map(|session| session.life);
        let bound = life.and_then(|life| self.groups.bound.get(&life));
        let is_bound = bound.is_some_and(|bound| bound.contains(&at));
        let mut entries =
            self.groups.owed.values().flatten().filter(|entry| entry.message.at == at);
        let is_allowed = match reason {
            DropReason::Expired => {
                entries.all(|entry| entry.expires.is_some_and(|expires| expires <= now))
            }
            DropReason::NotAuthorized => self.access.has_changed(),
            DropReason::Purged => self.groups.over.contains(&at) || !self.groups.all.contains(&at),
            DropReason::QueueFull | DropReason::TooLarge => false,
        };
        if !is_allowed {
            self.fault(format!("{client} gave up {at} of a group ({reason:?}) without need"));
        }
        // Others get what one may not have, if it is not bound to that.
        if reason != DropReason::NotAuthorized || is_bound {
            self.excuse(at);
        }
    }

    /// What waited in a group was given up.
    pub(super) fn on_group_dropped(
        &mut self,
        filter: &str,
        now: Timestamp,
        upto: Offset,
        reason: DropReason,
    ) {
        if reason == DropReason::QueueFull && !self.may_drop {
            self.fault(format!("{filter} was dropped messages up to {upto} without need"));
        }
        let entries = self.groups.owed.get_mut(filter).into_iter().flatten();
        for entry in entries.filter(|entry| entry.message.at <= upto) {
            entry.is_dropped |=
                reason != DropReason::Expired || entry.expires.is_some_and(|at| at <= now);
        }
    }

    fn excuse(&mut self, at: Offset) {
        let entries = self.groups.owed.values_mut().flatten();
        entries.filter(|entry| entry.message.at == at).for_each(|entry| entry.is_dropped = true);
    }
}
