//! What stands in for the projections: a small fold of what is admitted, which is saved now and then,
//! written into the cuts that the log wants, and taken in from snapshots beside what is there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Index;
use ledgermq_log::{Incoming, Log, ReadError, StateItem, StateTail, TailError};

use crate::node::log::NoWake;
use crate::raft::oracle::Known;
use crate::rng::Rng;

/// Bytes of a row: a producer, the sequence and the number of what was admitted of it last.
const ROW_BYTES: usize = 8 + 8 + 2 + 8 + 8;

/// The state: whose batches were admitted how far, and a checksum of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) rows: BTreeMap<ProducerId, (u64, u64)>,
    pub(crate) sum: u64,
}

impl State {
    pub(crate) fn apply(&mut self, index: Index, known: &Known) {
        if !known.is_admitted {
            return;
        }
        let row = self.rows.entry(known.producer).or_default();
        *row = (known.sequence, known.numbers.last().copied().unwrap_or(row.1));
        let mut hasher = DefaultHasher::new();
        (self.sum, index, known.sequence, known.hash()).hash(&mut hasher);
        self.sum = hasher.finish();
    }

    /// Its bytes, and so many more: a state of some size.
    fn write(&self, padding: usize, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&self.sum.to_le_bytes())?;
        out.write_all(&(self.rows.len() as u64).to_le_bytes())?;
        for (id, (sequence, number)) in &self.rows {
            out.write_all(&id.node.to_le_bytes())?;
            out.write_all(&id.start.to_le_bytes())?;
            out.write_all(&id.local.to_le_bytes())?;
            out.write_all(&sequence.to_le_bytes())?;
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&vec![0x5A; padding])
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let mut state = Self { sum: number(0)?, ..Self::default() };
        for row in 0..usize::try_from(number(8)?).ok()? {
            let at = 16 + row * ROW_BYTES;
            let local = u16::from_le_bytes(*bytes.get(at + 16..)?.first_chunk()?);
            let id = ProducerId { node: number(at)?, start: number(at + 8)?, local };
            state.rows.insert(id, (number(at + 18)?, number(at + 26)?));
        }
        Some(state)
    }
}

/// What outlives the process: each saved at once and as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    main: (Index, State),
    /// Taken in from a snapshot, and not in use yet.
    beside: Option<(Index, State)>,
}

/// What a fold does in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Bytes beyond its rows in each cut.
    pub(crate) padding: usize,
    /// Of a thousand turns: those in which it saves, in which it does not answer the log, and of a
    /// thousand answers those that say that it cannot.
    pub(crate) saves: u32,
    pub(crate) waits: u32,
    pub(crate) fails: u32,
}

/// What the fold saw.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch, and how far it had come before.
    Batch(Index, Known),
    /// It goes on from a snapshot.
    Jumped(Index, State),
}

/// The fold of one process.
pub(crate) struct Fold {
    tail: StateTail,
    applied: Index,
    state: State,
    /// What is to be saved when the log is marked as far.
    to_save: Option<(Index, State)>,
    /// The state as of a cut that is wanted, not written yet.
    cut: Option<(Index, State)>,
    /// A snapshot of that index was answered.
    answered: Option<Index>,
}

impl Fold {
    /// Goes on from what is saved, as the log has it now.
    pub(crate) fn open(log: &Log, saved: &mut Saved) -> Result<Self, String> {
        let first = log.status().first_index;
        let beside = saved.beside.take();
        if saved.main.0 + 1 < first
            && let Some((index, state)) = beside.filter(|(index, _)| *index + 1 == first)
        {
            saved.main = (index, state);
        }
        let (applied, state) = saved.main.clone();
        if applied + 1 < first {
            return Err(format!("the log begins with {first}, the fold ends with {applied}"));
        }
        let tail = log.tail_state(applied + 1, NoWake::shared());
        Ok(Self { tail, applied, state, to_save: None, cut: None, answered: None })
    }

    /// Everything up to here was seen.
    pub(crate) fn position(&self) -> Index {
        self.tail.position()
    }

    /// What was folded so far.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether something of a snapshot is on its way here.
    pub(crate) fn is_busy(log: &Log, saved: &Saved) -> bool {
        saved.beside.is_some() || log.incoming().is_some()
    }

