//! Admission: which batches and events count. A fold over the log, the same on every node.
//!
//! - A producer's batches count in sequence, each once: `last + 1`, beginning with 1. Anything else
//!   is void as a whole.
//! - Batches of a start that the node has left behind (`NodeStarted`), or that the others have
//!   given up (`NodeLost`), are void.
//! - An event that names a session counts while the session's epoch is the client's current one.
//!   A session whose user is proven belongs to that user: while it lives, a `SessionOpened` of the
//!   same client by anyone else is void. So is one in a batch that came late: its client may have gone
//!   to another node meanwhile, whose session it must not take.
//!   `SessionOpened` begins an epoch and so ends the one before; `SessionExpired`, `SessionClosed`
//!   with an expiry interval of 0, and for such sessions of its node `NodeStarted` and `NodeLost` of
//!   its current start end it.

mod checkpoint;
#[cfg(feature = "testing")]
mod checksum;
mod portable;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ledgermq_core::event::batch::{Batch, BatchSession, Fence};
use ledgermq_core::event::{Event, EventError, EventRef};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Offset};
use serde::{Deserialize, Serialize};

use crate::committed::{CommittedBatch, Voids};

pub(crate) use checkpoint::{Checkpoint, Loaded, load};
pub(crate) use portable::{Parts, write as write_admission};
pub(crate) use sessions::{Session, Sessions};
#[cfg(test)]
pub(crate) use tests::of_a_later_version;

/// The sessions that a batch names and the ordinals from which their records are void.
struct Table<'a> {
    named: &'a [BatchSession<'a>],
    /// Slots sorted by client; made when the first session opens.
    by_client: Vec<(&'a str, usize)>,
    void_from: &'a mut [u32],
    /// Openings that are void.
    openings: Vec<u32>,
    /// The batch came late.
    is_late: bool,
}

impl<'a> Table<'a> {
    fn get_mut(&mut self, slot: usize) -> Option<(BatchSession<'a>, &mut u32)> {
        self.named.get(slot).copied().zip(self.void_from.get_mut(slot))
    }

    /// Voids the records of `client` from `ordinal` on, at whatever epoch.
    fn fence(&mut self, client: &str, ordinal: u32) {
        if self.by_client.is_empty() {
            let slots = self.named.iter().enumerate();
            self.by_client = slots.map(|(slot, session)| (session.client, slot)).collect();
            self.by_client.sort_unstable();
        }
        let first = self.by_client.partition_point(|&(other, _)| other < client);
        let same = self.by_client[first..].iter().take_while(|(other, _)| *other == client);
        for &(_, slot) in same {
            self.void_from[slot] = self.void_from[slot].min(ordinal);
        }
    }
}

/// Producers that are remembered at most; beyond it the one that was silent longest is forgotten,
/// first among those that are not of their node's current start.
const PRODUCERS_MAX: usize = 65_536;
/// The ordinal from which a session's records are void that is none.
const NEVER: u32 = u32::MAX;

/// The fold's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    head: Head,
    sessions: Sessions,
}

/// The small part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Everything up to here was folded.
    applied: Index,
    /// The lowest start of each node that counts.
    nodes: BTreeMap<u64, u64>,
    producers: BTreeMap<ProducerId, Seat>,
}

/// Where a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    sequence: u64,
    at: Index,
}

/// Whether a record comes after the end of its session. An orderly end is the last of its session:
/// nothing is void then.
fn is_any_void(batch: &Batch<'_>, void_from: &[u32]) -> bool {
    void_from.iter().any(|&from| from != NEVER)
        && batch.records().any(|record| match record {
            Ok(record) => record
                .session
                .and_then(|slot| void_from.get(usize::from(slot)))
                .is_some_and(|&from| record.ordinal >= from),
            // Whoever can read it is told the marks.
            Err(_) => true,
        })
}

