//! A node that runs and cannot read an entry of its log.
//!
//! It is to begin again with an empty log, as one whose log is short, and like that it keeps what it
//! has until the leader has taken it out. But it takes part meanwhile: but for what is damaged its log
//! is what it promised, and of those who are to let it out one may be another whose log is gone. So the
//! last whole log is never given up, and of two voters one can be repaired: it acknowledges the change
//! that takes its vote.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::cluster::Peers;
use crate::cluster::doubt::Shortness;
use crate::machine::{LogMachine, TurnError};
use crate::store::LogStore;

/// So long it looks who else is there: that another one has just died may not be known yet.
const LOOK_FIRST: Duration = Duration::from_secs(2);
/// Who was not heard for so long is not there.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How often a leader tries to hand over: nothing is proposed while it does.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(5);

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    /// The first one that was found.
    pub(super) index: Index,
    found_at: Duration,
    handed_over_at: Option<Duration>,
}

impl<S: LogStore> LogMachine<S> {
    /// An entry cannot be read: with others that have it, somebody else is to lead, and then this
    /// node begins again with an empty log.
    pub(in crate::machine) fn found_damaged(&mut self, index: Index, now: Duration) {
        if self.doubting.damaged.is_none() {
            tracing::error!(index, "an entry of the log is damaged");
            self.doubting.damaged = Some(Damage { index, found_at: now, handed_over_at: None });
        }
    }

    /// Asks to be taken out, and ends when that is done.
    pub(super) fn leave_if_damaged(
        &mut self,
        now: Duration,
        peers: &mut dyn Peers,
    ) -> Result<(), TurnError> {
        let index = self.shared.damaged.load(Ordering::SeqCst);
        if index != 0 && self.has_others() {
            self.found_damaged(index, now);
        }
        let Some(Damage { index, found_at, .. }) = self.doubting.damaged else { return Ok(()) };
        if self.doubting.asking.withdrawn.is_some() {
            return Err(TurnError::Short(Shortness::Damaged { index }));
        }
        if now < found_at + LOOK_FIRST || !self.can_be_let_out(now) {
            return Ok(());
        }
        match self.replica.is_leader() {
            true => self.hand_over_damaged(now),
            false => self.ask(now, peers),
        }
        Ok(())
    }

    /// Who leads must not take part in its own removal, and may be asked for what it cannot read.
    fn hand_over_damaged(&mut self, now: Duration) {
        let Some(damage) = &mut self.doubting.damaged else { return };
        if damage.handed_over_at.is_some_and(|at| now < at + HAND_OVER_INTERVAL) {
            return;
        }
        if let Some(to) = self.best_successor()
            && self.replica.transfer(to)
            && let Some(damage) = &mut self.doubting.damaged
        {
            damage.handed_over_at = Some(now);
        }
    }

    /// Whether `peer` takes part in raft: it hears the leader that is heard here. Who is in doubt of its
    /// own log is connected as well, and hears none.
    pub(in crate::machine) fn takes_part(&self, peer: u64) -> bool {
        let known = self.peers.get(peer).filter(|known| known.hello.is_some());
        let pulse = known.and_then(|known| known.pulse.as_ref());
        let leader = self.replica.leader();
        leader != 0 && pulse.is_some_and(|pulse| pulse.leader == leader)
    }

    /// Whether this leader may take `node` out now: things may have changed since it asked. Who takes no
    /// part itself serves nobody, and is taken out anyway.
    pub(in crate::machine) fn may_let_out(&self, node: u64) -> bool {
        let own = self.shared.node;
        let left: Vec<u64> =
            self.replica.members().voters().filter(|voter| *voter != node).collect();
        let is_there = |voter: &&u64| **voter == own || self.takes_part(**voter);
        !self.takes_part(node) || left.iter().filter(is_there).count() > left.len() / 2
    }

    /// Whether those that would be left take part and are a quorum. If not, to be taken out would leave
    /// the cluster without one.
    fn can_be_let_out(&self, now: Duration) -> bool {
        let own = self.shared.node;
        let left: Vec<u64> = self.newest_members().voters().filter(|voter| *voter != own).collect();
        let is_heard = |voter: u64| {
            let known = self.peers.get(voter);
            known.is_some_and(|known| now < known.heard_at + HEARD_WITHIN)
        };
        let is_there = |voter: &&u64| is_heard(**voter) && self.takes_part(**voter);
        left.iter().filter(is_there).count() > left.len() / 2
    }

    /// Whether the others are there that let this node out and in again, though it ends now: a majority
    /// of the voters without it. As long as a change of several votes is under way it takes a majority
    /// of the voters before it as well: of one, that one, who may be the only one that has what is
    /// committed.
    fn can_be_spared(&self) -> bool {
        let configuration = self.replica.configuration();
        let told: Vec<u64> = self.newest_members().voters().collect();
        let state = &configuration.state;
        let halves: [&[u64]; 2] = match self.newest_members().index > configuration.index {
            true => [&told, &[]],
            false => [&state.voters, &state.voters_outgoing],
        };
        let own = self.shared.node;
        let is_there = |voter: &&u64| **voter != own && self.takes_part(**voter);
        let is_enough = |voters: &[u64]| {
            voters.is_empty() || voters.iter().filter(is_there).count() > voters.len() / 2
        };
        halves.iter().all(|voters| is_enough(voters))
    }

    /// Whether the next process has to begin without this log, which ended for `error`: this node is out
    /// of raft, or others have what cannot be read here and can do without it.
    #[must_use]
    pub fn must_make_way(&self, error: &TurnError) -> bool {
        match error {
            TurnError::Short(_) => true,
            TurnError::Damaged { .. } => self.has_others() && self.can_be_spared(),
            TurnError::Store(_)
            | TurnError::NotUnderstood { .. }
            | TurnError::NotFoldable(_)
            | TurnError::Contradicted { .. } => false,
        }
    }
}
