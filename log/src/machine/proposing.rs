//! The way of batches into raft: those of this process out of its outbox, here or by way of the
//! leader; those of other nodes as they came.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ledgermq_core::event::batch::Batch;
use ledgermq_core::offset::{Index, Timestamp};

use crate::admission;
use crate::clock::Now;
use crate::cluster::{Forward, Frame, Peers, Refused, Sent, Why};
use crate::committed::CommittedBatch;
use crate::envelope::{self, ENVELOPE_BYTES};
use crate::machine::{LogMachine, TICK, TurnError};
use crate::outbox::{OUTBOX_BYTES, Outbox, WINDOW_BYTES};
use crate::shared::lock;
use crate::staging::Staged;
use crate::store::LogStore;

/// Bytes of batches proposed in one turn, which one sync makes durable.
pub(super) const TURN_BYTES: usize = 1 << 20;
/// Bytes of batches in one frame to the leader, about.
const FRAME_BYTES: usize = 256 << 10;
/// Bytes of other nodes' batches that wait for raft here, at most.
const FORWARDED_BYTES_MAX: usize = 16 << 20;
/// For so long nothing more is sent on a full way.
const PAUSE: Duration = Duration::from_millis(10);
/// What was sent to the leader and is not admitted after this is sent again; then after twice the time,
/// up to eight times, as long as the leader is the same: what is sent again on a slow way makes it
/// slower.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_DOUBLINGS_MAX: u32 = 3;
/// A batch that the leader stamps as long after its first event was pushed comes late: the connections
/// that it opens are refused. Longer than it takes to find another leader; a client that was not
/// answered for so long may have gone to another node.
const LATE: Duration = Duration::from_secs(5);

/// Batches on their way into raft.
#[derive(Default)]
pub(super) struct Proposing {
    outbox: Outbox,
    /// Batches that are being closed.
    staged: Vec<Staged>,
    /// Batches of other nodes, with the node that sent them.
    forwarded: VecDeque<(u64, Bytes)>,
    forwarded_bytes: usize,
    attempt: Attempt,
    /// What found no room on its way to the leader; it goes first.
    held: Option<Forward>,
    /// Raft refused a proposal: it is not asked again before something changes.
    is_refused: bool,
    pub(super) counts: Counts,
}

/// What was sent since the last doubt.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    term: u64,
    leader: u64,
    /// When something was admitted last.
    progress_at: Duration,
    has_progress: bool,
    /// How often patience was over.
    doublings: u32,
    /// Patience is over when the fold has come as far: what was sent may stand up to there.
    doubted_at: Option<Index>,
    /// Nothing is sent before.
    not_before: Duration,
    /// It began for a gap: what came void behind the gap is no news.
    is_for_gap: bool,
}

/// What was done, since the process started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Batches sent to leaders, those that were sent again counted again.
    pub(super) forwarded_batches: u64,
    pub(super) forwarded_bytes: u64,
    /// Batches taken for other nodes.
    pub(super) taken_batches: u64,
    pub(super) taken_bytes: u64,
    /// How often the outbox began again.
    pub(super) begun_again: u64,
    /// How often raft took a batch not, so that it had to wait.
    pub(super) dropped: u64,
}

impl Proposing {
    /// Whether nothing of this process waits.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.forwarded.is_empty()
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// The fold has passed a batch of this process's own start.
    pub(super) fn passed_own(&mut self, batch: &CommittedBatch) {
        let (local, sequence) = (batch.producer.local, batch.sequence);
        if batch.is_admitted() {
            self.outbox.admitted(local, sequence);
            self.attempt.has_progress = true;
            self.attempt.is_for_gap = false;
        } else if !self.attempt.is_for_gap && self.outbox.is_gap(local, sequence) {
            self.begin_again();
            self.attempt.is_for_gap = true;
        }
    }

    /// The log has jumped to where the batches up to `last` of each own producer are admitted.
    pub(super) fn passed(&mut self, last: impl Fn(u16) -> u64) {
        self.outbox.passed(last);
        self.begin_again();
    }

    /// The process begins anew: nothing that waits of it will count.
    pub(super) fn renew(&mut self) {
        self.held = None;
        self.outbox = Outbox::default();
    }

    fn begin_again(&mut self) {
        if self.outbox.sent_bytes() > 0 {
            self.counts.begun_again += 1;
        }
        self.held = None;
        self.outbox.begin();
    }

    /// Begins again if it is in doubt whether what was sent arrives. `folded` is the entry up to which
    /// this node would have seen it, `told` that to which the leader has come: who is behind must not
    /// send again what it has only not seen yet, and so come to be further behind.
    fn keep_attempt(
        &mut self,
        (term, leader, leads): (u64, u64, bool),
        (folded, told): (Index, Index),
        now: Duration,
    ) {
        let attempt = &mut self.attempt;
        if (attempt.term, attempt.leader) != (term, leader) {
            *attempt = Attempt { term, leader, progress_at: now, ..Attempt::default() };
            self.begin_again();
            return;
        }
        // Raft loses nothing that it took from its own node before the term ends.
        if std::mem::take(&mut attempt.has_progress) || leads || self.outbox.sent_bytes() == 0 {
            attempt.progress_at = now;
            attempt.doubted_at = None;
        } else if now.saturating_sub(attempt.progress_at) >= PATIENCE * (1 << attempt.doublings)
            && folded >= *attempt.doubted_at.get_or_insert(told)
        {
            attempt.progress_at = now;
            attempt.doubted_at = None;
            attempt.doublings = PATIENCE_DOUBLINGS_MAX.min(attempt.doublings + 1);
            attempt.is_for_gap = false;
            self.begin_again();
        }
    }

