//! From a store to a running log.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};
use raft::eraftpb::EntryType;

use crate::admission::{self, Loaded};
use crate::clock::{LeaderClock, Now};
use crate::cluster::{Members, NoPeers};
use crate::committed::CommittedBatch;
use crate::config::Config;
use crate::error::{OpenError, ReadError};
use crate::log::Log;
use crate::machine::commands::Commands;
use crate::machine::doubting::{Doubting, Found};
use crate::machine::joining::{Joining, Membership, TOLD_KEY};
use crate::machine::keeping::Keeping;
use crate::machine::peers::Table;
use crate::machine::policy::Policy;
use crate::machine::proposing::Proposing;
use crate::machine::snapshots::{Snapshots, time_of_snapshot};
use crate::machine::{Counts, LogMachine, TurnError, hearing, incarnation};
use crate::replica::{Birth, BirthError, MEMBERS_KEY, Replica, Turned};
use crate::ring::Ring;
use crate::shared::{Shared, lock};
use crate::snapshots::SnapshotFiles;
use crate::space::Monitor;
use crate::status::Status;
use crate::store::{LogReader, LogStore, REMEDY, Recovered, Unit};
use crate::wake::Room;

/// Bytes of entries folded at a time.
const READ_BYTES: usize = 4 << 20;

/// What a log begins with besides its store.
pub struct Beginning {
    /// Number of the node.
    pub node: u64,
    /// Draws the election timeouts.
    pub seed: u64,
    /// Its place in a cluster; none if nobody is to join it.
    pub membership: Option<Membership>,
    /// A node that the leader does not hear for so long is declared lost.
    pub node_lost: Duration,
    /// The section `[log]`.
    pub config: Config,
    /// Room on the disk.
    pub space: Monitor,
    /// Where snapshots stand on their way.
    pub snapshots: Arc<dyn SnapshotFiles>,
    /// Bytes of snapshots that are sent in a second, at most.
    pub catch_up_rate: u64,
    /// Reads a monotonic clock, to time the syncs.
    pub stopwatch: Box<dyn FnMut() -> Duration + Send>,
}

