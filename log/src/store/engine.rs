//! The log on disk: raft-engine, watched.

mod open;
mod read;
mod scan;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ledgermq_core::offset::Index;
use raft::eraftpb::HardState;
use raft_engine::internals::LogQueue;
use raft_engine::{Command, Engine, LogBatch};

use crate::config::Options;
use crate::error::OpenError;
use crate::store::files::Files;
use crate::store::raw::{RawEntries, RawEntry};
use crate::store::watermark::{Watermark, WatermarkFile};
use crate::store::{
    Configuration, LogReader, LogStore, Recovered, StoreError, Unit, configuration,
};
use crate::wake::Wake;

pub(crate) use open::DirLock;

use read::EngineReader;
use writer::Writer;

/// raft-engine's group that holds the entries.
const ENTRIES: u64 = 1;
/// The group that holds the keys: on its own, so that old keys do not pin the files of entries.
const KEYS: u64 = 2;
/// Keys of the store itself begin with this byte, those of its user with any other.
const OWN: u8 = b'!';
const STATE_KEY: &[u8] = b"!state";
const CONF_KEY: &[u8] = b"!conf";
const TRUNCATED_KEY: &[u8] = b"!truncated";
/// A write up to this size need not be announced in the watermark.
const UNIT_BYTES: u64 = 2 << 20;

/// A [`LogStore`] on raft-engine.
pub(crate) struct EngineStore {
    shared: Arc<EngineReader>,
    batch: LogBatch,
    raw: Vec<RawEntry>,
    files: Files,
    newest: Newest,
    /// File in which the value of each key stands.
    keys: BTreeMap<Vec<u8>, u64>,
    watermark: WatermarkFile,
    record: Watermark,
    recovered: Recovered,
    last: (Index, u64),
    truncated: (Index, u64),
    hard_state: HardState,
    /// Writes beside this thread; none if all is written by it.
    writer: Option<Writer>,
    /// The write that was begun.
    begun: Option<Begun>,
    #[cfg(test)]
    pub(super) after_step: Option<Box<dyn FnMut() + Send>>,
    /// Held for the life of the store.
    _lock: DirLock,
}

/// A write that was begun and whose outcome nobody was told.
struct Begun {
    trace: Trace,
    /// What became of it, once that is known here.
    outcome: Option<Result<(), StoreError>>,
}

/// What of a unit is remembered when it is written.
struct Trace {
    snapshot: Option<(Index, u64)>,
    /// The first entry, and the last one with its term.
    entries: Option<(Index, (Index, u64))>,
    hard_state: Option<HardState>,
    configuration: Option<Configuration>,
    puts: Vec<Vec<u8>>,
    deletes: Vec<Vec<u8>>,
}

impl Trace {
    fn of(unit: &Unit) -> Self {
        let (first, last) = (unit.entries.first(), unit.entries.last());
        Self {
            snapshot: unit.snapshot,
            entries: first.zip(last).map(|(first, last)| (first.index, (last.index, last.term))),
            hard_state: unit.hard_state.clone(),
            configuration: unit.configuration.clone(),
            puts: unit.puts.iter().map(|(key, _)| key.clone()).collect(),
            deletes: unit.deletes.clone(),
        }
    }
}

/// The newest file, open for syncing it.
#[derive(Debug, Default)]
struct Newest(Option<(u64, File)>);

impl Newest {
    /// Syncs the file of number `seq`, which is the newest. Nothing is written for it, as
    /// `Engine::sync` of 0.4.2 would have to (and does not: an empty batch returns before the sync).
    fn sync(&mut self, dir: &Path, seq: u64) -> io::Result<()> {
        if self.0.as_ref().is_none_or(|(known, _)| *known != seq) {
            self.0 = Some((seq, File::open(scan::file_path(dir, seq))?));
        }
        self.0.as_ref().map_or(Ok(()), |(_, file)| file.sync_data())
    }
}

impl EngineStore {
    /// Takes the directory, made if it is missing, for this process.
    pub(crate) fn lock(dir: &Path) -> Result<DirLock, OpenError> {
        open::lock(dir)
    }

    /// Opens the log in `options.dir` after looking at every write in its files.
    pub(crate) fn open(
        options: &Options,
        lock: DirLock,
        now_millis: u64,
    ) -> Result<Self, OpenError> {
        open::open(options, lock, now_millis)
    }

    fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Lets a test look at the files after each thing that a crash may come after.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only a test looks"))]
    fn step(&mut self) {
        #[cfg(test)]
        if let Some(look) = &mut self.after_step {
            look();
        }
    }

