//! What comes from other nodes, and what goes to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ledgermq_core::offset::{Index, Timestamp};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use crate::clock::Now;
use crate::cluster::frame::fits_log;
use crate::cluster::{
    AWAY, DRAINING, Frame, HELD_UP, Hello, PeerInput, Peers, Pulse, Sent, Traffic,
};
use crate::envelope;
use crate::machine::LogMachine;
use crate::machine::lagging::Lags;
use crate::store::LogStore;

/// Bytes of entries taken from peers in one turn, which one sync makes durable.
const STEP_BYTES: usize = 4 << 20;
/// Ticks between two pulses.
const PULSE_TICKS: u32 = 3;
/// Who has not pulsed for so long was away.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// A peer that has not applied them is told the members again after so long.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the other nodes.
#[derive(Default)]
pub(super) struct Table {
    inputs: VecDeque<PeerInput>,
    known: BTreeMap<u64, Known>,
    /// The highest time of a leader that was heard here.
    heard: Timestamp,
    /// A time beyond that, which outlives this process.
    pub(super) kept: Timestamp,
    /// It is not written before.
    pub(super) keep_again: Duration,
    /// The highest time that a quorum has heard: no later leader stamps below it.
    safe: Timestamp,
    /// The own wall clock at the beginning of the turn.
    wall: Timestamp,
    ticks: u32,
    /// When this node pulsed last, by the stopwatch.
    pulsed_at: Duration,
    /// A time of the leader of now, and when it was heard.
    leaders_time: Option<(Timestamp, Duration)>,
    /// How far this node's log was when, while it leads.
    pub(super) lags: Lags,
    /// The highest entry that each peer was told is here, with the term, since the last pulse.
    answered: BTreeMap<u64, (u64, Index)>,
}

/// What is known of one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) hello: Option<Hello>,
    pub(super) pulse: Option<Pulse>,
    /// How far it has folded the log, as it said last.
    pub(super) applied: Index,
    /// Why it does not speak with this node, as it said last.
    pub(super) refusal: Option<String>,
    /// When anything came from it last.
    pub(super) heard_at: Duration,
    /// Since when it says that its disk takes nothing.
    held_up_since: Option<Duration>,
    /// The last change of the members that it was told of in this session, and when.
    told: (Index, Duration),
    /// What went to it and came from it.
    pub(super) traffic: Traffic,
}

impl Known {
    /// When it was last known to be able to go on.
    pub(super) fn well_at(&self) -> Duration {
        self.held_up_since.map_or(self.heard_at, |since| since.min(self.heard_at))
    }

    /// About what its wall clock shows, if it is there.
    fn wall(&self, now: Now) -> Option<Timestamp> {
        let pulse = self.pulse.as_ref().filter(|pulse| pulse.wall > Timestamp(0))?;
        Some(pulse.wall.plus(now.monotonic.saturating_sub(self.heard_at)))
    }
}

impl Table {
    pub(super) fn is_connected(&self, peer: u64) -> bool {
        self.known.get(&peer).is_some_and(|known| known.hello.is_some())
    }

    /// Whether `peer` has said that it is being drained.
    pub(super) fn is_draining(&self, peer: u64) -> bool {
        let pulse = self.known.get(&peer).and_then(|known| known.pulse.as_ref());
        pulse.is_some_and(|pulse| pulse.gate & DRAINING != 0)
    }

    /// The next tick brings a pulse.
    pub(super) fn pulse_soon(&mut self) {
        self.ticks = PULSE_TICKS;
    }

    pub(super) fn get(&self, peer: u64) -> Option<&Known> {
        self.known.get(&peer)
    }

    /// The peers whose lanes are up.
    pub(super) fn connected(&self) -> Vec<u64> {
        let is_up = |(_, known): &(&u64, &Known)| known.hello.is_some();
        self.known.iter().filter(is_up).map(|(peer, _)| *peer).collect()
    }

