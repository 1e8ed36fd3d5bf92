//! The threads that may block, so that folding never does.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::{AppendError, Class, Incoming, Log, Wake};

use crate::checkpoint::{Changes, ImportError, Imported, Store, StoreError};
use crate::driver::{Waker, storing};
use crate::projector::Events;
use crate::views::Limits;

/// Most jobs of the store on their way: one of each kind.
const JOBS_MAX: usize = 6;

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
    /// What a snapshot came to.
    Imported(Result<Box<Imported>, ImportError>),
    /// Whether it was put in place.
    TookPlace(Result<(), StoreError>),
}

/// What the store does, one after the other.
pub(super) enum Job {
    Save(Arc<Changes>),
    Keep(Index, Vec<Offset>),
    /// Write out what stands at this index.
    Cut(Index),
    Import(Arc<Incoming>),
    TakePlace,
    Discard,
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
    limits: Limits,
    is_stopping: &Arc<AtomicBool>,
    waker: &Arc<Waker>,
) -> (Helpers, Receiver<Answer>) {
    // At most one answer of each kind is on its way.
    let (answer, answers) = channel();
    let (appends, events) = sync_channel(1);
    let (jobs, todo) = sync_channel(JOBS_MAX);
    let to = Answers { answer, waker: Arc::clone(waker) };
    let appender = spawn("projections-append", {
        let (log, to) = (log.clone(), to.clone());
        move || append_all(&log, &events, &to)
    });
    let writer = spawn("projections-store", {
        let (log, is_stopping) = (log.clone(), Arc::clone(is_stopping));
        move || storing::run(&log, store, limits, &is_stopping, &todo, &to)
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

    pub(super) fn store(&self, job: Job) {
        let _ = self.jobs.send(job);
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

/// The way back of the answers.
#[derive(Clone)]
pub(super) struct Answers {
    answer: Sender<Answer>,
    waker: Arc<Waker>,
}

impl Answers {
    pub(super) fn give(&self, answer: Answer) {
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
