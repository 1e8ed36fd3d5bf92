//! The threads that may block, so that folding never does.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::{AppendError, Class, Log, ReadError, Wake};

use crate::checkpoint::{Changes, Store, StoreError};
use crate::driver::Waker;
use crate::projector::Events;
use crate::views::retained::RetainedMessage;

/// Bytes of messages copied in one transaction.
const KEEP_BYTES_MAX: u64 = 4 << 20;

/// What a helper did.
#[derive(Debug)]
pub(super) enum Answer {
    /// Index of the appended batch; none if it was refused.
    Appended(Option<Index>),
    /// The same for events derived in a term; none also if the node led it no more.
    Derived(u64, Option<Index>),
    Saved(Result<(), StoreError>),
    /// Messages that were copied and up to where; none if that failed.
    Kept {
        upto: Option<Index>,
        messages: Vec<Offset>,
    },
}

enum Job {
    Save(Arc<Changes>),
    Keep(Index, Vec<Offset>),
}

/// Events to append.
struct Appending {
    events: Events,
    /// The term in which they were derived.
    derived: Option<u64>,
}

/// The two threads. Each is asked for one thing at a time, so that nothing here fills.
pub(super) struct Helpers {
    appends: SyncSender<Appending>,
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

pub(super) fn start(
    log: &Log,
    store: Box<dyn Store>,
    waker: &Arc<Waker>,
) -> (Helpers, Receiver<Answer>) {
    // At most one answer of each kind is on its way.
    let (answer, answers) = channel();
    let (appends, events) = sync_channel(1);
    let (jobs, todo) = sync_channel(2);
    let to = Answers { answer, waker: Arc::clone(waker) };
    let appender = spawn("projections-append", {
        let (log, to) = (log.clone(), to.clone());
        move || append_all(&log, &events, &to)
    });
    let writer = spawn("projections-store", {
        let log = log.clone();
        move || write_all(&log, store, &todo, &to)
    });
    let threads = vec![appender, writer];
    (Helpers { appends, jobs, threads }, answers)
}

impl Helpers {
    pub(super) fn append(&self, events: Events) {
        let _ = self.appends.send(Appending { events, derived: None });
    }

    /// The log answers these as soon as their term is over: they hold nothing up.
    pub(super) fn derive(&self, term: u64, events: Events) {
        let _ = self.appends.send(Appending { events, derived: Some(term) });
    }

    pub(super) fn save(&self, changes: Arc<Changes>) {
        let _ = self.jobs.send(Job::Save(changes));
    }

    pub(super) fn keep(&self, upto: Index, messages: Vec<Offset>) {
        let _ = self.jobs.send(Job::Keep(upto, messages));
    }

    /// Whether a thread has ended: it panicked, or the log has stopped.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads. An append on its way is left to itself: the log answers it, or ends.
    pub(super) fn stop(self) {
        drop((self.appends, self.jobs));
        let mut threads = self.threads;
        if let Some(writer) = threads.pop() {
            let _ = writer.join();
        }
    }
}

#[derive(Clone)]
struct Answers {
    answer: Sender<Answer>,
    waker: Arc<Waker>,
}

impl Answers {
    fn give(&self, answer: Answer) {
        let _ = self.answer.send(answer);
        self.waker.wake();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .expect("the system has room for a thread")
}

fn append_all(log: &Log, appends: &Receiver<Appending>, to: &Answers) {
    while let Ok(Appending { events, derived }) = appends.recv() {
        let mut batch = log.builder();
        events.write(&mut batch);
        if let Some(term) = derived {
            to.give(Answer::Derived(term, log.derive(term, batch).wait()));
            continue;
        }
        match log.append(Class::Progress, batch) {
            Ok(receipt) => to.give(Answer::Appended(Some(receipt.index))),
            Err(AppendError::Refused { reason }) => {
                tracing::warn!(%reason, "an append of the projections was refused");
                to.give(Answer::Appended(None));
            }
            // Nobody knows whether it is in the log; nothing more is appended.
            Err(AppendError::Stopped(_)) => return,
        }
    }
}

fn write_all(log: &Log, mut store: Box<dyn Store>, todo: &Receiver<Job>, to: &Answers) {
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
