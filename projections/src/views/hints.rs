//! Which sessions to look at when something may be due. Derived: in no row.

use std::collections::BTreeSet;

use ledgermq_core::offset::Timestamp;

use crate::views::Limits;
use crate::views::session::Session;
use crate::views::sessions::Slot;

#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) limits: Limits,
    /// Sessions that were owed more than the limits when last looked at.
    pub(crate) over_limit: BTreeSet<Slot>,
    /// Sessions with expiring messages, each under `Session::owed_expiry`.
    pub(crate) expiries: BTreeSet<(Timestamp, Slot)>,
}

impl Hints {
    /// A message that expires at `expires` is owed to the session now.
    pub(crate) fn owed(&mut self, slot: Slot, session: &mut Session, expires: Option<Timestamp>) {
        let owed = &session.owed;
        if owed.len() > self.limits.queued_messages || owed.bytes() > self.limits.queued_bytes {
            self.over_limit.insert(slot);
        }
        if let Some(expires) = expires
            && session.owed_expiry.is_none_or(|known| expires < known)
        {
            self.set_expiry(slot, session, Some(expires));
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

    /// The session is gone.
    pub(crate) fn forget(&mut self, slot: Slot, session: &Session) {
        self.over_limit.remove(&slot);
        if let Some(expiry) = session.owed_expiry {
            self.expiries.remove(&(expiry, slot));
        }
    }
}
