//! From a store to a running log.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};

use crate::admission::Admission;
use crate::class::Gate;
use crate::clock::{LeaderClock, Now};
use crate::config::Config;
use crate::error::OpenError;
use crate::log::Log;
use crate::machine::keeping::{HEAD_KEY, Keeping, part_key};
use crate::machine::{Counts, LogMachine, TurnError};
use crate::replica::{Replica, Turned};
use crate::ring::Ring;
use crate::shared::{Shared, lock};
use crate::status::{Buckets, Status};
use crate::store::LogStore;
use crate::wake::Silent;

/// Bytes of entries folded at a time.
const READ_BYTES: usize = 4 << 20;

impl<S: LogStore> LogMachine<S> {
    /// Folds what `store` recovered, elects the node (the only voter) and commits what the last
    /// process left uncommitted.
    ///
    /// # Errors
    ///
    /// If the store holds damaged entries or cannot be written.
    pub fn recover(
        node: u64,
        seed: u64,
        config: Config,
        store: S,
        now: Now,
        stopwatch: Box<dyn FnMut() -> Duration + Send>,
    ) -> Result<(Log, Self), OpenError> {
        let recovered = store.recovered();
        let (admission, generation) = restore(&store)?;
        if admission.applied() < recovered.truncated.0 {
            return Err(OpenError::Setting(format!(
                "the log begins behind index {}, but its admission state ends at {}: restore the \
                 data directory from a backup",
                recovered.truncated.0,
                admission.applied(),
            )));
        }
        let ring_bytes = usize::try_from(config.ring_bytes.0).unwrap_or(usize::MAX);
        let cache_bytes = usize::try_from(config.cache_bytes.0).unwrap_or(usize::MAX);
        // The commit index on disk lags behind; what was folded is committed.
        let commit = recovered.hard_state.commit.max(admission.applied());
        let shared = Arc::new(Shared::new(
            store.reader(),
            Ring::new(commit, ring_bytes),
            status(),
            cache_bytes,
            node,
            recovered.start,
        ));
        let own = lock(&shared.staging).add(node, recovered.start, true, Arc::new(Silent));
        let replica = Replica::new(node, seed, store, commit);
        let replica = replica.map_err(|error| OpenError::Setting(error.to_string()))?;
        let mut machine = Self {
            replica,
            admission,
            clock: LeaderClock::new(Timestamp::default(), now),
            shared: Arc::clone(&shared),
            config,
            own,
            unproposed: Vec::new(),
            turned: Turned::default(),
            last_tick: now.monotonic,
            last_sync: now.monotonic,
            is_unsynced: false,
            last_time: Timestamp::default(),
            counts: Counts::default(),
            keeping: Keeping::new(generation),
            stopwatch,
        };
        machine.replay(commit).map_err(refused)?;
        machine.replica.campaign().map_err(|error| refused(error.into()))?;
        machine.turn(now).map_err(refused)?;
        // The clock goes on from the newest batch.
        machine.clock = LeaderClock::new(machine.last_time, now);
        Ok((Log::new(shared, own), machine))
    }

    /// Folds the committed entries behind the admission snapshot.
    fn replay(&mut self, commit: Index) -> Result<(), TurnError> {
        let reader = Arc::clone(&self.shared.reader);
        let mut entries = Vec::new();
        while self.admission.applied() < commit {
            let from = self.admission.applied() + 1;
            reader.read(from, READ_BYTES, &mut entries).map_err(|_| TurnError::Damaged {
                index: from,
                what: "it cannot be read from the disk",
            })?;
            if entries.is_empty() {
                return Err(TurnError::Damaged { index: from, what: "it is not on the disk" });
            }
            for entry in entries.drain(..) {
                if entry.index <= commit {
                    self.fold(entry, true)?;
                }
            }
        }
        Ok(())
    }
}

fn refused(error: TurnError) -> OpenError {
    OpenError::Setting(error.to_string())
}

fn restore<S: LogStore>(store: &S) -> Result<(Admission, u64), OpenError> {
    let Some(head) = store.get(HEAD_KEY) else { return Ok((Admission::default(), 0)) };
    let damaged = || OpenError::Setting(crate::admission::SnapshotError.to_string());
    let numbers: Vec<u64> = head
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[i])))
        .collect();
    let &[generation, parts] = numbers.as_slice() else { return Err(damaged()) };
    let mut bytes = Vec::new();
    for part in 0..parts {
        bytes.extend(store.get(&part_key(generation, part)).ok_or_else(damaged)?);
    }
    let admission = Admission::restore(&bytes).map_err(|_| damaged())?;
    Ok((admission, generation))
}

fn status() -> Status {
    Status {
        gate: Gate::Open,
        first_index: 1,
        commit_index: 0,
        term: 0,
        last_time: Timestamp::default(),
        clock_jumped: None,
        disk_bytes: 0,
        free_bytes: 0,
        ballast: false,
        purge_wanted: None,
        purge_allowed: 0,
        entries: 0,
        committed_batches: 0,
        committed_bytes: 0,
        void_batches: 0,
        refused: [0; 3],
        no_space: 0,
        waiting_bytes: 0,
        last_sync: Duration::ZERO,
        syncs: Buckets::default(),
    }
}
