//! One line on the terminal that says how it goes.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use super::clock::Instant;

const EVERY: Duration = Duration::from_secs(1);

/// Shows a line a second on standard error, if that is a terminal and it is wanted.
pub(super) struct Progress {
    is_shown: bool,
    start: Instant,
    next: Instant,
    last: u64,
}

impl Progress {
    pub(super) fn new(is_wanted: bool) -> Self {
        let start = Instant::now();
        let is_shown = is_wanted && stderr().is_terminal();
        Self { is_shown, start, next: start.after(EVERY), last: 0 }
    }

    /// Shows how many were done in all and a second, and what `more` says, if it is time to.
    pub(super) fn show(
        &mut self,
        now: Instant,
        done: u64,
        what: &str,
        more: impl FnOnce() -> String,
    ) {
        if !self.is_shown || now < self.next {
            return;
        }
        let seconds = now.since(self.start).as_secs();
        let period = now.since(self.next).saturating_add(EVERY).as_millis().max(1);
        let rate = u128::from(done - self.last.min(done)) * 1000 / period;
        self.last = done;
        self.next = now.after(EVERY);
        // The terminal may be gone; the run matters more.
        _ = write!(stderr(), "\r\x1b[K{seconds:>4} s  {done} {what}, {rate}/s{}", more());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
