//! What others hand to a worker.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ledgermq_core::connection::Refusal;
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Index, Offset};
use ledgermq_core::reason::ReasonCode;
use ledgermq_log::{CommittedBatch, ReadError, Wake};
use ledgermq_projections::checkpoint::StoreError;
use ledgermq_projections::notice::Notice;
use ledgermq_projections::views::retained::RetainedMessage;
use mio::net::TcpStream;
use tokio::sync::oneshot;

use crate::shard::{ConnectionCounts, SysValue, Token};
use crate::transport::Layers;

/// Answer of the reader thread.
#[derive(Debug)]
pub(crate) enum Loaded {
    Batch(Index, Result<Option<Arc<CommittedBatch>>, ReadError>),
    Kept(Offset, Result<Option<Arc<RetainedMessage>>, StoreError>),
}

/// A new Network Connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// What is spoken below MQTT on it; none if nothing.
    pub(crate) layers: Option<Box<Layers>>,
    /// What was read from it before, at most what a worker reads at a time.
    pub(crate) read: Vec<u8>,
    /// What its CONNECT is to be answered by, if it is one too many.
    pub(crate) refusal: Option<Refusal>,
}

/// Something for a worker.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A new Network Connection.
    Accepted(Accepted),
    /// A notice of the projections.
    Notice(Notice),
    /// Something that was asked for, and in which generation of the sources.
    Loaded(u64, Loaded),
    /// What the node says of itself.
    Sys(Arc<[SysValue]>),
    /// The answer to what was asked under `$CONTROL`: to one connection, or to all that subscribed.
    /// Not more than there are questions.
    ControlAnswer(Option<Token>, Arc<SysValue>),
    /// Somebody asks for the counts of a client's connection.
    Count(ClientId, oneshot::Sender<Option<ConnectionCounts>>),
    /// A password was compared.
    Authenticated(Token, Result<(), ReasonCode>),
    /// End all connections and return when the rest is written.
    Drain,
}

/// A queue with one reader that sleeps in its poll.
///
/// It is bounded by what can be under way: connections by `gateway.limits.connections`, notices by
/// the events of the worker's own connections, batches by the worker's requests.
pub(crate) struct Inbox {
    queue: Mutex<Vec<Inbound>>,
    is_asleep: AtomicBool,
    wants_views: AtomicBool,
    waker: mio::Waker,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            is_asleep: AtomicBool::new(false),
            wants_views: AtomicBool::new(false),
            waker,
        }
    }

    /// Hands `inbound` over and wakes the worker if it sleeps.
    pub(crate) fn push(&self, inbound: Inbound) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(inbound);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Moves all that came into `out`.
    pub(crate) fn take(&self, out: &mut Vec<Inbound>) {
        out.append(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says that the worker is about to sleep; false if something came meanwhile. The flag is set
    /// before the look, so that no wake-up is lost.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn awake(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// The worker waits for the views to apply more.
    pub(crate) fn want_views(&self) {
        self.wants_views.store(true, Ordering::SeqCst);
    }

    /// The views applied more.
    pub(crate) fn views_applied(&self) {
        if self.wants_views.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }
}

impl Wake for Inbox {
    fn wake(&self) {
        // It fails only if the worker's poll is gone, and then nobody is to be woken.
        let _ = self.waker.wake();
    }
}

/// The inboxes of all workers, by the number of their producer.
#[derive(Clone)]
pub(crate) struct Inboxes {
    inboxes: Arc<[(u16, Arc<Inbox>)]>,
    next: Arc<AtomicUsize>,
}

impl Inboxes {
    pub(crate) fn new(inboxes: impl Iterator<Item = (u16, Arc<Inbox>)>) -> Self {
        Self { inboxes: inboxes.collect(), next: Arc::default() }
    }

    pub(crate) fn of_producer(&self, local: u16) -> Option<&Inbox> {
        self.inboxes.iter().find(|(number, _)| *number == local).map(|(_, inbox)| &**inbox)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Inbox> {
        self.inboxes.iter().map(|(_, inbox)| &**inbox)
    }

    /// Hands `inbound` to the workers in turn.
    pub(crate) fn deal(&self, inbound: Inbound) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (_, inbox) = &self.inboxes[next % self.inboxes.len()];
        inbox.push(inbound);
    }
}
