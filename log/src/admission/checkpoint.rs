//! The fold's state in the store, so that a restart folds only what came after.
//!
//! | key | value (postcard) |
//! |---|---|
//! | `a` shard side | sessions of the shard, sorted by client |
//! | `A` | version, head (applied index, nodes, producers), current side of each shard |
//! | `v` index | what was void in the batches from that index on, up to the next checkpoint |
//!
//! A checkpoint is the state of one moment. It is written piece by piece, beside the entries of the
//! writes that happen anyway, each shard to the side that is not in use; `A`, written last, makes it
//! count. Shards that did not change are not written.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Index;
use serde::{Deserialize, Serialize};

use super::sessions::{SHARDS, Session, Shard};
use super::{Admission, Head};
use crate::committed::Voids;
use crate::error::OpenError;
use crate::store::{LogStore, Unit};

pub(super) const VERSION: u8 = 2;
const HEAD_KEY: &[u8] = b"A";
/// A checkpoint is begun after this much log, or four times the size of the state.
const BYTES_BETWEEN: u64 = 64 << 20;
/// What one write takes on beside its entries.
const BYTES_PER_WRITE: usize = 512 << 10;

/// The running checkpoint and the last one.
pub(crate) struct Checkpoint {
    /// The shards as they were written, and on which side.
    written: Vec<(Arc<Shard>, u8)>,
    running: Option<Running>,
    /// Index of the last complete checkpoint.
    index: Index,
    /// Voids since the checkpoint that was begun last.
    fresh: Vec<(Index, Voids)>,
    /// First and last index of each list of voids in the store.
    lists: Vec<(Index, Index)>,
    bytes_since: u64,
    state_bytes: u64,
    /// One is wanted as soon as possible.
    wanted: bool,
}

struct Running {
    head: Head,
    shards: Vec<Arc<Shard>>,
    next: usize,
    voids: Vec<(Index, Voids)>,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u8,
    head: Head,
    sides: Vec<u8>,
    state_bytes: u64,
}

/// What a store holds.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) admission: Admission,
    pub(crate) voids: BTreeMap<Index, Voids>,
    pub(crate) checkpoint: Checkpoint,
}

impl Default for Checkpoint {
    fn default() -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            written: vec![(empty, 0); SHARDS],
            running: None,
            index: 0,
            fresh: Vec::new(),
            lists: Vec::new(),
            bytes_since: 0,
            state_bytes: 0,
            wanted: false,
        }
    }
}

/// Loads the last checkpoint.
///
/// # Errors
///
/// If there is one that cannot be read.
pub(crate) fn load<S: LogStore>(store: &S) -> Result<Loaded, OpenError> {
    read(store).ok_or_else(|| {
        OpenError::Setting(
            "the admission state of the log is damaged or of an unknown version".to_owned(),
        )
    })
}

fn read<S: LogStore>(store: &S) -> Option<Loaded> {
    let mut loaded = Loaded::default();
    let Some(manifest) = store.get(HEAD_KEY) else { return Some(loaded) };
    let manifest: Manifest = postcard::from_bytes(&manifest).ok()?;
    if manifest.version != VERSION || manifest.sides.len() != SHARDS {
        return None;
    }
    for (number, &side) in manifest.sides.iter().enumerate() {
        let Some(bytes) = store.get(&shard_key(number, side)) else { continue };
        let sessions: Vec<(ClientId, Session)> = postcard::from_bytes(&bytes).ok()?;
        loaded.admission.sessions.set_shard(number, sessions.into_iter().collect());
    }
    for key in store.keys(b"v") {
        let first = u64::from_be_bytes(key.get(1..)?.try_into().ok()?);
        let list: Vec<(Index, Voids)> = postcard::from_bytes(&store.get(&key)?).ok()?;
        loaded.checkpoint.lists.push((first, list.last()?.0));
        loaded.voids.extend(list);
    }
    let shards = loaded.admission.sessions.shards().iter().cloned();
    loaded.checkpoint.written = shards.zip(manifest.sides).collect();
    loaded.checkpoint.index = manifest.head.applied;
    loaded.checkpoint.state_bytes = manifest.state_bytes;
    loaded.admission.head = manifest.head;
    Some(loaded)
}

impl Checkpoint {
    /// Everything up to here need not be folded again.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Takes note of a folded batch.
    pub(crate) fn folded(&mut self, index: Index, bytes: usize, voids: &Voids) {
        self.bytes_since += bytes as u64;
        if *voids != Voids::None {
            self.fresh.push((index, voids.clone()));
        }
    }

