//! What the log thread and everybody else share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use hashbrown::HashMap;
use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Index;
use raft::eraftpb::Entry;

use crate::class::{Class, Gate};
use crate::cluster::Members;
use crate::commanding::Commanding;
use crate::committed::{CommittedBatch, Voids};
use crate::deriving::Deriving;
use crate::envelope;
use crate::error::{Full, ReadError};
use crate::receipt::{Pushed, Receipt};
use crate::ring::Ring;
use crate::sleepers::Sleepers;
use crate::snapshots::Snapshots;
use crate::staging::Staging;
use crate::status::{ClusterStatus, Status};
use crate::store::{LogReader, Missing};
use crate::wake::Wake;

/// Bytes read from the disk at a time by tails that are far behind.
const READ_BYTES: usize = 1 << 20;
/// Entries taken from one such read at most.
const READ_ENTRIES_MAX: u64 = 1024;

/// The meeting place of the log thread, producers and tails. Every lock is held for a moment only.
/// Two are held at once in three places: an append keeps `receipts.waiting` over its push, so that its
/// place is there before its receipt; a new incarnation begins under both of these; and who waits for a receipt or a mark looks at the gate. Nobody
/// takes `receipts.waiting` or `mark.reached` with another lock held, or any with the gate held.
pub(crate) struct Shared {
    pub(crate) staging: Mutex<Staging>,
    pub(crate) ring: Mutex<Ring>,
    pub(crate) sleepers: Sleepers,
    pub(crate) gate: RwLock<Gate>,
    pub(crate) status: Mutex<Status>,
    /// What is void in the hot log; only batches that have something void.
    pub(crate) voids: RwLock<BTreeMap<Index, Voids>>,
    pub(crate) reader: Arc<dyn LogReader>,
    pub(crate) receipts: Receipts,
    pub(crate) deriving: Mutex<Deriving>,
    pub(crate) commanding: Mutex<Commanding>,
    pub(crate) cluster: Mutex<ClusterStatus>,
    /// The members as applied.
    pub(crate) members: Mutex<Arc<Members>>,
    /// The cut that is wanted, and the snapshot that came.
    pub(crate) snapshots: Mutex<Snapshots>,
    cache: Mutex<Cache>,
    /// Everything up to here is in the checkpoint of the projections.
    pub(crate) checkpointed: AtomicU64,
    /// Nothing up to here is needed any more.
    pub(crate) purge_allowed: AtomicU64,
    pub(crate) mark: Mark,
    /// An entry that somebody found damaged; 0 if there is none.
    pub(crate) damaged: AtomicU64,
    /// Others may have what cannot be read here: this node begins again as soon as they let it.
    pub(crate) has_others: AtomicBool,
    pub(crate) is_stopping: AtomicBool,
    /// This node is not to lead any more.
    pub(crate) is_handing_over: Mutex<bool>,
    /// An operator drains this node.
    pub(crate) is_draining: AtomicBool,
    /// Another incarnation is wanted.
    pub(crate) is_renewal_wanted: AtomicBool,
    /// The log thread sleeps.
    pub(crate) is_asleep: AtomicBool,
    /// Wakes it.
    pub(crate) sleeper: OnceLock<Arc<dyn Wake>>,
    pub(crate) node: u64,
    /// Number of this start; raised before anybody has the log, and by [`Shared::renew`].
    start: AtomicU64,
}

/// Receipts of appends that wait for theirs, by start and sequence of the log's own producer.
#[derive(Default)]
pub(crate) struct Receipts {
    pub(crate) waiting: Mutex<HashMap<(u64, u64), Option<Receipt>>>,
    pub(crate) changed: Condvar,
}

/// How far the log's watermark is: a start that finds less than that refuses to open.
#[derive(Default)]
pub(crate) struct Mark {
    pub(crate) wanted: AtomicU64,
    pub(crate) reached: Mutex<Index>,
    pub(crate) changed: Condvar,
}

impl Shared {
    pub(crate) fn new(
        reader: Arc<dyn LogReader>,
        ring: Ring,
        status: Status,
        cache_bytes_max: usize,
        node: u64,
        start: u64,
    ) -> Self {
        Self {
            staging: Mutex::default(),
            ring: Mutex::new(ring),
            sleepers: Sleepers::default(),
            gate: RwLock::new(Gate::Open),
            status: Mutex::new(status),
            voids: RwLock::default(),
            reader,
            receipts: Receipts::default(),
            deriving: Mutex::default(),
            commanding: Mutex::default(),
            cluster: Mutex::default(),
            members: Mutex::default(),
            snapshots: Mutex::default(),
            cache: Mutex::new(Cache { bytes_max: cache_bytes_max, ..Cache::default() }),
            checkpointed: AtomicU64::new(0),
            purge_allowed: AtomicU64::new(0),
            mark: Mark::default(),
            damaged: AtomicU64::new(0),
            has_others: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_handing_over: Mutex::new(false),
            is_draining: AtomicBool::new(false),
            is_renewal_wanted: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            sleeper: OnceLock::new(),
            node,
            start: AtomicU64::new(start),
        }
    }

    /// The same with what is void in the hot log.
    pub(crate) fn with_voids(mut self, voids: BTreeMap<Index, Voids>) -> Self {
        self.voids = RwLock::new(voids);
        self
    }

    /// Number of this start of the node.
    pub(crate) fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    pub(crate) fn raise_start(&self, least: u64) {
        self.start.fetch_max(least, Ordering::Relaxed);
    }

    pub(crate) fn push(
        &self,
        producer: ProducerId,
        class: Class,
        events: &mut BatchBuilder,
    ) -> Result<Pushed, Full> {
        let pushed = lock(&self.staging).push(producer, class, events)?;
        self.wake_thread();
        Ok(pushed)
    }

