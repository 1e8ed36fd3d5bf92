//! Where a worker reads what its shard does not hold: the views at once, the log on a thread of
//! its own, so that a disk never holds the connections up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use hashbrown::{HashMap, HashSet};
use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Index;
use ledgermq_log::{Log, ReadError};
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::owed::Owed;

use crate::inbox::{Inbound, Inbox, Loaded};
use crate::shard::{Fetched, Sources};

/// Bytes of batches that a worker keeps for its slow connections.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Requests under way.
const REQUESTS_MAX: usize = 64;

/// The sources of one worker. One read of a batch serves all its connections that wait for it.
pub(crate) struct LogSources {
    views: Reader,
    requests: SyncSender<Index>,
    requested: HashSet<Index>,
    cache: HashMap<Index, Fetched>,
    order: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl LogSources {
    /// Starts the reader thread; it answers into `inbox` and ends with the sources.
    pub(crate) fn start(
        views: Reader,
        log: Log,
        inbox: Arc<Inbox>,
        worker: usize,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, asked) = sync_channel(REQUESTS_MAX);
        let thread = thread::Builder::new()
            .name(format!("reader-{worker}"))
            .spawn(move || read_batches(&asked, &log, &inbox))?;
        let sources = Self {
            views,
            requests,
            requested: HashSet::new(),
            cache: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
        };
        Ok((sources, thread))
    }

    /// Takes an answer of the reader thread in.
    pub(crate) fn on_loaded(&mut self, index: Index, loaded: Loaded) -> Result<(), ReadError> {
        self.requested.remove(&index);
        let fetched = match loaded {
            Ok(Some(batch)) => Fetched::Ready(batch),
            Err(ReadError::Purged { .. }) => Fetched::Gone,
            // Not committed: it cannot be owed then. The next look asks again.
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = match &fetched {
            Fetched::Ready(batch) => batch.bytes(),
            Fetched::Loading | Fetched::Gone => 64,
        };
        if self.cache.insert(index, fetched).is_none() {
            self.order.push_back((index, bytes));
            self.bytes += bytes;
        }
        // The newest stays, however large: somebody waits for it.
        while self.bytes > CACHE_BYTES_MAX
            && self.order.len() > 1
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.cache.remove(&oldest);
            self.bytes -= bytes;
        }
        Ok(())
    }

    /// Number of retained messages and their bytes.
    pub(crate) fn retained(&self) -> (u64, u64) {
        (self.views.retained_messages(), self.views.retained_bytes())
    }
}

impl Sources for LogSources {
    fn batch(&mut self, index: Index) -> Fetched {
        if let Some(fetched) = self.cache.get(&index) {
            return fetched.clone();
        }
        // A full channel is no loss: the connection asks again at the shard's next retry.
        if !self.requested.contains(&index) && self.requests.try_send(index).is_ok() {
            self.requested.insert(index);
        }
        Fetched::Loading
    }

    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index {
        self.views.with(|views| {
            views.owed(client, after, max, out);
            views.applied()
        })
    }
}

fn read_batches(asked: &Receiver<Index>, log: &Log, inbox: &Inbox) {
    while let Ok(index) = asked.recv() {
        inbox.push(Inbound::Loaded(index, log.read(index)));
    }
}
