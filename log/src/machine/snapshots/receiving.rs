//! Taking a snapshot from the leader into a file, and having the projections take it in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Index;

use super::installing::Ready;
use super::{ACK_CHUNKS, IDLE, KEEPALIVE};
use crate::cluster::{
    Frame, Peers, SnapshotAck, SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotState,
};
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::snapshots::{
    ChunkReader, Prologue, PrologueReader, Received, SYNC_CHUNKS, SnapshotFile, add_sum, bytes_of,
    chunks_of, length_of, remove, write_chunk,
};
use crate::status::{RunningSnapshot, SnapshotStep};
use crate::store::LogStore;

/// Bytes of the log's own part that are read in one turn: a few milliseconds.
const READ_BYTES: u64 = 1 << 20;

/// A snapshot that is received.
pub(super) struct Receiving {
    from: u64,
    begin: SnapshotBegin,
    name: String,
    file: Box<dyn SnapshotFile>,
    chunks: u32,
    /// Chunks before this one are there.
    next: u32,
    /// What was acknowledged last.
    acked: u32,
    /// Checksum of the checksums of the chunks that are there.
    sums: u32,
    /// The sender was told that a chunk is missing.
    is_gap_told: bool,
    /// All of it is there, and the log's part of it is read.
    reading: Option<PrologueReader>,
    /// All of it is there, and this is the log's part of it.
    whole: Option<Whole>,
    began_at: Duration,
    /// When something of it came last.
    active_at: Duration,
    told_at: Duration,
}

/// A snapshot that is there as a whole.
struct Whole {
    prologue: Prologue,
    /// Bytes of the log's part.
    length: u64,
    is_offered: bool,
}

impl Receiving {
    /// How far it has come.
    pub(super) fn running(&self) -> RunningSnapshot {
        let from = self.from;
        RunningSnapshot {
            step: match self.is_complete() {
                true => SnapshotStep::Imported { from },
                false => SnapshotStep::Received { from },
            },
            index: self.begin.index,
            bytes: bytes_of(self.next, self.begin.bytes),
            bytes_total: Some(self.begin.bytes),
        }
    }

    /// There is more to be read at once.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    fn ack(&mut self, state: SnapshotState, now: Duration) -> Frame {
        (self.acked, self.told_at) = (self.next, now);
        Frame::SnapshotAck(SnapshotAck { id: self.begin.id, next: self.next, state })
    }

    /// All chunks are there.
    fn is_complete(&self) -> bool {
        self.reading.is_some() || self.whole.is_some()
    }

    /// Takes the next chunk.
    fn write(&mut self, chunk: &SnapshotChunk) -> io::Result<()> {
        if chunk.content.len() != length_of(chunk.number, self.begin.bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk of another size"));
        }
        let sum = write_chunk(&mut *self.file, chunk.number, &chunk.content)?;
        self.sums = add_sum(self.sums, sum);
        self.next += 1;
        if self.next.is_multiple_of(SYNC_CHUNKS) {
            self.file.sync()?;
        }
        Ok(())
    }
}

/// Bytes that a snapshot of so many takes: its file, what is made of it beside the views that are in use,
/// and a quarter for the pages of that store and for the log, which jumps there before the file goes.
fn room_for(bytes: u64) -> u64 {
    bytes.saturating_mul(2).saturating_add(bytes / 4)
}

/// An answer about a snapshot of which nothing is kept.
fn answer(id: u64, state: SnapshotState) -> Frame {
    Frame::SnapshotAck(SnapshotAck { id, next: 0, state })
}

impl<S: LogStore> LogMachine<S> {
    /// The leader has a snapshot for this node.
    pub(super) fn take_begin(
        &mut self,
        from: u64,
        begin: SnapshotBegin,
        now: Duration,
        peers: &mut dyn Peers,
    ) {
        let frame = match self.begin_receiving(from, begin, now) {
            Ok(state) => match &mut self.snapshots.receiving {
                Some(receiving) if state != SnapshotState::Done => receiving.ack(state, now),
                _ => answer(begin.id, state),
            },
            Err(why) => {
                tracing::warn!(from, index = begin.index, %why, "a snapshot is not taken");
                answer(begin.id, SnapshotState::Refused)
            }
        };
        let _ = peers.send(from, &frame);
    }