impl<S: LogStore> LogMachine<S> {
    /// Folds what `store` recovered. The only voter is elected and commits what the last process
    /// left uncommitted; with others, that comes with the turns.
    ///
    /// # Errors
    ///
    /// If the store holds damaged entries or cannot be written.
    pub fn recover(mut store: S, beginning: Beginning, now: Now) -> Result<(Log, Self), OpenError> {
        let Beginning {
            node,
            seed,
            membership,
            node_lost,
            config,
            space,
            snapshots,
            catch_up_rate,
            stopwatch,
        } = beginning;
        let start_min = membership.as_ref().map_or(0, |it| it.identity.start_min);
        // An empty log of a node that was let in waits for the others'.
        let is_founder = start_min == 0;
        let recovered = store.recovered();
        let reader = store.reader();
        let Loaded { admission, voids, checkpoint } = admission::load(&store)?;
        let checkpoint_index = checkpoint.index();
        // The commit index on disk lags behind; what was folded is committed.
        let commit = recovered.hard_state.commit.max(admission.applied());
        let commit = commit.max(recovered.configuration.index);
        check_range(admission.applied(), &recovered)?;
        let ring_bytes = usize::try_from(config.ring_bytes.0).unwrap_or(usize::MAX);
        let cache_bytes = usize::try_from(config.cache_bytes.0).unwrap_or(usize::MAX);
        let status = Status { unclean: recovered.unclean, ..Status::default() };
        let ring = Ring::new(commit, ring_bytes);
        let shared =
            Shared::new(Arc::clone(&reader), ring, status, cache_bytes, node, recovered.start);
        let shared = Arc::new(shared.with_voids(voids));
        let (taken, kept) = (incarnation::taken(&store), hearing::kept(&store));
        // A log that begins behind a snapshot may have no batch yet.
        let jumped_at = time_of_snapshot(&store);
        let room = Arc::new(Room::default());
        let known = members(&store, MEMBERS_KEY)?;
        let told = members(&store, TOLD_KEY)?;
        let mut extra = Unit::default();
        let why = membership.as_ref().and_then(|it| it.why.clone());
        let is_let_in = membership.as_ref().is_some_and(|it| it.told.is_some());
        if let Some(told) = membership.as_ref().and_then(|it| it.told.as_ref()) {
            extra.puts.push((TOLD_KEY.to_vec(), told.encode()));
        }
        let told = [
            Some(Arc::new(told)),
            membership.as_ref().and_then(|it| it.told.clone()),
            membership.as_ref().and_then(|it| it.known.clone()),
        ];
        let told = told.into_iter().flatten().max_by_key(|told| told.index);
        let configuration = &recovered.configuration;
        let is_newest = told.as_ref().is_none_or(|told| told.index <= configuration.index);
        let found = match (recovered.last.0, configuration.is_empty()) {
            (0, true) if is_founder || is_let_in => Found::New,
            (0, true) => Found::Empty,
            _ if configuration.is_sole_voter(node) && is_newest => Found::Alone,
            _ => Found::Log,
        };
        let doubting = Doubting::new(node, &store, found, (told, why), now, &mut extra);
        if !extra.is_empty() {
            // That this log is a new one must be known before it promises anything.
            let written = store.write(&extra, true);
            written.map_err(|error| OpenError::Setting(describe(&error)))?;
            extra = Unit::default();
        }
        let birth = Birth { node, seed, applied: commit, is_founder, members: known };
        let replica = Replica::new(birth, store).map_err(|error| match error {
            BirthError::Unreadable { index, error } => unreadable(&*reader, index, &error),
            BirthError::Store(error) => OpenError::Setting(describe(&error)),
        })?;
        let newest = last_time(&*reader, &recovered, recovered.last.0)?.max(jumped_at);
        // What is not committed may yet make way for entries of an earlier time.
        let last_time = last_time(&*reader, &recovered, commit)?.max(jumped_at);
        let mut machine = Self {
            replica,
            admission,
            checkpoint,
            space,
            extra,
            found: recovered.last.0,
            clock: LeaderClock::new(newest, now),
            shared: Arc::clone(&shared),
            config,
            own: ProducerId { node, start: recovered.start, local: 0 },
            is_number_kept: true,
            proposing: Proposing::default(),
            peers: Table::default(),
            policy: Policy::default(),
            commands: Commands::new(recovered.start),
            joining: Joining::new(membership),
            doubting,
            snapshots: Snapshots::new(snapshots, catch_up_rate),
            node_lost,
            retry: None,
            retry_anyway: Duration::ZERO,
            turned: Turned::default(),
            last_tick: now.monotonic,
            last_sync: now.monotonic,
            is_unsynced: false,
            awaits_sync: false,
            last_time,
            counts: Counts::default(),
            keeping: Keeping::new(now.monotonic, checkpoint_index),
            write_began: None,
            stopwatch,
        };
        machine.peers.kept = kept;
        machine.hear(kept.max(newest));
        machine.replay(&*reader, commit)?;
        if machine.is_alone() && machine.doubting.is_sound() {
            machine.elect(now)?;
        }
        machine.show_cluster(now.monotonic);
        // What is in the log counts: the watermark may have been lost, and the clock be behind.
        let least = machine.admission.start_of(node).max(taken).max(start_min.saturating_sub(1));
        shared.raise_start(least + 1);
        // The store counts starts by itself.
        machine.is_number_kept = shared.start() == recovered.start;
        machine.own = lock(&shared.staging).add(node, shared.start(), true, room.clone());
        // One of several has not turned yet, and whoever reads the log asks where it begins.
        machine.report(machine.last_time, now.monotonic);
        lock(&shared.staging).time = machine.clock.now();
        Ok((Log::new(shared, machine.own, room), machine))
    }

    /// Folds the committed entries behind the checkpoint of admission.
    fn replay(&mut self, reader: &dyn LogReader, commit: Index) -> Result<(), OpenError> {
        let mut entries = Vec::new();
        while self.admission.applied() < commit {
            let from = self.admission.applied() + 1;
            reader
                .read(from, READ_BYTES, &mut entries)
                .map_err(|error| unreadable(reader, from, &error))?;
            if entries.is_empty() {
                return Err(damaged(reader, from, &crate::store::Missing));
            }
            for entry in entries.drain(..).take_while(|entry| entry.index <= commit) {
                let index = entry.index;
                self.replica.apply_change(&entry);
                self.fold(entry).map_err(|error| not_folded(reader, index, &error))?;
            }
        }
        Ok(())
    }

