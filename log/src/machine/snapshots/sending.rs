//! Sending a snapshot to those who lack what is purged.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::offset::Index;

use super::{PATIENCE, RESEND, WINDOW_CHUNKS};
use crate::cluster::{
    Frame, Peers, Sent, SnapshotAck, SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotState,
};
use crate::machine::LogMachine;
use crate::snapshots::{CHUNK_BYTES, SnapshotFile, bytes_of, chunks_of, read_chunk};
use crate::status::{RunningSnapshot, SnapshotStep};
use crate::store::LogStore;

/// When a lane is full, or enough was sent for now, it is looked at again after this.
const PAUSE: Duration = Duration::from_millis(5);
/// For so long what was not sent may be caught up on, at the rate.
const BURST: Duration = Duration::from_millis(100);

/// The transfers that are under way, by receiver.
#[derive(Default)]
pub(super) struct Sending {
    transfers: BTreeMap<u64, Transfer>,
    /// Bytes that may be sent now; below zero if more was sent.
    budget: i64,
    budget_at: Duration,
    next: Option<Duration>,
}

struct Transfer {
    /// What is sent, as it was offered: another one may be by now, and this one is still there as long
    /// as it is open.
    id: u64,
    index: Index,
    term: u64,
    /// Checksums of the views, and of the chunks.
    checksum: u64,
    sums: u32,
    file: Box<dyn SnapshotFile>,
    bytes: u64,
    chunks: u32,
    /// The next chunk to be sent.
    next: u32,
    /// Those before it are there.
    acked: u32,
    /// The most that was there, once it was said.
    best: Option<u32>,
    is_announced: bool,
    /// The receiver has said from where on it wants it.
    is_begun: bool,
    is_end_sent: bool,
    began_at: Duration,
    /// When it came further.
    progress_at: Duration,
    /// When something was sent, or came, last.
    active_at: Duration,
}

impl Sending {
    pub(super) fn is_idle(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Whether somebody takes what is sent.
    pub(super) fn is_taken(&self) -> bool {
        self.transfers.values().any(|transfer| transfer.is_begun)
    }

    /// Whether somebody takes what is sent, or has not had the time to say so: who is asked again and
    /// again, and does not take it, must not keep others from another one.
    pub(super) fn is_awaited(&self, now: Duration) -> bool {
        self.is_taken() || self.transfers.values().any(|transfer| now < transfer.began_at + RESEND)
    }

    /// What follows this index is kept for those who are being sent what is before.
    pub(super) fn pinned(&self) -> Option<Index> {
        self.transfers.values().map(|transfer| transfer.index).min()
    }

    /// What is under way.
    pub(super) fn running(&self) -> impl Iterator<Item = RunningSnapshot> {
        self.transfers.iter().map(|(to, transfer)| RunningSnapshot {
            step: SnapshotStep::Sent { to: *to },
            index: transfer.index,
            bytes: bytes_of(transfer.acked, transfer.bytes),
            bytes_total: Some(transfer.bytes),
        })
    }

    pub(super) fn next_turn(&self) -> Option<Duration> {
        self.next
    }

    /// Lets bytes become free for sending.
    fn refill(&mut self, rate: u64, now: Duration) {
        let passed = now.saturating_sub(self.budget_at).min(BURST).as_micros();
        self.budget_at = now;
        let bytes = u128::from(rate) * passed / 1_000_000;
        let most = i64::try_from(rate / 10).unwrap_or(i64::MAX).max(CHUNK_BYTES as i64);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_add(bytes).min(most);
    }
}

impl Transfer {
    /// Why nothing of it arrives.
    fn stillness(&self) -> &'static str {
        match self.is_announced && !self.is_begun {
            true => "its receiver does not take it: that node's own log may say why",
            false => "nothing of it arrives",
        }
    }

    fn begin_again(&mut self, next: u32) {
        (self.next, self.acked, self.is_end_sent) = (next, next, false);
    }

