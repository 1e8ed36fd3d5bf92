//! The projection thread, and two threads for what may block: appending, and writing checkpoints.

mod helpers;
mod stopping;
mod storing;

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use ledgermq_core::access::RuleList;
use ledgermq_core::offset::Timestamp;
use ledgermq_log::{CommittedBatch, Gate, Incoming, Log, StateItem, StateTail, TailError, Wake};

use crate::checkpoint::{FileStore, StoreError};
use crate::notice::NoticeSink;
use crate::projector::{InstallError, OpenError, Options, Output, Projector};
use crate::reader::Reader;
use crate::views::{Broken, Limits};

use helpers::{Answer, Helpers, Job};

/// Bytes of batches applied under one lock: readers wait no longer than that takes.
const TURN_BYTES_MAX: usize = 256 << 10;
/// Time between two questions whether the log wants to purge.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often to look whether a helper is still there while one is waited for.
const HELPER_POLL: Duration = Duration::from_millis(100);

/// The projections ended otherwise than by [`Driver::stop`].
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A record cannot be folded.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The log cannot be read on.
    #[error("the projections cannot read the log")]
    Log(#[from] TailError),
    /// The log jumped, and the projections cannot follow.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The thread, or one that works for it, panicked.
    #[error("a thread of the projections panicked")]
    Panicked,
}

/// Projections that are loaded and not yet running.
pub struct Opened {
    projector: Projector,
    store: FileStore,
    limits: Limits,
    log: Log,
}

/// Opens the checkpoint file and loads what it holds. [`Opened::start`] lets it run.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(file: PathBuf, options: Options, log: &Log) -> Result<Opened, OpenError> {
    let mut store = FileStore::open(&file)?;
    let status = log.status();
    let projector = Projector::open(options, &mut store, status.first_index, status.last_index)?;
    tracing::info!(
        applied = projector.next_index() - 1,
        commit = status.commit_index,
        "projections loaded"
    );
    Ok(Opened { projector, store, limits: options.limits, log: log.clone() })
}

impl Opened {
    /// The handle to the views.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.projector.reader()
    }

    /// The access rules of this node's file at its start. Who is the only member puts them in force
    /// ([`Projector::set_rules`]); who is one of several only if there never were any
    /// ([`Projector::offer_rules`]).
    pub fn start_rules(&mut self, rules: Option<RuleList>) {
        match self.log.is_sole_member() {
            true => self.projector.set_rules(rules),
            false => self.projector.offer_rules(rules),
        }
    }

    /// Starts the threads. The first thing appended is `NodeStarted`; when it is applied,
    /// [`Reader::is_ready`] turns true, and from then on notices go to `sink`.
    #[must_use]
    pub fn start(self, sink: Box<dyn NoticeSink>) -> Driver {
        let waker = Arc::new(Waker::default());
        let is_stopping = Arc::new(AtomicBool::new(false));
        let rules_wanted = Arc::new(Mutex::new(None));
        let wake: Arc<dyn Wake> = Arc::<Waker>::clone(&waker);
        let tail = self.log.tail_state(self.projector.next_index(), wake);
        let (helpers, answers) =
            helpers::start(&self.log, Box::new(self.store), self.limits, &is_stopping, &waker);
        let running = Running {
            projector: self.projector,
            log: self.log,
            tail,
            helpers,
            answers,
            sink,
            is_stopping: Arc::clone(&is_stopping),
            rules_wanted: Arc::clone(&rules_wanted),
            purge_asked: None,
            incoming: None,
            ahead: Vec::new(),
        };
        let own = Arc::clone(&waker);
        let thread = thread::Builder::new()
            .name("projections".to_owned())
            .spawn(move || {
                own.set(thread::current());
                running.run()
            })
            .expect("the system has room for a thread");
        Driver { thread, waker, is_stopping, rules_wanted }
    }
}

/// The running projections.
#[derive(Debug)]
pub struct Driver {
    thread: JoinHandle<Result<(), DriverError>>,
    waker: Arc<Waker>,
    is_stopping: Arc<AtomicBool>,
    rules_wanted: RulesWanted,
}