/// Whether the fold will understand a batch: what it reads of one are its sessions and its fences.
/// Whoever takes a batch on its way into the log asks first, for what is committed every node has to
/// fold.
///
/// # Errors
///
/// What it does not understand.
pub(crate) fn check(batch: &Batch<'_>) -> Result<(), EventError> {
    batch.sessions().try_for_each(|session| session.map(drop))?;
    check_fences(batch)
}

/// The same for a batch of this process, which has made its tables itself.
pub(crate) fn check_fences(batch: &Batch<'_>) -> Result<(), EventError> {
    batch.fences().try_for_each(|fence| batch.record_at(fence)?.event().map(drop))
}

/// About the bytes of a session in a snapshot: a client, two numbers, what ends it.
const SESSION_BYTES: u64 = 64;

impl Admission {
    /// Everything up to this index was folded.
    pub(crate) fn applied(&self) -> Index {
        self.head.applied
    }

    /// About how many bytes it has in a snapshot.
    pub(crate) fn bytes(&self) -> u64 {
        let sessions: usize = self.sessions.shards().iter().map(|shard| shard.len()).sum();
        sessions as u64 * SESSION_BYTES
    }

    /// The highest start of `node` that the log knows of; 0 if there is none.
    pub(crate) fn start_of(&self, node: u64) -> u64 {
        let producers = self.head.producers.keys().filter(|id| id.node == node);
        producers.map(|id| id.start).fold(self.least_start(node), u64::max)
    }

    /// The highest start of `node` as which a process is known to have run: of a node that was lost and
    /// has not begun anew it is the one that was lost. The process may still run, and only from the log
    /// does it hear of it.
    pub(crate) fn known_start(&self, node: u64) -> u64 {
        let lost = self.least_start(node).saturating_sub(1);
        self.live_start(node).unwrap_or(lost)
    }

    /// The highest start of `node` of which anything counts now; none if the node wrote nothing since
    /// it was lost, or never did.
    pub(crate) fn live_start(&self, node: u64) -> Option<u64> {
        let producers = self.head.producers.keys().filter(|id| id.node == node);
        producers.map(|id| id.start).max()
    }

    /// The lowest start of `node` that counts; 0 if all do.
    pub(crate) fn least_start(&self, node: u64) -> u64 {
        self.head.nodes.get(&node).copied().unwrap_or_default()
    }

    /// Sequence of the last batch of `producer` that was admitted; 0 if there is none.
    pub(crate) fn last(&self, producer: ProducerId) -> u64 {
        self.head.producers.get(&producer).map_or(0, |seat| seat.sequence)
    }

    /// Notes that an entry without a batch was passed.
    pub(crate) fn pass(&mut self, index: Index) {
        self.head.applied = index;
    }

    /// Folds a batch and says what of it is void.
    ///
    /// # Errors
    ///
    /// If the batch's tables or fences cannot be read: its producer wrote what this version does
    /// not know. [`check`] finds it before.
    pub(crate) fn apply(&mut self, batch: &CommittedBatch) -> Result<Voids, EventError> {
        debug_assert!(batch.index > self.head.applied, "the log is folded in order");
        self.head.applied = batch.index;
        if !self.admit(batch.producer, batch.sequence, batch.index) {
            return Ok(Voids::All);
        }
        self.fold(batch)
    }

    fn admit(&mut self, producer: ProducerId, sequence: u64, at: Index) -> bool {
        if producer.start < self.least_start(producer.node) {
            return false;
        }
        if sequence != self.last(producer) + 1 {
            return false;
        }
        self.head.producers.insert(producer, Seat { sequence, at });
        if self.head.producers.len() > PRODUCERS_MAX {
            self.forget_one(producer);
        }
        true
    }

    /// Forgets a producer, all of whose batches are void from here on: not `heard`, whose next one
    /// comes, and not one of a process that runs if there is another.
    fn forget_one(&mut self, heard: ProducerId) {
        let Head { nodes, producers, .. } = &mut self.head;
        let is_current = |id: &ProducerId| nodes.get(&id.node) == Some(&id.start);
        let others = producers.iter().filter(|(id, _)| **id != heard);
        let silent = others.min_by_key(|(id, seat)| (is_current(id), seat.at, **id));
        if let Some(id) = silent.map(|(id, _)| *id) {
            producers.remove(&id);
        }
    }