    /// What those said whose lanes are up.
    pub(super) fn hellos(&self) -> impl Iterator<Item = (u64, &Hello)> {
        self.known.iter().filter_map(|(peer, known)| Some((*peer, known.hello.as_ref()?)))
    }

    /// Connected peers that know of no change of the members up to `index`, as far as is known, and
    /// were not told just now.
    pub(super) fn behind(&self, index: Index, now: Duration) -> Vec<u64> {
        let is_behind = |(_, known): &(&u64, &Known)| {
            let (told, at) = known.told;
            let is_told = told >= index && now < at + TELL_INTERVAL;
            let hello = known.hello.as_ref();
            !is_told
                && known.applied < index
                && hello.is_some_and(|hello| hello.members_index < index)
        };
        self.known.iter().filter(is_behind).map(|(peer, _)| *peer).collect()
    }

    pub(super) fn told_members(&mut self, peer: u64, index: Index, now: Duration) {
        if let Some(known) = self.known.get_mut(&peer) {
            known.told = (index, now);
        }
    }

    pub(super) fn hear(&mut self, time: Timestamp) {
        self.heard = self.heard.max(time);
    }

    /// The highest time of a leader that was heard here.
    pub(super) fn heard(&self) -> Timestamp {
        self.heard
    }

    pub(super) fn note_leaders_time(&mut self, time: Timestamp, now: Duration) {
        // A leader whose disk is full repeats itself.
        if self.leaders_time.is_none_or(|(last, _)| time > last) {
            self.leaders_time = Some((time, now));
        }
    }

    /// The time of the leader that was heard here last, as it goes on.
    pub(super) fn leaders_time(&self, now: Duration) -> Option<Timestamp> {
        let (time, at) = self.leaders_time?;
        Some(time.plus(now.saturating_sub(at)))
    }

    /// The highest time that this node may say it has heard.
    pub(super) fn told(&self) -> Timestamp {
        self.heard.min(self.kept)
    }

    /// How far `peer` has folded the log, as it said last; 0 if it never did.
    pub(super) fn applied(&self, peer: u64) -> Index {
        self.get(peer).map_or(0, |known| known.applied)
    }

    /// The highest term of those that say that they have folded the entry at `index`.
    pub(super) fn term_behind(&self, index: Index) -> Option<u64> {
        let pulses = self.known.values().filter_map(|known| known.pulse.as_ref());
        pulses.filter(|pulse| pulse.applied >= index).map(|pulse| pulse.term).max()
    }

    /// The highest time that a quorum has heard.
    pub(super) fn safe(&self) -> Timestamp {
        self.safe
    }

    /// A way out for raft's messages.
    pub(super) fn outgoing<'a>(
        &'a mut self,
        heard: Timestamp,
        peers: &'a mut dyn Peers,
    ) -> Outgoing<'a> {
        let answered = &mut self.answered;
        Outgoing { heard, peers, answered, lost: Vec::new(), snapshots: Vec::new() }
    }
}

/// Sends raft's messages and keeps book of what was lost at once.
pub(super) struct Outgoing<'a> {
    heard: Timestamp,
    peers: &'a mut dyn Peers,
    answered: &'a mut BTreeMap<u64, (u64, Index)>,
    lost: Vec<u64>,
    snapshots: Vec<(u64, Index)>,
}

