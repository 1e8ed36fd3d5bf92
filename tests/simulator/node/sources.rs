//! Where a worker reads what its shard does not hold: the views at once, the log when chance wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Index;
use ledgermq_gateway::shard::{Fetched, Sources};
use ledgermq_log::{Log, ReadError};
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::owed::Owed;

use crate::rng::Rng;

/// Batches that stay for slow connections.
const CACHED_MAX: usize = 8;

#[derive(Default)]
pub(crate) struct SimSources {
    pub(crate) reader: Option<Reader>,
    requested: BTreeSet<Index>,
    cache: BTreeMap<Index, Fetched>,
    order: VecDeque<Index>,
}

impl SimSources {
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
        Ok(())
    }
}

impl Sources for SimSources {
    fn batch(&mut self, index: Index) -> Fetched {
        if let Some(fetched) = self.cache.get(&index) {
            return fetched.clone();
        }
        self.requested.insert(index);
        Fetched::Loading
    }

    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index {
        let reader = self.reader.as_ref().expect("set before the shard is turned");
        reader.with(|views| {
            views.owed(client, after, max, out);
            views.applied()
        })
    }
}
