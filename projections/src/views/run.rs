//! Messages to one topic that follow each other in a batch.
//!
//! They are owed together, one session after the other: a session's queue, which is in no cache when
//! there are many, is reached for once, not once for each message.

use std::sync::Arc;

use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

use crate::views::owed::{Entry, References};
use crate::views::sessions::Slot;
use crate::views::subscriptions::{Granted, Match};

/// Messages above QoS 0 for the same sessions, with nothing in between that changes who is owed what
/// or in which order.
#[derive(Debug, Default)]
pub(crate) struct Run {
    matches: Arc<[Match]>,
    /// Whether it makes a difference for one of the matches who published.
    depends_on_publisher: bool,
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
    /// The publisher's session, if the run [depends](Run::depends_on_publisher) on it.
    pub(crate) publisher: Option<Slot>,
}

impl Run {
    /// Whether it is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the next message, which is for `matches`, is one of it.
    pub(crate) fn takes(&self, matches: &Arc<[Match]>) -> bool {
        Arc::ptr_eq(&self.matches, matches)
    }

    /// Begins a run for `matches`; the last one was owed.
    pub(crate) fn begin(&mut self, matches: &Arc<[Match]>) {
        debug_assert!(self.is_empty(), "messages are owed before the next run begins");
        self.matches = Arc::clone(matches);
        self.depends_on_publisher = matches.iter().any(Match::depends_on_publisher);
    }

    /// Whether its messages have to name their publishers.
    pub(crate) fn depends_on_publisher(&self) -> bool {
        self.depends_on_publisher
    }

    /// Adds the next message.
    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Who it is for. It takes no further message then: topics may be remembered anew, and what it
    /// was for is to be held no longer than it lasts.
    pub(crate) fn take_matches(&mut self) -> Arc<[Match]> {
        std::mem::take(&mut self.matches)
    }

    /// What of it is owed to the session of a match.
    pub(crate) fn references(&mut self, found: &Match) -> &References {
        let granted = found.granted(false).filter(|_| !found.depends_on_publisher());
        if granted.is_none() || granted != self.granted {
            self.references.clear();
            let messages = self.messages.iter();
            messages.filter_map(|message| message.entry(found)).for_each(|entry| {
                self.references.push(entry);
            });
            self.granted = granted;
        }
        &self.references
    }

    /// Everything is owed.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.granted = None;
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
}
