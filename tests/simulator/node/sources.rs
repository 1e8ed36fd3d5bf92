//! Where a worker reads what its shard does not hold: the views at once, the log when chance wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset};
use ledgermq_gateway::shard::{Fetched, Interest, Sources};
use ledgermq_log::{CommittedBatch, Log, ReadError};
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::owed::Owed;
use ledgermq_projections::views::retained::RetainedMessage;

use crate::rng::Rng;

/// Batches that stay for slow connections, and kept messages.
const CACHED_MAX: usize = 8;

#[derive(Default)]
pub(crate) struct SimSources {
    pub(crate) reader: Option<Reader>,
    requested: BTreeSet<Index>,
    cache: BTreeMap<Index, Fetched<Arc<CommittedBatch>>>,
    order: VecDeque<Index>,
    requested_kept: BTreeSet<Offset>,
    kept: BTreeMap<Offset, Fetched<Arc<RetainedMessage>>>,
    kept_order: VecDeque<Offset>,
}

impl SimSources {
    /// Forgets what was read, and what was not there: the views are others.
    pub(crate) fn forget(&mut self) {
        *self = Self { reader: self.reader.take(), ..Self::default() };
    }

    /// The reader thread answers some of what was asked.
    pub(crate) fn load(&mut self, log: &Log, rng: &mut Rng) -> Result<(), String> {
        let count = rng.size(1, 8);
        for index in self.requested.iter().copied().take(count).collect::<Vec<_>>() {
            self.requested.remove(&index);
            let fetched = match log.read(index) {
                Ok(Some(batch)) => Fetched::Ready(batch),
                Ok(None) => continue,
                Err(ReadError::Purged { .. }) => Fetched::Gone,
                Err(error) => return Err(format!("a worker cannot read: {error}")),
            };
            self.cache.insert(index, fetched);
            self.order.push_back(index);
            if self.order.len() > CACHED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.cache.remove(&oldest);
            }
        }
        self.load_kept(rng);
        Ok(())
    }

    fn load_kept(&mut self, rng: &mut Rng) {
        let Some(reader) = &self.reader else { return };
        let count = rng.size(1, CACHED_MAX);
        for at in self.requested_kept.iter().copied().take(count).collect::<Vec<_>>() {
            self.requested_kept.remove(&at);
            if let Ok(message) = reader.kept(at) {
                self.kept.insert(at, message.map_or(Fetched::Gone, Fetched::Ready));
                self.kept_order.push_back(at);
            }
            if self.kept_order.len() > CACHED_MAX
                && let Some(oldest) = self.kept_order.pop_front()
            {
                self.kept.remove(&oldest);
            }
        }
    }
}

impl Sources for SimSources {
    fn batch(&mut self, index: Index) -> Fetched<Arc<CommittedBatch>> {
        if let Some(fetched) = self.cache.get(&index) {
            return fetched.clone();
        }
        self.requested.insert(index);
        Fetched::Loading
    }

    fn kept(
        &mut self,
        at: Offset,
        _ahead: impl Iterator<Item = Offset>,
    ) -> Fetched<Arc<RetainedMessage>> {
        if let Some(fetched) = self.kept.get(&at) {
            return fetched.clone();
        }
        self.requested_kept.insert(at);
        Fetched::Loading
    }

    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index {
        let reader = self.reader.as_ref().expect("set before the shard is turned");
        reader.with(|views| {
            views.owed(client, after, max, out);
            views.applied()
        })
    }

    fn interest(&mut self, topic: &str) -> Interest {
        let reader = self.reader.as_ref().expect("set before the shard is turned");
        reader.with(|views| Interest {
            is_any: views.is_wanted(topic),
            since: views.interest_changed(),
            upto: views.applied(),
        })
    }

    fn has_session(&mut self, client: &str) -> bool {
        let reader = self.reader.as_ref().expect("set before the shard is turned");
        reader.with(|views| {
            views.sessions().get(client).is_some_and(|session| session.outlives_connection())
        })
    }

    fn is_retained(&mut self, topic: &str) -> bool {
        let reader = self.reader.as_ref().expect("set before the shard is turned");
        reader.with(|views| views.retained().get(topic).is_some())
    }
}
