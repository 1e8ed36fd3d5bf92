//! A node that is to be left alone: it stops, or it is drained. It hands leadership over and does not
//! keep it when it comes back; while it is drained, it says so, and the gateway lets nobody in.
//!
//! That a node drains is known to its process only, which ends it, and to those that hear its pulse.
//! It stands not in the log: a node that was drained and died serves when it is back.

#[cfg(all(test, feature = "testing"))]
pub(super) mod tests;

use std::sync::atomic::Ordering;

use crate::cluster::{Answer, DRAINING, HELD_UP, LEAVING};
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::store::LogStore;

impl<S: LogStore> LogMachine<S> {
    pub(super) fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Relaxed)
    }

    /// Begins or ends to drain this node. The others are told at once.
    pub(super) fn set_draining(&mut self, is_draining: bool) {
        if self.shared.is_draining.swap(is_draining, Ordering::Relaxed) != is_draining {
            tracing::info!(is_draining, "an operator drains this node, or ends it");
            self.peers.pulse_soon();
            self.hand_over_if_asked();
        }
    }

    /// What became of draining this node: it is done when another one leads, if one could.
    pub(super) fn drained(&self) -> Option<Answer> {
        let is_alone = self.replica.configuration().is_sole_voter(self.shared.node);
        (!self.replica.is_leader() || is_alone).then_some(Answer::Done)
    }

    /// Hands leadership over if it is wished away, or if the disk here takes nothing.
    pub(super) fn hand_over_if_asked(&mut self) {
        let is_stopping = *lock(&self.shared.is_handing_over);
        let is_wished = is_stopping || self.is_draining() || self.policy.is_held_up();
        if !self.replica.is_leader() || !is_wished {
            return;
        }
        // While voters change, the others may be no quorum without this node: of one voter that
        // becomes three, it is still the majority of the one. That ends within a few turns.
        if self.replica.is_joint() {
            return;
        }
        // Two that are drained would hand it to and fro.
        if let Some(to) = self.best_successor()
            && (is_stopping || !self.peers.is_draining(to))
        {
            self.replica.transfer(to);
        }
    }

    /// The voter that could lead best: reachable, not drained, with most of the log.
    pub(super) fn best_successor(&self) -> Option<u64> {
        let voters = &self.replica.configuration().state.voters;
        self.replica
            .followers()
            .filter(|(id, _, is_active)| {
                *is_active && voters.contains(id) && self.peers.is_connected(*id)
            })
            .max_by_key(|(id, matched, _)| (!self.peers.is_draining(*id), *matched, u64::MAX - id))
            .map(|(id, ..)| id)
    }

    /// What this node says of itself in its pulse.
    pub(super) fn pulse_flags(&self) -> u8 {
        let draining = if self.is_draining() { DRAINING } else { 0 };
        let held_up = if self.policy.is_held_up() { HELD_UP } else { 0 };
        let leaving = if self.doubting.has_asked() { LEAVING } else { 0 };
        draining | held_up | leaving
    }
}