    /// Fills the reused `LogBatch` with the unit.
    fn fill(&mut self, unit: &Unit) -> Result<(), StoreError> {
        let own = |error: raft_engine::Error| failed("encode for", error);
        if let Some(snapshot) = unit.snapshot {
            self.batch.add_command(ENTRIES, Command::Clean);
            self.batch.put(KEYS, TRUNCATED_KEY.to_vec(), pair(snapshot)).map_err(own)?;
        }
        self.raw.clear();
        self.raw.extend(unit.entries.iter().map(RawEntry::new));
        self.batch.add_entries::<RawEntries>(ENTRIES, &self.raw).map_err(own)?;
        self.raw.clear();
        // The state goes with every write: it carries the seal by which a scan knows our writes.
        let state = unit.hard_state.as_ref().unwrap_or(&self.hard_state);
        self.batch
            .put(KEYS, STATE_KEY.to_vec(), state_bytes(state, self.record.seal))
            .map_err(own)?;
        if let Some(members) = &unit.configuration {
            let bytes = configuration::to_bytes(members);
            self.batch.put(KEYS, CONF_KEY.to_vec(), bytes).map_err(own)?;
        }
        for (key, value) in &unit.puts {
            debug_assert!(key.first() != Some(&OWN), "own keys are written by the store");
            self.batch.put(KEYS, key.clone(), value.clone()).map_err(own)?;
        }
        for key in &unit.deletes {
            self.batch.delete(KEYS, key.clone());
        }
        Ok(())
    }

    /// Has another thread write what is begun, and ring the bell when that is done.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread left.
    pub(crate) fn write_beside(&mut self, bell: Arc<dyn Wake>) -> io::Result<()> {
        self.writer = Some(Writer::start(Arc::clone(&self.shared), bell)?);
        Ok(())
    }

    /// Takes note of what was written.
    fn note(&mut self, trace: Trace, bytes: u64, file: u64) {
        let before = trace.snapshot.map_or(self.last.0, |(index, _)| index);
        let first = trace.entries.map_or(before + 1, |(first, _)| first);
        self.files.wrote(file, bytes, first);
        if let Some(snapshot) = trace.snapshot {
            self.truncated = snapshot;
            self.last = snapshot;
            self.keys.insert(TRUNCATED_KEY.to_vec(), file);
        }
        if let Some((_, last)) = trace.entries {
            self.last = last;
        }
        if let Some(state) = trace.hard_state {
            self.hard_state = state;
        }
        if let Some(configuration) = trace.configuration {
            self.recovered.configuration = configuration;
            self.keys.insert(CONF_KEY.to_vec(), file);
        }
        self.keys.insert(STATE_KEY.to_vec(), file);
        self.keys.extend(trace.puts.into_iter().map(|key| (key, file)));
        for key in &trace.deletes {
            self.keys.remove(key);
        }
        self.shared.set_range(self.truncated.0 + 1, self.last.0);
    }

    /// Tells the watermark of a write of about `bytes`, if it is larger than it takes for granted.
    fn announce(&mut self, bytes: u64) -> Result<(), StoreError> {
        let bytes = bytes + 4096;
        if bytes <= UNIT_BYTES.max(self.record.unit_bytes_max) {
            return Ok(());
        }
        self.record.unit_bytes_max = bytes;
        self.watermark.write(self.record).map_err(|source| io_failed("announce to", source))
    }

    /// Lowers the watermark to what a write leaves of the entries that it promises: a deposed leader's
    /// tail may be longer than what takes its place.
    fn lower_mark(&mut self, unit: &Unit) -> Result<(), StoreError> {
        let rest = unit.rest().max(self.record.truncated);
        if rest >= self.record.last.0 {
            return Ok(());
        }
        let term = if rest > self.truncated.0 { self.shared.term(rest)? } else { 0 };
        self.record.last = (rest, term);
        self.watermark.write(self.record).map_err(|source| io_failed("mark", source))
    }

    /// Writes `self.batch`; on a full disk the batch is thrown away.
    fn put_batch(&mut self, sync: bool) -> Result<(u64, u64), StoreError> {
        let written = self.shared.engine.write(&mut self.batch, sync);
        self.was_put(written)
    }

