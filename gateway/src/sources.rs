//! Where a worker reads what its shard does not hold: the views at once; the log and what was kept
//! from it on a thread of its own, so that a disk never holds the connections up.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use hashbrown::{HashMap, HashSet};
use ledgermq_core::access::Rules;
use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::{CommittedBatch, Log, ReadError};
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::owed::Owed;
use ledgermq_projections::views::retained::RetainedMessage;

use crate::inbox::{Inbound, Inbox, Loaded};
use crate::shard::{Fetched, Interest, Sources, Volume};

/// Bytes of batches and messages that a worker keeps for its slow connections.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Requests under way.
const REQUESTS_MAX: usize = 64;
/// Topics of which is remembered whether anybody subscribes to them.
const INTEREST_TOPICS_MAX: usize = 1024;
/// Longer ones are asked about each time.
const INTEREST_TOPIC_BYTES_MAX: usize = 1024;
/// Kept messages asked for at a time: the session that needs the first will need the others.
const KEPT_AHEAD_MAX: usize = 32;

/// The sources of one worker. One read of a batch serves all its connections that wait for it.
pub(crate) struct LogSources {
    views: Reader,
    requests: SyncSender<(u64, Wanted)>,
    requested: HashSet<Wanted>,
    /// How often everything was forgotten: answers to what was asked before are not taken.
    generation: u64,
    batches: HashMap<Index, Fetched<Arc<CommittedBatch>>>,
    kept: HashMap<Offset, Fetched<Arc<RetainedMessage>>>,
    /// What the two maps hold, the oldest first, with its bytes.
    order: VecDeque<(Wanted, usize)>,
    bytes: usize,
    /// Whether topics are subscribed to, asked since that last changed.
    interest: HashMap<Box<str>, bool>,
    interest_since: Index,
}

/// What the reader thread is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Batch(Index),
    Kept(Offset),
}

impl LogSources {
    /// The access rules of the views, and up to where these have applied the log.
    pub(crate) fn rules(&self) -> (Index, Rules) {
        self.views.with(|views| (views.applied(), views.access().rules().clone()))
    }

    /// Starts the reader thread; it answers into `inbox` and ends with the sources.
    pub(crate) fn start(
        views: Reader,
        log: Log,
        inbox: Arc<Inbox>,
        worker: usize,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, asked) = sync_channel(REQUESTS_MAX);
        let thread = thread::Builder::new().name(format!("reader-{worker}")).spawn({
            let views = views.clone();
            move || read_all(&asked, &log, &views, &inbox)
        })?;
        let sources = Self {
            views,
            requests,
            requested: HashSet::new(),
            generation: 0,
            batches: HashMap::new(),
            kept: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            interest: HashMap::new(),
            interest_since: 0,
        };
        Ok((sources, thread))
    }

    /// Forgets what was read, and what was not there: the views are others, and so is what was kept.
    pub(crate) fn forget(&mut self) {
        self.generation += 1;
        self.requested.clear();
        self.batches.clear();
        self.kept.clear();
        self.order.clear();
        self.bytes = 0;
        self.interest.clear();
    }

    /// Takes an answer of the reader thread in, to what was asked in this generation.
    pub(crate) fn on_loaded(&mut self, generation: u64, loaded: Loaded) -> Result<(), ReadError> {
        if generation != self.generation {
            return Ok(());
        }
        match loaded {
            Loaded::Batch(index, result) => {
                self.requested.remove(&Wanted::Batch(index));
                let fetched = match result {
                    Ok(Some(batch)) => Fetched::Ready(batch),
                    Err(ReadError::Purged { .. }) => Fetched::Gone,
                    // Not committed: it cannot be owed then. The next look asks again.
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(error),
                };
                let bytes = bytes(&fetched, |batch| batch.bytes());
                if self.batches.insert(index, fetched).is_none() {
                    self.remember(Wanted::Batch(index), bytes);
                }
            }
            Loaded::Kept(at, result) => {
                self.requested.remove(&Wanted::Kept(at));
                // Nothing is known of what cannot be read: the next look asks again.
                let Ok(message) = result else { return Ok(()) };
                let fetched = message.map_or(Fetched::Gone, Fetched::Ready);
                let bytes = bytes(&fetched, |message| {
                    usize::try_from(message.bytes()).unwrap_or(CACHE_BYTES_MAX)
                });
                if self.kept.insert(at, fetched).is_none() {
                    self.remember(Wanted::Kept(at), bytes);
                }
            }
        }
        Ok(())
    }

    /// Makes room for what was put into its map.
    fn remember(&mut self, loaded: Wanted, bytes: usize) {
        self.order.push_back((loaded, bytes));
        self.bytes += bytes;
        // The newest stays, however large: somebody waits for it.
        while self.bytes > CACHE_BYTES_MAX
            && self.order.len() > 1
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            match oldest {
                Wanted::Batch(index) => drop(self.batches.remove(&index)),
                Wanted::Kept(at) => drop(self.kept.remove(&at)),
            }
            self.bytes -= bytes;
        }
    }

    /// Asks the reader thread. A full channel is no loss: the connection asks again at the shard's
    /// next retry.
    fn ask(&mut self, wanted: Wanted) {
        let request = (self.generation, wanted);
        if !self.requested.contains(&wanted) && self.requests.try_send(request).is_ok() {
            self.requested.insert(wanted);
        }
    }

    /// Up to where the views have applied the log.
    pub(crate) fn applied(&self) -> Index {
        self.views.applied()
    }

    /// Whether the views know that the node runs as `start`.
    pub(crate) fn is_ready_as(&self, start: u64) -> bool {
        self.views.is_ready_as(start)
    }

    /// Messages that sessions are owed.
    pub(crate) fn owed_messages(&self) -> u64 {
        self.views.owed_messages()
    }

    /// What the views hold of what the node's limits count.
    pub(crate) fn volume(&self) -> Volume {
        Volume {
            sessions: self.views.persistent_sessions(),
            retained_messages: self.views.retained_messages(),
            retained_bytes: self.views.retained_bytes(),
        }
    }
}

