//! Which sessions to look at when something may be due. Derived: in no row.

use std::collections::BTreeSet;

use ledgermq_core::offset::Timestamp;

use crate::views::Limits;
use crate::views::session::Session;
use crate::views::sessions::Slot;
use crate::views::shared::{Group, Number};

#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) limits: Limits,
    /// Messages owed to all sessions.
    pub(crate) owed: usize,
    /// What each session may be owed of [`Limits::owed_messages`] if all are owed as much, as of when
    /// it was last looked what is due.
    pub(crate) even_part: usize,
    /// Sessions that were owed more than the limits when last looked at.
    pub(crate) over_limit: BTreeSet<Slot>,
    /// Groups in which more waited than the limits allow when last looked at.
    pub(crate) groups_over_limit: BTreeSet<Number>,
    /// Sessions with expiring messages, each under `Session::owed_expiry`.
    pub(crate) expiries: BTreeSet<(Timestamp, Slot)>,
    /// Groups that owe expiring messages, each under `Group::expiry`.
    pub(crate) group_expiries: BTreeSet<(Timestamp, Number)>,
}

impl Hints {
    /// So many messages more are owed to the session now, of which the first expires at `expires`.
    pub(crate) fn owed(
        &mut self,
        slot: Slot,
        session: &mut Session,
        messages: usize,
        expires: Option<Timestamp>,
    ) {
        self.owed += messages;
        let owed = &session.owed;
        if exceeds((owed.len(), owed.bytes()), &self.limits) || self.is_beyond_part(owed.len()) {
            self.over_limit.insert(slot);
        }
        if let Some(expires) = expires
            && session.owed_expiry.is_none_or(|known| expires < known)
        {
            self.set_expiry(slot, session, Some(expires));
        }
    }

    /// So many messages are owed to sessions no more.
    pub(crate) fn settled(&mut self, messages: u32) {
        self.owed = self.owed.saturating_sub(messages as usize);
    }

    /// Whether too much is owed to all sessions, and so many messages are more than the part of one.
    pub(crate) fn is_beyond_part(&self, messages: usize) -> bool {
        self.owed > self.limits.owed_messages && messages > self.even_part
    }

    /// Whether all sessions together are owed more than they may be.
    pub(crate) fn owes_too_much(&self) -> bool {
        self.owed > self.limits.owed_messages
    }

    /// The limits of one session as things are.
    pub(crate) fn limits_in_force(&self) -> Limits {
        if !self.owes_too_much() {
            return self.limits;
        }
        // Somewhat below, so that not every message is followed by a drop.
        let part = self.even_part - self.even_part / 8;
        Limits { queued_messages: self.limits.queued_messages.min(part), ..self.limits }
    }

    /// A message may wait in the group now; one that expires at `expires` is owed by it.
    pub(crate) fn group(&mut self, number: Number, group: &mut Group, expires: Option<Timestamp>) {
        if exceeds(group.waiting(), &self.limits) {
            self.groups_over_limit.insert(number);
        }
        if let Some(expires) = expires
            && group.expiry.is_none_or(|known| expires < known)
        {
            self.set_group_expiry(number, group, Some(expires));
        }
    }

    /// Puts the session's hint of its next expiry right.
    pub(crate) fn set_expiry(
        &mut self,
        slot: Slot,
        session: &mut Session,
        expires: Option<Timestamp>,
    ) {
        if let Some(old) = std::mem::replace(&mut session.owed_expiry, expires) {
            self.expiries.remove(&(old, slot));
        }
        if let Some(expires) = expires {
            self.expiries.insert((expires, slot));
        }
    }

    /// Puts the group's hint of its next expiry right.
    pub(crate) fn set_group_expiry(
        &mut self,
        number: Number,
        group: &mut Group,
        expires: Option<Timestamp>,
    ) {
        if let Some(old) = std::mem::replace(&mut group.expiry, expires) {
            self.group_expiries.remove(&(old, number));
        }
        if let Some(expires) = expires {
            self.group_expiries.insert((expires, number));
        }
    }

    /// The group is over.
    pub(crate) fn forget_group(&mut self, number: Number, group: &Group) {
        self.groups_over_limit.remove(&number);
        if let Some(expiry) = group.expiry {
            self.group_expiries.remove(&(expiry, number));
        }
    }

    /// The session is gone.
    pub(crate) fn forget(&mut self, slot: Slot, session: &Session) {
        self.over_limit.remove(&slot);
        self.owed = self.owed.saturating_sub(session.owed.len());
        if let Some(expiry) = session.owed_expiry {
            self.expiries.remove(&(expiry, slot));
        }
    }
}

/// Whether so many messages with so many bytes are more than may wait.
pub(crate) fn exceeds((messages, bytes): (usize, u64), limits: &Limits) -> bool {
    messages > limits.queued_messages || bytes > limits.queued_bytes
}
