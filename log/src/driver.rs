//! The log thread: the only place that turns the log's machine in a running node, and waits at the
//! sockets to the others.

mod membership;
mod repair;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ledgermq_core::offset::Timestamp;

use crate::clock::Now;
use crate::cluster::{ClusterConfig, NoPeers, Peers};
use crate::config::Options;
use crate::error::{OpenError, Stopped};
use crate::log::Log;
use crate::machine::{Beginning, LogMachine, TurnError, describe};
use crate::peers::{ClusterDir, Sockets};
use crate::shared::{Shared, lock};
use crate::snapshots::SnapshotDir;
use crate::space::{DirSpace, Monitor};
use crate::store::LogStore;
use crate::store::engine::EngineStore;
use crate::wake::Wake;

use membership::Notes;

/// Directory of snapshots on their way, in that of the log.
const SNAPSHOTS: &str = "snapshots";
/// A node alone declares nobody lost; the value is that of the section's default.
const NODE_LOST: Duration = Duration::from_secs(10);

/// The running log thread. Dropping it does not stop the log; see [`Log::stop`].
#[derive(Debug)]
pub struct LogThread {
    thread: JoinHandle<Result<(), Stopped>>,
}

impl LogThread {
    /// Waits until the log thread has ended.
    ///
    /// # Errors
    ///
    /// If it ended for another reason than [`Log::stop`].
    pub fn join(self) -> Result<(), Stopped> {
        self.thread.join().unwrap_or_else(|_| Err(stopped("the log thread panicked")))
    }
}

/// Recovers the log in `options.dir` and starts the log thread. Returns when the log accepts
/// appends.
///
/// # Errors
///
/// See [`OpenError`]: in use, damaged, or something that the operating system refused.
pub fn open(options: Options) -> Result<(Log, LogThread), OpenError> {
    match try_open(options.clone()) {
        Err(error @ OpenError::Damaged { .. }) if repair::can_be_spared(&options) => {
            let why = describe(&error);
            tracing::error!(error = why, "the others have what this log lacks");
            repair::note(&options, why)?;
            try_open(options)
        }
        opened => opened,
    }
}

/// Why the next process of the node in the directory `data` begins without the log of this one; none
/// if it goes on with it.
#[must_use]
pub fn given_up(data: &Path) -> Option<String> {
    let repair = ClusterDir::new(data).repair().ok().flatten()?;
    (!repair.is_moved).then_some(repair.why)
}

fn try_open(options: Options) -> Result<(Log, LogThread), OpenError> {
    let clock = Clock::start();
    let millis = clock.now().wall.0 / 1000;
    check(&options)?;
    let lock = EngineStore::lock(&options.dir)?;
    let lock = repair::make_way(&options, lock, millis)?;
    let mut space = Monitor::new(&options.config, Box::new(DirSpace::new(options.dir.clone())));
    space.make_room_to_open();
    let Options { node, seed, config, dir, cluster, .. } = options.clone();
    let node_lost = cluster.as_ref().map_or(NODE_LOST, |cluster| cluster.config.node_lost.0);
    let catch_up_rate = cluster
        .as_ref()
        .map_or(ClusterConfig::default().catch_up_rate, |cluster| cluster.config.catch_up_rate);
    let place =
        cluster.map(|cluster| membership::enter(cluster, node, millis / 1000)).transpose()?;
    let mut store = EngineStore::open(&options, lock, millis)?;
    let bell = Arc::new(Bell::default());
    let place = place.flatten();
    if place.is_some() {
        store.write_beside(Arc::clone(&bell) as Arc<dyn Wake>).map_err(|source| OpenError::Io {
            action: "start a thread for",
            path: dir.clone(),
            source,
        })?;
    }
    let (membership, mut peers) = match place {
        None => (None, None),
        Some(place) => {
            let notes = place.notes();
            let (membership, sockets) = place.open()?;
            (Some(membership), Some(Lines { sockets, notes }))
        }
    };
    let stopwatch = Box::new(move || clock.now().monotonic);
    let beginning = Beginning {
        node,
        seed,
        membership,
        node_lost,
        config,
        space,
        snapshots: Arc::new(SnapshotDir::new(dir.join(SNAPSHOTS))),
        catch_up_rate: catch_up_rate.0,
        stopwatch,
    };
    let opened = LogMachine::recover(store, beginning, clock.now()).and_then(|opened| {
        let noted = peers.as_mut().map(|lines| lines.notes.began(opened.0.start()));
        noted.unwrap_or(Ok(())).map(|()| opened)
    });
    let (log, machine) = opened?;
    let shared = Arc::clone(log.shared());
    let _ = bell.shared.set(Arc::clone(&shared));
    let thread = thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || run(machine, &shared, clock, peers))
        .map_err(|source| OpenError::Io { action: "start a thread for", path: dir, source })?;
    Ok((log, LogThread { thread }))
}

/// The connections to other nodes.
struct Lines {
    sockets: Sockets,
    notes: Notes,
}

