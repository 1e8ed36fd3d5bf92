//! A disk in memory that fails on command, and a store on it.
//!
//! What was written and not synced is lost in a crash, from some write on that the seed decides; the
//! write during which the machine dies is there as a whole or not at all, as a checksum makes it on
//! a real disk. The disk can be full, fail for good, and damage entries.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledgermq_core::offset::Index;
use raft::eraftpb::{Entry, HardState};

use super::files::{FileRange, Files, HEADER_BYTES};
use super::{Configuration, LogReader, LogStore, REMEDY, Recovered, StoreError, Unit};
use crate::error::{OpenError, ReadError};
use crate::space::Space;

/// A disk; clones are the same disk. It survives the crash of the store that writes it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<Disk>>);

/// What goes wrong with the writes to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    #[default]
    Good,
    /// After this many more writes and syncs each fails, as they do once the machine is dying; the
    /// first that fails may have come through. [`SimulatedDisk::crash`] makes it a new machine.
    Dies(u32),
    /// After this many more writes and syncs the disk fails for good.
    Fails(u32),
}

#[derive(Default)]
struct Disk {
    random: u64,
    durable: Image,
    current: Image,
    unsynced: Vec<Write>,
    /// Entry up to which everything must be found.
    mark: Index,
    start: u64,
    capacity: Option<u64>,
    /// Nothing but writes has room.
    is_tight: bool,
    ballast: u64,
    file_bytes: u64,
    fate: Fate,
    writes: u64,
    is_open: bool,
    /// A write that is begun takes so many looks to end.
    looks: u32,
}

#[derive(Clone)]
struct Write {
    unit: Unit,
    bytes: u64,
}

/// What a disk holds.
#[derive(Clone, Default)]
struct Image {
    entries: BTreeMap<Index, Entry>,
    truncated: (Index, u64),
    hard_state: HardState,
    configuration: Configuration,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    files: Files,
    damaged: Vec<Index>,
}

impl SimulatedDisk {
    /// An empty disk without bounds. Its files have `file_bytes`.
    #[must_use]
    pub fn new(seed: u64, file_bytes: u64) -> Self {
        let files = Files::new([FileRange { seq: 1, first: 1, bytes: HEADER_BYTES }]);
        let image = Image { files, ..Image::default() };
        Self(Arc::new(Mutex::new(Disk {
            random: seed,
            durable: image.clone(),
            current: image,
            file_bytes,
            ..Disk::default()
        })))
    }

    /// Bounds the disk, or lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Forgets how often the disk was opened, as a log does whose watermark is moved away.
    pub fn forget_starts(&self) {
        self.lock().start = 0;
    }

    /// Whether syncs, marks and purges find the disk full, as they do where the system looks for the
    /// room of a write only then.
    pub fn set_tight(&self, is_tight: bool) {
        self.lock().is_tight = is_tight;
    }

    /// Decides about the writes to come.
    pub fn set_fate(&self, fate: Fate) {
        self.lock().fate = fate;
    }

    /// From now on a write that is begun ends only when it was looked for so many times in vain.
    pub fn set_slow(&self, looks: u32) {
        self.lock().looks = looks;
    }

    /// Writes and syncs so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// The power goes: of what was not synced a part is lost, from some write on.
    pub fn crash(&self) {
        let mut disk = self.lock();
        let unsynced = std::mem::take(&mut disk.unsynced);
        let kept = usize::try_from(disk.draw() % (unsynced.len() as u64 + 1)).unwrap_or(0);
        let file_bytes = disk.file_bytes;
        for write in &unsynced[..kept] {
            disk.durable.apply(write, file_bytes);
        }
        disk.current = disk.durable.clone();
        disk.fate = Fate::Good;
        disk.is_open = false;
    }

    /// Damages the bytes of an entry.
    pub fn damage(&self, index: Index) {
        let mut disk = self.lock();
        disk.current.damaged.push(index);
        disk.durable.damaged.push(index);
    }

    /// Cuts the newest entries off behind `index`, as a damaged disk may.
    pub fn cut_behind(&self, index: Index) {
        let mut disk = self.lock();
        disk.current.entries.split_off(&(index + 1));
        disk.durable.entries.split_off(&(index + 1));
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// The next number of a fixed sequence (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn used(&self) -> u64 {
        self.current.files.bytes() + self.ballast
    }