    /// A checkpoint of `admission` as a whole, for a store whose log jumps there, and the write that
    /// makes it so. What the store had of another state and of voids is forgotten.
    pub(crate) fn replace<S: LogStore>(admission: &Admission, store: &S) -> (Self, Unit) {
        let mut unit = Unit::default();
        for (number, shard) in admission.sessions.shards().iter().enumerate() {
            if !shard.is_empty() {
                unit.puts.push((shard_key(number, 0), encode_shard(shard)));
            }
        }
        let written = admission.sessions.shards().iter().map(|shard| (Arc::clone(shard), 0));
        let sessions: usize = admission.sessions.shards().iter().map(|shard| shard.len()).sum();
        let mut checkpoint = Self { written: written.collect(), ..Self::default() };
        checkpoint.index = admission.applied();
        checkpoint.state_bytes = sessions as u64 * 48;
        let manifest = Manifest {
            version: VERSION,
            head: admission.head.clone(),
            sides: vec![0; SHARDS],
            state_bytes: checkpoint.state_bytes,
        };
        let keys = store.keys(b"a").into_iter().chain(store.keys(b"v"));
        unit.deletes = keys.filter(|key| unit.puts.iter().all(|(put, _)| put != key)).collect();
        unit.puts.push((HEAD_KEY.to_vec(), encode(&manifest)));
        (checkpoint, unit)
    }

    /// Whether the key is one of a checkpoint.
    pub(crate) fn has_key(key: &[u8]) -> bool {
        matches!(key.first(), Some(b'a' | b'A' | b'v'))
    }

    /// Asks for a checkpoint now, whatever the log has grown.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether the next write has something to do for a checkpoint without being asked twice.
    pub(crate) fn is_due(&self) -> bool {
        let between = BYTES_BETWEEN.max(4 * self.state_bytes);
        self.running.is_some() || self.wanted || self.bytes_since >= between
    }

    /// Puts the next piece of a checkpoint into `unit`.
    pub(crate) fn step(&mut self, admission: &Admission, unit: &mut Unit) {
        if self.running.is_none() {
            if !self.is_due() {
                return;
            }
            self.begin(admission);
        }
        self.write_piece(unit);
    }

    /// Forgets the lists of voids that lie wholly before `first`.
    pub(crate) fn purged(&mut self, first: Index, unit: &mut Unit) {
        self.lists.retain(|&(from, upto)| {
            if upto < first {
                unit.deletes.push(list_key(from));
            }
            upto >= first
        });
    }

    fn begin(&mut self, admission: &Admission) {
        (self.wanted, self.bytes_since) = (false, 0);
        self.running = Some(Running {
            head: admission.head.clone(),
            shards: admission.sessions.shards().to_vec(),
            next: 0,
            voids: std::mem::take(&mut self.fresh),
            bytes: 0,
        });
    }

    fn write_piece(&mut self, unit: &mut Unit) {
        let Some(mut running) = self.running.take() else { return };
        let mut bytes = 0;
        while let Some(shard) = running.shards.get(running.next) {
            if bytes > BYTES_PER_WRITE {
                self.running = Some(running);
                return;
            }
            let (written, side) = &mut self.written[running.next];
            if !Arc::ptr_eq(written, shard) {
                *side ^= 1;
                *written = shard.clone();
                let value = encode_shard(shard);
                bytes += value.len();
                unit.puts.push((shard_key(running.next, *side), value));
            }
            running.bytes += shard.len() as u64 * 48;
            running.next += 1;
        }
        self.complete(running, unit);
    }

    fn complete(&mut self, running: Running, unit: &mut Unit) {
        if let (Some(first), Some(last)) = (running.voids.first(), running.voids.last()) {
            self.lists.push((first.0, last.0));
            unit.puts.push((list_key(first.0), encode(&running.voids)));
        }
        self.index = running.head.applied;
        self.state_bytes = running.bytes;
        let manifest = Manifest {
            version: VERSION,
            head: running.head,
            sides: self.written.iter().map(|(_, side)| *side).collect(),
            state_bytes: running.bytes,
        };
        unit.puts.push((HEAD_KEY.to_vec(), encode(&manifest)));
    }
}

pub(super) fn encode_shard(shard: &Shard) -> Vec<u8> {
    let mut sessions: Vec<(&ClientId, &Session)> = shard.iter().collect();
    sessions.sort_unstable_by_key(|(client, _)| *client);
    encode(&sessions)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a Vec takes every value")
}

fn shard_key(number: usize, side: u8) -> Vec<u8> {
    vec![b'a', u8::try_from(number).expect("256 shards"), side]
}

fn list_key(first: Index) -> Vec<u8> {
    [b"v".as_slice(), &first.to_be_bytes()].concat()
}
