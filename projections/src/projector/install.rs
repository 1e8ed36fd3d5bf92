//! A snapshot of the leader instead of batches that are gone: taken in beside what is in use, and put in
//! its place when the log has jumped there.

use ledgermq_core::offset::{Index, Timestamp};

use crate::checkpoint::{ImportError, Imported, Meta, StoreError};
use crate::projector::{Append, Output, Projector, RETRY_INTERVAL, Started};

/// How often what the store refuses is tried again.
const TRIES_MAX: u32 = 10;

/// Where the snapshot is that came or comes.
#[derive(Debug, Default)]
pub(super) struct Install {
    step: Step,
    /// How often the step failed.
    failures: u32,
    /// When it is tried again.
    next: Timestamp,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// It is here and to be taken in: index and row checksum.
    Wanted(Index, u64),
    /// The store is asked to take it in.
    Importing(Index, u64),
    /// It cannot be taken in, which the log was told.
    Refused(Index, u64),
    /// It is beside the store in use.
    Beside(Box<Imported>),
    /// The log has jumped: the store is to put it in place, is asked to, or was.
    Jumped(Box<Imported>),
    TakingPlace(Box<Imported>),
}

impl Install {
    /// At another step, which was not tried yet.
    fn at(step: Step) -> Self {
        Self { step, failures: 0, next: Timestamp(0) }
    }
}

/// The log jumped, and the projections cannot follow.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The state of that index was not taken in.
    #[error("the log jumped to index {0}, and the projections have no state of it")]
    NotHere(Index),
    /// The store does not put it in place.
    #[error("the state of a snapshot cannot be put in place")]
    Store(#[source] StoreError),
}

impl Projector {
    /// The snapshot that is shown ([`ledgermq_log::Log::incoming`]), if one is: its index and row
    /// checksum. It is taken in by [`Output::Import`], and the log told by [`Output::Imported`] as long
    /// as it shows it: it may be the same again.
    pub fn incoming(&mut self, now: Timestamp, shown: Option<(Index, u64)>, out: &mut Vec<Output>) {
        let Some((index, checksum)) = shown else {
            if matches!(self.install.step, Step::Wanted(..) | Step::Refused(..)) {
                self.install = Install::default();
            }
            return;
        };
        if index <= self.reader.applied() {
            // Raft finds that its log has it, too, and does not jump.
            return out.push(Output::Imported { index, result: Ok(()) });
        }
        match &self.install.step {
            Step::Beside(held) if is_of(&held.meta, index, checksum) => {
                out.push(Output::Imported { index, result: Ok(()) });
            }
            Step::Wanted(at, sum) if (*at, *sum) == (index, checksum) => {}
            // If it is shown for longer, it was sent again.
            Step::Refused(at, sum)
                if (*at, *sum) == (index, checksum) && now < self.install.next => {}
            // The store does one thing after the other: a newer one comes when this one is answered.
            Step::Importing(..) | Step::Jumped(_) | Step::TakingPlace(_) => {}
            _ => self.install = Install::at(Step::Wanted(index, checksum)),
        }
    }

    /// The answer to [`Output::Import`].
    pub fn imported(
        &mut self,
        now: Timestamp,
        result: Result<Box<Imported>, ImportError>,
        out: &mut Vec<Output>,
    ) {
        let Step::Importing(index, checksum) = self.install.step else { return };
        let failures = self.install.failures + 1;
        let result = match result {
            Ok(imported) => {
                self.install = Install::at(Step::Beside(imported));
                Ok(())
            }
            Err(ImportError::Store(StoreError::Storage(_)) | ImportError::Read(_))
                if failures < TRIES_MAX =>
            {
                self.install.step = Step::Wanted(index, checksum);
                self.install.failures = failures;
                self.install.next = now.plus(RETRY_INTERVAL);
                return;
            }
            Err(error) => {
                self.install = Install::at(Step::Refused(index, checksum));
                self.install.next = now.plus(RETRY_INTERVAL);
                Err(reason(&error))
            }
        };
        out.push(Output::Imported { index, result });
    }