    fn begin_receiving(
        &mut self,
        from: u64,
        begin: SnapshotBegin,
        now: Duration,
    ) -> Result<SnapshotState, String> {
        if begin.index <= self.replica.committed() && !self.snapshots.is_installing() {
            return Ok(SnapshotState::Done);
        }
        if let Some(receiving) = &mut self.snapshots.receiving {
            if (receiving.from, receiving.begin) == (from, begin) {
                receiving.is_gap_told = false;
                return Ok(match receiving.is_complete() {
                    true => SnapshotState::Importing,
                    false => SnapshotState::Receiving,
                });
            }
            if receiving.is_complete() {
                return Err("another one is taken in".to_owned());
            }
        }
        if from != self.replica.leader() {
            return Err("its sender does not lead".to_owned());
        }
        // What there is of another one takes no room any more.
        self.drop_received();
        let (free, reserve) = (self.space.free_now(), self.config.reserve_publish_bytes());
        let (bytes, needed) = (begin.bytes, room_for(begin.bytes));
        if needed > free.saturating_sub(reserve) {
            return Err(format!(
                "it has {bytes} bytes and takes {needed}, and {free} are free with {reserve} to keep"
            ));
        }
        let name = format!("in-{}", self.snapshots.number());
        let file = self.snapshots.files.create(&name).map_err(|error| error.to_string())?;
        tracing::info!(from, index = begin.index, bytes = begin.bytes, "a snapshot is received");
        self.snapshots.receiving = Some(Receiving {
            from,
            begin,
            name,
            file,
            chunks: u32::try_from(chunks_of(begin.bytes)).unwrap_or(u32::MAX),
            next: 0,
            acked: 0,
            sums: 0,
            is_gap_told: false,
            reading: None,
            whole: None,
            began_at: now,
            active_at: now,
            told_at: now,
        });
        Ok(SnapshotState::Receiving)
    }

    pub(super) fn take_chunk(
        &mut self,
        from: u64,
        chunk: &SnapshotChunk,
        now: Duration,
        peers: &mut dyn Peers,
    ) {
        let Some(receiving) = self.receiving_from(from, chunk.id, now) else { return };
        if chunk.number != receiving.next {
            // One that came before is a copy; behind a gap the sender is told once.
            if chunk.number > receiving.next && !receiving.is_gap_told {
                receiving.is_gap_told = true;
                let frame = receiving.ack(SnapshotState::Receiving, now);
                let _ = peers.send(from, &frame);
            }
            return;
        }
        receiving.is_gap_told = false;
        if let Err(error) = receiving.write(chunk) {
            return self.refuse_received(&error.to_string(), peers);
        }
        if receiving.next - receiving.acked >= ACK_CHUNKS {
            let frame = receiving.ack(SnapshotState::Receiving, now);
            let _ = peers.send(from, &frame);
        }
    }

    pub(super) fn take_end(
        &mut self,
        from: u64,
        end: SnapshotEnd,
        now: Duration,
        peers: &mut dyn Peers,
    ) {
        let Some(receiving) = self.receiving_from(from, end.id, now) else { return };
        if receiving.next < receiving.chunks {
            let frame = receiving.ack(SnapshotState::Receiving, now);
            let _ = peers.send(from, &frame);
            return;
        }
        if (end.chunks, end.sums) != (receiving.chunks, receiving.sums) {
            return self.refuse_received("its checksums are not those of its sender", peers);
        }
        let frame = receiving.ack(SnapshotState::Importing, now);
        if let Err(error) = self.begin_reading() {
            return self.refuse_received(&error.to_string(), peers);
        }
        let _ = peers.send(from, &frame);
    }

    /// The snapshot of that sender, if chunks of it are awaited.
    fn receiving_from(&mut self, from: u64, id: u64, now: Duration) -> Option<&mut Receiving> {
        let receiving = self.snapshots.receiving.as_mut().filter(|receiving| {
            (receiving.from, receiving.begin.id) == (from, id) && !receiving.is_complete()
        })?;
        receiving.active_at = now;
        Some(receiving)
    }

    /// Makes what was received durable, and begins to read the log's part of it.
    fn begin_reading(&mut self) -> io::Result<()> {
        let Some(receiving) = &mut self.snapshots.receiving else {
            return Err(io::ErrorKind::NotFound.into());
        };
        receiving.file.sync()?;
        let file = self.snapshots.files.open(&receiving.name)?;
        let stream = ChunkReader::new(file, receiving.begin.bytes);
        receiving.reading = Some(PrologueReader::new(stream));
        Ok(())
    }

    /// Reads on in the log's part, and says whether all of it was read.
    fn read_on(&mut self) -> io::Result<bool> {
        let Some(receiving) = &mut self.snapshots.receiving else { return Ok(false) };
        let Some(reader) = &mut receiving.reading else { return Ok(receiving.whole.is_some()) };
        let Some((prologue, length)) = reader.read(READ_BYTES)? else { return Ok(false) };
        let begin = receiving.begin;
        self.check(&prologue, begin)?;
        if let Some(receiving) = &mut self.snapshots.receiving {
            receiving.reading = None;
            receiving.whole = Some(Whole { prologue, length, is_offered: false });
        }
        Ok(true)
    }