    /// The next batches for the leader, as far as its window is open.
    fn next_forward(&mut self) -> Option<Forward> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        if self.outbox.sent_bytes() >= WINDOW_BYTES {
            return None;
        }
        let batches = self.outbox.gather(FRAME_BYTES);
        (!batches.is_empty()).then_some(Forward { term: self.attempt.term, batches })
    }

    /// The way to `leader` broke, or is there again.
    pub(super) fn way_changed(&mut self, leader: u64) {
        if self.attempt.leader == leader {
            self.attempt.not_before = Duration::ZERO;
            self.begin_again();
        }
    }

    /// When what found no room is tried again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        self.held.is_some().then_some(self.attempt.not_before)
    }

    /// The leader did not take what was sent in `term`.
    pub(super) fn refused(&mut self, term: u64, now: Duration) {
        if self.attempt.term == term {
            self.begin_again();
            self.attempt.not_before = now + TICK;
        }
    }

    /// Room, or a new state of raft: it may be asked again.
    pub(super) fn may_ask_again(&mut self) {
        self.is_refused = false;
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Who leads no more goes on with the time that it stamped with.
    pub(super) fn note_own_time(&mut self, time: Timestamp, now: Duration) {
        if self.replica.is_leader() {
            self.peers.note_leaders_time(time, now);
        }
    }

    /// The time of what is pushed now, until a leader stamps it: that leader's, which is another one
    /// than this node's own `time` where its wall clock is ahead.
    pub(super) fn pushed_at(&self, time: Timestamp, now: Duration) -> Timestamp {
        match self.replica.is_leader() {
            true => time,
            false => self.peers.leaders_time(now).unwrap_or(time),
        }
    }
}

/// The batch with the leader's time in its envelope, in place where nobody else holds it. One that was
/// stamped before, by a leader that came to nothing, says when that was.
fn stamped(batch: Bytes, time: Timestamp, has_others: bool) -> Bytes {
    let mut bytes = batch.try_into_mut().unwrap_or_else(|shared| shared[..].into());
    let since = envelope::time_of(&bytes).unwrap_or(time);
    if has_others && time.since(since) > LATE {
        envelope::set_late(&mut bytes);
    }
    envelope::stamp(&mut bytes, time);
    bytes.freeze()
}

/// Whether every node could fold a closed batch of this process, which is proposed next. Its tables it
/// has made itself, so only its fences are looked at: messages have none.
pub(super) fn check_foldable(bytes: &[u8]) -> Result<(), TurnError> {
    let batch = bytes.get(ENVELOPE_BYTES..).unwrap_or_default();
    Batch::parse(batch)
        .and_then(|batch| admission::check_fences(&batch))
        .map_err(|error| TurnError::NotFoldable(error.0))
}

impl<S: LogStore> LogMachine<S> {
    /// Gives raft what waits, or the leader.
    pub(super) fn propose(
        &mut self,
        now: Now,
        time: Timestamp,
        peers: &mut dyn Peers,
    ) -> Result<(), TurnError> {
        let (term, leader) = (self.replica.term(), self.replica.leader());
        let leads = self.replica.is_leader();
        let reached = (self.admission.applied(), self.peers.applied(leader));
        self.proposing.keep_attempt((term, leader, leads), reached, now.monotonic);
        if !leads {
            self.refuse_forwarded(peers);
        }
        if !self.has_way(now.monotonic) {
            return Ok(());
        }
        self.take_staged()?;
        if leads {
            self.propose_here(time);
        } else {
            self.forward(now.monotonic, peers);
        }
        Ok(())
    }

    /// Whether there is something to propose, and a way for it.
    pub(super) fn may_propose(&self, now: Duration) -> bool {
        let proposing = &self.proposing;
        let waits = || {
            let may_take = proposing.outbox.bytes() < OUTBOX_BYTES;
            may_take && lock(&self.shared.staging).waiting_bytes() > 0
        };
        self.has_way(now)
            && (proposing.held.is_some()
                || proposing.outbox.has_unsent()
                || !proposing.forwarded.is_empty()
                || waits())
    }

    /// Whether raft takes proposals, here or at the leader.
    fn has_way(&self, now: Duration) -> bool {
        let Proposing { outbox, attempt, held, is_refused, .. } = &self.proposing;
        if self.replica.is_stuck() || !self.is_number_kept {
            return false;
        }
        if self.replica.is_leader() {
            return !is_refused;
        }
        self.peers.is_connected(self.replica.leader())
            && now >= attempt.not_before
            && (held.is_some() || outbox.sent_bytes() < WINDOW_BYTES)
    }

