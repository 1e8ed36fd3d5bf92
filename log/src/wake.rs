//! The bell by which threads wake each other.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes whoever has a tail, a producer, or the sockets. Cheap, never blocking: the log thread calls it.
pub trait Wake: Send + Sync {
    /// Makes the owner look again.
    fn wake(&self);
}

/// Where a blocking append waits for room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    is_there: Mutex<bool>,
    came: Condvar,
}

impl Room {
    /// Waits until the log thread made room, or for a moment.
    pub(crate) fn wait(&self) {
        let is_there = self.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        // Another appender may have taken the notice: look again soon, whatever comes.
        let pause = Duration::from_millis(50);
        let waited = self.came.wait_timeout_while(is_there, pause, |is_there| !*is_there);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for Room {
    fn wake(&self) {
        *self.is_there.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.came.notify_all();
    }
}
