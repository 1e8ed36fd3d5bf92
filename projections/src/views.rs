//! All views, and the fold that dispatches to them.

pub mod access;
mod delivery;
mod dirty;
pub mod due;
mod fold;
mod hints;
mod interest;
mod lifecycle;
mod message;
mod nodes;
mod publishing;
pub(crate) mod rows;
mod run;
mod sharing;
mod subscribing;
mod subscriptions;
mod wills;

pub mod counters;
pub mod owed;
pub mod presence;
pub mod retained;
pub mod session;
pub mod sessions;
pub mod shared;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::CommittedBatch;

use crate::notice::Notice;
use crate::views::access::Access;
use crate::views::counters::Counters;
use crate::views::dirty::{Dirty, Row};
use crate::views::fold::{Place, Sources};
use crate::views::hints::Hints;
use crate::views::interest::Interest;
use crate::views::owed::{BATCH_RECORDS_MAX, INDEX_MAX, Owed, OwedSource};
use crate::views::retained::Retained;
use crate::views::run::Run;
use crate::views::session::Session;
use crate::views::sessions::Sessions;
use crate::views::shared::Groups;
use crate::views::subscriptions::Subscriptions;
use crate::views::topics::Topics;
use crate::views::wills::Wills;

pub use fold::Broken;

/// How much may be owed to one session or group. Beyond it the oldest messages go, by an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages, those outstanding (of a group: those that a member holds) not counted.
    pub queued_messages: usize,
    /// Bytes of these messages.
    pub queued_bytes: u64,
    /// Messages owed to all sessions together. Beyond it those sessions that are owed more than their
    /// part, were it dealt out evenly, lose their oldest.
    pub owed_messages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queued_messages: 100_000, queued_bytes: 256 << 20, owed_messages: usize::MAX }
    }
}

/// Everything that the log's events add up to, at one index.
#[derive(Default)]
pub struct Views {
    applied: Index,
    time: Timestamp,
    sessions: Sessions,
    subscriptions: Subscriptions,
    groups: Groups,
    retained: Retained,
    wills: Wills,
    topics: Topics,
    counters: Counters,
    access: Access,
    /// Start epoch of each node's running process.
    nodes: BTreeMap<u64, u64>,
    /// The first `Broken` met: nothing is applied any more.
    broken: Option<Broken>,

    // Derived or configured: in no row, and no part of what the fold is.
    kept_upto: Index,
    dirty: Dirty,
    hints: Hints,
    interest: Interest,
    /// Messages of the batch that is folded; empty behind it.
    run: Run,
}

impl Views {
    /// Messages owed to all sessions together.
    #[must_use]
    pub fn owed_messages(&self) -> usize {
        self.hints.owed
    }