    /// Lets one operation happen, if it is not its fate to fail.
    fn pass(&mut self) -> Result<(), StoreError> {
        match &mut self.fate {
            Fate::Good => {}
            Fate::Dies(0) | Fate::Fails(0) => {
                let source = io::Error::other("simulated failure");
                return Err(StoreError::Failed { action: "write", source });
            }
            Fate::Dies(left) | Fate::Fails(left) => *left -= 1,
        }
        self.writes += 1;
        Ok(())
    }

    /// As [`Disk::pass`] for what is no write.
    fn pass_beside(&mut self) -> Result<(), StoreError> {
        if self.is_tight { Err(StoreError::NoSpace) } else { self.pass() }
    }

    fn sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            self.durable.apply(&write, self.file_bytes);
        }
    }
}

impl Image {
    fn last(&self) -> (Index, u64) {
        self.entries.last_key_value().map_or(self.truncated, |(index, entry)| (*index, entry.term))
    }

    fn apply(&mut self, write: &Write, file_bytes: u64) {
        let Write { unit, bytes } = write;
        if let Some(snapshot) = unit.snapshot {
            self.entries.clear();
            self.truncated = snapshot;
        }
        let first = unit.entries.first().map_or(self.last().0 + 1, |entry| entry.index);
        let (seq, filled) = self.files.end();
        self.files.wrote(if filled >= file_bytes { seq + 1 } else { seq }, *bytes, first);
        if !unit.entries.is_empty() {
            self.entries.split_off(&first);
        }
        self.entries.extend(unit.entries.iter().map(|entry| (entry.index, entry.clone())));
        if let Some(state) = &unit.hard_state {
            self.hard_state = state.clone();
        }
        if let Some(configuration) = &unit.configuration {
            self.configuration = configuration.clone();
        }
        self.keys.extend(unit.puts.iter().cloned());
        for key in &unit.deletes {
            self.keys.remove(key);
        }
    }
}

/// A [`LogStore`] on a [`SimulatedDisk`].
pub struct SimulatedStore {
    disk: SimulatedDisk,
    recovered: Recovered,
    begun: Option<Begun>,
}

/// A write that was begun: it is on the disk, and not synced.
struct Begun {
    outcome: Option<Result<(), StoreError>>,
    /// It ends after so many more looks.
    looks: u32,
}

impl SimulatedStore {
    /// Opens what the disk holds.
    ///
    /// # Errors
    ///
    /// If another store has it open, or less is there than was marked as synced.
    pub fn open(disk: &SimulatedDisk) -> Result<Self, OpenError> {
        let mut inner = disk.lock();
        if inner.is_open {
            return Err(OpenError::InUse { dir: PathBuf::from("simulated") });
        }
        let (last, mark) = (inner.current.last(), inner.mark);
        if last.0 < mark {
            return Err(OpenError::Damaged {
                file: PathBuf::from("simulated"),
                offset: 0,
                what: format!("the log ends with entry {}, but entry {mark} was synced", last.0),
                remedy: REMEDY.to_owned(),
            });
        }
        inner.is_open = true;
        inner.start += 1;
        let recovered = Recovered {
            hard_state: inner.current.hard_state.clone(),
            configuration: inner.current.configuration.clone(),
            truncated: inner.current.truncated,
            last,
            start: inner.start,
            unclean: false,
        };
        drop(inner);
        Ok(Self { disk: disk.clone(), recovered, begun: None })
    }
}

impl SimulatedStore {
    fn put(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        let bytes = unit.bytes() as u64;
        let write = Write { unit: unit.clone(), bytes };
        disk.mark = disk.mark.min(unit.rest());
        if disk.capacity.is_some_and(|capacity| disk.used() + bytes > capacity) {
            return Err(StoreError::NoSpace);
        }
        if let Err(error) = disk.pass() {
            // The machine died in the middle: the write may be there as a whole.
            if matches!(disk.fate, Fate::Dies(_)) && disk.draw().is_multiple_of(2) {
                disk.unsynced.push(write);
            }
            return Err(error);
        }
        let file_bytes = disk.file_bytes;
        disk.current.apply(&write, file_bytes);
        disk.unsynced.push(write);
        if sync {
            disk.sync();
        }
        if let Some(configuration) = &unit.configuration {
            self.recovered.configuration = configuration.clone();
        }
        Ok(())
    }

    /// Lets a write that was begun end: at once, or when its time has come.
    fn look(&mut self, at_once: bool) {
        let Some(begun) = &mut self.begun else { return };
        if begun.looks > 0 && !at_once {
            begun.looks -= 1;
        } else if begun.outcome.is_none() {
            let mut disk = self.disk.lock();
            begun.outcome = Some(disk.pass().map(|()| disk.sync()));
        }
    }
}

