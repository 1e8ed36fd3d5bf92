//! A disk for the log that forgets what was not synced, and fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledgermq_core::offset::Index;
use ledgermq_log::ReadError;
use ledgermq_log::SnapshotFiles as _;
use ledgermq_log::space::Space;
use ledgermq_log::store::{Configuration, LogReader, LogStore, Recovered, StoreError, Unit};
use ledgermq_log::testing::MemoryFiles;
use raft::eraftpb::{Entry, HardState};

use crate::rng::Rng;

/// Entries that share a file: a purge drops whole files.
const FILE_ENTRIES: u64 = 8;

/// The disk; it outlives the process that writes to it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    /// Snapshots on their way.
    pub(crate) snapshots: MemoryFiles,
}

/// What is on it.
#[derive(Default)]
struct State {
    /// What a power cut leaves.
    durable: Image,
    /// What a process sees: `durable` and `unsynced`.
    current: Image,
    /// Writes since the last sync, in order. A unit is all there or not at all: a torn one is cut
    /// off at its checksum.
    unsynced: Vec<Write>,
    starts: u64,
    /// Entry up to which everything must be found.
    mark: Index,
    /// What the disk was once, with its mark.
    remembered: Option<(Image, Index)>,
    /// Bytes that still fit; none is plenty.
    room: Option<u64>,
    ballast: u64,
    fails_next_sync: bool,
    /// Writes that were begun.
    begun: u64,
    /// A sync failed: nothing more may be written by this process.
    is_poisoned: bool,
}

#[derive(Clone)]
enum Write {
    Unit(Box<Unit>),
    /// Entries up to there vanished with their files.
    Purge((Index, u64)),
}

#[derive(Clone, Default)]
struct Image {
    entries: BTreeMap<Index, Entry>,
    truncated: (Index, u64),
    hard_state: HardState,
    configuration: Configuration,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Entries of which a byte was flipped.
    damaged: BTreeSet<Index>,
}

impl Disk {
    /// The disk of a member of a cluster of so many nodes, all of whom have a vote and know of each
    /// other.
    pub(crate) fn of_voter(nodes: u64) -> Self {
        let disk = Self::default();
        let voters: Vec<u64> = (1..=nodes).collect();
        let configuration = Some(Configuration::of_voters(&voters));
        let unit = Unit { configuration, ..Unit::default() };
        SimStore { disk: disk.clone(), begun: None }.write(&unit, true).expect("it is empty");
        disk
    }

    /// Opens it for a new process.
    pub(crate) fn open(&self) -> SimStore {
        let mut state = self.state();
        state.starts += 1;
        SimStore { disk: self.clone(), begun: None }
    }

    /// The same, if what a start looks at is whole: all entries that were marked, and those of the
    /// newest file.
    pub(crate) fn open_checked(&self) -> Result<SimStore, String> {
        {
            let state = self.state();
            let (last, mark) = (state.current.last().0, state.mark);
            if last < mark {
                return Err(format!("the log ends with entry {last}, but entry {mark} was synced"));
            }
            let newest = last.saturating_sub(FILE_ENTRIES)..=last;
            if let Some(index) = state.current.damaged.range(newest).next() {
                return Err(format!("entry {index} is damaged"));
            }
        }
        Ok(self.open())
    }

    /// Everything on it is gone.
    pub(crate) fn wipe(&self) {
        let state = &mut *self.state();
        state.unsynced.clear();
        (state.durable, state.current) = (Image::default(), Image::default());
        (state.mark, state.remembered) = (0, None);
        for name in self.snapshots.list().expect("it is in memory") {
            self.snapshots.remove(&name).expect("it is in memory");
        }
    }

    /// Whether an entry that was there, as a power cut leaves it, made way for others or a snapshot.
    pub(crate) fn has_purged(&self, index: Index) -> bool {
        self.state().durable.truncated.0 >= index
    }

    /// Keeps an image of it.
    pub(crate) fn remember(&self) {
        let state = &mut *self.state();
        state.remembered = Some((state.durable.clone(), state.mark));
    }

    /// Goes back to that image, with the mark or without; of no process. Says where it ends, if
    /// there was one.
    pub(crate) fn roll_back(&self, with_mark: bool) -> Option<Index> {
        let state = &mut *self.state();
        let (image, mark) = state.remembered.take()?;
        state.unsynced.clear();
        (state.durable, state.current) = (image.clone(), image);
        if with_mark {
            state.mark = mark;
        }
        Some(state.current.last().0)
    }