    /// What became of writing `self.batch`: its bytes, and the file in which they end.
    fn was_put(&mut self, written: raft_engine::Result<usize>) -> Result<(u64, u64), StoreError> {
        match written {
            Ok(bytes) => {
                let file = self.engine().file_span(LogQueue::Append).1;
                self.step();
                Ok((bytes as u64, file))
            }
            Err(error) => {
                self.batch = LogBatch::default();
                self.shared.set_range(self.truncated.0 + 1, self.last.0);
                if !is_no_space(&error) {
                    return Err(failed("write", error));
                }
                self.shared.remove_stray();
                Err(StoreError::NoSpace)
            }
        }
    }

    /// Takes note of a write that was synced if `sync` says so, and marks what is synced when the files
    /// before are whole.
    fn wrote(&mut self, trace: Trace, written: (u64, u64), sync: bool) -> Result<(), StoreError> {
        let (bytes, file) = written;
        let (before, _) = self.files.end();
        self.note(trace, bytes, file);
        if sync && file != before {
            match self.mark_synced(false) {
                // What was written stays; it is marked when there is room.
                Ok(()) | Err(StoreError::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn mark_synced(&mut self, clean: bool) -> Result<(), StoreError> {
        self.record.clean = clean;
        self.record.last = self.last;
        self.record.truncated = self.truncated.0;
        (self.record.file, self.record.file_bytes) = self.files.end();
        self.record.unit_bytes_max = UNIT_BYTES;
        self.watermark.write(self.record).map_err(|source| io_failed("mark", source))
    }

    /// Readers find nothing from here on of what the unit overwrites: raft-engine forgets it at some
    /// moment of the write, and has an entry for missing then.
    fn hide_overwritten(&self, unit: &Unit) {
        if unit.snapshot.is_none() && unit.rest() < self.last.0 {
            self.shared.set_range(self.truncated.0 + 1, unit.rest());
        }
    }

    /// Waits for the write that was begun, before another one.
    ///
    /// # Errors
    ///
    /// If it failed for good: nothing more may be written.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.look(true);
        match &self.begun {
            Some(Begun { outcome: Some(Err(StoreError::Failed { action, .. })), .. }) => {
                let source = io::Error::other("a write before this one has failed");
                Err(StoreError::Failed { action, source })
            }
            _ => Ok(()),
        }
    }

    /// Learns what became of the write that was begun; with `wait` it is waited for.
    fn look(&mut self, wait: bool) {
        let Some(Begun { outcome: None, .. }) = &self.begun else { return };
        let ended = self.writer.as_mut().and_then(|writer| writer.end(wait));
        let Some((batch, written)) = ended else { return };
        self.batch = batch;
        let Some(Begun { trace, .. }) = self.begun.take() else { return };
        let written = self.was_put(written);
        let outcome = Some(written.and_then(|written| self.wrote(trace, written, true)));
        self.begun = Some(Begun { trace: Trace::of(&Unit::default()), outcome });
    }

    /// Writes the keys that stand in files up to `file` again, so that these files can go.
    fn rescue_keys(&mut self, file: u64) -> Result<(), StoreError> {
        let old: Vec<Vec<u8>> =
            self.keys.iter().filter(|&(_, &at)| at <= file).map(|(key, _)| key.clone()).collect();
        let mut rescued = Vec::new();
        let mut bytes = 0;
        for key in old {
            let Some(value) = self.engine().get(KEYS, &key) else { continue };
            bytes += (key.len() + value.len() + 16) as u64;
            self.batch
                .put(KEYS, key.clone(), value)
                .map_err(|error| failed("encode for", error))?;
            rescued.push(key);
            if bytes > UNIT_BYTES / 2 {
                self.write_keys(&mut rescued, bytes)?;
                bytes = 0;
            }
        }
        self.write_keys(&mut rescued, bytes)
    }

    /// Writes a batch that holds keys only, of about `bytes`, and notes where they now stand.
    fn write_keys(&mut self, keys: &mut Vec<Vec<u8>>, bytes: u64) -> Result<(), StoreError> {
        if let Err(error) = self.announce(bytes) {
            self.batch = LogBatch::default();
            return Err(error);
        }
        self.fill(&Unit::default())?;
        let (bytes, file) = self.put_batch(true)?;
        self.note(Trace::of(&Unit::default()), bytes, file);
        self.keys.extend(keys.drain(..).map(|key| (key, file)));
        Ok(())
    }
}

impl LogStore for EngineStore {
    fn recovered(&self) -> Recovered {
        self.recovered.clone()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.shared.clone()
    }

    fn write(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError> {
        self.settle()?;
        self.lower_mark(unit)?;
        self.announce(unit.bytes() as u64)?;
        self.fill(unit)?;
        self.hide_overwritten(unit);
        // Whoever reads beside a jump finds all of the old entries or is told that they are gone.
        let shared = Arc::clone(&self.shared);
        let exclusive = unit.snapshot.is_some().then(|| shared.exclude_readers());
        let written = self.put_batch(sync)?;
        let noted = self.wrote(Trace::of(unit), written, sync);
        drop(exclusive);
        noted
    }

    fn begin(&mut self, unit: &Unit) -> Result<(), StoreError> {
        debug_assert!(self.begun.is_none(), "one after the other");
        if self.writer.is_none() {
            let outcome = Some(self.write(unit, true));
            self.begun = Some(Begun { trace: Trace::of(&Unit::default()), outcome });
            return Ok(());
        }
        self.lower_mark(unit)?;
        self.announce(unit.bytes() as u64)?;
        self.fill(unit)?;
        self.hide_overwritten(unit);
        let batch = std::mem::take(&mut self.batch);
        self.begun = Some(Begun { trace: Trace::of(unit), outcome: None });
        if let Some(writer) = &mut self.writer {
            writer.begin(batch);
        }
        Ok(())
    }

    fn end(&mut self, wait: bool) -> Option<Result<(), StoreError>> {
        self.look(wait);
        let outcome = self.begun.as_mut()?.outcome.take()?;
        self.begun = None;
        Some(outcome)
    }

    fn has_ended(&self) -> bool {
        let is_known = self.begun.as_ref().is_some_and(|begun| begun.outcome.is_some());
        is_known || self.writer.as_ref().is_some_and(Writer::has_ended)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.settle()?;
        let seq = self.engine().file_span(LogQueue::Append).1;
        // Files before the newest were synced when raft-engine closed them.
        self.newest.sync(self.shared.dir(), seq).map_err(|source| io_failed("sync", source))
    }

    fn mark(&mut self, clean: bool) -> Result<(), StoreError> {
        self.settle()?;
        self.mark_synced(clean)
    }

    fn purge_point(&self, bytes: u64, entries_max: u64) -> Option<Index> {
        let spare = (self.last.0 - self.truncated.0).saturating_sub(entries_max);
        self.files.purge_point(bytes, self.truncated.0 + spare, self.last.0)
    }

    fn purge(&mut self, upto: Index) -> Result<(Index, u64), StoreError> {
        self.settle()?;
        let Some((file, first)) = self.files.purgeable(upto, self.last.0) else {
            return Ok(self.truncated);
        };
        let before = (first - 1).max(self.truncated.0);
        let term = match before {
            before if before == self.truncated.0 => self.truncated.1,
            before if before == self.last.0 => self.last.1,
            before => self.shared.term(before)?,
        };
        self.rescue_keys(file)?;
        self.batch.add_command(ENTRIES, Command::Compact { index: before + 1 });
        let truncated = pair((before, term));
        self.batch
            .put(KEYS, TRUNCATED_KEY.to_vec(), truncated)
            .map_err(|error| failed("encode for", error))?;
        self.write_keys(&mut vec![TRUNCATED_KEY.to_vec()], 0)?;
        self.truncated = (before, term);
        self.shared.set_range(before + 1, self.last.0);
        // The watermark must allow the new beginning before the files go.
        self.mark_synced(false)?;
        self.step();
        self.shared.purge_files(file);
        self.step();
        self.files.drop_upto(file);
        Ok(self.truncated)
    }

    fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.engine().get(KEYS, key)
    }

    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.keys
            .range(prefix.to_vec()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .filter(|key| key.first() != Some(&OWN))
            .cloned()
            .collect()
    }
}

fn failed(action: &'static str, error: raft_engine::Error) -> StoreError {
    let source = match error {
        raft_engine::Error::Io(source) => source,
        other => io::Error::other(other),
    };
    StoreError::Failed { action, source }
}

fn io_failed(action: &'static str, source: io::Error) -> StoreError {
    if is_full(&source) { StoreError::NoSpace } else { StoreError::Failed { action, source } }
}

fn is_no_space(error: &raft_engine::Error) -> bool {
    match error {
        // raft-engine's word for a full disk after which it made a new file.
        raft_engine::Error::TryAgain(_) => true,
        raft_engine::Error::Io(source) => is_full(source),
        _ => false,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn pair((index, term): (Index, u64)) -> Vec<u8> {
    [index.to_le_bytes(), term.to_le_bytes()].concat()
}

fn state_bytes(state: &HardState, seal: u64) -> Vec<u8> {
    [state.term, state.vote, state.commit, seal].map(u64::to_le_bytes).concat()
}