impl Outgoing<'_> {
    pub(super) fn send(&mut self, message: Message) {
        let to = message.to;
        let kind = message.get_msg_type();
        if kind == MessageType::MsgSnapshot {
            // It goes on a way of its own, which takes its time.
            return self.snapshots.push((to, message.get_snapshot().get_metadata().index));
        }
        let is_append = kind == MessageType::MsgAppend;
        // Raft answers every notice of a commit index, which tells the leader nothing new. Should an
        // answer be lost, it is given again after the next pulse.
        let answer = (kind == MessageType::MsgAppendResponse && !message.reject)
            .then_some((message.term, message.index));
        if answer.is_some() && answer <= self.answered.get(&to).copied() {
            return;
        }
        let heard = (kind == MessageType::MsgRequestVoteResponse).then_some(self.heard);
        let frame = Frame::Raft { message: Box::new(message), heard };
        // Raft believes that entries arrive until it is told otherwise; anything else it repeats.
        let is_sent = self.peers.send(to, &frame) == Sent::Taken;
        if let Some(answer) = answer.filter(|_| is_sent) {
            self.answered.insert(to, answer);
        }
        if !is_sent && is_append && !self.lost.contains(&to) {
            self.lost.push(to);
        }
    }

    /// Peers for which entries were lost, and those who are to have a snapshot of that index.
    pub(super) fn end(self) -> (Vec<u64>, Vec<(u64, Index)>) {
        (self.lost, self.snapshots)
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Takes what a peer sent, for the turns to come. How much of it may wait is the business of
    /// the caller: see [`LogMachine::may_receive`].
    pub fn receive(&mut self, input: PeerInput) {
        self.peers.inputs.push_back(input);
    }

    /// Whether the next turn takes what is received: not while a write waits for room.
    #[must_use]
    pub fn may_receive(&self) -> bool {
        !self.replica.is_stuck() && self.peers.inputs.is_empty()
    }

    pub(super) fn has_inputs(&self) -> bool {
        !self.peers.inputs.is_empty()
    }

    /// Hands leadership over to another voter, if this node leads. Whether it works shows in the next
    /// term: nothing is proposed until then, or until an election could have been.
    pub fn transfer(&mut self, to: u64) {
        self.replica.transfer(to);
    }

    /// The highest time of a leader that this node knows of.
    pub(super) fn heard(&self) -> Timestamp {
        self.peers.heard
    }

    /// Takes what came, up to about as much as one write should have.
    pub(super) fn take_inputs(&mut self, now: Now, peers: &mut dyn Peers) {
        let mut bytes = 0;
        while bytes < STEP_BYTES
            && !self.replica.is_stuck()
            && let Some(input) = self.peers.inputs.pop_front()
        {
            match input {
                PeerInput::Connected { peer, hello } => {
                    self.peers.answered.remove(&peer);
                    let known = self.peers.known.entry(peer).or_default();
                    // It may be another process, which has not heard what the last one had.
                    (known.hello, known.pulse, known.applied) = (Some(hello), None, 0);
                    (known.heard_at, known.told) = (now.monotonic, (0, Duration::ZERO));
                    known.refusal = None;
                    self.replica.reached();
                    self.proposing.way_changed(peer);
                    self.pass_again(peer);
                    // What it acknowledged before has come by now: it may wait for this.
                    self.note_acked();
                    self.pulse_to(peer, 0, peers);
                    self.tell_members(now.monotonic, peers);
                }
                PeerInput::Greeted { peer, members } => self.hear_greeting(peer, members),
                PeerInput::Disconnected { peer } => {
                    if let Some(known) = self.peers.known.get_mut(&peer) {
                        (known.hello, known.pulse) = (None, None);
                    }
                    self.replica.unreachable(peer);
                    self.proposing.way_changed(peer);
                    self.fail_transfer(peer, "the connection broke");
                }
                PeerInput::Join { id, request } => self.take_join(id, request, now, peers),
                PeerInput::Refused { by, refusal } => {
                    tracing::warn!(by, code = ?refusal.code, %refusal, "a node does not let this one speak");
                    self.peers.known.entry(by).or_default().refusal = Some(refusal.text);
                }
                PeerInput::Frame { from, frame } => {
                    self.peers.known.entry(from).or_default().heard_at = now.monotonic;
                    bytes += self.take_frame(from, frame, now, peers);
                }
            }
        }
    }

    /// Takes a frame; says how many bytes of entries it brought.
    fn take_frame(&mut self, from: u64, frame: Frame, now: Now, peers: &mut dyn Peers) -> usize {
        match frame {
            Frame::Raft { message, heard } => {
                return self.step(*message, heard.unwrap_or_default());
            }
            Frame::Forward(forward) => self.take_forwarded(from, forward, peers),
            Frame::Refused(refused) => self.proposing.refused(refused.term, now.monotonic),
            Frame::Pulse(pulse) => self.take_pulse(from, *pulse, now.monotonic),
            Frame::Command { id, command } => self.take_command((from, id), command, now, peers),
            Frame::Answer { id, answer } => self.take_answer(from, id, answer),
            Frame::Members(members) => self.hear_of_members(*members),
            Frame::SnapshotBegin(_)
            | Frame::SnapshotChunk(_)
            | Frame::SnapshotEnd(_)
            | Frame::SnapshotAck(_) => return self.take_snapshot_frame(from, frame, now, peers),
            // These are not for the log.
            _ => {}
        }
        0
    }

    fn step(&mut self, message: Message, heard: Timestamp) -> usize {
        if !self.may_step(&message) {
            return 0;
        }
        match message.get_msg_type() {
            // No frame carries one.
            MessageType::MsgSnapshot => return 0,
            MessageType::MsgRequestVoteResponse if !message.reject => self.hear(heard),
            _ => {}
        }
        // What its sender has as committed or acknowledged is not here: raft would end the process.
        let last = self.replica.last_index();
        if !fits_log(&message, last) {
            let (from, kind) = (message.from, message.get_msg_type());
            tracing::error!(
                from,
                last,
                ?kind,
                "the log of a node is shorter than what it promised"
            );
            return 0;
        }
        if let Some(index) = self.replica.contradiction(&message) {
            self.contradict(index, message.from);
            return 0;
        }
        let newest = message.entries.iter().map(time_of).max();
        self.hear(newest.unwrap_or_default());
        let bytes = message.entries.iter().map(|entry| entry.data.len()).sum();
        self.replica.step(message);
        bytes
    }

    /// Who leads for the first time in this process stamps by a wall clock that others share.
    pub(super) fn settle_clock(&mut self, now: Now) {
        self.peers.wall = now.wall;
        if self.replica.is_leader() {
            let known = self.peers.known.values();
            self.clock.settle(now.wall, || known.filter_map(|known| known.wall(now)).collect());
        }
    }

    /// No batch that this node stamps from now on has a time below.
    pub(super) fn hear(&mut self, time: Timestamp) {
        self.peers.hear(time);
        self.clock.raise(time);
    }

    fn take_pulse(&mut self, from: u64, pulse: Pulse, now: Duration) {
        // A leader of the past tells no time.
        if pulse.term == self.replica.term() && self.replica.leader() == from {
            self.hear(pulse.time);
            self.peers.note_leaders_time(pulse.time, now);
            self.peers.safe = self.peers.safe.max(pulse.safe_time);
        }
        self.hear_of_acked(from, &pulse);
        self.note_applied(from, pulse.applied);
        let known = self.peers.known.entry(from).or_default();
        let since = known.held_up_since.unwrap_or(now);
        known.held_up_since = (pulse.gate & HELD_UP != 0).then_some(since);
        (known.applied, known.pulse) = (pulse.applied, Some(pulse));
    }

    /// A tenth of a second passed.
    pub(super) fn tick(&mut self, now: Now, peers: &mut dyn Peers) {
        self.proposing.may_ask_again();
        match (self.replica.is_stuck(), self.may_stand(), self.is_in_doubt()) {
            (true, ..) | (_, false, true) => {}
            (_, true, _) => self.replica.tick(),
            (_, false, false) => self.replica.tick_without_standing(),
        }
        self.steer(now);
        if self.replica.is_leader() {
            self.peers.lags.note(now.monotonic, self.replica.last_index());
        }
        for (peer, known) in &mut self.peers.known {
            known.traffic = peers.traffic(*peer);
        }
        self.show_cluster(now.monotonic);
        self.peers.ticks += 1;
        if self.peers.ticks >= PULSE_TICKS {
            self.peers.ticks = 0;
            self.peers.answered.clear();
            self.tell_peers(peers);
            self.tell_members(now.monotonic, peers);
            self.pulse(peers);
        }
    }

    /// Tells the other members how this node is.
    fn pulse(&mut self, peers: &mut dyn Peers) {
        let leads = self.replica.is_leader();
        if leads {
            self.peers.heard = self.peers.heard.max(self.clock.now());
        }
        let configuration = self.replica.configuration();
        // Whoever is not in, or not yet by what is applied here, may have to hear it all the same.
        let members = configuration.members().into_iter();
        let others: BTreeSet<u64> = members.chain(self.peers.connected()).collect();
        if leads {
            // Nodes that started again may say more than this leader stamps by now.
            let safe = self.heard_by_quorum().min(self.peers.heard);
            self.peers.safe = self.peers.safe.max(safe);
        }
        let at = (self.stopwatch)();
        let before = std::mem::replace(&mut self.peers.pulsed_at, at);
        let away = if at.saturating_sub(before) > AWAY_AFTER { AWAY } else { 0 };
        for peer in others.into_iter().filter(|peer| *peer != self.shared.node) {
            self.pulse_to(peer, away, peers);
        }
    }

    /// Tells one of them, and what it was seen to acknowledge.
    fn pulse_to(&self, peer: u64, away: u8, peers: &mut dyn Peers) {
        let hello = self.peers.get(peer).and_then(|known| known.hello.as_ref());
        let pulse = Pulse {
            term: self.replica.term(),
            leader: self.replica.leader(),
            commit: self.replica.committed(),
            applied: self.admission.applied(),
            time: self.peers.told(),
            safe_time: self.peers.safe,
            fsync_us: u64::try_from(self.counts.last_sync.as_micros()).unwrap_or(u64::MAX),
            bytes_free: self.space.free(),
            acked: self.acked_of(peer),
            greeted: hello.map_or(0, |hello| hello.start),
            wall: self.peers.wall,
            gate: self.pulse_flags() | away,
            ..Pulse::default()
        };
        let _ = peers.send(peer, &Frame::Pulse(Box::new(pulse)));
    }

    /// The highest time that a quorum of the voters has heard: whoever of them is elected next
    /// learns it from a vote.
    fn heard_by_quorum(&self) -> Timestamp {
        let state = &self.replica.configuration().state;
        let quorum_of = |voters: &[u64]| {
            let mut times: Vec<Timestamp> = voters.iter().map(|id| self.heard_by(*id)).collect();
            times.sort_unstable();
            // Of three the second lowest: two have heard at least it.
            times.get((times.len().saturating_sub(1)) / 2).copied()
        };
        let both = [quorum_of(&state.voters), quorum_of(&state.voters_outgoing)];
        both.into_iter().flatten().min().unwrap_or_default()
    }

    fn heard_by(&self, node: u64) -> Timestamp {
        if node == self.shared.node {
            return self.peers.told();
        }
        let pulse = self.peers.get(node).and_then(|known| known.pulse.as_ref());
        pulse.map(|pulse| pulse.time).unwrap_or_default()
    }
}

/// The time in the envelope of an entry's batch. Other entries tell none.
fn time_of(entry: &Entry) -> Timestamp {
    let is_batch = entry.get_entry_type() == EntryType::EntryNormal;
    let time = is_batch.then(|| envelope::time_of(&entry.data)).flatten();
    time.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_members_tells_no_time() {
        let mut entry = Entry::new();
        entry.data = vec![0x7f; 100].into();
        assert_ne!(time_of(&entry), Timestamp::default());
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        assert_eq!(time_of(&entry), Timestamp::default());
    }
}
