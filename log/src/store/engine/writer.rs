//! Writes beside the log thread: while the disk syncs, what peers say is heard.
//!
//! One write is under way at a time, as without the thread: what comes meanwhile is the next one.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use raft_engine::LogBatch;

use super::read::EngineReader;
use crate::wake::Wake;

/// What became of a write: the batch, empty again, and raft-engine's answer.
type Outcome = (LogBatch, raft_engine::Result<usize>);

/// The thread that writes and syncs.
pub(super) struct Writer {
    batches: Option<SyncSender<LogBatch>>,
    outcomes: Receiver<Outcome>,
    /// An outcome waits to be taken, or the thread has ended.
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Says that the thread has ended, also if that was a panic.
struct Ends {
    has_ended: Arc<AtomicBool>,
    bell: Arc<dyn Wake>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.bell.wake();
    }
}

impl Writer {
    /// Starts the thread. The bell is rung when a write has ended.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread left.
    pub(super) fn start(engine: Arc<EngineReader>, bell: Arc<dyn Wake>) -> std::io::Result<Self> {
        let (batches, waiting) = sync_channel::<LogBatch>(1);
        let (done, outcomes) = sync_channel::<Outcome>(1);
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = Ends { has_ended: Arc::clone(&has_ended), bell };
        let thread = thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            while let Ok(mut batch) = waiting.recv() {
                let outcome = engine.engine.write(&mut batch, true);
                // Before the outcome can be taken, which says that there is none.
                ends.has_ended.store(true, Ordering::SeqCst);
                if done.send((batch, outcome)).is_err() {
                    break;
                }
                ends.bell.wake();
            }
        })?;
        Ok(Self { batches: Some(batches), outcomes, has_ended, thread: Some(thread) })
    }

    /// Has the batch written and synced. None may be under way.
    pub(super) fn begin(&mut self, batch: LogBatch) {
        let is_taken = self.batches.as_ref().is_some_and(|batches| batches.send(batch).is_ok());
        if !is_taken {
            self.fail();
        }
    }

    /// The outcome of the write under way; with `wait` it is waited for.
    pub(super) fn end(&mut self, wait: bool) -> Option<Outcome> {
        if !wait && !self.has_ended() {
            return None;
        }
        let outcome = self.outcomes.recv();
        self.has_ended.store(false, Ordering::SeqCst);
        outcome.map_or_else(|_| self.fail(), Some)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// The thread has panicked, as raft-engine does when a sync fails: so does this one.
    fn fail(&mut self) -> ! {
        let panic = self.thread.take().and_then(|thread| thread.join().err());
        resume_unwind(panic.unwrap_or_else(|| Box::new("the thread that writes the log has ended")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.batches = None;
        // What is under way is written: whoever opens the directory next finds it at rest.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
