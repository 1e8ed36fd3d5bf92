//! For tests of other crates: committed batches without a log, and snapshots without other nodes.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};

use crate::admission::Admission;
use crate::committed::CommittedBatch;
use crate::envelope::{self, ENVELOPE_BYTES};
use crate::log::Log;
use crate::shared::lock;
pub use crate::snapshots::MemoryFiles;
use crate::snapshots::{Cut, CutEnd, Received, Room, SnapshotFiles};

/// Admission folded from the beginning, batch by batch, apart from any log.
#[derive(Debug, Default)]
pub struct Admitted(Admission);

impl Admitted {
    /// Folds the next batch.
    pub fn apply(&mut self, batch: &CommittedBatch) {
        self.0.apply(batch).expect("a batch that was committed");
    }

    /// Checksum of the state.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.0.checksum()
    }
}

/// A history of committed batches.
#[derive(Debug)]
pub struct History {
    admission: Admission,
    index: Index,
    time: Timestamp,
    producer: ProducerId,
    sequence: u64,
    is_late: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            admission: Admission::default(),
            index: 0,
            time: Timestamp::from_secs(1_700_000_000),
            producer: ProducerId { node: 1, start: 1, local: 0 },
            sequence: 0,
            is_late: false,
        }
    }
}

impl History {
    /// An empty batch with the right headroom.
    #[must_use]
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(ENVELOPE_BYTES)
    }

    /// Index of the last batch; 0 if there is none.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.index
    }

    /// Lets time pass for the next batches.
    pub fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// Has the next batches come late, or in time again.
    pub fn set_late(&mut self, is_late: bool) {
        self.is_late = is_late;
    }

    /// Commits the events, none of which is void.
    pub fn commit(&mut self, events: &mut BatchBuilder) -> Arc<CommittedBatch> {
        self.sequence += 1;
        Arc::new(self.next(self.producer, self.sequence, events))
    }

    /// Commits the batch that `producer` built as its `sequence`th (from 1) and lets admission
    /// decide what of it counts, as in the real log.
    pub fn admit(
        &mut self,
        producer: ProducerId,
        sequence: u64,
        events: &mut BatchBuilder,
    ) -> Arc<CommittedBatch> {
        let batch = self.next(producer, sequence, events);
        let voids = self.admission.apply(&batch).expect("a batch that was just built");
        Arc::new(batch.with_voids(voids))
    }

    fn next(
        &mut self,
        producer: ProducerId,
        sequence: u64,
        events: &mut BatchBuilder,
    ) -> CommittedBatch {
        self.index += 1;
        let mut bytes = events.finish(Vec::new());
        envelope::close(&mut bytes, producer, sequence, self.time);
        if self.is_late {
            envelope::set_late(&mut bytes);
        }
        envelope::stamp(&mut bytes, self.time);
        CommittedBatch::open(self.index, Bytes::from(bytes), true)
            .expect("a batch that was just closed")
    }
}

/// The snapshots of a log, wanted and offered by hand.
#[derive(Debug)]
pub struct HandMade {
    log: Log,
    files: Arc<dyn SnapshotFiles>,
}

impl std::fmt::Debug for dyn SnapshotFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotFiles")
    }
}

impl HandMade {
    /// Snapshots of `log`, which makes none itself.
    #[must_use]
    pub fn of(log: &Log) -> Self {
        Self { log: log.clone(), files: Arc::new(MemoryFiles::default()) }
    }

    /// Has the log want a cut at its last committed index, and says which that is.
    pub fn want_cut(&self) -> Index {
        let shared = self.log.shared();
        let index = lock(&shared.ring).last();
        let prologue = Box::new(|out: &mut dyn Write| out.write_all(b"log"));
        let (name, progress) = ("cut".to_owned(), AtomicU64::new(0));
        let (files, is_given_up) = (Arc::clone(&self.files), AtomicBool::new(false));
        let cut = Cut { index, files, name, prologue, room: Room::ANY, progress, is_given_up };
        lock(&shared.snapshots).want(cut);
        shared.sleepers.wake_all();
        index
    }

    /// The cut's checksum and what was written into it; `None` until it has ended, and an error if
    /// it was dropped unfinished.
    ///
    /// # Errors
    ///
    /// Also if its file cannot be read.
    pub fn take_cut(&self) -> Option<io::Result<(u64, Vec<u8>)>> {
        let end = lock(&self.log.shared().snapshots).take_end()?;
        let written = match end {
            CutEnd::Finished(written) => written,
            CutEnd::Failed(why) => return Some(Err(io::Error::other(why))),
        };
        let received = self.received("cut", written.index, written.checksum, written.bytes);
        let mut content = Vec::new();
        let read = received.read().and_then(|mut stream| stream.read_to_end(&mut content));
        Some(read.map(|_| (written.checksum, content.split_off(3))))
    }

    /// Shows a snapshot with these bytes of the projections to them; `false` if they have not been
    /// told of the last one yet.
    ///
    /// # Errors
    ///
    /// Never, in memory.
    pub fn offer(&self, index: Index, checksum: u64, content: &[u8]) -> io::Result<bool> {
        let mut writer = crate::snapshots::ChunkWriter::new(self.files.create("in")?);
        writer.write_all(b"log")?;
        writer.write_all(content)?;
        let (bytes, _) = writer.finish()?;
        let shared = self.log.shared();
        let may = lock(&shared.snapshots).offer(self.received("in", index, checksum, bytes));
        shared.sleepers.wake_all();
        Ok(may)
    }

    /// What the projections answered to the snapshot that is shown.
    #[must_use]
    pub fn answer(&self) -> Option<(Index, Result<(), String>)> {
        let answer = lock(&self.log.shared().snapshots).answer();
        answer.map(|(received, result)| (received.index, result))
    }

    /// Shows no snapshot any more.
    pub fn withdraw(&self) {
        let shared = self.log.shared();
        lock(&shared.snapshots).withdraw();
        shared.sleepers.wake_all();
    }

    fn received(&self, name: &str, index: Index, checksum: u64, bytes: u64) -> Received {
        let (files, name) = (Arc::clone(&self.files), name.to_owned());
        Received { index, checksum, files, name, bytes, prologue: 3 }
    }
}