    /// Takes what is there, and does what the log asks for.
    pub(crate) fn turn(
        &mut self,
        log: &Log,
        saved: &mut Saved,
        habits: Habits,
        may_be_damaged: bool,
        rng: &mut Rng,
    ) -> Result<Vec<Step>, String> {
        let mut items = Vec::new();
        match self.tail.take(usize::MAX, &mut items) {
            // The log has been told, and ends.
            Err(TailError::Read(ReadError::Damaged { .. })) if may_be_damaged => {}
            taken => taken.map_err(|error| error.to_string())?,
        }
        // Behind the taking: the log wants no cut before what was taken by then.
        let wanted =
            log.cut_wanted().filter(|index| self.cut.as_ref().is_none_or(|cut| cut.0 != *index));
        if wanted.is_some_and(|index| index < self.applied) {
            return Err(format!("a cut is wanted at {wanted:?}, the fold is at {}", self.applied));
        }
        let mut steps = Vec::new();
        for item in items {
            match item {
                StateItem::Batch(batch) => {
                    if let Some(index) = wanted.filter(|index| batch.index > *index) {
                        self.cut_at(index);
                    }
                    let known = Known::of(&batch);
                    self.state.apply(batch.index, &known);
                    self.applied = batch.index;
                    steps.push(Step::Batch(batch.index, known));
                }
                StateItem::Snapshot { index } => {
                    let beside = saved.beside.take().filter(|(at, _)| *at == index);
                    let (_, state) = beside.ok_or("the log jumped to what was not taken in")?;
                    saved.main = (index, state.clone());
                    self.to_save = None;
                    (self.applied, self.state) = (index, state.clone());
                    steps.push(Step::Jumped(index, state));
                }
            }
        }
        if let Some(index) = wanted.filter(|index| self.tail.position() > *index) {
            self.cut_at(index);
        }
        if !rng.permille(habits.waits) {
            self.write_cut(log, habits, rng)?;
            self.import(log, saved, habits, rng)?;
        }
        if rng.permille(habits.saves) && self.to_save.is_none() {
            self.to_save = Some((self.tail.position() - 1, self.state.clone()));
        }
        // What is saved must not know of what a crash takes from the log.
        if let Some(save) = self.to_save.take_if(|save| log.want_mark(save.0)) {
            saved.main = save;
        }
        log.checkpointed(saved.main.0);
        log.purge_allowed(saved.main.0);
        Ok(steps)
    }

    /// Keeps the state as of the cut that is wanted, to be written when there is time.
    fn cut_at(&mut self, index: Index) {
        if self.cut.as_ref().is_none_or(|cut| cut.0 != index) {
            self.cut = Some((index, self.state.clone()));
        }
    }

    /// Writes the cut that is wanted.
    fn write_cut(&mut self, log: &Log, habits: Habits, rng: &mut Rng) -> Result<(), String> {
        let Some((index, state)) = self.cut.take_if(|cut| cut.0 < self.tail.position()) else {
            return Ok(());
        };
        let bytes = (16 + state.rows.len() * ROW_BYTES + habits.padding) as u64;
        // It may have been given up.
        let Ok(mut writer) = log.begin_cut(index, bytes) else { return Ok(()) };
        if rng.permille(habits.fails) {
            return Ok(());
        }
        state.write(habits.padding, &mut writer).map_err(|error| error.to_string())?;
        writer.finish(state.sum).map_err(|error| error.to_string())
    }

    /// Takes in the snapshot that came, or throws away what was taken in of one that is withdrawn.
    fn import(
        &mut self,
        log: &Log,
        saved: &mut Saved,
        habits: Habits,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let Some(incoming) = log.incoming() else {
            (saved.beside, self.answered) = (None, None);
            return Ok(());
        };
        if self.answered == Some(incoming.index) {
            return Ok(());
        }
        self.answered = Some(incoming.index);
        if rng.permille(habits.fails) {
            self.answered = None;
            log.imported(incoming.index, Err("told to fail".to_owned()));
            return Ok(());
        }
        saved.beside = Some((incoming.index, read(&incoming, habits.padding)?));
        log.imported(incoming.index, Ok(()));
        Ok(())
    }
}

fn read(incoming: &Incoming, padding: usize) -> Result<State, String> {
    let mut bytes = Vec::new();
    let opened = incoming.open().and_then(|mut stream| stream.read_to_end(&mut bytes));
    opened.map_err(|error| format!("a snapshot that came cannot be read: {error}"))?;
    let state = State::read(&bytes).ok_or("a snapshot that came is cut short")?;
    let length = 16 + state.rows.len() * ROW_BYTES + padding;
    if state.sum != incoming.checksum || bytes.len() != length {
        return Err(format!("a snapshot that came has {} bytes, not {length}", bytes.len()));
    }
    Ok(state)
}