/// Wakes the log thread when a write beside its turns has ended.
#[derive(Default)]
struct Bell {
    shared: OnceLock<Arc<Shared>>,
}

impl Wake for Bell {
    fn wake(&self) {
        if let Some(shared) = self.shared.get() {
            shared.wake_thread();
        }
    }
}

/// Wakes a thread that is parked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(&self) {
        self.0.unpark();
    }
}

fn check(options: &Options) -> Result<(), OpenError> {
    if options.node == 0 {
        return Err(OpenError::Setting("the number of a node is 1 or more".to_owned()));
    }
    options.config.check().map_err(|error| OpenError::Setting(error.to_string()))
}

/// Why the log thread ends by itself.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// Nobody would hear of this node any more, and nobody would know why.
    #[error("the system refuses to wait for other nodes")]
    Sockets(#[from] io::Error),
}

/// Turns until it is asked to stop or the disk fails. Whatever ends it, nobody waits for it then.
fn run<S: LogStore>(
    machine: LogMachine<S>,
    shared: &Shared,
    clock: Clock,
    mut lines: Option<Lines>,
) -> Result<(), Stopped> {
    let parked = || Arc::new(Parked(thread::current())) as Arc<dyn Wake>;
    let _ = shared.sleeper.set(lines.as_ref().map_or_else(parked, |lines| lines.sockets.bell()));
    // raft-engine panics when a sync fails, as it must: the pages may be lost. The log ends then,
    // and with it the node; nothing is tried again on these files.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        turn_until_stopped(machine, shared, clock, lines.as_mut())
    }));
    let reason = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(describe(&error)),
        Err(_) => Some("the log thread panicked, as it does when a sync fails".to_owned()),
    };
    if let Some(reason) = &reason {
        tracing::error!(%reason, "the log has stopped");
    }
    // Nobody waits for what comes now.
    shared.stopped(reason.as_deref().unwrap_or("it was asked to"));
    if let Some(lines) = lines
        && let Err(error) = lines.sockets.close()
    {
        tracing::error!(%error, "the connections to other nodes broke");
    }
    reason.map_or(Ok(()), |reason| Err(stopped(&reason)))
}

fn turn_until_stopped<S: LogStore>(
    mut machine: LogMachine<S>,
    shared: &Shared,
    clock: Clock,
    mut lines: Option<&mut Lines>,
) -> Result<(), Ended> {
    let mut sleep = Duration::ZERO;
    loop {
        match &mut lines {
            Some(lines) => lines.sockets.wait(sleep)?,
            None if sleep.is_zero() => {}
            None => thread::park_timeout(sleep),
        }
        shared.is_asleep.store(false, Ordering::SeqCst);
        if let Some(lines) = &mut lines {
            lines.sockets.read();
            if machine.may_receive() {
                lines.sockets.drain().for_each(|input| machine.receive(input));
            }
        }
        let peers: &mut dyn Peers = match &mut lines {
            Some(lines) => &mut lines.sockets,
            None => &mut NoPeers,
        };
        let turned = machine.turn(clock.now(), &mut *peers);
        peers.flush();
        if let Some(lines) = &mut lines {
            if let Err(error) = &turned
                && machine.must_make_way(error)
            {
                lines.notes.give_up(&describe(error), shared.start());
            }
            let members = Arc::clone(&lock(&shared.members));
            // Before the next turn, in which something leaves under a number taken in this one.
            lines.notes.look(&members, shared.start(), machine.is_in_doubt(), machine.is_joint());
        }
        let has_more = turned?;
        sleep = Duration::ZERO;
        if has_more {
            continue;
        }
        if shared.is_stopping.load(Ordering::SeqCst) {
            // What a full disk does not take is not lost: nobody was told that it is durable.
            return Ok(machine.close()?);
        }
        // The flag first, then the look: else a push between the two would wake nobody.
        shared.is_asleep.store(true, Ordering::SeqCst);
        let has_mail = lines.as_ref().is_some_and(|lines| lines.sockets.has_mail());
        if !(has_mail && machine.may_receive()) {
            sleep = pause(&machine, shared, clock.now().monotonic).unwrap_or_default();
        }
    }
}

/// How long the log thread may sleep; `None` if there is something to do at once.
fn pause<S: LogStore>(
    machine: &LogMachine<S>,
    shared: &Shared,
    monotonic: Duration,
) -> Option<Duration> {
    let must_turn = machine.has_work(monotonic) || shared.is_stopping.load(Ordering::SeqCst);
    (!must_turn).then(|| machine.next_turn().saturating_sub(monotonic))
}

fn stopped(reason: &str) -> Stopped {
    Stopped { reason: Arc::from(reason) }
}

/// The clocks of the log thread.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    fn start() -> Self {
        Self { start: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: Timestamp::default().plus(wall), monotonic: self.start.elapsed() }
    }
}

#[cfg(test)]
mod tests;