/// Access rules on their way to the thread.
type RulesWanted = Arc<Mutex<Option<Option<RuleList>>>>;

impl Driver {
    /// Has these access rules put in force while the projections run; see
    /// [`Projector::set_rules`]. They are when the views say so.
    pub fn set_rules(&self, rules: Option<RuleList>) {
        *self.rules_wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
        self.waker.wake();
    }

    /// Lets the projections apply what is committed, write a last checkpoint and end. To be called
    /// before the log is stopped.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the projections have ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the projections have ended.
    ///
    /// # Errors
    ///
    /// If they ended for another reason than [`Driver::stop`] or the end of the log.
    pub fn join(self) -> Result<(), DriverError> {
        self.thread.join().unwrap_or(Err(DriverError::Panicked))
    }
}

/// Wakes the projection thread.
#[derive(Debug, Default)]
struct Waker(OnceLock<Thread>);

impl Waker {
    fn set(&self, thread: Thread) {
        let _ = self.0.set(thread);
    }
}

impl Wake for Waker {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

struct Running {
    projector: Projector,
    log: Log,
    tail: StateTail,
    helpers: Helpers,
    answers: Receiver<Answer>,
    sink: Box<dyn NoticeSink>,
    is_stopping: Arc<AtomicBool>,
    rules_wanted: RulesWanted,
    purge_asked: Option<Timestamp>,
    /// The last snapshot that came.
    incoming: Option<Arc<Incoming>>,
    /// Batches behind a jump of the log, until the views have jumped.
    ahead: Vec<Arc<CommittedBatch>>,
}

impl Running {
    /// A failure stops the log: a node whose views stand still must not go on acknowledging.
    fn run(mut self) -> Result<(), DriverError> {
        let result = self.turns();
        // The store leaves off what takes long.
        self.is_stopping.store(true, Ordering::Release);
        match &result {
            Ok(()) => self.save_last(),
            Err(error) => {
                tracing::error!(
                    error = error as &dyn Error,
                    "the projections failed, the node stops"
                );
                self.projector.reader().set_failed(error.to_string());
                self.log.stop();
            }
        }
        self.helpers.stop();
        result
    }

    fn turns(&mut self) -> Result<(), DriverError> {
        let clock = Clock::new();
        let (mut batches, mut notices, mut out) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let is_stopping = self.is_stopping.load(Ordering::Acquire);
            let now = clock.now();
            if self.helpers.has_ended() && !matches!(self.log.gate(), Gate::Stopped { .. }) {
                return Err(DriverError::Panicked);
            }
            let start = self.log.incarnation();
            if self.projector.start() != start {
                self.projector.renew(start);
            }
            let applied = self.projector.next_index();
            self.take_answers(now, &mut out)?;
            self.take_rules();
            self.ask_purge(now);
            self.look_for_snapshot(now, &mut out);
            let is_at_end = self.take_batches(&mut batches)?;
            // Asked behind the batches: whatever lies beyond was not handed out before.
            self.projector.cut_wanted(self.log.cut_wanted(), &mut out);
            self.projector.set_lead(self.log.leading(), self.tail.position() - 1);
            self.projector.turn(now, self.log.time(), &batches, &mut notices, &mut out)?;
            // Also if nothing but a snapshot came.
            let is_idle = self.projector.next_index() == applied && batches.is_empty();
            if !is_idle {
                self.sink.notices(self.projector.next_index() - 1, &mut notices);
                notices.clear();
            }
            batches.clear();
            self.perform(&mut out);
            if is_at_end || (is_stopping && is_idle) {
                return Ok(());
            }
            if is_idle {
                self.sleep(&clock);
            }
        }
    }

