//! What must be true: a slow and simple fold of the committed log, written apart from the broker's.

pub(crate) mod access;
mod groups;
mod model;
mod owing;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod voids;
mod wills;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledgermq_core::event::batch::{Batch, Record};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::book::Uid;

pub(crate) use session::{Life, OwedEntry, Process, Session};
pub(crate) use voids::Voids;

/// The committed history and what follows from it.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Every batch that was ever committed, from index 1; none for raft's own entries.
    pub(crate) history: BTreeMap<Index, Arc<CommittedBatch>>,
    pub(crate) last_index: Index,
    /// The last entry that any node showed as committed, a batch or not.
    pub(crate) last_entry: Index,
    pub(crate) time: Timestamp,
    pub(crate) voids: Voids,
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Sessions from their making to their end, in order.
    pub(crate) lives: Vec<Life>,
    /// By the address of a connection: what its opening found.
    pub(crate) opened: BTreeMap<String, Opened>,
    pub(crate) groups: groups::Groups,
    pub(crate) retained: BTreeMap<String, Retained>,
    pub(crate) wills: wills::Wills,
    pub(crate) access: access::Access,
    /// By batch: how many changes of the rules its shard knew when it took what stands in it.
    pub(crate) staged: BTreeMap<(ProducerId, u64), usize>,
    /// How many changes there had been when a message was committed first.
    pub(crate) rules_at: BTreeMap<Uid, usize>,
    /// How often a message stands in the log and counts.
    pub(crate) published: BTreeMap<Uid, u32>,
    /// Messages to which nobody subscribed when they were committed, once at least.
    pub(crate) unheard: BTreeSet<Uid>,
    /// How often (client, filter) was subscribed, and given up.
    pub(crate) subscribed: BTreeMap<(String, String), u32>,
    pub(crate) unsubscribed: BTreeMap<(String, String), u32>,
    /// How often a client released QoS 2 messages.
    pub(crate) released: BTreeMap<String, u32>,
    /// Snapshots that took the place of what nodes had.
    pub(crate) snapshots: u64,
    /// Void records and batches met.
    pub(crate) void_records: u64,
    /// What no invariant had the chance to say yet.
    pub(crate) faults: Vec<String>,
    /// Whether messages may be given up because too many wait.
    pub(crate) may_drop: bool,
    /// Whether sessions that end with their connection were dropped messages for that reason.
    pub(crate) may_lose_transient: bool,
}

/// An opening of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) life: usize,
    pub(crate) epoch: Offset,
    pub(crate) is_resumed: bool,
    /// How many changes of the access rules stand before it.
    pub(crate) rules: usize,
}

/// A retained message.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub(crate) uid: Option<Uid>,
    pub(crate) qos: ledgermq_core::packet::QoS,
    pub(crate) at: Offset,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) publisher: Option<String>,
}

impl Oracle {
    /// Takes a committed batch. One that was seen before must be the same again.
    pub(crate) fn on_committed(&mut self, batch: &Arc<CommittedBatch>) {
        if batch.index <= self.last_index {
            return self.compare(batch);
        }
        if batch.time < self.time {
            self.fault(format!("the log's time ran backwards at {}", batch.index));
        }
        self.time = batch.time;
        self.last_index = batch.index;
        self.history.insert(batch.index, Arc::clone(batch));
        self.apply(batch);
    }

    /// What the log said of its end after a restart.
    pub(crate) fn on_recovered(&mut self, commit: Index) {
        if commit < self.last_index {
            let last = self.last_index;
            self.fault(format!("index {last} was committed, the log came back with {commit}"));
        }
    }

    /// Whether the session is still that of the connection, as far as the log knows.
    pub(crate) fn is_connected(&self, opened: &Opened) -> bool {
        let session = self.sessions.get(&self.lives[opened.life].client);
        session.is_some_and(|session| session.epoch == opened.epoch && session.online.is_some())
    }

    pub(crate) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    fn compare(&mut self, again: &CommittedBatch) {
        let index = again.index;
        let Some(before) = self.history.get(&index) else {
            return self.fault(format!("an entry of raft's own became a batch at {index}"));
        };
        let voids = |batch: &CommittedBatch| -> Vec<bool> {
            batch.batch().records().flatten().map(|record| batch.is_void(&record)).collect()
        };
        let is_same = before.time == again.time
            && before.producer == again.producer
            && before.sequence == again.sequence
            && before.bytes() == again.bytes()
            && voids(before) == voids(again)
            && is_same_content(before, again);
        if !is_same {
            self.fault(format!("the batch at {index} is another than it was"));
        }
    }
}

fn is_same_content(one: &CommittedBatch, other: &CommittedBatch) -> bool {
    let (one, other) = (one.batch(), other.batch());
    let sessions = |batch: &Batch<'_>| -> Vec<_> {
        let sessions = batch.sessions().flatten();
        sessions.map(|session| (session.client.to_owned(), session.epoch)).collect()
    };
    let is_same = |(one, other): (Record<'_>, Record<'_>)| {
        (one.ordinal, one.session, one.cause) == (other.ordinal, other.session, other.cause)
            && one.event() == other.event()
    };
    one.len() == other.len()
        && sessions(&one) == sessions(&other)
        && one.records().flatten().zip(other.records().flatten()).all(is_same)
}
