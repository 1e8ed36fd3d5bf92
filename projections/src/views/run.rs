//! Messages to one topic that follow each other in a batch.
//!
//! They are owed together, one session after the other: a session's queue, which is in no cache when
//! there are many, is reached for once, not once for each message.

use std::sync::Arc;

use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

use crate::views::dirty::Dirty;
use crate::views::hints::Hints;
use crate::views::owed::{Entry, References};
use crate::views::sessions::{Sessions, Slot};
use crate::views::subscriptions::{Granted, Match};

/// Sessions from which on a run is worth its while: for fewer each message is owed by itself.
const MATCHES_MIN: usize = 4;

/// Messages above QoS 0 for the same sessions, with nothing in between that changes who is owed what
/// or in which order.
#[derive(Debug, Default)]
pub(crate) struct Run {
    matches: Arc<[Match]>,
    messages: Vec<Message>,
    references: References,
    /// What `references` was made for.
    granted: Option<Granted>,
}

/// A message of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) at: Offset,
    pub(crate) bytes: usize,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expires: Option<Timestamp>,
    /// The publisher's session, if that makes a difference for one of the matches.
    pub(crate) publisher: Option<Slot>,
}

/// What changes when messages are owed.
pub(crate) struct Owing<'v> {
    pub(crate) sessions: &'v mut Sessions,
    pub(crate) hints: &'v mut Hints,
    pub(crate) dirty: &'v mut Dirty,
}

impl Run {
    /// Takes the next message, which is for `matches`. It may be owed at once, and what came before
    /// it is if it is none of the run.
    pub(crate) fn push(&mut self, message: Message, matches: &Arc<[Match]>, mut owing: Owing<'_>) {
        if Arc::ptr_eq(&self.matches, matches) {
            return self.messages.push(message);
        }
        if !self.messages.is_empty() {
            let Owing { sessions, hints, dirty } = &mut owing;
            self.owe(Owing { sessions, hints, dirty });
        }
        if matches.len() < MATCHES_MIN {
            return message.owe(matches, owing);
        }
        self.matches = Arc::clone(matches);
        self.messages.push(message);
    }

    /// Has its messages owed: before anything else is folded that changes who is owed what.
    pub(crate) fn owe(&mut self, owing: Owing<'_>) {
        if self.messages.is_empty() {
            return;
        }
        // Topics may be remembered anew: the matches are held no longer than the run lasts.
        for found in &*std::mem::take(&mut self.matches) {
            let references = self.references(found);
            let messages = references.entries().len();
            let Some(session) = owing.sessions.by_slot_mut(found.slot).filter(|_| messages > 0)
            else {
                continue;
            };
            session.owed.push_all(references, owing.dirty.owed(found.slot));
            owing.hints.owed(found.slot, session, messages, references.soonest());
        }
        self.messages.clear();
        self.granted = None;
    }

    /// What of it is owed to the session of a match: mostly the same as to the one before.
    fn references(&mut self, found: &Match) -> &References {
        let granted = found.granted(false).filter(|_| !found.depends_on_publisher());
        if granted.is_none() || granted != self.granted {
            self.references.clear();
            for entry in self.messages.iter().filter_map(|message| message.entry(found)) {
                self.references.push(entry);
            }
            self.granted = granted;
        }
        &self.references
    }
}

impl Message {
    /// The reference to it that is owed to the session of a match, if any is.
    fn entry(&self, found: &Match) -> Option<Entry> {
        let granted = found.granted(self.publisher == Some(found.slot))?;
        let qos = granted.qos.min(self.qos);
        let retain = self.retain && granted.retain_as_published;
        let is_owed = qos > QoS::AtMostOnce;
        is_owed.then(|| Entry::message_at(self.at, self.bytes, qos, retain, self.expires))
    }

    /// Has it owed by itself.
    fn owe(&self, matches: &[Match], owing: Owing<'_>) {
        for found in matches {
            let Some(entry) = self.entry(found) else { continue };
            let Some(session) = owing.sessions.by_slot_mut(found.slot) else { continue };
            session.owed.push(entry).into_iter().for_each(owing.dirty.owed(found.slot));
            owing.hints.owed(found.slot, session, 1, entry.expires());
        }
    }
}