    fn propose_here(&mut self, time: Timestamp) {
        // All that comes to a node alone comes by one way.
        let has_others = !self.is_the_only_one();
        let Self { proposing, replica, .. } = self;
        let mut bytes = 0;
        let mut is_taken = true;
        let mut propose = |batch: &mut Bytes| {
            let before = envelope::time_of(batch);
            *batch = stamped(std::mem::take(batch), time, has_others);
            is_taken = replica.propose(batch.clone());
            if let (false, Some(before)) = (is_taken, before) {
                // It goes on waiting since then.
                *batch = stamped(std::mem::take(batch), before, false);
            }
            bytes += batch.len();
            (is_taken, bytes < TURN_BYTES)
        };
        // One of this node, one of another.
        let mut may_go_on = true;
        while may_go_on {
            let mut was_any = false;
            proposing.outbox.send(|batch| {
                was_any = true;
                let (is_taken, has_room) = propose(batch);
                may_go_on = is_taken && has_room;
                is_taken
            });
            if may_go_on && let Some((_, batch)) = proposing.forwarded.front_mut() {
                was_any = true;
                let (is_taken, has_room) = propose(batch);
                may_go_on = is_taken && has_room;
                if is_taken {
                    proposing.forwarded_bytes -= batch.len();
                    proposing.forwarded.pop_front();
                }
            }
            may_go_on &= was_any;
        }
        proposing.is_refused = !is_taken;
        proposing.counts.dropped += u64::from(!is_taken);
    }

    fn forward(&mut self, now: Duration, peers: &mut dyn Peers) {
        let proposing = &mut self.proposing;
        let mut sent = 0;
        while sent < TURN_BYTES {
            let Some(forward) = proposing.next_forward() else { break };
            let batches = forward.batches.len() as u64;
            let bytes: usize = forward.batches.iter().map(Bytes::len).sum();
            let frame = Frame::Forward(forward);
            match peers.send(proposing.attempt.leader, &frame) {
                Sent::Taken => {}
                Sent::Full => {
                    let Frame::Forward(forward) = frame else { break };
                    proposing.held = Some(forward);
                    proposing.attempt.not_before = now + PAUSE;
                    break;
                }
                Sent::Down => {
                    proposing.begin_again();
                    proposing.attempt.not_before = now + TICK;
                    break;
                }
            }
            proposing.counts.forwarded_batches += batches;
            proposing.counts.forwarded_bytes += bytes as u64;
            sent += bytes;
        }
    }

    /// Closes what the producers pushed, if nothing else is left to send: the lock is held for the
    /// taking only.
    fn take_staged(&mut self) -> Result<(), TurnError> {
        let Proposing { outbox, staged, .. } = &mut self.proposing;
        if outbox.has_unsent() || outbox.bytes() >= OUTBOX_BYTES {
            return Ok(());
        }
        {
            let mut staging = lock(&self.shared.staging);
            if staging.waiting_bytes() == 0 {
                return Ok(());
            }
            staging.take(TURN_BYTES, staged);
            staging.wake_waiting();
        }
        for staged in &mut *staged {
            let (producer, sequence) = staged.name();
            let bytes = staged.close();
            check_foldable(&bytes)?;
            outbox.push(producer.local, sequence, bytes.into());
        }
        lock(&self.shared.staging).give_back(staged.drain(..));
        Ok(())
    }

    /// Takes batches that another node forwarded, or says why not.
    pub(super) fn take_forwarded(&mut self, from: u64, forward: Forward, peers: &mut dyn Peers) {
        let term = self.replica.term();
        let Forward { term: meant, batches } = forward;
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        let why = if !self.replica.is_leader() || meant != term {
            Why::NotLeader { leader: self.replica.leader() }
        } else if self.proposing.forwarded_bytes + bytes > FORWARDED_BYTES_MAX {
            Why::Full
        } else {
            let proposing = &mut self.proposing;
            proposing.counts.taken_batches += batches.len() as u64;
            proposing.counts.taken_bytes += bytes as u64;
            proposing.forwarded_bytes += bytes;
            proposing.forwarded.extend(batches.into_iter().map(|batch| (from, batch)));
            return;
        };
        // Whether it arrives or not: what is not admitted is sent again.
        let _ = peers.send(from, &Frame::Refused(Refused { term: meant, why }));
    }

    /// Gives back what others forwarded to a leader that is none any more.
    fn refuse_forwarded(&mut self, peers: &mut dyn Peers) {
        if self.proposing.forwarded.is_empty() {
            return;
        }
        let term = self.proposing.attempt.term;
        let why = Why::NotLeader { leader: self.replica.leader() };
        let senders: BTreeSet<u64> =
            self.proposing.forwarded.drain(..).map(|(from, _)| from).collect();
        self.proposing.forwarded_bytes = 0;
        for from in senders {
            let _ = peers.send(from, &Frame::Refused(Refused { term, why }));
        }
    }
}