    /// Has the log thread look again, if it sleeps.
    pub(crate) fn wake_thread(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.wake();
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_gate(&self, gate: Gate) {
        let mut current = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        // A log that has stopped stays so.
        if matches!(*current, Gate::Stopped { .. }) || *current == gate {
            return;
        }
        *current = gate;
        drop(current);
        // Who sleeps may have to send its clients away.
        self.sleepers.wake_all();
    }

    /// The log has stopped: nobody may wait for it any longer.
    pub(crate) fn stopped(&self, reason: &str) {
        self.set_gate(Gate::Stopped { reason: Arc::from(reason) });
        self.sleepers.wake_all();
        lock(&self.staging).wake_all();
        lock(&self.deriving).stop();
        lock(&self.commanding).stop();
        drop(lock(&self.receipts.waiting));
        self.receipts.changed.notify_all();
        drop(lock(&self.mark.reached));
        self.mark.changed.notify_all();
    }

    /// Reads committed batches from the disk: from `from` on, at most to `upto`; says which index
    /// comes then.
    pub(crate) fn read_from(
        &self,
        from: Index,
        upto: Index,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<Index, ReadError> {
        let read = self.read_some(from, upto, bytes_max, out);
        read.inspect_err(|error| self.note(error))
    }

    /// Tells the log thread of damage: with others that have the entry, this node can do without its
    /// own log.
    fn note(&self, error: &ReadError) {
        if let ReadError::Damaged { index, .. } = error {
            self.damaged.store(*index, Ordering::SeqCst);
            self.wake_thread();
        }
    }

    fn read_some(
        &self,
        from: Index,
        upto: Index,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<Index, ReadError> {
        let mut entries = Vec::new();
        let marks = self.marks(from, upto);
        self.reader.read(from, bytes_max.min(READ_BYTES), &mut entries)?;
        let mut next = from;
        let upto = upto.min(from.saturating_add(READ_ENTRIES_MAX - 1));
        for entry in entries {
            if entry.index > upto {
                break;
            }
            match batch_of(&entry, &marks) {
                Ok(batch) => out.extend(batch),
                // What was read before the damage is good; the next call meets it first.
                Err(_) if next > from => break,
                Err(error) => return Err(error),
            }
            next = entry.index + 1;
        }
        if next == from {
            return Err(ReadError::Damaged { index: from, what: Missing.to_string().into() });
        }
        Ok(next)
    }

    /// The batch at `index` from ring, cache or disk.
    pub(crate) fn read(&self, index: Index) -> Result<Option<Arc<CommittedBatch>>, ReadError> {
        self.read_one(index).inspect_err(|error| self.note(error))
    }

    fn read_one(&self, index: Index) -> Result<Option<Arc<CommittedBatch>>, ReadError> {
        {
            let ring = lock(&self.ring);
            if index > ring.last() {
                return Ok(None);
            }
            if index >= ring.first() {
                return Ok(ring.get(index));
            }
        }
        if let Some(batch) = lock(&self.cache).get(index) {
            return Ok(Some(batch));
        }
        let mut entries = Vec::new();
        let marks = self.marks(index, index);
        self.reader.read(index, 1, &mut entries)?;
        let Some(entry) = entries.first().filter(|entry| entry.index == index) else {
            return Ok(None);
        };
        let batch = batch_of(entry, &marks)?;
        if let Some(batch) = &batch {
            lock(&self.cache).put(Arc::clone(batch));
        }
        Ok(batch)
    }

    /// Forgets the batches that were read from the disk lately.
    pub(crate) fn forget_cached(&self) {
        lock(&self.cache).clear();
    }

    /// What is void from `from` on, as far as one read goes. To be asked before the entries are
    /// read: a purge forgets the marks when the entries are gone.
    fn marks(&self, from: Index, upto: Index) -> BTreeMap<Index, Voids> {
        let upto = upto.min(from.saturating_add(READ_ENTRIES_MAX - 1)).max(from);
        let voids = self.voids.read().unwrap_or_else(PoisonError::into_inner);
        voids.range(from..=upto).map(|(index, voids)| (*index, voids.clone())).collect()
    }
}

fn batch_of(
    entry: &Entry,
    marks: &BTreeMap<Index, Voids>,
) -> Result<Option<Arc<CommittedBatch>>, ReadError> {
    if entry.data.is_empty() || entry.get_entry_type() != raft::eraftpb::EntryType::EntryNormal {
        return Ok(None);
    }
    let index = entry.index;
    let batch = CommittedBatch::open(index, entry.data.clone(), true).map_err(|error| {
        let what = error.0.into();
        // An earlier version than the one that folded it: the log is good.
        match envelope::is_whole(&entry.data) {
            true => ReadError::Io { index, what },
            false => ReadError::Damaged { index, what },
        }
    })?;
    let voids = marks.get(&entry.index).cloned().unwrap_or_default();
    Ok(Some(Arc::new(batch.with_voids(voids))))
}

/// Batches read from the disk lately.
#[derive(Default)]
struct Cache {
    batches: HashMap<Index, Arc<CommittedBatch>>,
    order: VecDeque<Index>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    fn get(&self, index: Index) -> Option<Arc<CommittedBatch>> {
        self.batches.get(&index).map(Arc::clone)
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.order.clear();
        self.bytes = 0;
    }

    fn put(&mut self, batch: Arc<CommittedBatch>) {
        self.bytes += batch.bytes();
        self.order.push_back(batch.index);
        if let Some(twice) = self.batches.insert(batch.index, batch) {
            self.bytes -= twice.bytes();
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(batch) = self.batches.remove(&oldest) {
                self.bytes -= batch.bytes();
            }
        }
    }
}

/// Locks; a thread that panicked inside has stopped the log, and what it left is only counted.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