    /// Empty views, before the first event.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let hints = Hints { limits, ..Hints::default() };
        Self { hints, ..Self::default() }
    }

    /// Folds a batch in. Void records count for nothing; a batch that was applied before is
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`Broken`] if a record cannot be read, which the log's checks rule out. The views then
    /// stand still: every further call gives the same error.
    pub fn apply(
        &mut self,
        batch: &CommittedBatch,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        if batch.index <= self.applied {
            return Ok(());
        }
        let result = self.apply_records(batch, notices);
        match result {
            Ok(()) => {
                self.applied = batch.index;
                self.interest.end_batch(batch.index);
            }
            Err(broken) => self.broken = Some(broken),
        }
        result
    }

    /// There is no batch between the last one that was applied and the one behind `index`.
    pub(crate) fn pass(&mut self, index: Index) {
        self.applied = self.applied.max(index);
    }

    /// The index up to which everything is applied; 0 before the first batch.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Time of the last batch applied.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The session of a client.
    #[must_use]
    pub fn session(&self, client: &str) -> Option<&Session> {
        self.sessions.get(client)
    }

    /// The retained messages.
    #[must_use]
    pub fn retained(&self) -> &Retained {
        &self.retained
    }

    /// The topics and their rates.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// What happened how often.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of wills that wait to be published.
    #[must_use]
    pub fn pending_wills(&self) -> usize {
        self.wills.len()
    }

    /// Whether any session, connected or not, subscribes to `topic`.
    #[must_use]
    pub fn is_wanted(&self, topic: &str) -> bool {
        self.interest.is_in(topic)
    }

    /// Index of the last batch that changed what [`Views::is_wanted`] answers; where the views were
    /// loaded, if none did since.
    #[must_use]
    pub fn interest_changed(&self) -> Index {
        self.interest.changed()
    }

    /// Number of subscriptions of persistent sessions.
    #[must_use]
    pub fn persistent_subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Number of groups of Shared Subscriptions.
    #[must_use]
    pub fn shared_groups(&self) -> usize {
        self.groups.len()
    }

    /// Number of messages that all groups together owe, and of those of them that no member holds.
    /// The work is in proportion to the number of groups.
    #[must_use]
    pub fn shared_messages(&self) -> (usize, usize) {
        let groups = self.groups.iter().map(|(_, group)| (group.owed().len(), group.waiting().0));
        groups.fold((0, 0), |(owed, waiting), (more, held_by_none)| {
            (owed + more, waiting + held_by_none)
        })
    }

    /// Number of messages that a group owes, and of those of them that no member holds; none if
    /// there is no such group.
    #[must_use]
    pub fn shared_owed(&self, filter: &TopicFilter) -> Option<(usize, usize)> {
        let group = self.groups.get(self.groups.number(filter)?)?;
        Some((group.owed().len(), group.waiting().0))
    }

    /// Start epoch of a node's running process, if it was ever started.
    #[must_use]
    pub fn node_start(&self, node: u64) -> Option<u64> {
        self.nodes.get(&node).copied()
    }

    /// Appends to `out` the messages owed to the persistent session of `client` after `after`,
    /// oldest first, at most `max`: everything unsettled, also what is outstanding, but QoS 2
    /// messages that the client has received. Exact as of [`Views::applied`]; nothing if there
    /// is no such session.
    pub fn owed(&self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) {
        let Some(session) = self.sessions.get(client) else {
            return;
        };
        out.extend(session.owed.after(after).take(max).map(|entry| {
            let message = entry.message();
            let answer = entry.is_answer().then(|| session.owed.answer(message)).flatten();
            let source = match answer {
                Some(answer) => OwedSource::Answer(answer.clone()),
                None if message.at.index <= self.kept_upto => OwedSource::Kept,
                None => OwedSource::Log,
            };
            Owed { message, qos: entry.qos(), retain: entry.retain(), source }
        }));
    }

    /// The messages in the log behind index `after` and up to `upto` that are owed to anybody, in
    /// order, each once.
    #[must_use]
    pub fn owed_between(&self, after: Index, upto: Index) -> BTreeSet<Offset> {
        let mut owed = BTreeSet::new();
        let after = DeliveryRef { at: Offset::new(after, u32::MAX), nth: u32::MAX };
        let sessions = self.sessions.slots().map(|(_, session)| &session.owed);
        for set in sessions.chain(self.groups.iter().map(|(_, group)| group.owed())) {
            let messages = set.after(after).filter(|entry| !entry.is_answer());
            let places = messages.map(|entry| entry.message().at);
            owed.extend(places.take_while(|at| at.index <= upto));
        }
        owed
    }

    /// What is owed up to `upto` was kept: [`Views::owed`] says so.
    pub fn set_kept(&mut self, upto: Index) {
        self.kept_upto = upto;
    }

    fn apply_records(
        &mut self,
        batch: &CommittedBatch,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Broken> {
        let body = batch.batch();
        let first = Offset::new(batch.index, 0);
        if batch.index > INDEX_MAX || body.len() > BATCH_RECORDS_MAX {
            return Err(Broken { at: first, what: "more than references can name" });
        }
        self.time = batch.time;
        let dirty = &mut self.dirty;
        self.retained.expire(batch.time, |topic| dirty.touch(Row::Retained(topic.into())));
        self.topics.begin(batch.time);
        self.dirty.touch(Row::Counters);
        if batch.is_admitted() {
            let mut sources = Sources::new(body);
            let mut at = first;
            for record in body.records() {
                let record = record.map_err(|error| Broken { at, what: error.0 })?;
                at.ordinal = record.ordinal;
                if batch.is_clean() || !batch.is_void(&record) {
                    let place = Place { at, time: batch.time, producer: batch.producer };
                    self.fold(&place, &record, &mut sources, notices)?;
                }
            }
        }
        self.owe_run();
        self.topics.end(&mut self.dirty.topics());
        self.tell_given(batch.index, notices);
        Ok(())
    }
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views")
            .field("applied", &self.applied)
            .field("sessions", &self.sessions.len())
            .field("retained", &self.retained.len())
            .finish_non_exhaustive()
    }
}
