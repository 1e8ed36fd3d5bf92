//! Room on the disk: watching it, refusing in time, and the ballast.
//!
//! ```text
//!   free space      gate
//!   -------------   ------------------------------------------------
//!   plenty          open
//!   < publish       publishes refused
//!   < open          session opens refused, too
//!   < half a file   the ballast is given up: progress and purging go on
//! ```
//!
//! While the ballast is gone its size counts as used, so what it gave back is for progress only.
//! When room returns the ballast is laid down again first; then the gate opens.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::class::Gate;
use crate::config::Config;

/// Room that a write needs besides its bytes.
const SLACK: u64 = 64 << 10;
/// Time between two looks at the free space.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The room of a file system, and the ballast in it.
pub trait Space: Send {
    /// Bytes that can still be written.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    fn free(&mut self) -> io::Result<u64>;

    /// Size of the ballast that is in place; 0 if there is none.
    fn ballast(&mut self) -> u64;

    /// Lays down the ballast.
    ///
    /// # Errors
    ///
    /// If there is not enough room; then nothing of it remains.
    fn lay_ballast(&mut self, bytes: u64) -> io::Result<()>;

    /// Gives the ballast up.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    fn drop_ballast(&mut self) -> io::Result<()>;
}

/// A directory's file system, the ballast a file in it.
#[derive(Debug)]
pub(crate) struct DirSpace {
    dir: PathBuf,
    ballast: PathBuf,
}

impl DirSpace {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { ballast: dir.join("ballast"), dir }
    }
}

impl Space for DirSpace {
    fn free(&mut self) -> io::Result<u64> {
        let stat = statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn ballast(&mut self) -> u64 {
        fs::metadata(&self.ballast).map_or(0, |file| file.len())
    }

    fn lay_ballast(&mut self, bytes: u64) -> io::Result<()> {
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.ballast)
            .and_then(|file| lay(&file, bytes));
        if made.is_err() {
            let _ = fs::remove_file(&self.ballast);
        }
        made
    }

    fn drop_ballast(&mut self) -> io::Result<()> {
        fs::remove_file(&self.ballast)?;
        // On some file systems the room is free only when the removal is durable.
        File::open(&self.dir)?.sync_all()
    }
}

fn lay(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, bytes)?,
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut file).map(|_| ())
}

/// Watches the room and decides about gate and ballast.
pub struct Monitor {
    space: Box<dyn Space>,
    publish: u64,
    open: u64,
    low: u64,
    ballast: u64,
    file: u64,
    free: u64,
    has_ballast: bool,
    full: bool,
    level: Level,
    next_look: Option<Duration>,
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Plenty,
    NoPublishes,
    NoOpens,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Watches `space` with the reserves of `config`.
    #[must_use]
    pub fn new(config: &Config, space: Box<dyn Space>) -> Self {
        Self {
            space,
            publish: config.reserve_publish_bytes(),
            open: config.reserve_open_bytes(),
            low: config.file_bytes.0 / 2,
            ballast: config.ballast_bytes(),
            file: config.file_bytes.0,
            free: u64::MAX,
            has_ballast: false,
            full: false,
            level: Level::Plenty,
            next_look: None,
            written: 0,
        }
    }

    /// Before the log is opened: a full disk must have room for the header of a file.
    pub(crate) fn make_room_to_open(&mut self) {
        self.measure();
        if self.free < self.low {
            self.give_up_ballast("the disk is full at start");
        }
    }

    /// Takes note of bytes written: a fast writer is watched more often than the clock tells.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// Looks if it is time, and says what the gate is now if it may have changed.
    pub(crate) fn look(&mut self, monotonic: Duration) -> Option<Gate> {
        if self.next_look.is_some_and(|next| monotonic < next) && self.written < self.file / 4 {
            return None;
        }
        self.next_look = Some(monotonic + LOOK_EVERY);
        self.written = 0;
        self.measure();
        if self.free < self.low && self.has_ballast {
            self.give_up_ballast("the disk is nearly full");
        } else if self.may_lay_ballast() {
            self.lay_ballast();
        }
        self.level = self.judge();
        Some(self.gate())
    }

