//! Admission, told again: which records count.

use std::collections::BTreeMap;

use ledgermq_core::event::{Event, EventError, EventRef};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Offset;
use ledgermq_log::CommittedBatch;

/// Last sequence of each producer, last start of each node, current epoch of each client.
#[derive(Debug, Default)]
pub(crate) struct Voids {
    sequences: BTreeMap<ProducerId, u64>,
    starts: BTreeMap<u64, u64>,
    epochs: BTreeMap<String, Epoch>,
    /// Openings that came late.
    pub(crate) late: u64,
}

/// The current epoch of a client.
#[derive(Clone, Debug)]
struct Epoch {
    at: Offset,
    /// It ends with its connection, which is to this node.
    transient_at: Option<u64>,
    /// The proven user whose session it is.
    owner: Option<String>,
}

impl Voids {
    /// Which records of the next batch are void, in order.
    pub(crate) fn next(&mut self, batch: &CommittedBatch) -> Vec<bool> {
        let body = batch.batch();
        let ProducerId { node, start, .. } = batch.producer;
        if self.starts.get(&node).is_some_and(|current| start < *current) {
            return body.records().map(|_| true).collect();
        }
        let last = self.sequences.entry(batch.producer).or_insert(0);
        if batch.sequence != *last + 1 {
            return body.records().map(|_| true).collect();
        }
        *last += 1;
        let sessions: Vec<_> = body.sessions().flatten().collect();
        let mut voids = Vec::new();
        for record in body.records().flatten() {
            let session = record.session.map(|slot| sessions[usize::from(slot)]);
            let is_void = session.is_some_and(|session| {
                self.epochs.get(session.client).is_none_or(|epoch| epoch.at != session.epoch)
            });
            let event = record.event();
            let is_late = is_late(batch, &event);
            self.late += u64::from(is_late);
            let is_void = is_void || is_late || self.is_foreign(&event);
            voids.push(is_void);
            if is_void {
                continue;
            }
            match event {
                Ok(EventRef::Other(Event::SessionOpened(opened))) => {
                    let epoch = Epoch {
                        at: Offset::new(batch.index, record.ordinal),
                        transient_at: (opened.session_expiry_interval == 0).then_some(node),
                        owner: opened.username.filter(|_| opened.is_proven),
                    };
                    self.epochs.insert(opened.client.to_string(), epoch);
                }
                Ok(EventRef::Other(Event::NodeStarted { node, start })) => {
                    let current = self.starts.entry(node).or_default();
                    *current = start.max(*current);
                    self.epochs.retain(|_, epoch| epoch.transient_at != Some(node));
                }
                Ok(EventRef::Other(Event::NodeLost { node, start }))
                    if self.starts.get(&node).is_none_or(|least| start >= *least) =>
                {
                    self.starts.insert(node, start + 1);
                    self.epochs.retain(|_, epoch| epoch.transient_at != Some(node));
                }
                Ok(EventRef::Other(
                    Event::SessionExpired | Event::SessionClosed { session_expiry_interval: 0, .. },
                )) => {
                    if let Some(session) = session {
                        self.epochs.remove(session.client);
                    }
                }
                _ => {}
            }
        }
        voids
    }

    /// Whether it opens a session that belongs to another user.
    fn is_foreign(&self, event: &Result<EventRef<'_>, EventError>) -> bool {
        let Ok(EventRef::Other(Event::SessionOpened(opened))) = event else { return false };
        let owner = opened.username.as_ref().filter(|_| opened.is_proven);
        let held = self.epochs.get(opened.client.as_str());
        held.is_some_and(|held| held.owner.is_some() && held.owner.as_ref() != owner)
    }
}

/// Whether it opens a session for a client that may have gone elsewhere.
fn is_late(batch: &CommittedBatch, event: &Result<EventRef<'_>, EventError>) -> bool {
    batch.is_late() && matches!(event, Ok(EventRef::Other(Event::SessionOpened(_))))
}