    /// Takes the next batches; `true` if the log has ended and everything was taken.
    fn take_batches(
        &mut self,
        batches: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<bool, DriverError> {
        if self.projector.is_installing() {
            return Ok(matches!(self.log.gate(), Gate::Stopped { .. }));
        }
        batches.append(&mut self.ahead);
        let mut items = Vec::new();
        let result = self.tail.take(TURN_BYTES_MAX, &mut items);
        for item in items {
            match item {
                StateItem::Batch(batch) if self.projector.is_installing() => self.ahead.push(batch),
                StateItem::Batch(batch) => batches.push(batch),
                StateItem::Snapshot { index } => {
                    tracing::info!(index, "the log has jumped to a snapshot");
                    // It stands for these, too.
                    batches.clear();
                    self.projector.jumped(index)?;
                }
            }
        }
        match result {
            Ok(()) => Ok(false),
            Err(TailError::Stopped(_)) => Ok(batches.is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has a snapshot that came taken in.
    fn look_for_snapshot(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let incoming = self.log.incoming();
        let shown = incoming.as_ref().map(|it| (it.index, it.checksum));
        self.projector.incoming(now, shown, out);
        if let Some(incoming) = incoming {
            self.incoming = Some(Arc::new(incoming));
        }
    }

    fn take_answers(&mut self, now: Timestamp, out: &mut Vec<Output>) -> Result<(), DriverError> {
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Appended(index) => self.projector.appended(now, index),
                Answer::Derived(term, index) => self.projector.derived(term, index),
                Answer::Saved(result) => {
                    report(&result);
                    self.projector.saved(now, result, out);
                }
                Answer::Kept { upto, messages } => {
                    self.projector.kept(now, upto, &messages, out);
                }
                Answer::Imported(result) => self.projector.imported(now, result, out),
                Answer::TookPlace(result) => {
                    if let Err(error) = &result {
                        let error = error as &dyn Error;
                        tracing::warn!(error, "a snapshot cannot be put in place yet");
                    }
                    self.projector.took_place(now, result, out)?;
                }
            }
        }
        Ok(())
    }

    fn take_rules(&mut self) {
        let wanted = self.rules_wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rules) = wanted {
            self.projector.set_rules(rules);
        }
    }

    fn ask_purge(&mut self, now: Timestamp) {
        if self.purge_asked.is_none_or(|asked| now.since(asked) >= PURGE_INTERVAL) {
            self.purge_asked = Some(now);
            self.projector.purge_wanted(self.log.purge_wanted());
        }
    }

    fn perform(&mut self, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            match output {
                Output::Append(events) => self.helpers.append(events),
                Output::Derive { term, events } => self.helpers.derive(term, events),
                Output::Save(changes) => self.helpers.store(Job::Save(changes)),
                Output::Keep { upto, messages } => self.helpers.store(Job::Keep(upto, messages)),
                Output::Checkpointed(index) => self.log.checkpointed(index),
                Output::PurgeAllowed(index) => self.log.purge_allowed(index),
                Output::Cut(index) => self.helpers.store(Job::Cut(index)),
                Output::CutFailed(index) => {
                    self.log.refuse_cut(index, "the projections cannot stop there any more");
                }
                Output::Import { .. } => {
                    // It is the last one that was announced.
                    if let Some(incoming) = &self.incoming {
                        self.helpers.store(Job::Import(Arc::clone(incoming)));
                    }
                }
                Output::Imported { index, result } => self.log.imported(index, result),
                Output::TakePlace => self.helpers.store(Job::TakePlace),
                Output::Discard => self.helpers.store(Job::Discard),
            }
        }
    }

    /// Sleeps until a batch, an answer, or the time comes. An answer that came since it was looked
    /// for has unparked this thread: it will not sleep.
    fn sleep(&mut self, clock: &Clock) {
        let now = clock.now();
        let purge = PURGE_INTERVAL;
        let wake = self.projector.wake_at(now, self.log.time());
        let wake = wake.map_or(purge, |at| at.since(now).min(purge));
        // What comes behind a jump can wait.
        let may_sleep = || self.projector.is_installing() || self.tail.prepare_sleep();
        if !wake.is_zero() && may_sleep() {
            thread::park_timeout(wake);
        }
        self.tail.awake();
    }
}

fn report(result: &Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(
            error = error as &dyn Error,
            "the checkpoint was not written; it is tried again"
        );
    }
}

/// A clock that runs evenly, from an arbitrary beginning.
struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(&self) -> Timestamp {
        Timestamp(0).plus(self.0.elapsed())
    }
}