impl Drop for SimulatedStore {
    fn drop(&mut self) {
        self.disk.lock().is_open = false;
    }
}

impl LogStore for SimulatedStore {
    fn recovered(&self) -> Recovered {
        self.recovered.clone()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.disk.clone())
    }

    fn write(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError> {
        self.look(true);
        self.put(unit, sync)
    }

    fn begin(&mut self, unit: &Unit) -> Result<(), StoreError> {
        assert!(self.begun.is_none(), "one after the other");
        let outcome = self.put(unit, false).err().map(Err);
        let looks = self.disk.lock().looks;
        self.begun = Some(Begun { outcome, looks });
        Ok(())
    }

    fn end(&mut self, wait: bool) -> Option<Result<(), StoreError>> {
        self.look(wait);
        let outcome = self.begun.as_mut()?.outcome.take()?;
        self.begun = None;
        Some(outcome)
    }

    fn has_ended(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.looks == 0 || begun.outcome.is_some())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.look(true);
        let mut disk = self.disk.lock();
        disk.pass_beside()?;
        disk.sync();
        Ok(())
    }

    fn mark(&mut self, _clean: bool) -> Result<(), StoreError> {
        self.look(true);
        let mut disk = self.disk.lock();
        disk.pass_beside()?;
        disk.mark = disk.durable.last().0;
        Ok(())
    }

    fn purge_point(&self, bytes: u64, entries_max: u64) -> Option<Index> {
        let disk = self.disk.lock();
        let (truncated, last) = (disk.current.truncated.0, disk.current.last().0);
        let spare = (last - truncated).saturating_sub(entries_max);
        disk.current.files.purge_point(bytes, truncated + spare, last)
    }

    fn purge(&mut self, upto: Index) -> Result<(Index, u64), StoreError> {
        self.look(true);
        let mut disk = self.disk.lock();
        disk.pass_beside()?;
        disk.sync();
        let Some((file, first)) = disk.current.files.purgeable(upto, disk.current.last().0) else {
            return Ok(disk.current.truncated);
        };
        let before = (first - 1).max(disk.current.truncated.0);
        if let Some(entry) = disk.current.entries.get(&before) {
            disk.current.truncated = (before, entry.term);
        }
        disk.current.entries = disk.current.entries.split_off(&(before + 1));
        disk.current.files.drop_upto(file);
        disk.durable = disk.current.clone();
        Ok(disk.current.truncated)
    }

    fn bytes(&self) -> u64 {
        self.disk.lock().current.files.bytes()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.disk.lock().current.keys.get(key).cloned()
    }

    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let disk = self.disk.lock();
        let from = disk.current.keys.range(prefix.to_vec()..).map(|(key, _)| key);
        from.take_while(|key| key.starts_with(prefix)).cloned().collect()
    }
}

impl LogReader for SimulatedDisk {
    fn first_index(&self) -> Index {
        self.lock().current.truncated.0 + 1
    }

    fn read(&self, from: Index, bytes_max: usize, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        let disk = self.lock();
        let first = disk.current.truncated.0 + 1;
        if from < first {
            return Err(ReadError::Purged { first });
        }
        let mut bytes = 0;
        for (&index, entry) in disk.current.entries.range(from..) {
            if bytes > 0 && bytes + entry.data.len() > bytes_max {
                break;
            }
            if disk.current.damaged.contains(&index) {
                if bytes > 0 {
                    break;
                }
                return Err(ReadError::Damaged { index, what: Arc::from("simulated damage") });
            }
            bytes += entry.data.len().max(1);
            out.push(entry.clone());
        }
        Ok(())
    }

    fn locate(&self, _index: Index) -> Option<(PathBuf, u64)> {
        None
    }
}

impl Space for SimulatedDisk {
    fn free(&mut self) -> io::Result<u64> {
        let disk = self.lock();
        Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn ballast(&mut self) -> u64 {
        self.lock().ballast
    }

    fn lay_ballast(&mut self, bytes: u64) -> io::Result<()> {
        let mut disk = self.lock();
        if disk.capacity.is_some_and(|capacity| disk.used() + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.ballast = bytes;
        Ok(())
    }

    fn drop_ballast(&mut self) -> io::Result<()> {
        self.lock().ballast = 0;
        Ok(())
    }
}