    fn fold(&mut self, committed: &CommittedBatch) -> Result<Voids, EventError> {
        let (index, batch) = (committed.index, &committed.batch());
        let named: Vec<BatchSession<'_>> = batch.sessions().collect::<Result<_, _>>()?;
        let mut void_from: Vec<u32> = named
            .iter()
            .map(|session| if self.sessions.is_current(session) { NEVER } else { 0 })
            .collect();
        let (by_client, openings) = (Vec::new(), Vec::new());
        let is_late = committed.is_late();
        let mut table =
            Table { named: &named, by_client, void_from: &mut void_from, openings, is_late };
        for fence in batch.fences() {
            self.pass_fence(index, batch, fence, &mut table)?;
        }
        let openings = table.openings;
        if openings.is_empty() && !is_any_void(batch, &void_from) {
            return Ok(Voids::None);
        }
        Ok(Voids::Records { from: void_from.into(), openings: openings.into() })
    }

    fn pass_fence(
        &mut self,
        index: Index,
        batch: &Batch<'_>,
        fence: Fence,
        table: &mut Table<'_>,
    ) -> Result<(), EventError> {
        let record = batch.record_at(fence)?;
        let EventRef::Other(event) = record.event()? else { return Ok(()) };
        let slot = record.session.map(usize::from);
        match event {
            Event::SessionOpened(opened) => {
                let owner = opened.username.filter(|_| opened.is_proven).map(Into::into);
                let session = Session {
                    epoch: Offset::new(index, fence.ordinal),
                    node: opened.node,
                    ends_with_connection: opened.session_expiry_interval == 0,
                    owner,
                };
                if table.is_late || !self.sessions.open(&opened.client, session) {
                    table.openings.push(fence.ordinal);
                    return Ok(());
                }
                // No batch can name the epoch that begins in it: whoever it names is fenced.
                table.fence(&opened.client, fence.ordinal);
            }
            Event::SessionExpired | Event::SessionClosed { session_expiry_interval: 0, .. } => {
                // An end that names no session ends none.
                let Some((session, from)) = slot.and_then(|slot| table.get_mut(slot)) else {
                    return Ok(());
                };
                if fence.ordinal < *from {
                    self.sessions.end(session.client);
                    *from = fence.ordinal + 1;
                }
            }
            Event::NodeStarted { node, start } => {
                self.start_node(node, start);
                self.void_ended(fence, table);
            }
            Event::NodeLost { node, start } => {
                self.lose_node(node, start);
                self.void_ended(fence, table);
            }
            Event::SessionClosed { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::MessageReleased { .. }
            | Event::DeliveryStarted { .. }
            | Event::DeliveryReceived { .. }
            | Event::DeliveryProgressed { .. }
            | Event::MessageDropped { .. }
            | Event::SharedSettled { .. }
            | Event::SharedDropped { .. }
            | Event::AccessRulesReplaced { .. } => {}
        }
        Ok(())
    }

    fn start_node(&mut self, node: u64, start: u64) {
        let current = self.head.nodes.entry(node).or_default();
        *current = start.max(*current);
        let start = *current;
        self.head.producers.retain(|id, _| id.node != node || id.start >= start);
        self.sessions.end_connections_of(node);
    }

    /// Ends a start of a node, unless the node has left it behind: what is there then is of a later
    /// one. The next start that counts is the one after it.
    fn lose_node(&mut self, node: u64, start: u64) {
        if start >= self.least_start(node) {
            self.start_node(node, start.saturating_add(1));
        }
    }

    /// Voids the rest of the batch for the sessions that ended at `fence` by what it says of a node.
    fn void_ended(&self, fence: Fence, table: &mut Table<'_>) {
        for (session, from) in table.named.iter().zip(table.void_from.iter_mut()) {
            if *from == NEVER && !self.sessions.is_current(session) {
                *from = fence.ordinal + 1;
            }
        }
    }
}