    fn ack(&mut self, ack: SnapshotAck, now: Duration) {
        self.active_at = now;
        match ack.state {
            SnapshotState::Receiving => {
                let (was_begun, is_further) = (self.is_begun, ack.next > self.acked);
                self.is_begun = true;
                if was_begun && is_further {
                    self.acked = ack.next.min(self.chunks);
                    self.next = self.next.max(self.acked);
                } else {
                    // It misses a chunk, or has what was sent before.
                    self.begin_again(ack.next.min(self.chunks));
                }
                // To begin again is no progress.
                if self.best < Some(ack.next) {
                    (self.best, self.progress_at) = (Some(ack.next), now);
                }
            }
            SnapshotState::Importing => {
                self.is_begun = true;
                (self.acked, self.next, self.is_end_sent) = (self.chunks, self.chunks, true);
                self.progress_at = now;
            }
            // It is asked again after a while.
            SnapshotState::Refused => (self.is_begun, self.is_announced) = (false, true),
            SnapshotState::Done => {}
        }
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Raft has sent a snapshot to `to`: begins the transfer, or goes on with it.
    pub(in crate::machine) fn send_snapshot(&mut self, to: u64, index: Index, now: Duration) {
        let offered = self.snapshots.offering.offered.as_mut();
        let Some(offered) = offered.filter(|offered| offered.place.index == index) else {
            return self.replica.report_snapshot(to, false);
        };
        let file = match self.snapshots.files.open(&offered.place.name) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be read");
                self.snapshots.counts.failed += 1;
                return self.replica.report_snapshot(to, false);
            }
        };
        (offered.used_at, offered.is_pinned) = (now, true);
        let bytes = offered.written.bytes;
        let transfer = Transfer {
            id: offered.place.id,
            index,
            term: offered.place.term,
            checksum: offered.written.checksum,
            sums: offered.written.sums,
            file,
            bytes,
            chunks: u32::try_from(chunks_of(bytes)).unwrap_or(u32::MAX),
            next: 0,
            acked: 0,
            best: None,
            is_announced: false,
            is_begun: false,
            is_end_sent: false,
            began_at: now,
            progress_at: now,
            active_at: now,
        };
        tracing::info!(to, index, bytes, "a snapshot is sent");
        self.snapshots.catching_up.forget(to);
        self.snapshots.sending.transfers.insert(to, transfer);
    }

    /// A receiver says how it stands.
    pub(super) fn take_ack(&mut self, from: u64, ack: SnapshotAck, now: Duration) {
        let Some(transfer) = self.snapshots.sending.transfers.get_mut(&from) else { return };
        if transfer.id != ack.id {
            return;
        }
        transfer.ack(ack, now);
        if ack.state == SnapshotState::Done {
            self.end_transfer(from, now);
        }
    }

    /// The receiver is where the snapshot is.
    fn end_transfer(&mut self, to: u64, now: Duration) {
        let Some(transfer) = self.snapshots.sending.transfers.remove(&to) else { return };
        tracing::info!(to, index = transfer.index, "a snapshot has arrived");
        let counts = &mut self.snapshots.counts;
        counts.sent += 1;
        counts.sent_bytes += transfer.bytes;
        let time = now.saturating_sub(transfer.began_at);
        counts.sent_time += time;
        counts.last_sent = Some((transfer.bytes, time));
        let is_idle = self.snapshots.sending.is_idle();
        if let Some(offered) = self.snapshots.offering.offered.as_mut().filter(|_| is_idle) {
            offered.is_pinned = false;
        }
        self.begin_catching_up(to, transfer.index, now);
        self.replica.report_snapshot(to, true);
    }

    /// A transfer has failed: raft is told, and tries again when it has heard of the receiver.
    pub(in crate::machine) fn fail_transfer(&mut self, to: u64, why: &str) {
        let Some(transfer) = self.snapshots.sending.transfers.remove(&to) else { return };
        tracing::warn!(to, index = transfer.index, why, "a snapshot did not arrive");
        self.snapshots.counts.failed += 1;
        self.replica.report_snapshot(to, false);
    }

    pub(super) fn fail_transfers(&mut self, why: &str) {
        let receivers: Vec<u64> = self.snapshots.sending.transfers.keys().copied().collect();
        receivers.into_iter().for_each(|to| self.fail_transfer(to, why));
    }

    /// Sends what may be sent now.
    pub(super) fn send_snapshots(&mut self, now: Duration, peers: &mut dyn Peers) {
        self.snapshots.sending.next = None;
        if self.snapshots.sending.is_idle() {
            return;
        }
        if !self.replica.is_leader() {
            return self.fail_transfers("this node does not lead any more");
        }
        self.end_late_transfers(now);
        let rate = self.snapshots.rate;
        self.snapshots.sending.refill(rate, now);
        let receivers: Vec<u64> = self.snapshots.sending.transfers.keys().copied().collect();
        for to in receivers {
            match self.send_to(to, now, peers) {
                Ok(Sent::Taken) => {}
                Ok(Sent::Full) => self.snapshots.sending.next = Some(now + PAUSE),
                Ok(Sent::Down) => self.fail_transfer(to, "it is not connected"),
                Err(error) => {
                    // The file is damaged: another one is made.
                    tracing::error!(%error, "a snapshot cannot be read");
                    self.drop_damaged(to);
                }
            }
        }
    }

    /// Sends the snapshot that `to` was sent to nobody any more.
    fn drop_damaged(&mut self, to: u64) {
        let transfers = &self.snapshots.sending.transfers;
        let Some(id) = transfers.get(&to).map(|transfer| transfer.id) else { return };
        let of_it = transfers.iter().filter(|(_, transfer)| transfer.id == id);
        let receivers: Vec<u64> = of_it.map(|(to, _)| *to).collect();
        receivers.into_iter().for_each(|to| self.fail_transfer(to, "it cannot be read"));
        let offered = self.snapshots.offering.offered.as_ref();
        if offered.is_some_and(|offered| offered.place.id == id) {
            self.drop_offered();
        }
    }

    /// Ends the transfers to whom has caught up, or left, and those that stand still.
    fn end_late_transfers(&mut self, now: Duration) {
        let members = self.replica.configuration().members();
        let matched: BTreeMap<u64, Index> =
            self.replica.followers().map(|(id, matched, _)| (id, matched)).collect();
        let mut ended = Vec::new();
        for (to, transfer) in &self.snapshots.sending.transfers {
            if matched.get(to).is_some_and(|matched| *matched >= transfer.index) {
                ended.push((*to, None));
            } else if !members.contains(to) {
                ended.push((*to, Some("it is no member any more")));
            } else if now.saturating_sub(transfer.progress_at) >= PATIENCE {
                ended.push((*to, Some(transfer.stillness())));
            }
        }
        for (to, why) in ended {
            match why {
                None => self.end_transfer(to, now),
                Some(why) => self.fail_transfer(to, why),
            }
        }
    }

    /// Sends to one receiver: [`Sent::Full`] if there is more for it than could be sent now.
    fn send_to(&mut self, to: u64, now: Duration, peers: &mut dyn Peers) -> std::io::Result<Sent> {
        let sending = &mut self.snapshots.sending;
        let Some(transfer) = sending.transfers.get_mut(&to) else { return Ok(Sent::Taken) };
        if now.saturating_sub(transfer.active_at) >= RESEND {
            transfer.active_at = now;
            (transfer.is_announced, transfer.is_begun) = (false, false);
        }
        let id = transfer.id;
        if !transfer.is_announced {
            let begin = SnapshotBegin {
                id,
                index: transfer.index,
                term: transfer.term,
                bytes: transfer.bytes,
                checksum: transfer.checksum,
            };
            let sent = peers.send(to, &Frame::SnapshotBegin(begin));
            transfer.is_announced = sent == Sent::Taken;
            return Ok(sent);
        }
        if !transfer.is_begun {
            return Ok(Sent::Taken);
        }
        let end = transfer.chunks.min(transfer.acked.saturating_add(WINDOW_CHUNKS));
        while transfer.next < end {
            if sending.budget <= 0 {
                return Ok(Sent::Full);
            }
            let (_, content) = read_chunk(&*transfer.file, transfer.next, transfer.bytes)?;
            let bytes = content.len();
            let chunk = SnapshotChunk { id, number: transfer.next, content: content.into() };
            match peers.send(to, &Frame::SnapshotChunk(chunk)) {
                Sent::Taken => {}
                other => return Ok(other),
            }
            sending.budget -= i64::try_from(bytes).unwrap_or(i64::MAX);
            transfer.next += 1;
            transfer.active_at = now;
        }
        if transfer.next == transfer.chunks && !transfer.is_end_sent {
            let end = SnapshotEnd { id, chunks: transfer.chunks, sums: transfer.sums };
            let sent = peers.send(to, &Frame::SnapshotEnd(end));
            transfer.is_end_sent = sent == Sent::Taken;
            return Ok(sent);
        }
        Ok(Sent::Taken)
    }
}
