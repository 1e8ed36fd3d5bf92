//! The thread that works with the store.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::{Incoming, Log, ReadError};

use crate::checkpoint::{ImportError, Imported, Store, StoreError, export, import};
use crate::driver::helpers::{Answer, Answers, Job};
use crate::views::Limits;
use crate::views::retained::RetainedMessage;

/// Bytes of messages copied in one transaction.
const KEEP_BYTES_MAX: u64 = 4 << 20;

/// Does what is asked until nobody asks any more.
pub(super) fn run(
    log: &Log,
    mut store: Box<dyn Store>,
    limits: Limits,
    is_stopping: &AtomicBool,
    todo: &Receiver<Job>,
    to: &Answers,
) {
    while let Ok(job) = todo.recv() {
        match job {
            Job::Save(changes) => {
                // A checkpoint ahead of what a power cut leaves of the log would be of no log.
                let is_safe = log.mark(changes.applied);
                let storage = |stopped| StoreError::Storage(Box::new(stopped));
                to.give(Answer::Saved(
                    is_safe.map_err(storage).and_then(|()| store.commit(&changes)),
                ));
            }
            Job::Keep(upto, messages) => {
                let is_kept = keep(log, &mut *store, upto, &messages);
                to.give(Answer::Kept { upto: is_kept.then_some(upto), messages });
            }
            Job::Cut(index) => cut(log, &mut *store, index, is_stopping),
            Job::Import(incoming) => {
                to.give(Answer::Imported(take_in(&mut *store, limits, &incoming, is_stopping)));
            }
            Job::TakePlace => to.give(Answer::TookPlace(store.take_place())),
            Job::Discard => discard(&mut *store),
        }
    }
}

/// Copies messages from the log into the store.
fn keep(log: &Log, store: &mut dyn Store, upto: Index, offsets: &[Offset]) -> bool {
    let mut copies = Vec::new();
    let mut bytes = 0;
    for entry in offsets.chunk_by(|a, b| a.index == b.index) {
        let index = entry[0].index;
        if bytes > KEEP_BYTES_MAX {
            if !store_copies(store, index - 1, &copies) {
                return false;
            }
            copies.clear();
            bytes = 0;
        }
        let batch = match log.read(index) {
            Ok(Some(batch)) => batch,
            // Gone already: who is owed them is told when they are read.
            Ok(None) | Err(ReadError::Purged { .. }) => continue,
            Err(error) => {
                tracing::warn!(index, %error, "cannot copy owed messages before a purge");
                return false;
            }
        };
        RetainedMessage::copy(&batch, entry, &mut copies);
        bytes = copies.iter().map(RetainedMessage::bytes).sum();
    }
    store_copies(store, upto, &copies)
}

fn store_copies(store: &mut dyn Store, upto: Index, copies: &[RetainedMessage]) -> bool {
    let result = store.keep(upto, copies);
    if let Err(error) = &result {
        tracing::warn!(
            error = error as &dyn Error,
            "cannot keep owed messages; the log is not purged"
        );
    }
    result.is_ok()
}

/// Writes out what the store holds, for other nodes. If that fails the log wants it again, at another
/// index.
fn cut(log: &Log, store: &mut dyn Store, index: Index, is_stopping: &AtomicBool) {
    let mut write = || -> Result<(), Box<dyn Error>> {
        let bytes = match store.bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                log.refuse_cut(index, "the projections' store cannot be read");
                return Err(error.into());
            }
        };
        let mut writer = Unless { is_stopping, through: log.begin_cut(index, bytes)? };
        let meta = export(store, index, &mut writer)?;
        Ok(writer.through.finish(meta.checksum)?)
    };
    match write() {
        Ok(()) => tracing::info!(index, "a snapshot of the views was written for other nodes"),
        Err(error) => tracing::warn!(index, error = &*error, "no snapshot could be written"),
    }
}

fn take_in(
    store: &mut dyn Store,
    limits: Limits,
    incoming: &Incoming,
    is_stopping: &AtomicBool,
) -> Result<Box<Imported>, ImportError> {
    let index = incoming.index;
    let result = incoming.open().map_err(ImportError::Read).and_then(|through| {
        let mut from = Unless { is_stopping, through };
        import(store, &mut from, limits, index, incoming.checksum).map(Box::new)
    });
    match &result {
        Ok(_) => tracing::info!(index, "a snapshot was taken in"),
        Err(error) => {
            tracing::warn!(index, error = error as &dyn Error, "a snapshot was not taken in");
        }
    }
    result
}

/// What takes long ends at once when the node is asked to stop.
struct Unless<'s, T> {
    is_stopping: &'s AtomicBool,
    through: T,
}

impl<T> Unless<'_, T> {
    fn check(&self) -> io::Result<()> {
        match self.is_stopping.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the node stops")),
            false => Ok(()),
        }
    }
}

impl<T: Write> Write for Unless<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.through.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.through.flush()
    }
}

impl<T: Read> Read for Unless<'_, T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.through.read(bytes)
    }
}

fn discard(store: &mut dyn Store) {
    if let Err(error) = store.beside().discard() {
        // The next one replaces it, and the next start deletes it.
        let error = &error as &dyn Error;
        tracing::warn!(error, "a snapshot that is not needed cannot be deleted yet");
    }
}