    /// The log jumped to `index`: its next batch is the one behind. The views are the old ones, and not
    /// ready, until [`Output::TakePlace`] is answered; no batch is to be applied before.
    ///
    /// # Errors
    ///
    /// [`InstallError::NotHere`]: the node has to stop.
    pub fn jumped(&mut self, index: Index) -> Result<(), InstallError> {
        match std::mem::take(&mut self.install.step) {
            Step::Beside(held) if held.meta.applied == index => {
                self.install = Install::at(Step::Jumped(held));
                self.reader.set_ready(0);
                self.cut.reset();
                Ok(())
            }
            _ => Err(InstallError::NotHere(index)),
        }
    }

    /// The answer to [`Output::TakePlace`].
    ///
    /// # Errors
    ///
    /// [`InstallError::Store`] if it failed too often: the node has to stop. What the store has beside is
    /// put in place by the next start.
    pub fn took_place(
        &mut self,
        now: Timestamp,
        result: Result<(), StoreError>,
        out: &mut Vec<Output>,
    ) -> Result<(), InstallError> {
        let Step::TakingPlace(held) = std::mem::take(&mut self.install.step) else { return Ok(()) };
        match result {
            Ok(()) => {
                self.install = Install::at(Step::Idle);
                self.replace(*held, out);
                Ok(())
            }
            Err(_) if self.install.failures + 1 < TRIES_MAX => {
                self.install.step = Step::Jumped(held);
                self.install.failures += 1;
                self.install.next = now.plus(RETRY_INTERVAL);
                Ok(())
            }
            Err(error) => Err(InstallError::Store(error)),
        }
    }

    /// Whether the log has jumped and the views have not: nothing can be applied.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        matches!(self.install.step, Step::Jumped(_) | Step::TakingPlace(_))
    }

    /// Takes the next step, if it is time.
    pub(super) fn install(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Install { step, next, .. } = &mut self.install;
        if now < *next {
            return;
        }
        *step = match std::mem::take(step) {
            Step::Wanted(index, checksum) => {
                out.push(Output::Import { index, checksum });
                Step::Importing(index, checksum)
            }
            Step::Jumped(held) => {
                out.push(Output::TakePlace);
                Step::TakingPlace(held)
            }
            // The log went on without it: nobody asks for it any more.
            Step::Beside(held) if self.reader.applied() >= held.meta.applied => {
                out.push(Output::Discard);
                Step::Idle
            }
            step => step,
        };
    }

    /// When [`Projector::install`] has something to do.
    pub(super) fn install_at(&self) -> Option<Timestamp> {
        let is_due = matches!(self.install.step, Step::Wanted(..) | Step::Jumped(_));
        is_due.then_some(self.install.next)
    }

    /// The views are those of the snapshot from here on.
    fn replace(&mut self, snapshot: Imported, out: &mut Vec<Output>) {
        let Imported { meta, views, kept } = snapshot;
        let is_known = views.node_start(self.options.node) == Some(self.options.start);
        let old = {
            let mut held = self.reader.views_mut();
            let old = std::mem::replace(&mut *held, views);
            self.reader.publish(&held);
            old
        };
        // Which takes a while, and nobody waits for.
        drop(old);
        self.saving = None;
        self.cut.reset();
        self.checkpointed = meta.applied;
        self.reader.set_checkpointed(meta.applied);
        (self.kept, self.kept_upto) = (kept.into_iter().collect(), meta.kept_upto);
        self.purge_wanted = None;
        self.started = match self.started {
            // Its answer comes: for what was skipped, the place of the snapshot.
            Started::Sent => Started::Sent,
            _ if is_known => Started::Ready,
            Started::At(index) if index > meta.applied => Started::At(index),
            _ => Started::No,
        };
        if self.started == Started::Ready {
            self.reader.set_ready(self.options.start);
        }
        if matches!(self.append, Append::At(index) if index <= meta.applied) {
            self.append = Append::Idle;
        }
        self.note_applied();
        out.push(Output::Checkpointed(meta.applied));
        out.push(Output::PurgeAllowed(meta.kept_upto));
    }
}

fn is_of(meta: &Meta, index: Index, checksum: u64) -> bool {
    (meta.applied, meta.checksum) == (index, checksum)
}

/// The error and what it comes from, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