    /// Flips a byte of an entry, so many before the last; says of which.
    pub(crate) fn flip(&self, before: u64) -> Option<Index> {
        let state = &mut *self.state();
        let index = state.durable.last().0.checked_sub(before)?;
        state.flip(index).then_some(index)
    }

    /// The same with that entry; `false` if it is not there.
    pub(crate) fn flip_entry(&self, index: Index) -> bool {
        self.state().flip(index)
    }

    /// The term of an entry that was synced, be it damaged since.
    pub(crate) fn synced_term(&self, index: Index) -> Option<u64> {
        self.state().durable.entries.get(&index).map(|entry| entry.term)
    }

    /// Term and bytes of an entry, if a power cut leaves it.
    pub(crate) fn durable(&self, index: Index) -> Option<Entry> {
        let state = self.state();
        let is_whole = !state.durable.damaged.contains(&index);
        state.durable.entries.get(&index).filter(|_| is_whole).cloned()
    }

    /// The power is gone: of what was not synced, a random first part had reached the disk.
    pub(crate) fn cut_power(&self, rng: &mut Rng) -> usize {
        self.snapshots.crash();
        let state = &mut *self.state();
        let survivors = rng.size(0, state.unsynced.len());
        for write in state.unsynced.drain(..).take(survivors) {
            state.durable.apply(&write);
        }
        state.current = state.durable.clone();
        state.is_poisoned = false;
        survivors
    }

    /// Others fill the disk: so many bytes still fit. None is plenty.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    pub(crate) fn space(&self) -> Box<dyn Space> {
        Box::new(SimSpace { disk: self.clone() })
    }

    pub(crate) fn fail_next_sync(&self, fails: bool) {
        self.state().fails_next_sync = fails;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A byte of that entry is flipped; `false` if it is not there.
    fn flip(&mut self, index: Index) -> bool {
        let is_there = self.durable.entries.contains_key(&index);
        if is_there {
            self.durable.damaged.insert(index);
            self.current.damaged.insert(index);
        }
        is_there
    }

    fn take_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes).ok_or(StoreError::NoSpace)?;
        }
        Ok(())
    }

    /// In how many turns from now a write that begins now is synced: mostly in the next one, sometimes
    /// when raft has ticked for seconds.
    fn looks(&mut self) -> u32 {
        self.begun += 1;
        match Rng::new(self.starts << 32 | self.begun).size(0, 31) {
            0..=15 => 0,
            16..=29 => 1,
            30 => 5,
            _ => 30,
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.fails_next_sync) {
            self.is_poisoned = true;
            return Err(failed("sync"));
        }
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
        Ok(())
    }
}

impl Image {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Unit(unit) => self.write(unit),
            Write::Purge(truncated) => {
                self.truncated = *truncated;
                self.entries = self.entries.split_off(&(truncated.0 + 1));
            }
        }
    }

    fn write(&mut self, unit: &Unit) {
        if let Some(snapshot) = unit.snapshot {
            self.entries.clear();
            self.truncated = snapshot;
        }
        if let Some(first) = unit.entries.first() {
            self.entries.split_off(&first.index);
            self.damaged.split_off(&first.index);
        }
        for entry in &unit.entries {
            self.entries.insert(entry.index, entry.clone());
        }
        if let Some(hard_state) = &unit.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(configuration) = &unit.configuration {
            self.configuration = configuration.clone();
        }
        for key in &unit.deletes {
            self.keys.remove(key);
        }
        for (key, value) in &unit.puts {
            self.keys.insert(key.clone(), value.clone());
        }
    }

    fn last(&self) -> (Index, u64) {
        let last = self.entries.last_key_value();
        last.map_or(self.truncated, |(index, entry)| (*index, entry.term))
    }
}

fn failed(action: &'static str) -> StoreError {
    StoreError::Failed { action, source: io::Error::other("told to fail") }
}

/// The store of one process.
pub(crate) struct SimStore {
    disk: Disk,
    begun: Option<Begun>,
}

/// A write that was begun: it is written, and not synced.
struct Begun {
    outcome: Option<Result<(), StoreError>>,
    /// It is synced after so many more looks.
    looks: u32,
}