    /// Whether it is what was announced, and for this node.
    fn check(&self, prologue: &Prologue, begin: SnapshotBegin) -> io::Result<()> {
        let own = self.joining.identity().map(|own| (own.cluster, own.generation));
        let is_founded = prologue.members.is_founded();
        let wrong = |what: &'static str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if (prologue.index, prologue.term) != (begin.index, begin.term) {
            return wrong("it is of another index than was announced");
        }
        if is_founded && own.is_some_and(|own| own != (prologue.cluster, prologue.generation)) {
            return wrong("it is of another cluster");
        }
        if !prologue.configuration.members().contains(&self.shared.node) {
            return wrong("this node is no member in it");
        }
        Ok(())
    }

    /// Gives up what was received, which its sender is told.
    fn refuse_received(&mut self, why: &str, peers: &mut dyn Peers) {
        let Some(receiving) = &self.snapshots.receiving else { return };
        let (from, begin) = (receiving.from, receiving.begin);
        tracing::warn!(from, index = begin.index, why, "a snapshot cannot be taken");
        self.snapshots.counts.failed += 1;
        self.drop_received();
        let _ = peers.send(from, &answer(begin.id, SnapshotState::Refused));
    }

    /// Forgets what was received; the projections are told to throw away what they took in.
    fn drop_received(&mut self) {
        let Some(receiving) = self.snapshots.receiving.take() else { return };
        if receiving.whole.is_some_and(|whole| whole.is_offered) {
            lock(&self.shared.snapshots).withdraw();
            self.shared.sleepers.wake_all();
        }
        remove(&*self.snapshots.files, &receiving.name);
    }

    /// Does what is due for the snapshot that is received.
    pub(super) fn keep_receiving(&mut self, now: Duration, peers: &mut dyn Peers) {
        if self.snapshots.is_installing() {
            return;
        }
        let committed = self.replica.committed();
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        let (from, id) = (receiving.from, receiving.begin.id);
        if receiving.begin.index <= committed {
            // The log has come as far by itself.
            self.drop_received();
            let _ = peers.send(from, &answer(id, SnapshotState::Done));
            return;
        }
        if !receiving.is_complete() {
            if now.saturating_sub(receiving.active_at) >= IDLE {
                self.drop_received();
            }
            return;
        }
        if now.saturating_sub(receiving.told_at) >= KEEPALIVE {
            let frame = receiving.ack(SnapshotState::Importing, now);
            let _ = peers.send(from, &frame);
        }
        match self.read_on() {
            Ok(true) => self.keep_importing(peers),
            Ok(false) => {}
            Err(error) => self.refuse_received(&error.to_string(), peers),
        }
    }

    /// Has the projections take their part in.
    fn keep_importing(&mut self, peers: &mut dyn Peers) {
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        let Some(whole) = &mut receiving.whole else { return };
        if !whole.is_offered {
            let received = Received {
                index: receiving.begin.index,
                checksum: receiving.begin.checksum,
                files: Arc::clone(&self.snapshots.files),
                name: receiving.name.clone(),
                bytes: receiving.begin.bytes,
                prologue: whole.length,
            };
            whole.is_offered = lock(&self.shared.snapshots).offer(received);
            self.shared.sleepers.wake_all();
        }
        let answer = lock(&self.shared.snapshots).answer();
        if let Some((_, Err(why))) = answer {
            self.refuse_received(&why, peers);
        }
    }

    /// The snapshot that the projections have taken in.
    pub(super) fn imported(&self) -> Option<&Prologue> {
        let whole = self.snapshots.receiving.as_ref()?.whole.as_ref()?;
        let answer = lock(&self.shared.snapshots).answer();
        let is_it = |index| index == whole.prologue.index;
        let is_imported =
            answer.is_some_and(|(received, answer)| is_it(received.index) && answer.is_ok());
        (whole.is_offered && is_imported).then_some(&whole.prologue)
    }

    /// Raft has no use for what was received: its log goes as far, or it is not for it.
    pub(super) fn drop_useless(&mut self, index: Index) {
        if index > self.replica.committed() {
            tracing::warn!(index, "a snapshot was received that raft does not take");
            self.snapshots.counts.failed += 1;
            self.drop_received();
        }
    }

    /// Takes what was received out, for the jump to it.
    pub(super) fn take_received(&mut self) -> Option<Ready> {
        let receiving = self.snapshots.receiving.take()?;
        Some(Ready {
            from: receiving.from,
            id: receiving.begin.id,
            name: receiving.name,
            bytes: receiving.begin.bytes,
            began_at: receiving.began_at,
        })
    }
}

impl Ready {
    /// What the sender is told when the log is there.
    pub(super) fn answer(&self) -> Frame {
        answer(self.id, SnapshotState::Done)
    }
}
