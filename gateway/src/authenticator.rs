//! Compares passwords, on threads of its own: a comparison takes milliseconds, which no worker has.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::{fmt, fs, io};

use crate::clock::Clock;
use crate::passwords::attempts::Attempts;
use crate::passwords::hash::Scratch;
use crate::passwords::verified::Verified;
use crate::passwords::{Checked, FILE_BYTES_MAX, PasswordFileError, Passwords};

/// Threads at most; a node with fewer cores has one for each.
const THREADS_MAX: usize = 2;
/// Attempts that wait; whoever comes then is told that the server is busy. At some 20 ms each they
/// are dealt with before their clients lose patience.
const WAITING_MAX: usize = 256;
/// Of these, those of one address: it cannot keep all others out.
const WAITING_OF_ADDRESS_MAX: usize = 128;
/// Bytes of names and passwords that wait.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Why a `password_file` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("gateway.password_file {}: {fault}", path.display())]
pub struct PasswordsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub fault: PasswordsFault,
}

/// What is wrong with a `password_file`.
#[derive(Debug, thiserror::Error)]
pub enum PasswordsFault {
    /// It cannot be read.
    #[error("cannot be read ({0}); correct the path or its rights")]
    Read(io::Error),
    /// It is too large.
    #[error("has more than 64 MiB")]
    TooLarge,
    /// A line is wrong.
    #[error("{0}")]
    Line(PasswordFileError),
}

/// Somebody who gave a user name and a password.
pub(crate) struct Attempt {
    pub(crate) peer: IpAddr,
    pub(crate) username: Box<str>,
    pub(crate) password: Box<[u8]>,
    /// Told whether they belong together, on a thread of the authenticator.
    pub(crate) answer: Box<dyn FnOnce(bool) + Send>,
}

impl fmt::Debug for Attempt {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Counts since the start. All values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthenticatorStats {
    /// Attempts that gave the right password.
    pub accepted: u64,
    /// Attempts that did not, of known and unknown users.
    pub refused: u64,
    /// Attempts refused without a look, after too many failures.
    pub held_off: u64,
}

/// The handle of the authenticator; cheap to clone. Its threads end with the last handle.
#[derive(Clone)]
pub(crate) struct Authenticator {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

struct Shared {
    file: PathBuf,
    clock: Clock,
    queue: Mutex<Queue>,
    came: Condvar,
    known: Mutex<Known>,
    attempts: Mutex<Attempts>,
    counts: [AtomicU64; 3],
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Attempt>,
    bytes: usize,
    is_stopped: bool,
}

/// The file as it was read last, and what came of it.
struct Known {
    passwords: Arc<Passwords>,
    verified: Verified,
}

/// Stops the threads when the last handle goes.
struct Threads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.shared.queue).is_stopped = true;
        self.shared.came.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads the `password_file` at `path`.
///
/// # Errors
///
/// If it cannot be read, or a line is wrong.
pub fn read(path: &Path) -> Result<Passwords, PasswordsError> {
    let error = |fault| PasswordsError { path: path.to_owned(), fault };
    let cannot = |source| error(PasswordsFault::Read(source));
    if fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(error(PasswordsFault::TooLarge));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    Passwords::parse(&text).map_err(|line| error(PasswordsFault::Line(line)))
}

/// Whether others than its owner may read the file at `path`.
#[must_use]
pub fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

impl Authenticator {
    /// Reads `file` and starts the threads.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub(crate) fn start(file: PathBuf) -> Result<Self, PasswordsError> {
        let passwords = Arc::new(read(&file)?);
        let shared = Arc::new(Shared {
            file,
            clock: Clock::start(),
            queue: Mutex::default(),
            came: Condvar::new(),
            known: Mutex::new(Known { passwords, verified: Verified::new() }),
            attempts: Mutex::default(),
            counts: Default::default(),
        });
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut threads = Vec::new();
        for number in 0..cores.min(THREADS_MAX) {
            let of_thread = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name(format!("passwords-{number}"))
                .spawn(move || of_thread.run())
                .map_err(|source| PasswordsError {
                    path: shared.file.clone(),
                    fault: PasswordsFault::Read(source),
                })?;
            threads.push(thread);
        }
        let threads = Arc::new(Threads { shared: Arc::clone(&shared), threads });
        Ok(Self { shared, threads })
    }

    /// Takes an attempt in; gives it back if too many wait.
    pub(crate) fn submit(&self, attempt: Attempt) -> Result<(), Attempt> {
        let mut queue = lock(&self.shared.queue);
        let bytes = queue.bytes + attempt.bytes();
        let is_full = queue.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX;
        if is_full || queue.waiting_of(attempt.peer) >= WAITING_OF_ADDRESS_MAX {
            return Err(attempt);
        }
        queue.bytes = bytes;
        queue.waiting.push_back(attempt);
        drop(queue);
        self.shared.came.notify_one();
        Ok(())
    }

    /// Reads the file again, for attempts that come from now on. If it cannot be used, what was in
    /// force stays in force.
    pub(crate) fn reload(&self) -> Result<(), PasswordsError> {
        let passwords = Arc::new(read(&self.shared.file)?);
        *lock(&self.shared.known) = Known { passwords, verified: Verified::new() };
        Ok(())
    }

    /// The first of its threads that has ended: it panicked.
    pub(crate) fn ended(&self) -> Option<&Thread> {
        self.threads.threads.iter().find(|thread| thread.is_finished()).map(JoinHandle::thread)
    }

    pub(crate) fn stats(&self) -> AuthenticatorStats {
        let [accepted, refused, held_off] =
            [0, 1, 2].map(|at: usize| self.shared.counts[at].load(Ordering::Relaxed));
        AuthenticatorStats { accepted, refused, held_off }
    }
}

impl Queue {
    fn waiting_of(&self, peer: IpAddr) -> usize {
        self.waiting.iter().filter(|waiting| waiting.peer == peer).count()
    }
}

impl Attempt {
    fn bytes(&self) -> usize {
        self.username.len() + self.password.len()
    }
}

impl Shared {
    fn run(&self) {
        let mut scratch = Scratch::default();
        while let Some(attempt) = self.next() {
            let is_right = self.check(&attempt, &mut scratch);
            (attempt.answer)(is_right);
        }
    }

    fn next(&self) -> Option<Attempt> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_stopped {
                return None;
            }
            if let Some(attempt) = queue.waiting.pop_front() {
                queue.bytes -= attempt.bytes();
                return Some(attempt);
            }
            queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn check(&self, attempt: &Attempt, scratch: &mut Scratch) -> bool {
        let Attempt { peer, username, password, .. } = attempt;
        if !lock(&self.attempts).allows(self.clock.now(), *peer, username) {
            return self.count(2, false);
        }
        let passwords = {
            let known = lock(&self.known);
            if known.verified.knows(username, password) {
                return self.count(0, true);
            }
            Arc::clone(&known.passwords)
        };
        let is_right = passwords.check_in(username, password, scratch) == Checked::Right;
        let mut attempts = lock(&self.attempts);
        if !is_right {
            attempts.failed(self.clock.now(), *peer, username);
            return self.count(1, false);
        }
        attempts.succeeded(*peer, username);
        drop(attempts);
        let mut known = lock(&self.known);
        // What a file that was replaced meanwhile said is not remembered.
        if Arc::ptr_eq(&known.passwords, &passwords) {
            known.verified.insert(username, password);
        }
        self.count(0, true)
    }

    fn count(&self, at: usize, is_right: bool) -> bool {
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        is_right
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