    /// A write found the disk full. Returns whether another try may help at once.
    pub(crate) fn found_full(&mut self) -> bool {
        self.full = true;
        self.level = Level::NoOpens;
        self.has_ballast && self.give_up_ballast("the disk is full")
    }

    /// Whether a write of `bytes` has room by what the system says, and the file that may have to be
    /// begun for it.
    pub(crate) fn has_room_for(&mut self, bytes: u64) -> bool {
        self.measure();
        self.free >= bytes + SLACK
    }

    /// A write went through.
    pub(crate) fn found_room(&mut self) {
        if std::mem::take(&mut self.full) {
            self.next_look = None;
        }
    }

    /// Makes sure that a purge has the room that it needs; `false` if there is none.
    pub(crate) fn make_room_to_purge(&mut self) -> bool {
        self.measure();
        if self.free < self.low && self.has_ballast {
            self.give_up_ballast("room is needed for purging");
            self.measure();
        }
        self.free >= self.low / 4
    }

    /// Bytes that must become free before messages are accepted without any doubt, the ballast laid
    /// down before.
    pub(crate) fn missing(&self) -> u64 {
        let ballast = if self.has_ballast { 0 } else { self.ballast };
        (self.publish + self.publish / 8).saturating_add(ballast).saturating_sub(self.free)
    }

    /// Bytes free now, for what takes many.
    pub(crate) fn free_now(&mut self) -> u64 {
        self.measure();
        self.free
    }

    /// Bytes free at the last look.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// Whether the ballast is in place.
    pub(crate) fn has_ballast(&self) -> bool {
        self.has_ballast
    }

    /// The gate by the last look.
    pub(crate) fn gate(&self) -> Gate {
        let reason = || -> Arc<str> {
            let what = if self.full { "the disk is full" } else { "the disk is nearly full" };
            Arc::from(format!("{what}: {} MiB free", self.free >> 20))
        };
        match self.level {
            Level::Plenty => Gate::Open,
            Level::NoPublishes => Gate::RefusePublishes { reason: reason() },
            Level::NoOpens => Gate::RefuseOpens { reason: reason() },
        }
    }

    fn measure(&mut self) {
        // A system that does not tell is taken to have room: a full disk shows itself by a write.
        self.free = self.space.free().unwrap_or(u64::MAX);
        self.has_ballast = self.space.ballast() > 0;
    }

    fn judge(&self) -> Level {
        if self.full {
            return Level::NoOpens;
        }
        let missing = if self.has_ballast { 0 } else { self.ballast };
        let room = self.free.saturating_sub(missing);
        // An eighth more is asked for to open again, so that the gate does not flutter.
        let below = |bound: u64, level: Level| {
            let bound = if self.level >= level { bound + bound / 8 } else { bound };
            room < bound
        };
        if below(self.open, Level::NoOpens) {
            Level::NoOpens
        } else if below(self.publish, Level::NoPublishes) {
            Level::NoPublishes
        } else {
            Level::Plenty
        }
    }

    /// Not before what found the disk full went through, whatever the system says of room.
    fn may_lay_ballast(&self) -> bool {
        let is_wanted = !self.has_ballast && self.ballast > 0 && !self.full;
        is_wanted && self.free >= self.ballast.saturating_add(self.publish)
    }

    fn lay_ballast(&mut self) {
        match self.space.lay_ballast(self.ballast) {
            Ok(()) => {
                self.has_ballast = true;
                self.free = self.free.saturating_sub(self.ballast);
            }
            Err(error) => tracing::warn!(%error, "cannot lay down the ballast of the log"),
        }
    }

    fn give_up_ballast(&mut self, why: &str) -> bool {
        match self.space.drop_ballast() {
            Ok(()) => {
                tracing::error!(free = self.free, "{why}: the ballast of the log is given up");
                self.has_ballast = false;
                self.free = self.free.saturating_add(self.ballast);
                true
            }
            Err(error) => {
                tracing::error!(%error, "{why}, and the ballast of the log cannot be removed");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
