//! Nodes that take another one's place: whose disk is gone, or who is to leave.
//!
//! That a node comes for another one stands in its [`Member`](crate::cluster::Member), so whoever leads
//! goes on with it. It is filled like any learner; when it has caught up and the other one is not
//! there, the vote goes over in one joint change.

use std::time::Duration;

use crate::cluster::{MemberChange, Standing};
use crate::commanding::serving;
use crate::machine::LogMachine;
use crate::store::LogStore;

/// Who was not heard for so long is not there: a node that starts again is back before.
const SILENCE: Duration = Duration::from_secs(5);

impl<S: LogStore> LogMachine<S> {
    /// The vote that goes over now, if there is one.
    pub(super) fn due_succession(&self, now: Duration) -> Option<MemberChange> {
        let ready = self.caught_up();
        let nodes = ready.into_iter().filter_map(|node| {
            let member = self.replica.members().nodes.get(&node)?;
            let is_learner = member.standing == Standing::Learner && !member.is_held;
            member.replaces.filter(|_| is_learner).map(|replaces| (node, replaces))
        });
        let mut due = nodes.filter(|(_, replaces)| self.has_departed(*replaces, now));
        due.next().map(|(node, replaces)| MemberChange::Succeed { node, replaces })
    }

    /// Whether a node may be taken out: it is drained, or was not heard for a while. Never this one,
    /// which leads: it hands leadership over when it is drained.
    fn has_departed(&self, node: u64, now: Duration) -> bool {
        if node == self.shared.node {
            return false;
        }
        let heard_at = self.peers.get(node).map_or(Duration::ZERO, |known| known.heard_at);
        // Whoever leads since just now has missed nobody for long.
        let heard_at = heard_at.max(self.policy.led_since().unwrap_or(now));
        let is_draining = self.peers.is_draining(node);
        may_go(self.peers.is_connected(node), is_draining, now.saturating_sub(heard_at))
    }

    /// Why nobody may be let in for that node yet, if it is so: it serves.
    pub(super) fn serves(&self, node: u64) -> Option<String> {
        let is_own = node == self.shared.node;
        let is_there = is_own || self.peers.is_connected(node);
        let is_draining = if is_own { self.is_draining() } else { self.peers.is_draining(node) };
        (is_there && !is_draining).then(|| serving(node))
    }
}

/// Who is there goes only if it is drained; who is not, once it might have been back.
fn may_go(is_connected: bool, is_draining: bool, silence: Duration) -> bool {
    if is_connected { is_draining } else { silence >= SILENCE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_serves_or_was_there_just_now_is_not_taken_out() {
        let long = Duration::from_secs(60);
        let just_now = Duration::from_secs(4);
        for (is_connected, is_draining, silence, expected) in [
            (true, false, Duration::ZERO, false),
            // It answers on another lane, or its answers are slow.
            (true, false, long, false),
            (true, true, Duration::ZERO, true),
            (false, false, just_now, false),
            (false, false, SILENCE, true),
        ] {
            assert_eq!(may_go(is_connected, is_draining, silence), expected);
        }
    }
}
