//! What a leader does by itself: it finishes changes of the members, gives learners a vote when
//! they have caught up, and declares nodes lost that are not heard any more, or whose disk takes
//! nothing. And what every node does: it says when nothing becomes durable.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::offset::Index;

use crate::class::Gate;
use crate::clock::Now;
use crate::cluster::{LEAVING, MemberChange, Role, Standing};
use crate::envelope::ENVELOPE_BYTES;
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::store::LogStore;

/// A node has caught up when it lacks at most so many entries.
pub(super) const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// Without a leader for so long, a node says so.
const LEADERLESS: Duration = Duration::from_secs(2);
/// So long a node's disk may take nothing before it says that it is held up.
const HELD_UP_AFTER: Duration = Duration::from_secs(5);

const UNREACHED: &str =
    "most of the cluster cannot be reached from this node: nothing becomes durable";
const HELD_UP_TEXT: &str =
    "the disk of this node has taken nothing for a while: nothing becomes durable here";
const LEFT_TEXT: &str = "this node has left the cluster: nothing becomes durable here";

/// What the policy remembers.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// The term that this node leads, and since when.
    led: Option<(u64, Duration)>,
    /// Since when no leader is known.
    leaderless_since: Option<Duration>,
    /// Since when the disk takes nothing.
    stuck_since: Option<Duration>,
    is_held_up: bool,
    /// Why nothing becomes durable here.
    shut: Option<&'static str>,
    /// The leader that was known last, and how often there was another.
    last_leader: u64,
    leader_changes: u64,
    /// Nodes that this one declared lost.
    nodes_lost: u64,
}

impl Policy {
    pub(super) fn leader_changes(&self) -> u64 {
        self.leader_changes
    }

    /// Since when this node leads, if it does.
    pub(super) fn led_since(&self) -> Option<Duration> {
        self.led.map(|(_, since)| since)
    }