    fn elect(&mut self, now: Now) -> Result<(), OpenError> {
        let refused = |error: &TurnError| OpenError::Setting(describe(error));
        self.replica.campaign().map_err(|error| refused(&error.into()))?;
        self.turn(now, &mut NoPeers).map_err(|error| refused(&error))?;
        if self.retry.is_some() {
            // The ballast may have been given up for it.
            self.turn(now, &mut NoPeers).map_err(|error| refused(&error))?;
        }
        if self.retry.is_some() {
            return Err(OpenError::Setting(
                "the disk of the log is full: make room and start again".to_owned(),
            ));
        }
        // The peers are not there yet, and have heard nothing.
        self.joining.unsay();
        Ok(())
    }
}

/// Who is in, as the store keeps it.
fn members<S: LogStore>(store: &S, key: &[u8]) -> Result<Members, OpenError> {
    let Some(bytes) = store.get(key) else { return Ok(Members::default()) };
    Members::decode(&bytes).map_err(|_| {
        OpenError::Setting(
            "the members of the cluster, as the log keeps them, cannot be read: restore the data \
             directory from a backup"
                .to_owned(),
        )
    })
}

/// The files and the keys in them must be of one state.
fn check_range(applied: Index, recovered: &Recovered) -> Result<(), OpenError> {
    let (first, last) = (recovered.truncated.0 + 1, recovered.last.0);
    if applied + 1 < first || applied > last {
        return Err(OpenError::Setting(format!(
            "the log holds the entries {first} to {last}, but its admission state ends at \
             {applied}: restore the data directory from a backup",
        )));
    }
    Ok(())
}

/// Time of the newest batch in the log up to an index.
fn last_time(
    reader: &dyn LogReader,
    recovered: &Recovered,
    upto: Index,
) -> Result<Timestamp, OpenError> {
    let mut entries = Vec::new();
    for index in (recovered.truncated.0 + 1..=upto).rev() {
        reader.read(index, 1, &mut entries).map_err(|error| unreadable(reader, index, &error))?;
        // Raft's own entries tell no time.
        let Some(entry) = entries.drain(..).next() else { continue };
        if !entry.data.is_empty() && entry.get_entry_type() == EntryType::EntryNormal {
            let bytes = entry.data.clone();
            let batch = CommittedBatch::open(index, entry.data, true).map_err(|error| {
                not_folded(reader, index, &TurnError::unfit(index, &bytes, error.0))
            })?;
            return Ok(batch.time);
        }
    }
    Ok(Timestamp::default())
}

/// An entry cannot be read. What the disk refuses is no damage: the log may be good.
fn unreadable(reader: &dyn LogReader, index: Index, error: &ReadError) -> OpenError {
    match error {
        ReadError::Io { what, .. } => OpenError::Io {
            action: "read",
            path: reader.locate(index).unwrap_or_default().0,
            source: io::Error::other(what.to_string()),
        },
        ReadError::Damaged { .. } | ReadError::Purged { .. } => damaged(reader, index, error),
    }
}

/// An entry cannot be folded. One that is whole is the same on every node: its log is good.
fn not_folded(reader: &dyn LogReader, index: Index, error: &TurnError) -> OpenError {
    match error {
        TurnError::NotUnderstood { what, .. } => {
            OpenError::NotUnderstood { index, what: (*what).to_owned() }
        }
        _ => damaged(reader, index, error),
    }
}

fn damaged(reader: &dyn LogReader, index: Index, error: &dyn Error) -> OpenError {
    let (file, offset) = reader.locate(index).unwrap_or_default();
    OpenError::Damaged {
        file,
        offset,
        what: format!("entry {index}: {}", describe(error)),
        remedy: REMEDY.to_owned(),
    }
}

/// The error with all of its causes.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
