//! The sessions: who they are, where they are, when they expire.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};

use crate::views::presence::Present;
use crate::views::session::Session;

/// Number of a session while it lives: the lowest that was free when it began, so that all nodes
/// give the same.
pub(crate) type Slot = u32;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Box<Session>>>,
    free: BTreeSet<Slot>,
    by_client: BTreeMap<ClientId, Slot>,
    expiring: BTreeSet<(Timestamp, Slot)>,
    present: Present,
    persistent: u64,
}

impl Sessions {
    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// The session of a client.
    #[must_use]
    pub fn get(&self, client: &str) -> Option<&Session> {
        self.by_slot(self.slot(client)?)
    }

    /// The sessions in the order of their clients, from the one behind `after` on.
    pub fn iter(&self, after: Option<&str>) -> impl Iterator<Item = &Session> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_client
            .range::<str, _>((from, Bound::Unbounded))
            .filter_map(|(_, slot)| self.by_slot(*slot))
    }

    /// Number of those that outlive their connections.
    #[must_use]
    pub fn persistent(&self) -> u64 {
        self.persistent
    }

    /// Who is online.
    #[must_use]
    pub fn present(&self) -> &Present {
        &self.present
    }

    pub(crate) fn slot(&self, client: &str) -> Option<Slot> {
        self.by_client.get(client).copied()
    }

    /// The session of `client` if it is at `epoch`.
    pub(crate) fn current(&self, client: &str, epoch: Offset) -> Option<Slot> {
        let slot = self.slot(client)?;
        (self.by_slot(slot)?.epoch() == epoch).then_some(slot)
    }

    pub(crate) fn by_slot(&self, slot: Slot) -> Option<&Session> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(crate) fn by_slot_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, &Session)> {
        (0..).zip(&self.slots).filter_map(|(slot, session)| Some((slot, session.as_deref()?)))
    }

    pub(crate) fn add(&mut self, session: Session) -> Slot {
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions")
        });
        self.put(slot, session);
        slot
    }

    /// Takes a session of a checkpoint in; the gaps are told by [`Sessions::finish_load`].
    pub(crate) fn load(&mut self, slot: Slot, session: Session) {
        while self.slots.len() <= slot as usize {
            self.slots.push(None);
        }
        self.put(slot, session);
    }

    pub(crate) fn finish_load(&mut self) {
        let free = (0..).zip(&self.slots).filter(|(_, session)| session.is_none());
        self.free = free.map(|(slot, _)| slot).collect();
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Box<Session>> {
        self.leave(slot);
        let session = self.slots.get_mut(slot as usize)?.take()?;
        self.by_client.remove(session.client());
        self.free.insert(slot);
        // Free slots at the end vanish: the free ones are then a function of the used ones.
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
            self.free.remove(&Slot::try_from(self.slots.len()).expect("it was a slot"));
        }
        Some(session)
    }

    /// Changes presence or expiry of a session, and keeps the tables of both.
    pub(crate) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Session)) {
        self.leave(slot);
        if let Some(session) = self.by_slot_mut(slot) {
            change(session);
        }
        self.enter(slot);
    }

    /// Offline sessions whose interval has passed at `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> impl Iterator<Item = &Session> {
        self.expiring
            .iter()
            .take_while(move |(deadline, _)| *deadline <= now)
            .filter_map(|(_, slot)| self.by_slot(*slot))
    }

    /// When the next session expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiring.first().map(|(deadline, _)| *deadline)
    }

    fn put(&mut self, slot: Slot, session: Session) {
        self.by_client.insert(session.client().clone(), slot);
        self.slots[slot as usize] = Some(Box::new(session));
        self.enter(slot);
    }

    fn enter(&mut self, slot: Slot) {
        let Some(session) = self.slots.get(slot as usize).and_then(Option::as_deref) else {
            return;
        };
        self.persistent += u64::from(session.outlives_connection());
        if session.presence().is_online() {
            self.present.came(session.node());
        } else if let Some(deadline) = session.expires() {
            self.expiring.insert((deadline, slot));
        }
    }

    fn leave(&mut self, slot: Slot) {
        let Some(session) = self.slots.get(slot as usize).and_then(Option::as_deref) else {
            return;
        };
        self.persistent -= u64::from(session.outlives_connection());
        if session.presence().is_online() {
            self.present.went(session.node());
        } else if let Some(deadline) = session.expires() {
            self.expiring.remove(&(deadline, slot));
        }
    }
}