    /// Whether the disk of this node takes nothing, and others may be able to do without it.
    pub(super) fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    pub(super) fn nodes_lost(&self) -> u64 {
        self.nodes_lost
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Looks what is to be done, at every tick.
    pub(super) fn steer(&mut self, now: Now) {
        self.watch_quorum(now.monotonic);
        self.hand_over_if_asked();
        self.tell_address(now.monotonic);
        let Some(leading) = self.replica.leading() else {
            self.policy.led = None;
            return;
        };
        let since = match self.policy.led {
            Some((term, since)) if term == leading.term => since,
            _ => now.monotonic,
        };
        self.policy.led = Some((leading.term, since));
        // Before that, what an earlier leader did may not be applied here yet.
        if self.admission.applied() < leading.first || self.replica.is_stuck() {
            return;
        }
        if !self.settle_members(now.monotonic) {
            self.declare_lost(now.monotonic, since);
        }
    }

    /// Without a leader nothing becomes durable, and with a disk that takes nothing, nothing here:
    /// clients are told, before they wait for ever.
    fn watch_quorum(&mut self, now: Duration) {
        let is_alone = self.is_alone();
        self.watch_disk(now, is_alone);
        // As it is shown, on the disk: a command that is answered by it is answered first.
        let has_left = lock(&self.shared.members).retired.contains(&self.shared.node);
        let policy = &mut self.policy;
        let leader = self.replica.leader();
        if leader != 0 && (leader != policy.last_leader || policy.leaderless_since.is_some()) {
            tracing::info!(leader, term = self.replica.term(), "a node leads");
        }
        if leader != 0 && leader != policy.last_leader {
            policy.last_leader = leader;
            policy.leader_changes += 1;
        }
        if self.replica.leader() != 0 {
            policy.leaderless_since = None;
        }
        let since = match (self.replica.leader(), is_alone) {
            (0, false) => *policy.leaderless_since.get_or_insert(now),
            _ => now,
        };
        let before = policy.shut;
        policy.shut = if has_left {
            Some(LEFT_TEXT)
        } else if policy.is_held_up {
            Some(HELD_UP_TEXT)
        } else {
            (now.saturating_sub(since) >= LEADERLESS).then_some(UNREACHED)
        };
        match policy.shut {
            shut if shut == before => {}
            Some(reason) => tracing::warn!(reason, "nothing is taken"),
            None => tracing::info!("what is taken becomes durable again"),
        }
        self.set_gate();
    }

    /// A node whose disk is full or hangs hears and pulses, but applies nothing. With others there,
    /// it says so, and does not keep leadership.
    fn watch_disk(&mut self, now: Duration, is_alone: bool) {
        let hangs = self.write_began.map_or(Duration::ZERO, |began| {
            let at = (self.stopwatch)();
            at.saturating_sub(began)
        });
        let stuck_since = match self.replica.is_stuck() {
            true => Some(*self.policy.stuck_since.get_or_insert(now)),
            false => None,
        };
        self.policy.stuck_since = stuck_since;
        let stuck = stuck_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let is_held_up = !is_alone && stuck.max(hangs) >= HELD_UP_AFTER;
        if is_held_up != self.policy.is_held_up {
            tracing::warn!(is_held_up, "whether the disk of this node takes nothing");
            self.policy.is_held_up = is_held_up;
            self.peers.pulse_soon();
        }
    }

    /// Shows what is accepted: what the disk allows, if there is a quorum.
    pub(super) fn set_gate(&self) {
        let gate = match (self.space.gate(), self.policy.shut) {
            (gate @ Gate::Stopped { .. }, _) | (gate, None) => gate,
            (_, Some(reason)) if reason == LEFT_TEXT => Gate::Left { reason: Arc::from(reason) },
            (_, Some(reason)) => Gate::NoQuorum { reason: Arc::from(reason) },
        };
        self.shared.set_gate(gate);
    }

    /// Finishes what was begun, and gives votes. Says whether it proposed something.
    fn settle_members(&mut self, now: Duration) -> bool {
        if self.replica.is_joint() {
            return self.leave_joint();
        }
        if let Some(change) = self.own_change() {
            return self.replica.propose_change(&change);
        }
        let members = self.replica.members();
        let away = members.nodes.iter().find(|(_, member)| member.standing == Standing::Away);
        if let Some((node, _)) = away {
            let change = MemberChange::Readmit { node: *node };
            return self.replica.propose_change(&change);
        }
        if let Some(change) = self.due_succession(now) {
            let is_proposed = self.replica.propose_change(&change);
            if is_proposed {
                tracing::info!(?change, "a node takes the place of another one");
            }
            return is_proposed;
        }
        let nodes = self.due_promotion();
        !nodes.is_empty() && self.replica.propose_change(&MemberChange::Promote { nodes })
    }

    /// Ends a change of several votes as soon as it may be, for until then a majority of the voters
    /// before it is needed as well: of one, that one. Says whether it proposed to.
    pub(super) fn leave_joint(&mut self) -> bool {
        self.replica.is_joint() && self.replica.propose_change(&MemberChange::LeaveJoint)
    }

    /// The learners that get a vote now. An even number of voters bears no more losses than one
    /// less, so they get it by twos, or singly where the number is even.
    fn due_promotion(&self) -> Vec<u64> {
        let members = self.replica.members();
        let waits = |node: &u64| {
            members.nodes.get(node).is_some_and(|member| {
                member.standing == Standing::Learner
                    && member.role == Role::Log
                    && !member.is_held
                    // It gets the vote of another one.
                    && member.replaces.is_none()
            })
        };
        let mut ready = self.caught_up();
        ready.retain(waits);
        let voters = members.voters().count();
        let wanted = if voters.is_multiple_of(2) { 1 } else { 2 };
        if ready.len() < wanted { Vec::new() } else { ready[..wanted].to_vec() }
    }

    /// Followers that lack little and keep their log, ascending.
    pub(super) fn caught_up(&self) -> Vec<u64> {
        let last = self.replica.last_index();
        let is_ready = |(id, matched, is_active): &(u64, Index, bool)| {
            *is_active
                && self.takes_part(*id)
                && self.keeps_log(*id)
                && matched + CAUGHT_UP_ENTRIES >= last
        };
        let mut ready: Vec<u64> =
            self.replica.followers().filter(is_ready).map(|(id, ..)| id).collect();
        ready.sort_unstable();
        ready
    }

    /// Whether the process of `node` has its log since that was let in the last time. One that asked for
    /// that, with a damaged log, takes part until it hears that it is out, and then gives the log up; what
    /// it says when it has folded that it was let in is said after it asked.
    fn keeps_log(&self, node: u64) -> bool {
        let joined = self.replica.members().nodes.get(&node).map_or(0, |member| member.joined);
        let pulse = self.peers.get(node).and_then(|known| known.pulse.as_ref());
        pulse.is_some_and(|pulse| pulse.applied >= joined && pulse.gate & LEAVING == 0)
    }

    /// Declares a node lost that is not heard: its sessions end, their wills come due, and what it
    /// still sends does not count until it has begun anew.
    fn declare_lost(&mut self, now: Duration, led_since: Duration) {
        let term = self.replica.term();
        let own = self.shared.node;
        let configuration = self.replica.configuration();
        let others = configuration.members().into_iter().filter(|node| *node != own);
        let lost = others
            .filter(|node| {
                let known = self.peers.get(*node);
                let well_at = known.map_or(Duration::ZERO, |known| known.well_at());
                now.saturating_sub(well_at.max(led_since)) >= self.node_lost
            })
            // Who has left, or never wrote, has nothing to lose; and once is enough.
            .chain(self.replica.members().retired.iter().copied())
            .find_map(|node| Some((node, self.admission.live_start(node)?)));
        let Some((node, start)) = lost else { return };
        let mut deriving = lock(&self.shared.deriving);
        if deriving.slot.is_none() {
            let mut events = BatchBuilder::new(ENVELOPE_BYTES);
            events.push(None, None, &Event::NodeLost { node, start });
            deriving.put(term, events);
            if self.replica.members().retired.contains(&node) {
                tracing::info!(node, start, "the node has left: what it owned ends");
                return;
            }
            tracing::warn!(
                node,
                start,
                "the node is not heard any more, or its disk takes nothing: it is declared lost"
            );
            self.policy.nodes_lost += 1;
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