impl Sources for LogSources {
    fn batch(&mut self, index: Index) -> Fetched<Arc<CommittedBatch>> {
        if let Some(fetched) = self.batches.get(&index) {
            return fetched.clone();
        }
        self.ask(Wanted::Batch(index));
        Fetched::Loading
    }

    fn kept(
        &mut self,
        at: Offset,
        ahead: impl Iterator<Item = Offset>,
    ) -> Fetched<Arc<RetainedMessage>> {
        if let Some(fetched) = self.kept.get(&at) {
            return fetched.clone();
        }
        self.ask(Wanted::Kept(at));
        for next in ahead.take(KEPT_AHEAD_MAX - 1) {
            if !self.kept.contains_key(&next) {
                self.ask(Wanted::Kept(next));
            }
        }
        Fetched::Loading
    }

    fn owed(&mut self, client: &str, after: DeliveryRef, max: usize, out: &mut Vec<Owed>) -> Index {
        self.views.with(|views| {
            views.owed(client, after, max, out);
            views.applied()
        })
    }

    fn interest(&mut self, topic: &str) -> Interest {
        let upto = self.views.applied();
        let since = self.views.interest_changed();
        if self.interest_since == since
            && let Some(is_any) = self.interest.get(topic)
        {
            return Interest { is_any: *is_any, since, upto };
        }
        let interest = self.views.with(|views| Interest {
            is_any: views.is_wanted(topic),
            since: views.interest_changed(),
            upto: views.applied(),
        });
        if self.interest_since != interest.since || self.interest.len() == INTEREST_TOPICS_MAX {
            self.interest.clear();
            self.interest_since = interest.since;
        }
        if topic.len() <= INTEREST_TOPIC_BYTES_MAX {
            self.interest.insert(topic.into(), interest.is_any);
        }
        interest
    }

    fn has_session(&mut self, client: &str) -> bool {
        self.views.with(|views| {
            views.sessions().get(client).is_some_and(|session| session.outlives_connection())
        })
    }

    fn is_retained(&mut self, topic: &str) -> bool {
        self.views.with(|views| views.retained().get(topic).is_some())
    }
}

fn bytes<T>(fetched: &Fetched<T>, of: impl FnOnce(&T) -> usize) -> usize {
    const OVERHEAD: usize = 64;
    match fetched {
        Fetched::Ready(content) => OVERHEAD + of(content),
        Fetched::Loading | Fetched::Gone => OVERHEAD,
    }
}

fn read_all(asked: &Receiver<(u64, Wanted)>, log: &Log, views: &Reader, inbox: &Inbox) {
    while let Ok((generation, wanted)) = asked.recv() {
        let loaded = match wanted {
            Wanted::Batch(index) => Loaded::Batch(index, log.read(index)),
            Wanted::Kept(at) => Loaded::Kept(at, views.kept(at)),
        };
        inbox.push(Inbound::Loaded(generation, loaded));
    }
}