impl SimStore {
    fn put(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError> {
        let state = &mut *self.disk.state();
        if state.is_poisoned {
            panic!("the log was written to after a sync had failed");
        }
        if unit.snapshot.is_some() {
            // It took the place of everything, also of a tail that was synced and never committed.
            state.mark = 0;
        } else if let Some(first) = unit.entries.first() {
            state.mark = state.mark.min(first.index - 1);
        }
        state.take_room(unit.bytes() as u64)?;
        let write = Write::Unit(Box::new(unit.clone()));
        state.current.apply(&write);
        state.unsynced.push(write);
        if sync { state.sync() } else { Ok(()) }
    }

    /// Lets a write that was begun end: at once, or when its time has come.
    fn look(&mut self, at_once: bool) {
        let Some(begun) = &mut self.begun else { return };
        if begun.looks > 0 && !at_once {
            begun.looks -= 1;
        } else if begun.outcome.is_none() {
            begun.outcome = Some(self.disk.state().sync());
        }
    }

    /// Waits for a write that was begun, before another. One whose sync failed is the last.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.look(true);
        match &self.begun {
            Some(Begun { outcome: Some(Err(StoreError::Failed { .. })), .. }) => {
                Err(failed("sync"))
            }
            _ => Ok(()),
        }
    }
}

impl LogStore for SimStore {
    fn recovered(&self) -> Recovered {
        let state = self.disk.state();
        let image = &state.current;
        Recovered {
            hard_state: image.hard_state.clone(),
            configuration: image.configuration.clone(),
            truncated: image.truncated,
            last: image.last(),
            start: state.starts,
            unclean: false,
        }
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(SimReader { disk: self.disk.clone() })
    }

    fn write(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError> {
        self.settle()?;
        self.put(unit, sync)
    }

    fn begin(&mut self, unit: &Unit) -> Result<(), StoreError> {
        assert!(self.begun.is_none(), "one after the other");
        let outcome = self.put(unit, false).err().map(Err);
        let looks = self.disk.state().looks();
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
        self.settle()?;
        self.disk.state().sync()
    }

    fn mark(&mut self, _clean: bool) -> Result<(), StoreError> {
        self.settle()?;
        let state = &mut *self.disk.state();
        state.take_room(100)?;
        state.mark = state.durable.last().0;
        Ok(())
    }

    fn purge_point(&self, _bytes: u64, entries_max: u64) -> Option<Index> {
        let state = self.disk.state();
        let point = state.current.last().0.checked_sub(entries_max)?;
        (point > state.current.truncated.0).then_some(point)
    }

    fn purge(&mut self, upto: Index) -> Result<(Index, u64), StoreError> {
        self.settle()?;
        let state = &mut *self.disk.state();
        let upto = upto - upto % FILE_ENTRIES;
        if let Some(entry) = state.current.entries.get(&upto) {
            let write = Write::Purge((upto, entry.term));
            // Files vanish at once, or after a crash not yet.
            state.current.apply(&write);
            state.unsynced.push(write);
        }
        Ok(state.current.truncated)
    }

    fn bytes(&self) -> u64 {
        self.disk.state().current.entries.len() as u64 * 100
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.disk.state().current.keys.get(key).cloned()
    }

    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let state = self.disk.state();
        state.current.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }
}

struct SimReader {
    disk: Disk,
}

impl LogReader for SimReader {
    fn first_index(&self) -> Index {
        self.disk.state().current.truncated.0 + 1
    }

    fn read(&self, from: Index, bytes_max: usize, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        let state = self.disk.state();
        let image = &state.current;
        if from <= image.truncated.0 {
            return Err(ReadError::Purged { first: image.truncated.0 + 1 });
        }
        let mut bytes = 0;
        for (_, entry) in image.entries.range(from..) {
            if bytes > 0 && bytes + entry.data.len() > bytes_max {
                break;
            }
            if image.damaged.contains(&entry.index) {
                if bytes > 0 {
                    break;
                }
                return Err(ReadError::Damaged { index: entry.index, what: Arc::from("a flip") });
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

/// The room on the disk as the log watches it.
struct SimSpace {
    disk: Disk,
}

impl Space for SimSpace {
    fn free(&mut self) -> io::Result<u64> {
        Ok(self.disk.state().room.unwrap_or(u64::MAX / 2))
    }

    fn ballast(&mut self) -> u64 {
        self.disk.state().ballast
    }

    fn lay_ballast(&mut self, bytes: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.take_room(bytes).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        state.ballast = bytes;
        Ok(())
    }

    fn drop_ballast(&mut self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let ballast = std::mem::take(&mut state.ballast);
        if let Some(room) = &mut state.room {
            *room += ballast;
        }
        Ok(())
    }
}
